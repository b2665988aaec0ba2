"""Feedback for the exercises of ``chapters/start``."""

import math

import numpy as np

from regbook.checks import checker, expect, number, prediction_then_run, trend, verdict
from regbook.claims import estimate


@checker
def steps_taken(answer: object) -> str:
    """500 examples, batches of 64, 60 epochs, with a short last batch: 480 steps."""
    value = number(answer)
    expect(value != 60 * 7, "420 drops the last 52 examples of every epoch; a short batch is still a step.")
    expect(value != 8, "8 is the number of steps in one epoch; there are 60 of them.")
    expect(value != math.ceil(500 * 60 / 64), "469 lets batches run across epochs; here each epoch ends with a short batch.")
    expect(value == 480, f"{value:g} is not it. Count the batches of one epoch first: each example is used once.")
    return "60 epochs of ⌈500/64⌉ = 8 steps are 480."


@checker
def paired_interval(interval) -> str:
    """Student's t interval of the mean of a − b (NumPy arrays), for 2 to 10 seeds, to a thousandth of its width."""
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 10):
        shared = rng.normal(size=n)
        a, b = 0.5 + shared + 0.1 * rng.normal(size=n), shared + 0.1 * rng.normal(size=n)
        answer = interval(a, b)
        expect(np.shape(answer) == (2,), f"return two numbers, (low, high); {answer!r} came.")
        low, high = map(number, answer)
        right = estimate(a - b)
        half, wanted = (high - low) / 2, (right.high - right.low) / 2
        place = f"For n = {n} seeds:"
        expect(
            abs((low + high) / 2 - right.mean) < 1e-3 * wanted,
            f"{place} the middle should be the mean of a − b, {right.mean:.4f}; yours is {(low + high) / 2:.4f}.",
        )
        expect(half > 0, f"{place} low is not below high: ({low:.4f}, {high:.4f}).")
        if math.isclose(half, wanted, rel_tol=1e-3):
            continue
        mistakes = {
            wanted * math.sqrt((n - 1) / n): "the standard deviation divides by n; a sample's divides by n − 1.",
            wanted * math.sqrt(n): "the standard deviation is not divided by √n: that is the spread of one run, not of the mean.",
            1.96 * right.std / math.sqrt(n): "1.96 is for many runs; take t from the table.",
            _unpaired_half_width(a, b): "the arms are treated as independent; subtract seed by seed first.",
        }
        for mistaken, why in mistakes.items():
            expect(not math.isclose(half, mistaken, rel_tol=1e-3), f"{place} {why}")
        expect(False, f"{place} half the width should be {wanted:.4f}; yours is {half:.4f}.")
    return "your interval agrees with Student's for 2, 3, 5 and 10 seeds."


def _unpaired_half_width(a: np.ndarray, b: np.ndarray) -> float:
    return math.hypot(*((e.high - e.low) / 2 for e in (estimate(a), estimate(b))))


@checker
def gain_with_more_data(answer) -> str:
    """(prediction, gain with 300 examples, gain with 1,500), gains as Estimates of a difference of test accuracies."""
    prediction, few, many = prediction_then_run(answer, ("larger", "smaller", "gone"))
    expect(few.mean > 0, f"your gain with 300 examples is negative ({few}): subtract the control from the shifted arm.")
    expect(many.mean > -few.mean / 2, f"your gain with 1,500 examples is {many}: subtract the control from the shifted arm.")
    expect(abs(few.mean) < 1 and abs(many.mean) < 1, f"gains are differences of accuracies, below one; {few} and {many} came.")
    said = verdict(prediction, trend(few, many), "What do shifts replace?")
    return f"the gain went from {few} to {many}: {said}"
