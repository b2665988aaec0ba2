"""Feedback for the exercises of ``chapters/norm-penalties``."""

import math

import torch

from regbook.checks import checker, expect, number, prediction_then_run


@checker
def loss_by_hand(answer: object) -> str:
    """2.5 + 0.1 · (0.5 · 5 + 3) = 3.05, to four digits."""
    value = number(answer)
    mistakes = {
        4.05: "the sum leaves out j = y: the true class does not compete with itself.",
        2.05: "the margin of one is missing: the second class costs 3.5 − 2 + 1.",
        3.15: "β belongs to W², not to |W|.",
        8.0: "the penalty is not multiplied by λ.",
        2.5: "that is the loss without its penalty.",
        0.55: "that is the penalty alone.",
        2.65: "the L1 part adds absolute values: −2 counts as 2.",
        2.5 / 3 + 0.55: "the lecture's loss sums over the classes; only PyTorch's divides by their number.",
        1.05: "each class has its own max(0, …): the third class costs 0, not −2.",
    }
    for mistaken, why in mistakes.items():
        expect(not math.isclose(value, mistaken, abs_tol=1e-3), why)
    expect(math.isclose(value, 3.05, abs_tol=1e-3), f"{value:.4g} is not it. Write down the two hinges first, then R.")
    return "hinges 2.5 + 0, penalty 0.1 · 5.5: together 3.05."


@checker
def prox(answer) -> str:
    """S_{tλ}(z) / (1 + 2tλβ), on random z of several shapes, and where λ, β or t is 0."""
    generator = torch.Generator().manual_seed(0)
    for shape, t, lam, beta in (((50,), 0.5, 2.0, 0.3), ((4, 5), 0.1, 3.0, 2.0), ((20,), 1.0, 0.7, 0.0), ((20,), 0.5, 0.0, 1.0)):
        z = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
        given = z.clone()
        w = answer(z, t, lam, beta)
        place = f"For t = {t}, λ = {lam}, β = {beta}:"
        expect(torch.equal(z, given), "your function changes its input z; make a new tensor.")
        expect(isinstance(w, torch.Tensor) and w.shape == z.shape, f"{place} the result must be a tensor of the shape of z.")
        soft, shrink = _soft(z, t * lam), 1 + 2 * t * lam * beta
        mistakes = {
            "the derivative of w² is 2w: divide by 1 + 2tλβ.": soft / (1 + t * lam * beta),
            "you shrink first and cut afterwards; z has to pass the threshold tλ itself.": _soft(z / shrink, t * lam),
            "the step t multiplies the penalty: the threshold is tλ.": _soft(z, lam) / (1 + 2 * lam * beta),
            "only the L1 part is there; β w² divides the result.": soft,
            "only the L2 part is there; |w| cuts by tλ first.": z / shrink,
            "β belongs to w²; the threshold is tλ.": _soft(z, t * lam * beta) / (1 + 2 * t * lam),
            "what stays must move towards zero by tλ too; you only cut.": torch.where(z.abs() > t * lam, z, 0) / shrink,
            "negative weights are wrong: work with |z| and put the sign back.": (z - t * lam).clamp(min=0) / shrink,
            "what is below the threshold must become zero, not change its sign.": (z - t * lam * z.sign()) / shrink,
        }
        right = torch.allclose(w.to(z), soft / shrink, atol=1e-6)
        for why, mistaken in mistakes.items():
            expect(right or not torch.allclose(w.to(z), mistaken, atol=1e-6), f"{place} {why}")
        at = (w - soft / shrink).abs().argmax()
        wanted, came, input_ = (v.flatten()[at].item() for v in (soft / shrink, w, z))
        expect(right, f"{place} z = {input_:.4g} should give {wanted:.4g}; yours is {came:.4g}.")
    return "four cases agree, with β = 0 (the lasso's) and λ = 0 (nothing) among them. Cut first, then shrink."


@checker
def clean(answer) -> str:
    """(prediction, gain with wrong labels, gain with right labels) of L2 0.01, as Estimates of a difference of accuracies."""
    prediction, noisy, right = prediction_then_run(answer, ("larger", "smaller", "gone"))
    expect(noisy.low > 0, f"with wrong labels your gain is {noisy}: subtract the accuracy of 'none' from that with the penalty.")
    expect(abs(right.mean) < 1, f"{right} is no difference of accuracies: they are fractions between 0 and 1.")
    outcome = "gone" if right.low <= 0 else "larger" if right.mean > noisy.mean else "smaller"
    same = prediction == outcome
    verdict = (
        "as you predicted." if same else f"you predicted {prediction!r}. What did the penalty keep the network from learning?"
    )
    return f"the gain went from {noisy} to {right}: {outcome!r}, {verdict}"


def _soft(z: torch.Tensor, t: float) -> torch.Tensor:
    return z.sign() * (z.abs() - t).clamp(min=0)
