"""Feedback for the exercises of ``chapters/normalization``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regbook.checks import checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict
from regbook.normalization import normalize

# --- batch-norm ----------------------------------------------------------------------------------------------------


@checker
def running_by_hand(answer: object) -> str:
    """0.9 · 1 + 0.1 · 13 = 2.2 for the values 1, 3, 8 and a running variance of 1."""
    mistakes = {
        0.9 + 0.1 * 26 / 3: "that is the biased variance, divided by m = 3. The running average takes the one divided by m − 1.",
        0.1 + 0.9 * 13: "the momentum is the wrong way round: 0.1 is the weight of the new value.",
        0.1 + 0.9 * 26 / 3: "the momentum is the wrong way round, and the variance is biased: divide by m − 1 = 2.",
        0.9 + 0.1 * 13**0.5: "that averages the standard deviation; PyTorch averages the variance.",
        0.9 + 0.1 * 26: "26 is the sum of squared deviations; divide it by m − 1.",
        13: "that is the batch's own variance; it gets the weight 0.1, and the old average 0.9.",
        0.9 * 0 + 0.1 * 4: "that is the running mean.",
    }
    expect_number(
        number(answer), 2.2, mistakes, "Mean 4, deviations −3, −1 and 4: what is their variance with m − 1?", rel_tol=1e-3
    )
    return "26/2 = 13, and 0.9 · 1 + 0.1 · 13 = 2.2. With the biased variance it would have been 1.77."


@checker
def whole_layer(answer) -> str:
    """Training and evaluation on N × C, N × C × L and N × C × H × W, small variances (where ε counts), and a batch of 2."""
    generator = torch.Generator().manual_seed(0)
    for shape, scale, eps in (((6, 3), 2.0, 1e-5), ((6, 3), 0.01, 1e-4), ((4, 3, 3), 1.0, 1e-5), ((2, 3, 2, 3), 1.0, 1e-3)):
        x = scale * torch.randn(shape, dtype=torch.float64, generator=generator) + 1
        gamma, beta, mean, var = torch.rand(4, 3, dtype=torch.float64, generator=generator) + 0.5
        given = x, gamma, beta, mean, var
        for training in (True, False):
            copies = [t.clone() for t in given]
            found = answer(*copies, training, 0.3, eps)
            place = f"Input of shape {shape}, eps = {eps:g}, {'training' if training else 'evaluation'}:"
            expect(
                isinstance(found, tuple) and len(found) == 3 and all(isinstance(t, Tensor) for t in found),
                f"{place} three tensors are needed (y, mean, var), and {describe(found)} came.",
            )
            expect(
                all(torch.equal(*pair) for pair in zip(copies, given, strict=True)),
                f"{place} your function changed a tensor that it was given; return new ones.",
            )
            _judge(place, found, given, training, eps)
    return "output and running statistics agree in training and evaluation, for three kinds of input."


def _judge(place: str, found: tuple, given: tuple, training: bool, eps: float) -> None:
    x, gamma, beta, mean, var = given
    others = [0, *range(2, x.ndim)]
    m = x.numel() // x.shape[1]
    batch_var, batch_mean = torch.var_mean(x, others, correction=0)

    def output(mean: Tensor, var: Tensor, root: Tensor | None = None) -> Tensor:
        per_channel = [1, -1] + [1] * (x.ndim - 2)
        mean, root, g, b = (
            t.view(per_channel) if t.ndim == 1 else t for t in (mean, (var + eps).sqrt() if root is None else root, gamma, beta)
        )
        return g * (x - mean) / root + b

    def over(axes: list[int]) -> Tensor:
        v, mu = torch.var_mean(x, axes, correction=0, keepdim=True)
        return output(mu, v)

    now = (batch_mean, batch_var) if training else (mean, var)
    mistakes = [
        ("ε is outside the root: it is √(v + ε), not √v + ε.", output(*now, root=now[1].sqrt() + eps)),
        ("ε is missing under the root.", output(*now, root=now[1].sqrt())),
        ("you divided by v + ε; divide by its root.", output(*now, root=now[1] + eps)),
        (
            "you normalized with the statistics of the batch; in evaluation the running ones are used.",
            output(batch_mean, batch_var),
        ),
        ("you normalized with the running statistics; in training those of the batch are used.", output(mean, var)),
        ("the batch is normalized with the biased variance, divided by m.", output(now[0], batch_var * m / (m - 1))),
    ]
    if training:
        mistakes += [
            ("wrong axes: you averaged over the channels; each channel has its own statistics.", over([1])),
            ("wrong axes: you averaged over everything; each channel has its own statistics.", over(list(range(x.ndim)))),
        ]
    if training and x.ndim > 2:
        mistakes += [
            ("wrong axes: you averaged over the examples only; all positions of a channel belong together.", over([0])),
            ("wrong axes: you averaged over the positions only; the examples belong to it too.", over(others[1:])),
            ("wrong axes: you averaged over all axes but the first; that is layer normalization.", over(list(range(1, x.ndim)))),
            ("wrong axes: you averaged over all axes but the last; the channels are the second.", over(list(range(x.ndim - 1)))),
        ]
    _compare(f"{place} the output:", found[0], output(*now), mistakes)
    if not training:
        for name, value, old in (("mean", found[1], mean), ("variance", found[2], var)):
            _compare(f"{place} the running {name}: evaluation leaves it as it was.", value, old, [])
        return

    swapped = "the momentum is the wrong way round: it weighs the new value."
    _compare(f"{place} the running mean:", found[1], 0.7 * mean + 0.3 * batch_mean, [(swapped, 0.3 * mean + 0.7 * batch_mean)])
    right, n = batch_var * m / (m - 1), len(x)
    wrong = [
        ("it takes the biased variance, divided by m; it needs the unbiased one, m/(m − 1) times as large.", batch_var),
        ("m counts all values of a channel, examples times positions; you counted the examples.", batch_var * n / (n - 1)),
    ]
    _compare(
        f"{place} the running variance:",
        found[2],
        0.7 * var + 0.3 * right,
        [(why, 0.7 * var + 0.3 * new) for why, new in wrong] + [(swapped, 0.3 * var + 0.7 * new) for new in (right, batch_var)],
    )


def _compare(place: str, found: Tensor, right: Tensor, mistakes: list[tuple[str, Tensor]]) -> None:
    expect(
        found.shape == right.shape, f"{place} the shape should be {tuple(right.shape)}, and {tuple(found.shape)} came. "
        "The averages go over the examples and all positions."
    )  # fmt: skip
    if torch.allclose(found.to(right), right, rtol=1e-8, atol=1e-10):
        return
    for why, wrong in mistakes:
        expect(not torch.allclose(found.to(right), wrong, rtol=1e-8, atol=1e-10), f"{place} {why}")
    expect(False, f"{place} the values are others, by up to {(found - right).abs().max():.2g}.")


@checker
def adam_start(answer) -> str:
    """(prediction, gain with SGD, gain with Adam) at σ = 0.01, as Estimates of the gain in test accuracy."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"test accuracies lie between 0 and 1; a gain of {measured} came.")
    expect(before.high > 0, f"with SGD your gain is negative ({before}): subtract the network without BN from the one with BN.")
    said = verdict(prediction, trend(before, after), "What does Adam do with a gradient that is a thousand times too small?")
    return f"the gain went from {before} to {after}: {said}"


# --- test-time -----------------------------------------------------------------------------------------------------


@checker
def running_variance(answer: object) -> str:
    """0.9·1 + 0.1·20/3: one step of the running variance from its start, for the batch 0, 2, 4, 6; to 0.5 %."""
    mistakes = {
        0.9 + 0.1 * 5: "that takes the variance divided by n; the running variance takes the unbiased one, divided by n − 1.",
        0.1 + 0.9 * 20 / 3: "the momentum of PyTorch, 0.1, is the weight of the new value.",
        0.1 + 0.9 * 5: "the momentum of PyTorch, 0.1, is the weight of the new value; and the new value divides by n − 1.",
        0.1 * 20 / 3: "the running variance starts at 1, not at 0.",
        0.1 * 5: "the running variance starts at 1, not at 0; and the new value divides by n − 1.",
        20 / 3: "that is the batch's variance; the running variance keeps 0.9 of its start.",
        5: "that is the batch's variance, divided by n; the running variance keeps 0.9 of its start.",
        0.9 + 0.1 * (20 / 3) ** 0.5: "variances are averaged, not standard deviations.",
        0.3: "that is the running mean.",
    }
    expect_number(number(answer), 0.9 + 2 / 3, mistakes, "(1 − m) times the start, plus m times the new variance.", rel_tol=0.005)
    return "0.9·1 + 0.1·20/3. In training the same batch is normalized with 20/4 = 5."


@checker
def fold_transposed(fold) -> str:
    """Weight and bias of a transposed convolution with its normalization, in float64: four shapes, with and without a bias."""
    generator = torch.Generator().manual_seed(0)
    for inputs, outputs, has_bias in ((3, 3, True), (2, 5, True), (4, 3, False), (1, 1, True)):
        layer = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, bias=has_bias).double()
        bn = nn.BatchNorm2d(outputs, eps=0.1).double().eval()  # a large ε, so that leaving it out shows
        for tensor in (*layer.parameters(), *bn.parameters(), bn.running_mean, bn.running_var):
            tensor.data.uniform_(0.5, 2, generator=generator)
        given = {
            name: value.clone() for module in (layer, bn) for name, value in module.state_dict(prefix=f"{id(module)}").items()
        }
        found = fold(layer, bn)
        place = f"For {inputs} input and {outputs} output channels, {'a' if has_bias else 'no'} bias:"
        now = {**layer.state_dict(prefix=f"{id(layer)}"), **bn.state_dict(prefix=f"{id(bn)}")}
        expect(all(torch.equal(now[name], value) for name, value in given.items()), f"{place} your function changed its input.")
        pair = isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(t, torch.Tensor) for t in found)
        expect(pair, f"{place} return two tensors, weight and bias; {describe(found)} came.")
        _judge_fold(place, *(tensor.detach() for tensor in found), layer, bn)
    return "four shapes agree to float64, also without a bias of the layer's own."


def _judge_fold(place: str, weight: torch.Tensor, bias: torch.Tensor, layer: nn.Module, bn: nn.Module) -> None:
    gamma, beta, mean, variance = (t.detach() for t in (bn.weight, bn.bias, bn.running_mean, bn.running_var))
    w, own = layer.weight.detach(), torch.zeros_like(beta) if layer.bias is None else layer.bias.detach()
    s = gamma / (variance + bn.eps).sqrt()
    for tensor, like, name in ((weight, w, "weight"), (bias, beta, "bias")):
        expect(tensor.shape == like.shape, f"{place} the {name} has shape {tuple(like.shape)}, and {tuple(tensor.shape)} came.")

    def spread(factor: torch.Tensor) -> torch.Tensor:
        return factor.view(1, -1, 1, 1) * w

    def same(a: torch.Tensor, b: torch.Tensor) -> bool:
        return torch.allclose(a, b.to(a), rtol=1e-6, atol=1e-9)

    square = w.shape[0] == w.shape[1] > 1
    for wrong, why in (
        (gamma / variance.sqrt(), "ε is missing: divide by √(σ² + ε)."),
        (gamma / (variance.sqrt() + bn.eps), "ε belongs inside the root: √(σ² + ε)."),
        (1 / (variance + bn.eps).sqrt(), "γ is missing from the factor."),
        (gamma / (variance + bn.eps), "`running_var` is a variance: divide by the root of σ² + ε."),
        (gamma, "σ is missing from the factor: divide by √(σ² + ε)."),
    ):
        expect(same(weight, spread(s)) or not same(weight, spread(wrong)), f"{place} {why}")
    expect(
        not (square and same(weight, s.view(-1, 1, 1, 1) * w)),
        f"{place} the first axis counts the inputs here; the factor belongs to the output channels, the second axis.",
    )
    expect(same(weight, spread(s)), f"{place} the weight is another. Every weight into output channel k gets the factor s_k.")
    for wrong, why in (
        (own + beta - s * mean, "the layer's own bias goes through the normalization too: it needs the factor s."),
        (s * own + beta, "the running mean is missing: s·(b − μ) + β."),
        (s * (own - mean), "β is missing."),
        (beta - s * mean, "the layer's own bias is missing: s·(b − μ) + β."),
        (s * (own - mean + beta), "β is added after the scaling, so it has no factor s."),
        (s * own - mean + beta, "the mean is subtracted before the scaling, so it has the factor s too."),
        (s * (own + mean) + beta, "the mean is subtracted, not added."),
    ):
        expect(same(bias, s * (own - mean) + beta) or not same(bias, wrong), f"{place} {why}")
    expect(
        same(bias, s * (own - mean) + beta),
        f"{place} the bias is another. Put x = 0 into the layer and then into the normalization.",
    )


@checker
def sevens_only(answer) -> str:
    """(prediction, gain in accuracy with images of all classes, with sevens only), as Estimates over the networks."""
    prediction, mixed, sevens = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (mixed, sevens):
        expect(abs(measured.mean) <= 1, f"shares of right answers lie between 0 and 1; a gain of {measured} came.")
    expect(mixed.mean > 0, f"with all classes your gain is negative ({mixed}): subtract the accuracy with the old averages.")
    said = verdict(prediction, trend(mixed, sevens), "What else than the fog do the sevens have in common?")
    return f"the gain went from {mixed} with all classes to {sevens} with sevens only: {said}"


# --- layer, instance and group normalization -----------------------------------------------------------------------


@checker
def four_channels(answer: object) -> str:
    """Layer normalization of (1, 3, 2, 10): the last one, 6/√12.5."""
    mistakes = {
        6 / (50 / 3) ** 0.5: "you divided the sum of squares by 3. Normalization layers divide by the number of values, 4.",
        6 / 12.5: "divide by the standard deviation, the root of the variance.",
        6.0: "that is the deviation from the mean; divide it by the standard deviation.",
        1.0: "that is group normalization with two groups. Layer normalization takes all four channels together.",
        0.0: "that is instance normalization: a mean over a single value. Take all four channels together.",
    }
    expect_number(number(answer), 6 / 12.5**0.5, mistakes, "Subtract the mean, 4, and divide by the root of the mean square.")
    return "6/√12.5 ≈ 1.70."


@checker
def channels_last(answer) -> str:
    """Against the package's function on the transposed picture, with an ε large enough to see where it stands."""
    generator = torch.Generator().manual_seed(0)
    for shape, groups, eps in (((3, 4, 6, 8), 2, 0.5), ((2, 2, 3, 6), 3, 0.5), ((4, 8, 8, 8), 4, 1e-5), ((1, 3, 2, 5), 1, 0.1)):
        x = 2 * torch.randn(shape, dtype=torch.float64, generator=generator) + torch.arange(shape[-1])
        x += 3 * torch.arange(shape[0])[:, None, None, None] + torch.arange(shape[1])[:, None, None]
        given, place = x.clone(), f"For x of shape {shape}, groups={groups} and eps={eps}:"
        found = answer(x, groups, eps)
        expect(torch.equal(x, given), f"{place} your function changed its input; work on a copy.")
        expect(isinstance(found, torch.Tensor), f"{place} a tensor is needed, and {describe(found)} came.")
        expect(found.shape == x.shape, f"{place} the output has the shape of x, and {tuple(found.shape)} came.")
        right = normalize(x.movedim(-1, 1), groups, eps=eps).movedim(1, -1)
        for mistake, result in _channels_last_mistakes(x, groups, eps).items():
            near_mistake = result.shape == x.shape and torch.allclose(found, result.to(found), atol=1e-6)
            expect(not near_mistake or torch.allclose(right, result, atol=1e-6), f"{place} {mistake}")
        same = torch.allclose(found, right.to(found), atol=1e-5)
        expect(
            same, f"{place} the values are others. One mean is over height, width and the members of one group, in one example."
        )
    return "height, width and the members of a group share a mean; examples and groups do not."


def _channels_last_mistakes(x: torch.Tensor, groups: int, eps: float) -> dict[str, torch.Tensor]:
    """What the usual mistakes return."""

    def over(axes: tuple[int, ...], correction: int = 0, outside: bool = False, strided: bool = False) -> torch.Tensor:
        sets = x.unflatten(-1, (-1, groups)).transpose(-1, -2) if strided else x.unflatten(-1, (groups, -1))
        variance, mean = torch.var_mean(sets, axes, correction=correction, keepdim=True)
        root = variance.sqrt() + eps if outside else (variance + eps).sqrt()
        made = (sets - mean) / root
        return (made.transpose(-1, -2) if strided else made).flatten(-2)

    mistakes = {
        "your groups mix examples: the mean must not go over the first axis.": over((0, 1, 2, 4)),
        "each position has a mean of its own; the mean goes over height and width too.": over((4,)),
        "you averaged over all channels, not over the members of one group.": over((1, 2, 3, 4)),
        "each channel has a mean of its own; the members of a group share one.": over((1, 2)),
        "ε stands outside the root; it is added to the variance.": over((1, 2, 4), outside=True),
        "you divided the sum of squares by m − 1; `var` does so unless told otherwise.": over((1, 2, 4), correction=1),
        "your groups take every so-many-th channel; a group is a run of neighbours.": over((1, 2, 4), strided=True),
    }
    if x.shape[1] % groups == 0:
        mistakes["wrong axis: you cut the groups from the height. The channels are the last axis."] = normalize(
            x, groups, eps=eps
        )
    return mistakes


@checker
def learned_styles(answer) -> str:
    """(prediction, gain after plain pictures, gain after restyled ones), as Estimates of instance minus batch norm."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"accuracies lie between 0 and 1; a gain of {measured} came.")
    expect(before.high > 0, f"after plain pictures your gain is negative ({before}): subtract batch from instance normalization.")
    said = verdict(prediction, trend(before, after), "What does each network still have to learn about colours?")
    return f"the gain went from {before} to {after}: {said}"


# --- filter response ------------------------------------------------------------------------------------------------


@checker
def one_channel(answer: object) -> str:
    """max(1 + 2·1/√3, −0.5) + max(1 − 2·2/√3, −0.5) = 1.6547, to a thousandth."""
    value, nu = number(answer), 3**0.5
    mistakes = {
        1 + 2 / nu: "that is the 1 alone, or ReLU cut the −2 at zero; TLU cuts at τ.",
        2 - 2 / nu: "TLU is missing: the −2 must not fall below τ.",
        0.5 + 2 / 3: "you divided by ν² or by the root of the sum; ν is the root of the mean of the squares.",
        0.5 + 2 / 9: "you divided by the sum of squares; divide by the root of their mean.",
        0.5 + 2 / 4.5**0.5: "ν² divides by the number of values, 3, not by 2.",
        0.5 + 2 * (2 / 3) / (26 / 9) ** 0.5: "FRN subtracts no mean.",
        0.5 + 1 / nu: "γ is missing.",
        2 / nu - 0.5: "β is missing.",
        -0.5 + 1 + 2 / nu - 0.5: "τ is a bound, nothing to add or subtract.",
    }
    expect_number(value, 0.5 + 2 / nu, mistakes, "Find ν, then γx/ν + β for both, then the larger of that and τ.", rel_tol=1e-3)
    return "2.155 and −0.5: the −2 ends at the threshold."


def _lrn(a: torch.Tensor, n: int, k: float, alpha: float, beta: float) -> torch.Tensor:
    return F.local_response_norm(a, n, alpha * n, beta, k)


@checker
def alexnet(lrn) -> str:
    """a / (k + α Σ a²)^β over n channels, against PyTorch's with n·α; fewer channels than n, one channel, n = 1."""
    generator = torch.Generator().manual_seed(0)
    for shape, n in (((2, 8, 3, 4), 5), ((1, 3, 2, 2), 5), ((2, 1, 3, 3), 3), ((2, 6, 1, 1), 1), ((8, 8, 4, 4), 3)):
        a = 10 * torch.randn(shape, generator=generator, dtype=torch.float64)
        given, place = a.clone(), f"For {shape[1]} channels and n = {n}:"
        b = lrn(a, n, 2.0, 1e-2, 0.75)
        expect(torch.equal(a, given), f"{place} your function changed its input.")
        expect(isinstance(b, torch.Tensor) and b.shape == a.shape, f"{place} a tensor like a is needed; {describe(b)} came.")
        right = _lrn(a, n, 2.0, 1e-2, 0.75)
        if not torch.allclose(b, right):
            _explain_lrn(place, a, b, n)
            expect(False, f"{place} entry [0, 0, 0, 0] should be {right[0, 0, 0, 0]:.6g}; yours is {b[0, 0, 0, 0]:.6g}.")
    return "five shapes agree, with fewer channels than neighbours among them."


def _explain_lrn(place: str, a: torch.Tensor, b: torch.Tensor, n: int) -> None:
    around = sum(a.square().roll(shift, 1) for shift in range(-(n // 2), n // 2 + 1))
    behind = F.pad(a.square(), (0, 0, 0, 0, n - 1, 0))
    power = (a / _lrn(a, n, 2.0, 1e-2, 1.0) - 2) / 1e-2
    mistakes = {
        "you divided α by n, as PyTorch does; AlexNet's α multiplies the sum.": _lrn(a, n, 2.0, 1e-2 / n, 0.75),
        "neighbours are channels; you summed along the width.": _lrn(a.transpose(1, 3), n, 2.0, 1e-2, 0.75).transpose(1, 3),
        "the first channel is no neighbour of the last: pad with zeros.": a / (2 + 1e-2 * around) ** 0.75,
        "the neighbours lie on both sides, n // 2 on each.": a
        / (2 + 1e-2 * sum(behind[:, i : i + a.shape[1]] for i in range(n))) ** 0.75,
        "the channel itself counts too.": a / (2 + 1e-2 * (power - a.square())) ** 0.75,
        "you summed over all channels.": a / (2 + 1e-2 * a.square().sum(1, keepdim=True)) ** 0.75,
        "the exponent β is missing.": _lrn(a, n, 2.0, 1e-2, 1.0),
        "the exponent β is there already; no root is needed.": _lrn(a, n, 2.0, 1e-2, 0.375),
        "k is missing.": a / (1e-2 * power) ** 0.75,
        "the denominator takes squares.": a / (2 + 1e-2 * F.avg_pool3d(F.pad(a.abs(), (0, 0, 0, 0, n // 2, n // 2))[:, None],
                                              (n, 1, 1), stride=1)[:, 0] * n) ** 0.75,
    }  # fmt: skip
    for why, wrong in mistakes.items():
        expect(not torch.allclose(b, wrong), f"{place} {why}")


@checker
def start_at_one(answer) -> str:
    """(prediction, gain of a learned ε from 1e-4, from 1), as Estimates of a difference of accuracies."""
    prediction, small, one = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (small, one):
        expect(abs(measured.mean) <= 1, f"accuracies are shares, so a gain lies between -1 and 1; {measured} came.")
    expect(small.high > 0, f"from 1e-4 your gain is negative ({small}): subtract the fixed ε from the learned one.")
    return f"the gain went from {small} to {one}: {verdict(prediction, trend(small, one), 'What passes a slope near one?')}"
