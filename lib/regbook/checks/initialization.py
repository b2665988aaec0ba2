"""Feedback for the exercises of ``chapters/initialization``."""

import math

from regbook.checks import NotAttempted, checker, expect, number


@checker
def twenty_layers(answer: object) -> str:
    """(σ√n)^20 for σ = 0.01 and n = 1024: 0.32^20 ≈ 1.3e-10, to 1 %."""
    value = number(answer)
    gain = 0.01 * math.sqrt(1024)

    def near(wanted: float) -> bool:
        return math.isclose(value, wanted, rel_tol=0.01)

    expect(not near(gain), "0.32 is the factor of one layer; there are twenty.")
    expect(not near(gain**-20), "that is how much larger the input is; the factor asked for is below one.")
    expect(not near(gain**40), "that is the factor of the variance; the standard deviation is its root.")
    expect(not near(0.01**20), "σ alone is not the gain: a unit adds up 1024 inputs, so use σ√n.")
    expect(not near((0.01 * 1024) ** 20), "the inputs are independent, so their variances add up: use √n, not n.")
    expect(not near(20 * gain), "factors multiply from layer to layer; you added them.")
    expect(near(gain**20), f"{value:.3g} is not it. One layer multiplies the standard deviation by its gain σ√n.")
    return "0.32 to the power of 20 is about 1.3e-10: nothing arrives at layer 20."


@checker
def leaky_std(std) -> str:
    """√(2 / (fan_in (1 + slope²))), He et al. 2015, eq. 15; to six digits, including slope 0, 1 and −1, and fan_in 1."""
    for fan_in, slope in ((256, 0.2), (100, 0.0), (64, 1.0), (1, 0.5), (4096, 0.01), (9, -1.0)):
        value = number(std(fan_in, slope))
        wanted = math.sqrt(2 / (fan_in * (1 + slope**2)))
        place = f"For fan_in = {fan_in} and slope = {slope}"
        mistakes = {
            wanted**2: "that is the variance σ²; the standard deviation is its root.",
            math.sqrt(2 / fan_in): "that is the start for ReLU; a leaky unit passes on part of the negative side.",
            math.sqrt(1 / fan_in): "that keeps a linear layer's variance; φ changes it.",
            math.sqrt(2 / (fan_in * (1 + slope) ** 2))
            if slope != -1
            else None: "the two sides contribute 1 and a² to E[h²], not (1 + a)².",
            math.sqrt(2 / (fan_in * (1 + abs(slope)))): "the negative side is scaled by a, so its square by a².",
            math.sqrt(1 / (fan_in * (1 + slope**2))): "each side is seen half of the time: a factor 1/2 is missing in E[h²].",
        }
        right = math.isclose(value, wanted, rel_tol=1e-6)
        for mistaken, why in mistakes.items():
            expect(right or mistaken is None or not math.isclose(value, mistaken, rel_tol=1e-6), f"{place} {why}")
        expect(right, f"{place} σ should be {wanted:.6g}; yours is {value:.6g}.")
    return "right for six pairs, from ReLU (slope 0) to linear (slope 1). Smaller than ReLU's: a leaky unit loses less."


@checker
def advantage(answer) -> str:
    """(prediction, advantage at the learning rate 0.01, advantage at 0.1), both as differences of training loss."""
    prediction, slow, fast = answer
    if ... in (prediction, fast) or None in (prediction, fast):
        raise NotAttempted
    slow, fast = number(slow), number(fast)
    expect(prediction in ("larger", "smaller", "around"), f'predict "larger", "smaller" or "around"; {prediction!r} came.')
    expect(fast != slow, "both differences are the same number: run the comparison again with lr = 0.1.")
    expect(
        fast < slow,
        f"you measured a larger advantage with the larger rate ({fast:.3f} against {slow:.3f}): is it σ = 0.01 minus 1/√n?",
    )
    outcome = "smaller" if fast > 0 else "around"
    verdict = "as you predicted" if prediction == outcome else f"you predicted {prediction!r}: what does a larger rate buy?"
    return f"the advantage went from {slow:.3f} to {fast:.3f}: {outcome!r} — {verdict}"
