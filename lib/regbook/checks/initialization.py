"""Feedback for the exercises of ``chapters/initialization``."""

import math

import torch

from regbook.checks import checker, describe, expect, number, prediction_then_run


@checker
def twenty_layers(answer: object) -> str:
    """(σ√n)^20 for σ = 0.01 and n = 1024: 0.32^20 ≈ 1.3e-10, to 5 %."""
    value = number(answer)
    gain = 0.01 * math.sqrt(1024)

    def near(wanted: float) -> bool:
        return math.isclose(value, wanted, rel_tol=0.05)

    expect(not near(gain), "0.32 is the factor of one layer; there are twenty.")
    expect(not near(gain**-20), "that is how many times larger the input is; asked for is the share that is left.")
    expect(not near(gain**40), "that is the share of the variance; the standard deviation is its root.")
    expect(not near(0.01**20), "σ alone is not the gain: a unit adds up 1024 inputs, so use σ√n.")
    expect(not near((0.01 * 1024) ** 20), "the terms are independent, so their variances add up: use √n, not n.")
    expect(not near(20 * gain), "factors multiply from layer to layer; you added them.")
    expect(near(gain**20), f"{value:.3g} is not it. One layer multiplies the standard deviation by its gain σ√n.")
    return "0.32 to the power of 20 is about 1.3e-10: nothing arrives at layer 20."


@checker
def leaky_std(std) -> str:
    """√(2 / (fan_in (1 + slope²))), He et al. 2015, eq. 15; to six digits, including slope 0, 1 and −1, and fan_in 1."""
    for fan_in, slope in ((256, 0.2), (100, 0.0), (64, 1.0), (1, 0.5), (4096, 0.01), (9, -1.0)):
        value = number(std(fan_in, slope))
        wanted = math.sqrt(2 / (fan_in * (1 + slope**2)))
        if math.isclose(value, wanted, rel_tol=1e-6):
            continue
        place = f"For fan_in = {fan_in} and slope = {slope}:"
        mistakes = {
            wanted**2: "that is the variance σ²; the standard deviation is its root.",
            math.sqrt(2 / fan_in): "that is the start for ReLU; a leaky unit passes on part of the negative side.",
            math.sqrt(1 / fan_in): "that keeps a linear layer's variance; φ changes it.",
            math.sqrt(2 / fan_in) / abs(1 + slope or math.inf): "the two sides contribute 1 and a² to E[h²], not (1 + a)².",
            math.sqrt(2 / (fan_in * (1 + abs(slope)))): "the negative side is scaled by a, so its square by a².",
            wanted / math.sqrt(2): "each side is seen half of the time: a factor 1/2 is missing in E[h²].",
        }
        for mistaken, why in mistakes.items():
            expect(not math.isclose(value, mistaken, rel_tol=1e-6), f"{place} {why}")
        expect(False, f"{place} σ should be {wanted:.6g}; yours is {value:.6g}.")
    return "six pairs agree, from ReLU (slope 0) to linear (slope 1). Smaller than ReLU's: a leaky unit loses less."


@checker
def deeper(answer) -> str:
    """(prediction, disadvantage with 6 layers, with 12 layers) of σ = 0.01, as Estimates of a difference of training losses."""
    prediction, six, twelve = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for layers, measured in ((6, six), (12, twelve)):
        expect(
            measured.high > 0,
            f"with {layers} layers your difference is negative ({measured}): subtract the loss with σ = 1/√n from that with σ = 0.01.",
        )
    outcome = "larger" if twelve.mean > six.mean else "gone" if twelve.low <= 0 else "smaller"
    verdict = (
        "as you predicted."
        if prediction == outcome
        else f"you predicted {prediction!r}. How does the gradient depend on the depth?"
    )
    return f"the disadvantage went from {six} to {twelve}: {outcome!r}, {verdict}"


@checker
def two_units(answer: object) -> str:
    """The two smallest of the eigenvalues 5, 3, 1, 1 over their sum, 0.2, to 1 %."""
    value = number(answer)
    mistakes = {
        0.8: "that is the share it keeps; asked for is what it misses.",
        0.5: "that is what one unit misses; there are two.",
        2.0: "that is the missing variance itself; divide by all of it.",
        0.25: "divide by the variance of the input, not by what is kept.",
        math.sqrt(0.2): "eigenvalues of the covariance are variances already; no root is needed.",
        4 / 68: "those are squared eigenvalues; eigenvalues of the covariance are variances already.",
    }
    for mistaken, why in mistakes.items():
        expect(not math.isclose(value, mistaken, rel_tol=0.01), why)
    expect(math.isclose(value, 0.2, rel_tol=0.01), f"{value:.3g} is not it. Which two directions hold most of the variance?")
    return "the best plane holds 5 + 3 of 10, so a fifth is out of reach: the share that principal components leave."


@checker
def corrupt(spoil) -> str:
    """Masking noise (Vincent et al. 2010, §3.2): entries are zeroed, by chance or by count, and nothing is rescaled."""
    x = torch.rand(400, 60) + 0.5  # no zeros, so that every zero is the corruption's
    for share in (0.25, 0.7, 0.0, 1.0):
        given = x.clone()
        spoiled = spoil(given, share)
        place = f"For share = {share}:"
        same_form = isinstance(spoiled, torch.Tensor) and spoiled.shape == x.shape and spoiled.dtype == x.dtype
        expect(same_form, f"{place} a tensor like x is needed, and {describe(spoiled)} came.")
        expect(torch.equal(given, x), f"{place} x itself has changed; return a copy, since x is also the target.")
        zero = spoiled == 0
        left, lost = ~zero, zero.float().mean().item()
        if share == 0.25:
            expect(abs(lost - 0.75) > 0.03, f"{place} you keep this share of the entries; it should be lost.")
        expect(
            share in (0, 1) or not torch.allclose(spoiled[left] * (1 - share), x[left]),
            f"{place} what is left was divided by 1 − share, as in dropout; leave it as it is.",
        )
        expect(torch.equal(spoiled[left], x[left]), f"{place} entries that are not zeroed must stay as they are.")
        if 0 < share < 1:
            expect(not (zero == zero[0]).all(), f"{place} all examples lose the same entries; draw a mask of the shape of x.")
            expect(not (zero == zero[:, :1]).all(), f"{place} whole examples are lost; draw a mask of the shape of x.")
            expect(
                not torch.equal(spoil(x.clone(), share) == 0, zero), f"{place} a second call gives the same mask; draw a new one."
            )
        # 24,000 entries: chance moves the share by less than 0.013 (four standard deviations)
        expect(abs(lost - share) < 0.015, f"{place} a share of {lost:.3g} is lost.")
    return "the right share is lost, others for each example and call, and what is left is untouched."


@checker
def same_images(answer) -> str:
    """(prediction, gain with all images, gain with the labelled 100 only), the gains as Estimates of test accuracy."""
    prediction, every, few = prediction_then_run(answer, ("as large", "smaller", "gone"))
    outcome = "gone" if few.low <= 0 else "as large" if few.high >= every.mean else "smaller"
    verdict = (
        "as you predicted." if prediction == outcome else f"you predicted {prediction!r}. What did the other images contribute?"
    )
    return f"the gain went from {every} to {few}: {outcome!r}, {verdict}"
