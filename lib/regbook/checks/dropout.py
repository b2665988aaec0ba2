"""Feedback for the exercises of ``chapters/dropout``."""

import torch
import torch.nn.functional as F

from regbook.checks import checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict

# --- bagging -------------------------------------------------------------------------------------------------------


@checker
def members_by_hand(answer: object) -> str:
    """v = 4, c = 1: the smallest k with 1 + 3/k ≤ 1.25."""
    value = number(answer)
    expect(
        value not in (3.2, 4), "4/k is the error of members whose errors do not go together. Here the products have the mean 1."
    )
    expect(value != 16, "the share of c is (k − 1)/k, not 1: with c + v/k you count each square twice.")
    expect(value not in (11, 13), "with 12 members the error is exactly 1.25, and that is enough.")
    expect(value == 12, f"{value:.4g} is not it. For which k is 4/k + (k − 1)/k at most 1.25?")
    return "1 + 3/12 = 1.25. Twice as many members would still leave 1.125."


@checker
def out_of_bag(answer) -> str:
    """Against a loop over examples, on bootstrap sets and with an example that every member saw."""
    generator = torch.Generator().manual_seed(0)
    for k, n, classes in ((7, 5, 3), (4, 12, 2), (30, 9, 4)):
        p = torch.rand(k, n, classes, generator=generator).softmax(-1)
        rows = torch.randint(n, (k, n), generator=generator)
        given = p.clone(), rows.clone()
        found = answer(p, rows)
        place = f"With {k} members and {n} examples:"
        expect(
            torch.equal(p, given[0]) and torch.equal(rows, given[1]), f"{place} your function changed its input; work on a copy."
        )
        expect(isinstance(found, torch.Tensor), f"{place} a tensor is needed, and {describe(found)} came.")
        _compare_out_of_bag(place, found, p, rows)
    p, rows = torch.rand(2, 3, 2, generator=generator), torch.tensor([[0, 1, 1], [0, 0, 2]])
    _compare_out_of_bag("With an example that both members saw:", answer(p, rows), p, rows)
    return "each example is judged only by members that never saw it."


def _compare_out_of_bag(place: str, found: torch.Tensor, p: torch.Tensor, rows: torch.Tensor) -> None:
    seen = F.one_hot(rows, p.shape[1]).sum(1)  # how often, k × n
    unseen = (seen == 0).to(p.dtype)[..., None]
    right = (unseen * p).sum(0) / unseen.sum(0)
    judged = (seen == 0).any(0)
    expect(found.shape == right.shape, f"{place} n × classes is {tuple(right.shape)}, and {tuple(found.shape)} came.")

    def same(other: torch.Tensor) -> bool:
        return torch.allclose(found[judged], other[judged].to(found.dtype), atol=1e-5)

    seen_only = ((1 - unseen) * p).sum(0) / (1 - unseen).sum(0)
    mistakes = {
        "you averaged all members, also those that were trained on the example.": p.mean(0),
        "you averaged the members that saw the example.": seen_only,
        "you divided by all members; divide by the number of those that did not see the example.": (unseen * p).mean(0),
    }
    for mistake, result in mistakes.items():
        expect(not same(result), f"{place} {mistake}")
    expect(same(right), f"{place} the means are others. Member i saw exactly the examples whose indices stand in rows[i].")
    expect(found[~judged].isnan().all(), f"{place} NaN is asked for where all members saw the example.")


@checker
def early_members(answer) -> str:
    """(prediction, gain with 100 steps, gain with 30), as Estimates of the gain in the share of right answers."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"shares of right answers lie between 0 and 1; a gain of {measured} came.")
    expect(before.high > 0, f"with 100 steps your gain is negative ({before}): subtract one member from the average.")
    outcome = "gone" if after.low <= 0 else "larger" if after.mean > before.mean else "smaller"
    verdict = (
        "as you predicted." if prediction == outcome else f"you predicted {prediction!r}. How much do early members disagree?"
    )
    return f"the gain went from {before} to {after}: {outcome!r}, {verdict}"


# --- schedules-and-depth -------------------------------------------------------------------------------------------


@checker
def blocks_by_hand(answer: object) -> str:
    """20 blocks, p_L = 0.5: 20 − 21 · 0.5 / 2 = 14.75 blocks on average."""
    mistakes = {
        15: "three quarters of 20 would be right if l counted from one half; l counts from 1, so every block loses a little more.",
        15.25: "l counts from 1 to L, and you counted from 0 to L − 1: block 1 is dropped now and then, too.",
        10: "only the last block has the probability p_L; the first ones are nearly always there.",
        5.25: "that is how many are dropped.",
        20: "that is the number at test time.",
    }
    expect_number(number(answer), 14.75, mistakes, "Add up p_l = 1 − (l/20) · 0.5 for l = 1, …, 20.", rel_tol=1e-3)
    return "20 − 5.25 = 14.75."


@checker
def residual_rows(block) -> str:
    """x + mask · f(x)/p, one draw an example, against its definition: test time, p = 1, p = 0, and 2,000 rows at p = 0.25."""
    x = torch.rand(2000, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    f = x.square()

    def out(p: float, training: bool) -> torch.Tensor:
        found = block(x.clone(), torch.square, p, training)
        place = f"With p = {p} and training={training}:"
        expect(isinstance(found, torch.Tensor), f"{place} a tensor is needed, and {describe(found)} came.")
        expect(found.shape == x.shape, f"{place} the output should have the shape {tuple(x.shape)}; {tuple(found.shape)} came.")
        expect(not found.isnan().any(), f"{place} NaN came. What do you divide by, if nothing survives?")
        return found

    found = out(0.25, False)
    expect(
        not torch.allclose(found, x + 0.25 * f), "at test time you multiply by p: that is the paper's rule. Here training scales."
    )
    expect(torch.allclose(found, x + f), "at test time nothing is drawn and nothing scaled: x + f(x).")
    expect(torch.allclose(out(1.0, True), x + f), "with p = 1 every branch survives: x + f(x).")
    expect(torch.allclose(out(0.0, True), x), "with p = 0 no branch survives, and the output is x.")

    found = out(0.25, True)
    expect(not (found == 0).any(), "where the branch is dropped, x has to go on: you dropped the sum.")
    factor = ((found - x) / f).flatten(1)
    expect((factor == factor[:, :1]).all() or torch.allclose(factor, factor[:, :1].expand_as(factor)),
           "the numbers of one example are dropped apart from each other, as in dropout; draw one number an example.")  # fmt: skip
    alive = factor[:, 0].abs() > 1e-9
    expect(0 < alive.sum() < len(x), "one draw decides for the whole batch; each example draws its own.")
    rate = alive.double().mean().item()
    expect(abs(rate - 0.75) > 0.05, "three quarters survive with p = 0.25: here p is the probability of keeping.")
    expect(abs(rate - 0.25) < 0.05, f"with p = 0.25 the share of branches that survive is {rate:.2f}.")
    scale = factor[alive, 0].mean().item()
    expect(abs(scale - 1) > 1e-6, "a branch that survives has to be divided by p, or test time sees more than training did.")
    expect(abs(scale - 4) < 1e-6, f"with p = 0.25 a branch that survives counts 4 times; yours counts {scale:.3g} times.")
    return "every example draws for itself, and on average the branch counts once."


@checker
def clean_lead(answer) -> str:
    """(prediction, lead of curriculum over none with wrong labels, with right ones), Estimates of differences of accuracy."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"accuracies are shares, so a lead lies between -1 and 1; {measured} came.")
    expect(before.high > 0, f"with wrong labels your lead is negative ({before}): subtract none from curriculum.")
    told = verdict(prediction, trend(before, after), "Which labels can still do harm when they are learned by heart?")
    return f"the lead went from {before} to {after}: {told}"
