"""Controlled comparisons: arms × seeds, one table.

An arm says only what differs. For one seed every arm gets the same data, the same initial weights (as far as its layers
are the same) and the same batch order; every run uses one thread, so that results do not depend on how many processes
share the work.
"""

import collections
import os
import random
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch

from regbook import device as where
from regbook.claims import Estimate, estimate
from regbook.data import Data
from regbook.training import evaluate, fit

COLUMNS = ["arm", "seed", "step", "metric", "value"]


class RunFailed(RuntimeError):
    """One or more runs failed; ``results`` holds all the others."""

    def __init__(self, message: str, results: "Results"):
        super().__init__(message)
        self.results = results


@dataclass(frozen=True)
class Results:
    """A tidy table, ``frame``: one row a measurement, with the columns arm, seed, step, metric, value."""

    frame: pd.DataFrame

    def final(self, metric: str) -> pd.DataFrame:
        """The last value of ``metric`` in each run: seeds × arms, in the order of the arms."""
        last = self._of(metric).sort_values("step").groupby(["seed", "arm"]).tail(1)
        return last.pivot(index="seed", columns="arm", values="value")[[a for a in self.arms if a in set(last["arm"])]]

    def at(self, step: int, metric: str) -> pd.DataFrame:
        """The value of ``metric`` at ``step``: seeds × arms."""
        return Results(self.frame[self.frame["step"] == step]).final(metric)

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in order."""
        return list(dict.fromkeys(self.frame["arm"]))

    def curves(self, metric: str) -> pd.DataFrame:
        """``mean``, ``low`` (minimum) and ``high`` (maximum) of ``metric`` by arm and step, over the seeds that got there."""
        return self._of(metric).groupby(["arm", "step"], sort=False)["value"].agg(mean="mean", low="min", high="max")

    def summary(self, *metrics: str) -> pd.DataFrame:
        """Each arm's last values as ``mean ± half of the 95 % interval``; default: every metric."""
        metrics = metrics or tuple(dict.fromkeys(self.frame["metric"]))
        columns = {metric: self.final(metric).apply(lambda runs: str(estimate(runs))) for metric in metrics}
        return pd.DataFrame(columns)

    def difference(self, a: str, b: str, metric: str) -> Estimate:
        """``a`` minus ``b``, paired by seed: the mean difference and its 95 % interval."""
        final = self.final(metric)
        for arm in (a, b):
            if arm not in final:
                raise ValueError(f"arm {arm!r}; the arms are {', '.join(final)}")
        return estimate(final[a] - final[b])

    def _of(self, metric: str) -> pd.DataFrame:
        chosen = self.frame[self.frame["metric"] == metric]
        if chosen.empty:
            raise ValueError(f"metric {metric!r}; measured were {', '.join(dict.fromkeys(self.frame['metric']))}")
        return chosen


def train(data: Data, seed: int, *, model: Callable, select: str = "last", **settings) -> Iterable[dict]:
    """One run of an arm: build ``model()``, ``fit`` it with ``settings``, then read the test set once.

    ``select="last"`` tests the final weights, ``"best"`` those with the smallest validation loss; the row with the test
    results has the step of the weights that were tested. Returns rows with ``step`` and one entry a metric.
    """
    if select not in ("last", "best"):
        raise ValueError(f"select={select!r}; it must be 'last' or 'best'")
    if settings.get("evaluate_every") == 0:
        raise ValueError("evaluate_every=0 leaves nothing to compare; leave it out to evaluate at the end")
    network, best = model(), {"valid_loss": float("inf")}
    inner = settings.pop("on_eval", None)

    def keep_best(row: dict, network) -> bool | None:
        if select == "best" and row["valid_loss"] < best["valid_loss"]:
            best.update(row, weights=deepcopy(network.state_dict()))
        return inner(row, network) if inner else None

    rows = fit(network, data, seed=seed, on_eval=keep_best, **settings)
    if "weights" in best:
        network.load_state_dict(best["weights"])
    step = best.get("step", rows[-1]["step"])
    tested = evaluate(network, *data.test, **{k: v for k, v in settings.items() if k == "loss"})
    return [*rows, {"step": step} | {f"test_{key}": value for key, value in tested.items()}]


def compare(
    arms: Mapping[str, Mapping[str, Any]],
    data: Data | Callable[..., Data] | None = None,
    *,
    seeds: int | Sequence[int] = 5,
    run: Callable[..., Iterable[dict]] = train,
    processes: int | None = None,
    **shared: Any,
) -> Results:
    """Run every arm with every seed and return one table.

    ``arms`` maps a name to the keyword arguments of ``run`` that differ; ``shared`` are those that do not. ``data``, which
    an arm may also set, is a set, a function that makes one when called with ``seed=``, or None where ``run`` needs none.
    ``run(data, seed, **settings)`` yields rows ``{"step": …, metric: value, …}``; the default, :func:`train`, passes its
    settings to ``fit``. Functions may be defined in a notebook, but must not change its variables.
    ``seeds`` is a list, or how many to take from ``regbook.device.seeds``.
    The work is shared by ``processes`` (default: ``REGBOOK_PROCESSES``, the cores) on a CPU, and stays in this one on a GPU.

    Raises :class:`RunFailed`, naming arm and seed, after every other run has ended; it carries their results.
    """
    if not arms:
        raise ValueError("arms={}; name at least one arm")
    seeds = where.seeds(seeds) if isinstance(seeds, Integral) else list(seeds)
    if len(set(seeds)) < len(seeds) or not seeds:
        raise ValueError(f"seeds={seeds}; give one or more distinct seeds")
    jobs = [(arm, seed, run, {"data": data} | shared | dict(own)) for seed in seeds for arm, own in arms.items()]
    workers = 1 if where.device().type != "cpu" else min(processes or where.processes(), len(jobs))
    outcomes = _share(jobs, workers)

    order = {name: position for position, name in enumerate(arms)}
    rows = [row for outcome in outcomes if not isinstance(outcome, str) for row in outcome]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    results = Results(frame.sort_values(["seed", "arm"], key=lambda c: c.map(order) if c.name == "arm" else c, kind="stable",
                                        ignore_index=True))  # fmt: skip
    failures = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if failures:
        others = f"{len(jobs) - len(failures)} of {len(jobs)} runs succeeded; they are in the .results of this error"
        headlines = [failure.partition("\n")[0] for failure in failures[1:]]  # one traceback is enough
        raise RunFailed("\n".join([failures[0], *headlines, others]), results)
    return results


def _run(arm: str, seed: int, run: Callable, settings: dict) -> list[tuple] | str:
    """The tidy rows of one run, or, as text, what went wrong; leaves the caller's random state and threads alone."""
    with _alone(seed):
        try:
            own = {name: value if name == "data" else deepcopy(value) for name, value in settings.items()}  # hooks have state
            data = own.pop("data")
            rows = run(data(seed=seed) if callable(data) else data, seed, **own)
            return [(arm, seed, row["step"], key, float(value)) for row in rows for key, value in row.items() if key != "step"]
        except Exception as error:
            where_it_failed = "".join(traceback.format_exception(error, limit=-2))
            return f"arm {arm!r}, seed {seed}: {type(error).__name__}: {error}\n{where_it_failed}"


@contextmanager
def _alone(seed: int):
    """One thread, and every global generator at ``seed``; both are put back."""
    threads, state = torch.get_num_threads(), (random.getstate(), np.random.get_state())
    with torch.random.fork_rng():
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            random.setstate(state[0])
            np.random.set_state(state[1])


# --- sharing the work ----------------------------------------------------------------------------------------------


def _share(jobs: list[tuple], workers: int) -> list:
    """The outcome of every job, in order. This process works too; each helper thread feeds one worker process.

    A worker takes seconds to start. Nobody waits for it: this process takes job after job meanwhile, so short work
    is done before a worker would have been ready, and long work is shared.
    """
    todo, outcomes = collections.deque(enumerate(jobs)), [None] * len(jobs)
    done = threading.Semaphore(0)

    with _progress(len(jobs)) as tick:

        def work_through(call: Callable) -> None:
            while True:
                try:
                    position, job = todo.popleft()
                except IndexError:
                    return
                outcomes[position] = call(*job)
                tick()
                done.release()

        for number in range(workers - 1):
            threading.Thread(target=_feed_worker, args=(number, work_through), daemon=True).start()
        try:
            work_through(_run)
            for _ in jobs:
                done.acquire()
        except BaseException:  # Ctrl-C: the worker must not go on with work that nobody waits for
            todo.clear()
            _stop_workers()
            raise
    return outcomes


_workers: dict[int, Any] = {}  # one-process pools, kept from one comparison to the next
_opening = threading.Lock()


def _feed_worker(number: int, work_through: Callable) -> None:
    try:
        from joblib.externals import loky  # comes with scikit-learn; it sends functions of a notebook, by value
    except ImportError:
        return  # without it this process does all the work

    def pool():
        with _opening:  # the helper of a short comparison may still be here when the next one starts
            if number not in _workers:
                # loky renews a process that has grown, and says so; nothing is lost by it
                warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
                _workers[number] = loky.ProcessPoolExecutor(max_workers=1, env={"OMP_NUM_THREADS": "1"})
            return _workers[number]

    def call(arm: str, seed: int, *rest) -> list[tuple] | str:
        settings = {name: value for name, value in os.environ.items() if name.startswith("REGBOOK_")}
        try:
            return pool().submit(_run_in_worker, settings, arm, seed, *rest).result()
        except Exception as error:  # the process died (memory, a crash), or an argument cannot be sent to it
            _stop_workers(number)
            return f"arm {arm!r}, seed {seed}: lost with its worker process: {type(error).__name__}: {error}"

    try:
        pool().submit(_run_in_worker, {}, "", 0, None, {}).result()  # imports this package, so the worker is ready
    except Exception:
        return _stop_workers(number)
    work_through(call)


def _run_in_worker(settings: dict[str, str], *job) -> list[tuple] | str:
    for name in [name for name in os.environ if name.startswith("REGBOOK_")]:
        del os.environ[name]
    os.environ.update(settings)
    return _run(*job)


def _stop_workers(*numbers: int) -> None:
    for number in numbers or list(_workers):
        if worker := _workers.pop(number, None):
            worker.shutdown(wait=False, kill_workers=True)


@contextmanager
def _progress(total: int):
    """A bar in a live session; ``REGBOOK_PROGRESS=0`` (whoever stores outputs sets it) or no terminal: none."""
    live = os.environ.get("REGBOOK_PROGRESS") != "0" and (sys.stderr.isatty() or "ipykernel" in sys.modules)
    try:
        from tqdm.auto import tqdm
    except ImportError:
        live = False
    if not live:
        yield lambda: None
        return
    with tqdm(total=total, unit="run", leave=False) as bar:
        yield bar.update
