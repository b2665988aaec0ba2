"""Starts for deep networks that PyTorch lacks.

Fixup follows Zhang, Dauphin & Ma 2019 (arXiv 1901.09321). Some mirrors of the paper print its exponent without the minus
sign. The rate of a tenth for biases and scales is that of the authors' code, which also draws by fan-out; here the draw is
by fan-in, which is the same wherever a layer keeps its width.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """``shortcut(x) + branch(x)``; the shortcut is the identity unless one is given."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.branch, self.shortcut = branch, shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.branch(x)


class Bias(nn.Module):
    """``x + bias`` with one learned number, at first 0."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Scale(nn.Module):
    """``scale * x`` with one learned number, at first 1."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x


def fixup(model: nn.Module) -> None:
    """Start ``model``, whose blocks are :class:`Residual`, by Fixup, in place.

    Every linear and convolutional layer is drawn by He's normal rule, its biases are 0. In a branch of m of them, the last
    is then set to 0 and the others are multiplied by L^(−1/(2m−2)), with L the number of blocks. The classifier, which is
    the last such layer of the model, is set to 0.

    Raises ``ValueError``, before any weight changes, where there is no block, where a branch has fewer than two layers,
    where blocks are nested, or where no classifier follows the blocks.
    """
    branches = [_weighted(block.branch) for block in model.modules() if isinstance(block, Residual)]
    layers = _weighted(model)
    _refuse(branches, layers)
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        for *early, last in branches:
            for layer in early:
                layer.weight.mul_(len(branches) ** (-1 / (2 * len(early))))
            nn.init.zeros_(last.weight)
    nn.init.zeros_(layers[-1].weight)


def fixup_groups(parameters: Iterable[nn.Parameter], lr: float) -> list[dict]:
    """Groups for an optimizer of ``torch.optim``: weights at ``lr``; biases and scales, which have no or one axis, at ``lr / 10``."""
    parameters = list(parameters)
    weights, others = ([p for p in parameters if (p.ndim > 1) == wanted] for wanted in (True, False))
    return [{"params": weights, "lr": lr}, {"params": others, "lr": lr / 10}]


def _weighted(module: nn.Module) -> list[nn.Module]:
    """The linear and convolutional layers inside ``module``, in the order in which they were registered."""
    return [layer for layer in module.modules() if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))]


def _refuse(branches: list[list[nn.Module]], layers: list[nn.Module]) -> None:
    if not branches:
        raise ValueError(
            "model has no Residual block. Fixup sets the last layer of each branch to 0, which in a network without shortcuts "
            "would stop the signal; use torch.nn.init for it, or write its blocks as Residual(branch)"
        )
    for number, branch in enumerate(branches):
        if len(branch) < 2:
            raise ValueError(f"the branch of block {number} has {len(branch)} weight layers; Fixup needs at least 2 in each")
    inside = [layer for branch in branches for layer in branch]
    if len(set(inside)) < len(inside):
        raise ValueError("a layer belongs to two branches; Fixup needs blocks that follow one another, not nested ones")
    if layers[-1] in inside:
        raise ValueError("the last weight layer of model is inside a block; add the classifier after the blocks")
