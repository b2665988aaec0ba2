"""Exercises of chapters/initialization, and its two recursions against closed forms."""

import itertools
import math

import pytest
import torch
from conftest import ROOT

from regbook.checks import initialization as check
from regbook.claims import estimate
from regbook.press import pages

PAGE = ROOT / "chapters/initialization/activation-statistics.ipynb"


def definitions(*needed: str) -> dict:
    """The page's own functions, without running its experiments."""
    namespace = {"torch": torch, "n": 4096, "depth": 6, "batch": 16, "STARTS": {}}
    for cell in pages.code_cells(pages.read(PAGE)):
        if any(f"def {name}(" in cell for name in needed):
            exec(cell, namespace)
    return namespace


def test_the_pages_passes_equal_autograd_on_a_rectangular_network():
    page = definitions("forward")
    weights = [torch.randn(i, o, dtype=torch.float64, requires_grad=True) for i, o in ((7, 5), (5, 3), (3, 4))]
    x, top = torch.randn(6, 7, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    for act in ("tanh", "ReLU"):
        h, z = page["forward"](x, weights, 0.8, act)
        errors = page["backward"](z, weights, 0.8, act, top)
        by_autograd = torch.autograd.grad((top * h[-1]).sum(), weights)
        for below, error, theirs in zip(h, errors, by_autograd, strict=False):
            torch.testing.assert_close(below.T @ error * 0.8, theirs)  # the page's W is 0.8 times these numbers
            norm = ((below @ below.T) * (error @ error.T)).sum()
            torch.testing.assert_close(norm, (below.T @ error).square().sum())


def test_the_pages_recursions_have_their_closed_forms_for_relu():
    page = definitions("forward", "predict")
    kaiming = page["predict"]("ReLU", (2 / 4096) ** 0.5)
    expected = {
        "h": math.sqrt(1 - 1 / math.pi),  # E[h²] = 1, and E[h] = 1/√π for z of variance 2
        "error": math.sqrt(0.5 / 4096),
        "gradient": math.sqrt(16 * 0.5 / 4096),
    }
    for metric, value in expected.items():
        assert kaiming[metric] == pytest.approx([value] * 6, rel=1e-3)
    shrinking = page["predict"]("ReLU", (1 / 4096) ** 0.5)["h"]
    assert [b / a for a, b in itertools.pairwise(shrinking)] == pytest.approx([0.5**0.5] * 5, rel=1e-3)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.32, "of one layer"),
        (0.32**-20, "the share that is left"),
        (0.32**40, "share of the variance"),
        (0.01**20, "σ alone"),
        (10.24**20, "use √n, not n"),
        (6.4, "you added"),
        (1e-5, "not it"),
    ],
)
def test_twenty_layers(answer, words):
    assert check.twenty_layers(0.32**20).passed and check.twenty_layers(1.3e-10).passed
    feedback = check.twenty_layers(answer)
    assert feedback.passed is False and words in feedback.message


def right(fan_in, slope):
    return (2 / (fan_in * (1 + slope**2))) ** 0.5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n, a: right(n, a) ** 2, "variance σ²"),
        (lambda n, a: (2 / n) ** 0.5, "start for ReLU"),
        (lambda n, a: (1 / n) ** 0.5, "linear layer"),
        (lambda n, a: (2 / (n * (1 + a) ** 2)) ** 0.5, "not (1 + a)²"),
        (lambda n, a: (2 / (n * (1 + abs(a)))) ** 0.5, "square by a²"),
        (lambda n, a: right(n, a) / 2**0.5, "a factor 1/2"),
        (lambda n, a: 3 * right(n, a), "σ should be"),
        (lambda n, a: "small", "a finite number is needed"),
        (lambda n: n, "TypeError"),
    ],
)
def test_leaky_std(answer, words):
    assert check.leaky_std(right).passed
    assert check.leaky_std(lambda n, a: torch.tensor(right(n, a), dtype=torch.float64)).passed
    feedback = check.leaky_std(answer)
    assert feedback.passed is False and words in feedback.message


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_the_leaky_start_is_torchs(slope):
    weight = torch.empty(2000, 1000)
    torch.nn.init.kaiming_normal_(weight, a=slope, generator=torch.Generator().manual_seed(0))
    assert weight.std().item() == pytest.approx(right(1000, slope), rel=5e-3)


SIX, TWELVE = estimate([0.04, 0.05, 0.05]), estimate([1.6, 1.7, 1.8])


def test_deeper_tells_what_happened():
    assert "as you predicted" in check.deeper(("larger", SIX, TWELVE)).message
    assert (
        check.deeper(("smaller", SIX, TWELVE)).passed
        and "you predicted 'smaller'" in check.deeper(("smaller", SIX, TWELVE)).message
    )
    assert "'gone', as you predicted" in check.deeper(("gone", SIX, estimate([-0.01, 0.01, 0.02]))).message
    assert check.deeper((..., SIX, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("deeper", SIX, TWELVE), "'deeper' came"),
        (("larger", SIX, SIX), "the same"),
        (("larger", SIX, estimate([-1.6, -1.7, -1.8])), "subtract the loss with σ = 1/√n"),
        (("larger", 0.05, 1.7), "what `difference` returns"),
    ],
)
def test_deeper_refuses(answer, words):
    feedback = check.deeper(answer)
    assert feedback.passed is False and words in feedback.message


# --- layerwise-pretraining -----------------------------------------------------------------------------------------


def page_functions(*needed: str) -> dict:
    """Functions of the page on pre-training, with what its first cell imports and its sizes made small."""
    source = pages.code_cells(pages.read(ROOT / "chapters/initialization/layerwise-pretraining.ipynb"))
    namespace = {"batch_size": 8, "each": 5}
    for cell in [source[0], *(cell for cell in source if any(f"def {name}(" in cell for name in needed))]:
        exec(cell, namespace)
    return namespace


@pytest.mark.parametrize("layer", [torch.nn.Sigmoid, torch.nn.ReLU])
def test_pretraining_trains_every_hidden_layer_and_nothing_else(layer):
    torch.manual_seed(0)
    sizes = [torch.nn.Linear(12, 7), layer(), torch.nn.Linear(7, 5), layer(), torch.nn.Linear(5, 3)]
    net, x = torch.nn.Sequential(torch.nn.Flatten(), *sizes), torch.rand(40, 1, 3, 4)
    before = [linear.weight.detach().clone() for linear in net[1::2]]
    steps = list(page_functions("pretrain")["pretrain"](net, x, 0.01, 0))
    assert [number for number, _ in steps] == [1] * 5 + [2] * 5
    assert all(share.isfinite() and share > 0 and not share.requires_grad for _, share in steps)
    assert [torch.equal(was, linear.weight) for was, linear in zip(before, net[1::2], strict=True)] == [False, False, True]


def test_the_first_step_of_pretraining_follows_the_pages_gradient():
    """Adam's first step is its rate times the sign of the gradient."""
    torch.manual_seed(0)
    page = page_functions("pretrain", "tied_gradient")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, 2)).double()
    x = torch.rand(8, 6, dtype=torch.float64)
    W, b = (parameter.detach().clone() for parameter in net[1].parameters())
    torch.set_default_dtype(torch.float64)
    try:
        next(page["pretrain"](net, x, 1e-3, 0))
    finally:
        torch.set_default_dtype(torch.float32)
    gradient = sum(page["tied_gradient"](W, b, torch.zeros(6, dtype=torch.float64), row) for row in x)
    torch.testing.assert_close(net[1].weight - W, -1e-3 * gradient.sign(), rtol=1e-3, atol=0)


def test_a_linear_auto_encoder_cannot_beat_two_principal_components():
    torch.manual_seed(0)
    variances = torch.tensor([5.0, 3.0, 1.0, 1.0], dtype=torch.float64)
    W = torch.randn(2, 4, dtype=torch.float64).mul_(0.3).requires_grad_()
    optimizer = torch.optim.Adam([W], lr=0.02)
    for _ in range(1500):  # E|x − WᵀWx|² for a diagonal covariance, in closed form
        missing = ((torch.eye(4) - W.T @ W).square() * variances).sum() / variances.sum()
        optimizer.zero_grad()
        missing.backward()
        optimizer.step()
    assert missing.item() == pytest.approx(0.2, rel=1e-3)
    assert check.two_units(missing.item()).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.8, "share it keeps"),
        (0.5, "one unit"),
        (2, "divide by all"),
        (0.25, "what is kept"),
        (0.447, "no root"),
        (0.1, "not it"),
    ],
)
def test_two_units(answer, words):
    feedback = check.two_units(answer)
    assert feedback.passed is False and words in feedback.message
    assert check.two_units(...).passed is None


def by_count(x, share):
    """Vincent et al. zero a fixed number of entries of each example."""
    order = torch.rand_like(x).argsort(1).argsort(1)
    return x * (order >= round(share * x.shape[1]))


def in_place(x, share):
    return x.mul_(torch.rand_like(x) >= share)


fixed = torch.rand(400, 60)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, share: x * (torch.rand_like(x) < share), "it should be lost"),
        (torch.nn.functional.dropout, "as in dropout"),
        (lambda x, share: x * (torch.rand(x.shape[1]) >= share), "all examples lose the same"),
        (lambda x, share: x * (torch.rand(len(x), 1) >= share), "whole examples"),
        (lambda x, share: x * (fixed >= share), "the same mask"),
        (lambda x, share: x * (torch.rand_like(x) >= share**2), "is lost"),
        (lambda x, share: x + share * torch.randn_like(x), "must stay"),
        (lambda x, share: torch.rand_like(x) >= share, "a tensor like x"),
        (in_place, "x itself has changed"),
        (lambda x: x, "TypeError"),
    ],
)
def test_corrupt(answer, words):
    torch.manual_seed(0)
    assert check.corrupt(lambda x, share: x * (torch.rand_like(x) >= share)).passed and check.corrupt(by_count).passed
    feedback = check.corrupt(answer)
    assert feedback.passed is False and words in feedback.message
    assert check.corrupt(lambda x, share: ...).passed is None


ALL, OWN = estimate([0.03, 0.04, 0.05, 0.04]), estimate([0.01, 0.02, 0.015, 0.02])


def test_same_images_tells_what_happened():
    assert "'smaller', as you predicted" in check.same_images(("smaller", ALL, OWN)).message
    assert "'as large', you predicted 'gone'" in check.same_images(("gone", ALL, estimate([0.03, 0.05, 0.04]))).message
    assert "'gone', as you predicted" in check.same_images(("gone", ALL, estimate([-0.01, 0.01, 0.02]))).message
    assert check.same_images((..., ALL, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [(("less", ALL, OWN), "'less' came"), (("gone", ALL, ALL), "the same"), (("gone", 0.04, 0.02), "what `difference` returns")],
)
def test_same_images_refuses(answer, words):
    feedback = check.same_images(answer)
    assert feedback.passed is False and words in feedback.message
