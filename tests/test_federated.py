import math

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
