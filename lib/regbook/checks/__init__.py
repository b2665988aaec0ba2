"""Feedback for exercises: one module a topic, one checker an exercise.

A checker takes the reader's value or function and answers in words. The pieces here are shared by all of them.
"""

import functools
import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from regbook.claims import Estimate


@dataclass(frozen=True)
class Feedback:
    """``passed`` is True, False, or None where nothing was attempted yet; ``message`` says why."""

    passed: bool | None
    message: str

    @property
    def mark(self) -> str:
        return {True: "✓ correct", False: "✗ not yet", None: "○ not attempted yet"}[self.passed]

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
        except Exception as error:  # an answer of another form than the exercise asks for
            return Feedback(False, f"your answer has another form than the exercise asks for ({type(error).__name__}: {error}).")

    return check


def number(answer: object) -> float:
    """The answer as a finite float; anything else is rejected in words."""
    try:
        value = float(answer)
    except (TypeError, ValueError, RuntimeError):
        value = math.nan
    expect(math.isfinite(value), f"a finite number is needed, and {describe(answer)} came.")
    return value


def prediction_then_run(answer: object, outcomes: Sequence[str]) -> tuple[str, Estimate, Estimate]:
    """Unpack an answer of the form (prediction, estimate before, estimate after); the prediction is one of ``outcomes``."""
    prediction, before, after = answer
    if ... in (prediction, after) or None in (prediction, after):
        raise NotAttempted
    expect(prediction in outcomes, f"predict one of {', '.join(map(repr, outcomes))}; {prediction!r} came.")
    for measured in (before, after):
        expect(isinstance(measured, Estimate), f"give what `difference` returns, mean and interval; {describe(measured)} came.")
    expect(before != after, "both measurements are the same: run the comparison again as the exercise says.")
    return prediction, before, after


def trend(before: Estimate, after: Estimate) -> str:
    """What became of a gain: ``"gone"`` (its interval reaches zero), ``"larger"`` or ``"smaller"``."""
    return "gone" if after.low <= 0 else "larger" if after.mean > before.mean else "smaller"


def verdict(prediction: str, outcome: str, question: str) -> str:
    """The outcome beside the prediction, with a ``question`` to think about where they differ."""
    return f"{outcome!r}, " + ("as you predicted." if prediction == outcome else f"you predicted {prediction!r}. {question}")


def expect_number(
    value: float, right: float, mistakes: Mapping[float, str], hint: str, *, rel_tol: float = 0.01, abs_tol: float = 0.0
) -> None:
    """Reject a ``value`` that is not ``right``: by name where it is the result of one of the ``mistakes``, else with ``hint``.

    A mistake whose result is as near as ``right`` itself cannot be told apart, and is not held against the reader.
    """

    def near(wanted: float) -> bool:
        return math.isclose(value, wanted, rel_tol=rel_tol, abs_tol=abs_tol)

    if not near(right):
        raise Wrong(next((why for wrong, why in mistakes.items() if near(wrong)), f"{value:.4g} is not it. {hint}"))


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
