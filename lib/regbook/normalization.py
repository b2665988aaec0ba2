"""Normalization that PyTorch lacks: one function for the four usual index sets, and filter response normalization.

The index sets are those of Wu and He (2018, eq. 3–7). Filter response normalization and the thresholded linear unit follow
Singh and Krishnan (2020); means and roots of half-precision inputs are taken in float32, as PyTorch's layers do.
"""

import torch
from torch import Tensor, nn


def normalize(x: Tensor, groups: int, *, batch: bool = False, eps: float = 1e-5) -> Tensor:
    """(x − μ)/√(σ² + ε) for x of N × C × positions (any number of axes); μ and σ² over one group of channels of one example.

    ``groups=1`` is layer, ``groups=C`` instance, and a number between them group normalization. With ``batch=True`` the
    means go over the examples too: ``groups=C`` is then batch normalization in training. Without γ and β, and σ² divides by
    the number of values. A constant group gives zeros. Raises ``ValueError`` where ``groups`` does not divide C, or where a
    mean would be over a single value, since the output would be 0 for every input.
    """
    n, channels = x.shape[:2]
    if groups < 1 or channels % groups:
        raise ValueError(f"groups={groups}; it must divide the {channels} channels")
    parts = x.reshape(n, groups, channels // groups, -1)
    axes = (0, 2, 3) if batch else (2, 3)
    if parts.numel() <= (groups if batch else n * groups):
        raise ValueError(
            f"x of shape {tuple(x.shape)}, groups={groups}: a mean over one value; take fewer groups or more examples"
        )
    variance, mean = torch.var_mean(parts.to(_wide(x)), axes, correction=0, keepdim=True)
    return ((parts - mean) / (variance + eps).sqrt()).to(x).view_as(x)


class FilterResponseNorm(nn.Module):
    """``γ·x/√(ν² + |ε|) + β`` with ν² the mean of x² over the positions of one channel of one example; no mean is subtracted.

    For N × C × positions; follow it with :class:`TLU`, not with ReLU. ``learn_eps=True`` makes ε a parameter. The paper does
    so where a channel has one position, starting at ``eps=1e-4``: x/√(x² + ε) is little more than a sign unless ε grows.
    Raises ``ValueError`` for another number of channels.
    """

    def __init__(self, num_features: int, eps: float = 1e-6, learn_eps: bool = False):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(num_features)), nn.Parameter(torch.zeros(num_features))
        self.eps = nn.Parameter(torch.tensor(eps), requires_grad=learn_eps)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(_wide(x))
        power = wide.square().flatten(2).mean(2) if x.ndim > 2 else wide.square()
        scale = _like(self.weight, x) * _spread(power + self.eps.abs(), x).rsqrt()
        return (wide * scale + _like(self.bias, x)).to(x)


class TLU(nn.Module):
    """max(y, τ) with a learned threshold τ for each channel, 0 at the start: the thresholded linear unit."""

    def __init__(self, num_features: int):
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(num_features))

    def forward(self, y: Tensor) -> Tensor:
        return torch.maximum(y, _like(self.threshold, y).to(y))


def _wide(x: Tensor) -> torch.dtype:
    """The type to add up in: squares of half-precision numbers above 255 overflow."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def _like(parameter: Tensor, x: Tensor) -> Tensor:
    """One number a channel, shaped to multiply ``x``."""
    if x.ndim < 2 or x.shape[1] != len(parameter):
        raise ValueError(f"x of shape {tuple(x.shape)}; it needs {len(parameter)} channels in its second axis")
    return _spread(parameter[None], x)


def _spread(per_channel: Tensor, x: Tensor) -> Tensor:
    """N × C numbers with the missing axes of ``x``."""
    return per_channel.reshape(*per_channel.shape, *[1] * (x.ndim - 2))
