import ast
import math
from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from torch import nn

from regbook import data, federated, models
from regbook.checks import federated as check
from regbook.claims import estimate
from regbook.data import Split
from regbook.press import pages

COMMUNICATION = ROOT / "chapters" / "federated" / "communication.ipynb"


def examples(n=60, features=6, classes=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return Split(torch.randn(n, features, generator=generator, dtype=dtype), torch.randint(classes, (n,), generator=generator))


def some_clients(sizes=(7, 20, 3, 33), dtype=torch.float32):
    return [examples(n, seed=k, dtype=dtype) for k, n in enumerate(sizes)]


def network(dtype=torch.float32, kind="mlp"):
    torch.manual_seed(3)
    return (nn.Linear(6, 3) if kind == "linear" else models.mlp(6, (8, 5), 3)).to(dtype)


def copy_of(state):
    return {name: value.clone() for name, value in state.items()}


# --- partitions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partition", [federated.iid, federated.by_shards])
def test_every_example_goes_to_exactly_one_client(partition):
    split = Split(torch.arange(103)[:, None].float(), torch.arange(103) % 5)
    clients = partition(split, 10, seed=4)
    assert len(clients) == 10
    assert torch.cat([c.x for c in clients]).flatten().sort().values.tolist() == list(range(103))
    assert all(torch.equal(c.y, c.x.flatten().long() % 5) for c in clients)
    other = partition(split, 10, seed=5)
    assert any(not torch.equal(a.x[:5], b.x[:5]) for a, b in zip(clients, other, strict=True))


def test_two_shards_of_sorted_labels_hold_few_classes_and_iid_clients_hold_all():
    split = Split(torch.zeros(1000, 1), torch.arange(1000) % 10)
    assert all(len(c.y.unique()) <= 2 and len(c.y) == 50 for c in federated.by_shards(split, 20))  # 40 shards of 25: 4 a class
    assert all(len(c.y.unique()) >= 7 for c in federated.iid(split, 20))


@pytest.mark.parametrize("clients", [0, -1, 11, 2.5])
def test_an_empty_client_is_refused_before_it_exists(clients):
    with pytest.raises(ValueError, match="clients"):
        federated.iid(examples(10), clients)


def test_shards_must_be_whole_and_positive():
    with pytest.raises(ValueError, match="shards=0"):
        federated.by_shards(examples(10), 2, shards=0)


# --- local training ------------------------------------------------------------------------------------------------


def by_hand(model, client, lr, mu, order):
    """SGD on the mean cross-entropy plus μ/2‖w − w_t‖², written out with autograd on the whole objective."""
    start = [p.detach().clone() for p in model.parameters()]
    worker = network(start[0].dtype, "linear" if isinstance(model, nn.Linear) else "mlp")
    worker.load_state_dict(model.state_dict())
    for batch in order:
        i = batch[batch >= 0]
        near = sum(((p - s) ** 2).sum() for p, s in zip(worker.parameters(), start, strict=True))
        (F.cross_entropy(worker(client.x[i]), client.y[i]) + mu / 2 * near).backward()
        with torch.no_grad():
            for p in worker.parameters():
                p.sub_(lr * p.grad)
                p.grad = None
    return [p.detach() - s for p, s in zip(worker.parameters(), start, strict=True)]


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("batch_size", [None, 1, 4, 10])
@pytest.mark.parametrize("mu", [0.0, 0.7])
@pytest.mark.parametrize("together", [True, False])
def test_updates_are_those_of_sgd_on_the_proximal_objective(kind, batch_size, mu, together):
    model, clients, epochs, seeds = network(torch.double, kind), some_clients(dtype=torch.double), [1, 3, 2, 1], [5, 6, 7, 8]
    before = copy_of(model.state_dict())
    got = federated.client_updates(
        model, clients, lr=0.2, epochs=epochs, batch_size=batch_size, mu=mu, seeds=seeds, together=together
    )
    for k, client in enumerate(clients):
        order = federated._order(len(client.y), batch_size or len(client.y), epochs[k], seeds[k])
        for update, expected in zip(got.values(), by_hand(model, client, 0.2, mu, order), strict=True):
            torch.testing.assert_close(update[k], expected, rtol=1e-9, atol=1e-12)
    assert list(got) == [name for name, _ in model.named_parameters()]
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_the_proximal_term_changes_the_update_and_pulls_it_back():
    model, clients = network(), some_clients()
    free, held = (federated.client_updates(model, clients, lr=0.2, epochs=10, batch_size=5, mu=mu) for mu in (0.0, 1.0))
    for k in range(len(clients)):
        free_length, held_length = (torch.cat([u[k].flatten() for u in sent.values()]).norm() for sent in (free, held))
        assert held_length < 0.95 * free_length


@pytest.mark.parametrize("n, batch_size, epochs", [(7, 3, 2), (6, 3, 1), (5, 50, 4), (4, 1, 2)])
def test_each_epoch_is_a_permutation_and_short_batches_are_filled_with_minus_one(n, batch_size, epochs):
    order = federated._order(n, batch_size, epochs, seed=1)
    assert order.shape == (epochs * math.ceil(n / batch_size), batch_size)
    for epoch in order.view(epochs, -1):
        assert sorted(epoch[epoch >= 0].tolist()) == list(range(n))
    assert (order >= 0).sum(1).min() >= 1


def test_networks_with_buffers_and_convolutions_are_trained_one_after_another():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    clients = federated.iid(data.digits(n=40).train, 3)
    updates = federated.client_updates(net, clients, lr=0.1, epochs=2, batch_size=5)
    assert updates["1.running_mean"].abs().max() > 0 and "1.num_batches_tracked" not in updates
    assert updates["0.weight"].shape == (3, *net[0].weight.shape)
    with pytest.raises(ValueError, match="together=True"):
        federated.client_updates(net, clients, lr=0.1, together=True)


def test_frozen_parameters_stay():
    net = network()
    net[1].weight.requires_grad_(False)
    updates = federated.client_updates(net, some_clients(), lr=0.1, mu=0.5)
    assert updates["1.weight"].abs().max() == 0 and updates["3.weight"].abs().max() > 0


# --- aggregation ---------------------------------------------------------------------------------------------------


def random_updates(m=9, seed=0):
    torch.manual_seed(seed)
    return {"w": torch.randn(m, 50, 7) * 10.0 ** torch.randint(-6, 3, (m, 50, 7)), "b": torch.randn(m, 7)}


def test_the_mean_is_weighted_by_sizes():
    updates, sizes = random_updates(), [3, 1, 4, 1, 5, 9, 2, 6, 5]
    n = torch.tensor(sizes, dtype=torch.double)
    for name, mean in federated.aggregate(updates, sizes).items():
        torch.testing.assert_close(mean.double(), torch.tensordot(n, updates[name].double(), 1) / n.sum())


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_clients_changes_no_bit(seed):
    updates, sizes = random_updates(seed=seed), [3, 1, 4, 1, 5, 9, 2, 6, 5]
    expected = federated.aggregate(updates, sizes)
    for trial in range(10):
        order = torch.randperm(9, generator=torch.Generator().manual_seed(trial)).tolist()
        got = federated.aggregate({name: u[order] for name, u in updates.items()}, [sizes[k] for k in order])
        assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_client_that_sends_no_finite_numbers_is_named_and_left_out(bad):
    updates, sizes = random_updates(4), [1, 2, 3, 4]
    updates["w"][2, 1, 1] = bad
    with pytest.warns(UserWarning, match=r"client \['c'\].*refused"):
        got = federated.aggregate(updates, sizes, names="abcd")
    rest = {name: u[[0, 1, 3]] for name, u in updates.items()}
    assert all(torch.equal(got[name], mean) for name, mean in federated.aggregate(rest, [1, 2, 4]).items())


def test_a_round_without_any_finite_update_fails_and_leaves_the_model():
    model = network()
    before = copy_of(model.state_dict())
    poisoned = [Split(c.x * math.nan, c.y) for c in some_clients()]
    with pytest.raises(FloatingPointError, match="all clients"):
        federated.server_round(model, poisoned, fraction=1.0, lr=0.1)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("sizes", [[1, 2], [1, 0, 2], [1, -1, 2]])
def test_sizes_must_be_positive_one_a_client(sizes):
    with pytest.raises(ValueError, match="sizes="):
        federated.aggregate(random_updates(3), sizes)


# --- rounds --------------------------------------------------------------------------------------------------------


def test_one_epoch_of_one_batch_with_every_client_is_large_batch_sgd():
    split = examples(90, dtype=torch.double)
    model, reference = network(torch.double), network(torch.double)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.3)
    clients = federated.by_shards(split, 7)
    for _ in range(20):
        federated.server_round(model, clients, fraction=1.0, lr=0.3)
        optimizer.zero_grad()
        F.cross_entropy(reference(split.x), split.y).backward()
        optimizer.step()
        for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("fraction, many", [(0.05, 1), (0.25, 5), (1.0, 20), (1e-9, 1)])
def test_clients_are_sampled_without_replacement(fraction, many):
    drawn = federated.sample(20, fraction, torch.Generator().manual_seed(0))
    assert len(drawn) == len(set(drawn)) == many and set(drawn) <= set(range(20))


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, math.nan])
def test_a_share_outside_zero_and_one_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction="):
        federated.sample(20, fraction)


def test_dropping_stragglers_leaves_the_others_as_they_were():
    clients, sent = some_clients((9, 8, 7, 6, 5, 9, 8, 7, 6, 5)), {}

    def remember(name):
        def change(updates, chosen):
            sent[name] = {k: {n: u[i].clone() for n, u in updates.items()} for i, k in enumerate(chosen)}
            return updates

        return change

    for name, settings in {"all": {}, "kept": {"stragglers": 0.5}, "dropped": {"stragglers": 0.5, "drop": True}}.items():
        generator = torch.Generator().manual_seed(2)
        federated.server_round(network(), clients, fraction=0.8, lr=0.1, epochs=30, batch_size=3, generator=generator,
                               change=remember(name), **settings)  # fmt: skip
    assert list(sent["all"]) == list(sent["kept"]) and len(sent["all"]) == 8 and len(sent["dropped"]) == 4
    assert list(sent["all"])[4:] == list(sent["dropped"])
    for k in sent["dropped"]:  # same work, same batches; rounding may differ, since the batched computation is another
        for name in sent["all"][k]:
            torch.testing.assert_close(sent["dropped"][k][name], sent["all"][k][name])
            torch.testing.assert_close(sent["kept"][k][name], sent["all"][k][name])
    late = [k for k in sent["all"] if k not in sent["dropped"]]
    assert any(not torch.allclose(sent["kept"][k]["5.weight"], sent["all"][k]["5.weight"]) for k in late)


@pytest.mark.parametrize("stragglers", [-0.1, 1.0])
def test_somebody_must_finish(stragglers):
    with pytest.raises(ValueError, match="stragglers="):
        federated.server_round(network(), some_clients(), fraction=1.0, lr=0.1, stragglers=stragglers)


def test_change_decides_what_arrives():
    model = network()
    before = copy_of(model.state_dict())
    federated.server_round(model, some_clients(), fraction=1.0, lr=0.1,
                           change=lambda updates, chosen: {n: torch.full_like(u, 0.5) for n, u in updates.items()})  # fmt: skip
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name] + 0.5)


def test_federate_learns_and_the_seed_alone_decides():
    digits = data.digits(n=400)
    clients = federated.by_shards(digits.train, 20)

    def rows(seed, **settings):
        torch.manual_seed(0)
        net = models.mlp(64, (32,))
        return federated.federate(net, clients, digits, rounds=12, evaluate_every=5, seed=seed, fraction=0.3, lr=0.2, epochs=5,
                                  batch_size=5, **settings)  # fmt: skip

    first = rows(1)
    assert [row["step"] for row in first] == [0, 5, 10, 12] and set(first[0]) == {"step", "valid_loss", "valid_accuracy"}
    assert first[0]["valid_accuracy"] < 0.3 and first[-1]["valid_accuracy"] > 0.6
    assert rows(1) == first != rows(2)
    assert rows(1, mu=0.5) != first
    stopped = rows(1, on_round=lambda row, net: row["step"] == 5)
    assert stopped == first[:2]


@pytest.mark.parametrize("settings", [{"rounds": 0}, {"rounds": 1.5}, {"rounds": 2, "evaluate_every": 0}])
def test_rounds_are_counted_in_whole_numbers(settings):
    with pytest.raises(ValueError, match="rounds="):
        federated.federate(network(), some_clients(), data.digits(n=20), fraction=1.0, lr=0.1, **settings)


# --- bad clients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda c: Split(c.x[:0], c.y[:0]), "client 1 holds 0 inputs"),
        (lambda c: Split(c.x[:-1], c.y), "client 1 holds 19 inputs and 20 labels"),
        (lambda c: Split(c.x[:, :4], c.y), r"client 1 holds inputs of shape \(4,\)"),
        (lambda c: Split(c.x, c.y.float()), "client 1 holds labels of torch.float32"),
        (lambda c: Split(c.x, F.one_hot(c.y)), "client 1 holds labels of torch.int64, shape"),
        (lambda c: Split(c.x, c.y + 1), "labels from 0 to 3; the model tells 3"),
        (lambda c: Split(c.x, c.y - 1), "labels from -1 to 2"),
    ],
)
def test_a_client_that_does_not_fit_is_named(spoil, message):
    clients = some_clients()
    clients[1] = spoil(clients[1])
    with pytest.raises(ValueError, match=message):
        federated.client_updates(network(), clients, lr=0.1)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"lr": 0.0}, "lr=0.0"),
        ({"mu": -0.1}, "mu=-0.1"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": [1, 2]}, "2 epochs"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"seeds": [1]}, "1 seeds"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        federated.client_updates(network(), some_clients(), **({"lr": 0.1} | settings))


def test_no_clients_no_round():
    for work in (lambda: federated.client_updates(network(), [], lr=0.1),
                 lambda: federated.server_round(network(), [], fraction=1.0, lr=0.1)):  # fmt: skip
        with pytest.raises(ValueError, match="clients="):
            work()


# --- reading a curve -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "curve, target, expected",
    [
        ([0.1, 0.5, 0.9], 0.7, 1.5),
        ([0.1, 0.5, 0.4, 0.3, 0.9], 0.7, 3.5),  # from the running maximum, 0.5, not from 0.3
        ([0.1, 0.5, 0.9], 0.9, 2.0),
        ([0.8, 0.5], 0.7, 0.0),
        ([0.1, 0.5], 0.7, math.inf),
    ],
)
def test_rounds_to_target_interpolates_the_running_maximum(curve, target, expected):
    assert federated.rounds_to_target(range(len(curve)), curve, target) == pytest.approx(expected)


# --- heterogeneity -------------------------------------------------------------------------------------------------


def moments(beta, **settings):
    """Of many devices: the variance of B_k and the mean squares of what lies around it, by feature."""
    train, _ = federated.synthetic(0, beta, 400, seed=5, largest=200, **settings)
    within = torch.stack([c.x.var(0) for c in train]).mean(0)
    v = torch.stack([c.x.mean(0) for c in train])
    return v, within


def test_synthetic_has_the_papers_moments_with_variances():
    v, within = moments(beta=4.0)
    torch.testing.assert_close(within, torch.arange(1.0, 61.0) ** -1.2, rtol=0.05, atol=0)
    noise = within[None] / torch.tensor(80.0)  # at most: of a device's mean
    assert v.var(1).mean() == pytest.approx(1 + noise.mean().item(), rel=0.05)  # around B_k
    assert v.mean(1).var().item() == pytest.approx(4.0, rel=0.25)  # β is a variance: a deviation of 4 would give 16
    v, within = moments(beta=4.0, iid=True)
    assert v.abs().max() < 0.7
    torch.testing.assert_close(within, torch.arange(1.0, 61.0) ** -1.2, rtol=0.05, atol=0)


def test_synthetic_splits_each_device_80_to_20_and_follows_the_seed():
    train, test = federated.synthetic(1, 1, seed=3, largest=300)
    totals = [round(len(c.y) / 0.8) for c in train]
    assert len(train) == 30 and min(totals) >= 50 and max(totals) == 300
    assert abs(len(test.y) - 0.25 * sum(len(c.y) for c in train)) <= 30 and test.x.shape[1] == 60
    again, _ = federated.synthetic(1, 1, seed=3, largest=300)
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(train, again, strict=True))
    other, _ = federated.synthetic(1, 1, seed=4, largest=300)
    assert [len(c.y) for c in train] != [len(c.y) for c in other]
    assert max(len(c.y) for c in federated.synthetic(1, 1, seed=3)[0]) > 240
    assert {len(c.y) for c in federated.synthetic(1, 1, largest=50)[0]} == {40}


def test_levels_share_what_is_drawn_and_alpha_reaches_no_label():
    one, other = (federated.synthetic(alpha, 1, seed=2, largest=200)[0] for alpha in (0, 9))
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(one, other, strict=True))
    wide, _ = federated.synthetic(0, 4, seed=2, largest=200)
    for a, b in zip(one, wide, strict=True):  # B_k is doubled: all features of a device move by the same amount
        shift = b.x - a.x
        torch.testing.assert_close(shift, shift[:1, :1].expand_as(shift), rtol=0, atol=1e-5)


def linear_fit(**settings):
    """How many of all devices' labels one linear classifier gets right, at its best."""
    train, _ = federated.synthetic(0, 0, seed=1, largest=100, **settings)
    x, y = map(torch.cat, zip(*train, strict=True))
    net = nn.Linear(60, 10)
    lbfgs = torch.optim.LBFGS(net.parameters(), lr=1, max_iter=150, line_search_fn="strong_wolfe")

    def loss():
        lbfgs.zero_grad()
        value = F.cross_entropy(net(x), y)
        value.backward()
        return value

    lbfgs.step(loss)
    return (net(x).argmax(1) == y).float().mean()


def test_iid_devices_share_one_labelling_and_others_do_not():
    assert linear_fit(iid=True) > 0.99 and linear_fit() < 0.95


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"alpha": -1, "beta": 0}, "alpha=-1"),
        ({"alpha": 0, "beta": math.inf}, "beta=inf"),
        ({"alpha": 0, "beta": math.nan}, "beta=nan"),
        ({"alpha": 0, "beta": 0, "devices": 0}, "devices=0"),
        ({"alpha": 0, "beta": 0, "devices": 1.5}, "devices=1.5"),
        ({"alpha": 0, "beta": 0, "largest": 49}, "largest=49"),
    ],
)
def test_synthetic_names_what_is_wrong(arguments, named):
    with pytest.raises(ValueError, match=named):
        federated.synthetic(**arguments)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_dissimilarity_is_the_weighted_variance_of_the_gradients(kind):
    net, clients = network(torch.double, kind), some_clients(dtype=torch.double)
    gradients = []
    for x, y in clients:
        parts = torch.autograd.grad(F.cross_entropy(net(x), y), tuple(net.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    sizes = [len(c.y) for c in clients]
    mean = sum(n * g for n, g in zip(sizes, gradients, strict=True)) / sum(sizes)
    wanted = sum(n * (g - mean).square().sum() for n, g in zip(sizes, gradients, strict=True)) / sum(sizes)
    assert federated.dissimilarity(net, clients) == pytest.approx(wanted.item(), rel=1e-9)
    assert federated.dissimilarity(net, clients[:1] * 3) == pytest.approx(0, abs=1e-20)
    with pytest.raises(ValueError, match="clients"):
        federated.dissimilarity(net, [])


# --- exercises of heterogeneity ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (4, "own minimum"), (-1, "where the device starts"), (5, "divide by a + μ"), (1.6, "centred it on 0"),
        (13 / 7, "the half is gone"), (2, "exchanged"), (2.2, "sign"), (1.5, "weighted"), (7, "7 is not it"), ("x", "finite number"),
    ],
)  # fmt: skip
def test_proximal_minimum(answer, words):
    assert check.proximal_minimum(1.0).passed and check.proximal_minimum(...).passed is None
    feedback = check.proximal_minimum(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


def descent(term):
    def proximal_sgd(gradient, start, steps, lr, mu):
        w = start
        for _ in range(steps):
            w = w - lr * (gradient(w) + term(w, start, mu))
        return w

    return proximal_sgd


def in_place(gradient, start, steps, lr, mu):
    w = start
    for _ in range(steps):
        w -= lr * (gradient(w) + mu * (w - start))
    return w


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (descent(lambda w, s, mu: 0), "the term is missing"),
        (descent(lambda w, s, mu: mu * (w - w)), "previous step"),
        (descent(lambda w, s, mu: mu * (s - w)), "the sign"),
        (descent(lambda w, s, mu: mu / 2 * (w - s)), "the half is gone"),
        (descent(lambda w, s, mu: 2 * mu * (w - s)), "not twice"),
        (descent(lambda w, s, mu: mu * w), "weight decay"),
        (descent(lambda w, s, mu: mu * (w - s) + 1), "differ from gradient descent"),
        (in_place, "`start` changed"),
        (lambda gradient, start, steps, lr, mu: start.sum(), "return the weights"),
    ],
)
def test_proximal_sgd(answer, words):
    assert check.proximal_sgd(descent(lambda w, s, mu: mu * (w - s))).passed
    assert check.proximal_sgd(lambda gradient, start, steps, lr, mu: ...).passed is None
    feedback = check.proximal_sgd(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


FREE, HELD = estimate([1.8, 1.9, 2.1]), estimate([0.9, 0.9, 1.1])


def test_dropped_with_term_tells_what_happened():
    assert "'smaller', as you predicted" in check.dropped_with_term(("smaller", FREE, HELD)).message
    assert "you predicted 'gone'" in check.dropped_with_term(("gone", FREE, HELD)).message
    assert "'gone', as you predicted" in check.dropped_with_term(("gone", FREE, estimate([-0.1, 0.1, 0.1]))).message
    assert "'larger', as you predicted" in check.dropped_with_term(("larger", HELD, FREE)).message
    assert check.dropped_with_term((..., FREE, ...)).passed is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (("less", FREE, HELD), "'less' came"),
        (("smaller", FREE, FREE), "the same"),
        (("smaller", estimate([-1.8, -1.9]), HELD), "subtract keeping"),
        (("smaller", FREE, estimate([-0.9, -0.9, -1.0])), "subtract the loss"),
        (("smaller", 1.9, HELD), "mean and interval"),
    ],
)
def test_dropped_with_term_refuses(answer, words):
    feedback = check.dropped_with_term(answer)
    assert feedback.passed is False and words in feedback.message, feedback.message


def test_the_page_solves_its_own_exercise_and_its_fixed_point_is_one():
    own = {"torch": torch, "check": check, "widgets": None}
    for cell in pages.code_cells(pages.read(ROOT / "chapters/federated/heterogeneity.ipynb")):
        if "def path(" in cell or "def proximal_sgd(gradient, start, steps, lr, mu):\n" in cell:
            exec(cell, own)
    assert check.proximal_sgd(own["proximal_sgd"]).passed
    for mu in (0.0, 0.3, 2.0):
        torch.testing.assert_close(own["path"](mu, rounds=400)[-1], own["end"](mu))


# --- privacy -------------------------------------------------------------------------------------------------------


def lengths(updates):
    return torch.cat([u.flatten(1) for u in updates.values()], dim=1).norm(dim=1)


def unequal_updates():
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([5.0, 0.01, 0.0, 1.0])
    shapes = {"weight": (4, 3, 6), "bias": (4, 3), "scalar": (4,)}
    return {n: torch.randn(s, generator=generator) * size.view(4, *[1] * (len(s) - 1)) for n, s in shapes.items()}


def test_clipping_shortens_whole_updates_and_only_the_long_ones():
    updates = {"w": torch.tensor([[3.0, 0.0], [0.3, 0.0]]), "b": torch.tensor([[4.0], [0.4]])}
    clipped = federated.clip(updates, 1.0)
    torch.testing.assert_close(clipped["w"], torch.tensor([[0.6, 0.0], [0.3, 0.0]]))
    torch.testing.assert_close(clipped["b"], torch.tensor([[0.8], [0.4]]))
    mixed = unequal_updates()
    before = copy_of(mixed)
    after = federated.clip(mixed, 0.5)
    assert all(torch.equal(u, before[n]) for n, u in mixed.items())
    flat = {n: u.reshape(4, -1) for n, u in after.items()}
    torch.testing.assert_close(lengths(flat), lengths({n: u.reshape(4, -1) for n, u in mixed.items()}).clamp(max=0.5))
    assert all(torch.equal(after[n][1:3], mixed[n][1:3]) for n in mixed)  # the short one, and the one of length zero


def test_an_update_that_is_not_finite_stays_so_and_the_server_refuses_it():
    updates = {"w": torch.tensor([[1.0, 2.0], [math.inf, 0.0], [math.nan, 0.0]])}
    clipped = federated.clip(updates, 1.0)
    with pytest.warns(UserWarning, match=r"client \[1, 2\]"):
        mean = federated.aggregate(clipped, [1, 1, 1])
    torch.testing.assert_close(mean["w"], updates["w"][0] / 5**0.5)


@pytest.mark.parametrize("norm", [0, -1.0, math.nan])
def test_a_norm_that_is_not_positive_is_refused(norm):
    with pytest.raises(ValueError, match="norm="):
        federated.clip(unequal_updates(), norm)


def shared_seeds(clients):
    drawn = torch.randint(2**31, (clients, clients), generator=torch.Generator().manual_seed(1)).triu(1)
    return (drawn + drawn.T).tolist()


@pytest.mark.parametrize("clients", [1, 2, 3, 7])
def test_masks_cancel_to_the_last_bit(clients):
    masks = federated.pairwise_masks(shared_seeds(clients), 1000)
    assert masks.shape == (clients, 1000) and masks.dtype == torch.int32
    assert masks.sum(0, dtype=torch.int32).eq(0).all()
    plain = torch.randint(-(2**27), 2**27, masks.shape, generator=torch.Generator().manual_seed(2)).int()
    assert torch.equal((plain + masks).sum(0, dtype=torch.int32), plain.sum(0, dtype=torch.int32))


def test_each_mask_is_uniform_and_without_one_client_the_rest_do_not_cancel():
    masks, n = federated.pairwise_masks(shared_seeds(5), 100_000), 100_000
    values = masks.double() / 2**31
    assert values.mean(1).abs().max() < 5 / (3 * n) ** 0.5 and (values.std(1) - 3**-0.5).abs().max() < 0.005
    counts = torch.stack([v.histc(16, -1, 1) for v in values])
    assert (counts - n / 16).abs().max() < 6 * (n / 16) ** 0.5
    assert torch.equal(masks[1:].sum(0, dtype=torch.int32), -masks[0])  # so the lost client's seeds repair the sum


def test_seeds_that_two_clients_do_not_share_are_refused():
    with pytest.raises(ValueError, match="symmetric"):
        federated.pairwise_masks([[0, 1], [2, 0]], 3)


# Printed by dp-accounting 0.6.0 of Google: RdpAccountant(range(2, 65)), compose(PoissonSampledDpEvent(q, GaussianDpEvent(sigma)), T)
# (the Gaussian event alone where q = 1), then get_epsilon(delta), and its divergences of order 2, 8 and 32 after T rounds.
LIBRARY = [
    (5.0, 20, 1e-3, 1.0, 3.1014357903227996, (0.8, 3.2, 12.8)),
    (1.0, 100, 1e-5, 0.1, 7.972921510380539, (1.7036863236176605, 137.8361411348127, 1362.3137968522594)),
    (1.1, 10000, 1e-5, 0.01, 5.6543080001495145, (1.2851008160516542, 5.840703355202598, 84694.16433675926)),
    (4.0, 50, 1e-4, 0.5, 3.7759191767993445, (0.799750489807316, 3.5329427119192993, 22.23897409857054)),
]


@pytest.mark.parametrize("sigma, rounds, delta, q, epsilon, divergences", LIBRARY)
def test_the_account_equals_what_a_library_printed(sigma, rounds, delta, q, epsilon, divergences):
    ours = [rounds * federated.rdp_gaussian(sigma, alpha, q) for alpha in (2, 8, 32)]
    assert ours == pytest.approx(divergences, rel=1e-9)
    assert federated.epsilon(sigma, rounds, delta, q) == pytest.approx(epsilon, rel=1e-9)


@pytest.mark.parametrize("q", [1.0, 0.2, 0.01])
@pytest.mark.parametrize("sigma", [0.7, 3.0, 20.0])
def test_the_account_equals_the_library_where_it_is_installed(sigma, q):
    library = pytest.importorskip("dp_accounting")
    rdp = pytest.importorskip("dp_accounting.rdp")
    event = library.GaussianDpEvent(sigma)
    fractions = [1 + k / 20 for k in range(1, 20)] if q == 1 else []
    account = rdp.RdpAccountant([*fractions, *range(2, 257)])
    account.compose(event if q == 1 else library.PoissonSampledDpEvent(q, event), 30)
    assert federated.epsilon(sigma, 30, 1e-5, q) == pytest.approx(account.get_epsilon(1e-5), rel=1e-8)


@pytest.mark.parametrize("sigma, rounds", [(0.5, 1), (1.0, 1), (5.0, 20), (30.0, 20)])
def test_the_account_of_the_gaussian_lies_just_above_the_exact_one(sigma, rounds):
    def below(x):
        return 0.5 * math.erfc(-x / 2**0.5)

    epsilon, s = federated.epsilon(sigma, rounds, 1e-4), sigma / rounds**0.5
    for claimed, enough in ((epsilon, True), (0.85 * epsilon, False)):  # δ(ε) of the Gaussian, Balle & Wang 2018, theorem 8
        delta = below(0.5 / s - claimed * s) - math.exp(claimed) * below(-0.5 / s - claimed * s)
        assert (delta <= 1e-4) == enough


def test_the_divergence_of_order_two_has_its_closed_form_and_sampling_everybody_is_the_limit():
    for q, sigma in ((0.1, 1.0), (0.5, 0.6), (0.9, 4.0)):
        assert federated.rdp_gaussian(sigma, 2, q) == pytest.approx(math.log1p(q**2 * math.expm1(sigma**-2)), rel=1e-10)
    for alpha in (2, 5, 40):
        assert federated.rdp_gaussian(3.0, alpha, 1 - 1e-12) == pytest.approx(alpha / 18, rel=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: federated.rdp_gaussian(0.0, 2), "sigma=0.0"),
        (lambda: federated.rdp_gaussian(1.0, 1), "alpha=1"),
        (lambda: federated.rdp_gaussian(1.0, 2, 1.5), "q=1.5"),
        (lambda: federated.rdp_gaussian(1.0, 2, 0.0), "q=0.0"),
        (lambda: federated.rdp_gaussian(1.0, 2.5, 0.5), "alpha=2.5"),
        (lambda: federated.epsilon(1.0, 0, 1e-5), "rounds=0"),
        (lambda: federated.epsilon(1.0, 1, 0.0), "delta=0.0"),
    ],
)
def test_an_account_out_of_range_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def right_clip(updates, norm, lengths=lengths, most=1.0):
    factor = (norm / lengths(updates)).clamp(max=most)
    return {n: u * factor.view(-1, *[1] * (u.ndim - 1)) for n, u in updates.items()}


def clip_each_tensor(updates, norm):
    return {n: right_clip({n: u}, norm)[n] for n, u in updates.items()}


def clip_in_place(updates, norm):
    for n, u in right_clip(updates, norm).items():
        updates[n].copy_(u)
    return updates


def safe_lengths(updates):
    return lengths(updates).clamp(min=1e-12)


@pytest.mark.parametrize(
    "clip, passed, message",
    [
        (right_clip, True, "three norms"),
        (federated.clip, True, "three norms"),
        (lambda updates, norm: ..., None, "write your answer"),
        (clip_each_tensor, False, "each tensor for itself"),
        (lambda u, s: {n: v.clamp(-s, s) for n, v in u.items()}, False, "single values"),
        (lambda u, s: right_clip(u, s, safe_lengths, math.inf), False, "shorter than the norm grew"),
        (lambda u, s: right_clip(u, s, lengths, math.inf), False, "became NaN"),
        (lambda u, s: right_clip(u, s, lambda u: lengths(u) ** 2), False, "root of the sum"),
        (lambda u, s: right_clip(u, s, lambda u: lengths(u).norm().expand(4)), False, "one norm over all clients"),
        (clip_in_place, False, "changed its input"),
        (lambda u, s: list(right_clip(u, s).values()), False, "return a dictionary"),
        (lambda u, s: dict(u), False, "after clipping"),
        (lambda u, s: {n: 0 * v for n, v in u.items()}, False, "multiply by min"),
    ],
)
def test_the_checker_of_clipping_names_mistakes(clip, passed, message):
    feedback = check.clip_updates(clip)
    assert feedback.passed is passed and message in feedback.message


@pytest.mark.parametrize(
    "answer, passed, message",
    [
        (8 * 0.5 / 1000, True, "thousandth"),
        (..., None, "write your answer"),
        (4.0, False, "noise of the sum"),
        (4 / 1000**0.5, False, "share that each client adds"),
        (0.008, False, "multiply by S"),
        (0.004**2, False, "variance"),
        (0.02, False, "is not it"),
        ("four", False, "finite number"),
    ],
)
def test_the_checker_of_the_noise_of_an_average_names_mistakes(answer, passed, message):
    feedback = check.noise_of_average(answer)
    assert feedback.passed is passed and message in feedback.message


def test_the_checker_of_fewer_clients_compares_intervals():
    small, large, negative = estimate([0.03, 0.04]), estimate([0.50, 0.51]), estimate([-0.50, -0.51])
    overlapping = estimate([0.04, 0.06])
    assert "as you predicted" in check.fewer_clients(("larger", small, large)).message
    assert "'larger', you predicted 'smaller'" in check.fewer_clients(("smaller", small, large)).message
    assert "'the same', as you predicted" in check.fewer_clients(("the same", small, overlapping)).message
    assert "'smaller', as you predicted" in check.fewer_clients(("smaller", large, small)).message
    assert check.fewer_clients((..., small, ...)).passed is None
    for answer, message in (
        (("more", small, large), "predict one of"),
        (("larger", negative, large), "subtract the private"),
        (("larger", small, small), "the same: run"),
        (("larger", small, 0.5), "mean and interval"),
        (("larger", small, estimate([12.0, 13.0])), "shares"),
    ):
        feedback = check.fewer_clients(answer)
        assert feedback.passed is False and message in feedback.message


PRIVACY = ROOT / "chapters/federated/privacy.ipynb"


def privacy_page(*needed):
    """The page's own functions, without running its experiments."""
    namespace = {"torch": torch, "math": math, "federated": federated}
    for cell in pages.code_cells(pages.read(PRIVACY)):
        wanted = [node for node in ast.parse(cell).body if isinstance(node, ast.FunctionDef) and node.name in needed]
        exec(compile(ast.Module(wanted, []), str(PRIVACY), "exec"), namespace)
    assert set(needed) <= set(namespace)
    return namespace


def test_the_pages_attacks_read_what_they_should_and_nothing_else():
    page = privacy_page("reconstruct", "repeated_ratios")
    torch.manual_seed(0)
    net = models.mlp(20, (50, 50), 3).double()
    x, y = torch.rand(3, 20, dtype=torch.double), torch.tensor([0, 1, 2])
    alone = [Split(x[i : i + 1], y[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(page["reconstruct"](federated.client_updates(net, alone, lr=0.1, epochs=4)), x)
    x = torch.eye(3, dtype=torch.double)
    db = torch.tensor([1.0, -2.0, 3.0, 1.0, 1.0, 0.5], dtype=torch.double)
    ratios = torch.stack([x[0], x[1], x[0], (x[1] + x[2]) / 2, (x[0] + 2 * x[2]) / 3, x[1]])
    found = page["repeated_ratios"](db[:, None] * ratios, db)
    torch.testing.assert_close(found, x[:2])


def test_the_pages_noise_has_the_deviation_that_the_account_assumes():
    page = privacy_page("private")
    updates = {"w": torch.zeros(50, 4000), "b": torch.zeros(50, 10)}
    sent = page["private"](updates, None, sigma=3.0, norm=0.5, generator=torch.Generator().manual_seed(0))
    total = sent["w"].sum(0)
    assert total.std().item() == pytest.approx(1.5, rel=0.05) and total.mean().abs() < 5 * 1.5 / 4000**0.5


# --- compression ---------------------------------------------------------------------------------------------------


def some_updates(clients=3, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"weight": (4, 5), "bias": (7,)}
    return {name: torch.randn(clients, *shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}


def flatten(updates):
    return torch.cat([u.flatten(1) for u in updates.values()], dim=1)


@pytest.mark.parametrize(("share", "k"), [(0.01, 1), (0.2, 6), (1 / 3, 9), (0.999, 27), (1.0, 27)])
def test_top_k_keeps_the_largest_entries_of_each_client_over_all_tensors(share, k):
    updates = some_updates()
    before, kept = flatten(updates), flatten(federated.top_k(updates, share))
    for row, sent in zip(before, kept, strict=True):
        expected = torch.zeros_like(row)
        where = row.abs().topk(k).indices
        expected[where] = row[where]
        assert torch.equal(sent, expected)
    assert torch.equal(flatten(updates), before)


def test_top_k_keeps_exactly_k_among_equals():
    sent = federated.top_k({"a": torch.ones(2, 3, 3), "b": -torch.ones(2, 4)}, 0.4)
    assert flatten(sent).ne(0).sum(1).tolist() == [6, 6]  # ⌈0.4 · 13⌉
    assert sent["a"].shape == (2, 3, 3)
    assert federated.top_k({"a": torch.ones(1, 25)}, 0.28)["a"].sum() == 7  # 0.28 · 25 = 7.000000000000001


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_share_outside_zero_to_one_is_refused(share):
    with pytest.raises(ValueError, match="share="):
        federated.top_k(some_updates(), share)
    with pytest.raises(ValueError, match="share="):
        federated.update_bytes(nn.Linear(3, 2), share=share)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_quantization_goes_to_neighbouring_levels_and_is_unbiased(bits):
    row, repeats = torch.tensor([0.7, -0.31, 0.013, 0.0, -1.3]), 20_000
    levels = 2 ** (bits - 1) - 1
    drawn = federated.quantize({"u": row.repeat(repeats, 1)}, bits, torch.Generator().manual_seed(1))["u"]
    position = row / 1.3 * levels
    below, chance = position.floor(), position - position.floor()
    steps = drawn * levels / 1.3
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
    assert (steps > below - 0.01).all() and (steps < below + 1.01).all()
    spread = (chance * (1 - chance) / repeats).sqrt()  # of the mean, in levels: a coin with this chance
    assert ((steps.mean(0) - position).abs() <= 5 * spread + 1e-5).all()
    torch.testing.assert_close(drawn[:, 4], torch.full((repeats,), -1.3))
    assert not drawn[:, 3].any()


def test_quantization_scales_each_client_and_tensor_alone():
    updates = {"a": torch.tensor([[1.0, -1.0], [4.0, 4.0], [0.0, 0.0]]), "b": torch.full((3, 1, 2), -8.0)}
    drawn = federated.quantize(updates, 2, torch.Generator().manual_seed(0))
    assert all(torch.equal(drawn[name], u) for name, u in updates.items())  # every entry is a level, and zero stays zero


def test_eight_bits_of_the_largest_entry_never_exceed_it():
    drawn = federated.quantize({"u": torch.full((1, 200_000), 0.1)}, 8, torch.Generator().manual_seed(0))["u"]
    torch.testing.assert_close(drawn, torch.full_like(drawn, 0.1))


def test_one_bit_is_the_sign_times_the_mean_magnitude():
    updates = {"a": torch.tensor([[[1.0, -2.0], [3.0, 0.0]]]), "b": torch.tensor([[-4.0]])}
    sent = federated.quantize(updates, 1)
    assert sent["a"].tolist() == [[[1.5, -1.5], [1.5, 1.5]]] and sent["b"].tolist() == [[-4.0]]


@pytest.mark.parametrize("bits", [0, 17, 2.5])
def test_quantization_wants_a_whole_number_of_bits(bits):
    with pytest.raises(ValueError, match="bits="):
        federated.quantize(some_updates(), bits)


@pytest.mark.parametrize(
    "compress", [lambda u: federated.top_k(u, 0.1), lambda u: federated.quantize(u, 1), lambda u: federated.quantize(u, 3)]
)
def test_with_error_feedback_what_was_sent_and_the_residual_add_up_to_the_updates(compress):
    feedback, sent, asked = federated.ErrorFeedback(compress), torch.zeros(4, 27).double(), torch.zeros(4, 27).double()
    for number, chosen in enumerate([[0, 1, 2, 3], [2, 0], [3, 2, 1], [1], [0, 3]]):
        updates = some_updates(len(chosen), torch.float64, seed=number)
        before = flatten(updates)
        waiting = {k: {name: e.clone() for name, e in mine.items()} for k, mine in feedback.residuals.items() if k not in chosen}
        now = feedback(updates, chosen)
        assert torch.equal(flatten(updates), before)
        for k, mine in waiting.items():
            assert all(torch.equal(feedback.residuals[k][name], e) for name, e in mine.items())
        sent[chosen] += flatten(now)
        asked[chosen] += before
    left = torch.stack([torch.cat([e.flatten() for e in feedback.residuals[k].values()]) for k in range(4)])
    torch.testing.assert_close(sent + left, asked)
    assert left.abs().amax(1).gt(0.1).all()  # there was something to remember


def test_error_feedback_compresses_the_sum_and_not_the_update():
    feedback = federated.ErrorFeedback(lambda u: federated.top_k(u, 0.5))
    small = {"x": torch.tensor([[3.0, 2.0]])}
    assert [feedback(small, [7])["x"].tolist() for _ in range(3)] == [[[3, 0]], [[0, 4]], [[6, 0]]]
    assert feedback.residuals[7]["x"].tolist() == [0, 2]


def test_an_update_that_is_not_finite_does_not_spoil_the_memory():
    feedback = federated.ErrorFeedback(lambda u: federated.top_k(u, 0.5))
    feedback({"x": torch.tensor([[3.0, 2.0]])}, [7])
    broken = feedback({"x": torch.tensor([[math.nan, 1.0], [1.0, 5.0]])}, [7, 8])
    assert not broken["x"][0].isfinite().all() and broken["x"][1].tolist() == [0, 5]
    assert feedback.residuals[7]["x"].tolist() == [0, 2] and feedback.residuals[8]["x"].tolist() == [1, 0]


def test_a_round_with_error_feedback_and_nothing_compressed_is_a_plain_round():
    clients, plain, fed_back = some_clients(), network(), network()
    for net, change in ((plain, None), (fed_back, federated.ErrorFeedback(lambda u: u))):
        generator = torch.Generator().manual_seed(5)
        for _ in range(3):
            federated.server_round(net, clients, fraction=0.5, lr=0.1, batch_size=5, generator=generator, change=change)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), fed_back.parameters(), strict=True))


def test_bytes_by_hand():
    net = nn.Linear(100, 3)  # 300 weights and 3 biases
    assert federated.update_bytes(net) == 4 * 303
    assert federated.update_bytes(net, bits=8) == 303 + 2 * 4
    assert federated.update_bytes(net, bits=1) == 38 + 1 + 2 * 4  # 300 bits are 38 bytes, 3 bits are one
    assert federated.update_bytes(net, share=0.01) == 4 * (4 + 4)  # ⌈3.03⌉ values, each with its index
    with pytest.raises(ValueError, match="one of the two"):
        federated.update_bytes(net, share=0.1, bits=8)
    with pytest.raises(ValueError, match="bits=0"):
        federated.update_bytes(net, bits=0)


# --- exercises of federated/communication ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (398 * 32 / 39_760, "the values alone"),
        (0.64, "index of 32 bits"),
        (48, "among all weights"),
        (0.47, "fifteen bits"),
        (0.06, "bytes"),
        (1.0, "not it"),
        ("many", "finite number"),
    ],
)
def test_bits_a_weight(answer, words):
    feedback = check.bits_a_weight(answer)
    assert feedback.passed is False and words in feedback.message
    assert check.bits_a_weight(...).passed is None
    assert check.bits_a_weight(0.4805).passed


def one_step(sent, left):
    """A student's feedback_step from two expressions in u, e and compress."""
    return lambda u, e, compress: (sent(u, e, compress), left(u, e, compress))


def right(u, e, compress):
    return compress(u + e)


def feedback_in_place(u, e, compress):
    e += u
    sent = compress(e)
    e -= sent
    return sent, e


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (one_step(lambda u, e, c: c(u), lambda u, e, c: u - c(u)), "the update alone was compressed"),
        (one_step(lambda u, e, c: c(u) + e, lambda u, e, c: u - c(u)), "after compression"),
        (one_step(lambda u, e, c: c(u - e), lambda u, e, c: u - e - c(u - e)), "was subtracted"),
        (one_step(lambda u, e, c: u + e - c(u + e), right), "stands where the message should"),
        (one_step(lambda u, e, c: u + e, lambda u, e, c: 0 * u), "nothing was compressed"),
        (one_step(lambda u, e, c: 2 * c(u + e), lambda u, e, c: e), "what is sent is not"),
        (one_step(right, lambda u, e, c: e), "stays as it was"),
        (one_step(right, lambda u, e, c: u - c(u + e)), "(u + e) − C(u + e)"),
        (one_step(right, lambda u, e, c: u - c(u)), "u − C(u)"),
        (one_step(right, lambda u, e, c: u + e), "although a part of it was sent"),
        (one_step(right, lambda u, e, c: c(u + e) - u - e), "wrong sign"),
        (one_step(right, lambda u, e, c: u + 2 * e - c(u + e)), "counted twice"),
        (one_step(right, lambda u, e, c: 0 * u), "the residual is not"),
        (one_step(right, lambda u, e, c: u + e - c(u + e)), "compress twice"),
        (feedback_in_place, "changed its input"),
        (right, "two tensors"),
        (lambda u, e, compress: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_feedback_step_names_the_mistake(answer, words):
    feedback = check.feedback_step(answer)
    assert feedback.passed is False and words in feedback.message, feedback


def test_feedback_step_accepts_the_pages_solution_and_knows_its_stub():
    tagged = {tag: {} for tag in ("stub", "solution")}
    for cell in pages.read(COMMUNICATION)["cells"]:
        source = "".join(cell["source"]).partition("\ncheck.")[0]
        for tag in set(tagged) & set(cell["metadata"].get("tags", [])):
            if "def feedback_step" in source:
                exec(source, tagged[tag])
    assert check.feedback_step(tagged["solution"]["feedback_step"]).passed
    assert check.feedback_step(tagged["stub"]["feedback_step"]).passed is None


def test_the_pages_memory_is_the_packages():
    page = {"torch": torch}
    for cell in pages.code_cells(pages.read(COMMUNICATION)):
        if "def with_memory" in cell:
            exec(cell.partition("\ntop_half")[0], page)
    compress = partial(federated.top_k, share=0.2)
    ours, package = page["with_memory"](compress), federated.ErrorFeedback(compress)
    for number, clients in enumerate([[0, 2], [1], [2, 1, 0]]):
        a, b = (change(some_updates(len(clients), seed=number), clients) for change in (ours, package))
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_memory_for_two_bits():
    one, worse, better, unclear = (
        estimate(values) for values in ([-0.91, -0.9, -0.89], [0.08, 0.09, 0.1], [-0.1, -0.09, -0.08], [-0.1, 0.1, 0.01])
    )
    for prediction, two, words in (
        ("hurts", worse, "as you predicted"),
        ("helps", worse, "you predicted 'helps'"),
        ("helps", better, "as you predicted"),
        ("no difference", unclear, "as you predicted"),
    ):
        feedback = check.memory_for_two_bits((prediction, one, two))
        assert feedback.passed and words in feedback.message
    for answer, words in (
        (("worse", one, worse), "predict one of"),
        (("hurts", estimate([0.9, 1.0]), worse), "without error feedback from"),
        (("hurts", one, 0.08), "mean and interval"),
        (("hurts", one, one), "the same"),
    ):
        feedback = check.memory_for_two_bits(answer)
        assert feedback.passed is False and words in feedback.message
    assert check.memory_for_two_bits((..., one, ...)).passed is None


# --- the page on federated averaging -------------------------------------------------------------------------------

AVERAGING = ROOT / "chapters/federated/federated-averaging.ipynb"


def averaging(*needed: str) -> dict:
    """The page's own functions, without running its experiments."""
    namespace = {"torch": torch, "F": F, "deepcopy": deepcopy, "K": 4, "factors": (1,), "PARTITIONS": {}}
    for cell in pages.code_cells(pages.read(AVERAGING)):
        if any(f"def {name}(" in cell for name in needed):
            exec(cell, namespace)
    return namespace


def test_the_pages_round_equals_the_package_and_samples():
    page = averaging("client_update", "server_round")
    ours, theirs, clients = network(torch.float64), network(torch.float64), some_clients(dtype=torch.float64)
    for _ in range(3):
        page["server_round"](ours, clients, lr=0.2, epochs=3)
        federated.server_round(theirs, clients, fraction=1.0, lr=0.2, epochs=3)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name])
    before = copy_of(ours.state_dict())
    page["server_round"](ours, clients, fraction=0.25, lr=0.2)  # one client: the round is its update
    alone = [federated.client_updates(theirs, [client], lr=0.2) for client in clients]
    moved = {name: value - before[name] for name, value in ours.state_dict().items()}
    assert sum(all(torch.allclose(moved[n], sent[n][0]) for n in moved) for sent in alone) == 1


def test_the_pages_agreement_is_one_for_equal_and_one_in_m_for_orthogonal_updates():
    agreement = averaging("agreement")["agreement"]
    assert agreement({"w": torch.ones(4, 3, 2), "b": torch.ones(4, 5)}) == pytest.approx(1)
    assert agreement({"w": torch.eye(4).view(4, 2, 2)}) == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("answer", "words"),
    [(31.3, "five passes"), (0.1597, "other way round"), (0.1043, "counted steps"), (156.5, "divide by 5"), (7.0, "not it")],
)
def test_times_as_many(answer, words):
    assert check.times_as_many(6.26).passed
    feedback = check.times_as_many(answer)
    assert feedback.passed is False and words in feedback.message


def right_shards(y, clients, generator):
    shards = y.argsort().view(2 * clients, -1)
    return list(shards[torch.randperm(2 * clients, generator=generator)].view(clients, -1))


def shuffled_clients(y, clients, generator):  # neighbours stay together
    return list(y.argsort().view(clients, -1)[torch.randperm(clients, generator=generator)])


def with_replacement(y, clients, generator):
    shards = y.argsort().view(2 * clients, -1)
    return list(shards[torch.randint(2 * clients, (2 * clients,), generator=generator)].view(clients, -1))


def unsorted(y, clients, generator):
    return list(torch.randperm(len(y), generator=generator).view(clients, -1))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (shuffled_clients, "neighbouring shards"),
        (with_replacement, "without replacement"),
        (unsorted, "sort by label"),
        (lambda y, clients, generator: [y[part] for part in right_shards(y, clients, generator)], "these are labels"),
        (lambda y, clients, generator: right_shards(y, clients, torch.Generator().manual_seed(0)), "does not depend"),
        (lambda y, clients, generator: right_shards(y, clients, None), "with the same generator differ"),
        (lambda y, clients, generator: [part[:-1] for part in right_shards(y, clients, generator)], "all of them should"),
        (lambda y, clients, generator: right_shards(y, clients, generator)[:-1], "one a client"),
        (lambda y, clients, generator: right_shards(y, clients // 5, generator), "one a client"),
        (lambda y, clients, generator: right_shards(y.sort().values, clients, generator), "sort by label"),
        (lambda y, clients, generator: right_shards(y.copy_(y.sort().values), clients, generator), "changed its input"),
    ],
)
def test_two_shards(wrong, words):
    assert check.two_shards(right_shards).passed
    assert check.two_shards(lambda *_: ...).passed is None
    feedback = check.two_shards(wrong)
    assert feedback.passed is False and words in feedback.message, feedback.message


def test_longer_walks():
    before, after, none = estimate([2.0, 2.2, 1.9]), estimate([1.3, 1.25, 1.35]), estimate([1.0, 1.3, 0.8])
    assert check.longer_walks(("smaller", before, after)).message.endswith("as you predicted.")
    assert "'gone'" in check.longer_walks(("smaller", before, none)).message
    assert "you predicted 'larger'" in check.longer_walks(("larger", before, after)).message
    assert check.longer_walks((..., before, ...)).passed is None
    for answer, words in (
        (("much", before, after), "predict one of"),
        (("smaller", before, before), "the same"),
        (("smaller", estimate([0.5, 0.45, 0.48]), after), "divide the rounds before"),
        (("smaller", before, estimate([-1.0, -2.0])), "positive"),
        (("smaller", before, 1.2), "interval"),
    ):
        feedback = check.longer_walks(answer)
        assert feedback.passed is False and words in feedback.message
