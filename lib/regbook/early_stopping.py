"""Early stopping as three algorithms of Goodfellow, Bengio & Courville (2016, section 7.8): 7.1, 7.2 and 7.3.

:class:`EarlyStopping` is Algorithm 7.1, a hook for ``fit(…, on_eval=…)``. One difference: the book measures for the first time after
n steps, ``fit`` also before the first one, so the start can be the best. :func:`retrain` and :func:`continue_training` are what
Algorithms 7.2 and 7.3 do afterwards with the validation examples. Both make a new optimizer: what it remembered is lost.
"""

import math
from dataclasses import dataclass, replace
from numbers import Integral

import torch
from torch import Tensor, nn

from regbook.data import Data, Split
from regbook.training import evaluate, fit


class EarlyStopping:
    """Stop after ``patience`` evaluations in a row without a new smallest ``metric``; keep the weights of the smallest.

    Use it as ``fit(model, data, on_eval=stopping, evaluate_every=n, …)``, then ``stopping.restore(model)``. ``metric`` names an
    entry of the row that should fall. Only a strictly smaller value counts, and NaN never does. Step 0 starts anew, so the
    hook can serve one run after another. ``best_step`` is the book's i*, ``best_value`` its v, ``waited`` its j.

    Raises ``ValueError`` for a patience below 1, an unknown metric, and where training began without an evaluation.
    """

    def __init__(self, patience: int, metric: str = "valid_loss"):
        if not (isinstance(patience, Integral) and patience >= 1):
            raise ValueError(f"patience={patience!r}; it must be a whole number, at least 1: the evaluations to wait for")
        self.patience, self.metric = patience, metric
        self.best_step: int | None = None
        self.best_value, self.waited = math.inf, None
        self.weights: dict[str, Tensor] = {}

    def __call__(self, row: dict, model: nn.Module) -> bool:
        """Note one evaluation; True where training should stop."""
        if self.metric not in row:
            raise ValueError(f"metric={self.metric!r}; measured were {', '.join(row)}")
        if row["step"] == 0:
            self.best_step, self.best_value, self.waited, self.weights = None, math.inf, 0, {}
        if self.waited is None:
            raise ValueError(f"the first evaluation came at step {row['step']}; give fit evaluate_every=, smaller than its steps")
        if row[self.metric] < self.best_value:
            self.best_step, self.best_value, self.waited = row["step"], row[self.metric], 0
            self.weights = {name: w.detach().clone() for name, w in model.state_dict().items()}
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore(self, model: nn.Module) -> None:
        """Give ``model`` the weights of ``best_step``, the book's θ*."""
        if self.best_step is None:
            raise ValueError(f"no evaluation had a {self.metric} below infinity, so there are no best weights to restore")
        model.load_state_dict(self.weights)


def hold_out(data: Data, n: int) -> Data:
    """The first ``n`` training examples become the validation set (the old one is left out), the others are the subtrain set.

    Their labels stay as they are, wrong ones too. Both sets need at least one example, or ``ValueError`` is raised.
    """
    available = len(data.train.y)
    if not 1 <= n < available:
        raise ValueError(f"n={n}; of {available} training examples 1..{available - 1} can be held out for validation")
    first, rest = (Split(*(t[part] for t in data.train)) for part in (slice(n), slice(n, None)))
    return replace(data, train=rest, valid=first, wrong=data.wrong[n:])


def pool(data: Data) -> Data:
    """Training and validation examples together as the training set; ``valid`` stays, and is now a part of it.

    ``wrong`` knows nothing about validation labels and marks none of them. An empty validation set raises ``ValueError``.
    """
    if not len(data.valid.y):
        raise ValueError(f"data.valid of {data.name} is empty, so there is nothing to add; hold_out(data, n) makes one")
    both = Split(*(torch.cat(pair) for pair in zip(data.train, data.valid, strict=True)))
    return replace(data, train=both, wrong=torch.cat([data.wrong, torch.zeros_like(data.valid.y, dtype=torch.bool)]))


def retraining_steps(data: Data, best_step: int, batch_size: int, by: str) -> int:
    """For how many steps Algorithm 7.2 trains on all examples: as many as before, or for as many passes through the set."""
    if by not in ("steps", "epochs"):
        raise ValueError(f"by={by!r}; it must be 'steps' or 'epochs'")
    if by == "steps":
        return best_step
    before, now = len(data.train.y), len(data.train.y) + len(data.valid.y)
    return round(best_step * math.ceil(now / batch_size) / math.ceil(before / batch_size))


def retrain(model: nn.Module, data: Data, best_step: int, *, by: str = "steps", batch_size: int = 64, **settings) -> list[dict]:
    """Algorithm 7.2, its last line: train ``model``, which starts anew, on train and valid for ``best_step`` steps.

    ``by="epochs"`` trains for the same number of passes instead: more steps, because the set is larger. The book leaves the choice
    open. ``settings`` go to ``fit``, whose rows are returned; in them the validation examples have been trained on.
    """
    together = pool(data)
    steps = retraining_steps(data, best_step, batch_size, by)
    return fit(model, together, steps=steps, batch_size=batch_size, **settings) if steps else []


@dataclass(frozen=True)
class Continued:
    """What :func:`continue_training` did: its ``target`` ε, whether it was ``reached``, the ``steps`` taken, ``fit``'s ``rows``."""

    target: float
    reached: bool
    steps: int
    rows: list[dict]


def continue_training(model: nn.Module, data: Data, *, max_steps: int, evaluate_every: int, **settings) -> Continued:
    """Algorithm 7.3, from ε on: train ``model``, which has the best weights, on all examples until its validation loss is ε.

    ε is the loss on the subtrain set now. The book warns that this need not end, so ``max_steps`` ends it. Every
    ``evaluate_every`` steps, and at once, the loss on the validation examples is compared. ``settings`` go to ``fit``.
    """
    together = pool(data)
    if not 1 <= evaluate_every < max_steps:
        raise ValueError(f"evaluate_every={evaluate_every}, max_steps={max_steps}; 1 <= evaluate_every < max_steps is needed")
    target = evaluate(model, *data.train, **{k: v for k, v in settings.items() if k == "loss"})["loss"]

    def low_enough(row: dict, _: nn.Module) -> bool:
        return row["valid_loss"] <= target

    rows = fit(model, together, steps=max_steps, evaluate_every=evaluate_every, on_eval=low_enough, **settings)
    return Continued(target, low_enough(rows[-1], model), rows[-1]["step"], rows)
