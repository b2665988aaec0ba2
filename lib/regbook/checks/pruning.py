"""Feedback for the exercises of ``chapters/pruning``."""

import math

import torch

from regbook import pruning
from regbook.checks import checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict


@checker
def times_smaller(answer: object) -> str:
    """32 bits a weight against 32 + 16 bits for each of the 10 % that are left: 6.67, to 2 %."""
    value = number(answer)

    mistakes = {
        10: "ten times fewer weights are left, but each now needs an index to say where it belongs.",
        0.15: "that is the share that is left; asked for is how many times smaller it is.",
        1 / 1.35: "90 % of the weights go; you kept them and dropped the 10 %.",
        20: "the index comes on top of the 32 bits of the value; it does not replace them.",
    }
    expect_number(value, 1 / 0.15, mistakes, "Count the bits of 1,000 weights, and of the 100 that are left.", rel_tol=0.02)
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
    said = verdict(prediction, trend(before, after), "What does the cut leave to repair?")
    return f"the lead went from {before} to {after}: {said}"


@checker
def rounds_below_five(answer: object) -> str:
    """Rounds until LeNet-300-100 keeps less than 5 % of its weights, at 20 % a round and 10 % in the output layer: 14."""
    value = number(answer)
    mistakes = {
        13: "after 13 rounds 5.6 % are left.",
        4: "a round takes 20 % of what is left, not of all weights; after four rounds 41 % are left.",
        5: "a round takes 20 % of what is left, not of all weights; after five rounds 33 % are left.",
        2: "you took 80 % a round; 20 % go and 80 % stay.",
        29: "that is the output layer at 10 % a round; nearly all weights are in the layers that lose 20 %.",
    }
    expect(value == int(value), f"{value:.4g} is not a whole number of rounds: round up.")
    expect(value not in mistakes, mistakes.get(int(value), ""))
    expect(value > 13, f"after {value:.0f} rounds more than 5 % are left.")
    expect(value < 15, "P_m is below 5 % already one round before; asked for is the first time.")
    return "0.8 to the power of 14 is 4.4 %, and the output layer adds a little: 4.5 % are left."


@checker
def shuffled(shuffle) -> str:
    """The kept entries permuted among themselves, zero elsewhere; for two densities, a row of one, and all kept."""
    random = torch.Generator().manual_seed(0)
    for special, shape, share in (("a matrix", (20, 30), 0.4), ("few kept", (9, 9), 0.1), ("all kept", (8, 5), 1.0)):
        w = torch.randn(shape, generator=random)
        mask = torch.rand(shape, generator=random) < share
        before = w.clone(), mask.clone()
        new, once_more, another = (shuffle(w, mask, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        place = f"With {special}:"
        expect(torch.equal(w, before[0]) and torch.equal(mask, before[1]), f"{place} your function changed its input.")
        right = isinstance(new, torch.Tensor) and new.shape == w.shape
        expect(right, f"{place} return a tensor of shape {tuple(shape)}; {describe(new)} came.")
        kept, found = w[mask].sort().values, new[mask].sort().values
        if not torch.equal(kept, found):
            expect(not new.ne(0).logical_and(~mask).any(), f"{place} entries left the mask; move them among kept places only.")
            expect(
                not torch.isin(found, w[~mask]).any(),
                f"{place} values from pruned places came in; permute only `w[mask]`.",
            )
            expect(len(found.unique()) == len(found), f"{place} a value came twice: draw an order, without replacement.")
            expect(
                torch.isin(found.abs(), kept.abs()).logical_not().any(), f"{place} values changed sign; move them as they are."
            )
            expect(False, f"{place} the kept values must be the same, in other places; yours are others.")
        expect(not new[~mask].any(), f"{place} entries that the mask does not keep must be zero.")
        expect(not torch.equal(new[mask], w[mask]), f"{place} nothing moved.")
        expect(torch.equal(new, once_more), f"{place} two calls with the same generator differ: pass it to `torch.randperm`.")
        expect(not torch.equal(new, another), f"{place} the order does not depend on the generator.")
    return "three cases agree: the same kept values, in other places, and nothing outside the mask."


@checker
def right_sizes(answer) -> str:
    """(prediction, loss above the ticket's with new weights, with its own weights shuffled), as Estimates."""
    prediction, new, own = prediction_then_run(answer, ("larger", "smaller", "gone"))
    expect(new.high > 0, f"with new weights your difference is negative ({new}): subtract the ticket's loss, and take losses.")
    said = verdict(prediction, trend(new, own), "What does shuffling keep, and what does it lose?")
    return f"the loss is above the ticket's by {new} with new weights and by {own} with its own, shuffled: {said}"


@checker
def first_layer_of_conv4(answer: object) -> str:
    """Weights of Conv-4's first fully connected layer: 8 · 8 · 128 inputs, 256 units."""
    value = number(answer)
    mistakes = {
        32 * 32 * 128 * 256: "each pooling halves both sides of the picture, and there are two.",
        16 * 16 * 128 * 256: "there are two poolings, one after each pair of convolutions.",
        16 * 16 * 64 * 256: "that is Conv-2, or one side halved only once. Conv-4 has two poolings, and each halves both sides.",
        8 * 8 * 64 * 256: "the second pair of convolutions has 128 channels.",
        8 * 8 * 128: "that is the number of inputs; each of the 256 units has a weight for each of them.",
        8 * 8 * 256: "the layer sees all 128 channels at each place.",
        8 * 8 * 128 * 256 + 256: "biases are not counted.",
        8 * 8 * 128 * 10: "ten is the size of the output layer; the first fully connected layer has 256 units.",
    }
    expect(value not in mistakes, mistakes.get(int(value), ""))
    expect(
        value == 8 * 8 * 128 * 256,
        f"{value:,.0f} is not it. How many numbers are left of a picture, and how many units see them?",
    )
    return "8,192 inputs and 256 units: 2,097,152, most of the 2.4 million of the whole network."


@checker
def reaches(first) -> str:
    """The smallest step whose validation loss is at most the given one; infinity where there is none."""

    def rows(*pairs):
        return [{"step": step, "valid_loss": loss, "test_accuracy": 0.5} for step, loss in pairs]

    down = ((0, 2.3), (20, 1.5), (40, 1.2), (60, 1.0), (80, 1.3))
    cases = (
        ("a loss that is left again", ((0, 2.0), (10, 1.1), (20, 1.0), (30, 1.15), (40, 1.6)), 1.2, 10),
        ("a loss that is met exactly", down, 1.2, 40),
        ("a loss that is never reached", down, 0.9, math.inf),
        ("a start that is good enough", down, 2.5, 0),
        ("rows in another order", (down[4], down[2], down[0], down[3], down[1]), 1.4, 40),
        ("a loss that is passed between two rows", down, 1.25, 40),
        ("no rows", (), 1.0, math.inf),
    )
    for special, pairs, loss, wanted in cases:
        given, step = rows(*pairs), first(rows(*pairs), loss)
        place = f"With {special}:"
        got = number(step) if step != math.inf else math.inf
        if got != wanted:
            met = [row["step"] for row in given if row["valid_loss"] <= loss]
            below = [row["step"] for row in given if row["valid_loss"] < loss]
            best = min(given, key=lambda row: row["valid_loss"])["step"] if given else None
            expect(bool(met), f"{place} no row is as good as that, so the answer is infinity; {describe(step)} came.")
            expect(
                met == below or got != min(below), f"{place} at step {wanted} it is reached: 'at most' includes the loss itself."
            )
            expect(met == sorted(met) or got != met[0], f"{place} the rows need not be in order of their steps.")
            expect(got != best, f"{place} {got:g} is the step of the smallest loss; asked for is the first that is good enough.")
            expect(got != max(met), f"{place} {got:g} is the last such step; asked for is the first.")
            known = got in [row["step"] for row in given]
            expect(known, f"{place} {got:g} is not one of the steps: return the row's step, not its position.")
            expect(False, f"{place} at step {got:g} the loss is not at most {loss}; step {wanted} is the first with it.")
    return "seven cases agree: met exactly, left again, never reached, and rows in any order."


@checker
def new_filters(answer) -> str:
    """(prediction, accuracy lost with all weights new, with new convolutions only), as Estimates."""
    prediction, everything, filters = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (everything, filters):
        expect(abs(measured.mean) <= 1, f"accuracies are shares, so a loss lies between -1 and 1; {measured} came.")
    expect(
        everything.high > 0, f"with all weights new your loss is negative ({everything}): subtract from the ticket's accuracy."
    )
    said = verdict(prediction, trend(everything, filters), "What do the fully connected layers read?")
    return f"lost were {everything} with all weights new and {filters} with new filters: {said}"
