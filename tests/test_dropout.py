"""The exercises of chapters/dropout, and what its pages define."""

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
