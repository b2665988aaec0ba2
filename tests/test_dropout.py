"""The exercises of chapters/dropout, and what its pages define."""

import math
from fractions import Fraction
from itertools import combinations, pairwise, product

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


# --- where the mask sits -------------------------------------------------------------------------------------------


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def every_mask(n):
    return (torch.arange(2**n)[:, None] >> torch.arange(n) & 1).double()


def exact(layer, v, masks, chance):
    """Mean and variance of the pre-activation, and mean of the ReLU, over all ``masks`` (K × out × in + 1)."""
    W = torch.cat([layer.weight, layer.bias[:, None]], 1)
    u = (masks * W) @ F.pad(v, (0, 1), value=1.0)
    mean = chance @ u
    return mean, chance @ (u - mean).square(), chance @ u.relu()


@pytest.mark.parametrize("p", [0.3, 0.5, 0.8])
def test_eval_mode_knows_mean_and_variance_over_all_masks_of_weights_or_of_inputs(p):
    torch.manual_seed(0)
    v = torch.randn(3, dtype=torch.float64)
    for kind, n in ((dropout.DropConnect, 8), (dropout.DropAll, 4)):
        layer = kind(3, 2, p, activation=lambda u: u, samples=0).double().eval()
        masks = every_mask(n)
        chance = (p**masks * (1 - p) ** (1 - masks)).prod(1)
        shaped = masks.view(-1, 2, 4) if n == 8 else masks[:, None].expand(-1, 2, -1)  # DropAll's other half: whole columns
        with torch.no_grad():
            mean, variance, _ = exact(layer, v, shaped, chance)
            torch.testing.assert_close(layer(v), mean)
            layer.activation, layer.samples = torch.square, 40_000  # the mean square shows the variance
            torch.testing.assert_close(layer(v), mean.square() + variance, rtol=0.05, atol=0.01)


def test_the_gaussian_is_nearer_to_all_masks_than_scaled_weights_and_the_page_has_its_closed_form():
    gaussian_relu, mean_and_std, page_masks = definitions("drop-family", "gaussian_relu", "mean_and_std", "every_mask")
    assert torch.equal(page_masks(5), every_mask(5))
    torch.manual_seed(1)
    layer = dropout.DropConnect(9, 6, 0.5, samples=4000, generator=seeded()).double().eval()
    v, masks = torch.randn(9, dtype=torch.float64), every_mask(10)
    with torch.no_grad():
        _, _, truth = exact(layer, v, masks[:, None].expand(-1, 6, -1), torch.full((1024,), 1 / 1024, dtype=torch.float64))
        closed, drawn = gaussian_relu(*mean_and_std(layer, v)), layer(v)
        layer.samples = 0
        scaled = layer(v)
    torch.testing.assert_close(drawn, closed, atol=0.03, rtol=0)
    assert (closed - truth).abs().mean() < 0.3 * (scaled - truth).abs().mean()
    assert (scaled <= truth + 1e-9).all()  # Jensen


@pytest.mark.parametrize("kind", [dropout.DropConnect, dropout.DropAll])
def test_masks_are_drawn_again_differ_by_example_and_dropped_weights_get_no_gradient(kind):
    generator = seeded(3)
    layer, v = kind(5, 4, 0.5, generator=generator), torch.ones(30, 5)
    first = layer(v)
    assert not torch.equal(first, layer(v))
    generator.manual_seed(3)
    assert torch.equal(layer(v), first)
    generator.manual_seed(3)
    M = layer.mask(F.pad(v, (0, 1)), torch.zeros(4, 6))
    assert M.shape == (30, 4, 6) and len(M.flatten(1).unique(dim=0)) > 20
    by_hand = torch.einsum("noi,ni->no", M * torch.cat([layer.weight, layer.bias[:, None]], 1), F.pad(v, (0, 1), value=1.0))
    torch.testing.assert_close(by_hand.relu(), first)
    one = kind(5, 4, 0.5, lambda u: u, generator=seeded(8))
    one(v[:1]).sum().backward()
    M = kind(5, 4, 0.5, generator=seeded(8)).mask(F.pad(v[:1], (0, 1)), torch.zeros(4, 6))
    assert torch.equal(one.weight.grad, M[0, :, :5]) and torch.equal(one.bias.grad, M[0, :, 5])


def test_one_mask_for_the_batch_is_a_choice():
    v = torch.ones(6, 5)
    for kind in (dropout.DropConnect, dropout.DropAll):
        out = kind(5, 40, 0.5, per_example=False, generator=seeded())(v)
        torch.testing.assert_close(out, out[:1].expand(6, -1))
    maps = dropout.DropMaps(0.5, per_example=False, generator=seeded())(torch.ones(6, 40, 2, 2))
    assert torch.equal(maps, maps[:1].expand(6, -1, -1, -1)) and set(maps.unique().tolist()) == {0.0, 1.0}


def test_dropall_tosses_between_columns_and_single_weights():
    v, W = torch.ones(2000, 9), torch.zeros(8, 9)
    columns = {}
    for share in (0.0, 0.3, 1.0):
        M = dropout.DropAll(8, 8, 0.5, weights=share, generator=seeded()).mask(v, W)
        columns[share] = (M[:, :1] == M).all(-1).all(-1).float().mean().item()  # all units have the same mask
        assert abs(M.mean() - 0.5) < 0.02
    assert columns[0.0] == 1 and columns[1.0] == 0 and abs(columns[0.3] - 0.7) < 0.06


@pytest.mark.parametrize("kind", [dropout.DropConnect, dropout.DropAll])
def test_at_the_ends_of_p_a_plain_layer_and_the_activation_of_zero(kind):
    v = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    for training in (True, False):
        full = kind(5, 4, 1.0).double().train(training)
        torch.testing.assert_close(full(v), F.linear(v, full.weight, full.bias).relu())
        nothing = kind(5, 4, 0.0, torch.sigmoid).double().train(training)
        assert (nothing(v) == 0.5).all()
        for layer in (full, nothing, kind(5, 4, 0.5).double().train(training)):
            (grad,) = torch.autograd.grad(layer(0 * v).sum() + layer(v).sum(), v)
            assert grad.isfinite().all()
    silent = kind(5, 4, 0.5).double().eval()
    torch.nn.init.zeros_(silent.bias)
    assert (
        torch.autograd.grad(silent(0 * v).sum(), silent.weight)[0].isfinite().all()
    )  # no variance, and its root has no gradient


def test_a_layer_of_the_family_starts_as_a_linear_layer_and_takes_any_leading_axes():
    torch.manual_seed(4)
    plain = torch.nn.Linear(5, 3)
    torch.manual_seed(4)
    ours = dropout.DropConnect(5, 3, 0.9)
    torch.testing.assert_close(plain.state_dict(), ours.state_dict())
    for training in (True, False):
        assert ours.train(training)(torch.randn(2, 7, 5)).shape == (2, 7, 3)
        assert ours(torch.randn(5)).shape == (3,)
    assert repr(ours) == "DropConnect(5, 3, p=0.9)" and repr(dropout.DropMaps(0.9)) == "DropMaps(p=0.9)"


def test_dropmaps_is_p_times_dropout2d_with_the_same_mask():
    p, x = 0.6, torch.randn(4, 30, 3, 2, dtype=torch.float64, requires_grad=True)
    inverted, generator = torch.nn.Dropout2d(1 - p), seeded(2)
    maps = dropout.DropMaps(p, generator=generator)
    found = maps(x)
    whole = (found != 0).flatten(2)
    assert torch.equal(whole.all(-1), whole.any(-1)) and 0 < whole.double().mean() < 1
    generator.manual_seed(2)
    m = dropout.keep((4, 30, 1, 1), p, like=x, generator=generator)
    torch.testing.assert_close(found, m * x)
    torch.manual_seed(0)
    theirs = inverted(x)
    torch.testing.assert_close((theirs != 0) * x, p * theirs)
    torch.testing.assert_close(maps.eval()(x), p * inverted.eval()(x))
    assert torch.autograd.grad(maps(x).sum(), x)[0].eq(p).all()
    assert torch.equal(dropout.DropMaps(1.0)(x), x) and not dropout.DropMaps(0.0)(x).any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dropout.DropConnect(3, 2, 1.2), "p=1.2; it is the probability of keeping"),
        (lambda: dropout.DropAll(3, 2, -0.1), "p=-0.1"),
        (lambda: dropout.DropAll(3, 2, 0.5, weights=2), "weights=2; it is the probability"),
        (lambda: dropout.DropConnect(3, 2, samples=-1), "samples=-1"),
        (lambda: dropout.DropMaps(float("nan")), "p=nan"),
        (lambda: dropout.DropMaps(0.5)(torch.ones(3, 4)), r"x has shape \(3, 4\)"),
    ],
)
def test_the_family_refuses(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0, "ReLU of the mean"),
        (-0.5, "mean of u"),
        (3, "All four masks count"),
        (0.7664, "what the Gaussian says"),
        (1.25, "is not it"),
        ("x", "a finite number"),
    ],
)
def test_mean_relu(answer, words):
    assert check.mean_relu(0.75).passed and check.mean_relu(...).passed is None
    feedback = check.mean_relu(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


def connect(scale=lambda p: 1 / p, shape=lambda n, d, i: (n, d, i), rate=lambda p: p, own=None):
    def answer(v, W, p, generator):
        given = shape(len(v), *W.shape)
        M = (torch.rand(given, generator=own(generator) if own else generator) < rate(p)).float()
        return scale(p) * torch.einsum("noi,ni->no", (M * W).expand(len(v), *W.shape), v)

    return answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (connect(scale=lambda p: 1), "nothing was scaled"),
        (connect(scale=lambda p: 1 / p**2), "done twice"),
        (connect(scale=lambda p: p), "multiplied by p"),
        (connect(shape=lambda n, d, i: (1, d, i)), "each example needs its own"),
        (connect(shape=lambda n, d, i: (n, 1, i)), "your mask is on the inputs"),
        (connect(shape=lambda n, d, i: (n, d, 1)), "the variance is not"),
        (connect(rate=lambda p: 1 - p), "at p = 1 nothing is dropped"),
        (connect(rate=lambda p: 1 - p if p < 1 else 1), "the probability of keeping"),
        (connect(rate=lambda p: 1 - p if p < 1 else 1, scale=lambda p: 1), "and nothing was scaled"),
        (connect(own=lambda g: None), "draw every mask from `generator`"),
        (connect(own=lambda g: seeded(5)), "another seed gave the same masks"),
        (lambda v, W, p, generator: v, "the pre-activations are N × d"),
        (lambda v, W, p, generator: 1.0, "a tensor is needed"),
    ],
)
def test_inverted(answer, words):
    assert check.inverted(connect()).passed
    assert check.inverted(lambda v, W, p, generator: ...).passed is None
    feedback = check.inverted(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


def test_one_mask_a_batch():
    own, less = estimate([0.10, 0.12, 0.11]), estimate([0.05, 0.06, 0.05])
    assert "'smaller', as you predicted" in check.one_mask_a_batch(("smaller", own, less)).message
    assert "you predicted 'gone'" in check.one_mask_a_batch(("gone", own, less)).message
    assert check.one_mask_a_batch((..., own, ...)).passed is None
    for answer, words in (
        (("less", own, less), "'less' came"),
        (("gone", own, own), "the same"),
        (("gone", 0.1, less), "interval"),
    ):
        assert words in check.one_mask_a_batch(answer).message
    assert "between 0 and 1" in check.one_mask_a_batch(("gone", own, estimate([5.0, 6.0]))).message


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
