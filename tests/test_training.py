import inspect
import pickle
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regbook import data, models
from regbook.training import Diverged, batches, evaluate, fit

SGD = partial(torch.optim.SGD, lr=0.1)


@pytest.fixture(scope="module")
def digits():
    return data.digits(n=300)


def network(seed: int = 0, **options) -> nn.Module:
    torch.manual_seed(seed)
    return models.mlp(64, [32], **options)


def weights(model: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.parameters()).detach().clone()


def test_fit_is_short_enough_to_print():
    assert len(inspect.getsource(fit).rstrip().splitlines()) < 50


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_fit_equals_a_plain_loop(digits, make):
    ours, plain = network(), network()
    fit(ours, digits, epochs=3, batch_size=64, optimizer=partial(make, lr=0.01), seed=4)
    optimizer, generator = make(plain.parameters(), lr=0.01), torch.Generator().manual_seed(4)
    for _ in range(3):
        for index in torch.randperm(300, generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(plain(digits.train.x[index]), digits.train.y[index]).backward()
            optimizer.step()
    torch.testing.assert_close(weights(ours), weights(plain), rtol=1e-4, atol=1e-5)


def test_batches_use_every_example_once_an_epoch():
    order = batches(10, 4, 0, torch.device("cpu"))
    epochs = [[next(order) for _ in range(3)] for _ in range(2)]
    for epoch in epochs:
        assert [len(b) for b in epoch] == [4, 4, 2] and sorted(torch.cat(epoch).tolist()) == list(range(10))
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))


def test_the_batches_do_not_depend_on_the_model(digits):
    seen = {}
    for name, dropout in (("plain", 0.0), ("dropout", 0.5)):
        seen[name] = []
        fit(network(dropout=dropout), digits, steps=5, transform=lambda x, y, to=seen[name]: (to.append(x), (x, y))[1])
    assert all(torch.equal(a, b) for a, b in zip(seen["plain"], seen["dropout"], strict=True))


def test_evaluate_agrees_with_sklearn_and_puts_the_mode_back(digits):
    from sklearn.metrics import accuracy_score, log_loss

    model = network(dropout=0.5)
    fit(model, digits, steps=30)
    ours = evaluate(model, *digits.test, batch_size=100)
    assert model.training
    with torch.no_grad():
        probabilities = model.eval()(digits.test.x).double().softmax(1).numpy()
    assert ours["accuracy"] == accuracy_score(digits.test.y, probabilities.argmax(1))
    assert ours["loss"] == pytest.approx(log_loss(digits.test.y, probabilities), rel=1e-5)
    assert evaluate(model, *digits.test, batch_size=7)["loss"] == pytest.approx(ours["loss"], rel=1e-5)
    assert not model.training
    exact = evaluate(model.double(), digits.test.x.double(), digits.test.y)["loss"]
    assert exact == pytest.approx(log_loss(digits.test.y, probabilities), rel=1e-6)
    with pytest.raises(ValueError, match="no examples"):
        evaluate(model, digits.test.x[:0], digits.test.y[:0])


def test_a_penalty_changes_loss_and_gradient(digits):
    def squared(model):
        return 0.1 * sum((p**2).sum() for p in model.parameters())

    plain, penalized, by_hand = network(), network(), network()
    fit(plain, digits, steps=1, optimizer=SGD)
    fit(penalized, digits, steps=1, optimizer=SGD, penalty=squared)
    fit(by_hand, digits, steps=1, optimizer=partial(SGD, weight_decay=0.2))
    assert not torch.allclose(weights(plain), weights(penalized))
    torch.testing.assert_close(weights(penalized), weights(by_hand))


def test_transform_hooks_and_rows(digits):
    steps, rows_seen = [], []

    def on_eval(row, model):
        row["norm"] = weights(model).norm().item()
        rows_seen.append(row["step"])
        return row["step"] == 20

    rows = fit(network(), digits, steps=50, evaluate_every=10, on_step=lambda step, _: steps.append(step), on_eval=on_eval)
    assert steps == list(range(1, 21)) and rows_seen == [0, 10, 20] == [row["step"] for row in rows]
    assert set(rows[0]) == {"step", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "norm"}
    assert [r["step"] for r in fit(network(), digits, steps=25, evaluate_every=10)] == [0, 10, 20, 25]
    assert fit(network(), digits, steps=5, evaluate_every=0) == []
    untouched = network()
    assert fit(untouched, digits, steps=5, evaluate_every=1, on_eval=lambda row, _: True)[0]["step"] == 0
    assert torch.equal(weights(untouched), weights(network()))

    zeroed, plain = network(), network()
    fit(zeroed, digits, steps=1, optimizer=SGD, transform=lambda x, y: (x * 0, y))
    fit(plain, digits, steps=1, optimizer=SGD)
    assert not torch.equal(weights(zeroed), weights(plain))


def test_a_hook_can_hold_a_mask(digits):
    model = network()
    mask = torch.rand_like(model[1].weight) > 0.5

    def hold(_, model):
        with torch.no_grad():
            model[1].weight.mul_(mask)

    fit(model, digits, steps=10, on_step=hold)
    assert not model[1].weight[~mask].any() and model[1].weight[mask].all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_training_stops_at_the_step_that_diverged(digits, value):
    class Bad:
        calls = 0

        def __call__(self, logits, y):
            Bad.calls += logits.requires_grad  # evaluations do not count
            return F.cross_entropy(logits, y) * (value if Bad.calls == 13 else 1)

    Bad.calls = 0
    with pytest.raises(Diverged, match="at step 13") as caught:
        fit(network(), digits, steps=100, evaluate_every=20, loss=Bad(), optimizer=partial(torch.optim.SGD, lr=0.0))
    assert Bad.calls == 20, "it stops at the next evaluation, before measuring"
    assert pickle.loads(pickle.dumps(caught.value)).step == 13


def test_fused_is_asked_for_only_where_it_exists(digits, monkeypatch):
    made = {}

    def spy(kind, **defaults):
        def make(parameters, fused=None, **named):
            made[kind] = fused
            return kind(parameters, **defaults, **named)

        return make

    fit(network(), digits, steps=1, optimizer=spy(torch.optim.SGD, lr=0.1))
    fit(network(), digits, steps=1, optimizer=partial(spy(torch.optim.Adam), fused=False))
    assert made == {torch.optim.SGD: True, torch.optim.Adam: False}
    fit(network(), digits, steps=1, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "steps=None, epochs=None; give exactly one"),
        ({"steps": 1, "epochs": 1}, "give exactly one"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 5.0}, "steps=5.0; it must be a whole number"),
        ({"epochs": -1}, "epochs=-1"),
        ({"steps": 1, "batch_size": 0}, "batch_size=0"),
        ({"steps": 1, "evaluate_every": -5}, "evaluate_every=-5"),
    ],
)
def test_wrong_arguments_are_named(digits, wrong, words):
    with pytest.raises(ValueError, match=words):
        fit(network(), digits, **wrong)


def test_epochs_count_the_short_batch(digits):
    assert fit(network(), digits, epochs=2, batch_size=64)[-1]["step"] == 2 * int(np.ceil(300 / 64))
