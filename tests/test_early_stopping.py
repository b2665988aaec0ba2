"""The three algorithms of ``regbook.early_stopping`` on made-up curves and small sets; the exercises of chapters/early-stopping."""

import math
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import ROOT
from torch import nn

from regbook import data, models
from regbook.checks import early_stopping as check
from regbook.claims import estimate
from regbook.data import Split
from regbook.early_stopping import EarlyStopping, continue_training, hold_out, pool, retrain, retraining_steps
from regbook.experiments import compare
from regbook.press import pages
from regbook.training import evaluate, fit

NAN = math.nan


def follow(stopping, values, every=10):
    """Feed made-up losses; the network's weight is the step, so that one sees which weights were kept."""
    net = nn.Linear(1, 1)
    for step, value in zip(range(0, every * len(values), every), values, strict=True):
        nn.init.constant_(net.weight, step)
        if stopping({"step": step, "valid_loss": value}, net):
            break
    return step, net


@pytest.fixture
def small():
    return hold_out(data.digits(n=90, noise=0.2, seed=3), 30)


def network(seed=0):
    torch.manual_seed(seed)
    return models.mlp(64, (8,))


# --- Algorithm 7.1 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "p", "best", "last"),
    [
        ([5, 4, 4.5, 3, 3, 3.5, 2], 2, 30, 50),  # an equal value is none, an improvement resets the counter
        ([5, 4, 4.5, 3, 3, 3.5, 2], 3, 60, 60),
        ([1, 2, 3], 1, 0, 10),
        ([3, 2, 1], 1, 20, 20),
        ([1, 1, 1, 1], 2, 0, 20),
        ([3, NAN, 2, NAN, NAN, 1], 2, 20, 40),
        ([NAN, 2, 3, 3], 2, 10, 30),
        ([2, -math.inf, 1, 1], 2, 10, 30),
    ],
)
def test_algorithm_7_1(values, p, best, last):
    stopping = EarlyStopping(p)
    step, net = follow(stopping, values)
    assert (stopping.best_step, stopping.best_value, step) == (best, values[best // 10], last)
    stopping.restore(net)
    assert net.weight.item() == best


def test_the_kept_weights_are_a_copy_and_step_0_starts_anew():
    stopping = EarlyStopping(2)
    _, net = follow(stopping, [1.0, 2.0])
    nn.init.constant_(net.weight, 99)
    stopping.restore(net)
    assert net.weight.item() == 0 and stopping.waited == 1
    follow(stopping, [7.0, 6.0])
    assert (stopping.best_step, stopping.best_value, stopping.waited) == (10, 6.0, 0)


def test_another_metric_and_buffers():
    stopping, net = EarlyStopping(1, metric="mine"), nn.BatchNorm1d(2)
    assert not stopping({"step": 0, "valid_loss": 1.0, "mine": 3.0}, net)
    net.running_mean += 5
    assert stopping({"step": 1, "valid_loss": 0.0, "mine": 3.0}, net)
    stopping.restore(net)
    assert not net.running_mean.any()
    with pytest.raises(ValueError, match=r"metric='mine'; measured were step, valid_loss"):
        stopping({"step": 0, "valid_loss": 1.0}, net)


def test_in_a_real_run_it_stops_and_restores_what_was_measured(small):
    stopping, net = EarlyStopping(3), network()
    rows = fit(net, small, steps=2000, evaluate_every=20, optimizer=partial(torch.optim.Adam, lr=1e-2), on_eval=stopping)
    losses = {row["step"]: row["valid_loss"] for row in rows}
    assert rows[-1]["step"] == stopping.best_step + 3 * 20 < 2000 and losses[stopping.best_step] == min(losses.values())
    stopping.restore(net)
    assert evaluate(net, *small.valid)["loss"] == stopping.best_value


def test_as_an_arm_of_a_comparison_it_serves_one_run_after_another(small):
    arm = {"on_eval": EarlyStopping(2), "select": "best"}
    long = {"steps": 400, "evaluate_every": 10, "model": network, "optimizer": partial(torch.optim.Adam, lr=1e-2)}
    frame = compare({"stop": arm}, small, seeds=2, processes=1, **long).frame
    for _, run in frame.groupby("seed"):
        valid = run[run["metric"] == "valid_loss"].set_index("step")["value"]
        assert run[run["metric"] == "test_loss"]["step"].item() == valid.idxmin() == valid.index[-1] - 20


@pytest.mark.parametrize("patience", [0, -1, 2.5, NAN, "3", None])
def test_a_patience_below_one_is_refused(patience):
    with pytest.raises(ValueError, match=r"patience=.*at least 1"):
        EarlyStopping(patience)


def test_without_evaluations_it_says_what_is_missing(small):
    with pytest.raises(ValueError, match="give fit evaluate_every="):
        fit(network(), small, steps=3, on_eval=EarlyStopping(1))
    stopping = EarlyStopping(1)
    with pytest.raises(ValueError, match="no best weights"):
        stopping.restore(network())
    follow(stopping, [NAN, NAN])
    with pytest.raises(ValueError, match="no best weights"):
        stopping.restore(network())


# --- the sets --------------------------------------------------------------------------------------------------------


def test_hold_out_and_pool_move_examples_and_lose_none():
    whole = data.digits(n=50, noise=0.4, seed=1)
    held = hold_out(whole, 20)
    assert (len(held.valid.y), len(held.train.y), len(held.wrong)) == (20, 30, 30)
    assert torch.equal(held.valid.x, whole.train.x[:20]) and torch.equal(held.train.y, whole.train.y[20:])
    assert torch.equal(held.wrong, whole.wrong[20:]) and held.test is whole.test
    both = pool(held)
    assert torch.equal(both.train.y, torch.cat([whole.train.y[20:], whole.train.y[:20]]))
    assert len(both.wrong) == 50 and both.wrong.sum() == held.wrong.sum() and both.valid is held.valid


@pytest.mark.parametrize("n", [0, -1, 50, 51])
def test_a_set_that_would_be_empty_is_refused(n):
    with pytest.raises(ValueError, match=rf"n={n}; .*1\.\.49 can be held out"):
        hold_out(data.digits(n=50), n)


def test_an_empty_validation_set_is_refused_by_all_three(small):
    empty = replace(small, valid=Split(small.valid.x[:0], small.valid.y[:0]))
    net = network()
    before = deepcopy(net.state_dict())
    with pytest.raises(ValueError, match="no examples"):
        fit(net, empty, steps=10, evaluate_every=5, on_eval=EarlyStopping(1))
    with pytest.raises(ValueError, match="valid of digits is empty"):
        retrain(net, empty, 10)
    with pytest.raises(ValueError, match="valid of digits is empty"):
        continue_training(net, empty, max_steps=10, evaluate_every=5)
    assert all(torch.equal(w, before[name]) for name, w in net.state_dict().items())


# --- Algorithms 7.2 and 7.3 ------------------------------------------------------------------------------------------


def test_as_many_steps_or_as_many_passes(small):
    assert retraining_steps(small, 70, 10, "steps") == 70
    assert retraining_steps(small, 70, 10, "epochs") == 105  # 6 batches a pass, then 9
    assert retraining_steps(small, 70, 64, "epochs") == 140  # 1 batch a pass, then 2
    with pytest.raises(ValueError, match="by='passes'; it must be 'steps' or 'epochs'"):
        retrain(network(), small, 70, by="passes")


@pytest.mark.parametrize(("by", "steps"), [("steps", 12), ("epochs", 18)])
def test_algorithm_7_2_is_fit_on_everything(small, by, steps):
    one, other = network(), network()
    rows = retrain(one, small, 12, by=by, batch_size=10, seed=4)
    fit(other, pool(small), steps=steps, batch_size=10, seed=4)
    assert rows[-1]["step"] == steps
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_where_the_start_was_best_nothing_is_trained(small):
    net = network()
    assert retrain(net, small, 0) == []
    torch.testing.assert_close(net.state_dict(), network().state_dict(), rtol=0, atol=0)


def test_algorithm_7_3_goes_on_until_the_validation_loss_is_epsilon(small):
    net = network()
    fit(net, small, steps=150, optimizer=partial(torch.optim.Adam, lr=1e-2))
    epsilon = evaluate(net, *small.train)["loss"]
    assert evaluate(net, *small.valid)["loss"] > epsilon
    went = continue_training(net, small, max_steps=2000, evaluate_every=5, optimizer=partial(torch.optim.Adam, lr=1e-2))
    assert went.reached and went.target == epsilon and went.steps == went.rows[-1]["step"] < 2000
    assert [row["valid_loss"] > epsilon for row in went.rows] == [True] * (len(went.rows) - 1) + [False]
    assert evaluate(net, *small.valid)["loss"] <= epsilon


def test_it_reports_that_it_hit_the_cap_and_takes_no_step_where_none_is_needed(small):
    net = network()
    fit(net, small, steps=150, optimizer=partial(torch.optim.Adam, lr=1e-2))
    capped = continue_training(net, small, max_steps=10, evaluate_every=5, optimizer=partial(torch.optim.SGD, lr=1e-6))
    assert (capped.reached, capped.steps) == (False, 10)
    same = replace(small, valid=small.train)
    done = continue_training(net, same, max_steps=10, evaluate_every=5)
    assert (done.reached, done.steps, len(done.rows)) == (True, 0, 1)


def test_epsilon_is_measured_with_the_loss_of_the_training(small):
    smooth = partial(nn.functional.cross_entropy, label_smoothing=0.3)
    net = network()
    went = continue_training(net, small, max_steps=2, evaluate_every=1, loss=smooth, optimizer=partial(torch.optim.SGD, lr=0.0))
    assert went.target == evaluate(network(), *small.train, loss=smooth)["loss"]


@pytest.mark.parametrize(("n", "most"), [(0, 10), (10, 10), (-1, 5)])
def test_the_loop_needs_evaluations(small, n, most):
    with pytest.raises(ValueError, match=f"evaluate_every={n}, max_steps={most}"):
        continue_training(network(), small, max_steps=most, evaluate_every=n)


# --- the pages -------------------------------------------------------------------------------------------------------


def definitions(section: str, *needed: str, **given) -> dict:
    """The page's own functions, without running its experiments."""
    namespace = {"torch": torch, "math": math, "deepcopy": deepcopy, "nn": nn} | given
    for cell in pages.code_cells(pages.read(ROOT / f"chapters/early-stopping/{section}.ipynb")):
        if any(f"{kind} {name}" in cell for name in needed for kind in ("def", "class")) and "..." not in cell:
            exec(cell, namespace)
    return namespace


@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_pages_hook_is_the_packages(p):
    stop = definitions("learning-curves", "Stop")["Stop"]
    generator = torch.Generator().manual_seed(p)
    for _ in range(20):
        values = torch.randint(6, (12,), generator=generator).tolist()  # many ties
        mine, theirs = stop(p), EarlyStopping(p)
        assert follow(mine, values)[0] == follow(theirs, values)[0]
        assert (mine.i, mine.v, mine.j) == (theirs.best_step, theirs.best_value, theirs.waited)
        assert torch.equal(mine.theta["weight"], theirs.weights["weight"])


# --- exercises -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [(3, "an equal value"), (4, "reaches 4 at the 1.79"), (350, "counted in evaluations"), (2, "best one"), (9, "is not it")],
)
def test_patience_by_hand(answer, words):
    assert check.patience_by_hand(5).passed and check.patience_by_hand(...).passed is None
    feedback = check.patience_by_hand(answer)
    assert feedback.passed is False and words in feedback.message
    values = [2.30, 1.90, 1.75, 1.80, 1.78, 1.75, 1.79, 1.70, 1.72, 1.81]
    kept = [(stopping := EarlyStopping(p), follow(stopping, values, 50))[0].best_step for p in (3, 4, 5)]
    assert kept == [100, 100, 350]


@pytest.mark.parametrize(("mistake", "words"), [*check.MISTAKES.items()])
def test_stop_at_names_the_mistake(mistake, words):
    feedback = check.stop_at(partial(check._stop, mistake=mistake))
    assert feedback.passed is False and words in feedback.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda values, p, delta: check._stop(values, p, delta)[::-1], "first the position"),
        (lambda values, p, delta: tuple(i + 1 for i in check._stop(values, p, delta)), "from 0"),
        (lambda values, p, delta: min(values), "return two positions"),
        (lambda values, p, delta: (0, 1), "is right, and (0, 1) came"),
        (lambda values, p: (0, 1), "TypeError"),
    ],
)
def test_stop_at(answer, words):
    assert check.stop_at(check._stop).passed and check.stop_at(lambda values, p, delta: ...).passed is None
    feedback = check.stop_at(answer)
    assert feedback.passed is False and words in feedback.message


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (0.325, "that is ε"),
        (0.971, "in bits"),
        (0.7271, "q = 0.75"),
        (0.984, "q = 0.9; let q move"),
        (0.6, "best q"),
        (0.511, "tails"),
        (6.73, "their mean"),
        (1.0, "is not it"),
    ],
)
def test_coin(answer, words):
    assert check.coin(0.6730).passed and check.coin(...).passed is None
    feedback = check.coin(answer)
    assert feedback.passed is False and words in feedback.message


def up(n, b):
    return -(-n // b)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda i, n, v, b: i, "as many steps"),
        (lambda i, n, v, b: round(i * (n + v) / n), "count batches, not examples"),
        (lambda i, n, v, b: round(i * up(v, b) / up(n, b)), "subtrain and validation together"),
        (lambda i, n, v, b: round(i * up(n, b) / up(n + v, b)), "upside down"),
        (lambda i, n, v, b: round(i * (up(n, b) + up(v, b)) / up(n, b)), "add the examples first"),
        (lambda i, n, v, b: round(i * ((n + v) // b) / (n // b)), "round the batches of a pass up"),
        (lambda i, n, v, b: i * up(n + v, b) // up(n, b), "nearest whole number"),
        (lambda i, n, v, b: i * up(n + v, b) / up(n, b), "whole number of steps"),
        (lambda i, n, v, b: 7, "yours are 7"),
    ],
)
def test_as_long(answer, words):
    assert check.as_long(lambda i, n, v, b: round(i * up(n + v, b) / up(n, b))).passed
    assert check.as_long(lambda i, n, v, b: ...).passed is None
    feedback = check.as_long(answer)
    assert feedback.passed is False and words in feedback.message


GAIN, NONE = estimate([0.08, 0.07, 0.09]), estimate([-0.01, 0.01, 0.0])


@pytest.mark.parametrize("checker", [check.clean_labels, check.hold_out_less])
def test_predictions(checker):
    assert "'gone', as you predicted" in checker(("gone", GAIN, NONE)).message
    assert "'smaller', you predicted 'larger'" in checker(("larger", GAIN, estimate([0.02, 0.021]))).message
    assert "'larger', as you" in checker(("larger", GAIN, estimate([0.2, 0.21]))).message
    assert checker((..., GAIN, ...)).passed is None
    for answer, words in (
        (("less", GAIN, NONE), "'less' came"),
        (("gone", GAIN, GAIN), "the same"),
        (("gone", estimate([-0.08, -0.07]), NONE), "subtract"),
        (("gone", 0.1, 0.2), "what `difference` returns"),
    ):
        assert checker(answer).passed is False and words in checker(answer).message


# --- the page on weight decay ----------------------------------------------------------------------------------------


def page() -> dict:
    """The functions of the page's formulas, and the solution of the exercise on them, without its experiments."""
    namespace = {"torch": torch}
    for cell in pages.code_cells(pages.read(ROOT / "chapters/early-stopping/as-weight-decay.ipynb")):
        for name in ("share_of_steps", "matched", "matched_steps"):
            if f"def {name}(" in cell and "...\n" not in cell:
                start = cell.index("def ")  # of the cell only its functions, not what it does with them
                exec("\n\n".join(part for part in cell[start:].split("\n\n\n") if part.startswith("def ")), namespace)
    return namespace


def test_the_pages_shares_are_descent_and_ridge_on_a_diagonal_loss():
    functions, h = page(), torch.tensor([2.0, 0.7, 0.01], dtype=torch.float64)
    w = torch.zeros(3, dtype=torch.float64)
    for _ in range(25):
        w = w - 0.3 * h * (w - 1)
    torch.testing.assert_close(functions["share_of_steps"](h, 0.3, 25), w)
    ridge = functions["share_of_penalty"](h, 0.4)
    torch.testing.assert_close(h * (ridge - 1) + 0.4 * ridge, torch.zeros_like(h))


def test_the_pages_exact_penalty_and_exact_steps_undo_each_other():
    functions, h = page(), torch.tensor([1.5, 0.3, 0.02], dtype=torch.float64)
    for tau in (1, 7, 40):
        alpha = functions["matched"](h, 0.2, tau)
        torch.testing.assert_close(functions["share_of_penalty"](h, alpha), functions["share_of_steps"](h, 0.2, tau))
        torch.testing.assert_close(functions["matched_steps"](h, 0.2, alpha), torch.full_like(h, tau))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (2000, "you took λ for α"),
        (4000, "twice λ and not half"),
        (200, "that is 1/λ"),
        (100, "that is 1/α"),
        (10, "you multiplied by ε"),
        (20, "and took λ for α"),
        (0.001, "that is εα"),
        (900, "900 is not it"),
        ("many", "a finite number"),
    ],
)
def test_steps_by_hand(answer, words):
    assert check.steps_by_hand(1000).passed and check.steps_by_hand(...).passed is None
    feedback = check.steps_by_hand(answer)
    assert feedback.passed is False and words in feedback.message


def right(h, rate, alpha, curvature=1.0):
    safe = torch.where(h == 0, 1, h)
    return torch.where(h == 0, 1 / (rate * alpha), -torch.log1p(safe / (curvature * alpha)) / torch.log1p(-rate * safe))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda h, rate, alpha: torch.full_like(h, 1 / (rate * alpha)), "that is the approximation"),
        (lambda h, rate, alpha: torch.log1p(h / alpha) / (rate * h), "you replaced log(1 − εh)"),
        (lambda h, rate, alpha: -h / alpha / torch.log1p(-rate * h), "you replaced log(1 + h/α)"),
        (lambda h, rate, alpha: -right(h, rate, alpha), "the sign"),
        (lambda h, rate, alpha: torch.log(h / (h + alpha)) / torch.log1p(-rate * h), "you forgot the one minus"),
        (lambda h, rate, alpha: h / (h + alpha), "not a number of steps"),
        (lambda h, rate, alpha: 1 / right(h, rate, alpha), "upside down"),
        (lambda h, rate, alpha: right(h, rate, alpha, curvature=2.0), "not 2α"),
        (lambda h, rate, alpha: right(h, rate, alpha).round(), "do not round"),
        (lambda h, rate, alpha: -torch.log1p(h / alpha) / torch.log1p(-rate * h), "h = 0 gives 0/0"),
        (lambda h, rate, alpha: torch.where(h == 0, 0, right(h, rate, alpha)), "should give 50; yours is 0"),
        (lambda h, rate, alpha: right(h, rate, alpha) + 1, "should give"),
        (lambda h, rate, alpha: right(h, rate, alpha).sum(), "a tensor of the shape of h"),
        (lambda h, rate, alpha: h.mul_(2), "changes its input"),
    ],
)
def test_matched_steps(answer, words):
    assert check.matched_steps(right).passed and check.matched_steps(page()["matched_steps"]).passed
    assert check.matched_steps(lambda h, rate, alpha: ...).passed is None
    feedback = check.matched_steps(answer)
    assert feedback.passed is False and words in feedback.message


def test_momentum():
    slow, fast = estimate([500.0, 560.0, 530.0]), estimate([50.0, 56.0, 53.0])
    assert "'a tenth', as you predicted" in check.momentum(("a tenth", slow, fast)).message
    same = check.momentum(("a third", slow, estimate([510.0, 550.0, 520.0])))
    assert same.passed and "'the same', you predicted 'a third'" in same.message
    assert "'a third'" in check.momentum(("the same", slow, estimate([170.0, 180.0, 190.0]))).message
    assert check.momentum((..., slow, fast)).passed is None and check.momentum(("a tenth", slow, ...)).passed is None
    for answer, words in (
        (("a tenth", fast, slow), "without momentum you needed"),
        (("a tenth", slow, estimate([2000.0, 2100.0])), "give the run without momentum first"),
        (("a tenth", slow, estimate([0.0, 0.1])), "is no number of steps"),
        (("a half", slow, fast), "predict one of"),
        (("a tenth", slow, 50.0), "what `difference` returns"),
        (("a tenth", slow, slow), "the same"),
    ):
        feedback = check.momentum(answer)
        assert feedback.passed is False and words in feedback.message
