import math
from copy import deepcopy

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
