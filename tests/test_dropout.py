"""The exercises of chapters/dropout, and what its pages define."""

import math
from itertools import combinations

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


# --- coarse to fine ------------------------------------------------------------------------------------------------


def test_the_pages_pictures_are_kronecker_products_and_their_average_is_the_big_digit():
    compose, shuffle_cells = definitions("coarse-to-fine", "compose", "shuffle_cells")
    torch.manual_seed(0)
    big, small = (torch.rand(3, 8, 8) > 0.5).float(), torch.rand(3, 8, 8)
    pictures = compose(big, small)
    for picture, m, s in zip(pictures, big, small, strict=True):
        torch.testing.assert_close(picture[0], torch.kron(m, s))
    average = F.avg_pool2d(pictures, 8)[:, 0]
    torch.testing.assert_close(average, small.mean((1, 2), keepdim=True) * big)
    order = torch.rand(3, 64).argsort(1)
    moved = F.avg_pool2d(shuffle_cells(pictures, order), 8).flatten(1)
    torch.testing.assert_close(moved, average.flatten(1).gather(1, order))
    assert check.shuffle_cells(shuffle_cells).passed


def test_the_pages_blur_keeps_the_sum_and_halves_a_wave_where_the_exercise_says():
    (blur,) = definitions("coarse-to-fine", "blur")
    dot = torch.zeros(1, 1, 64, 64)
    dot[..., 32, 32] = 1
    for sigma in (0, 0.5, 1.5, 4):
        torch.testing.assert_close(blur(dot, sigma).sum(), torch.tensor(1.0), atol=1e-5, rtol=0)
    wave = (2 * torch.pi * torch.arange(64) / 8).cos().expand(64, 64)
    sigma = 8 / math.pi * math.sqrt(math.log(2) / 2)
    torch.testing.assert_close(blur(wave, sigma)[16:48, 16:48], wave[16:48, 16:48] / 2, atol=1e-3, rtol=0)
    assert check.half_amplitude(sigma).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (1.499 / 64, "1/8 per pixel"),
        (4.710, "π is missing"),
        (9.420, "angular frequency"),
        (2.248, "take the root"),
        (2.120, "with a factor 2"),
        (0.988, "natural logarithm"),
        (3.0, "Solve"),
        ("σ", "a finite number"),
    ],
)
def test_half_amplitude(answer, words):
    assert check.half_amplitude(...).passed is None
    feedback = check.half_amplitude(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


def shuffled(x, order):
    cells = x.reshape(-1, 8, 8, 8, 8).transpose(2, 3).flatten(1, 2)
    cells = cells[torch.arange(len(x))[:, None], order]
    return cells.unflatten(1, (8, 8)).transpose(2, 3).reshape(x.shape)


def pixels_apart(x, order):
    cells = x.reshape(-1, 8, 8, 8, 8).permute(0, 2, 4, 1, 3).flatten(1, 2)
    cells = cells[torch.arange(len(x))[:, None], order]
    return cells.unflatten(1, (8, 8)).permute(0, 3, 1, 4, 2).reshape(x.shape)


def over_the_input(x, order):
    return x.copy_(shuffled(x, order))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, order: shuffled(x, order.argsort(1)), "you moved cell k to order[n, k]"),
        (lambda x, order: shuffled(x, order[:1].expand_as(order)), "the permutation of the first"),
        (lambda x, order: shuffled(x.mT, order).mT, "column by column"),
        (lambda x, order: shuffled(x, order).reshape(-1, 1, 8, 8, 8, 8).transpose(3, 5).reshape(x.shape), "exchanged"),
        (lambda x, order: x.clone(), "nothing was moved"),
        (lambda x, order: shuffled(x, order)[:, 0], "is needed"),
        (lambda x, order: shuffled(x, (order + 1) % 64), "the cells are others"),
        (pixels_apart, "pixels 8 apart"),
        (over_the_input, "changed its input"),
        (lambda x, order: x[:, :, order], "is needed"),
        (lambda x, order: x[99], "raised IndexError"),
    ],
)
def test_shuffle_cells(answer, words):
    assert check.shuffle_cells(shuffled).passed
    assert check.shuffle_cells(lambda x, order: ...).passed is None
    feedback = check.shuffle_cells(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


FEW, MANY = estimate([0.14, 0.12, 0.16]), estimate([0.05, 0.06, 0.05])


def test_more_labels_tells_what_happened():
    assert "'smaller', as you predicted" in check.more_labels(("smaller", FEW, MANY)).message
    assert "you predicted 'larger'" in check.more_labels(("larger", FEW, MANY)).message
    assert "'gone', as you" in check.more_labels(("gone", FEW, estimate([-0.01, 0.01, 0.0]))).message
    assert check.more_labels((..., FEW, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("less", FEW, MANY), "'less' came"),
        (("smaller", FEW, FEW), "the same"),
        (("smaller", estimate([-0.1, -0.12, -0.11]), MANY), "subtract one path"),
        (("smaller", estimate([14.0, 12.0, 16.0]), MANY), "between 0 and 1"),
        (("smaller", 0.11, MANY), "mean and interval"),
    ],
)
def test_more_labels_refuses(answer, words):
    feedback = check.more_labels(answer)
    assert feedback.passed is False and words in feedback.message
