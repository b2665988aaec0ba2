"""Exercises of chapters/initialization, and its two recursions against closed forms."""

import itertools
import math

import pytest
import torch
from conftest import ROOT
from torch import nn

from regbook.checks import initialization as check
from regbook.claims import estimate
from regbook.initialization import (
    Bias,
    Residual,
    Scale,
    change_rates,
    data_dependent,
    fixup,
    fixup_groups,
    lsuv,
    random_walk_gain,
)
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


# --- beyond variance -----------------------------------------------------------------------------------------------

BATCH = torch.randn(200, 12, generator=torch.Generator().manual_seed(1))


def chain(act=torch.nn.ReLU, widths=(12, 20, 20, 4), **options):
    layers = [layer for i, o in itertools.pairwise(widths) for layer in (torch.nn.Linear(i, o, **options), act())]
    return torch.nn.Sequential(*layers[:-1])


def untouched(model, before):
    hooks = [
        hook for module in model.modules() for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    state = model.state_dict()
    return not hooks and state.keys() == before.keys() and all(torch.equal(state[key], before[key]) for key in before)


def test_the_random_walk_gain_cancels_the_drift_of_a_chi_square():
    for width in (10, 50, 400):
        half = torch.tensor(width / 2, dtype=torch.float64)
        drift = (torch.digamma(half) - half.log()).item()  # E ln(χ²_N / N), exactly
        assert random_walk_gain(width, "linear") == pytest.approx(math.exp(-drift / 2), abs=0.3 / width**2)
        active = torch.arange(1, width + 1, dtype=torch.float64)
        chance = torch.distributions.Binomial(width, torch.tensor(0.5, dtype=torch.float64)).log_prob(active).exp()
        drift = (chance * (torch.digamma(active / 2) + math.log(2 / width))).sum() / chance.sum()
        assert random_walk_gain(width) == pytest.approx(math.exp(-drift / 2), rel=5e-3)  # their fit
    assert random_walk_gain(2) == random_walk_gain(6)
    for arguments in ((0, "relu"), (100, "tanh")):
        with pytest.raises(ValueError, match="width=0|'tanh'"):
            random_walk_gain(*arguments)


@pytest.mark.parametrize("act", [torch.nn.Tanh, torch.nn.ReLU, torch.nn.Sigmoid])
def test_lsuv_gives_unit_variance_and_orthogonal_directions(act):
    model = chain(act)
    model[0].bias.data.fill_(7)
    assert lsuv(model, BATCH) is model
    h = BATCH
    for layer in model:
        h = layer(h)
        if isinstance(layer, torch.nn.Linear):
            assert h.var().item() == pytest.approx(1, abs=0.1)
            assert not layer.bias.any()
            W = layer.weight if layer.weight.shape[0] <= layer.weight.shape[1] else layer.weight.T
            gram = W @ W.T
            torch.testing.assert_close(gram, gram[0, 0] * torch.eye(len(gram)), rtol=0, atol=1e-4)


def test_lsuv_has_its_closed_form_for_one_layer():
    model = lsuv(torch.nn.Sequential(torch.nn.Linear(3, 3)), 5 * torch.randn(4000, 3), tolerance=1e-3)
    assert torch.linalg.svdvals(model[0].weight).tolist() == pytest.approx([0.2] * 3, rel=0.05)


class Branches(torch.nn.Module):
    """Registered in another order than it runs; one layer runs twice, one never, one is in train mode by choice."""

    def __init__(self):
        super().__init__()
        self.top, self.never = torch.nn.Linear(16, 3), torch.nn.Linear(5, 5)
        self.shared, self.bottom = torch.nn.Linear(16, 16, bias=False), torch.nn.Conv1d(1, 4, 3, padding=1)
        self.norm, self.drop = torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5)
        self.order = []

    def forward(self, x):
        h = self.drop(self.norm(self.bottom(x[:, None])).relu().mean(2).repeat(1, 4))
        return self.top(self.shared(self.shared(h).relu()).relu())


@pytest.mark.parametrize("start", ["lsuv", "data_dependent"])
def test_starts_follow_the_data_through_any_module(start):
    model = Branches()
    model.drop.eval()
    never, norm = model.never.weight.clone(), model.norm.running_mean.clone()
    options = {"tolerance": 0.3} if start == "data_dependent" else {}
    {"lsuv": lsuv, "data_dependent": data_dependent}[start](model, BATCH, **options)
    assert model.training and model.norm.training and not model.drop.training
    assert torch.equal(model.never.weight, never) and torch.equal(model.norm.running_mean, norm)
    assert model.top.weight.grad is None and untouched(model, model.state_dict())
    outputs = []
    hook = model.shared.register_forward_hook(lambda layer, inputs, out: outputs.append(out))
    model.eval()(BATCH)
    hook.remove()
    if start == "lsuv":  # a shared layer counts where it comes first
        assert outputs[0].var().item() == pytest.approx(1, abs=0.1)


def test_one_channel_after_another_has_mean_0_and_deviation_1():
    images = torch.rand(64, 3, 8, 8)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.Sigmoid(), torch.nn.Flatten(), torch.nn.Linear(180, 4))
    data_dependent(model, images, tolerance=1e9)  # the first part alone
    h = model[0](images)
    torch.testing.assert_close(h.mean((0, 2, 3)), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(h.std((0, 2, 3)), torch.ones(5), atol=1e-3, rtol=0)
    torch.testing.assert_close(model(images).std(0), torch.ones(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("act", [torch.nn.ReLU, torch.nn.Tanh])
def test_rates_of_change_become_equal(act, monkeypatch):
    model, directions = chain(act, (12, 40, 8, 30, 4)), []
    monkeypatch.setattr(torch, "randn_like", lambda like: directions.append(torch.ones_like(like)) or directions[-1])
    data_dependent(model, BATCH, tolerance=0.01)
    rates = torch.tensor(list(change_rates(model, BATCH, directions[0]).values()))
    assert rates.max() / rates.min() < 1.01**2 + 1e-3
    if act is torch.nn.ReLU:  # homogeneous: the between-layer part leaves the function as it was
        torch.testing.assert_close(model(BATCH).std(0), torch.ones(4), atol=0.01, rtol=0)
        torch.testing.assert_close(model(BATCH).mean(0), torch.zeros(4), atol=0.01, rtol=0)


def test_change_rates_are_gradient_norm_over_weight_norm():
    model, direction = chain().double(), torch.randn(200, 4, dtype=torch.float64)
    rates = change_rates(model, BATCH.double(), direction)
    (model(BATCH.double()) * direction).sum().backward()
    assert list(rates) == ["0", "2", "4"]
    for name, rate in rates.items():
        weight = model.get_submodule(name).weight
        assert rate == pytest.approx((weight.grad.norm() / weight.norm()).item(), rel=1e-12)


class Deaf(torch.nn.Linear):
    """Its output does not depend on the size of its weights."""

    def forward(self, x):
        return 3 * torch.nn.functional.linear(x, self.weight / self.weight.norm())


class Silent(torch.nn.Module):
    def forward(self, x):
        return 0 * x


@pytest.mark.parametrize("start", [lsuv, data_dependent])
@pytest.mark.parametrize(
    ("middle", "x", "words"),
    [
        (torch.nn.ReLU(), torch.ones(50, 12), "x: its 50 examples are all the same"),
        (torch.nn.ReLU(), BATCH[:1], "x: its 1 examples"),
        (torch.nn.ReLU(), torch.zeros(0, 12), "x: its 0 examples"),
        (Silent(), BATCH, "layer '2'"),
        (Deaf(20, 20), BATCH, "layer '1'.*cannot be scaled|layer '1'.*after 10 tries"),
        (torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(20, 20)), BATCH, "layer '1'.*follow"),
    ],
)
def test_what_cannot_be_scaled_is_refused_and_nothing_changes(start, middle, x, words):
    model = torch.nn.Sequential(torch.nn.Linear(12, 20), middle, torch.nn.Linear(20, 3), torch.nn.Dropout())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        start(model, x)
    assert untouched(model, before) and model.training


def test_a_layer_without_a_gradient_is_named():
    model = chain()
    model[2].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="layer '2': its weights are frozen"):
        change_rates(model, BATCH)
    model[2].weight.data.zero_()
    model[2].weight.requires_grad_()
    with pytest.raises(ValueError, match="layer '0': its gradient is 0 times"):
        change_rates(model, BATCH)


def test_a_model_without_layers_and_rates_that_stay_apart_are_refused():
    with pytest.raises(ValueError, match="reaches no Linear or Conv layer"):
        lsuv(torch.nn.Sequential(torch.nn.ReLU()), BATCH)
    model = chain(widths=(12, 50, 3))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="after 0 tries"):
        data_dependent(model, BATCH, tolerance=1e-6, tries=0)
    assert untouched(model, before)


LOG = math.log(999)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (LOG / 2, "a factor 2 is missing"),
        (math.log10(999) / 4, "natural"),
        (4 * LOG, "less time"),
        (-LOG / 4, "negative"),
        (9.0, "not it"),
    ],
)
def test_half_learned(answer, words):
    assert check.half_learned(LOG / 4).passed and check.half_learned(1.73).passed
    feedback = check.half_learned(answer)
    assert feedback.passed is False and words in feedback.message


def middle(rates):
    return rates.log().mean().exp()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda r: r / middle(r), "the root of the ratio"),
        (lambda r: (middle(r) / r).sqrt(), "upside down: a layer"),
        (lambda r: middle(r) / r, "without the root"),
        (lambda r: (r / r.mean()).sqrt(), "arithmetic mean"),
        (lambda r: r.sqrt(), "geometric mean first"),
        (middle, "one factor a layer"),
        (lambda r: r + 1, "should be"),
    ],
)
def test_equal_rates(answer, words):
    assert check.equal_rates(lambda r: (r / middle(r)).sqrt()).passed
    feedback = check.equal_rates(answer)
    assert feedback.passed is False and words in feedback.message


def test_shallow_sigmoid():
    deep, shallow = estimate([0.9, 1.0, 1.1]), estimate([0.1, 0.2, 0.3])
    assert "'smaller', as you predicted" in check.shallow_sigmoid(("smaller", deep, estimate([0.2, 0.21, 0.22]))).message
    assert "'gone', you predicted 'larger'" in check.shallow_sigmoid(("larger", deep, shallow)).message
    assert check.shallow_sigmoid((..., deep, ...)).passed is None
    for answer, words in (
        (("gone", estimate([-1, -1.1, -1.2]), shallow), "subtract the loss of the data-dependent"),
        (("gone", deep, deep), "the same"),
        (("never", deep, shallow), "'never' came"),
    ):
        feedback = check.shallow_sigmoid(answer)
        assert feedback.passed is False and words in feedback.message


# --- Fixup ---------------------------------------------------------------------------------------------------------


def conv_net(blocks=9, layers=3):
    def branch():
        parts = [part for _ in range(layers) for part in (Bias(), nn.ReLU(), Bias(), nn.Conv2d(4, 4, 3, padding=1))]
        return nn.Sequential(*parts, Scale())

    wider = Residual(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)), nn.Conv2d(3, 4, 3, bias=False))
    return nn.Sequential(wider, *(Residual(branch()) for _ in range(blocks - 1)), nn.Flatten(), nn.Linear(4, 5))


def drawn(start, net):
    torch.manual_seed(3)
    start(net)
    return net


def he(net):
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            nn.init.kaiming_normal_(layer.weight)


def test_fixup_is_he_times_its_factor_with_zeros_at_the_ends():
    ours, plain = drawn(fixup, conv_net().double()), drawn(he, conv_net().double())
    for number, (block, before) in enumerate(zip(ours[:9], plain[:9], strict=True)):
        convs, drawn_before = ([c for c in b.branch if isinstance(c, nn.Conv2d)] for b in (block, before))
        factor = 9 ** (-1 / 2) if number == 0 else 9 ** (-1 / 4)  # the first branch has two layers, the others three
        for layer, same in zip(convs[:-1], drawn_before, strict=False):
            torch.testing.assert_close(layer.weight, factor * same.weight, rtol=1e-12, atol=0)
        assert not convs[-1].weight.any() and not any(c.bias.any() for c in convs)
    torch.testing.assert_close(ours[0].shortcut.weight, plain[0].shortcut.weight, rtol=0, atol=0)
    assert not ours[-1].weight.any() and not ours[-1].bias.any()


def test_after_fixup_every_block_is_its_shortcut():
    net, x = drawn(fixup, conv_net()), torch.randn(2, 3, 3, 3)
    assert torch.equal(net[:9](x), net[0].shortcut(x))
    assert not net(x).any()


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_the_squared_gradient_does_not_depend_on_the_depth(layers):
    def push(blocks):  # with the identity for He's draw, so that there is no chance in it
        branches = [[nn.Linear(4, 4, bias=False) for _ in range(layers)] for _ in range(blocks)]
        net = nn.Sequential(*(Residual(nn.Sequential(*b)) for b in branches), nn.Linear(4, 4)).double()
        fixup(net)
        with torch.no_grad():
            for layer in (layer for branch in branches for layer in branch[:-1]):
                layer.weight.copy_(torch.eye(4) * blocks ** (-1 / (2 * layers - 2)))
            net[-1].weight.copy_(torch.eye(4))
        net(torch.ones(1, 4, dtype=torch.float64)).sum().backward()
        return sum(p.grad.square().sum().item() for p in net[:-1].parameters())

    assert [push(blocks) for blocks in (1, 2, 7, 40)] == pytest.approx([16.0] * 4)


def nested():
    inner = Residual(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    return nn.Sequential(Residual(nn.Sequential(inner, nn.Linear(4, 4))), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), "no Residual block.*shortcuts"),
        (lambda: nn.Sequential(nn.ReLU()), "no Residual block"),
        (lambda: nn.Sequential(Residual(nn.Linear(4, 4)), nn.Linear(4, 2)), "block 0 has 1 weight layers.*at least 2"),
        (lambda: nn.Sequential(nn.Linear(4, 4), Residual(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))), "inside a block"),
        (nested, "nested"),
    ],
)
def test_fixup_refuses_and_leaves_the_weights_as_they_were(net, words):
    net = net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=words):
        fixup(net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_fixup_groups_give_biases_and_scales_a_tenth():
    net = conv_net()
    weights, others = fixup_groups(net.parameters(), 0.5)
    assert (weights["lr"], others["lr"]) == (0.5, 0.05)
    assert {id(p) for p in weights["params"]} == {id(p) for name, p in net.named_parameters() if name.endswith("weight")}
    assert len(weights["params"]) + len(others["params"]) == len(list(net.parameters()))
    assert torch.optim.SGD([weights, others]).param_groups[1]["lr"] == 0.05


def of_the_fixup_page(*needed, **given):
    namespace = {"torch": torch, "nn": nn, "Bias": Bias, "Residual": Residual, "Scale": Scale, "fixup": fixup, **given}
    for cell in pages.code_cells(pages.read(ROOT / "chapters/initialization/fixup.ipynb")):
        if any(f"def {name}(" in cell for name in needed):
            exec(cell, namespace)
    return namespace


def test_the_pages_fixup_by_hand_is_the_packages():
    page = of_the_fixup_page("fixup_by_hand", he=he)
    by_hand, ours = drawn(page["fixup_by_hand"], conv_net()), drawn(fixup, conv_net())
    weights = [[p for name, p in net.named_parameters() if name.endswith("weight")] for net in (by_hand, ours)]
    assert all(map(torch.equal, *weights))


def test_the_pages_full_scale_network_is_resnet_110(monkeypatch):
    monkeypatch.setenv("REGBOOK_SCALE", "full")
    from regbook.device import pick

    def conv(n):
        return nn.Conv2d(n, n, 3, padding=1, bias=False)

    given = {"pick": pick, "widths": (16, 32, 64), "layer": conv, "norm": nn.BatchNorm2d, "inputs": 3072, "classes": 10, "he": he}
    resnet = of_the_fixup_page("resnet", **given)["resnet"]
    for kind in ("default", "batch norm", "Fixup"):
        net = resnet(kind, 54)
        assert sum(isinstance(layer, (nn.Conv2d, nn.Linear)) for layer in net.modules()) == 110
        assert net(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert sum(isinstance(block, Residual) for block in resnet("default", 10)) == 10


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((37 / 36) ** 100, "root"),
        ((10 / 9) ** 50, "not by 1/3"),
        ((7 / 6) ** 50, "1/6 twice"),
        ((1 / 36) ** 50, "without shortcuts"),
        ((7 / 6) ** 100, "the standard deviation"),
        (2.0**50, "He's start"),
        (7, "not it"),
    ],
)
def test_own_start(answer, words):
    assert check.own_start((37 / 36) ** 50).passed and check.own_start(3.93).passed
    feedback = check.own_start(answer)
    assert feedback.passed is False and words in feedback.message


def test_the_answer_to_own_start_is_what_pytorch_does():
    torch.manual_seed(0)
    x = torch.randn(2000, 500)
    inside = nn.Sequential(nn.ReLU(), nn.Linear(500, 500, bias=False), nn.ReLU(), nn.Linear(500, 500, bias=False))
    assert inside(x).square().mean().item() == pytest.approx(1 / 36, rel=0.15)  # chance: 5 to 10 %


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda blocks, layers: blocks ** (1 / (2 * layers)), "sign"),
        (lambda blocks, layers: blocks ** (-1 / layers), "twice too large"),
        (lambda blocks, layers: blocks**-0.5, "each of the m"),
        (lambda blocks, layers: 1 / blocks, "the branch as a whole"),
        (lambda blocks, layers: blocks ** (-1 / max(2 * layers - 2, 1)), "Fixup's factor"),
        (lambda blocks, layers: 0.3, "should be 0.464159"),
        (lambda blocks: 1, "TypeError"),
    ],
)
def test_shrink(answer, words):
    assert check.shrink(lambda blocks, layers: blocks ** (-1 / (2 * layers))).passed
    assert check.shrink(lambda blocks, layers: ...).passed is None
    feedback = check.shrink(answer)
    assert feedback.passed is False and words in feedback.message


THIRTY, TEN = estimate([0.4, 0.5, 0.6]), estimate([0.1, 0.12, 0.14])


def test_fewer_blocks_tells_what_happened():
    assert "'smaller', as you predicted" in check.fewer_blocks(("smaller", THIRTY, TEN)).message
    other = check.fewer_blocks(("larger", THIRTY, TEN))
    assert other.passed and "you predicted 'larger'" in other.message
    assert "'gone', as you predicted" in check.fewer_blocks(("gone", THIRTY, estimate([-0.1, 0.1, 0.05]))).message
    assert check.fewer_blocks((..., THIRTY, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("shallower", THIRTY, TEN), "'shallower' came"),
        (("smaller", THIRTY, THIRTY), "the same"),
        (("smaller", THIRTY, estimate([-0.1, -0.12, -0.14])), "subtract 'no factor'"),
        (("smaller", 0.5, 0.1), "what `difference` returns"),
    ],
)
def test_fewer_blocks_refuses(answer, words):
    feedback = check.fewer_blocks(answer)
    assert feedback.passed is False and words in feedback.message


# --- xavier-and-kaiming ---------------------------------------------------------------------------------------------

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
