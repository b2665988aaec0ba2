"""Feedback for the exercises of ``chapters/norm-penalties``."""

import math

import torch

from regbook.checks import checker, expect, expect_number, number, prediction_then_run, trend, verdict


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
    expect_number(value, 3.05, mistakes, "Write down the two hinges first, then R.", abs_tol=1e-3)
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
    said = verdict(prediction, trend(noisy, right), "What did the penalty keep the network from learning?")
    return f"the gain went from {noisy} to {right}: {said}"


def _soft(z: torch.Tensor, t: float) -> torch.Tensor:
    return z.sign() * (z.abs() - t).clamp(min=0)


@checker
def prior_width(answer: object) -> str:
    """1/√(50,000 · 5e-4) = 0.2, to three digits."""
    value = number(answer)
    mistakes = {
        0.04: "that is the variance τ²; its root is asked for.",
        5.0: "that is 1/τ, the root of n·d.",
        25.0: "that is n·d = 1/τ², the prior's precision.",
        2000.0: "that is 1/d; the number of examples is missing, and so is the root.",
        2000**0.5: "the number of examples is missing: the prior counts once for all n of them, and the loss is their mean.",
        1 / 50**0.5: "SGD's weight decay is the gradient of (d/2) Σw², not of d Σw².",
        (2 / 25) ** 0.5: "SGD's weight decay is the gradient of (d/2) Σw²: no factor 2 is left.",
    }
    expect_number(value, 0.2, mistakes, "Solve d = 1/(nτ²) for τ.", rel_tol=5e-3)
    return "1/√(nd) = 1/√25 = 0.2: nine of ten weights within a third of a unit."


@checker
def map_estimate(answer) -> str:
    """c + (XᵀX + σ² diag(1/τ²))⁻¹ Xᵀ(y − Xc), on random problems, one with a single weight and one with fewer rows than weights."""
    generator = torch.Generator().manual_seed(0)
    for n, p, sigma in ((12, 3, 0.5), (4, 1, 2.0), (2, 5, 1.5)):
        X, y, centre, tau = (torch.randn(s, generator=generator).double() for s in ((n, p), (n,), (p,), (p,)))
        tau = tau.abs() + 0.3
        given = [each.clone() for each in (X, y, centre, tau)]
        w = answer(X, y, sigma, centre, tau)
        place = f"For n = {n}, p = {p}, σ = {sigma}:"
        expect(all(map(torch.equal, given, (X, y, centre, tau))), "your function changes its inputs; make new tensors.")
        expect(isinstance(w, torch.Tensor) and w.shape == (p,), f"{place} the result must be a tensor of shape ({p},).")
        right = _ridge(X, y - X @ centre, sigma**2 / tau**2)
        mistakes = {
            "the weights are pulled to zero; the prior's centre is missing.": _ridge(X, y, sigma**2 / tau**2),
            "that is v, the distance from the centre: add c again.": right,
            "c was added, but v has to explain y − Xc only.": centre + _ridge(X, y, sigma**2 / tau**2),
            "the noise is missing: λ is σ²/τ², not 1/τ².": centre + _ridge(X, y - X @ centre, 1 / tau**2),
            "τ is a standard deviation: λ is σ²/τ², not σ²/τ.": centre + _ridge(X, y - X @ centre, sigma**2 / tau),
            "σ is a standard deviation: λ is σ²/τ², not σ/τ².": centre + _ridge(X, y - X @ centre, sigma / tau**2),
            "the ratio is upside down: a narrow prior pulls more.": centre + _ridge(X, y - X @ centre, tau**2 / sigma**2),
            "each weight has its own width; you use one for all.": centre
            + _ridge(X, y - X @ centre, (sigma**2 / tau**2).mean().expand(p)),
        }
        agrees = torch.allclose(w.to(X), centre + right, atol=1e-5)
        for why, mistaken in mistakes.items():
            expect(agrees or not torch.allclose(w.to(X), mistaken, atol=1e-5), f"{place} {why}")
        expect(agrees, f"{place} {(centre + right).tolist()} is expected; {w.tolist()} came.")
    return "three problems agree, one of them with more weights than measurements."


@checker
def more_data(answer) -> str:
    """(prediction, shortfall with few points, with many), as Estimates: coverage of the narrow prior minus that of the right one."""
    prediction, few, many = prediction_then_run(answer, ("larger", "smaller", "gone"))
    expect(few.high < 0, f"with few points your shortfall is {few}: subtract the arm '1' from '1/4', not the other way round.")
    expect(many.mean > -1, f"{many} is no difference of shares: they are fractions between 0 and 1.")
    outcome = "gone" if abs(many.mean) < 0.02 else "smaller" if many.mean > few.mean else "larger"
    said = verdict(prediction, outcome, "Which shrinks faster, the pull or the band?")
    return f"the shortfall went from {few} to {many}: {said}"


def _ridge(X: torch.Tensor, y: torch.Tensor, strengths: torch.Tensor) -> torch.Tensor:
    return torch.linalg.solve(X.T @ X + torch.diag(strengths), X.T @ y)


@checker
def radius_by_hand(answer: object) -> str:
    """The length of (6/6.4 · 1, 0.4/0.8 · 3), to four digits."""
    value = number(answer)
    right = math.hypot(0.9375, 1.5)
    mistakes = {
        math.hypot(6 / 6.2, 2.0): "the penalty λ Σw² has the curvature 2λ: divide h by h + 2λ.",
        math.hypot(0.0625, 1.5): "that is what the penalty takes away; h/(h + 2λ) is the share that stays.",
        right**2: "that is k²; the radius is the root of the sum of squares.",
        0.9375 + 1.5: "the length of a vector is the root of its sum of squares, not the sum.",
        math.sqrt(10): "that is the minimum without a penalty; shrink its coordinates first.",
        math.hypot(0.9375, 0.5): "the shares multiply the coordinates 1 and 3 of the minimum.",
    }
    expect_number(value, right, mistakes, "Which share of each coordinate stays?", abs_tol=1e-3)
    return "the coordinates 0.9375 and 1.5 have the length 1.769."


@checker
def strength(answer) -> str:
    """The λ ≥ 0 with |h/(h + 2λ) · b| = k, and 0 where |b| <= k; to 0.1 %."""
    generator = torch.Generator().manual_seed(0)
    for size, share in ((2, 0.1), (1, 0.5), (6, 0.5), (40, 0.95), (5, 1.0), (5, 1.3)):
        h = 3 * torch.rand(size, generator=generator, dtype=torch.float64) + 0.05
        b = torch.randn(size, generator=generator, dtype=torch.float64)
        k = share * b.norm().item()
        given = h.clone(), b.clone()
        lam = number(answer(h, b, k))
        expect(torch.equal(h, given[0]) and torch.equal(b, given[1]), "your function changes its input; make new tensors.")
        place = f"With {size} eigenvalues and k = {share:g}·|w*|"
        if share >= 1:
            why = f"{place} the minimum lies in the ball, the constraint is inactive and λ is 0; {lam:.4g} came."
            expect(abs(lam) < 1e-3, why)
            continue
        reached = {factor: (h / (h + 2 * factor * lam) * b).norm().item() for factor in (1, 0.5, 2)}
        expect(
            not math.isclose(reached[0.5], k, rel_tol=1e-4),
            f"{place} you return 2λ, the curvature of the penalty; λ is half of it.",
        )
        expect(not math.isclose(reached[2], k, rel_tol=1e-4), f"{place} you return λ/2: the derivative of λw² is 2λw.")
        expect(not math.isclose(reached[1], k**2, rel_tol=1e-4), f"{place} your |w| is k²; compare the length with k.")
        expect(math.isclose(reached[1], k, rel_tol=1e-3), f"{place}, {k:.4g}, your λ = {lam:.4g} gives |w| = {reached[1]:.4g}.")
    return "six cases agree, active and inactive ones."


@checker
def loss_scale(answer) -> str:
    """(prediction, gain, gain with 100 times the loss) of L2 0.01 in Adam, as Estimates of a difference of accuracies."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    expect(
        before.low > 0, f"with the plain loss your gain is {before}: subtract the accuracy of 'none' from that with the penalty."
    )
    expect(abs(after.mean) < 1, f"{after} is no difference of accuracies: they are fractions between 0 and 1.")
    said = verdict(prediction, trend(before, after), "What does Adam divide by?")
    return f"the gain went from {before} to {after}: {said}"
