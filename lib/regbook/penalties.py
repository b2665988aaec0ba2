"""Norm penalties on named parameters, their proximal operators, and projections on norm balls.

The penalty is ``l1 Σ|w| + l2 Σ w²``, without a factor 1/2: with ``l1 = λ`` and ``l2 = λβ`` it is the elastic net of Zou & Hastie
(2005), with one of the two zero it is the lasso's or ridge's. ``weight_decay`` of ``torch.optim`` is another convention: SGD's
weight decay d is the gradient of ``(d/2) Σ w²``, so ``l2 = d / 2``. The largest norm of a row is bounded by ``torch.renorm``.

Every function that takes a model takes ``parameters``, a shell pattern such as ``"*.weight"`` for the full names. Without one it acts
on the weights: trainable parameters with two or more axes, outside normalization layers. Biases, and the scales and shifts of
normalization layers, are left alone, as usual: they are few, and they do not make a function rough.
"""

import math
from collections.abc import Callable
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMALIZATION = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def select(model: nn.Module, parameters: str | None = None) -> dict[str, nn.Parameter]:
    """The trainable parameters whose full name matches the pattern ``parameters``; default: the weights, as said above.

    Raises ``ValueError`` where there are none, because a penalty on nothing would do nothing and say nothing.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if parameters is None:
        scales = {id(p) for m in model.modules() if isinstance(m, NORMALIZATION) for p in m.parameters(recurse=False)}
        chosen = {name: p for name, p in trainable.items() if p.ndim > 1 and id(p) not in scales}
    else:
        chosen = {name: p for name, p in trainable.items() if fnmatchcase(name, parameters)}
    if not chosen:
        names = ", ".join(trainable) or "none"
        raise ValueError(f"parameters={parameters!r} selects no parameter; name some of the trainable ones, which are: {names}")
    return chosen


def elastic_net(model: nn.Module, *, l1: float = 0.0, l2: float = 0.0, parameters: str | None = None) -> Tensor:
    """``l1 Σ|w| + l2 Σ w²`` over the selected parameters, a scalar; autograd's derivative of ``|w|`` at 0 is 0.

    As a penalty for ``fit``: ``penalty=partial(elastic_net, l1=1e-4)``. Negative strengths raise ``ValueError``.
    """
    _check(l1=l1, l2=l2)
    total = torch.zeros((), device=next(model.parameters()).device)
    for w in select(model, parameters).values():
        if l1:
            total = total + l1 * w.abs().sum()
        if l2:
            total = total + l2 * w.square().sum()
    return total


def prox(z: Tensor, *, l1: float = 0.0, l2: float = 0.0) -> Tensor:
    """The minimizer over w of ``½|w − z|² + l1 Σ|w| + l2 Σ w²``: soft thresholding by ``l1``, then division by ``1 + 2·l2``.

    After a gradient step of length t on the loss, ``prox(w, l1=t * l1, l2=t * l2)`` completes a proximal gradient step.
    """
    _check(l1=l1, l2=l2)
    return F.softshrink(z, l1) / (1 + 2 * l2)


def project(z: Tensor, radius: float, *, norm: int = 2) -> Tensor:
    """The point nearest to ``z`` (any shape, taken as one vector) whose L2 or L1 norm is at most ``radius``.

    ``norm=1`` follows Duchi et al. (2008, Fig. 1): a soft threshold, found by sorting. Differentiable almost everywhere.
    """
    _check(radius=radius)
    if norm not in (1, 2):
        raise ValueError(f"norm={norm!r}; it must be 1 or 2")
    size = torch.linalg.vector_norm(z, norm)
    if size <= radius:
        return z.clone()
    if norm == 2:
        return z * (radius / size)
    largest_first = z.abs().flatten().sort(descending=True).values
    excess = (largest_first.cumsum(0) - radius) / torch.arange(1, z.numel() + 1, device=z.device)
    threshold = excess[(largest_first > excess).sum() - 1]
    return z.sign() * (z.abs() - threshold).clamp(min=0)


@torch.no_grad()
def update(model: nn.Module, change: Callable[[Tensor], Tensor], parameters: str | None = None) -> None:
    """Replace the selected parameters w, joined to one vector, by ``change(w)``.

    After each step of ``fit``: ``on_step=lambda step, net: update(net, partial(project, radius=3.0))``.
    Raises ``ValueError``, with nothing changed, where ``change`` returns another shape.
    """
    chosen = list(select(model, parameters).values())
    before = torch.cat([w.flatten() for w in chosen])
    after = change(before)
    if after.shape != before.shape:
        raise ValueError(f"change returned shape {tuple(after.shape)}; it must keep the shape {tuple(before.shape)}")
    for w, new in zip(chosen, after.split([w.numel() for w in chosen]), strict=True):
        w.copy_(new.view_as(w))


def _check(**strengths: float) -> None:
    for name, value in strengths.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}={value!r}; it must be a finite number, zero or more")
