"""Members of the dropout family that PyTorch and torchvision lack.

Everywhere ``p`` is the probability of *keeping*, as in the lecture and in the papers; ``torch.nn.Dropout(p)`` takes the
probability of *dropping*. Every mask comes from a ``torch.Generator`` where one is given, so that it can be drawn again.
A mask may silence every unit of a layer: it is one of the members of the ensemble, and its output is what the bias alone
gives.
"""

import torch
from torch import Tensor


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
