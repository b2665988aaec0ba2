"""Feedback for the exercises of ``chapters/dropout``."""

import math
from itertools import product

import torch
import torch.nn.functional as F

from regbook.checks import Wrong, checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict

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
    said = verdict(prediction, trend(before, after), "How much do early members disagree?")
    return f"the gain went from {before} to {after}: {said}"


# --- dropout -------------------------------------------------------------------------------------------------------


@checker
def relu_by_hand(answer: object) -> str:
    """E relu(m₁·2 − m₂) over the four masks, kept with p = 0.8, not rescaled: 0.64·1 + 0.16·2."""
    mistakes = {
        0.8: "that is relu(p · 1), weight scaling. The mean of a ReLU is not the ReLU of the mean.",
        0.75: "the four masks are equally likely only at p = 1/2.",
        1.0: "that is the unit with both inputs; average over the masks.",
        1.2: "you divided by p; the vanilla form rescales nothing in training.",
        0.92: "a ReLU turns −1 into 0: the mask that keeps only the second input adds nothing.",
        0.64: "there is a second mask whose output is not zero: the one that keeps only the first input.",
    }
    expect_number(
        number(answer), 0.96, mistakes, "Add P(m) · relu(…) over the four masks; two of them give 0.", rel_tol=0, abs_tol=0.004
    )
    return "0.64 · 1 + 0.16 · 2. Weight scaling would say 0.8."


@checker
def three_layers(answer) -> str:
    """Evaluation against the plain network, training against all 2⁷ sub-networks of a 3-4-3-2 network."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3), (3, 4), (2, 3))
    layers = [
        (0.5 + torch.rand(shape, generator=generator).double(), 0.1 + torch.rand(shape[0], generator=generator).double())
        for shape in shapes
    ]  # all positive: every unit is active, so every mask is seen in the output
    x = torch.rand(5, 3, generator=generator).double()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        _evaluation(answer, x, layers)
        _training(answer, x[:1], layers)
        _ends(answer, x, layers)
    return "plain in evaluation, scaled once in training, and every unit kept with probability p."


def _plain(x: torch.Tensor, layers: list, first=1.0, second=1.0) -> torch.Tensor:
    """The network whose hidden layers are multiplied by ``first`` and ``second``."""
    (w1, b1), (w2, b2), (w3, b3) = layers
    hidden = F.relu(x @ w1.T + b1) * first
    return (F.relu(hidden @ w2.T + b2) * second) @ w3.T + b3


def _evaluation(answer, x: torch.Tensor, layers: list) -> None:
    (w1, b1), (w2, b2), (w3, b3) = layers
    signed = [(w1 - 1, b1), (w2 - 1, b2), (-w3, -b3)]  # a ReLU after the last layer would show
    for p, weights in ((0.7, signed), (0.3, layers)):
        given = x.clone()
        one, two = answer(x, weights, p, False), answer(x, weights, p, False)
        expect(torch.equal(x, given), "your function changed its input x; work on a copy.")
        expect(isinstance(one, torch.Tensor), f"a tensor is needed, and {describe(one)} came.")
        right = _plain(x, weights)
        expect(
            one.shape == right.shape, f"with training=False: N × outputs is {tuple(right.shape)}, and {tuple(one.shape)} came."
        )
        expect(
            torch.equal(one, two),
            "with training=False two passes differ. F.dropout drops unless it is told training=False: hand the flag on.",
        )
        mistakes = {
            "the hidden layers are multiplied by p. Inverted dropout has scaled in training already: you scale twice.": (p, p),
            "the hidden layers are multiplied by 1 − p. Inverted dropout does nothing at test time.": (1 - p, 1 - p),
            "the hidden layers are divided by p. Inverted dropout divides in training only.": (1 / p, 1 / p),
        }
        for mistake, factors in mistakes.items():
            expect(not torch.allclose(one, _plain(x, weights, *factors)), f"with training=False {mistake}")
        expect(weights is layers or not torch.allclose(one, F.relu(right)), "the last layer has no ReLU behind it.")
        expect(torch.allclose(one, right), "with training=False the output is not that of the plain network.")


def _training(answer, x: torch.Tensor, layers: list, rows: int = 4000) -> None:
    for p in (0.7, 0.4):
        found = answer(x.expand(rows, -1).clone(), layers, p, True)
        place = f"With training=True and p = {p}:"
        expect(found.shape == (rows, 2), f"{place} N × outputs is {(rows, 2)}, and {tuple(found.shape)} came.")
        expect(bool(found.isfinite().all()), f"{place} your outputs are not finite.")
        expect(not torch.allclose(found, _plain(x, layers)), f"{place} nothing was dropped.")
        expect(not torch.allclose(found, found[:1]), f"{place} all rows share one mask; draw one for each row.")
        expect(not (found == 0).any(), f"{place} outputs were dropped, or scaled away; only hidden units are dropped.")
        masks = torch.tensor(list(product((0.0, 1.0), repeat=7)), dtype=torch.float64)
        chance = _chance(masks, p)

        def comes_from(scale: float, masks=masks, found=found) -> bool:
            """Is every row the output of one of the sub-networks, kept units times ``scale``?"""
            allowed = _plain(x, layers, scale * masks[:, :4], scale * masks[:, 4:])
            return bool((torch.cdist(found, allowed, p=float("inf")).amin(1) < 1e-6).all())

        swapped = "you keep with probability 1 − p. F.dropout and nn.Dropout take the probability of dropping."
        expect(not comes_from(1.0), f"{place} what is kept is not divided by p: the test network would be 1/p times too loud.")
        if not comes_from(1 / p):
            expect(not comes_from(1 / (1 - p)), f"{place} {swapped}")
            expect(not comes_from(p), f"{place} what is kept is multiplied by p; divide by it.")
            expect(not comes_from(1 / p**2), f"{place} you divide by p twice. F.dropout does it already.")
            raise Wrong(f"{place} these are no outputs of sub-networks. Drop both hidden layers, and nothing else.")
        outputs = _plain(x, layers, masks[:, :4] / p, masks[:, 4:] / p)
        mean = chance @ outputs
        error = (chance @ (outputs - mean).square() / rows).sqrt()
        expect(bool(((found.mean(0) - mean).abs() < 6 * error).all()), f"{place} units are not kept with probability p.")


def _chance(masks: torch.Tensor, p: float) -> torch.Tensor:
    return (p * masks + (1 - p) * (1 - masks)).prod(-1)


def _ends(answer, x: torch.Tensor, layers: list) -> None:
    expect(torch.allclose(answer(x, layers, 1.0, True), _plain(x, layers)), "at p = 1 nothing may be dropped.")
    nothing = answer(x, layers, 0.0, True)
    expect(
        not nothing.isnan().any(), "at p = 0 your output is NaN: a mask of zeros divided by zero. Leave such a mask undivided."
    )
    expect(torch.allclose(nothing, _plain(x, layers, 0, 0)), "at p = 0 every hidden unit is dropped, and the last bias remains.")


@checker
def narrow(answer) -> str:
    """(prediction, gain of the wide network, gain of the narrow one), as Estimates of a difference in test accuracy."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"shares of right answers lie between 0 and 1; a gain of {measured} came.")
    expect(before.high > 0, f"the gain of the wide network is negative ({before}): subtract p = 1 from p = 0.5.")
    question = "How many units does a mask leave of ten?"
    return f"the gain went from {before} to {after}: {verdict(prediction, trend(before, after), question)}"


# --- where the mask sits -------------------------------------------------------------------------------------------


@checker
def mean_relu(answer: object) -> str:
    """w · v = (3, −4) with p = 1/2: u is 0, 3, −4, −1, each as likely."""
    mistakes = {
        0: "that is the ReLU of the mean, as weight scaling has it. Apply the ReLU to each of the four values first.",
        -0.5: "that is the mean of u. Apply the ReLU to each of the four values before you average.",
        3: "that is the sum, or the mean over the masks that switch the unit on. All four masks count.",
        0.766: "that is what the Gaussian says. Here there are four masks, and you can count them.",
    }
    expect_number(number(answer), 0.75, mistakes, "Which four values does u take?", abs_tol=0.002)
    return "(0 + 3 + 0 + 0)/4. Weight scaling says 0, the Gaussian 0.767."


@checker
def inverted(answer) -> str:
    """Mean, variance and covariance of 20,000 equal examples, whose masks must be their own; p = 1; a mask drawn again."""
    generator = torch.Generator().manual_seed(0)
    v, W = torch.rand(3, 5, generator=generator) + 0.5, torch.rand(4, 5, generator=generator) + 0.5

    def drawn(v: torch.Tensor, p: float, seed: int = 1) -> torch.Tensor:
        found = answer(v, W.clone(), p, torch.Generator().manual_seed(seed))
        expect(isinstance(found, torch.Tensor), f"a tensor is needed, and {describe(found)} came.")
        shape = (len(v), len(W))
        expect(found.shape == shape, f"for p={p} the pre-activations are N × d, here {shape}, and {tuple(found.shape)} came.")
        return found

    expect(torch.allclose(drawn(v, 1.0), v @ W.T, atol=1e-4), "at p = 1 nothing is dropped: v @ W.T is expected.")
    p, n, first = 0.8, 20_000, v[:1]
    u, plain = drawn(first.expand(n, -1), p), (first @ W.T)[0]
    again, other = drawn(first.expand(n, -1), p), drawn(first.expand(n, -1), p, seed=2)
    expect(not torch.allclose(u[:50], u[:1].expand(50, -1)), "one mask serves the whole batch; each example needs its own.")
    expect(torch.equal(u, again), "the same generator gave other masks: draw every mask from `generator`.")
    expect(not torch.equal(u, other), "another seed gave the same masks: draw from the `generator` that is passed.")
    ratio = (u.mean(0) / plain).mean().item()
    mistakes = {
        p: "nothing was scaled: without 1/p the mean is p times too small.",
        1 / p: "the scaling was done twice: divide by p once.",
        (1 - p) / p: "p is the probability of keeping, and you dropped with it.",
        1 - p: "p is the probability of keeping, you dropped with it, and nothing was scaled.",
        p * p: "you multiplied by p, where you must divide by it.",
    }
    expect_number(ratio, 1, mistakes, f"The mean of the pre-activations is {ratio:.3f} times v @ W.T.", rel_tol=0.02)
    covariance, right = u.T.cov(), (1 - p) / p * (first * W).square().sum(1)
    apart = covariance[0, 1] / (covariance[0, 0] * covariance[1, 1]).sqrt()
    expect(apart.abs() < 0.1, "two units vary together: your mask is on the inputs, and all units share it. Mask the weights.")
    expect(
        torch.allclose(covariance.diag(), right, rtol=0.1), "the mean is right, the variance is not: is each weight masked alone?"
    )
    return "the mean is v @ W.T, and each weight of each example has a mask of its own."


@checker
def one_mask_a_batch(answer) -> str:
    """(prediction, gain with a mask an example, gain with one a batch), as Estimates of shares of right answers."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"shares of right answers lie between 0 and 1; a gain of {measured} came.")
    question = "How many masks does a run meet, and do the examples of a batch need different ones?"
    return f"the gain went from {before} to {after}: {verdict(prediction, trend(before, after), question)}"


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
