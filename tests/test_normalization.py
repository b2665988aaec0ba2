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


# --- layer, instance and group normalization -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (1.47, "by 3"),
        (0.48, "the root of the variance"),
        (6, "divide it by"),
        (1, "two groups"),
        (0, "instance normalization"),
        (2.5, "is not it"),
        (float("nan"), "a finite number"),
    ],
)
def test_four_channels(answer, words):
    right = F.layer_norm(torch.tensor([[1.0, 3, 2, 10]]), (4,), eps=0)[0, 3].item()
    assert check.four_channels(right).passed
    assert check.four_channels(...).passed is None
    feedback = check.four_channels(answer)
    assert feedback.passed is False and words in feedback.message


def last(axes=(1, 2, 4), correction=0, outside=False):
    def channels_last(x, groups, eps=1e-5):
        sets = x.unflatten(-1, (groups, -1))
        variance, mean = torch.var_mean(sets, axes, correction=correction, keepdim=True)
        root = variance.sqrt() + eps if outside else (variance + eps).sqrt()
        return ((sets - mean) / root).flatten(-2)

    return channels_last


def strided(x, groups, eps=1e-5):
    return last()(x.unflatten(-1, (-1, groups)).mT.flatten(-2), groups, eps).unflatten(-1, (groups, -1)).mT.flatten(-2)


def in_place(x, groups, eps=1e-5):
    x -= x.mean((1, 2), keepdim=True)
    return x


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (last((0, 1, 2, 4)), "mix examples"),
        (last((4,)), "each position has a mean"),
        (last((1, 2, 3, 4)), "over all channels"),
        (last((1, 2)), "each channel has a mean"),
        (last(outside=True), "outside the root"),
        (last(correction=1), "m − 1"),
        (strided, "run of neighbours"),
        (lambda x, groups, eps: normalize(x, groups, eps=eps), "wrong axis"),
        (lambda x, groups, eps: last()(x, groups), "the values are others"),
        (lambda x, groups, eps: last()(x, groups, eps).movedim(-1, 1), "has the shape of x"),
        (lambda x, groups, eps: 0.5, "a tensor is needed"),
        (in_place, "changed its input"),
        (lambda x, groups, eps: x[99], "raised IndexError"),
    ],
)
def test_channels_last(answer, words):
    assert check.channels_last(last()).passed
    assert check.channels_last(lambda x, groups, eps: ...).passed is None
    feedback = check.channels_last(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


PLAIN, LEARNED = estimate([0.30, 0.32, 0.31]), estimate([0.20, 0.21, 0.22])


def test_learned_styles_tells_what_happened():
    assert "'smaller', as you predicted" in check.learned_styles(("smaller", PLAIN, LEARNED)).message
    assert "you predicted 'gone'" in check.learned_styles(("gone", PLAIN, LEARNED)).message
    assert check.learned_styles((..., PLAIN, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("less", PLAIN, LEARNED), "'less' came"),
        (("smaller", PLAIN, PLAIN), "the same"),
        (("smaller", estimate([-0.3, -0.31, -0.32]), LEARNED), "subtract batch"),
        (("smaller", estimate([30.0, 31.0, 32.0]), LEARNED), "between 0 and 1"),
        (("smaller", 0.3, LEARNED), "mean and interval"),
    ],
)
def test_learned_styles_refuses(answer, words):
    feedback = check.learned_styles(answer)
    assert feedback.passed is False and words in feedback.message
