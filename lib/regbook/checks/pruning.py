"""Feedback for the exercises of ``chapters/pruning``."""

import math

import torch

from regbook import pruning
from regbook.checks import checker, expect, number, prediction_then_run


@checker
def times_smaller(answer: object) -> str:
    """32 bits a weight against 32 + 16 bits for each of the 10 % that are left: 6.67, to 2 %."""
    value = number(answer)

    def near(wanted: float) -> bool:
        return math.isclose(value, wanted, rel_tol=0.02)

    expect(not near(10), "ten times fewer weights are left, but each now needs an index to say where it belongs.")
    expect(not near(0.15), "that is the share that is left; asked for is how many times smaller it is.")
    expect(not near(1 / 1.35), "90 % of the weights go; you kept them and dropped the 10 %.")
    expect(not near(20), "the index comes on top of the 32 bits of the value; it does not replace them.")
    expect(near(1 / 0.15), f"{value:.3g} is not it. Count the bits of 1,000 weights, and of the 100 that are left.")
    return "32,000 bits against 4,800: 6.7 times smaller, not ten."


def _cases():
    """(what is special, weights, mask, p): plain, ties, a product that rounds up, pruned weights of any value, a matrix."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(30, generator=generator)
    whole, half = torch.ones(30, dtype=torch.bool), torch.arange(30) % 2 == 0
    yield "weights of both signs", w, whole, 0.5
    yield "a product that is not whole", w[:7], whole[:7], 0.3
    yield "equal magnitudes", torch.tensor([1.0, -1.0, 1.0, 1.0, 2.0]), whole[:5], 0.4
    yield "0.28 · 25", w[:25], whole[:25], 0.28
    yield "pruned weights that are zero", w * half, half, 0.4
    yield "pruned weights that are large", torch.where(half, w, torch.tensor(9.0)), half, 0.4
    yield "a matrix", w.view(5, 6), half.view(5, 6), 0.2


@checker
def prune_more(prune) -> str:
    """One round of iterative pruning of one tensor, against ``regbook.pruning``; equal weights may go in any order."""
    for special, w, mask, p in _cases():
        place, given, given_w = f"With {special}:", mask.clone(), w.clone()
        new = prune(w, mask, p)
        expect(torch.equal(mask, given) and torch.equal(w, given_w), f"{place} your function changed its input; work on a clone.")
        expect(isinstance(new, torch.Tensor), f"{place} return a mask, not {type(new).__name__}.")
        expect(new.shape == w.shape, f"{place} the mask has shape {tuple(new.shape)}, and the weights have {tuple(w.shape)}.")
        expect(new.dtype == torch.bool, f"{place} a mask is Boolean, and yours is {new.dtype}.")
        _judge(place, w, mask, p, new)
    return "seven cases agree: ties, rounding and weights that were pruned before."


def _judge(place: str, w: torch.Tensor, mask: torch.Tensor, p: float, new: torch.Tensor) -> None:
    expect(not (new & ~mask).any(), f"{place} weights that were pruned before came back; keep only what the old mask kept.")
    size, left, total = w.abs()[mask].sort().values, int(mask.sum()), w.numel()
    k, of_all, gone = pruning.count(p, left), pruning.count(p, total), left - int(new.sum())
    if gone != k:
        mistakes = {  # the first that explains the number counts
            "floating-point numbers rounded the product up; `pruning.count` forgives that.": (math.ceil(p * left),),
            "sort only the weights that are still there, and take p of their number.": (of_all, max(0, of_all - total + left), 0),
            "a cut-off takes along what equals it; choose positions.": [int((size <= size[i]).sum()) for i in (k - 1, k)],
            "⌈p·n⌉ rounds up.": (math.floor(p * left), round(p * left)),
            f"p = {p}, n = {left}.": (gone,),
        }
        why = next(why for why, counts in mistakes.items() if gone in counts)
        expect(False, f"{place} {k} weights should go, and {gone} went: {why}")
    removed, kept = w[mask & ~new], w[new]
    if removed.abs().max() > kept.abs().min():
        why = (
            "the most negative weights went; take magnitudes."
            if removed.max() <= kept.min()
            else "sort by magnitude, smallest first."
        )
        expect(False, f"{place} a weight of magnitude {removed.abs().max():.3g} went, and {kept.abs().min():.3g} stayed: {why}")


@checker
def one_in_fifty(answer) -> str:
    """(prediction, lead of fine-tuned over re-initialized at 90 %, at 98 %), as Estimates of a difference of accuracies."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"accuracies are shares, so a lead lies between -1 and 1; {measured} came.")
    expect(before.high > 0, f"at 90 % your lead is negative ({before}): subtract re-initialized from fine-tuned.")
    outcome = "gone" if after.low <= 0 else "larger" if after.mean > before.mean else "smaller"
    verdict = (
        "as you predicted." if prediction == outcome else f"you predicted {prediction!r}. What does the cut leave to repair?"
    )
    return f"the lead went from {before} to {after}: {outcome!r}, {verdict}"
