"""The exercises of chapters/early-stopping, and the closed forms of its page on weight decay."""

import pytest
import torch
from conftest import ROOT

from regbook.checks import early_stopping as check
from regbook.claims import estimate
from regbook.press import pages

# --- the page on weight decay ----------------------------------------------------------------------------------------


def page() -> dict:
    """The functions of the page's formulas, and the solution of the exercise on them, without its experiments."""
    namespace = {"torch": torch}
    for cell in pages.code_cells(pages.read(ROOT / "chapters/early-stopping/as-weight-decay.ipynb")):
        for name in ("share_of_steps", "matched", "matched_steps"):
            if f"def {name}(" in cell and "...\n" not in cell:
                start = cell.index("def ")  # of the cell only its functions, not what it does with them
                exec("\n\n".join(part for part in cell[start:].split("\n\n\n") if part.startswith("def ")), namespace)
    return namespace


def test_the_pages_shares_are_descent_and_ridge_on_a_diagonal_loss():
    functions, h = page(), torch.tensor([2.0, 0.7, 0.01], dtype=torch.float64)
    w = torch.zeros(3, dtype=torch.float64)
    for _ in range(25):
        w = w - 0.3 * h * (w - 1)
    torch.testing.assert_close(functions["share_of_steps"](h, 0.3, 25), w)
    ridge = functions["share_of_penalty"](h, 0.4)
    torch.testing.assert_close(h * (ridge - 1) + 0.4 * ridge, torch.zeros_like(h))


def test_the_pages_exact_penalty_and_exact_steps_undo_each_other():
    functions, h = page(), torch.tensor([1.5, 0.3, 0.02], dtype=torch.float64)
    for tau in (1, 7, 40):
        alpha = functions["matched"](h, 0.2, tau)
        torch.testing.assert_close(functions["share_of_penalty"](h, alpha), functions["share_of_steps"](h, 0.2, tau))
        torch.testing.assert_close(functions["matched_steps"](h, 0.2, alpha), torch.full_like(h, tau))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (2000, "you took λ for α"),
        (4000, "twice λ and not half"),
        (200, "that is 1/λ"),
        (100, "that is 1/α"),
        (10, "you multiplied by ε"),
        (20, "and took λ for α"),
        (0.001, "that is εα"),
        (900, "900 is not it"),
        ("many", "a finite number"),
    ],
)
def test_steps_by_hand(answer, words):
    assert check.steps_by_hand(1000).passed and check.steps_by_hand(...).passed is None
    feedback = check.steps_by_hand(answer)
    assert feedback.passed is False and words in feedback.message


def right(h, rate, alpha, curvature=1.0):
    safe = torch.where(h == 0, 1, h)
    return torch.where(h == 0, 1 / (rate * alpha), -torch.log1p(safe / (curvature * alpha)) / torch.log1p(-rate * safe))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda h, rate, alpha: torch.full_like(h, 1 / (rate * alpha)), "that is the approximation"),
        (lambda h, rate, alpha: torch.log1p(h / alpha) / (rate * h), "you replaced log(1 − εh)"),
        (lambda h, rate, alpha: -h / alpha / torch.log1p(-rate * h), "you replaced log(1 + h/α)"),
        (lambda h, rate, alpha: -right(h, rate, alpha), "the sign"),
        (lambda h, rate, alpha: torch.log(h / (h + alpha)) / torch.log1p(-rate * h), "you forgot the one minus"),
        (lambda h, rate, alpha: h / (h + alpha), "not a number of steps"),
        (lambda h, rate, alpha: 1 / right(h, rate, alpha), "upside down"),
        (lambda h, rate, alpha: right(h, rate, alpha, curvature=2.0), "not 2α"),
        (lambda h, rate, alpha: right(h, rate, alpha).round(), "do not round"),
        (lambda h, rate, alpha: -torch.log1p(h / alpha) / torch.log1p(-rate * h), "h = 0 gives 0/0"),
        (lambda h, rate, alpha: torch.where(h == 0, 0, right(h, rate, alpha)), "should give 50; yours is 0"),
        (lambda h, rate, alpha: right(h, rate, alpha) + 1, "should give"),
        (lambda h, rate, alpha: right(h, rate, alpha).sum(), "a tensor of the shape of h"),
        (lambda h, rate, alpha: h.mul_(2), "changes its input"),
    ],
)
def test_matched_steps(answer, words):
    assert check.matched_steps(right).passed and check.matched_steps(page()["matched_steps"]).passed
    assert check.matched_steps(lambda h, rate, alpha: ...).passed is None
    feedback = check.matched_steps(answer)
    assert feedback.passed is False and words in feedback.message


def test_momentum():
    slow, fast = estimate([500.0, 560.0, 530.0]), estimate([50.0, 56.0, 53.0])
    assert "'a tenth', as you predicted" in check.momentum(("a tenth", slow, fast)).message
    same = check.momentum(("a third", slow, estimate([510.0, 550.0, 520.0])))
    assert same.passed and "'the same', you predicted 'a third'" in same.message
    assert "'a third'" in check.momentum(("the same", slow, estimate([170.0, 180.0, 190.0]))).message
    assert check.momentum((..., slow, fast)).passed is None and check.momentum(("a tenth", slow, ...)).passed is None
    for answer, words in (
        (("a tenth", fast, slow), "without momentum you needed"),
        (("a tenth", slow, estimate([2000.0, 2100.0])), "give the run without momentum first"),
        (("a tenth", slow, estimate([0.0, 0.1])), "is no number of steps"),
        (("a half", slow, fast), "predict one of"),
        (("a tenth", slow, 50.0), "what `difference` returns"),
        (("a tenth", slow, slow), "the same"),
    ):
        feedback = check.momentum(answer)
        assert feedback.passed is False and words in feedback.message
