"""Feedback for the exercises of ``chapters/initialization``."""

import math

import torch
from torch import nn

from regbook.checks import checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict


@checker
def twenty_layers(answer: object) -> str:
    """(σ√n)^20 for σ = 0.01 and n = 1024: 0.32^20 ≈ 1.3e-10, to 5 %."""
    value = number(answer)
    gain = 0.01 * math.sqrt(1024)

    mistakes = {
        gain: "0.32 is the factor of one layer; there are twenty.",
        gain ** (-20): "that is how many times larger the input is; asked for is the share that is left.",
        gain**40: "that is the share of the variance; the standard deviation is its root.",
        0.01**20: "σ alone is not the gain: a unit adds up 1024 inputs, so use σ√n.",
        (0.01 * 1024) ** 20: "the terms are independent, so their variances add up: use √n, not n.",
        20 * gain: "factors multiply from layer to layer; you added them.",
    }
    expect_number(value, gain**20, mistakes, "One layer multiplies the standard deviation by its gain σ√n.", rel_tol=0.05)
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
    said = verdict(prediction, trend(six, twelve), "How does the gradient depend on the depth?")
    return f"the disadvantage went from {six} to {twelve}: {said}"


@checker
def half_learned(answer: object) -> str:
    """ln(s/u₀ − 1) / 2s for s = 2 and u₀ = 0.002: ln(999)/4 ≈ 1.727, to 2 %."""
    value = number(answer)
    s, u0 = 2.0, 0.002
    log = math.log(s / u0 - 1)

    mistakes = {
        log / s: "u is the product of two layers, so it grows like exp(2st): a factor 2 is missing.",
        math.log10(s / u0 - 1) / (2 * s): "that is the decimal logarithm; e^{2st} asks for the natural one.",
        2 * s * log: "you multiplied by 2s; strong modes take less time.",
        -log / (2 * s): "the time came out negative: s/u₀ is large, so its logarithm is positive.",
    }
    expect_number(value, log / (2 * s), mistakes, "Set u(t) = s/2 and solve for t.", rel_tol=0.02)
    return "ln(999)/4 ≈ 1.73. Nearly all of it is spent on the plateau."


@checker
def equal_rates(factors) -> str:
    """√(rate / geometric mean), a tensor like ``rates``; random rates, equal ones, a single one, ratios of 1e8."""
    generator = torch.Generator().manual_seed(0)
    rates = [torch.rand(size, generator=generator, dtype=torch.float64) * 9 + 0.1 for size in (2, 5, 12)]
    rates += [
        torch.full((3,), 4.0, dtype=torch.float64),
        torch.tensor([7.0]),
        torch.tensor([1e-4, 1.0, 1e4], dtype=torch.float64),
    ]
    for given in rates:
        value = torch.as_tensor(factors(given.clone()))
        expect(value.shape == given.shape, f"one factor a layer is needed: {len(given)}, and {tuple(value.shape)} came.")
        middle = given.log().mean().exp()
        wanted, place = (given / middle).sqrt(), f"For the rates {[round(rate, 4) for rate in given.tolist()]}:"
        if torch.allclose(value.to(wanted), wanted, rtol=1e-5):
            continue
        mistakes = (
            (given / middle, "a factor r divides the rate by r², so the root of the ratio is needed."),
            ((middle / given).sqrt(), "upside down: a layer that changes too fast needs larger weights."),
            (middle / given, "upside down, and without the root: r times the weights divide the rate by r²."),
            (
                (given / given.mean()).sqrt(),
                "with the arithmetic mean the product of the factors is not 1, so the function changes.",
            ),
            (given.sqrt(), "the product of the factors is not 1, so the function changes: divide by the geometric mean first."),
        )
        for mistaken, why in mistakes:
            expect(not torch.allclose(value.to(wanted), mistaken, rtol=1e-5), f"{place} {why}")
        expected, came = ([round(v, 4) for v in t.tolist()] for t in (wanted, value))
        expect(False, f"{place} the factors should be {expected}; yours are {came}.")
    return "six sets of rates come out equal, and the product of the factors is 1: the same function, at one pace."


@checker
def shallow_sigmoid(answer) -> str:
    """(prediction, LSUV minus data-dependent start with 12 sigmoid layers, with 1), Estimates of validation losses."""
    prediction, twelve, one = prediction_then_run(answer, ("larger", "smaller", "gone"))
    expect(
        twelve.mean > 0,
        f"with 12 layers your difference is negative ({twelve}): subtract the loss of the data-dependent start from that of LSUV.",
    )
    said = verdict(prediction, trend(twelve, one), "What does one layer take away?")
    return f"the disadvantage of LSUV went from {twelve} with 12 layers to {one} with one: {said}"


@checker
def own_start(answer: object) -> str:
    """(1 + 1/36)^50: the stream's standard deviation after 100 blocks of two layers in PyTorch's default start; to 2 %."""
    value = number(answer)

    mistakes = {
        (37 / 36) ** 100: "that is the growth of the mean square; the standard deviation is its root.",
        (10 / 9) ** 50: "a ReLU halves the mean square before each layer: a pair multiplies it by 1/6, not by 1/3.",
        (7 / 6) ** 50: "a branch has two pairs of ReLU and layer, so it multiplies by 1/6 twice.",
        (1 / 36) ** 50: "that is a network without shortcuts; here the branch is added to the stream.",
        (1 + 1 / 6) ** 100: "that takes 1/6 for a block's growth of the standard deviation; the branch returns 1/36 of q.",
        2.0**50: "that is He's start; nn.Linear draws weights of variance 1/(3n), a sixth of He's 2/n.",
    }
    expect_number(
        value, (37 / 36) ** 50, mistakes, "A block multiplies q by 1 + (share of q that the branch returns).", rel_tol=0.02
    )
    return "the root of (1 + 1/36)^100 is about 3.93; with He's start it would be 2^50."


@checker
def shrink(factor) -> str:
    """L^(−1/(2m)): a factor on each of m layers, so that a branch returns 1/L of the mean square that it gets; to six digits."""
    for blocks, layers in ((100, 3), (64, 3), (16, 2), (27, 1), (1, 4)):
        value = number(factor(blocks, layers))
        wanted = blocks ** (-1 / (2 * layers))
        if math.isclose(value, wanted, rel_tol=1e-6):
            continue
        place = f"For {blocks} blocks of {layers} layers:"
        mistakes = {
            1 / wanted: "your factor is above 1, so branches grow; the sign of the exponent is wrong.",
            wanted**2: "c multiplies the signal, so its mean square by c²: the exponent is twice too large.",
            blocks**-0.5: "that would be right if one layer had the factor; here each of the m has it.",
            1 / blocks: "1/L is what the branch as a whole does to the mean square, not one layer to the signal.",
            blocks ** (-1 / (2 * layers - 2)) if layers > 1 else math.nan: "that is Fixup's factor, for m − 1 layers and a last of zeros.",
        }  # fmt: skip
        for mistaken, why in mistakes.items():
            expect(not math.isclose(value, mistaken, rel_tol=1e-6), f"{place} {why}")
        expect(False, f"{place} the factor should be {wanted:.6g}; yours is {value:.6g}.")
    return "five pairs agree. Fixup scales one layer less, so its factor is smaller."


@checker
def fewer_blocks(answer) -> str:
    """(prediction, accuracy lost without the factor with 30 blocks, with 10 blocks), as Estimates of a difference."""
    prediction, thirty, ten = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for blocks, measured in ((30, thirty), (10, ten)):
        expect(
            measured.high > 0,
            f"with {blocks} blocks your difference is negative ({measured}): subtract 'no factor' from 'all rules'.",
        )
    said = verdict(prediction, trend(thirty, ten), "How does |∇ℒ|² depend on L when a = 1?")
    return f"the loss of accuracy went from {thirty} with 30 blocks to {ten} with 10: {said}"


@checker
def alternating(answer: object) -> str:
    """0.8^10 ≈ 0.107: Glorot's rule on ten pairs of layers, 100 → 400 → 100, to 2 %."""
    value = number(answer)

    mistakes = {
        0.64**10: "that is the share of the variance; the standard deviation is its root.",
        0.8: "0.8 is what one pair of layers leaves; there are ten pairs.",
        1: "1 + ε and 1 − ε do not cancel: their product is 1 − ε². Multiply the factors of one pair.",
        0.4**10: "a layer from 100 to 400 loses, but the next one, from 400 to 100, gains.",
    }
    expect_number(
        value, 0.8**10, mistakes, "Find n_in·σ² for each of the two kinds of layer; their product is for a pair.", rel_tol=0.02
    )
    return "0.8 to the power of 10 is about 0.107: the compromise costs nine tenths, in each direction."


@checker
def error_std(std) -> str:
    """√(2·groups·s_h·s_w / (k_h·k_w·C_out)) on six convolutions: plain, stride, groups, depthwise, oblong; to six digits."""
    plain = {"in_channels": 8, "out_channels": 16, "kernel_size": 3}
    for changed in (
        {},
        {"kernel_size": (3, 5)},
        {"stride": 2},
        {"stride": (2, 1)},
        {"groups": 4},
        {"groups": 8, "kernel_size": 5, "stride": 2},
    ):
        conv = nn.Conv2d(**plain | changed)
        value = number(std(conv))
        window, stride = math.prod(conv.kernel_size), math.prod(conv.stride)
        wanted = math.sqrt(2 * conv.groups * stride / (window * conv.out_channels))
        if math.isclose(value, wanted, rel_tol=1e-6):
            continue
        mistakes = {  # of equal keys the last one counts
            math.sqrt(2 / (window * conv.out_channels)): "that is what torch.nn.init counts; stride and groups change the count.",
            wanted**2: "that is the variance σ²; the standard deviation is its root.",
            wanted / math.sqrt(2): "that is right for a linear network; ReLU lets half of the error through.",
            math.sqrt(
                2 * stride / (window * conv.in_channels // conv.groups)
            ): "that is the fan-in; the error needs the fan-out.",
            math.sqrt(2 * conv.groups / (window * conv.in_channels)): "that is the fan-in; the error needs the fan-out.",
            math.sqrt(2 * conv.groups / (window * conv.out_channels)): "with a stride an input feeds fewer outputs.",
            math.sqrt(2 * stride / (window * conv.out_channels)): "an input feeds only the output channels of its own group.",
            math.sqrt(2 * conv.groups * stride / conv.out_channels): "an input feeds a whole window of each channel: k_h·k_w.",
            math.sqrt(2 * conv.groups * stride / (conv.kernel_size[0] ** 2 * conv.out_channels)): "this kernel is not square.",
            math.sqrt(
                2 * conv.groups * conv.stride[0] ** 2 / (window * conv.out_channels)
            ): "the two strides differ: multiply them.",
        }
        for mistaken, why in mistakes.items():
            expect(not math.isclose(value, mistaken, rel_tol=1e-6), f"For {conv}: {why}")
        expect(False, f"For {conv}: σ should be {wanted:.6g}; yours is {value:.6g}.")
    return "six convolutions agree, with strides, groups and an oblong kernel."


@checker
def sigmoid_gain(answer) -> str:
    """(prediction, how far sigmoid is behind tanh as it is, and with gain 4), as Estimates of a difference of losses."""
    prediction, plain, scaled = prediction_then_run(answer, ("larger", "smaller", "same"))
    expect(plain.low > 0, f"as it is your difference is {plain}: subtract the loss of tanh from that of the sigmoid.")
    expect(scaled.mean > -plain.mean / 2, f"with gain 4 your difference is {scaled}: subtract tanh's loss from the sigmoid's.")
    change = scaled.mean - plain.mean
    outcome = "same" if abs(change) < 0.1 * plain.mean else "larger" if change > 0 else "smaller"
    said = verdict(prediction, outcome, "What is 4 times the slope 1/4?")
    return f"it was behind by {plain}, and with gain 4 by {scaled}: {said}"


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
    expect_number(value, 0.2, mistakes, "Which two directions hold most of the variance?", rel_tol=0.01)
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
    said = verdict(prediction, outcome, "What did the other images contribute?")
    return f"the gain went from {every} to {few}: {said}"
