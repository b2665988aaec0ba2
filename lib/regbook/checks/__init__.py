"""Feedback for exercises: one module a topic, one checker an exercise.

A checker takes the reader's value or function and answers in words. The pieces here are shared by all of them.
"""

import functools
import html
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Feedback:
    """``passed`` is True, False, or None where nothing was attempted yet; ``message`` says why."""

    passed: bool | None
    message: str

    @property
    def mark(self) -> str:
        return {True: "✓ right", False: "✗ not yet", None: "○ not attempted yet"}[self.passed]

    def _repr_html_(self) -> str:
        state = {True: "right", False: "wrong", None: "open"}[self.passed]
        return f'<div class="feedback {state}"><strong>{self.mark}</strong> {html.escape(self.message)}</div>'

    def __repr__(self) -> str:
        return f"{self.mark}: {self.message}"


class Wrong(Exception):
    """What is wrong with an answer, in words."""


class NotAttempted(Exception):
    """The answer is still the stub."""


def expect(holds: bool, message: str) -> None:
    """Reject the answer with ``message`` unless ``holds``."""
    if not holds:
        raise Wrong(message)


def checker(function: Callable) -> Callable[[object], Feedback]:
    """Turn ``function(answer)``, which calls :func:`expect` and returns what to say when all is well, into a checker.

    ``None`` and ``...`` count as not attempted, as an answer or as what the reader's function returns. An exception
    inside the reader's function becomes feedback that names it and the input.
    """

    @functools.wraps(function)
    def check(answer: object) -> Feedback:
        try:
            return Feedback(True, function(_guarded(_attempted(answer))))
        except Wrong as wrong:
            return Feedback(False, str(wrong))
        except NotAttempted:
            return Feedback(None, "write your answer in the cell above, run it, then run this cell again.")

    return check


def number(answer: object) -> float:
    """The answer as a float; anything else is rejected in words."""
    try:
        return float(answer)
    except (TypeError, ValueError):
        raise Wrong(f"a number is needed, and {describe(answer)} came.") from None


def describe(value: object) -> str:
    """A value in a few words; a large tensor by its shape."""
    if isinstance(value, torch.Tensor) and value.numel() > 8:
        return f"a tensor of shape {tuple(value.shape)}"
    return repr(value)


def _attempted(value: object) -> object:
    if value is None or value is ...:
        raise NotAttempted
    return value


def _guarded(answer: object) -> object:
    if not callable(answer):
        return answer

    @functools.wraps(answer)
    def call(*arguments, **named):
        try:
            return _attempted(answer(*arguments, **named))
        except (NotAttempted, NotImplementedError):
            raise NotAttempted from None
        except Exception as error:
            given = ", ".join([*map(describe, arguments), *(f"{name}={describe(v)}" for name, v in named.items())])
            raise Wrong(f"your function raised {type(error).__name__}: {error} — for the input {given}.") from error

    return call
