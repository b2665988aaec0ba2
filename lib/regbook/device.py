"""Where a page runs, at which scale, and with which seeds.

Four environment variables, read when asked and never cached:

- ``REGBOOK_DEVICE``: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; default: the best one present.
- ``REGBOOK_SCALE``: ``small`` (default: a laptop, seconds) or ``full`` (the paper's setting).
- ``REGBOOK_SEED``: an integer k that shifts every seed of a page; default 0.
- ``REGBOOK_PROCESSES``: how many processes may work at once; default: one per available core.
"""

import os
from typing import TypeVar

import torch

T = TypeVar("T")

SEEDS_PER_SHIFT = 1000  # REGBOOK_SEED=1 starts at 1000: no page uses that many, so two shifts share no seed


def device() -> torch.device:
    """The device that data and models live on.

    Raises ``ValueError`` when ``REGBOOK_DEVICE`` names a device that torch does not know or cannot see.
    """
    wanted = os.environ.get("REGBOOK_DEVICE", "")
    if wanted:
        try:
            return torch.empty(0, device=wanted).device
        except Exception as error:  # torch raises RuntimeError or AssertionError, by device and version
            raise ValueError(
                f"REGBOOK_DEVICE={wanted!r} cannot be used here ({str(error).splitlines()[0]}); "
                "unset it, or use one of: cpu, cuda, mps"
            ) from error
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def scale() -> str:
    """``"small"`` or ``"full"``, from ``REGBOOK_SCALE``; anything else raises ``ValueError``."""
    value = os.environ.get("REGBOOK_SCALE", "small")
    if value not in ("small", "full"):
        raise ValueError(f"REGBOOK_SCALE={value!r}; it must be 'small' or 'full'")
    return value


def pick(*, small: T, full: T) -> T:
    """The one place where a page says what differs between the scales: ``epochs = pick(small=20, full=200)``."""
    return full if scale() == "full" else small


def seeds(n: int = 5) -> list[int]:
    """``n`` consecutive seeds, shifted by ``REGBOOK_SEED``: 0, 1, … by default, 7000, 7001, … for 7."""
    if n < 1:
        raise ValueError(f"n={n}; a page needs at least one seed")
    return [SEEDS_PER_SHIFT * _integer("REGBOOK_SEED", 0) + i for i in range(n)]


def processes() -> int:
    """How many processes may work at once: ``REGBOOK_PROCESSES``, or the cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = _integer("REGBOOK_PROCESSES", cores)
    if count < 1:
        raise ValueError(f"REGBOOK_PROCESSES={count}; it must be at least 1")
    return count


def _integer(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{variable}={text!r}; it must be an integer") from None
