"""Starts for deep networks that PyTorch lacks: they depend on width or depth, or are measured on a batch of data.

- :func:`random_walk_gain`: Sussillo & Abbott 2014 (arXiv 1412.6558).
- :func:`lsuv`: Mishkin & Matas 2016 (arXiv 1511.06422), Algorithm 1. The paper compares the *variance* of an output with 1,
  the authors' code its standard deviation; this follows the paper. Biases start at zero, as in the code.
- :func:`data_dependent`: Krähenbühl et al. 2016 (arXiv 1511.06856), with random filters. The paper equalizes the layers' rates in
  damped steps and undoes each step in the layer above; the authors' code scales all layers at once towards the geometric mean,
  undamped, and gives up silently after 10 steps. This follows the code, but takes two thirds of each step, and raises.
- :func:`fixup`: Zhang, Dauphin & Ma 2019 (arXiv 1901.09321). Some mirrors of the paper print its exponent without the minus
  sign. The rate of a tenth for biases and scales is that of the authors' code, which also draws by fan-out; here the draw is
  by fan-in, which is the same wherever a layer keeps its width.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_STUCK = "something, such as a parametrization, keeps it from following the layer's weights"


def random_walk_gain(width: int, nonlinearity: str = "relu") -> float:
    """The gain g = σ·√width at which the logarithm of a back-propagated gradient's norm does not drift.

    ``nonlinearity`` is ``"linear"`` or ``"relu"``, for which the paper gives formulas; anything else raises ``ValueError``.
    """
    if width < 1:
        raise ValueError(f"width={width}; a layer needs at least one unit")
    if nonlinearity == "linear":
        return math.exp(1 / (2 * width))
    if nonlinearity == "relu":
        return math.sqrt(2) * math.exp(1.2 / (max(width, 6) - 2.4))
    raise ValueError(f"nonlinearity={nonlinearity!r}; the paper has formulas for 'linear' and 'relu'")


def lsuv(model: nn.Module, x: Tensor, tolerance: float = 0.1, tries: int = 10) -> nn.Module:
    """Layer-sequential unit variance, in place: orthonormal weights, zero biases, then outputs of variance 1 on the batch ``x``.

    Takes the Linear and Conv layers that ``x`` reaches, in that order (a shared layer where it comes first), with the model in
    eval mode. A layer's weights are divided by the standard deviation of its output until the variance is within
    ``tolerance`` of 1. Raises ``ValueError``, with the weights as they were, where ``tries`` divisions do not achieve that.
    Returns ``model``.
    """

    def unit_variance(name: str, layer: nn.Module, inputs: Tensor) -> None:
        nn.init.orthogonal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        for _ in range(tries + 1):
            variance = layer.forward(inputs).var().item()
            if abs(variance - 1) <= tolerance:
                return
            _require_positive(variance, f"layer {name!r}: its output has variance {variance:.3g} on x")
            layer.weight.div_(math.sqrt(variance))
        raise ValueError(f"layer {name!r}: its output still has variance {variance:.3g} after {tries} tries; {_STUCK}")

    with _all_or_nothing(model, x):
        _visit(model, x, unit_variance)
    return model


def data_dependent(model: nn.Module, x: Tensor, tolerance: float = 0.1, tries: int = 20) -> nn.Module:
    """Krähenbühl's start, in place: every channel with mean 0 and deviation 1 on the batch ``x``, then equal rates of change.

    Takes the layers that :func:`lsuv` takes; a layer without a bias keeps its channels' means. The second part multiplies
    weights layer by layer until all :func:`change_rates` are within ``tolerance`` of their geometric mean. That takes a few
    steps in a chain of layers; a residual network may ask for a larger ``tolerance``. Raises ``ValueError``, with the weights as they were, for a
    channel that does not vary over ``x``, a layer that cannot be scaled, or rates that ``tries`` steps do not equalize.
    Returns ``model``.
    """
    sizes: dict[str, Tensor] = {}  # of each layer's input; a bias has to follow it

    def unit_channels(name: str, layer: nn.Module, inputs: Tensor) -> None:
        nn.init.normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        std, mean = torch.std_mean(_by_channel(layer, inputs), dim=1)
        _require_positive(std.min().item(), f"layer {name!r}: a channel of its output does not vary over x")
        layer.weight.div_(std.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.copy_(-mean / std)
        if (_by_channel(layer, inputs).std(1) - 1).abs().max() > 0.01:
            raise ValueError(f"layer {name!r}: its channels cannot be scaled to deviation 1; {_STUCK}")
        sizes[name] = inputs.abs().mean()

    def rescale(name: str, layer: nn.Module, inputs: Tensor) -> None:
        layer.weight.mul_(scales[name])
        if layer.bias is not None:
            size = inputs.abs().mean()
            layer.bias.mul_(scales[name] * size / sizes[name])
            sizes[name] = size

    with _all_or_nothing(model, x):
        direction = torch.randn_like(_visit(model, x, unit_channels))
        for attempt in range(tries + 1):
            logs = {name: math.log(rate) for name, rate in change_rates(model, x, direction).items()}
            middle = sum(logs.values()) / len(logs)
            furthest = max(logs, key=lambda name: abs(logs[name] - middle))
            if abs(logs[furthest] - middle) <= math.log1p(tolerance):
                return model
            if attempt < tries:
                # half of it would be exact for homogeneous activations, and makes others swing to and fro
                scales = {name: math.exp((log - middle) / 3) for name, log in logs.items()}
                _visit(model, x, rescale)
        ratio = math.exp(logs[furthest] - middle)
        raise ValueError(f"layer {furthest!r}: its rate of change is still {ratio:.3g} times the others' after {tries} tries")


def change_rates(model: nn.Module, x: Tensor, direction: Tensor | None = None) -> dict[str, float]:
    """‖∂ℓ/∂W‖ / ‖W‖ for every Linear and Conv layer that ``x`` reaches, by name and in that order.

    This is the relative size of a first step of gradient descent with learning rate 1. The loss is ℓ = Σ ``direction`` ·
    ``model(x)``; the default direction is standard normal, since no task is known yet. The model stays in its mode and nothing is changed.
    """
    weights: dict[str, Tensor] = {}
    with torch.enable_grad():
        out = _visit(model, x, lambda name, layer, _: weights.update({name: layer.weight}))
        direction = torch.randn_like(out) if direction is None else direction
        for name, weight in weights.items():
            if not weight.requires_grad:
                raise ValueError(f"layer {name!r}: its weights are frozen, so they have no rate; set requires_grad first")
        loss = (out * direction).sum()
        gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
    rates = [(g.norm() / w.detach().norm()).item() for g, w in zip(gradients, weights.values(), strict=True)]
    for name, rate in zip(weights, rates, strict=True):
        _require_positive(rate, f"layer {name!r}: its gradient is {rate:.3g} times its weights")
    return dict(zip(weights, rates, strict=True))


def _visit(model: nn.Module, x: Tensor, change: Callable[[str, nn.Module, Tensor], object]) -> Tensor:
    """Run ``model(x)``; call ``change(name, layer, its input)`` just before each layer computes for the first time."""
    names = {layer: name for name, layer in model.named_modules() if isinstance(layer, LAYERS)}
    waiting = set(names)

    def reach(layer: nn.Module, inputs: tuple) -> None:
        if layer in waiting:
            waiting.remove(layer)
            change(names[layer], layer, inputs[0])

    hooks = [layer.register_forward_pre_hook(reach) for layer in names]
    try:
        out = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if len(waiting) == len(names):
        raise ValueError(f"model={type(model).__name__}: x reaches no Linear or Conv layer, so there is nothing to start")
    return out


def _by_channel(layer: nn.Module, inputs: Tensor) -> Tensor:
    """The layer's output as channels × values."""
    out = layer.forward(inputs)
    return out.movedim(-1 if isinstance(layer, nn.Linear) else 1, 0).flatten(1)


def _require_positive(value: float, what: str) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{what}; give a batch of several different examples, and look for layers that are dead or blow up")


@contextmanager
def _all_or_nothing(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Eval mode and no gradients inside; afterwards the old modes and, where an error came out, the old weights."""
    if len(x) < 2 or (x == x[:1]).all():
        raise ValueError(f"x: its {len(x)} examples are all the same, so no output varies; give a batch of different examples")
    before, modes = deepcopy(model.state_dict()), {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            yield model.eval()
    except BaseException:
        model.load_state_dict(before)
        raise
    finally:
        for module, training in modes.items():
            module.training = training


# --- Fixup, for residual networks --------------------------------------------------------------------------------------


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
    return [layer for layer in module.modules() if isinstance(layer, LAYERS)]


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
