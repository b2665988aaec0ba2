"""The exercises of chapters/dropout, and what its pages define."""

import math
from fractions import Fraction
from itertools import combinations, pairwise

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT

from regbook import dropout
from regbook.checks import dropout as check
from regbook.claims import estimate
from regbook.press import pages

# --- masks ---------------------------------------------------------------------------------------------------------


def test_a_mask_is_drawn_again_from_its_seed_and_keeps_with_probability_p():
    like = torch.zeros(1, dtype=torch.float64)
    one, two = (dropout.keep((400, 300), 0.3, like=like, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two) and one.dtype == torch.float64 and set(one.unique().tolist()) == {0.0, 1.0}
    assert abs(one.mean() - 0.3) < 5 * (0.3 * 0.7 / one.numel()) ** 0.5
    assert dropout.keep((50,), 0.0, like=like).sum() == 0 and dropout.keep((50,), 1.0, like=like).sum() == 50
    torch.manual_seed(1)
    free = dropout.keep((400,), 0.5, like=like)
    torch.manual_seed(1)
    assert torch.equal(free, dropout.keep((400,), 0.5, like=like))


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(p):
    with pytest.raises(ValueError, match=f"p={p}; it is the probability of keeping, between 0 and 1"):
        dropout.keep((3,), p, like=torch.zeros(1))


# --- bagging -------------------------------------------------------------------------------------------------------


def definitions(section, *names):
    """These functions of a page, as the page writes them."""
    own = {"torch": torch, "F": F}
    for cell in pages.code_cells(pages.read(ROOT / f"chapters/dropout/{section}.ipynb")):
        for name in names:
            if (start := f"def {name}(") in cell and "return" in cell.partition(start)[2]:
                exec(start + cell.partition(start)[2].partition("\n\n\n")[0], own)
    return [own[name] for name in names]


def test_the_pages_products_give_the_error_of_every_group():
    vote, products, formula, draw = definitions("bagging", "vote", "products", "formula", "draw")
    torch.manual_seed(0)
    logits, y = 3 * torch.randn(5, 40, 10, dtype=torch.float64), torch.randint(10, (40,))
    G, v, c = products(logits, y)
    for k in range(1, 6):
        errors = []
        for group in map(list, combinations(range(5), k)):
            error = (logits[group].softmax(-1).mean(0) - F.one_hot(y, 10)).square().sum(1).mean()
            torch.testing.assert_close(G[group][:, group].mean(), error)
            errors.append(error)
        torch.testing.assert_close(torch.stack(errors).mean(), formula(v, c, k))
    answers = logits.argmax(-1)
    assert torch.equal(vote(answers), answers.mode(0).values)
    assert draw("parts", 12, 3).flatten().sort().values.tolist() == list(range(12))
    assert draw("all", 4, 2).tolist() == [[0, 1, 2, 3]] * 2
    assert draw("bootstrap", 50, 4).shape == (4, 50)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (4, "do not go together"),
        (3.2, "do not go together"),
        (16, "not 1"),
        (13, "is enough"),
        (5, "is not it"),
        (float("inf"), "a finite number"),
    ],
)
def test_members_by_hand(answer, words):
    assert check.members_by_hand(12.0).passed
    assert check.members_by_hand(...).passed is None
    feedback = check.members_by_hand(answer)
    assert feedback.passed is False and words in feedback.message


def unseen(p, rows):
    return torch.stack([~torch.isin(torch.arange(p.shape[1]), row) for row in rows]).to(p.dtype)[..., None]


def over_unseen(p, rows):
    left = unseen(p, rows)
    return (left * p).sum(0) / left.sum(0)


def in_place(p, rows):
    p *= unseen(p, rows)
    return p.sum(0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p, rows: p.mean(0), "all members"),
        (lambda p, rows: ((1 - unseen(p, rows)) * p).sum(0) / (1 - unseen(p, rows)).sum(0), "that saw the example"),
        (lambda p, rows: (unseen(p, rows) * p).mean(0), "divided by all members"),
        (lambda p, rows: over_unseen(p, rows).nan_to_num(0), "NaN is asked for"),
        (lambda p, rows: over_unseen(p, rows).mT, "n × classes"),
        (lambda p, rows: over_unseen(p, (rows + 1) % p.shape[1]), "the means are others"),
        (in_place, "changed its input"),
        (lambda p, rows: 0.5, "a tensor is needed"),
        (lambda p, rows: p[99], "raised IndexError"),
    ],
)
def test_out_of_bag(answer, words):
    assert check.out_of_bag(over_unseen).passed
    assert check.out_of_bag(lambda p, rows: ...).passed is None
    feedback = check.out_of_bag(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


LATE, EARLY = estimate([0.10, 0.12, 0.11]), estimate([0.05, 0.06, 0.05])


def test_early_members_tells_what_happened():
    assert "'smaller', as you predicted" in check.early_members(("smaller", LATE, EARLY)).message
    assert "you predicted 'gone'" in check.early_members(("gone", LATE, EARLY)).message
    assert "'gone', as you" in check.early_members(("gone", LATE, estimate([-0.01, 0.01, 0.0]))).message
    assert "'larger', as you" in check.early_members(("larger", LATE, estimate([0.2, 0.21, 0.2]))).message
    assert check.early_members((..., LATE, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("less", LATE, EARLY), "'less' came"),
        (("smaller", LATE, LATE), "the same"),
        (("smaller", estimate([-0.1, -0.12, -0.11]), EARLY), "subtract one member"),
        (("smaller", estimate([5.0, 6.0, 5.5]), EARLY), "between 0 and 1"),
        (("smaller", 0.11, EARLY), "mean and interval"),
    ],
)
def test_early_members_refuses(answer, words):
    feedback = check.early_members(answer)
    assert feedback.passed is False and words in feedback.message


# --- schedules, stochastic depth, fractional max pooling ------------------------------------------------------------


def test_the_curriculum_solves_its_differential_equation_and_stays_within_its_limits():
    for floor, gamma in ((0.5, 0.01), (0.0, 0.3), (1.0, 2.0), (0.7, 0.0)):
        theta = [dropout.curriculum(t, floor, gamma) for t in range(200)]
        assert theta[0] == 1 and all(floor <= b <= a <= 1 for a, b in pairwise(theta))
        for a, b in pairwise(theta):
            assert math.isclose(b - floor, (a - floor) * math.exp(-gamma), abs_tol=1e-12)


@pytest.mark.parametrize("bad", [(0, 1.2, 0.1), (0, -0.1, 0.1), (0, 0.5, -1), (-1, 0.5, 0.1), (0, 0.5, float("nan"))])
def test_a_curriculum_that_would_leave_its_limits_is_refused(bad):
    with pytest.raises(ValueError, match=r"between 0 and 1|leaves \[0, 1\]"):
        dropout.curriculum(*bad)


def test_scheduled_dropout_counts_training_passes_scales_and_can_be_replayed():
    def layer():
        return dropout.ScheduledDropout(lambda t: [1.0, 0.25, 0.0][t], torch.Generator().manual_seed(3))

    x = torch.rand(2000, dtype=torch.float64, requires_grad=True)
    one, two = layer(), layer()
    for t, values in enumerate(({1.0}, {0.0, 4.0}, {0.0})):
        out = one(x)
        assert torch.equal(out, two(x)) and out.dtype == torch.float64
        (grad,) = torch.autograd.grad(out.sum(), x)
        assert set(grad.unique().tolist()) == values and torch.equal(out, x * grad)
        assert torch.equal(one.eval()(x), x) and one.train().passes == t + 1
        if t == 1:
            assert abs((grad > 0).double().mean() - 0.25) < 0.05
    fresh = layer()
    fresh.load_state_dict(one.state_dict())
    assert fresh.passes == 3
    leaving = dropout.ScheduledDropout(lambda t: 1 - t)
    leaving(x), leaving(x)
    with pytest.raises(ValueError, match=r"theta\(2\)=-1"):
        leaving(x)
    assert leaving.passes == 2


def brute_force(x, rows, columns, overlapping=True):
    end = 1 if overlapping else 0
    lines = [[x[..., a : b + end, c : d + end].amax((-2, -1)) for c, d in pairwise(columns)] for a, b in pairwise(rows)]
    return torch.stack([torch.stack(line, -1) for line in lines], -2)


@pytest.mark.parametrize("kind", ["pseudorandom", "random"])
def test_regions_have_steps_of_one_and_two_and_reach_from_end_to_end(kind):
    generator = torch.Generator().manual_seed(0)
    for n_in in range(2, 30):
        for n_out in range(-(-(n_in - 1) // 2), n_in):
            borders = dropout.fractional_regions(n_in, n_out, kind=kind, generator=generator)
            assert len(borders) == n_out + 1 and borders[0] == 0 and borders[-1] == n_in - 1
            assert set(borders.diff().tolist()) <= {1, 2}


def test_pseudorandom_regions_follow_the_formula_exactly_and_random_ones_shuffle():
    for n_in, n_out in ((28, 20), (10, 7), (8, 5), (13, 6)):
        alpha = Fraction(n_in - 1, n_out)
        for u in (0.0, 0.125, 0.5, 0.8125):  # binary fractions: exact
            wanted = [math.ceil(alpha * (i + Fraction(u))) - math.ceil(alpha * Fraction(u)) for i in range(n_out + 1)]
            assert dropout.fractional_regions(n_in, n_out, u=u).tolist() == wanted
    generator = torch.Generator().manual_seed(0)
    seen = {tuple(dropout.fractional_regions(8, 5, kind="random", generator=generator).tolist()) for _ in range(400)}
    regular = {tuple(dropout.fractional_regions(8, 5, generator=generator).tolist()) for _ in range(400)}
    assert len(seen) == math.comb(5, 2) and len(regular) == 5 and regular < seen


@pytest.mark.parametrize("overlapping", [True, False])
def test_fractional_pooling_is_the_maximum_of_each_region_and_so_is_its_gradient(overlapping):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 11, 14, dtype=torch.float64, generator=generator, requires_grad=True)
    for kind in ("pseudorandom", "random"):
        rows = dropout.fractional_regions(11, 7, kind=kind, generator=generator)
        columns = dropout.fractional_regions(14, 8, kind=kind, generator=generator)
        fast = dropout.fractional_max_pool2d(x, rows, columns, overlapping=overlapping)
        slow = brute_force(x, rows, columns, overlapping)
        assert fast.shape == (2, 3, 7, 8) and torch.equal(fast, slow)
        weights = torch.randn(fast.shape, dtype=torch.float64, generator=generator)
        one, two = (torch.autograd.grad((out * weights).sum(), x)[0] for out in (fast, slow))
        torch.testing.assert_close(one, two)


def test_the_pooling_layer_draws_in_eval_mode_too_unless_its_phase_is_fixed():
    x = torch.randn(2, 3, 10, 12)
    one, two = (dropout.FractionalMaxPool2d(7, generator=torch.Generator().manual_seed(2)).eval() for _ in range(2))
    first = [one(x) for _ in range(5)]
    assert all(torch.equal(out, two(x)) for out in first) and not all(torch.equal(out, first[0]) for out in first)
    still = dropout.FractionalMaxPool2d(7, u=0.5)
    assert torch.equal(still(x), still(x)) and still(x).shape == (2, 3, 7, 7)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dropout.fractional_regions(10, 4), "n_in=10, n_out=4"),
        (lambda: dropout.fractional_regions(10, 10), "n_in=10, n_out=10"),
        (lambda: dropout.fractional_regions(10, 7, u=1.0), "u=1.0"),
        (lambda: dropout.fractional_regions(10, 7, kind="regular"), "kind='regular'"),
        (lambda: dropout.fractional_regions(10, 7, u=0.1, kind="random"), "u=0.1"),
        (
            lambda: dropout.fractional_max_pool2d(torch.zeros(1, 1, 5, 5), torch.tensor([0, 3]), torch.tensor([0, 2])),
            "steps of 1",
        ),
        (lambda: dropout.fractional_max_pool2d(torch.zeros(1, 1, 5, 5), torch.tensor([4, 5]), torch.tensor([0, 2])), "0 … 4"),
    ],
)
def test_regions_that_cannot_be_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("answer", "words"), [(15, "counts from 1"), (10, "only the last"), (5.25, "dropped"), (20, "test time"), (14, "Add up")]
)
def test_blocks_by_hand(answer, words):
    assert check.blocks_by_hand(14.75).passed
    assert check.blocks_by_hand(...).passed is None
    feedback = check.blocks_by_hand(answer)
    assert feedback.passed is False and words in feedback.message


def rows_alive(x, p, shape=None):
    return (torch.rand(shape or (len(x), 1, 1)) < p).to(x.dtype)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, f, p, t: x + f(x) * rows_alive(x, p) if t else x + p * f(x), "the paper's rule"),
        (lambda x, f, p, t: x + f(x) * rows_alive(x, p) if t else x + f(x), "divided by p"),
        (lambda x, f, p, t: x + f(x) * rows_alive(x, p) / p if t else x + f(x), "NaN came"),
        (lambda x, f, p, t: x + f(x) * rows_alive(x, p) / (p or 1), "nothing is drawn"),
        (lambda x, f, p, t: x + f(x) * rows_alive(x, p, (1, 1, 1)) / (p or 1) if t else x + f(x), "one draw decides"),
        (lambda x, f, p, t: x + f(x) * rows_alive(x, p, x.shape) / (p or 1) if t else x + f(x), "one number an example"),
        (lambda x, f, p, t: x + f(x) * rows_alive(x, 1 - p) / ((1 - p) or 1) if t else x + f(x), "every branch survives"),
        (lambda x, f, p, t: (x + f(x)) * rows_alive(x, p) / (p or 1) if t else x + f(x), "the output is x"),
        (lambda x, f, p, t: x + f(x) * rows_alive(x, p) / (p * p or 1) if t else x + f(x), "counts 4 times"),
    ],
)
def test_residual_rows(answer, words):
    torch.manual_seed(0)
    (block,) = definitions("schedules-and-depth", "block")
    assert check.residual_rows(block).passed, check.residual_rows(block).message
    assert check.residual_rows(lambda x, f, p, training: ...).passed is None
    feedback = check.residual_rows(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


def test_clean_lead_tells_what_happened():
    noisy, clean, none = (estimate(values) for values in ([0.1, 0.12, 0.11], [0.02, 0.03, 0.025], [-0.01, 0.01, 0.0]))
    assert "'smaller', as you predicted" in check.clean_lead(("smaller", noisy, clean)).message
    assert "'gone', you predicted 'larger'" in check.clean_lead(("larger", noisy, none)).message
    assert check.clean_lead((..., noisy, ...)).passed is None
    for answer, words in (
        (("less", noisy, clean), "'less' came"),
        (("gone", noisy, noisy), "the same"),
        (("gone", estimate([-0.1, -0.12, -0.11]), clean), "subtract none"),
    ):
        feedback = check.clean_lead(answer)
        assert feedback.passed is False and words in feedback.message
