"""``regbook.penalties`` against closed forms, searches and PyTorch; the exercises and solvers of chapters/norm-penalties."""

import ast
import math
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from torch import nn

from regbook import data, models, penalties
from regbook.checks import penalties as check
from regbook.claims import estimate
from regbook.penalties import elastic_net, project, prox, select, update
from regbook.press import pages
from regbook.training import fit


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3), nn.LayerNorm((1, 3)), nn.RMSNorm(3)
    )


# --- which parameters ----------------------------------------------------------------------------------------------


def test_the_default_is_weights_without_biases_and_normalization():
    assert list(select(network())) == ["0.weight", "3.weight"]  # the LayerNorm's scale has two axes, and is none
    assert set(select(models.small_resnet(layers=(1,)))) == {"0.weight", "3.conv1.weight", "3.conv2.weight", "6.weight"}


def test_a_pattern_takes_what_it_names_and_frozen_parameters_are_out():
    net = network()
    assert list(select(net, "*.bias")) == ["0.bias", "1.bias", "3.bias", "4.bias"]
    net[0].weight.requires_grad_(False)
    assert list(select(net)) == ["3.weight"]


@pytest.mark.parametrize("pattern", ["head.*", "weight", "0.WEIGHT", ""])
def test_a_pattern_that_matches_nothing_is_an_error(pattern):
    for call in (partial(elastic_net, l1=1.0), partial(elastic_net), partial(update, change=torch.neg)):
        with pytest.raises(ValueError, match=re.escape(f"parameters={pattern!r} selects no parameter") + r".*0\.weight"):
            call(network(), parameters=pattern)


def test_a_model_without_weights_is_an_error():
    with pytest.raises(ValueError, match="selects no parameter.*weight, bias"):
        elastic_net(nn.LayerNorm(3), l2=1.0)
    with pytest.raises(ValueError, match="which are: none"):
        select(nn.ReLU())


# --- the penalty ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
def test_loss_and_gradient_are_the_formula(l1, l2):
    net = network().double()
    with torch.no_grad():
        net[3].weight[0] = 0  # corners
    value = elastic_net(net, l1=l1, l2=l2)
    value.backward()
    weights = [net[0].weight.detach(), net[3].weight.detach()]
    expected = sum(l1 * w.abs().sum() + l2 * w.square().sum() for w in weights)
    torch.testing.assert_close(value.detach(), expected)
    for w, parameter in zip(weights, (net[0].weight, net[3].weight), strict=True):
        torch.testing.assert_close(parameter.grad, l1 * w.sign() + 2 * l2 * w)
    assert net[0].bias.grad is None and net[1].weight.grad is None


def test_strength_zero_is_zero_and_can_be_added_to_a_loss():
    assert elastic_net(network()) == 0
    assert (elastic_net(network()) + torch.tensor(2.0)).item() == 2


@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf])
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_bad_strengths(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        elastic_net(network(), **{name: value})
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        prox(torch.ones(2), **{name: value})


def test_l2_is_half_the_weight_decay_of_sgd():
    def trained(**settings):
        torch.manual_seed(0)
        net = models.mlp(64, [8], 10)
        fit(net, data.digits(n=50), steps=5, evaluate_every=0, **settings)
        return torch.cat([w.flatten() for w in select(net).values()]).detach()

    sgd = partial(torch.optim.SGD, lr=0.1)

    def decayed(parameters):
        groups = [{"params": [p], "weight_decay": 0.2 if p.ndim > 1 else 0.0} for p in parameters]
        return torch.optim.SGD(groups, lr=0.1)

    by_penalty = trained(optimizer=sgd, penalty=partial(elastic_net, l2=0.1))
    torch.testing.assert_close(by_penalty, trained(optimizer=decayed))
    for other in ({}, {"penalty": partial(elastic_net, l1=0.01)}):  # it does something, and L1 does something else
        assert (trained(optimizer=sgd, **other) - by_penalty).abs().max() > 1e-3


# --- proximal operators and projections ----------------------------------------------------------------------------


def test_prox_is_the_minimizer_and_softshrink():
    z = torch.randn(40, dtype=torch.float64)
    grid = torch.linspace(-4, 4, 16001, dtype=torch.float64)[:, None]
    for l1, l2 in ((0.5, 0.0), (0.0, 0.7), (0.3, 0.4)):
        searched = grid[((grid - z) ** 2 / 2 + l1 * grid.abs() + l2 * grid**2).argmin(0), 0]
        torch.testing.assert_close(prox(z, l1=l1, l2=l2), searched, atol=5e-4, rtol=0)
    assert torch.equal(prox(z, l1=0.5), F.softshrink(z, 0.5)) and torch.equal(prox(z), z)
    assert (prox(z, l1=0.5)[z.abs() <= 0.5] == 0).all()


@pytest.mark.parametrize("norm", [1, 2])
def test_projection_meets_the_conditions_of_the_nearest_point(norm):
    generator = torch.Generator().manual_seed(0)
    for shape in ((1,), (7,), (3, 4)):
        z = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
        inside = 0.5 * z / torch.linalg.vector_norm(z, norm)
        assert torch.equal(project(inside, 0.7, norm=norm), inside)
        point = project(z, 0.7, norm=norm)
        assert point.shape == z.shape
        assert torch.linalg.vector_norm(point, norm).item() == pytest.approx(min(0.7, torch.linalg.vector_norm(z, norm).item()))
        others = torch.randn(500, z.numel(), generator=generator, dtype=torch.float64)
        others = 0.7 * others / torch.linalg.vector_norm(others, norm, 1, keepdim=True)
        # z − point makes no acute angle with any way into the ball: that characterizes the projection
        assert ((others - point.flatten()) @ (z - point).flatten() < 1e-9).all()


def test_projection_on_the_l1_ball_by_hand_and_radius_zero():
    assert project(torch.tensor([3.0, -1.0, 0.5]), 2.0, norm=1).tolist() == [2, 0, 0]
    assert project(torch.tensor([2.0, -2.0]), 2.0, norm=1).tolist() == [1, -1]
    for norm in (1, 2):
        assert project(torch.ones(3), 0.0, norm=norm).tolist() == [0, 0, 0]
        assert project(torch.zeros(3), 0.0, norm=norm).tolist() == [0, 0, 0]


def test_projection_refuses():
    with pytest.raises(ValueError, match=re.escape("radius=-1")):
        project(torch.ones(2), -1)
    with pytest.raises(ValueError, match="norm=3; it must be 1 or 2"):
        project(torch.ones(2), 1.0, norm=3)


def test_update_joins_the_selected_parameters_and_leaves_the_others():
    net = network()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    update(net, partial(project, radius=0.5))
    joined = torch.cat([w.flatten() for w in select(net).values()])
    assert joined.norm().item() == pytest.approx(0.5)
    for name, p in net.named_parameters():
        assert torch.equal(p, before[name]) == (name not in ("0.weight", "3.weight"))
    with pytest.raises(ValueError, match=r"change returned shape \(1,\)"):
        update(net, lambda w: w[:1])
    assert torch.equal(torch.cat([w.flatten() for w in select(net).values()]), joined)


def test_proximal_steps_in_training_make_exact_zeros_where_the_gradient_makes_none():
    step, l1 = 0.1, 0.02

    def zeros(**settings):
        torch.manual_seed(0)
        net = models.mlp(64, [8], 10)
        fit(net, data.digits(n=100), steps=60, optimizer=partial(torch.optim.SGD, lr=step), evaluate_every=0, **settings)
        return (torch.cat([w.flatten() for w in select(net).values()]) == 0).double().mean().item()

    assert zeros(on_step=lambda _, net: update(net, partial(prox, l1=step * l1))) > 0.2
    assert zeros(penalty=partial(elastic_net, l1=l1)) == 0


def test_no_argument_is_changed_and_dtype_and_device_stay():
    for dtype in (torch.float32, torch.float64):
        z = torch.randn(5, dtype=dtype)
        given = z.clone()
        for made in (prox(z, l1=0.1, l2=0.1), project(z, 0.1), project(z, 0.1, norm=1), project(z, 100.0)):
            assert made.dtype == dtype and made.data_ptr() != z.data_ptr()
        assert torch.equal(z, given)
    net = network().double()
    update(net, partial(prox, l1=0.1))
    assert elastic_net(net, l1=1.0).dtype == torch.float64


# --- the page ------------------------------------------------------------------------------------------------------


def definitions(*needed: str) -> dict:
    """The page's own functions, without running its experiments."""
    namespace = {"torch": torch, "F": F, "nn": nn, "penalties": penalties}
    for cell in pages.code_cells(pages.read(ROOT / "chapters/norm-penalties/penalties.ipynb")):
        if any(f"def {name}(" in cell for name in needed):
            exec(cell, namespace)
    return namespace


def test_the_pages_solver_meets_the_optimality_conditions_in_a_batch():
    page = definitions("soft_threshold", "regression")
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(3, 30, columns, generator=generator, dtype=torch.float64) for columns in (6, 1))
    gram, moment = x.mT @ x, x.mT @ y
    l1, l2 = torch.tensor([0.0, 5.0, 5.0, 0.0]), torch.tensor([0.0, 0.0, 2.0, 3.0])
    w = page["regression"](gram, moment, l1, l2, steps=2000)
    assert w.shape == (3, 6, 4)
    slope = 2 * (gram @ w - moment + l2 * w)
    torch.testing.assert_close(slope[w != 0], (-l1 * w.sign())[w != 0])
    assert (slope.abs() <= l1 + 1e-6).all() and (w[..., 1] == 0).any()
    torch.testing.assert_close(w[..., 3:], torch.linalg.solve(gram + 3 * torch.eye(6), moment))


def test_the_pages_examples_have_the_covariances_they_name():
    page = definitions("correlated")
    generator = torch.Generator().manual_seed(0)
    for beta, covariance, sigma, n in page["EXAMPLES"].values():
        x, _, y, _ = page["draw"]((beta, covariance, sigma, n), 4000 // n, generator)
        assert x.shape == (4000 // n, n, len(beta)) and y.shape == (4000 // n, n, 1)
        torch.testing.assert_close(x.flatten(0, 1).T.cov(), covariance.double(), atol=0.12, rtol=0)
        noise = (y - x @ torch.tensor(beta).double()[:, None]).std().item()
        assert noise == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (4.05, "leaves out j = y"),
        (2.05, "margin of one"),
        (3.15, "β belongs to W²"),
        (8.0, "not multiplied by λ"),
        (2.5, "without its penalty"),
        (0.55, "penalty alone"),
        (2.65, "absolute values"),
        (2.5 / 3 + 0.55, "only PyTorch's"),
        (1.05, "own max(0"),
        (7.0, "is not it"),
    ],
)
def test_loss_by_hand(answer, words):
    assert check.loss_by_hand(3.05).passed and check.loss_by_hand(...).passed is None
    feedback = check.loss_by_hand(answer)
    assert feedback.passed is False and words in feedback.message


def soft(z, t):
    return z.sign() * (z.abs() - t).clamp(min=0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda z, t, lam, b: soft(z, t * lam) / (1 + t * lam * b), "derivative of w²"),
        (lambda z, t, lam, b: soft(z / (1 + 2 * t * lam * b), t * lam), "shrink first"),
        (lambda z, t, lam, b: soft(z, lam) / (1 + 2 * lam * b), "threshold is tλ"),
        (lambda z, t, lam, b: soft(z, t * lam), "only the L1 part"),
        (lambda z, t, lam, b: z / (1 + 2 * t * lam * b), "only the L2 part"),
        (lambda z, t, lam, b: soft(z, t * lam * b) / (1 + 2 * t * lam), "β belongs to w²"),
        (lambda z, t, lam, b: torch.where(z.abs() > t * lam, z, 0) / (1 + 2 * t * lam * b), "you only cut"),
        (lambda z, t, lam, b: (z - t * lam).clamp(min=0) / (1 + 2 * t * lam * b), "negative weights"),
        (lambda z, t, lam, b: (z - t * lam * z.sign()) / (1 + 2 * t * lam * b), "not change its sign"),
        (lambda z, t, lam, b: 2 * soft(z, t * lam), "should give"),
        (lambda z, t, lam, b: z.sum(), "shape of z"),
        (lambda z, t, lam, b: z.mul_(0.5), "changes its input"),
        (lambda z, t: z, "TypeError"),
    ],
)
def test_prox_exercise(answer, words):
    assert check.prox(lambda z, t, lam, b: soft(z, t * lam) / (1 + 2 * t * lam * b)).passed
    assert check.prox(lambda z, t, lam, b: prox(z, l1=t * lam, l2=t * lam * b)).passed
    assert check.prox(lambda z, t, lam, b: ...).passed is None
    feedback = check.prox(answer)
    assert feedback.passed is False and words in feedback.message


NOISY, CLEAN = estimate([0.14, 0.16, 0.15]), estimate([0.01, 0.012, 0.011])


def test_clean_tells_what_happened():
    assert "'smaller', as you predicted" in check.clean(("smaller", NOISY, CLEAN)).message
    assert "'gone', you predicted 'larger'" in check.clean(("larger", NOISY, estimate([-0.01, 0.01, 0.02]))).message
    assert "'larger'" in check.clean(("larger", NOISY, estimate([0.2, 0.21, 0.22]))).message
    assert check.clean((..., NOISY, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("less", NOISY, CLEAN), "'less' came"),
        (("gone", NOISY, NOISY), "the same"),
        (("gone", estimate([-0.14, -0.16]), CLEAN), "subtract the accuracy of 'none'"),
        (("gone", NOISY, estimate([1.0, 1.4])), "between 0 and 1"),
        (("gone", 0.15, 0.0), "what `difference` returns"),
    ],
)
def test_clean_refuses(answer, words):
    feedback = check.clean(answer)
    assert feedback.passed is False and words in feedback.message


# --- weight decay --------------------------------------------------------------------------------------------------


def decay_definitions(*needed: str) -> dict:
    """Functions of the weight decay page, without running its experiments."""
    namespace = {"torch": torch}
    for cell in pages.code_cells(pages.read(ROOT / "chapters/norm-penalties/weight-decay.ipynb")):
        tree = ast.parse(cell)
        tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in needed]
        exec(compile(tree, "weight-decay", "exec"), namespace)
    return namespace


def test_shrinking_by_direction_is_the_penalized_minimum():
    shrink = decay_definitions("shrink")["shrink"]
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(30, columns, generator=generator, dtype=torch.float64) for columns in (6, 1))
    H, moment = 2 * x.T @ x / 30, (2 * x.T @ y / 30)[:, 0]
    w_star = torch.linalg.solve(H, moment)
    torch.testing.assert_close(shrink(H, w_star, 0.0), w_star)
    w = shrink(H, w_star, 0.3).requires_grad_()
    ((x @ w - y[:, 0]).square().mean() + 0.3 * w.square().sum()).backward()
    assert w.grad.abs().max() < 1e-12
    assert shrink(H, w_star, 1e9).norm() < 1e-8


def test_the_pages_projections_are_the_packages_and_torchs():
    page = decay_definitions("to_ball", "max_norm")
    w = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    w[:, 2] = 0
    for k in (0.5, 100.0):
        balls = page["to_ball"](w, torch.full((3,), k, dtype=torch.float64))
        torch.testing.assert_close(balls, torch.stack([project(column, k) for column in w.T], 1))
        torch.testing.assert_close(page["max_norm"](w.T, k), torch.renorm(w.T, p=2, dim=0, maxnorm=k))


def test_the_pages_adam_is_torchs_in_both_kinds_of_decay():
    adam = decay_definitions("adam")["adam"]
    for ours, kind, theirs in (({"l2": 0.3}, torch.optim.Adam, 0.6), ({"decay": 0.6}, torch.optim.AdamW, 0.6)):
        generator = torch.Generator().manual_seed(0)
        parameter = nn.Parameter(torch.randn(7, generator=generator, dtype=torch.float64))
        w, state, optimizer = parameter.detach().clone(), (0, 0.0, 0.0), kind([parameter], lr=0.05, weight_decay=theirs)
        for _ in range(20):
            parameter.grad = torch.randn(7, generator=generator, dtype=torch.float64)
            w, state = adam(w, parameter.grad, state, lr=0.05, **ours)
            optimizer.step()
        torch.testing.assert_close(w, parameter.detach())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (math.hypot(6 / 6.2, 2), "divide h by h + 2λ"),
        (math.hypot(0.0625, 1.5), "what the penalty takes away"),
        (3.1289, "that is k²"),
        (2.4375, "not the sum"),
        (10**0.5, "minimum without a penalty"),
        (math.hypot(0.9375, 0.5), "coordinates 1 and 3"),
        (7.0, "is not it"),
    ],
)
def test_radius_by_hand(answer, words):
    assert check.radius_by_hand(1.769).passed and check.radius_by_hand(...).passed is None
    feedback = check.radius_by_hand(answer)
    assert feedback.passed is False and words in feedback.message


def price(h, b, k, curvature=2.0):
    """The λ at which the length is k, by bisection without a lower limit of zero."""
    low, high = -0.49 * h.min().item(), 1e6
    for _ in range(200):
        middle = (low + high) / 2
        longer = (h / (h + curvature * middle) * b).norm() > k
        low, high = (middle, high) if longer else (low, middle)
    return middle


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (price, "the constraint is inactive"),
        (lambda h, b, k: max(0, price(h, b, k, 1.0)), "you return 2λ"),
        (lambda h, b, k: max(0, price(h, b, k, 4.0)), "you return λ/2"),
        (lambda h, b, k: max(0, price(h, b, k**2)), "your |w| is k²"),
        (lambda h, b, k: 0.0, "gives |w| ="),
        (lambda h, b, k: h.mul_(2).sum(), "changes its input"),
        (lambda h, b, k: h, "a finite number is needed"),
        (lambda h, b: 0.0, "TypeError"),
    ],
)
def test_strength(answer, words):
    assert check.strength(lambda h, b, k: max(0.0, price(h, b, k))).passed
    assert check.strength(lambda h, b, k: ...).passed is None
    feedback = check.strength(answer)
    assert feedback.passed is False and words in feedback.message


def test_loss_scale():
    before, small = estimate([0.1, 0.12, 0.11]), estimate([0.03, 0.04, 0.035])
    assert "'smaller', as you predicted" in check.loss_scale(("smaller", before, small)).message
    gone = check.loss_scale(("larger", before, estimate([-0.01, 0.01, 0.02])))
    assert gone.passed and "'gone', you predicted 'larger'" in gone.message
    assert "'larger'" in check.loss_scale(("larger", before, estimate([0.2, 0.21, 0.22]))).message
    assert check.loss_scale(("gone", before, ...)).passed is None


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (estimate([100.0, 101.0]), "between 0 and 1"),
        (0.01, "what `difference` returns"),
        (estimate([0.1, 0.12, 0.11]), "the same"),
    ],
)
def test_loss_scale_refuses(after, words):
    feedback = check.loss_scale(("gone", estimate([0.1, 0.12, 0.11]), after))
    assert feedback.passed is False and words in feedback.message
    swapped = check.loss_scale(("gone", estimate([-0.1, -0.12]), estimate([0.0, 0.01])))
    assert swapped.passed is False and "subtract the accuracy of 'none'" in swapped.message


# --- the page on priors --------------------------------------------------------------------------------------------


def view(*needed: str) -> dict:
    """The functions of bayesian-view."""
    namespace = {"torch": torch, "F": F, "penalties": penalties, "Laplace": torch.distributions.Laplace}
    namespace["Normal"] = torch.distributions.Normal
    for cell in pages.code_cells(pages.read(ROOT / "chapters/norm-penalties/bayesian-view.ipynb")):
        body = [node for node in ast.parse(cell).body if isinstance(node, ast.FunctionDef) and node.name in needed]
        exec(compile(ast.Module(body, []), "<page>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("prior", ["Gaussian", "Laplace", "elastic net"])
def test_the_pages_constants_make_the_mode_the_penalized_minimum(prior):
    page = view("strengths", "log_prior", "grid", "posterior", "minimizer")
    generator = torch.Generator().manual_seed(0)
    X, y = (torch.randn(6, k, generator=generator).double() for k in (2, 1))
    for sigma, tau in ((0.5, 0.8), (1.0, 0.3)):
        found = page["minimizer"](X, y, *page["strengths"](prior, sigma, tau))[:, 0]
        fine = page["grid"](torch.linspace(-2, 2, 801).double())
        mass = page["posterior"](prior, X, y, sigma, tau, fine)
        assert mass.sum().item() == pytest.approx(1)
        torch.testing.assert_close(fine[mass.argmax()], found, atol=0.0051, rtol=0)


def test_the_pages_posterior_takes_a_batch_and_agrees_with_the_closed_form():
    page = view("log_prior", "grid", "posterior", "gaussian_posterior")
    generator = torch.Generator().manual_seed(0)
    X, y = (torch.randn(3, 6, k, generator=generator).double() for k in (2, 1))
    weights = page["grid"](torch.linspace(-5, 5, 201).double())
    mean, covariance = page["gaussian_posterior"](X, y, 1.0, 0.7)
    mass = page["posterior"]("Gaussian", X, y, 1.0, 0.7, weights)
    torch.testing.assert_close(mass @ weights, mean[..., 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(mass @ weights**2 - mean[..., 0] ** 2, covariance.diagonal(dim1=-2, dim2=-1), atol=1e-5, rtol=0)
    gram = X.mT @ X + torch.eye(2) / 0.7**2
    torch.testing.assert_close(gram @ mean, X.mT @ y)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.04, "variance"),
        (5.0, "1/τ"),
        (25, "precision"),
        (2000, "number of examples"),
        (44.72, "number of examples"),
        (0.1414, "not of d Σw²"),
        (0.2828, "no factor 2"),
        (0.3, "is not it"),
    ],
)
def test_prior_width(answer, words):
    assert check.prior_width(0.2).passed and check.prior_width(...).passed is None
    feedback = check.prior_width(answer)
    assert feedback.passed is False and words in feedback.message


def believe(X, y, strengths, centre=0.0):
    return torch.linalg.solve(X.T @ X + torch.diag(strengths), X.T @ (y - X @ (centre + torch.zeros(X.shape[1]).to(X))))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda X, y, s, c, t: believe(X, y, s**2 / t**2), "centre is missing"),
        (lambda X, y, s, c, t: believe(X, y, s**2 / t**2, c), "add c again"),
        (lambda X, y, s, c, t: c + believe(X, y, s**2 / t**2), "explain y − Xc"),
        (lambda X, y, s, c, t: c + believe(X, y, 1 / t**2, c), "noise is missing"),
        (lambda X, y, s, c, t: c + believe(X, y, s**2 / t, c), "not σ²/τ."),
        (lambda X, y, s, c, t: c + believe(X, y, s / t**2, c), "not σ/τ²"),
        (lambda X, y, s, c, t: c + believe(X, y, t**2 / s**2, c), "upside down"),
        (lambda X, y, s, c, t: c + believe(X, y, (s**2 / t**2).mean().expand(len(t)), c), "one for all"),
        (lambda X, y, s, c, t: c, "is expected"),
        (lambda X, y, s, c, t: c[None], "shape"),
        (lambda X, y, s, c, t: c.mul_(2), "changes its inputs"),
        (lambda X, y: y, "TypeError"),
    ],
)
def test_map_estimate(answer, words):
    assert check.map_estimate(lambda X, y, s, c, t: c + believe(X, y, s**2 / t**2, c)).passed
    assert check.map_estimate(lambda X, y, s, c, t: ...).passed is None
    feedback = check.map_estimate(answer)
    assert feedback.passed is False and words in feedback.message


FEW, MANY = estimate([-0.55, -0.54, -0.56]), estimate([-0.4, -0.39, -0.41])


def test_more_data_tells_what_happened():
    assert "'smaller', as you predicted" in check.more_data(("smaller", FEW, MANY)).message
    assert "'gone', you predicted 'larger'" in check.more_data(("larger", FEW, estimate([-0.01, 0.0, 0.001]))).message
    assert "'larger', as you" in check.more_data(("larger", FEW, estimate([-0.7, -0.71]))).message
    assert check.more_data((..., FEW, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("less", FEW, MANY), "'less' came"),
        (("gone", FEW, FEW), "the same"),
        (("smaller", estimate([0.55, 0.54]), MANY), "the other way round"),
        (("smaller", FEW, estimate([-40.0, -41.0])), "between 0 and 1"),
        (("smaller", -0.5, -0.4), "what `difference` returns"),
    ],
)
def test_more_data_refuses(answer, words):
    feedback = check.more_data(answer)
    assert feedback.passed is False and words in feedback.message
