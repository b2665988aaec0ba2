"""Feedback for the exercises of ``chapters/normalization``."""

import torch
import torch.nn.functional as F

from regbook.checks import checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict

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
