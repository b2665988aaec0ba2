"""Magnitude pruning, with masks that are plain values: a dict from a parameter's name to a boolean tensor, True where it stays.

Follows Han et al. 2015 (arXiv 1506.02626) for what goes, the smallest magnitudes, and Frankle & Carbin 2019 (arXiv 1803.03635)
for how much: a share p of the weights that are *still there*. Of n weights exactly ⌈p·n⌉ go. The reference codes of the second
paper (google-research/lottery-ticket-hypothesis, facebookresearch/open_lth) cut at the value of the weight after those and
take it along, with all its equals; here ties are broken by position, earlier ones first. PyTorch's ``torch.nn.utils.prune``
rounds a share to the nearest count and keeps masks as hooks and buffers inside the network.

    weights = prunable(net)                      # after training
    mask = magnitude_mask(weights, 0.2)          # one round; magnitude_mask(weights, 0.2, mask) is the next
    net.load_state_dict(start)                   # rewind, if you want a lottery ticket
    fit(apply(net, mask), data, steps=1000, on_step=enforce(mask))
"""

import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regbook.data import Data

Mask = dict[str, Tensor]


def prunable(model: nn.Module) -> dict[str, Tensor]:
    """The weights of ``model`` by name: its parameters with two or more dimensions, so no biases and no gains of a norm.

    They share memory with the model. Leave some out of the dict to keep them whole. Raises ``ValueError`` if there are none.
    """
    weights = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.ndim > 1}
    if not weights:
        raise ValueError(f"{type(model).__name__} has no parameter with two or more dimensions, so there is nothing to prune")
    return weights


def magnitude_mask(
    weights: Mapping[str, Tensor], p: float | Mapping[str, float], mask: Mask | None = None, by: str = "layer"
) -> Mask:
    """A mask without the share ``p`` of those weights that ``mask`` (default: all ones) still keeps: the smallest go.

    ``weights`` are tensors of any shape by name, such as :func:`prunable` returns. ``by="layer"`` takes ⌈p·n⌉ of each; there
    ``p`` may be a dict with one share a name. ``by="global"`` takes ⌈p·n⌉ of all together. Raises ``ValueError`` for a
    share outside (0, 1), weights that are not finite, a ``mask`` of other names or shapes, and where a layer would keep nothing.
    """
    rates = _rates(weights.keys(), p, by)
    alive = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()} if mask is None else mask
    _refuse("the mask", "weights", _misfit(alive, weights, "mask", "weights"))
    if bad := [name for name, w in weights.items() if not w.isfinite().all()]:
        raise ValueError(f"{', '.join(bad)}: NaN or infinite weights have no order of magnitudes; did the training diverge?")
    pruned: Mask = {}
    for names in [list(weights)] if by == "global" else [[name] for name in weights]:
        group = [weights[name] for name in names]
        kept = torch.cat([alive[name].flatten().to(w.device, torch.bool) for name, w in zip(names, group, strict=True)])
        places = kept.nonzero().squeeze(1)
        order = torch.cat([w.detach().flatten() for w in group]).abs()[places].argsort(stable=True)
        kept[places[order[: count(rates[names[0]], len(places))]]] = False
        parts = kept.split([w.numel() for w in group])
        pruned |= {name: part.reshape(w.shape) for name, part, w in zip(names, parts, group, strict=True)}
    if empty := [name for name, kept in pruned.items() if not kept.any()]:
        raise ValueError(f"p={p} would leave no weight in {', '.join(empty)}, and nothing could pass: prune less, or by layer")
    return pruned


def count(p: float, n: int) -> int:
    """⌈p·n⌉ for the decimal that p stands for: 0.28 · 25 is 7, though the computer's product is a little larger."""
    return math.ceil(p * n * (1 - 1e-12))


def random_mask(mask: Mask, generator: torch.Generator | None = None) -> Mask:
    """A mask that keeps as many weights as ``mask`` in each layer, at random places. Drawn on the CPU, the same on any device."""
    order = {name: torch.randperm(keep.numel(), generator=generator) for name, keep in mask.items()}
    return {name: keep.flatten()[order[name].to(keep.device)].reshape(keep.shape) for name, keep in mask.items()}


def density(mask: Mask) -> float:
    """The share of weights that ``mask`` keeps, P_m of Frankle & Carbin, in [0, 1]; biases are not counted."""
    return sum(int(keep.sum()) for keep in mask.values()) / sum(keep.numel() for keep in mask.values())


@torch.no_grad()
def apply(model: nn.Module, mask: Mask) -> nn.Module:
    """Set the weights that ``mask`` does not keep to zero, in place; returns ``model``. ``ValueError`` if it does not fit."""
    _refuse_misfit(mask, model)
    for name, keep in mask.items():
        weight = model.get_parameter(name)
        weight.mul_(keep.to(weight.device))
    return model


def enforce(mask: Mask) -> Callable[[int, nn.Module], None]:
    """An ``on_step`` for ``fit`` that puts pruned weights back to zero after each step, wherever the optimizer moved them.

    :func:`apply` the mask before training: the first forward pass comes before the first step.
    """
    factors = {name: keep.float() for name, keep in mask.items()}

    def on_step(step: int, model: nn.Module) -> None:
        if step == 1:
            _refuse_misfit(mask, model)
        weights = [model.get_parameter(name).detach() for name in factors]
        # .to does nothing where type and device agree, as they do for a mask made from this network
        torch._foreach_mul_(weights, [factor.to(w) for factor, w in zip(factors.values(), weights, strict=True)])

    return on_step


def save(path: str | os.PathLike, mask: Mask, start: Mapping[str, Tensor]) -> None:
    """Write a ticket, ``mask`` and the ``state_dict`` to start from; the file appears whole or not at all."""
    path = Path(path)
    unfinished = path.with_name(path.name + ".unfinished")
    parts = {"mask": mask, "start": start}
    try:
        torch.save({part: {name: t.detach().cpu().clone() for name, t in d.items()} for part, d in parts.items()}, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: str | os.PathLike, model: nn.Module) -> tuple[Mask, dict[str, Tensor]]:
    """The ticket at ``path``, mask and start, on the device of ``model``, which is not changed. No code in the file is run.

    Raises ``ValueError`` where the file is no ticket, and, with all names and shapes that differ, where it is one of another
    network.
    """
    state = model.state_dict()
    try:
        ticket = torch.load(path, map_location=next(iter(state.values())).device, weights_only=True)
        mask, start = ticket["mask"], ticket["start"]
        whole = all(keep.dtype == torch.bool for keep in mask.values()) and all(map(torch.is_tensor, start.values()))
    except (UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a ticket that regbook.pruning.save wrote, or it is damaged") from error
    if not whole:
        raise ValueError(f"{path} is not a ticket that regbook.pruning.save wrote: a mask must be boolean")
    differences = _misfit(mask, dict(model.named_parameters()), "mask", "network", all_of=False)
    _refuse(f"the ticket {path}", "network", differences + _misfit(start, state, "start", "network"))
    return mask, start


def _rates(names: Collection[str], p: float | Mapping[str, float], by: str) -> dict[str, float]:
    if by not in ("layer", "global"):
        raise ValueError(f"by={by!r}; it must be 'layer' or 'global'")
    if not names:
        raise ValueError("weights={}; there is nothing to prune")
    if isinstance(p, Mapping) and by == "global":
        raise ValueError(f"p={p} with by='global'; all weights compete there, so give one share for all")
    rates = dict(p) if isinstance(p, Mapping) else dict.fromkeys(names, p)
    if differing := rates.keys() ^ set(names):
        raise ValueError(
            f"p={p} and the weights differ in {', '.join(sorted(differing))}; give one share for each of the weights"
        )
    for name, rate in rates.items():
        if not 0 < rate < 1:
            raise ValueError(f"p={rate} for {name}; the share that goes must lie between 0 and 1, both excluded")
    return rates


def _misfit(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], what: str, where: str, all_of: bool = True) -> list[str]:
    """In words: the names that differ in shape or are on one side only (with ``all_of=False``: on the first side only)."""
    found = []
    for name in sorted(mine.keys() | (theirs.keys() if all_of else ())):
        a, b = (tuple(side[name].shape) if name in side else "absent" for side in (mine, theirs))
        if a != b:
            found.append(f"{name} is {a} in the {what} and {b} in the {where}")
    return found


def _refuse(what: str, where: str, differences: list[str]) -> None:
    if differences:
        raise ValueError(f"{what} does not fit the {where}: {'; '.join(differences)}")


def _refuse_misfit(mask: Mask, model: nn.Module) -> None:
    _refuse("the mask", "network", _misfit(mask, dict(model.named_parameters()), "mask", "network", all_of=False))


# --- many masked networks at once ----------------------------------------------------------------------------------


def fit_many(
    starts: Sequence[Mapping[str, Tensor]], masks: Sequence[Mask], data: Data, orders: Sequence[Iterator[Tensor]], *,
    steps: int, optimizer: Callable, evaluate_every: int,
) -> tuple[list[dict[str, Tensor]], list[list[dict]]]:  # fmt: skip
    """Train M masked ReLU networks of one shape, such as ``models.mlp`` makes, as one; each as ``fit`` would train it alone.

    ``starts`` are M ``state_dict``s, weights and biases of linear layers in turn; ``masks`` are M masks of the same weights.
    ``orders`` are M endless iterators over the indices of one batch, such as ``training.batches``, all of one batch size.
    ``optimizer(parameters)`` must act entry by entry, as SGD and Adam do. Returns M final ``state_dict``s and, of each network,
    rows with ``step``, ``valid_`` and ``test_`` ``loss`` and ``accuracy``, every ``evaluate_every`` steps. Raises
    ``ValueError`` where the M do not fit each other, and at the end ``FloatingPointError``, with the step and the numbers of
    the networks, where a loss is not finite.
    """
    _refuse_mixed(starts, masks, orders)
    if not 1 <= evaluate_every <= steps:
        raise ValueError(f"evaluate_every={evaluate_every}; it must lie between 1 and steps={steps}, or nothing is measured")
    x, y = data.train
    # M × inputs × outputs: transposed, so that baddbmm and its gradient need no copy
    stacked = {name: torch.stack([s[name].detach().t() for s in starts]).to(x.device) for name in starts[0]}
    keep = [torch.stack([mask[name].t() for mask in masks]).to(stacked[name]) for name in masks[0]]
    layers, masked = list(stacked.values()), [stacked[name] for name in masks[0]]
    torch._foreach_mul_(masked, keep)
    optimizer = optimizer([layer.requires_grad_() for layer in layers])

    measured = []  # stays on the device until the end: every reading would wait for it
    for step in range(1, steps + 1):
        index = torch.stack([next(order) for order in orders])
        logits, target = _side_by_side(layers, x[index]), y[index]
        # the mean over a batch, the sum over networks: each network gets its own gradient
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum") / target.shape[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_mul_(masked, keep)
        if step % evaluate_every == 0:
            measured.append(torch.cat([_loss_and_accuracy(layers, *split) for split in (data.valid, data.test)]))

    values = torch.stack(measured).cpu()  # evaluations × 4 × M
    if len(bad := (~values.isfinite()).any(1).nonzero()):
        networks = bad[bad[:, 0] == bad[0, 0], 1].tolist()
        raise FloatingPointError(f"a loss is not finite at step {(bad[0, 0] + 1) * evaluate_every}, of networks {networks}")
    names = ("step", "valid_loss", "valid_accuracy", "test_loss", "test_accuracy")
    at = range(evaluate_every, steps + 1, evaluate_every)
    rows = [[dict(zip(names, (s, *row), strict=True)) for s, row in zip(at, m.tolist(), strict=True)] for m in values.unbind(2)]
    return [{name: layer[i].detach().t() for name, layer in stacked.items()} for i in range(len(starts))], rows


def _side_by_side(layers: Sequence[Tensor], x: Tensor) -> Tensor:
    """Logits, M × N × classes, of M networks for their inputs ``x``, M × N × …"""
    h = x.flatten(2)
    for weight, bias in zip(layers[::2], layers[1::2], strict=True):
        h = torch.baddbmm(bias[:, None], h, weight)
        h = h if weight is layers[-2] else h.relu()
    return h


@torch.no_grad()
def _loss_and_accuracy(layers: Sequence[Tensor], x: Tensor, y: Tensor, batch_size: int = 1000) -> Tensor:
    """2 × M: the mean cross-entropy and the accuracy of each network on ``x``, ``y``."""
    sums = torch.zeros(2, len(layers[0]), device=x.device)
    for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
        logits, target = _side_by_side(layers, xb.expand(len(layers[0]), *xb.shape)), yb.expand(len(layers[0]), -1)
        losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target)
        sums += torch.stack([losses.sum(1), (logits.argmax(2) == target).sum(1)])
    return sums / len(y)


def _refuse_mixed(starts: Sequence[Mapping[str, Tensor]], masks: Sequence[Mask], orders: Sequence) -> None:
    if not len(starts) == len(masks) == len(orders) > 0:
        raise ValueError(f"{len(starts)} starts, {len(masks)} masks and {len(orders)} orders; give one of each a network")
    for number, (start, mask) in enumerate(zip(starts, masks, strict=True)):
        _refuse(f"start {number}", "first start", _misfit(start, starts[0], f"start {number}", "first start"))
        _refuse(f"mask {number}", "first mask", _misfit(mask, masks[0], f"mask {number}", "first mask"))
    _refuse("mask 0", "starts", _misfit(masks[0], starts[0], "mask", "starts", all_of=False))
