"""Feedback for the exercises of ``chapters/early-stopping``."""

import math

import torch

from regbook.checks import checker, expect, number, prediction_then_run


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
    for mistaken, why in mistakes.items():
        expect(not math.isclose(value, mistaken, rel_tol=5e-3), why)
    expect(math.isclose(value, 1000, rel_tol=5e-3), f"{value:.4g} is not it. Find α first, then 1/(εα).")
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
    verdict = "as you predicted." if prediction == outcome else f"you predicted {prediction!r}. How long does v become?"
    return f"{plain} steps without momentum, {fast} with: about {outcome!r}, {verdict}"
