"""The exercises of chapters/dropout, and what its pages define."""

from itertools import combinations, product

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT

from regbook import dropout, models
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


# --- dropout -------------------------------------------------------------------------------------------------------


def page_functions(*names):
    """Like ``definitions``, for functions that use each other and other names of the page."""
    own = {"torch": torch, "F": F, "nn": torch.nn, "product": product, "device": lambda: torch.device("cpu")}
    for cell in pages.code_cells(pages.read(ROOT / "chapters/dropout/dropout.ipynb")):
        for name in names:
            if (start := f"def {name}(") in cell and "return" in cell.partition(start)[2]:
                exec(start + cell.partition(start)[2].partition("\n\n\n")[0], own)
    return [own[name] for name in names]


def test_the_pages_enumeration_has_all_masks_and_the_right_averages():
    every_mask, probability, has_path, no_path = page_functions("every_mask", "probability", "has_path", "no_path")
    for n, p in ((1, 0.5), (5, 0.3), (4, 0.0), (4, 1.0)):
        masks = every_mask(n)
        assert masks.shape == (2**n, n) and len(masks.unique(dim=0)) == 2**n
        chance = probability(masks, p)
        torch.testing.assert_close(chance.sum(), torch.tensor(1.0))
        torch.testing.assert_close(chance @ masks, torch.full((n,), float(p)))
    assert has_path(every_mask(4)).sum() == 9
    for p in (0.5, 0.9):
        assert no_path(2, p) == pytest.approx(probability(every_mask(4), p)[~has_path(every_mask(4))].sum().item())


def test_the_pages_members_are_the_sub_networks_of_the_real_network():
    """With masks set by hand in place of nn.Dropout."""
    _, _, every_member, three_answers = page_functions("every_mask", "probability", "every_member", "three_answers")
    torch.manual_seed(0)
    net, p = models.mlp(7, (6, 6), 3, dropout=0.4).eval(), 0.6
    x = torch.rand(4, 1, 7)
    log_p, weight = every_member(net, x, p)
    assert log_p.shape == (4096, 4, 3) and weight.sum() == pytest.approx(1, abs=1e-5)
    first, second, last = (layer for layer in net if isinstance(layer, torch.nn.Linear))
    masks = torch.tensor(list(product((0.0, 1.0), repeat=6)))
    for i, j in ((0, 63), (5, 17), (63, 0), (40, 40)):  # second layer, first layer
        h = F.relu(second(F.relu(first(x.flatten(1))) * masks[j] / p)) * masks[i] / p
        torch.testing.assert_close(log_p[64 * i + j], last(h).log_softmax(-1))
        assert weight[64 * i + j].item() == pytest.approx(
            p ** (masks[i].sum() + masks[j].sum()).item() * (1 - p) ** (12 - (masks[i].sum() + masks[j].sum()).item()), rel=1e-4
        )
    scaled, geometric, arithmetic = three_answers(net, x, p)
    torch.testing.assert_close(scaled, net(x).softmax(-1))
    for mean in (geometric, arithmetic):
        torch.testing.assert_close(mean.sum(-1), torch.ones(4))
    net.train()
    drawn = torch.stack([net(x).softmax(-1) for _ in range(4000)]).mean(0)
    assert (drawn - arithmetic).abs().max() < 0.02


def test_the_pages_ranking_is_the_auroc():
    (ranked,) = page_functions("ranked")
    low, high = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 3.0])
    assert ranked(low, high).item() == pytest.approx((1 + 0.5 + 0 + 3) / 6)
    assert ranked(high, low).item() == pytest.approx(1 - 4.5 / 6)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.8, "weight scaling"),
        (0.75, "equally likely"),
        (1, "average over the masks"),
        (1.2, "rescales nothing"),
        (0.92, "adds nothing"),
        (0.64, "second mask"),
        (0.5, "two of them give 0"),
    ],
)
def test_relu_by_hand(answer, words):
    assert check.relu_by_hand(0.96).passed
    assert check.relu_by_hand(...).passed is None
    feedback = check.relu_by_hand(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


def network(train=lambda h, p: F.dropout(h, 1 - p), test=lambda h, p: h, last=lambda out, p: out, first=lambda x, p: x):
    """A three-layer network with ``train`` or ``test`` on its hidden layers."""

    def answer(x, layers, p, training):
        *inner, (W, b) = layers
        x = first(x, p) if training else x
        for V, c in inner:
            x = (train if training else test)(F.relu(x @ V.T + c), p)
        return last(x @ W.T + b, p if training else 1)

    return answer


def drop(h, p):
    return (torch.rand_like(h) < p) * h


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (network(test=lambda h, p: F.dropout(h, 1 - p)), "hand the flag on"),
        (network(test=lambda h, p: h * p), "scale twice"),
        (network(test=lambda h, p: h * (1 - p)), "multiplied by 1 − p"),
        (network(test=lambda h, p: h / p), "in training only"),
        (network(train=drop), "is not divided by p"),
        (network(train=drop, test=lambda h, p: h * p), "scale twice"),
        (network(train=F.dropout), "the probability of dropping"),
        (network(train=lambda h, p: drop(h, p) * p), "multiplied by p; divide"),
        (network(train=lambda h, p: F.dropout(h, 1 - p) / p), "divide by p twice"),
        (network(train=lambda h, p: h), "nothing was dropped"),
        (network(train=lambda h, p: drop(h, 1 - p) / p), "are not kept with probability p"),
        (network(train=lambda h, p: h * (torch.rand(h.shape[1]) < p) / p), "share one mask"),
        (network(first=lambda x, p: F.dropout(x, 1 - p)), "nothing else"),
        (network(last=lambda out, p: F.dropout(out, 1 - p)), "outputs were dropped"),
        (network(last=lambda out, p: F.relu(out)), "no ReLU behind it"),
        (network(train=lambda h, p: drop(h, p) / p), "p = 0 your output is NaN"),
        (lambda x, layers, p, training: x.mul_(2), "changed its input"),
        (lambda x, layers, p, training: x, "N × outputs"),
        (lambda x, layers, p, training: 1.0, "a tensor is needed"),
        (lambda x, layers, p, training: x @ layers[0], "raised"),
    ],
)
def test_three_layers(answer, words):
    assert check.three_layers(network()).passed
    assert check.three_layers(network(train=lambda h, p: drop(h, p) / (p or 1))).passed
    assert check.three_layers(lambda x, layers, p, training: ...).passed is None
    feedback = check.three_layers(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


WIDE, NARROW = estimate([0.11, 0.12, 0.10]), estimate([-0.2, -0.22, -0.19])


def test_narrow_tells_what_happened():
    assert "'gone', as you predicted" in check.narrow(("gone", WIDE, NARROW)).message
    assert "you predicted 'larger'. How many units" in check.narrow(("larger", WIDE, NARROW)).message
    assert "'smaller', as you" in check.narrow(("smaller", WIDE, estimate([0.05, 0.06, 0.05]))).message
    assert check.narrow((..., WIDE, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("less", WIDE, NARROW), "'less' came"),
        (("gone", WIDE, WIDE), "the same"),
        (("gone", NARROW, WIDE), "subtract p = 1"),
        (("gone", estimate([11.0, 12.0, 11.5]), NARROW), "between 0 and 1"),
        (("gone", 0.1, NARROW), "mean and interval"),
    ],
)
def test_narrow_refuses(answer, words):
    feedback = check.narrow(answer)
    assert feedback.passed is False and words in feedback.message
