import os
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from regbook import data, models
from regbook.experiments import RunFailed, compare, train

SGD = partial(torch.optim.SGD, lr=0.1)


@pytest.fixture(scope="module")
def digits():
    return data.digits(n=200)


def network() -> nn.Module:
    return models.mlp(64, [16])


def draw(_, seed, low=0.0):
    """A run that only draws numbers, to see what compare hands out."""
    yield {
        "step": 0,
        "seed_seen": seed,
        "torch": torch.rand(()) + low,
        "numpy": np.random.rand(),
        "threads": torch.get_num_threads(),
    }


def test_the_table_is_tidy_and_in_order(digits):
    results = compare({"b": {}, "a": {"optimizer": SGD}}, digits, seeds=[3, 1], model=network, steps=20, evaluate_every=10)
    assert list(results.frame.columns) == ["arm", "seed", "step", "metric", "value"]
    assert list(results.final("test_loss").columns) == ["b", "a"] and list(results.final("test_loss").index) == [1, 3]
    assert set(results.curves("valid_loss").index.get_level_values("step")) == {0, 10, 20}
    assert set(results.frame.query("metric == 'test_loss'")["step"]) == {20}, "the test set is read once"
    curve = results.curves("valid_loss").loc[("a", 10)]
    assert curve["low"] <= curve["mean"] <= curve["high"]
    assert "±" in results.summary("test_loss").loc["a", "test_loss"]


def test_the_difference_is_paired_by_seed():
    results = compare({"a": {"low": 0.5}, "b": {}}, run=draw, seeds=4)
    difference = results.difference("a", "b", "torch")
    assert difference.mean == pytest.approx(0.5) and difference.high - difference.low < 1e-6, "shared luck cancels"
    with pytest.raises(ValueError, match="arm 'c'; the arms are a, b"):
        results.difference("a", "c", "torch")
    with pytest.raises(ValueError, match="metric 'loss'; measured were seed_seen, torch"):
        results.final("loss")


def test_arms_share_start_and_order(digits):
    first = []

    def remember(step, model):
        if step == 1:
            first.append(model[1].weight.detach().clone())

    compare({"a": {}, "b": {"evaluate_every": 1}}, digits, seeds=1, processes=1, model=network, steps=3, on_step=remember)
    assert len(first) == 2 and torch.equal(*first)


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_processes(digits):
    offset = 0.25  # a closure, as a notebook's functions are

    def noisy(x, y):
        return x + offset * torch.randn_like(x), y

    def slowly(_, model):
        time.sleep(0.02)  # long enough for the worker to get its share

    arms = {"plain": {}, "noisy": {"transform": noisy}, "dropout": {"model": lambda: models.mlp(64, [16], dropout=0.5)}}
    tables = [
        compare(arms, digits, seeds=4, processes=p, model=network, steps=30, evaluate_every=10, on_step=slowly).frame
        for p in (1, 2, 3)
    ]
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])
    torch.manual_seed(99)
    again = compare(arms, digits, seeds=4, processes=1, model=network, steps=30, evaluate_every=10).frame
    assert tables[0].equals(again), "what happened before must not matter"


@pytest.mark.slow
def test_work_is_shared_and_a_dead_worker_is_named(tmp_path):
    here, taken = os.getpid(), tmp_path / "taken"

    def fragile(_, seed):
        if os.getpid() != here:
            taken.touch()
            os._exit(1)
        for _ in range(600):  # until the worker has taken a run, however long it takes to start
            if taken.exists():
                break
            time.sleep(0.1)
        yield {"step": 0, "x": seed}

    with pytest.raises(RunFailed, match=r"arm 'only', seed \d+: lost with its worker process") as caught:
        compare({"only": {}}, run=fragile, seeds=range(20), processes=2)
    kept = len(caught.value.results.frame)
    assert 1 <= kept < 20 and f"{kept} of 20 runs succeeded" in str(caught.value)


def test_a_failing_run_names_arm_and_seed_and_the_others_are_kept(digits):
    arms = {"fine": {}, "wild": {"transform": lambda x, y: (x * float("nan"), y)}}
    with pytest.raises(RunFailed, match=r"arm 'wild', seed 0: Diverged: .* at step \d+") as caught:
        compare(arms, digits, seeds=2, model=network, steps=50)
    assert "arm 'wild', seed 1" in str(caught.value)
    assert set(caught.value.results.frame["arm"]) == {"fine"} and set(caught.value.results.frame["seed"]) == {0, 1}


def test_compare_leaves_the_session_as_it_was():
    torch.manual_seed(5)
    np.random.seed(5)
    expected, threads = (torch.rand(3), np.random.rand()), torch.get_num_threads()
    torch.manual_seed(5)
    np.random.seed(5)
    results = compare({"a": {}}, run=draw, seeds=2)
    assert torch.equal(torch.rand(3), expected[0]) and np.random.rand() == expected[1]
    assert torch.get_num_threads() == threads and set(results.final("threads")["a"]) == {1.0}


def test_ctrl_c_stops_at_once():
    ran = []

    def interrupted(_, seed):
        ran.append(seed)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare({"a": {}}, run=interrupted, seeds=5, processes=1)
    assert ran == [0] and threading.active_count() < 10


def test_a_hook_with_state_starts_fresh_in_each_run(digits):
    class Count:
        def __init__(self):
            self.steps = 0

        def __call__(self, row, model):
            self.steps += 1
            row["calls"] = self.steps

    results = compare({"a": {}}, digits, seeds=3, processes=1, model=network, steps=4, evaluate_every=2, on_eval=Count())
    assert set(results.final("calls")["a"]) == {3.0}


def test_data_can_depend_on_the_seed_and_on_the_arm():
    def size(given, seed):
        yield {"step": 0, "n": len(given.train.y), "first": given.train.x[0].sum()}

    results = compare({"a": {}, "b": {"data": data.digits(n=7)}}, partial(data.digits, n=5), run=size, seeds=3)
    assert set(results.final("n")["a"]) == {5.0} and set(results.final("n")["b"]) == {7.0}
    assert results.final("first")["a"].nunique() == 3 and results.final("first")["b"].nunique() == 1


def test_arms_may_measure_different_things():
    def one(_, seed, name):
        yield {"step": 0, name: seed, "both": 1.0}
        yield {"step": 5, name: float("nan"), "both": 2.0}

    results = compare({"a": {"name": "x"}, "b": {"name": "y"}}, run=one, seeds=2)
    assert list(results.final("x").columns) == ["a"] and list(results.final("both").columns) == ["a", "b"]
    assert results.final("x")["a"].isna().all(), "an older value must not stand in for a missing one"
    assert set(results.at(0, "both")["b"]) == {1.0} and results.arms == ["a", "b"]


def test_evaluating_never_leaves_nothing_to_compare(digits):
    with pytest.raises(RunFailed, match="evaluate_every=0 leaves nothing"):
        compare({"a": {}}, digits, seeds=1, model=network, steps=2, evaluate_every=0)


def test_selection_is_on_validation(digits):
    def settings():
        return {"model": network, "steps": 60, "evaluate_every": 20, "optimizer": partial(torch.optim.Adam, lr=0.1)}

    rows = list(train(digits, 0, select="best", **settings()))
    best = min(rows[:-1], key=lambda row: row["valid_loss"])
    assert rows[-1]["step"] == best["step"] and set(rows[-1]) == {"step", "test_loss", "test_accuracy"}
    with pytest.raises(ValueError, match="select='test'"):
        train(digits, 0, select="test", **settings())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"arms": {}}, "arms={}"),
        ({"arms": {"a": {}}, "seeds": []}, r"seeds=\[\]"),
        ({"arms": {"a": {}}, "seeds": [1, 1]}, "distinct"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        compare(run=draw, **wrong)


def test_seeds_follow_the_environment(monkeypatch):
    monkeypatch.setenv("REGBOOK_SEED", "2")
    assert list(compare({"a": {}}, run=draw, seeds=2).final("seed_seen").index) == [2000, 2001]
