"""Feedback for the exercises of ``chapters/start``."""

import math

import numpy as np

from regbook.checks import NotAttempted, checker, expect, number
from regbook.claims import estimate


@checker
def steps_taken(answer: object) -> str:
    """500 examples, batches of 64, 60 epochs, with a short last batch: 480 steps."""
    value = number(answer)
    expect(value != 60 * 7, "420 drops the last 52 examples of every epoch; a short batch is still a step.")
    expect(value != 8, "8 is the number of steps in one epoch; there are 60 of them.")
    expect(value != math.ceil(500 * 60 / 64), "469 lets batches run across epochs; here each epoch ends with a short batch.")
    expect(
        value == 480,
        f"{value:g} is not it. Count the batches of one epoch first: each example is used once, the last may be short.",
    )
    return "60 epochs of ⌈500/64⌉ = 8 steps are 480."


@checker
def paired_interval(interval) -> str:
    """Student's t interval of the mean of a − b, for 2 to 10 seeds, up to the three decimals of the given t."""
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 10):
        shared = rng.normal(size=n)
        a, b = (0.5 + shared + 0.1 * rng.normal(size=n)).tolist(), (shared + 0.1 * rng.normal(size=n)).tolist()
        answer = interval(a, b)
        expect(len(np.shape(answer)) == 1 and len(answer) == 2, f"return two numbers, (low, high); {answer!r} came.")
        low, high = map(number, answer)
        right = estimate(np.subtract(a, b))
        half, wanted = (high - low) / 2, (right.high - right.low) / 2
        place = f"For n = {n} seeds"
        expect(math.isclose((low + high) / 2, right.mean, abs_tol=1e-6),
               f"{place} the middle should be the mean of a − b, {right.mean:.4f}; yours is {(low + high) / 2:.4f}.")  # fmt: skip
        expect(half > 0, f"{place} low is not below high: ({low:.4f}, {high:.4f}).")
        mistakes = {
            wanted * math.sqrt((n - 1) / n): "the standard deviation divides by n; a sample's divides by n − 1.",
            wanted * math.sqrt(n): "the standard deviation is not divided by √n: that is the spread of one run, not of the mean.",
            1.96 * right.std / math.sqrt(n): "1.96 is for many runs; take t from the table.",
            _unpaired_half_width(a, b, n): "the arms are treated as independent; subtract seed by seed first.",
        }
        for mistaken, why in mistakes.items():
            expect(not math.isclose(half, mistaken, rel_tol=1e-3) or math.isclose(half, wanted, rel_tol=1e-3), f"{place} {why}")
        expect(math.isclose(half, wanted, rel_tol=1e-3), f"{place} half the width should be {wanted:.4f}; yours is {half:.4f}.")
    return "your interval agrees with Student's for 2, 3, 5 and 10 seeds."


def _unpaired_half_width(a: list[float], b: list[float], n: int) -> float:
    ta, tb = estimate(a), estimate(b)
    return math.hypot((ta.high - ta.low) / 2, (tb.high - tb.low) / 2)


@checker
def gain_with_more_data(answer) -> str:
    """(prediction, gain with 300 examples, gain with 3,000), gains as fractions of the test set."""
    prediction, few, many = answer
    if ... in (prediction, many) or None in (prediction, many):
        raise NotAttempted
    few, many = number(few), number(many)
    expect(prediction in ("larger", "smaller", "gone"), f'predict "larger", "smaller" or "gone"; {prediction!r} came.')
    expect(abs(few) < 1 and abs(many) < 1, f"gains are fractions of the test set, such as 0.03; {few:g} and {many:g} came.")
    expect(many != few, "both gains are the same number: run the comparison again with 3,000 examples.")
    expect(
        many < few,
        f"you measured a larger gain with more data ({many:.3f} against {few:.3f}): were the arms given the same steps?",
    )
    outcome = "smaller, not gone" if many > 0.002 else "close to nothing"
    verdict = "as you predicted" if prediction == "smaller" else f"you predicted {prediction!r}: what do shifts replace?"
    return f"the gain fell from {few:.3f} to {many:.3f}, {outcome} — {verdict}"
