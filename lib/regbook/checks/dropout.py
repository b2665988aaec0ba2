"""Feedback for the exercises of ``chapters/dropout``."""

import math

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
    question = "How much do early members disagree?"
    return f"the gain went from {before} to {after}: {verdict(prediction, trend(before, after), question)}"


# --- coarse to fine ------------------------------------------------------------------------------------------------


@checker
def half_amplitude(answer: object) -> str:
    """exp(−2π²σ²/64) = 1/2."""
    root = math.sqrt(math.log(2) / 2) / math.pi
    mistakes = {
        root / 8: "a period of 8 pixels is a frequency of 1/8 per pixel, not 8.",
        8 * root * math.pi: "π is missing: the exponent is −2π²σ²f².",
        16 * root * math.pi: "σ²f²/2 is the exponent for an angular frequency; f counts waves per pixel.",
        (8 * root) ** 2: "this is σ²; take the root.",
        8 * root * math.sqrt(2): "this halves the amplitude's root: the exponent is −2π²σ²f², with a factor 2.",
        8 * math.sqrt(math.log10(2) / 2) / math.pi: "take the natural logarithm.",
    }
    expect_number(number(answer), 8 * root, mistakes, "Solve 2π²σ²f² = ln 2 for σ, with f = 1/8.")
    return "about 1.5 pixels. Twice that leaves a sixteenth: σ stands squared in the exponent."


@checker
def shuffle_cells(answer) -> str:
    """Against a loop over cells, on one picture and on several with different permutations."""
    generator = torch.Generator().manual_seed(0)
    for n in (1, 3):
        x = torch.rand(n, 1, 64, 64, generator=generator)
        order = torch.rand(n, 64, generator=generator).argsort(1)
        given = x.clone()
        found = answer(x, order)
        place = f"With {n} picture{'s' if n > 1 else ''}:"
        expect(torch.equal(x, given), f"{place} your function changed its input; work on a copy.")
        expect(isinstance(found, torch.Tensor), f"{place} a tensor is needed, and {describe(found)} came.")
        expect(found.shape == x.shape, f"{place} {tuple(x.shape)} is needed, and {tuple(found.shape)} came.")
        mistakes = {
            "cell k of the new picture is cell order[n, k] of the old one; you moved cell k to order[n, k].": _cells(
                x, order.argsort(1)
            ),
            "all pictures got the permutation of the first.": _cells(x, order[:1].expand(n, -1)),
            "cells are numbered row by row; you numbered them column by column.": _cells(x.mT, order).mT,
            "the cells are in their places, but inside them rows and columns are exchanged.": _turned(_cells(x, order)),
            "nothing was moved.": x,
        }
        right = _cells(x, order)
        if not torch.equal(found, right):
            expect(not torch.equal(found, _cells(x, order, apart=True)), f"{place} these are pixels 8 apart, not cells of 8 × 8.")
            expect(False, f"{place} " + next((why for why, wrong in mistakes.items() if torch.equal(found, wrong)),
                                             "the cells are others. Follow one cell through your reshapes."))  # fmt: skip
    return "every cell is where it should be, each picture by its own permutation."


def _cells(x: torch.Tensor, order: torch.Tensor, apart: bool = False) -> torch.Tensor:
    """Cell k becomes cell ``order[n, k]``, one at a time; ``apart``: a cell is every eighth pixel."""
    made = torch.empty_like(x)

    def cell(k: int) -> tuple[slice, slice]:
        row, column = divmod(k, 8)
        if apart:
            return slice(row, None, 8), slice(column, None, 8)
        return slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8)

    for n, one in enumerate(order.tolist()):
        for k, old in enumerate(one):
            made[(n, 0, *cell(k))] = x[(n, 0, *cell(old))]
    return made


def _turned(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1, 1, 8, 8, 8, 8).transpose(3, 5).reshape(x.shape)


@checker
def more_labels(answer) -> str:
    """(prediction, gain with 300 labels, gain with 1,000), as Estimates of the gain in the share with both digits right."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"shares of right answers lie between 0 and 1; a gain of {measured} came.")
    expect(before.high > 0, f"with 300 labels your gain is negative ({before}): subtract one path from two paths.")
    question = "What does one path learn from examples that two paths know by their form?"
    return f"the gain went from {before} to {after}: {verdict(prediction, trend(before, after), question)}"
