"""Feedback for the exercises of ``chapters/early-stopping``."""

import math
from collections.abc import Sequence

import torch

from regbook.checks import checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict


@checker
def patience_by_hand(answer: object) -> str:
    """2.30, 1.90, 1.75, 1.80, 1.78, 1.75, 1.79, 1.70: four evaluations without a strictly smaller value, so 5."""
    value = number(answer)
    mistakes = {
        3: "an equal value is not an improvement, so the second 1.75 does not set the counter to zero.",
        4: "the counter reaches 4 at the 1.79, and the run ends there; it has to stay below p.",
        350: "that is the step of the 1.70; asked for is a patience, counted in evaluations.",
        250: "patience is counted in evaluations, not in steps.",
        200: "patience is counted in evaluations, not in steps.",
        7: "you counted from the start; the counter goes back to zero at the first 1.75.",
        2: "the counter goes on growing until a value is smaller than the best one, not only than the one before.",
    }
    expect(value not in mistakes, mistakes.get(value, ""))
    expect(value == 5, f"{value:.4g} is not it. Write the counter under each value.")
    return "the counter reaches 4 at the 1.79; with p = 5 the run goes on and finds the 1.70."


def _stop(values: Sequence[float], p: int, delta: float, mistake: str = "") -> tuple[int, int]:
    """Patience with a smallest improvement, or with one of the usual mistakes."""
    best, kept, j = math.inf, 0, 0
    for i, value in enumerate(values):
        bar = best if mistake == "ignore" else best - delta
        if value < bar or (mistake == "equal" and value == bar):
            best, kept, j = value, i, 0 if mistake != "count on" else j
        else:
            j += 1
            best = min(best, value) if mistake == "creep" else value if mistake == "previous" else best
            kept = i if mistake == "keep the smallest" and value < min(values[:i]) else kept
        if j == p + (mistake == "late"):
            break
    return (i, i) if mistake == "last" else (kept, i)


MISTAKES = {
    "equal": "a value that lies below the best by exactly δ came, and it must lie below by more.",
    "ignore": "every smaller value counts for you; it must be smaller by more than δ.",
    "creep": "a small improvement moved your best value; then a slow descent never adds up to δ. Only a value that counts may.",
    "previous": "you compare with the value before; compare with the best one that counted.",
    "count on": "your counter is not set to zero by an improvement, so it counts bad values from the start.",
    "late": "you stop one evaluation late: stop as soon as the counter reaches p.",
    "last": "you return where the run stopped as the value that is kept; keep the position of the best one.",
    "keep the smallest": "you keep a value that did not count; keep the last one that did.",
}
CASES = (  # exact in binary, so that equal means equal
    ("an equal value", [4.0, 3.0, 3.0, 3.5, 2.0], 2, 0.0),
    ("a run that never stops early", [4.0, 3.0, 2.0, 1.0], 2, 0.0),
    ("bad values with improvements between", [4.0, 5.0, 3.0, 3.5, 2.0, 2.5, 1.0, 3.0, 3.0], 2, 0.0),
    ("an improvement by exactly δ", [4.0, 3.0, 2.5, 2.75, 1.0], 2, 0.5),
    ("a slow descent", [4.0, 3.75, 3.5, 3.25, 3.0, 2.75, 2.5], 4, 0.5),
    ("small improvements at the end", [4.0, 2.0, 1.75, 1.75, 1.0], 2, 0.5),
    ("a bump", [4.0, 2.0, 3.0, 2.25, 2.0, 0.5], 3, 0.0),
    ("patience 1", [2.0, 1.0, 1.5, 0.5], 1, 0.0),
    ("one value", [2.0], 1, 0.25),
)


@checker
def stop_at(answer) -> str:
    """(position kept, last position looked at) for nine lists, against Algorithm 7.1 with a smallest improvement."""
    given = [(special, list(values), p, delta, answer(values[:], p, delta)) for special, values, p, delta in CASES]
    pairs = [pair for *_, pair in given]
    for special, values, p, delta, pair in given:
        place = f"With {special} ({values}, p = {p}, δ = {delta}):"
        good = isinstance(pair, tuple | list) and len(pair) == 2
        expect(good, f"{place} return two positions; {describe(pair)} came.")
        wanted = _stop(values, p, delta)
        if tuple(pair) == wanted:
            continue
        expect(tuple(pair)[::-1] != wanted, f"{place} first the position that is kept, then the last one.")
        expect(tuple(pair) != tuple(i + 1 for i in wanted), f"{place} count positions from 0.")
        for mistake, why in MISTAKES.items():
            same = [tuple(pair) == _stop(*case, mistake) for (_, *case), pair in zip(CASES, pairs, strict=True)]
            expect(not all(same), f"{place} {why}")
        expect(False, f"{place} {wanted} is right, and {tuple(pair)} came.")
    return "nine lists agree, with equal values, slow descents and bumps among them."


@checker
def clean_labels(answer) -> str:
    """(prediction, gain of patience 8 with noisy labels, without noise), as Estimates of a difference of accuracies."""
    prediction, noisy, clean = prediction_then_run(answer, ("larger", "smaller", "gone"))
    expect(
        noisy.low > 0, f"with noise your gain is not positive ({noisy}): subtract 'to the end' from 'patience 8', in accuracy."
    )
    expect(abs(clean.mean) <= 1, f"accuracies are shares, so a gain lies between -1 and 1; {clean} came.")
    said = verdict(prediction, trend(noisy, clean), "What was there to unlearn?")
    return f"the gain went from {noisy} to {clean}: {said}"


@checker
def coin(answer: object) -> str:
    """The entropy of 6 heads in 10, in nats: 0.6730, to three digits."""
    value = number(answer)
    mistakes = {
        0.325: "that is ε, the loss on the subtrain set at q = 0.9; asked for is the smallest loss on the validation set.",
        0.971: "that is in bits; the loss is the natural logarithm.",
        0.727: "that is the loss at q = 0.75, where training on all throws goes; another q is better for the validation set.",
        0.984: "that is the validation loss at q = 0.9; let q move.",
        0.6: "that is the best q; asked for is the loss there.",
        0.511: "that is −ln 0.6; four of ten throws are tails and cost −ln 0.4.",
        6.73: "that is the sum over ten throws; the loss is their mean.",
    }
    expect_number(value, 0.673, mistakes, "Set the derivative with respect to q to zero.", abs_tol=2e-3)
    return "the entropy of the validation labels, 0.673, is twice as large as ε = 0.325: the loop would not end."


LENGTHS = ((170, 300, 300, 30), (100, 300, 300, 32), (50, 90, 10, 64), (45, 100, 100, 30), (70, 100, 400, 32))


def _batches(n: int, size: int) -> int:
    return -(-n // size)


AS_LONG = {  # the first is right, the others are the usual mistakes
    "": lambda i, n, v, b: round(i * _batches(n + v, b) / _batches(n, b)),
    "those are as many steps; the larger set needs more for as many passes.": lambda i, n, v, b: i,
    "count batches, not examples: the last one of a pass may be short, and it is a step too.": lambda i, n, v, b: round(
        i * (n + v) / n
    ),
    "the second set is subtrain and validation together.": lambda i, n, v, b: round(i * _batches(v, b) / _batches(n, b)),
    "the ratio is upside down: the larger set needs more steps.": lambda i, n, v, b: round(
        i * _batches(n, b) / _batches(n + v, b)
    ),
    "short batches are steps too: round the batches of a pass up.": lambda i, n, v, b: round(i * ((n + v) // b) / (n // b)),
    "add the examples first, then count batches; two short batches become one.": lambda i, n, v, b: round(
        i * (_batches(n, b) + _batches(v, b)) / _batches(n, b)
    ),
    "round to the nearest whole number, and only at the end.": lambda i, n, v, b: i * _batches(n + v, b) // _batches(n, b),
}


@checker
def as_long(answer) -> str:
    """round(i · ⌈(n + v) / B⌉ / ⌈n / B⌉), for sets that fill their batches and sets that do not."""
    values = [answer(*case) for case in LENGTHS]
    for value, (i, n, v, size) in zip(values, LENGTHS, strict=True):
        place, right = f"For i = {i}, {n} and {v} examples, batches of {size}:", AS_LONG[""](i, n, v, size)
        expect(isinstance(value, int), f"{place} a whole number of steps is needed; {describe(value)} came.")
        for why, formula in AS_LONG.items():
            same = values == [formula(*case) for case in LENGTHS]
            expect(value == right or not same, f"{place} {why}")
        expect(value == right, f"{place} {right} steps make as many passes; yours are {value}.")
    return "five cases agree, with full and with short batches."


@checker
def hold_out_less(answer) -> str:
    """(prediction, gain in loss of 7.2 with half held out, with a tenth), as Estimates of stopping alone minus 7.2."""
    prediction, half, tenth = prediction_then_run(answer, ("larger", "smaller", "gone"))
    expect(half.high > 0, f"with half held out your gain is negative ({half}): subtract 7.2's loss from that of stopping alone.")
    said = verdict(prediction, trend(half, tenth), "How many examples come back?")
    return f"the gain went from {half} to {tenth}: {said}"


@checker
def steps_by_hand(answer: object) -> str:
    """1 / (0.1 · 2 · 0.005) = 1000, to half a per cent."""
    value = number(answer)
    mistakes = {
        2000: "λ Σw² is (α/2) Σw² with α = 2λ; you took λ for α.",
        4000: "λ Σw² is (α/2) Σw² with α = 2λ, twice λ and not half of it.",
        200: "that is 1/λ: the learning rate is missing, and α is 2λ.",
        100: "that is 1/α, which is τ times ε. A smaller learning rate needs more steps.",
        10: "you multiplied by ε. A smaller learning rate needs more steps.",
        20: "you multiplied by ε, and took λ for α.",
        0.001: "that is εα, one over the number of steps.",
    }
    expect_number(value, 1000, mistakes, "Find α first, then 1/(εα).", rel_tol=5e-3)
    return "α = 0.01, and 1/(0.1 · 0.01) = 1000 steps."


@checker
def matched_steps(answer) -> str:
    """−log(1 + h/α) / log(1 − εh), and 1/(εα) where h is 0; curvatures over nine decades."""
    wide = torch.logspace(-9, 0, 10, dtype=torch.float64)
    for h, rate, alpha in (
        (torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64), 0.5, 0.5),
        (torch.tensor([3.0], dtype=torch.float64), 0.3, 0.01),
        (wide, 0.9, 0.02),
        (torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), 0.1, 0.2),
    ):
        given = h.clone()
        tau = answer(h, rate, alpha)
        place = f"For ε = {rate}, α = {alpha}:"
        expect(torch.equal(h, given), "your function changes its input h; make a new tensor.")
        expect(isinstance(tau, torch.Tensor) and tau.shape == h.shape, f"{place} the result must be a tensor of the shape of h.")
        tau, flat = tau.to(h), h == 0
        level = torch.full_like(h, 1 / (rate * alpha))
        safe = torch.where(flat, 1, h)
        descent, decay = torch.log1p(-rate * safe), torch.log1p(safe / alpha)
        right = torch.where(flat, level, -decay / descent)
        expect(not tau[flat].isnan().any(), f"{place} h = 0 gives 0/0; return what the answer tends to as h → 0.")
        if not torch.allclose(tau, right, rtol=1e-5):
            _explain(place, tau[~flat], rate, alpha, h[~flat])
        at = ((tau - right) / right).abs().argmax()
        wanted, came, curvature = (v[at].item() for v in (right, tau, h))
        expect(
            math.isclose(wanted, came, rel_tol=1e-5),
            f"{place} h = {curvature:.3g} should give {wanted:.6g}; yours is {came:.6g}.",
        )
    return "four cases agree, with curvatures from 1e-9 to 3 and level directions among them."


def _explain(place: str, tau: torch.Tensor, rate: float, alpha: float, h: torch.Tensor) -> None:
    """Reject a wrong ``tau`` by name where it is one of the usual mistakes."""
    descent, decay = torch.log1p(-rate * h), torch.log1p(h / alpha)
    mistakes = {
        "that is the approximation, one number for all directions; do not approximate the logarithms.": 1 / (rate * alpha)
        + 0 * h,
        "you replaced log(1 − εh) by −εh; keep it.": decay / (rate * h),
        "you replaced log(1 + h/α) by h/α; keep it.": -h / alpha / descent,
        "the sign: both logarithms are there, but log(1 − εh) is negative and steps are not.": decay / descent,
        "what is left over must agree with α/(h + α), the share that is lost; you forgot the one minus.": torch.log(
            h / (h + alpha)
        )
        / descent,
        "that is the share that the penalty keeps, not a number of steps.": h / (h + alpha),
        "the quotient is upside down.": -descent / decay,
        "the curvature of (α/2) Σw² is α, not 2α.": -torch.log1p(h / (2 * alpha)) / descent,
        "do not round: the steps must match exactly.": (-decay / descent).round(),
    }
    for why, mistaken in mistakes.items():
        expect(not torch.allclose(tau, mistaken, rtol=1e-5), f"{place} {why}")


@checker
def momentum(answer) -> str:
    """(prediction, steps without momentum, steps with μ = 0.9), as Estimates of a number of steps."""
    outcomes = {"the same": 1.0, "a third": 1 / 3, "a tenth": 0.1}
    prediction, plain, fast = prediction_then_run(answer, tuple(outcomes))
    expect(plain.low > 100, f"without momentum you needed {plain} steps; it takes hundreds. Start at zero, with the page's rate.")
    expect(fast.low >= 1, f"{fast} is no number of steps.")
    ratio = fast.mean / plain.mean
    expect(ratio < 2, f"with momentum it took {fast} steps and without {plain}: give the run without momentum first.")
    outcome = min(outcomes, key=lambda name: abs(math.log(ratio / outcomes[name])))
    said = verdict(prediction, outcome, "How long does v become?")
    return f"{plain} steps without momentum, {fast} with: about {said}"
