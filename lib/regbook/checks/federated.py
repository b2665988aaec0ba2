"""Feedback for the exercises on federated learning."""

import math

import torch

from regbook.checks import checker, describe, expect, number, prediction_then_run

# --- federated averaging -------------------------------------------------------------------------------------------


@checker
def times_as_many(answer: object) -> str:
    """626 rounds of one epoch against 20 rounds of five: 6.26, to 2 %."""
    value = number(answer)

    def near(wanted: float) -> bool:
        return math.isclose(value, wanted, rel_tol=0.02)

    expect(not near(31.3), "those are the rounds; in each of its rounds FedAvg makes five passes over the client's images.")
    expect(not near(100 / 626), "that is FedAvg's share of FedSGD's work; asked for is the other way round.")
    expect(not near(626 / 6000), "you counted steps; a step on 10 examples is 10 gradients, and one on all 600 is 600.")
    expect(not near(156.5), "five passes are more work for FedAvg, not less: divide by 5.")
    expect(near(6.26), f"{value:.3g} is not it. Write the gradients of a client as rounds · epochs · n_k for both.")
    return "626 passes against 100: here FedAvg saves computing as well, 6.3 times, but far less than communication."


@checker
def two_shards(partition) -> str:
    """Indices of two whole shards of the sorted labels a client, drawn without replacement, for two sizes and two seeds."""
    for n, clients in ((600, 15), (400, 100)):
        random = torch.Generator().manual_seed(n)
        y = torch.arange(n).remainder(10)[torch.randperm(n, generator=random)]
        given = y.clone()
        dealt, again, other = (partition(y, clients, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        place = f"With {n} labels and {clients} clients:"
        expect(torch.equal(y, given), f"{place} your function changed its input.")
        count = len(dealt) if isinstance(dealt, (list, tuple, torch.Tensor)) else describe(dealt)
        expect(count == clients, f"{place} return a list of {clients} tensors, one a client; yours has {count}.")
        joined = torch.cat([torch.as_tensor(part).flatten() for part in dealt])
        _judge_indices(place, joined, y)
        sizes = {len(part) for part in dealt}
        expect(
            sizes == {n // clients}, f"{place} each client gets two shards, {n // clients} indices; yours have {sorted(sizes)}."
        )
        _judge_shards(place, [y[part].tolist() for part in dealt], n // clients // 2)
        same = all(map(torch.equal, dealt, again))
        expect(same, f"{place} two calls with the same generator differ: pass it to `torch.randperm`.")
        expect(
            not all(map(torch.equal, dealt, other)), f"{place} the partition does not depend on the generator: draw the shards."
        )
    return "two sizes agree: every example at one client, in two shards of sorted labels, drawn at random."


def _judge_indices(place: str, joined: torch.Tensor, y: torch.Tensor) -> None:
    expect(not torch.equal(joined.sort().values, y.sort().values), f"{place} these are labels; return indices into `y`.")
    found = len(joined.unique())
    expect(found == len(joined), f"{place} an index comes twice: draw the shards without replacement.")
    expect(found == len(y), f"{place} {found} of {len(y)} examples went to a client; all of them should.")


def _judge_shards(place: str, labels: list[list[int]], size: int) -> None:
    """A shard here lies within one label, since the labels are equally many and a multiple of its size."""
    runs = [len(set(held[:size])) == len(set(held[size:])) == 1 for held in labels]
    if not all(runs):
        few = all(len(set(held)) <= 2 for held in labels)
        expect(few, f"{place} a client holds {max(len(set(held)) for held in labels)} digits: sort by label before you cut.")
        return
    alike = sum(len(set(held)) == 1 for held in labels) / len(labels)
    expect(alike < 0.5, f"{place} most clients hold one digit only: you dealt neighbouring shards; shuffle the shards first.")


@checker
def longer_walks(answer) -> str:
    """(prediction, factor by which the rounds fall from E = 1 to 5, from 5 to 20), as Estimates of a ratio."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    for measured in (before, after):
        expect(measured.mean > 0, f"a ratio of rounds is positive; {measured} came.")
    expect(before.mean > 1, f"from E = 1 to 5 your factor is {before}: divide the rounds before by the rounds after.")
    outcome = "gone" if after.low <= 1 else "larger" if after.mean > before.mean else "smaller"
    verdict = "as you predicted." if prediction == outcome else f"you predicted {prediction!r}. Where do longer walks lead?"
    return f"the rounds fall by {before} from E = 1 to 5 and by {after} from 5 to 20: {outcome!r}, {verdict}"
