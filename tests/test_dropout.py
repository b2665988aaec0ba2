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


# --- noisy labels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0.0, 0.4, 3.0])
def test_self_paced_weights_minimize_what_they_are_said_to_minimize(width):
    loss, threshold = torch.linspace(0, 6, 61, dtype=torch.float64) + 0.013, 1.7
    v = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    by_search = v[(v * loss + width / 2 * v**2 - (threshold + width) * v).argmin(0), 0]
    found = dropout.self_paced(loss, threshold, width)
    torch.testing.assert_close(found, by_search, atol=1e-3, rtol=0)
    assert found.dtype == torch.float64 and found.diff().max() <= 0


def test_self_paced_takes_one_threshold_a_row_and_refuses_a_negative_width():
    loss = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    assert dropout.self_paced(loss, torch.tensor([[1.0], [2.0]])).tolist() == [[1, 0], [1, 1]]
    with pytest.raises(ValueError, match="width=-1"):
        dropout.self_paced(loss, 1.0, -1)


def test_loss_history_by_hand():
    history = dropout.LossHistory(percentile=0.5, decay=0.25)
    first = history(torch.tensor([[1.0, 2.0, 6.0]], requires_grad=True), 0.0)
    assert first.tolist() == [[[1, 1, -1, 0], [2, 2, 0, 0], [6, 6, 4, 0]]] and not first.requires_grad
    second = history(torch.tensor([[3.0, 4.0, 10.0]]), 0.5)  # level 0.25·2 + 0.75·4 = 3.5
    assert second.tolist() == [[[3, 2.5, -0.5, 0.5], [4, 3.5, 0.5, 0.5], [10, 9, 6.5, 0.5]]]
    with pytest.raises(ValueError, match="use a new LossHistory"):
        history(torch.zeros(4), 0.6)


@pytest.mark.parametrize("name", ["percentile", "decay"])
def test_loss_history_refuses_what_is_no_share(name):
    with pytest.raises(ValueError, match=f"{name}=75"):
        dropout.LossHistory(**{name: 75})


def test_a_mentor_learns_a_rule_and_gives_weights_without_gradient():
    torch.manual_seed(0)
    mentor, features = dropout.MentorNet(), torch.randn(2, 50, 4)
    assert mentor(features).shape == (2, 50) and mentor(features).requires_grad
    optimizer = torch.optim.Adam(mentor.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(mentor(features), (features[..., 2] < 0).float()).backward()
        optimizer.step()
    v = mentor.weights(features)
    assert not v.requires_grad and ((v >= 0) & (v <= 1)).all() and torch.equal(v, mentor(features).sigmoid())
    assert ((v > 0.5) == (features[..., 2] < 0)).float().mean() > 0.95


def test_the_pages_agreement_and_ranking():
    agreement, ranked = definitions("noisy-labels", "agreement", "ranked")
    torch.manual_seed(0)
    truth = torch.randint(5, (200_000,))
    labels = torch.where(torch.rand(200_000) < 0.3, (truth + torch.randint(1, 5, (200_000,))) % 5, truth)
    answers = torch.where(torch.rand(200_000) < 0.4, (truth + torch.randint(1, 5, (200_000,))) % 5, truth)
    assert abs((answers == labels).float().mean().item() - agreement(0.6, 0.3, 5)) < 0.006
    assert agreement(0.2, 0.9) == pytest.approx(agreement(0.8, 0.9))  # nine in ten of ten classes: the labels say nothing
    v, wrong = torch.rand(40), torch.rand(40) < 0.5
    pairs = [float(a > b) for a in v[~wrong] for b in v[wrong]]
    assert ranked(v, wrong).item() == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.725, "a fifth is wrong"),
        (0.90625, "by luck"),
        (0.84375, "the slope"),
        (0.9013158, "not of all 5"),
        (0.5, "is not it"),
        (float("nan"), "a finite number"),
    ],
)
def test_true_accuracy(answer, words):
    assert check.true_accuracy(0.9).passed
    assert check.true_accuracy(...).passed is None
    feedback = check.true_accuracy(answer)
    assert feedback.passed is False and words in feedback.message


def forgotten(right):
    return (right[:-1] & ~right[1:]).sum(0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda right: (right[:-1] != right[1:]).sum(0), "both directions"),
        (lambda right: (~right[:-1] & right[1:]).sum(0), "is learned"),
        (lambda right: (~right).sum(0), "stays wrong"),
        (lambda right: (right[:-1] & ~right[1:]).any(0), "not how often"),
        (lambda right: (right[:-1] & ~right[1:]).sum(1), "one count an example"),
        (lambda right: (right & ~right.roll(-1, 0)).sum(0), "the counts are others"),
        (lambda right: forgotten(right.logical_not_()), "changed its input"),
        (lambda right: 3, "a tensor is needed"),
        (lambda right: right[99], "raised IndexError"),
    ],
)
def test_forgetting_events(answer, words):
    assert check.forgetting_events(forgotten).passed
    assert check.forgetting_events(lambda right: ...).passed is None
    feedback = check.forgetting_events(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


def test_clean_labels_tells_what_happened_and_refuses():
    assert "'smaller', as you predicted" in check.clean_labels(("smaller", LATE, EARLY)).message
    assert "'gone', you predicted 'larger'" in check.clean_labels(("larger", LATE, estimate([-0.01, 0.01, 0.0]))).message
    assert check.clean_labels((..., LATE, ...)).passed is None
    for answer, words in [
        (("less", LATE, EARLY), "'less' came"),
        (("smaller", LATE, LATE), "the same"),
        (("smaller", estimate([-0.1, -0.12, -0.11]), EARLY), "subtract no regularizer"),
        (("smaller", estimate([10.0, 12.0, 11.0]), EARLY), "between 0 and 1"),
        (("smaller", 0.1, EARLY), "mean and interval"),
    ]:
        feedback = check.clean_labels(answer)
        assert feedback.passed is False and words in feedback.message
