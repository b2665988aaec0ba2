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


# --- noisy labels --------------------------------------------------------------------------------------------------


@checker
def true_accuracy(answer: object) -> str:
    """k = 5, a fifth wrong, agreement 0.725: (0.725 − 0.05)/0.75 = 0.9."""
    value = number(answer)
    mistakes = {
        0.725: "that is the agreement with the labels, of which a fifth is wrong.",
        0.725 / 0.8: "wrong labels agree with the network too, where it makes the same mistake by luck.",
        0.675 / 0.8: "the lucky agreements get fewer as the network gets better: the slope is not 1 − η.",
        (0.725 - 0.04) / 0.76: "a wrong label is one of the k − 1 = 4 others, not of all 5.",
    }
    expect_number(value, 0.9, mistakes, "Which a solves 0.8 a + 0.2 (1 − a)/4 = 0.725?", rel_tol=5e-4)
    return "0.8 · 0.9 + 0.2 · 0.1/4 = 0.725."


@checker
def forgetting_events(answer) -> str:
    """Against a loop over epochs, with a single epoch among the inputs."""
    generator = torch.Generator().manual_seed(0)
    for epochs, n in ((6, 7), (12, 30), (2, 5), (1, 4)):
        right = torch.rand(epochs, n, generator=generator) < 0.6
        given = right.clone()
        found = answer(right)
        place = f"With {epochs} epoch{'s' * (epochs > 1)} and {n} examples:"
        expect(torch.equal(right, given), f"{place} your function changed its input; work on a copy.")
        expect(isinstance(found, torch.Tensor), f"{place} a tensor is needed, and {describe(found)} came.")
        expect(found.shape == (n,), f"{place} one count an example is asked for, and shape {tuple(found.shape)} came.")
        events, learned = (
            sum((a[i] & ~a[i + 1] if i + 1 < epochs else torch.zeros(n)).long() for i in range(epochs)) for a in (right, ~right)
        )
        mistakes = {
            "you counted both directions; only the change from right to wrong is forgetting.": events + learned,
            "you counted how often an example is learned, from wrong to right.": learned,
            "you counted the epochs in which it is wrong; an example that stays wrong is forgotten once at most.": (~right).sum(
                0
            ),
            "you counted whether it was ever forgotten, not how often.": (events > 0).long(),
        }
        if not torch.equal(found.long(), events):
            for mistake, counts in mistakes.items():
                expect(not torch.equal(found.long(), counts), f"{place} {mistake}")
            expect(False, f"{place} the counts are others. Compare each epoch with the next one.")
    return "right in one epoch, wrong in the next."


@checker
def clean_labels(answer) -> str:
    """(prediction, gain at 40 % wrong labels, gain without any), as Estimates of the gain in test accuracy."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"accuracies lie between 0 and 1; a gain of {measured} came.")
    expect(before.high > 0, f"at 40 % your gain is negative ({before}): subtract no regularizer from the curriculum.")
    outcome = verdict(prediction, trend(before, after), "Which examples have the largest losses when all labels are true?")
    return f"the gain went from {before} to {after}: {outcome}"
