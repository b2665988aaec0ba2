"""Members of the dropout family that PyTorch and torchvision lack.

Everywhere ``p`` is the probability of *keeping*, as in the lecture and in the papers; ``torch.nn.Dropout(p)`` takes the
probability of *dropping*. Every mask comes from a ``torch.Generator`` where one is given, so that it can be drawn again.
A mask may silence every unit of a layer: it is one of the members of the ensemble, and its output is what the bias alone
gives.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def keep(shape: tuple[int, ...], p: float, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A mask of ``shape`` with the type and device of ``like``: 1 with probability ``p``, else 0.

    A ``generator`` draws on its own device, so that one seed gives one mask wherever the network lives.
    Raises ``ValueError`` unless 0 ≤ p ≤ 1.
    """
    check_rate(p)
    where = generator.device if generator is not None else like.device
    return (torch.rand(shape, generator=generator, device=where) < p).to(like)


def check_rate(p: float, name: str = "p") -> None:
    """Raise ``ValueError`` unless ``p`` is a probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"{name}={p}; it is the probability of keeping, between 0 and 1")


# --- where the mask sits -------------------------------------------------------------------------------------------


class DropConnect(nn.Linear):
    """A linear layer with its activation whose *weights* are dropped: r = a((M ⊙ W) v), after Wan et al. (ICML 2013).

    The bias is the weight of an input that is always 1, and is dropped like any other. Each example has a mask of its own,
    as in the paper; that takes N × out × in numbers, ``per_example=False`` only out × in: one mask for the whole batch.
    In eval mode nothing is dropped: the pre-activation is taken for a Gaussian with its true mean and variance, and the
    activation is averaged over ``samples`` draws; ``samples=0`` multiplies the weights by ``p`` instead.
    At p = 1 this is a plain layer, at p = 0 the output is a(0).

    Input … × ``in_features``, output … × ``out_features``. Raises ``ValueError`` unless 0 ≤ p ≤ 1 and ``samples`` ≥ 0.
    """

    def __init__(
        self, in_features: int, out_features: int, p: float = 0.5, activation: Callable[[Tensor], Tensor] = F.relu, *,
        per_example: bool = True, samples: int = 100, generator: torch.Generator | None = None,
    ):  # fmt: skip
        check_rate(p)
        if samples < 0:
            raise ValueError(f"samples={samples}; give a number of draws, or 0 to multiply the weights by p")
        super().__init__(in_features, out_features)
        self.p, self.activation, self.per_example, self.samples = p, activation, per_example, samples
        self.generator = generator

    def forward(self, v: Tensor) -> Tensor:
        v, W = F.pad(v, (0, 1), value=1.0), torch.cat([self.weight, self.bias[:, None]], 1)
        if self.training:
            return self.activation(torch.einsum("...oi,oi,...i->...o", self.mask(v, W), W, v))
        mean = self.p * v @ W.T
        if not self.samples or self.p in (0, 1):
            return self.activation(mean)
        variance = self.p * (1 - self.p) * v.square() @ W.square().T
        std = variance.clamp_min(torch.finfo(v.dtype).tiny).sqrt()  # the root has no gradient at 0
        return sum(self.activation(mean + std * self._normal(mean)) for _ in range(self.samples)) / self.samples

    def mask(self, v: Tensor, W: Tensor) -> Tensor:
        """What to keep of ``W`` (out × in + 1, the bias last): one mask an example, or one for all."""
        examples = v.shape[:-1] if self.per_example else ()
        return keep((*examples, *W.shape), self.p, like=v, generator=self.generator)

    def _normal(self, like: Tensor) -> Tensor:
        where = self.generator.device if self.generator is not None else like.device
        return torch.randn(like.shape, generator=self.generator, device=where, dtype=like.dtype).to(like.device)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, p={self.p}"


class DropAll(DropConnect):
    """Drop activations *or* weights: a coin decides for each example, which shows weights with probability ``weights``.

    After Frazão & Alexandre (ICIAR 2014), in the lecture's words: a randomly selected subset of activations, or a random
    subset of weights. ``weights=1`` is :class:`DropConnect`, ``weights=0`` is dropout on the inputs (the constant input of
    the bias among them). One unit alone has the same distribution either way, so eval mode is that of :class:`DropConnect`.
    """

    def __init__(self, in_features: int, out_features: int, p: float = 0.5, *args, weights: float = 0.5, **kwargs):
        check_rate(weights, "weights")
        super().__init__(in_features, out_features, p, *args, **kwargs)
        self.weights = weights

    def mask(self, v: Tensor, W: Tensor) -> Tensor:
        examples = v.shape[:-1] if self.per_example else ()
        inputs = keep((*examples, 1, W.shape[1]), self.p, like=v, generator=self.generator)
        coin = keep((*examples, 1, 1), self.weights, like=v, generator=self.generator)
        return torch.where(coin > 0, super().mask(v, W), inputs)


class DropMaps(nn.Module):
    """Keep each feature map as a whole with probability ``p``; in eval mode multiply all of them by ``p``.

    After Moradi et al. (2019), by the lecture's rule. With the same mask it is p · ``nn.Dropout2d(1 - p)``, in both modes.
    Each example has a mask of its own, as there; ``per_example=False`` draws one for the batch.

    Input and output N × C × …, with at least one axis after the maps. Raises ``ValueError`` for less, or unless 0 ≤ p ≤ 1.
    """

    def __init__(self, p: float = 0.5, *, per_example: bool = True, generator: torch.Generator | None = None):
        check_rate(p)
        super().__init__()
        self.p, self.per_example, self.generator = p, per_example, generator

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 3:
            raise ValueError(f"x has shape {tuple(x.shape)}; maps come as N × C × height × width")
        if not self.training:
            return self.p * x
        shape = (len(x) if self.per_example else 1, x.shape[1], *[1] * (x.dim() - 2))
        return x * keep(shape, self.p, like=x, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p}"


# --- schedules -----------------------------------------------------------------------------------------------------


def curriculum(step: float, floor: float, gamma: float) -> float:
    """Curriculum dropout (Morerio et al. 2017): the keep probability (1 − floor)·exp(−gamma·step) + floor.

    It starts at 1 and falls to ``floor``. ``gamma`` is the rate per step; with γ = 10/T the floor is reached, to within
    5e-5, after T steps. Raises ``ValueError`` unless 0 ≤ floor ≤ 1, gamma ≥ 0 and step ≥ 0.
    """
    check_rate(floor, "floor")
    if not (gamma >= 0 and step >= 0):
        raise ValueError(f"gamma={gamma}, step={step}; neither may be negative, or the schedule leaves [0, 1]")
    return (1 - floor) * math.exp(-gamma * step) + floor


class ScheduledDropout(nn.Module):
    """Dropout that keeps with probability ``theta(t)`` in the t-th training pass, t = 0, 1, …, and scales by 1/theta(t).

    In eval mode it passes its input on and t stands still; t is part of ``state_dict()``. Where theta(t) = 0 the output is
    zero. Raises ``ValueError``, naming t, where the schedule leaves [0, 1].
    """

    def __init__(self, theta: Callable[[int], float], generator: torch.Generator | None = None):
        super().__init__()
        self.theta, self.generator, self.passes = theta, generator, 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        p = self.theta(self.passes)
        check_rate(p, f"theta({self.passes})")
        self.passes += 1
        return x * keep(x.shape, p, like=x, generator=self.generator) / (p or 1.0)

    def get_extra_state(self) -> dict:
        return {"passes": self.passes}

    def set_extra_state(self, state: dict) -> None:
        self.passes = state["passes"]


# --- fractional max pooling ----------------------------------------------------------------------------------------


def fractional_regions(
    n_in: int, n_out: int, *, u: float | None = None, kind: str = "pseudorandom", generator: torch.Generator | None = None
) -> Tensor:
    """The borders 0 = a₀ < a₁ < … = n_in − 1 of ``n_out`` pooling regions on one axis, with steps of 1 or 2 (Graham 2014).

    ``"pseudorandom"``: aᵢ = ⌈α(i + u)⌉ − ⌈αu⌉ with α = (n_in − 1)/n_out and ``u`` in [0, 1), drawn where it is None.
    ``"random"``: the same steps in random order. Indices count from 0, in the paper from 1. Returns n_out + 1 integers.
    Raises ``ValueError`` unless 1 ≤ α ≤ 2.
    """
    if not 1 <= n_out <= n_in - 1 <= 2 * n_out:
        raise ValueError(f"n_in={n_in}, n_out={n_out}; steps of 1 and 2 need n_out ≤ n_in − 1 ≤ 2·n_out")
    if kind not in ("pseudorandom", "random") or (kind == "random" and u is not None):
        raise ValueError(f"kind={kind!r}, u={u}; kind is 'pseudorandom' (with u or without) or 'random' (without)")
    if u is not None and not 0 <= u < 1:
        raise ValueError(f"u={u}; it must be in [0, 1)")
    if kind == "random":
        steps = 1 + (torch.randperm(n_out, generator=generator) < n_in - 1 - n_out).long()
        return F.pad(steps.cumsum(0), (1, 0))
    u = torch.rand((), generator=generator).item() if u is None else u
    # ⌈(k + v)/n⌉ = ⌈(k + ⌈v⌉)/n⌉ for whole k and n: whole numbers cannot round to a wrong border
    shifted = (n_in - 1) * torch.arange(n_out + 1) + math.ceil((n_in - 1) * u)
    borders = -(-shifted // n_out)
    return borders - borders[0]


def fractional_max_pool2d(x: Tensor, rows: Tensor, columns: Tensor, *, overlapping: bool = True) -> Tensor:
    """The maximum of each region of ``x``, N × C × H × W, between the borders ``rows`` and ``columns``.

    Region i holds the lines aᵢ₋₁ … aᵢ, so that neighbours share a line; with ``overlapping=False`` it ends at aᵢ − 1, and
    the last line of the picture is never read. Raises ``ValueError`` where borders leave the picture or steps are not 1 or 2.
    """
    for axis, borders in ((-2, rows), (-1, columns)):
        steps = borders.diff()
        if borders[0] < 0 or borders[-1] >= x.shape[axis] or not ((steps == 1) | (steps == 2)).all():
            raise ValueError(f"borders {borders.tolist()}; steps of 1 or 2 within 0 … {x.shape[axis] - 1} are needed")
        first, last = borders[:-1], borders[1:] - int(not overlapping)
        lines = torch.stack([first, torch.minimum(first + 1, last), last], 1)  # a short region names a line twice
        window = (3, 1) if axis == -2 else (1, 3)
        x = F.max_pool2d(x.index_select(axis, lines.flatten().to(x.device)), window)
    return x


class FractionalMaxPool2d(nn.Module):
    """Fractional max pooling to ``output_size`` × ``output_size``; every pass, in eval mode too, draws new regions.

    One pattern serves the whole batch and all channels. ``u`` fixes it (one number for both axes). To test as the paper
    does, average the outputs of several passes.
    """

    def __init__(
        self, output_size: int, kind: str = "pseudorandom", u: float | None = None, generator: torch.Generator | None = None
    ):
        super().__init__()
        self.output_size, self.how = output_size, {"kind": kind, "u": u, "generator": generator}

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (fractional_regions(size, self.output_size, **self.how) for size in x.shape[-2:])
        return fractional_max_pool2d(x, rows, columns)


# --- noisy labels --------------------------------------------------------------------------------------------------


def self_paced(loss: Tensor, threshold: Tensor | float, width: float = 0.0) -> Tensor:
    """The weights v in [0, 1] that minimize v·loss + width/2·v² − (threshold + width)·v, in the shape of ``loss``.

    They are 1 up to ``threshold``, 0 from ``threshold + width`` on, and a straight line between. ``width=0`` is the hard
    rule of Kumar et al. 2010: 1 where loss ≤ threshold, else 0. Raises ``ValueError`` for a negative ``width``.
    """
    if width < 0:
        raise ValueError(f"width={width}; it must be 0 (hard weights) or positive")
    return (1 - (loss - threshold) / width).clamp(0, 1) if width else (loss <= threshold).to(loss)


class LossHistory:
    """What a mentor knows of every example, epoch by epoch; follows Jiang et al. 2018 (arXiv 1712.05055) without the label.

    ``history(loss, progress)`` takes the losses of an epoch, … × n, and the share of the training that is over. It returns
    … × n × 4: the loss, the moving average of this example's losses, the loss minus the moving average of the
    ``percentile`` of all n (the authors' code: 0.75), and ``progress``. ``decay`` is the old value's share in both
    averages. Use a new history for each training.
    """

    def __init__(self, percentile: float = 0.75, decay: float = 0.5):
        for name, value in {"percentile": percentile, "decay": decay}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name}={value}; it is a share, between 0 and 1")
        self.percentile, self.decay = percentile, decay
        self.own: Tensor | None = None
        self.level: Tensor | None = None

    def __call__(self, loss: Tensor, progress: float) -> Tensor:
        if self.own is not None and self.own.shape != loss.shape:
            raise ValueError(f"loss has shape {tuple(loss.shape)}, after {tuple(self.own.shape)}; use a new LossHistory")
        loss = loss.detach()
        level = loss.quantile(self.percentile, dim=-1, keepdim=True)
        self.own = loss if self.own is None else torch.lerp(loss, self.own, self.decay)
        self.level = level if self.level is None else torch.lerp(level, self.level, self.decay)
        return torch.stack([loss, self.own, loss - self.level, torch.full_like(loss, progress)], dim=-1)


class MentorNet(nn.Module):
    """Features of :class:`LossHistory`, … × n × 4, to logits, … × n; their sigmoid is the weight of an example.

    Smaller than the authors', which also reads the label; they write that its architecture matters little.
    """

    def __init__(self, hidden: int = 20):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features).squeeze(-1)

    @torch.no_grad()
    def weights(self, features: Tensor) -> Tensor:
        """The weights in (0, 1), without a gradient: the student must not learn to please its mentor."""
        return self(features).sigmoid()
