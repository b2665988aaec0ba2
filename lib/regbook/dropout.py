"""Members of the dropout family that PyTorch and torchvision lack.

Everywhere ``p`` is the probability of *keeping*, as in the lecture and in the papers; ``torch.nn.Dropout(p)`` takes the
probability of *dropping*. Every mask comes from a ``torch.Generator`` where one is given, so that it can be drawn again.
A mask may silence every unit of a layer: it is one of the members of the ensemble, and its output is what the bias alone
gives.
"""

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
