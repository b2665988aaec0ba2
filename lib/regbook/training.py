"""One training loop for the whole book, and the measurement that goes with it."""

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regbook.data import Data

Loss = Callable[..., Tensor]


class Diverged(FloatingPointError):
    """The loss became NaN or infinite; ``step`` counts from 1."""

    def __init__(self, step: int, value: float):
        super().__init__(f"the loss became {value} at step {step}; a smaller learning rate or a better start may help")
        self.step, self.value = step, value

    def __reduce__(self):  # so that it crosses a process boundary
        return Diverged, (self.step, self.value)


@torch.no_grad()
def evaluate(model: nn.Module, x: Tensor, y: Tensor, loss: Loss = F.cross_entropy, batch_size: int = 2000) -> dict[str, float]:
    """Mean ``loss`` and ``accuracy`` (a fraction) of ``model`` in eval mode; its mode is put back afterwards.

    ``x`` N × …, ``y`` N integer labels; ``loss`` must average over its batch. An empty set raises ``ValueError``.
    """
    if not len(y):
        raise ValueError("x and y hold no examples, so there is nothing to evaluate")
    was_training = model.training
    model.eval()
    losses, correct = [], []  # read once, at the end: every reading would wait for the device
    for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
        logits = model(xb)
        losses.append(loss(logits, yb) * len(yb))
        correct.append((logits.argmax(1) == yb).sum())
    model.train(was_training)
    sums = {"loss": losses, "accuracy": correct}
    return {name: torch.stack(parts).cpu().double().sum().item() / len(y) for name, parts in sums.items()}


def batches(n: int, batch_size: int, seed: int, device: torch.device) -> Iterator[Tensor]:
    """Indices of one batch after another, without end; each epoch is a new permutation, its last batch may be short.

    Drawn on the CPU from their own generator: the order depends on ``seed`` alone, not on model, device or dropout.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(n, generator=generator).to(device).split(batch_size)


def fit(
    model: nn.Module, data: Data, *, steps: int | None = None, epochs: int | None = None, batch_size: int = 64,
    optimizer: Callable = partial(torch.optim.Adam, lr=1e-3), loss: Loss = F.cross_entropy,
    penalty: Callable[[nn.Module], Tensor] | None = None, transform: Callable | None = None,
    on_step: Callable | None = None, on_eval: Callable | None = None, evaluate_every: int | None = None, seed: int = 0,
) -> list[dict]:  # fmt: skip
    """Train ``model`` in place for ``steps`` or ``epochs``; return one row of measurements per evaluation.

    ``optimizer(parameters)`` makes the optimizer. ``transform(x, y)`` changes each batch, ``penalty(model)`` is added to
    each batch's loss. ``on_step(step, model)`` runs after each step; ``on_eval(row, model)`` may add to the row, and
    training stops early where it returns True. Evaluates at the start and every ``evaluate_every`` steps (default: only
    at the end, 0: never). Raises :class:`Diverged`, at the next evaluation, where a loss was NaN or infinite.
    """
    (x, y), model = data.train, model.to(data.train.x.device)
    steps, every = _plan(steps, epochs, batch_size, evaluate_every, len(y))
    optimizer = _fused(optimizer, x.device)(model.parameters())
    losses, rows, seen = torch.zeros(steps, device=x.device), [], 0  # losses stay on the device: reading one would wait

    def stop_after(step: int) -> bool:
        rows.append({"step": step} | measure(model, data, loss))
        return bool(on_eval and on_eval(rows[-1], model))

    if every < steps and stop_after(0):
        return rows
    model.train()
    for step, index in enumerate(islice(batches(len(y), batch_size, seed, x.device), steps), start=1):
        xb, yb = x[index], y[index]
        if transform:
            xb, yb = transform(xb, yb)
        objective = loss(model(xb), yb)
        if penalty:
            objective = objective + penalty(model)
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
        losses[step - 1] = objective.detach()
        if on_step:
            on_step(step, model)
        if step % every == 0 or step == steps:
            _stop_if_diverged(losses[seen:step], seen)
            seen = step
            if every < math.inf and stop_after(step):
                break
    return rows


def measure(model: nn.Module, data: Data, loss: Loss = F.cross_entropy) -> dict[str, float]:
    """``train_loss``, ``train_accuracy``, ``valid_loss``, ``valid_accuracy``; the test set is not touched."""
    splits = {"train": data.train, "valid": data.valid}
    return {f"{name}_{key}": value for name, s in splits.items() for key, value in evaluate(model, *s, loss).items()}


def _plan(steps: int | None, epochs: int | None, batch_size: int, evaluate_every: int | None, n: int) -> tuple[int, float]:
    """The number of steps, and after how many of them to evaluate (infinity: never)."""
    if (steps is None) == (epochs is None):
        raise ValueError(f"steps={steps}, epochs={epochs}; give exactly one of the two")
    given = {"steps": steps, "epochs": epochs, "batch_size": batch_size}
    for name, value in given.items():
        if value is not None and not (isinstance(value, Integral) and value >= 1):
            raise ValueError(f"{name}={value!r}; it must be a whole number, at least 1")
    if evaluate_every is not None and evaluate_every < 0:
        raise ValueError(f"evaluate_every={evaluate_every}; it must be at least 1, or 0 for never")
    steps = steps if epochs is None else epochs * math.ceil(n / batch_size)
    return steps, steps if evaluate_every is None else evaluate_every or math.inf


def _fused(optimizer: Callable, device: torch.device) -> Callable:
    """Ask for torch's fused kernel where the optimizer has one: on a small network it takes a third off a step."""
    if "fused" not in inspect.signature(optimizer).parameters or device.type not in ("cpu", "cuda"):
        return optimizer
    named = optimizer.keywords if isinstance(optimizer, partial) else {}
    return optimizer if named.keys() & {"fused", "foreach", "capturable", "differentiable"} else partial(optimizer, fused=True)


def _stop_if_diverged(losses: Tensor, before: int) -> None:
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        raise Diverged(before + bad[0].item() + 1, losses[bad[0]].item())
