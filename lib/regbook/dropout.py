"""Members of the dropout family that PyTorch and torchvision lack.

Everywhere ``p`` is the probability of *keeping*, as in the lecture and in the papers; ``torch.nn.Dropout(p)`` takes the
probability of *dropping*. Every mask comes from a ``torch.Generator`` where one is given, so that it can be drawn again.
A mask may silence every unit of a layer: it is one of the members of the ensemble, and its output is what the bias alone
gives.
"""

import torch
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
