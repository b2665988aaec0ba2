"""The package's normalization against PyTorch, float64 and the formulas; the exercises and definitions of its pages."""

import ast
from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from torch import nn
from torch.nn.utils import fusion

from regbook.checks import normalization as check
from regbook.claims import estimate
from regbook.normalization import TLU, FilterResponseNorm, normalize
from regbook.press import pages

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


# --- batch-norm ----------------------------------------------------------------------------------------------------


def definitions(section, *names):
    """These functions of a page, as the page writes them."""
    own = {"torch": torch, "nn": nn, "F": F, "deepcopy": deepcopy}
    for cell in pages.code_cells(pages.read(ROOT / f"chapters/normalization/{section}.ipynb")):
        for node in ast.parse(cell).body:
            if getattr(node, "name", "") in names and "..." not in ast.unparse(node):  # a stub ends in ...
                exec(ast.unparse(node), own)
    return [own[name] for name in names]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_pages_batch_norm_is_pytorchs(shape, dtype):
    _, _, forward, running, backward = definitions("batch-norm", "over", "like", "forward", "running", "backward")
    torch.manual_seed(0)
    x, dy = 2 * torch.randn(2, *shape, dtype=dtype) + 1
    gamma, beta, mean, var = torch.rand(4, 8, dtype=dtype)
    y, (xhat, s, mu, v) = forward(x, gamma, beta)
    ours = backward(dy, gamma, xhat, s)
    stored = running(mean, var, mu, v, m=x.numel() // 8)
    x.requires_grad_()
    out = F.batch_norm(x, mean, var, gamma.requires_grad_(), beta.requires_grad_(), training=True)
    torch.testing.assert_close(y, out)
    torch.testing.assert_close(ours, torch.autograd.grad(out, [x, gamma, beta], dy))
    torch.testing.assert_close(stored, (mean, var))


def test_the_pages_groups_are_batch_norm_of_each_group():
    (grouped,) = definitions("batch-norm", "Grouped")
    torch.manual_seed(0)
    x, layer, whole = torch.randn(12, 5), grouped(5, m=4), nn.BatchNorm1d(5)
    parts = torch.cat([F.batch_norm(part, None, None, training=True) for part in x.split(4)])
    torch.testing.assert_close(layer(x), parts)
    whole(x)
    torch.testing.assert_close(layer.running_var, whole.running_var)
    torch.testing.assert_close(layer.eval()(x), whole.eval()(x))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.9 + 0.1 * 26 / 3, "biased"),
        (11.8, "wrong way round"),
        (7.9, "wrong way round, and the variance is biased"),
        (0.9 + 0.1 * 13**0.5, "standard deviation"),
        (3.5, "sum of squared"),
        (13, "the batch's own"),
        (0.4, "running mean"),
        (5, "is not it"),
    ],
)
def test_running_by_hand(answer, words):
    assert check.running_by_hand(2.2).passed
    assert check.running_by_hand(...).passed is None
    feedback = check.running_by_hand(answer)
    assert feedback.passed is False and words in feedback.message


def layer_with(
    axes=None, running_axes=None, root=lambda v, eps: (v + eps).sqrt(), correction=0, unbiased=True, weigh=lambda a: a, count=None,
    use="mode", keep=True, in_place=False,
):  # fmt: skip
    """Batch normalization with one thing wrong."""

    def layer(x, gamma, beta, mean, var, training, momentum=0.1, eps=1e-5):
        others, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
        v, mu = torch.var_mean(x, others if axes is None else axes(x), correction=correction, keepdim=True)
        batch = training if use == "mode" else use == "batch"
        m = count(x) if count else x.numel() // x.shape[1]
        used = (mu, v) if batch else (mean.view(shape), var.view(shape))
        y = gamma.view(shape) * (x - used[0]) / root(used[1], eps) + beta.view(shape)
        if training or not keep:
            v, mu = torch.var_mean(x, others, correction=0)
            a = weigh(momentum)
            new = (1 - a) * mean + a * mu, (1 - a) * var + a * v * (m / (m - 1) if unbiased else 1)
            mean, var = (mean.copy_(new[0]), var.copy_(new[1])) if in_place else new
        return y, mean, var

    return layer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (layer_with(unbiased=False), "running variance: it takes the biased variance"),
        (layer_with(weigh=lambda a: 1 - a), "wrong way round"),
        (layer_with(count=len), "you counted the examples"),
        (layer_with(root=lambda v, eps: v.sqrt() + eps), "ε is outside the root"),
        (layer_with(root=lambda v, eps: v.sqrt()), "ε is missing"),
        (layer_with(root=lambda v, eps: v + eps), "divide by its root"),
        (layer_with(correction=1), "normalized with the biased variance"),
        (layer_with(axes=lambda x: [1]), "averaged over the channels"),
        (layer_with(axes=lambda x: [0]), "over the examples only"),
        (layer_with(axes=lambda x: list(range(x.ndim))), "averaged over everything"),
        (layer_with(axes=lambda x: list(range(2, x.ndim)) or [0]), "over the positions only"),
        (layer_with(axes=lambda x: list(range(1, x.ndim)) if x.ndim > 2 else [0]), "layer normalization"),
        (layer_with(axes=lambda x: [0, *range(1, x.ndim - 1)] if x.ndim > 2 else [0]), "all axes but the last"),
        (layer_with(use="batch"), "in evaluation the running ones"),
        (layer_with(use="running"), "in training those of the batch"),
        (layer_with(keep=False), "evaluation leaves it"),
        (layer_with(in_place=True), "changed a tensor"),
        (lambda x, *rest: x, "three tensors"),
        (lambda x, g, b, mean, var, *rest: (x[:1], mean, var), "the shape should be"),
        (lambda x, g, b, mean, var, *rest: (0 * x, mean, var), "the values are others"),
        (lambda x, *rest: x[99], "raised IndexError"),
    ],
)
def test_whole_layer(answer, words):
    feedback = check.whole_layer(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


def test_whole_layer_accepts_the_page_and_another_way():
    assert check.whole_layer(layer_with()).passed
    assert check.whole_layer(*definitions("batch-norm", "layer")).passed
    assert check.whole_layer(lambda *given: ...).passed is None


LOST, REST = estimate([0.88, 0.90, 0.89]), estimate([0.15, 0.16, 0.17])


def test_adam_start_tells_what_happened():
    assert "'smaller', as you predicted" in check.adam_start(("smaller", LOST, REST)).message
    assert "you predicted 'gone'" in check.adam_start(("gone", LOST, REST)).message
    assert "'gone', as you" in check.adam_start(("gone", LOST, estimate([-0.01, 0.01, 0.0]))).message
    assert check.adam_start((..., LOST, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("less", LOST, REST), "'less' came"),
        (("smaller", LOST, LOST), "the same"),
        (("smaller", estimate([-0.8, -0.9, -0.85]), REST), "subtract the network without BN"),
        (("smaller", estimate([88.0, 90.0, 89.0]), REST), "between 0 and 1"),
        (("smaller", 0.9, REST), "mean and interval"),
    ],
)
def test_adam_start_refuses(answer, words):
    feedback = check.adam_start(answer)
    assert feedback.passed is False and words in feedback.message


# --- the section on test time --------------------------------------------------------------------------------------


def filled(bn):
    for tensor in (bn.weight, bn.bias, bn.running_mean, bn.running_var):
        tensor.data.uniform_(0.5, 2, generator=torch.Generator().manual_seed(3))
    return bn.double().eval()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_the_page_folds_every_convolution_as_pytorch_does(groups, bias):
    (fold,) = definitions("test-time", "fold")
    for dims, conv, norm in ((1, nn.Conv1d, nn.BatchNorm1d), (2, nn.Conv2d, nn.BatchNorm2d), (3, nn.Conv3d, nn.BatchNorm3d)):
        layer, bn = conv(4, 6, 3, groups=groups, bias=bias).double().eval(), filled(norm(6))
        mine, theirs = fold(layer, bn), fusion.fuse_conv_bn_eval(layer, bn)
        torch.testing.assert_close(mine.state_dict(), theirs.state_dict(), atol=1e-12, rtol=0)
        x = torch.randn(2, 4, *[5] * dims, dtype=torch.float64)
        torch.testing.assert_close(mine(x), bn(layer(x)), atol=1e-12, rtol=0)
        assert layer.bias is None or bias  # the layer that was given is untouched


def test_the_pages_running_averages_are_pytorchs():
    (running,) = definitions("test-time", "running")
    for momentum in (0.03, 0.5, 1.0):
        bn = nn.BatchNorm2d(3, momentum=momentum).double()
        stream = torch.randn(9, 4, 3, 2, 2, dtype=torch.float64)
        for batch in stream:
            bn(batch)
        mean, variance = stream.mean((1, 3, 4)), stream.transpose(1, 2).flatten(2).var(2)
        torch.testing.assert_close(bn.running_mean, running(mean, momentum, 0.0)[-1])
        torch.testing.assert_close(bn.running_var, running(variance, momentum, 1.0)[-1])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (1.4, "divided by n; the running"),
        (6.1, "weight of the new value"),
        (4.6, "divides by n − 1"),
        (2 / 3, "starts at 1, not at 0"),
        (0.5, "starts at 1, not at 0; and"),
        (20 / 3, "keeps 0.9 of its start"),
        (5, "divided by n; the running variance keeps"),
        (0.3, "running mean"),
        (0.9 + 0.1 * (20 / 3) ** 0.5, "not standard deviations"),
        (2, "is not it"),
        ("much", "a finite number"),
    ],
)
def test_running_variance(answer, words):
    bn = nn.BatchNorm1d(1)
    bn(torch.tensor([[0.0], [2.0], [4.0], [6.0]]))
    assert check.running_variance(bn.running_var.item()).passed and check.running_variance(1.567).passed
    assert check.running_variance(...).passed is None
    feedback = check.running_variance(answer)
    assert feedback.passed is False and words in feedback.message


def folded(layer, bn, *, s=None, axis=1, bias=lambda s, b, bn: s * (b - bn.running_mean) + bn.bias):
    """Weight and bias, with one thing wrong where an argument says so."""
    s = (bn.weight / (bn.running_var + bn.eps).sqrt()) if s is None else s(bn)
    b = 0 if layer.bias is None else layer.bias
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    return s.view(shape) * layer.weight, bias(s, b, bn)


def fold_in_place(layer, bn):
    weight, bias = folded(layer, bn)
    layer.weight.data.copy_(weight)
    return weight, bias


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (partial(folded, s=lambda bn: bn.weight / bn.running_var.sqrt()), "ε is missing"),
        (partial(folded, s=lambda bn: bn.weight / (bn.running_var.sqrt() + bn.eps)), "inside the root"),
        (partial(folded, s=lambda bn: 1 / (bn.running_var + bn.eps).sqrt()), "γ is missing"),
        (partial(folded, s=lambda bn: bn.weight / (bn.running_var + bn.eps)), "is a variance"),
        (partial(folded, s=lambda bn: bn.weight), "σ is missing"),
        (partial(folded, s=lambda bn: 3 * bn.weight), "the weight is another"),
        (partial(folded, axis=0), "first axis counts the inputs"),
        (partial(folded, bias=lambda s, b, bn: b + bn.bias - s * bn.running_mean), "it needs the factor s"),
        (partial(folded, bias=lambda s, b, bn: s * b + bn.bias), "running mean is missing"),
        (partial(folded, bias=lambda s, b, bn: s * (b - bn.running_mean)), "β is missing"),
        (partial(folded, bias=lambda s, b, bn: bn.bias - s * bn.running_mean), "own bias is missing"),
        (partial(folded, bias=lambda s, b, bn: s * (b - bn.running_mean + bn.bias)), "has no factor s"),
        (partial(folded, bias=lambda s, b, bn: s * b - bn.running_mean + bn.bias), "has the factor s too"),
        (partial(folded, bias=lambda s, b, bn: s * (b + bn.running_mean) + bn.bias), "not added"),
        (partial(folded, bias=lambda s, b, bn: 2 * bn.bias + s), "the bias is another"),
        (fold_in_place, "changed its input"),
        (lambda layer, bn: layer.weight, "return two tensors"),
        (lambda layer, bn: (layer.weight[0], bn.bias), "the weight has shape"),
        (lambda layer, bn: (layer.weight, layer.bias + 0), "σ is missing|another"),
    ],
)
def test_fold_transposed(answer, words):
    assert check.fold_transposed(folded).passed
    assert check.fold_transposed(lambda layer, bn: None).passed is None
    feedback = check.fold_transposed(answer)
    assert feedback.passed is False and any(part in feedback.message for part in words.split("|"))


def test_fold_transposed_wants_a_layer_without_bias_too():
    def needs_a_bias(layer, bn):
        return folded(layer, bn)[0], (layer.bias - bn.running_mean) * bn.weight / (bn.running_var + bn.eps).sqrt() + bn.bias

    feedback = check.fold_transposed(needs_a_bias)
    assert feedback.passed is False and "TypeError" in feedback.message


def test_its_reference_is_pytorchs():
    layer, bn = nn.ConvTranspose2d(3, 5, 3).double().eval(), filled(nn.BatchNorm2d(5))
    theirs = fusion.fuse_conv_bn_eval(layer, bn, transpose=True)
    weight, bias = folded(layer, bn)
    torch.testing.assert_close(theirs.weight, weight)
    torch.testing.assert_close(theirs.bias, bias)


def test_sevens_only_tells_what_happened():
    mixed, less, none = estimate([0.4, 0.42, 0.41]), estimate([0.3, 0.31, 0.3]), estimate([-0.1, 0.1, 0.0])
    assert "as you predicted" in check.sevens_only(("smaller", mixed, less)).message
    assert "you predicted 'gone'" in check.sevens_only(("gone", mixed, less)).message
    assert "'gone'" in check.sevens_only(("smaller", mixed, none)).message
    assert check.sevens_only((..., mixed, ...)).passed is None
    for answer, words in (
        (("smaller", mixed, mixed), "the same"),
        (("tiny", mixed, less), "predict one of"),
        (("smaller", estimate([-0.2, -0.1]), less), "is negative"),
        (("smaller", estimate([40.0, 41.0]), less), "between 0 and 1"),
    ):
        feedback = check.sevens_only(answer)
        assert feedback.passed is False and words in feedback.message, feedback.message


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


def normalize_in_place(x, groups, eps=1e-5):
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
        (normalize_in_place, "changed its input"),
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
