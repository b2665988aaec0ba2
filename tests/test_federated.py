import math
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
