"""Feedback for the exercises on federated learning."""

import math

import torch

from regbook.checks import checker, describe, expect, number, prediction_then_run

# --- heterogeneity -------------------------------------------------------------------------------------------------


@checker
def proximal_minimum(answer: object) -> str:
    """argmin of 2/2·(w − 4)² + 3/2·(w + 1)²: 1."""
    value = number(answer)
    mistakes = {
        4: "that is the device's own minimum, with μ = 0; the proximal term pulls it toward w_t.",
        -1: "that is w_t, where the device starts; its own loss pulls it away.",
        5: "that is a·c + μ·w_t; divide by a + μ.",
        1.6: "the term is centred on w_t = -1; you centred it on 0.",
        13 / 7: "the gradient of μ/2·(w − w_t)² is μ·(w − w_t): the half is gone.",
        2: "a belongs to c and μ to w_t; you exchanged them.",
        2.2: "w_t is -1, not 1: its sign got lost.",
        1.5: "the mean of c and w_t is weighted, by a and μ.",
    }
    for wrong, why in mistakes.items():
        expect(not math.isclose(value, wrong, abs_tol=0.01), why)
    expect(math.isclose(value, 1, abs_tol=0.01), f"{value:.3g} is not it. At the minimum 2·(w − 4) + 3·(w + 1) = 0.")
    return "the gradients are 2·(1 − 4) = -6 and 3·(1 + 1) = 6: they cancel."


PULLS = {  # usual mistakes: what is added to the gradient instead of μ·(w − w_t)
    "the term is missing, or pulls to the previous step, where its gradient is 0; it pulls to `start`.": lambda w, s, mu: 0 * w,
    "the sign: the term pushes away from `start`; its gradient is +μ·(w − start).": lambda w, s, mu: -mu * (w - s),
    "the gradient of μ/2·‖w − w_t‖² is μ·(w − w_t): the half is gone.": lambda w, s, mu: mu / 2 * (w - s),
    "the gradient of μ/2·‖w − w_t‖² is μ·(w − w_t), not twice that.": lambda w, s, mu: 2 * mu * (w - s),
    "the term pulls to 0, which is weight decay; it pulls to `start`.": lambda w, s, mu: mu * w,
}


def _descend(gradient, start, steps, lr, mu, pull=lambda w, s, mu: mu * (w - s)):
    w = start
    for _ in range(steps):
        w = w - lr * (gradient(w) + pull(w, start, mu))
    return w


@checker
def proximal_sgd(descend) -> str:
    """Gradient descent on a quadratic plus μ/2·‖w − w_t‖²; several strengths, shapes and lengths."""
    generator = torch.Generator().manual_seed(0)
    for special, shape, steps, mu in (
        ("no step", (3,), 0, 1.0),
        ("one step", (3,), 1, 0.5),
        ("five steps", (3,), 5, 0.5),
        ("μ = 0", (2, 4), 5, 0.0),
        ("a strong μ", (2, 4), 8, 3.0),
    ):
        a, c, start = (torch.randn(shape, generator=generator, dtype=torch.double) for _ in range(3))
        a, given, place = a.abs() + 0.5, start.clone(), f"With {special}:"

        def gradient(w, a=a, c=c):
            return a * (w - c)

        new = descend(gradient, start, steps, 0.1, mu)
        right = isinstance(new, torch.Tensor) and new.shape == start.shape
        expect(right, f"{place} return the weights, a tensor of shape {tuple(shape)}; {describe(new)} came.")
        same = torch.equal(start, given)
        expect(same, f"{place} `start` changed: after `w = start`, `w -= …` works on the same tensor. Write `w = w - …`.")
        asked = gradient, given, steps, 0.1, mu
        if not torch.allclose(new, _descend(*asked)):
            why = next((why for why, pull in PULLS.items() if torch.allclose(new, _descend(*asked, pull))), None)
            expect(False, f"{place} {why or f'after {steps} steps your weights differ from gradient descent on h_k.'}")
    return "five cases agree, and `start` stays as it was."


@checker
def dropped_with_term(answer) -> str:
    """(prediction, loss of dropping minus keeping with μ = 0, the same with μ = 1), as Estimates."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    expect(
        before.mean > 0, f"dropping should cost training loss, and your first gap is {before}: subtract keeping from dropping."
    )
    expect(after.high > 0, f"with μ = 1 your gap is {after}: subtract the loss of keeping from that of dropping.")
    outcome = "gone" if after.low <= 0 else "larger" if after.mean > before.mean else "smaller"
    verdict = "as you predicted." if prediction == outcome else f"you predicted {prediction!r}. Whose model is the server's now?"
    return f"the gap went from {before} to {after}: {outcome!r}, {verdict}"
