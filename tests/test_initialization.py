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


# --- xavier-and-kaiming ---------------------------------------------------------------------------------------------

nn = torch.nn
XAVIER = ROOT / "chapters/initialization/xavier-and-kaiming.ipynb"


@pytest.fixture(scope="module")
def rules():
    """The page's own fans, VARIANCE and start_."""
    namespace = {"torch": torch}
    (cell,) = (cell for cell in pages.code_cells(pages.read(XAVIER)) if "def start_(" in cell)
    exec(cell, namespace)
    return namespace


RULES = {  # rule → its variance, and the same in torch.nn.init as normal and as uniform law
    "LeCun": (lambda i, o: 1 / i, nn.init.kaiming_normal_, nn.init.kaiming_uniform_, {"nonlinearity": "linear"}),
    "Glorot": (lambda i, o: 2 / (i + o), nn.init.xavier_normal_, nn.init.xavier_uniform_, {}),
    "He": (lambda i, o: 2 / i, nn.init.kaiming_normal_, nn.init.kaiming_uniform_, {"nonlinearity": "relu"}),
    "He, fan-out": (
        lambda i, o: 2 / o,
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
        {"mode": "fan_out", "nonlinearity": "relu"},
    ),
    "standard": (lambda i, o: 1 / (3 * i), nn.init.kaiming_normal_, nn.init.kaiming_uniform_, {"a": 5**0.5}),
}
SHAPES = {(300, 500): (500, 300), (48, 32, 5, 3): (32 * 15, 48 * 15), (60, 40, 9): (360, 540)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", RULES)
def test_the_pages_starts_are_torchs_by_construction_and_in_distribution(rules, rule, shape):
    variance, normal, uniform, options = RULES[rule]
    assert rules["fans"](torch.empty(shape)) == SHAPES[shape]
    wanted = variance(*SHAPES[shape])
    for is_uniform, theirs in ((False, normal), (True, uniform)):
        same = [torch.Generator().manual_seed(3) for _ in range(2)]
        ours = rules["start_"](torch.empty(shape), rule, is_uniform, same[0])
        torch.testing.assert_close(ours, theirs(torch.empty(shape), generator=same[1], **options))
        # four standard errors of a variance from this many numbers; their fourth moment is 3 (normal) or 9/5 (uniform)
        slack = 4 * math.sqrt(((9 / 5 if is_uniform else 3) - 1) / ours.numel())
        assert ours.var().item() == pytest.approx(wanted, rel=slack)
        if is_uniform:
            bound = math.sqrt(3 * wanted)
            assert 0.999 * bound < ours.abs().max().item() <= bound * (1 + 1e-6)


def test_a_convolutions_level_is_kept_by_its_fan_and_not_by_its_channels(rules):
    torch.manual_seed(0)
    conv = nn.Conv2d(48, 48, 3, padding=1, padding_mode="circular", bias=False)
    rules["start_"](conv.weight, "He")
    x = torch.randn(4, 48, 24, 24).relu_() * 2**0.5  # E[h²] = 1, so Var z is 2
    assert conv(x).square().mean().item() == pytest.approx(2, rel=0.1)
    nn.init.normal_(conv.weight, std=(2 / 48) ** 0.5)
    assert conv(x).square().mean().item() == pytest.approx(18, rel=0.1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.64**10, "share of the variance"),
        (0.8, "one pair of layers"),
        (1, "do not cancel"),
        (0.4**10, "the next one"),
        (0.5, "not it"),
    ],
)
def test_alternating(answer, words):
    assert check.alternating(0.8**10).passed and check.alternating(0.107).passed
    feedback = check.alternating(answer)
    assert feedback.passed is False and words in feedback.message


def true_std(conv):
    return (2 * conv.groups * math.prod(conv.stride) / (math.prod(conv.kernel_size) * conv.out_channels)) ** 0.5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda c: true_std(c) ** 2, "variance σ²"),
        (lambda c: true_std(c) / 2**0.5, "half of the error"),
        (lambda c: true_std(c) * (c.out_channels / c.in_channels) ** 0.5, "that is the fan-in"),
        (lambda c: true_std(c) / math.prod(c.stride) ** 0.5, "with a stride"),
        (lambda c: true_std(c) / c.groups**0.5, "its own group"),
        (lambda c: true_std(c) * math.prod(c.kernel_size) ** 0.5, "a whole window"),
        (lambda c: true_std(c) * (c.kernel_size[1] / c.kernel_size[0]) ** 0.5, "not square"),
        (lambda c: true_std(c) * (c.stride[0] / c.stride[1]) ** 0.5, "two strides differ"),
        (lambda c: 2 * true_std(c), "σ should be"),
        (lambda c: "small", "a finite number is needed"),
    ],
)
def test_error_std(answer, words):
    assert check.error_std(true_std).passed
    assert check.error_std(lambda conv: ...).passed is None
    feedback = check.error_std(answer)
    assert feedback.passed is False and words in feedback.message


@pytest.mark.parametrize("changed", [{}, {"kernel_size": (3, 5)}, {"stride": 2}, {"stride": (2, 1)}, {"groups": 4}])
def test_the_true_fan_out_is_what_counting_with_ones_gives(changed):
    conv = nn.Conv2d(**{"in_channels": 8, "out_channels": 16, "kernel_size": 3, "bias": False} | changed)
    nn.init.ones_(conv.weight)
    ones = torch.ones(1, 8, 40, 40, requires_grad=True)
    conv(ones).sum().backward()
    inside = ones.grad[:, :, 10:30, 10:30].mean().item()
    assert true_std(conv) == pytest.approx(math.sqrt(2 / inside), rel=1e-6)


PLAIN, SCALED = estimate([2.1, 2.2, 2.2]), estimate([0.1, 0.2, 0.3])


def test_sigmoid_gain_tells_what_happened():
    assert "'smaller', as you predicted" in check.sigmoid_gain(("smaller", PLAIN, SCALED)).message
    wrong = check.sigmoid_gain(("same", PLAIN, SCALED))
    assert wrong.passed and "you predicted 'same'" in wrong.message
    assert "'same', as you predicted" in check.sigmoid_gain(("same", PLAIN, estimate([2.1, 2.1, 2.2]))).message
    assert check.sigmoid_gain((..., PLAIN, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("better", PLAIN, SCALED), "'better' came"),
        (("smaller", PLAIN, PLAIN), "the same"),
        (("smaller", estimate([-2.1, -2.2, -2.2]), SCALED), "subtract the loss of tanh"),
        (("smaller", PLAIN, estimate([-2.1, -2.2, -2.3])), "subtract tanh's loss"),
        (("smaller", 2.1, 0.2), "what `difference` returns"),
    ],
)
def test_sigmoid_gain_refuses(answer, words):
    feedback = check.sigmoid_gain(answer)
    assert feedback.passed is False and words in feedback.message
