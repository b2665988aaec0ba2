"""The package's normalization against PyTorch, float64 and the formulas."""

import pytest
import torch
import torch.nn.functional as F

from regbook.checks import normalization as check
from regbook.claims import estimate
from regbook.normalization import TLU, FilterResponseNorm, normalize

SHAPES = [(6, 8), (6, 8, 5), (6, 8, 3, 4), (6, 8, 2, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_one_function_is_pytorchs_four(shape, dtype):
    x = 3 * torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0)) + 2
    torch.testing.assert_close(normalize(x, 8, batch=True), F.batch_norm(x, None, None, training=True))
    torch.testing.assert_close(normalize(x, 1), F.layer_norm(x, x.shape[1:]))
    torch.testing.assert_close(normalize(x, 4), F.group_norm(x, 4))
    if len(shape) > 2:
        torch.testing.assert_close(normalize(x, 8), F.instance_norm(x))


def test_its_gradient_is_pytorchs():
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(x)
    (ours,) = torch.autograd.grad((weight * normalize(x, 2)).sum(), x)
    (theirs,) = torch.autograd.grad((weight * F.group_norm(x, 2)).sum(), x)
    torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(lambda x: normalize(x, 4, batch=True), x)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e4, 12345.678])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_constant_features_become_zero(value, dtype):
    x = torch.full((4, 6, 10), value, dtype=dtype)
    for groups, batch in ((1, False), (3, False), (6, False), (6, True)):
        out = normalize(x, groups, batch=batch)
        assert out.dtype == dtype and (out.abs() <= 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float64_rounded(dtype):
    x = (300 * torch.randn(4, 6, 50, generator=torch.Generator().manual_seed(1)) + 1000).to(dtype)
    frn = FilterResponseNorm(6)
    for function in (lambda x: normalize(x, 3), lambda x: normalize(x, 6, batch=True), frn.double()):
        out = function(x)
        assert out.dtype == dtype
        torch.testing.assert_close(out, function(x.double()).to(dtype), atol=0, rtol=torch.finfo(dtype).eps)


def test_statistics_far_from_zero_agree_with_float64():
    x = torch.randn(4, 6, 50, generator=torch.Generator().manual_seed(2)) + 1000
    torch.testing.assert_close(normalize(x, 3), normalize(x.double(), 3).float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("shape", "groups", "batch", "words"),
    [
        ((2, 6, 3), 4, False, "groups=4; it must divide the 6 channels"),
        ((2, 6, 3), 0, False, "groups=0; it must divide the 6 channels"),
        ((2, 6, 3), 12, False, "groups=12; it must divide"),
        ((2, 6), 6, False, r"x of shape \(2, 6\), groups=6: a mean over one value"),
        ((1, 6), 6, True, "a mean over one value"),
        ((2, 6, 1, 1), 6, False, "a mean over one value"),
    ],
)
def test_what_cannot_be_normalized_is_refused(shape, groups, batch, words):
    with pytest.raises(ValueError, match=words):
        normalize(torch.randn(shape), groups, batch=batch)


@pytest.mark.parametrize("shape", SHAPES)
def test_filter_response_normalization_is_its_formula(shape):
    torch.manual_seed(0)
    x, frn = 3 * torch.randn(shape, dtype=torch.float64) + 2, FilterResponseNorm(8).double()
    torch.nn.init.normal_(frn.weight)
    torch.nn.init.normal_(frn.bias)
    gamma, beta = (p.detach().view(8, *[1] * (len(shape) - 2)) for p in (frn.weight, frn.bias))
    power = x.square().mean(tuple(range(2, x.ndim)), keepdim=True) if len(shape) > 2 else x.square()
    torch.testing.assert_close(frn(x), gamma * x / (power + 1e-6).sqrt() + beta)
    assert torch.autograd.gradcheck(frn, x.requires_grad_())
    assert {name for name, p in frn.named_parameters() if p.requires_grad} == {"weight", "bias"}


def test_filter_response_ignores_the_scale_of_a_channel_but_not_its_mean():
    x, frn = torch.randn(3, 4, 9, dtype=torch.float64), FilterResponseNorm(4, eps=0.0).double()
    torch.testing.assert_close(frn(x * torch.tensor([1.0, 2.0, 5.0, 0.1]).double()[:, None]), frn(x))
    assert not torch.allclose(frn(x + 1), frn(x))


def test_a_learned_epsilon_gets_a_gradient_and_its_sign_does_not_matter():
    x, frn = torch.randn(5, 3, dtype=torch.float64), FilterResponseNorm(3, eps=1e-4, learn_eps=True).double()
    frn(x).sum().backward()
    assert frn.eps.grad.abs() > 0
    before = frn(x)
    frn.eps.data.neg_()
    assert torch.equal(frn(x), before)


def test_a_constant_zero_channel_stays_finite():
    x = torch.zeros(2, 3, 4, requires_grad=True)
    frn = FilterResponseNorm(3)
    frn(x).sum().backward()
    assert frn(x).eq(0).all() and x.grad.isfinite().all()


def test_the_threshold_is_a_learned_maximum():
    tlu, y = TLU(3), torch.randn(4, 3, 5)
    assert torch.equal(tlu(y), y.relu())
    tlu.threshold.data = torch.tensor([-1.0, 0.5, 2.0])
    assert torch.equal(tlu(y), torch.maximum(y, tlu.threshold[None, :, None]))
    tlu(y).sum().backward()
    assert torch.equal(tlu.threshold.grad, (y < tlu.threshold[None, :, None]).sum((0, 2)).float())
    assert tlu(y.half()).dtype == torch.float16


@pytest.mark.parametrize("layer", [FilterResponseNorm(3), TLU(3)])
def test_another_number_of_channels_is_refused(layer):
    with pytest.raises(ValueError, match=r"x of shape \(2, 4, 5\); it needs 3 channels"):
        layer(torch.randn(2, 4, 5))
    with pytest.raises(ValueError, match=r"it needs 3 channels"):
        layer(torch.randn(3))


# --- filter response ------------------------------------------------------------------------------------------------

NU = 3**0.5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (1 + 2 / NU, "TLU cuts at τ"),
        (2 - 2 / NU, "TLU is missing"),
        (0.5 + 2 / 3, "you divided by ν²"),
        (0.5 + 2 / 4.5**0.5, "the number of values"),
        (0.5 + 4 / 3 / (26 / 9) ** 0.5, "subtracts no mean"),
        (0.5 + 1 / NU, "γ is missing"),
        (2 / NU - 0.5, "β is missing"),
        (9.0, "9 is not it"),
    ],
)
def test_one_channel(answer, words):
    assert check.one_channel(0.5 + 2 / NU).passed and check.one_channel(1.6547).passed
    assert check.one_channel(answer).passed is False and words in check.one_channel(answer).message


def sums(a, n):
    squares = F.pad(a.square(), (0, 0, 0, 0, n // 2, n // 2))
    return sum(squares[:, i : i + a.shape[1]] for i in range(n))


def in_place(a, n, k, alpha, beta):
    return a.mul_(2)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda a, n, k, alpha, beta: F.local_response_norm(a, n, alpha, beta, k), "you divided α by n"),
        (lambda a, n, k, alpha, beta: a / (k + alpha * sums(a, n)), "the exponent β is missing"),
        (lambda a, n, k, alpha, beta: a / (alpha * sums(a, n)) ** beta, "k is missing"),
        (lambda a, n, k, alpha, beta: a / (k + alpha * (sums(a, n) - a**2)) ** beta, "the channel itself"),
        (lambda a, n, k, alpha, beta: a / (k + alpha * sum(a.roll(s, 1) ** 2 for s in range(-(n // 2), n // 2 + 1))) ** beta,
         "no neighbour of the last"),
        (lambda a, n, k, alpha, beta: a / (k + alpha * (a**2).sum(1, keepdim=True)) ** beta, "over all channels"),
        (lambda a, n, k, alpha, beta: a / (k + alpha * sums(a.transpose(1, 3), n).transpose(1, 3)) ** beta, "along the width"),
        (lambda a, n, k, alpha, beta: a / (k + alpha * sums(a.abs() ** 0.5, n)) ** beta, "the denominator takes squares"),
        (lambda a, n, k, alpha, beta: a, "yours is"),
        (lambda a, n, k, alpha, beta: a[0], "a tensor like a is needed"),
        (in_place, "changed its input"),
    ],
)  # fmt: skip
def test_alexnet(wrong, words):
    assert check.alexnet(lambda a, n, k, alpha, beta: a / (k + alpha * sums(a, n)) ** beta).passed
    feedback = check.alexnet(wrong)
    assert feedback.passed is False and words in feedback.message, feedback.message


def test_start_at_one():
    gain, none, less = estimate([0.8, 0.82, 0.81]), estimate([0.1, -0.1, 0.02]), estimate([0.3, 0.31, 0.32])
    assert "'gone', as you predicted" in check.start_at_one(("gone", gain, none)).message
    assert "'smaller', you predicted 'larger'" in check.start_at_one(("larger", gain, less)).message
    assert check.start_at_one(("gone", gain, ...)).passed is None
    for answer, words in (
        (("gone", estimate([-0.8, -0.82]), none), "subtract the fixed"),
        (("gone", estimate([80.0, 82.0]), none), "shares"),
    ):
        assert check.start_at_one(answer).passed is False and words in check.start_at_one(answer).message
