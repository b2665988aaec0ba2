"""Feedback for the exercises of ``chapters/normalization``."""

import torch
from torch import nn

from regbook.checks import checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict

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
