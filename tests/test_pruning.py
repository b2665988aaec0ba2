"""Masks of ``regbook.pruning`` against hand-made cases and PyTorch's own pruning; the exercises of chapters/pruning."""

import math
from fractions import Fraction
from functools import partial

import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from regbook import data, models, pruning
from regbook.checks import pruning as check
from regbook.claims import estimate
from regbook.data import Split
from regbook.experiments import compare
from regbook.press import pages
from regbook.training import batches, evaluate, fit


@pytest.fixture
def net():
    torch.manual_seed(0)
    return models.mlp(64, (30, 20))


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- how many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p", "n", "gone"),
    [
        (0.2, 5, 1),
        (0.1, 30, 3),
        (0.28, 25, 7),
        (1 - 0.7, 10, 3),
        (0.2, 6, 2),
        (0.5, 3, 2),
        (0.01, 10, 1),
        (0.9, 266_200, 239_580),
        (1e-7, 1, 1),
    ],
)
def test_the_count_is_exact(p, n, gone):
    assert pruning.count(p, n) == gone
    weights = {"w": torch.arange(1.0, n + 1)}
    if gone < n:
        assert pruning.magnitude_mask(weights, p)["w"].logical_not().sum() == gone


@given(st.integers(1, 9999), st.integers(1, 10**7))
def test_the_count_is_the_ceiling_of_the_decimal_product(thousandths, n):
    assert pruning.count(thousandths / 10_000, n) == math.ceil(Fraction(thousandths, 10_000) * n)


# --- which -----------------------------------------------------------------------------------------------------------


def test_the_smallest_magnitudes_go_layer_by_layer_or_all_together():
    weights = {"a": torch.tensor([[1.0, -2.0], [3.0, -4.0]]), "b": torch.tensor([[0.1, -0.2]])}
    by_layer = pruning.magnitude_mask(weights, 0.5)
    assert by_layer["a"].tolist() == [[False, False], [True, True]] and by_layer["b"].tolist() == [[False, True]]
    together = pruning.magnitude_mask(weights, 1 / 6, by="global")
    assert together["a"].all() and together["b"].tolist() == [[False, True]]
    rates = pruning.magnitude_mask(weights, {"a": 0.25, "b": 0.5})
    assert rates["a"].tolist() == [[False, True], [True, True]] and rates["b"].tolist() == [[False, True]]


def test_of_equal_weights_only_as_many_go_as_must_and_the_first_ones():
    ties = {"w": torch.tensor([1.0, -1.0, 1.0, 1.0, 2.0])}
    assert pruning.magnitude_mask(ties, 0.4)["w"].tolist() == [False, False, True, True, True]
    # the reference codes: all weights up to the magnitude at position ⌈p·n⌉, counted from 0
    assert (ties["w"].abs() > ties["w"].abs().sort().values[2]).sum() == 1
    zeros = {"w": torch.zeros(1000)}
    assert pruning.magnitude_mask(zeros, 0.3)["w"].sum() == 700


def test_iterative_pruning_takes_a_share_of_what_is_left_and_never_brings_a_weight_back(net):
    mask, left = None, {"1.weight": 1920, "3.weight": 600, "5.weight": 200}
    rates = {"1.weight": 0.2, "3.weight": 0.2, "5.weight": 0.1}
    for _ in range(5):
        before, given_mask = mask, mask and {name: keep.clone() for name, keep in mask.items()}
        mask = pruning.magnitude_mask(pruning.prunable(net), rates, mask)
        left = {name: n - math.ceil(Fraction(str(rates[name])) * n) for name, n in left.items()}
        assert {name: int(keep.sum()) for name, keep in mask.items()} == left
        if before:
            assert equal(before, given_mask)  # a value: nobody changed it
            assert not any((mask[name] & ~before[name]).any() for name in mask)
        with torch.no_grad():  # pruned weights may have any value, even the largest
            for name, keep in mask.items():
                net.get_parameter(name)[~keep] = 100.0
    assert pruning.density(mask) == sum(left.values()) / 2720


@pytest.mark.parametrize("p", [0.1, 0.37, 0.9])
def test_masks_equal_pytorchs(net, p):
    weights = {name: w.clone() for name, w in pruning.prunable(net).items()}
    together, by_layer = pruning.magnitude_mask(weights, p, by="global"), pruning.magnitude_mask(weights, p)
    modules = [(net[i], "weight") for i in (1, 3, 5)]
    prune.global_unstructured(modules, prune.L1Unstructured, amount=pruning.count(p, 2720))
    assert equal(together, {f"{i}.weight": net[i].weight_mask.bool() for i in (1, 3, 5)})
    for i in (1, 3, 5):
        prune.remove(net[i], "weight")
        net[i].weight.data.copy_(weights[f"{i}.weight"])
        prune.l1_unstructured(net[i], "weight", amount=pruning.count(p, net[i].weight.numel()))
    assert equal(by_layer, {f"{i}.weight": net[i].weight_mask.bool() for i in (1, 3, 5)})


def test_prunable_weights_are_those_of_linear_and_convolutional_layers():
    names = list(pruning.prunable(models.small_cnn(norm_layer=nn.BatchNorm2d)))
    assert names == ["0.weight", "4.weight", "8.weight", "15.weight"]


def test_a_random_mask_keeps_as_many_in_each_layer_elsewhere(net):
    mask = pruning.magnitude_mask(pruning.prunable(net), 0.8, by="global")
    drawn = [pruning.random_mask(mask, torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert equal(drawn[0], drawn[1]) and not equal(drawn[0], drawn[2]) and not equal(drawn[0], mask)
    for name, keep in drawn[0].items():
        assert keep.sum() == mask[name].sum() and keep.shape == mask[name].shape and keep.dtype == torch.bool
    assert pruning.density(drawn[0]) == pruning.density(mask) == 544 / 2720


# --- in training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [partial(torch.optim.Adam, lr=1e-2), partial(torch.optim.SGD, lr=0.1, momentum=0.9)])
def test_pruned_weights_stay_zero_whatever_the_optimizer_remembers(net, optimizer):
    mask = pruning.magnitude_mask(pruning.prunable(net), 0.7)
    pruning.apply(net, mask)
    start = {name: w.clone() for name, w in pruning.prunable(net).items()}
    fit(net, data.digits(n=200), steps=20, optimizer=optimizer, on_step=pruning.enforce(mask))
    for name, w in pruning.prunable(net).items():
        assert not w[~mask[name]].any()
        assert (w != start[name])[mask[name]].float().mean() > 0.5


def test_a_masked_network_trains_like_one_whose_forward_pass_multiplies_by_the_mask(net):
    mask, digits, sgd = pruning.magnitude_mask(pruning.prunable(net), 0.5), data.digits(n=200), partial(torch.optim.SGD, lr=0.1)
    theirs = models.mlp(64, (30, 20))
    theirs.load_state_dict(net.state_dict())
    for i in (1, 3, 5):
        prune.custom_from_mask(theirs[i], "weight", mask[f"{i}.weight"])
    fit(pruning.apply(net, mask), digits, steps=20, optimizer=sgd, on_step=pruning.enforce(mask))
    fit(theirs, digits, steps=20, optimizer=sgd)
    for i in (1, 3, 5):
        torch.testing.assert_close(net[i].weight, theirs[i].weight, rtol=0, atol=1e-6)


def test_masks_work_in_float64(net):
    net = net.double()
    mask = pruning.magnitude_mask(pruning.prunable(net), 0.5)
    x, y = data.digits(n=50).train
    pruning.apply(net, mask)
    loss = nn.functional.cross_entropy(net(x.double()), y)
    loss.backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    pruning.enforce(mask)(1, net)
    assert net[1].weight.dtype == torch.float64 and not net[1].weight[~mask["1.weight"]].any()


def retrain(digits, seed, level, masks):
    torch.manual_seed(seed)
    net = pruning.apply(models.mlp(64, (30, 20)), masks[level])
    yield from fit(net, digits, steps=10, seed=seed, on_step=pruning.enforce(masks[level]))
    yield {"step": 10, "density": pruning.density({n: w != 0 for n, w in pruning.prunable(net).items()})}


def test_levels_run_in_parallel_and_agree_with_one_process(net):
    masks = {p: pruning.magnitude_mask(pruning.prunable(net), p) for p in (0.2, 0.8)}
    arms = {f"{p}": {"level": p} for p in masks}
    one, two = (compare(arms, data.digits(n=100), run=retrain, masks=masks, seeds=2, processes=n) for n in (1, 2))
    assert one.frame.equals(two.frame)
    assert one.final("density")["0.8"].tolist() == pytest.approx([0.2] * 2)


# --- tickets ---------------------------------------------------------------------------------------------------------


def test_a_ticket_survives_a_save_and_a_load(net, tmp_path):
    start = {name: t.clone() for name, t in net.state_dict().items()}
    digits = data.digits(n=200)
    fit(net, digits, steps=20)
    mask = pruning.magnitude_mask(pruning.prunable(net), 0.5)
    pruning.save(tmp_path / "ticket.pt", mask, start)
    assert [file.name for file in tmp_path.iterdir()] == ["ticket.pt"]

    other = models.mlp(64, (30, 20))
    untouched = {name: t.clone() for name, t in other.state_dict().items()}
    loaded, weights = pruning.load(tmp_path / "ticket.pt", other)
    assert equal(loaded, mask) and equal(weights, start) and equal(other.state_dict(), untouched)

    losses = []
    for m, w in ((mask, start), (loaded, weights)):
        other.load_state_dict(w)
        fit(pruning.apply(other, m), digits, steps=10, on_step=pruning.enforce(m))
        losses.append(evaluate(other, *digits.test)["loss"])
    assert losses[0] == losses[1]


def test_a_ticket_with_batch_normalization_keeps_its_statistics(tmp_path):
    net = models.small_cnn(norm_layer=nn.BatchNorm2d)
    pruning.save(tmp_path / "t", pruning.magnitude_mask(pruning.prunable(net), 0.5), net.state_dict())
    assert equal(pruning.load(tmp_path / "t", net)[1], dict(net.state_dict()))


def test_a_ticket_of_another_network_is_refused_with_the_names_and_shapes_that_differ(net, tmp_path):
    pruning.save(tmp_path / "t", pruning.magnitude_mask(pruning.prunable(net), 0.5), net.state_dict())
    with pytest.raises(ValueError, match="does not fit the network") as error:
        pruning.load(tmp_path / "t", models.mlp(64, (30, 25, 20)))
    message = str(error.value)
    assert "3.weight is (20, 30) in the mask and (25, 30) in the network" in message
    assert "3.bias is (20,) in the start and (25,) in the network" in message
    assert "7.weight is absent in the start and (10, 20) in the network" in message
    assert "1.weight" not in message
    with pytest.raises(ValueError, match=r"5.weight is \(10, 20\) in the mask and absent in the network"):
        pruning.load(tmp_path / "t", models.mlp(64, (30,)))


@pytest.mark.parametrize("content", [b"", b"not a ticket", "cut", {"mask": {}}, {"mask": {"w": torch.ones(2)}, "start": {}}, [1]])
def test_what_is_no_ticket_is_refused(net, tmp_path, content):
    path = tmp_path / "t"
    if content == "cut":
        pruning.save(path, pruning.magnitude_mask(pruning.prunable(net), 0.5), net.state_dict())
        path.write_bytes(path.read_bytes()[:2000])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="not a ticket"):
        pruning.load(path, net)


def test_loading_runs_no_code(net, tmp_path):
    class Trap:
        def __reduce__(self):
            return exec, ("raise SystemExit",)

    torch.save({"mask": {}, "start": {}, "more": Trap()}, tmp_path / "t")
    with pytest.raises(ValueError, match="not a ticket"):
        pruning.load(tmp_path / "t", net)


def test_an_interrupted_save_leaves_the_old_ticket(net, tmp_path, monkeypatch):
    mask = pruning.magnitude_mask(pruning.prunable(net), 0.5)
    pruning.save(tmp_path / "t", mask, net.state_dict())
    before = (tmp_path / "t").read_bytes()

    def interrupted(_, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pruning.save(tmp_path / "t", mask, net.state_dict())
    assert (tmp_path / "t").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


# --- refusals --------------------------------------------------------------------------------------------------------

W = {"a": torch.tensor([1.0, 2.0, 3.0, 4.0]), "b": torch.tensor([0.1, 0.2])}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"p": 0}, "p=0 for a; .*between 0 and 1"),
        ({"p": 1.0}, "p=1.0"),
        ({"p": -0.2}, "p=-0.2"),
        ({"p": float("nan")}, "p=nan"),
        ({"p": {"a": 0.2, "b": 1.2}}, "p=1.2 for b"),
        ({"p": {"a": 0.2}}, "differ in b"),
        ({"p": {"a": 0.2, "b": 0.2, "c": 0.2}}, "differ in c"),
        ({"p": {"a": 0.2, "b": 0.2}, "by": "global"}, "one share for all"),
        ({"p": 0.2, "by": "network"}, "by='network'"),
        ({"p": 0.6}, "leave no weight in b"),
        ({"p": 0.3, "by": "global"}, "leave no weight in b"),
        ({"p": 0.2, "mask": {"a": torch.ones(4).bool()}}, r"b is absent in the mask and \(2,\) in the weights"),
        ({"p": 0.2, "mask": {"a": torch.ones(3).bool(), "b": torch.ones(2).bool()}}, r"a is \(3,\) in the mask and \(4,\)"),
        ({"p": 0.2, "mask": {"a": torch.ones(4).bool(), "b": torch.tensor([True, False])}}, "leave no weight in b"),
    ],
)
def test_magnitude_mask_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        pruning.magnitude_mask(W, **arguments)


def test_other_refusals(net):
    with pytest.raises(ValueError, match="Sequential has no parameter"):
        pruning.prunable(nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4)))
    with pytest.raises(ValueError, match="nothing to prune"):
        pruning.magnitude_mask({}, 0.2)
    with pytest.raises(ValueError, match="b: NaN or infinite"):
        pruning.magnitude_mask(W | {"b": torch.tensor([1.0, math.nan])}, 0.2)
    wrong = {"1.weight": torch.zeros(30, 64, dtype=torch.bool), "3.weight": torch.zeros(1, 30, dtype=torch.bool)}
    before = net[1].weight.clone()
    for attempt in (lambda: pruning.apply(net, wrong), lambda: pruning.enforce(wrong)(1, net)):
        with pytest.raises(ValueError, match=r"3.weight is \(1, 30\) in the mask and \(20, 30\) in the network"):
            attempt()
    assert torch.equal(net[1].weight, before)  # nothing half-changed


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_masks_on_a_gpu_are_those_of_the_cpu(net, tmp_path):
    here = pruning.magnitude_mask(pruning.prunable(net), 0.37, by="global")
    pruning.save(tmp_path / "t", here, net.state_dict())
    there = net.to("cuda")
    assert equal({n: m.cpu() for n, m in pruning.magnitude_mask(pruning.prunable(there), 0.37, by="global").items()}, here)
    mask, start = pruning.load(tmp_path / "t", there)
    assert mask["1.weight"].is_cuda and start["1.weight"].is_cuda
    for m in (mask, here):  # a mask may lie elsewhere
        pruning.enforce(m)(1, pruning.apply(there, m))
    assert not there[1].weight[~mask["1.weight"]].any()
    drawn = pruning.random_mask(mask, torch.Generator().manual_seed(1))
    assert equal({n: m.cpu() for n, m in drawn.items()}, pruning.random_mask(here, torch.Generator().manual_seed(1)))


# --- the page and its exercises --------------------------------------------------------------------------------------

PAGE = ROOT / "chapters/pruning/magnitude-pruning.ipynb"


def from_page(name: str, tag: str | None = None):
    """A function that the page defines; with ``tag``, the one in a cell with that tag."""
    namespace = {"torch": torch, "math": math, "pruning": pruning, "check": check}
    for cell in pages.read(PAGE)["cells"]:
        source = "".join(cell["source"])
        if f"def {name}(" in source and (tag is None or tag in cell["metadata"].get("tags", [])):
            exec(source, namespace)
            return namespace[name]


@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0]), min_size=2, max_size=40), st.sampled_from([0.25, 0.5, 0.75]))
def test_the_pages_rule_is_the_packages(values, p):
    w = torch.tensor(values)
    (mine,) = from_page("smallest_go")([w], p)
    if mine.any():
        assert torch.equal(mine, pruning.magnitude_mask({"w": w}, p)["w"])


@pytest.mark.parametrize(
    ("answer", "words"),
    [(10, "needs an index"), (0.15, "the share that is left"), (1 / 1.35, "you kept them"), (20, "on top of"), (8, "not it")],
)
def test_times_smaller(answer, words):
    assert check.times_smaller(32 / 4.8).passed and check.times_smaller(6.67).passed
    assert check.times_smaller(...).passed is None
    feedback = check.times_smaller(answer)
    assert feedback.passed is False and words in feedback.message


def rounds(k=pruning.count, size=torch.abs, of=lambda w, mask: int(mask.sum()), hide=math.inf):
    """prune_more, with one part exchanged for a mistake."""

    def prune_more(w, mask, p):
        new, order = mask.clone().flatten(), size(w).masked_fill(~mask, hide).flatten().argsort(stable=True)
        new[order[: k(p, of(w, mask))]] = False
        return new.view_as(w)

    return prune_more


def by_cut_off(shift):
    def prune_more(w, mask, p):
        size = w.abs()[mask].sort().values
        return mask & (w.abs() > size[pruning.count(p, len(size)) + shift])

    return prune_more


def in_place(w, mask, p):
    new = rounds()(w, mask, p)
    mask &= new
    return new


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (by_cut_off(0), "a cut-off takes along"),
        (by_cut_off(-1), "a cut-off takes along"),
        (rounds(k=lambda p, n: math.ceil(p * n)), "`pruning.count` forgives that"),
        (rounds(k=lambda p, n: int(p * n)), "rounds up"),
        (rounds(k=lambda p, n: round(p * n)), "rounds up"),
        (rounds(of=lambda w, mask: w.numel()), "still there, and take p of their number"),
        (rounds(hide=0.0), "sort only the weights that are still there"),
        (rounds(size=lambda w: w.clone()), "take magnitudes"),
        (rounds(size=lambda w: -w.abs(), hide=math.inf), "smallest first"),
        (lambda w, mask, p: rounds()(w, torch.ones_like(mask), p), "came back"),
        (in_place, "changed its input"),
        (lambda w, mask, p: w * rounds()(w, mask, p), "a mask is Boolean"),
        (lambda w, mask, p: rounds()(w, mask, p).flatten(), "has shape (30,)"),
        (lambda w, mask, p: [1], "not list"),
    ],
)
def test_prune_more(answer, words):
    assert check.prune_more(rounds()).passed
    assert check.prune_more(lambda w, mask, p: pruning.magnitude_mask({"w": w}, p, {"w": mask})["w"]).passed
    feedback = check.prune_more(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


def test_the_pages_stub_and_solution_of_prune_more():
    assert check.prune_more(from_page("prune_more", "stub")).passed is None
    assert check.prune_more(from_page("prune_more", "solution")).passed


LEAD, GONE = estimate([0.02, 0.03, 0.025]), estimate([-0.02, 0.01, 0.0])


def test_one_in_fifty_tells_what_happened():
    assert "'gone', as you predicted" in check.one_in_fifty(("gone", LEAD, GONE)).message
    assert "you predicted 'larger'" in check.one_in_fifty(("larger", LEAD, GONE)).message
    assert "'larger', as you" in check.one_in_fifty(("larger", LEAD, estimate([0.1, 0.11, 0.12]))).message
    assert check.one_in_fifty((..., LEAD, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("more", LEAD, GONE), "'more' came"),
        (("gone", LEAD, LEAD), "the same"),
        (("gone", estimate([-0.02, -0.03, -0.025]), GONE), "subtract re-initialized from fine-tuned"),
        (("gone", LEAD, estimate([2.0, 2.1, 2.2])), "accuracies are shares"),
        (("gone", 0.02, 0.01), "what `difference` returns"),
    ],
)
def test_one_in_fifty_refuses(answer, words):
    feedback = check.one_in_fifty(answer)
    assert feedback.passed is False and words in feedback.message


# --- many networks at once -------------------------------------------------------------------------------------------

DOUBLE = partial(torch.optim.Adam, lr=3e-3)


@pytest.fixture(scope="module")
def exact():
    """200 digits in float64, where the order of a sum does not show."""
    return data.digits(n=200).map(lambda split: Split(split.x.double(), split.y))


@pytest.fixture
def three():
    """Starts and masks, dense, half and sparse, of three networks, and what gives their batches."""
    starts, masks = [], []
    for seed, p in enumerate((None, 0.5, 0.8)):
        torch.manual_seed(seed)
        state = models.mlp(64, (30, 20)).double().state_dict()
        weights = {name: w for name, w in state.items() if w.ndim > 1}
        whole = {name: torch.ones_like(w).bool() for name, w in weights.items()}
        starts.append(state)
        masks.append(pruning.magnitude_mask(weights, p) if p else whole)
    return starts, masks, lambda: [batches(200, 60, seed, torch.device("cpu")) for seed in (7, 8, 7)]


@pytest.mark.parametrize("optimizer", [DOUBLE, partial(torch.optim.SGD, lr=0.1, momentum=0.9)])
def test_three_networks_side_by_side_are_three_trained_one_after_another(three, exact, optimizer):
    starts, masks, orders = three
    given = [{name: w.clone() for name, w in start.items()} for start in starts]
    steps = 25  # over six epochs, each with a short last batch
    weights, rows = pruning.fit_many(starts, masks, exact, orders(), steps=steps, optimizer=optimizer, evaluate_every=10)
    for start, before, mask, seed, final, measured in zip(starts, given, masks, (7, 8, 7), weights, rows, strict=True):
        assert equal(start, before)
        net, alone = models.mlp(64, (30, 20)).double(), []
        net.load_state_dict(start)

        def note(step, net, mask=mask, alone=alone):
            pruning.enforce(mask)(step, net)
            if step in (10, 20):
                both = {"valid": evaluate(net, *exact.valid), "test": evaluate(net, *exact.test)}
                alone.append({"step": step} | {f"{a}_{b}": v for a, found in both.items() for b, v in found.items()})

        fit(
            pruning.apply(net, mask),
            exact,
            steps=steps,
            batch_size=60,
            optimizer=optimizer,
            seed=seed,
            evaluate_every=0,
            on_step=note,
        )
        torch.testing.assert_close(final, dict(net.state_dict()), rtol=1e-9, atol=1e-9)
        assert all(not final[name][~keep].any() for name, keep in mask.items())
        assert [row["step"] for row in measured] == [10, 20] and [row.keys() for row in measured] == [row.keys() for row in alone]
        for mine, theirs in zip(measured, alone, strict=True):
            assert list(mine.values()) == pytest.approx(list(theirs.values()), rel=1e-6)


def test_a_network_does_not_notice_its_neighbours(three, exact):
    starts, masks, orders = three
    settings = {"steps": 10, "optimizer": DOUBLE, "evaluate_every": 5}
    (both, _), (alone, _) = (pruning.fit_many(starts[i:], masks[i:], exact, orders()[i:], **settings) for i in (0, 2))
    torch.testing.assert_close(both[2], alone[0], rtol=1e-9, atol=1e-9)


def test_networks_that_do_not_fit_each_other_are_refused(three, exact):
    starts, masks, orders = three
    settings = {"steps": 2, "optimizer": DOUBLE, "evaluate_every": 1}
    with pytest.raises(ValueError, match="3 starts, 2 masks and 3 orders"):
        pruning.fit_many(starts, masks[:2], exact, orders(), **settings)
    with pytest.raises(ValueError, match="0 starts"):
        pruning.fit_many([], [], exact, [], **settings)
    other = models.mlp(64, (31, 20)).state_dict()
    with pytest.raises(ValueError, match=r"1.weight is \(31, 64\) in the start 1 and \(30, 64\) in the first start"):
        pruning.fit_many([starts[0], other, starts[2]], masks, exact, orders(), **settings)
    short = {"1.weight": masks[1]["1.weight"]}
    with pytest.raises(ValueError, match="mask 1 does not fit the first mask: 3.weight is absent"):
        pruning.fit_many(starts, [masks[0], short, masks[2]], exact, orders(), **settings)
    with pytest.raises(ValueError, match="mask 0 does not fit the starts: 9.weight is"):
        pruning.fit_many(starts, [{"9.weight": masks[0]["1.weight"]}] * 3, exact, orders(), **settings)
    for every in (0, 3):
        with pytest.raises(ValueError, match=f"evaluate_every={every}; it must lie between 1 and steps=2"):
            pruning.fit_many(starts, masks, exact, orders(), **settings | {"evaluate_every": every})


def test_a_network_that_diverges_is_named(three, exact):
    starts, masks, orders = three
    starts[1] = {name: w * torch.nan for name, w in starts[1].items()}
    with pytest.raises(FloatingPointError, match=r"not finite at step 2, of networks \[1\]"):
        pruning.fit_many(starts, masks, exact, orders(), steps=4, optimizer=DOUBLE, evaluate_every=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_networks_side_by_side_on_a_gpu_are_those_of_the_cpu(three, exact):
    starts, masks, orders = three
    there = exact.map(lambda split: Split(split.x.cuda(), split.y.cuda()))
    gpu_orders = [batches(200, 60, seed, torch.device("cuda")) for seed in (7, 8, 7)]
    settings = {"steps": 20, "optimizer": DOUBLE, "evaluate_every": 10}
    here, _ = pruning.fit_many(starts, masks, exact, orders(), **settings)
    away, _ = pruning.fit_many(starts, masks, there, gpu_orders, **settings)
    for a, b in zip(here, away, strict=True):
        torch.testing.assert_close(a, {name: w.cpu() for name, w in b.items()}, rtol=1e-6, atol=1e-6)


# --- exercises of lottery-ticket -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (13, "5.6 %"),
        (math.log(0.05) / math.log(0.8), "round up"),
        (5, "of what is left"),
        (4, "of what is left"),
        (2, "80 % stay"),
        (29, "the output layer"),
        (10, "more than 5 %"),
        (15, "one round before"),
        ("many", "a finite number"),
    ],
)
def test_rounds_below_five(answer, words):
    assert check.rounds_below_five(14).passed and check.rounds_below_five(torch.tensor(14)).passed
    left = [(265_200 * 0.8**r + 1_000 * 0.9**r) / 266_200 for r in (13, 14)]
    assert left[0] > 0.05 > left[1] and f"{left[0]:.1%}" == "5.6%" and f"{left[1]:.1%}" == "4.5%"
    feedback = check.rounds_below_five(answer)
    assert feedback.passed is False and words in feedback.message


def permuted(w, mask, generator):
    kept, new = w[mask], torch.zeros_like(w)
    new[mask] = kept[torch.randperm(len(kept), generator=generator)]
    return new


def everywhere(w, mask, g):
    return w.flatten()[torch.randperm(w.numel(), generator=g)].view_as(w) * mask


def with_replacement(w, mask, g):
    kept, new = w[mask], torch.zeros_like(w)
    new[mask] = kept[torch.randint(len(kept), (len(kept),), generator=g)]
    return new


def in_place(w, mask, g):
    w[mask] = w[mask][torch.randperm(int(mask.sum()), generator=g)]
    return w * mask


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (everywhere, "values from pruned places"),
        (with_replacement, "came twice"),
        (in_place, "changed its input"),
        (lambda w, m, g: w * m, "nothing moved"),
        (lambda w, m, g: permuted(w, m, None), "two calls with the same generator"),
        (lambda w, m, g: permuted(w, m, torch.Generator().manual_seed(5)), "does not depend on the generator"),
        (lambda w, m, g: permuted(w, m, g) + w * ~m, "must be zero"),
        (lambda w, m, g: permuted(w, m, g)[torch.randperm(len(w), generator=g)], "left the mask"),
        (lambda w, m, g: permuted(w, m, g).abs(), "changed sign"),
        (lambda w, m, g: torch.randn(w.shape, generator=g) * m, "yours are others"),
        (lambda w, m, g: permuted(w, m, g)[m], "return a tensor of shape"),
    ],
)
def test_shuffled(answer, words):
    assert check.shuffled(permuted).passed
    assert check.shuffled(lambda w, mask, generator: ...).passed is None
    feedback = check.shuffled(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


NEW, OWN = estimate([0.06, 0.07, 0.07]), estimate([0.03, 0.04, 0.04])


def test_right_sizes_tells_what_happened():
    assert "'smaller', as you predicted" in check.right_sizes(("smaller", NEW, OWN)).message
    assert "you predicted 'gone'" in check.right_sizes(("gone", NEW, OWN)).message
    assert "'gone', as you predicted" in check.right_sizes(("gone", NEW, estimate([-0.01, 0.01, 0.01]))).message
    assert "'larger', as you predicted" in check.right_sizes(("larger", NEW, estimate([0.08, 0.09, 0.09]))).message
    assert check.right_sizes((..., NEW, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("less", NEW, OWN), "'less' came"),
        (("smaller", NEW, NEW), "the same"),
        (("smaller", estimate([-0.06, -0.07, -0.07]), OWN), "subtract the ticket's loss"),
        (("smaller", 0.06, OWN), "mean and interval"),
    ],
)
def test_right_sizes_refuses(answer, words):
    feedback = check.right_sizes(answer)
    assert feedback.passed is False and words in feedback.message


def test_the_pages_solution_and_its_levels():
    page = ROOT / "chapters/pruning/lottery-ticket.ipynb"
    own = {"torch": torch, "pruning": pruning, "check": check, "steps": 0, "ROUNDS": ()}
    for cell in pages.code_cells(pages.read(page)):
        for start, end in (
            ("def shuffled(w, mask, generator):\n", "\0"),
            ("def prune(", "\n\n\ndef"),
            ("def density_after(", "\0"),
        ):
            if start in cell:
                exec(start + cell.partition(start)[2].partition(end)[0], own)
    assert check.shuffled(own["shuffled"]).passed
    assert [own["density_after"](r) for r in (0, 3, 7, 12, 15, 18)] == [
        100.0,
        51.3,
        21.1,
        7.0,
        3.6,
        1.9,
    ]  # in the paper's figures

    weights = {name: w for name, w in models.mlp(784).state_dict().items() if w.ndim > 1}
    whole = {name: torch.ones_like(w).bool() for name, w in weights.items()}
    mask = whole
    for rounds in range(1, 22):
        mask = own["prune"](weights, mask)
        for made in (mask, own["prune"](weights, whole, rounds)):
            assert 100 * pruning.density(made) == pytest.approx(own["density_after"](rounds), abs=0.06)


# --- exercises of convolutional-tickets ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (32 * 32 * 128 * 256, "there are two"),
        (16 * 16 * 128 * 256, "two poolings"),
        (16 * 16 * 64 * 256, "that is Conv-2"),
        (16 * 8 * 128 * 256, "each halves both sides"),
        (8 * 8 * 64 * 256, "128 channels"),
        (8192, "the number of inputs"),
        (2_097_408, "biases"),
        (123, "123 is not it"),
        ("many", "a finite number"),
    ],
)
def test_first_layer_of_conv4(answer, words):
    assert check.first_layer_of_conv4(2_097_152).passed
    feedback = check.first_layer_of_conv4(answer)
    assert feedback.passed is False and words in feedback.message


def first_row(rows, loss, better=lambda a, b: a <= b, never=math.inf, choose=min, key="step"):
    return choose((row[key] for row in rows if better(row["valid_loss"], loss)), default=never)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (partial(first_row, better=lambda a, b: a < b), "'at most' includes"),
        (partial(first_row, never=0), "the answer is infinity"),
        (partial(first_row, choose=max), "the last such step"),
        (lambda rows, loss: first_row(rows, loss) / 20, "not its position"),
        (lambda rows, loss: next((r["step"] for r in rows if r["valid_loss"] <= loss), math.inf), "need not be in order"),
        (lambda rows, loss: min(rows, key=lambda r: r["valid_loss"])["step"], "the smallest loss"),
        (lambda rows, loss: min((r["step"] for r in rows if r["valid_loss"] > loss), default=math.inf), "is not at most"),
        (lambda rows, loss: "soon", "a finite number"),
        (lambda rows, loss: rows[99], "raised IndexError"),
    ],
)
def test_reaches(answer, words):
    assert check.reaches(first_row).passed
    assert check.reaches(lambda rows, loss: ...).passed is None
    feedback = check.reaches(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


ALL_NEW, FILTERS = estimate([0.10, 0.12, 0.11]), estimate([0.05, 0.06, 0.05])


def test_new_filters_tells_what_happened():
    assert "'smaller', as you predicted" in check.new_filters(("smaller", ALL_NEW, FILTERS)).message
    assert "you predicted 'gone'" in check.new_filters(("gone", ALL_NEW, FILTERS)).message
    assert "'gone', as you" in check.new_filters(("gone", ALL_NEW, estimate([-0.01, 0.01, 0.0]))).message
    assert "'larger', as you" in check.new_filters(("larger", ALL_NEW, estimate([0.2, 0.21, 0.2]))).message
    assert check.new_filters((..., ALL_NEW, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("less", ALL_NEW, FILTERS), "'less' came"),
        (("smaller", ALL_NEW, ALL_NEW), "the same"),
        (("smaller", estimate([-0.1, -0.12, -0.11]), FILTERS), "subtract from the ticket's accuracy"),
        (("smaller", ALL_NEW, estimate([5.0, 6.0, 5.5])), "accuracies are shares"),
        (("smaller", 0.11, FILTERS), "mean and interval"),
    ],
)
def test_new_filters_refuses(answer, words):
    feedback = check.new_filters(answer)
    assert feedback.passed is False and words in feedback.message


def test_the_pages_networks_have_the_papers_sizes_and_lose_the_papers_shares():
    own = {"torch": torch, "nn": nn, "pruning": pruning, "check": check}
    for cell in pages.code_cells(pages.read(ROOT / "chapters/pruning/convolutional-tickets.ipynb")):
        for name in ("conv_net", "full", "kind", "sizes", "left_after", "density_after", "prune", "reaches"):
            if (start := f"def {name}(") in cell and "return" in cell.partition(start)[2]:
                exec(start + cell.partition(start)[2].partition("\n\n\n")[0], own)
    assert check.reaches(own["reaches"]).passed
    for k, conv, fc in ((2, 38_592, 4_259_840), (4, 259_776, 2_162_688), (6, 1_144_512, 1_114_112)):
        net = own["conv_net"](k)
        assert own["sizes"](net) == {"conv": conv, "fc": fc, "output": 2560}
    for net, x in (
        (own["conv_net"](4), torch.rand(2, 3, 32, 32)),
        (own["conv_net"](2, 40, 1, 8, planar=False), torch.rand(2, 1, 40)),
    ):
        assert net(x).shape == (2, 10)

    weights = {name: w.detach() for name, w in pruning.prunable(own["conv_net"](2, 40, 1, 8, planar=False)).items()}
    size = own["sizes"](own["conv_net"](2, 40, 1, 8, planar=False))
    for rounds in (1, 3, 7):
        mask = own["prune"](2, weights, own["full"](weights), rounds)
        assert 100 * pruning.density(mask) == pytest.approx(own["density_after"](rounds, 2, size), abs=0.06)
        assert mask["0.weight"].sum() == 24 - math.ceil(24 * (1 - 0.9**rounds))
        assert mask["6.weight"].sum() == 40_960 - pruning.count(1 - 0.8**rounds, 40_960)
