"""Feedback for the exercises of ``chapters/pruning``."""

import torch

from regbook.checks import checker, describe, expect, number, prediction_then_run


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
    outcome = "gone" if own.low <= 0 else "larger" if own.mean > new.mean else "smaller"
    verdict = (
        "as you predicted."
        if prediction == outcome
        else f"you predicted {prediction!r}. What does shuffling keep, and what does it lose?"
    )
    return f"the loss is above the ticket's by {new} with new weights and by {own} with its own, shuffled: {outcome!r}, {verdict}"
