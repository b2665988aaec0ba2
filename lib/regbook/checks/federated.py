"""Feedback for the exercises on federated learning."""

import torch

from regbook import federated
from regbook.checks import checker, describe, expect, expect_number, number, prediction_then_run, trend, verdict

# --- federated averaging -------------------------------------------------------------------------------------------


@checker
def times_as_many(answer: object) -> str:
    """626 rounds of one epoch against 20 rounds of five: 6.26, to 2 %."""
    value = number(answer)

    mistakes = {
        31.3: "those are the rounds; in each of its rounds FedAvg makes five passes over the client's images.",
        100 / 626: "that is FedAvg's share of FedSGD's work; asked for is the other way round.",
        626 / 6000: "you counted steps; a step on 10 examples is 10 gradients, and one on all 600 is 600.",
        156.5: "five passes are more work for FedAvg, not less: divide by 5.",
    }
    expect_number(value, 6.26, mistakes, "Write the gradients of a client as rounds · epochs · n_k for both.", rel_tol=0.02)
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
    said = verdict(prediction, outcome, "Where do longer walks lead?")
    return f"the rounds fall by {before} from E = 1 to 5 and by {after} from 5 to 20: {said}"


# --- communication -------------------------------------------------------------------------------------------------


@checker
def bits_a_weight(answer: object) -> str:
    """398 of 39,760 values, 32 bits each and 16 for the index, a weight of the network: 0.480, to 1 %."""
    value, d = number(answer), 39_760

    mistakes = {
        398 * 32 / d: "you sent the values alone; the server must also learn where they belong.",
        398 * 64 / d: "an index of 32 bits is what the page counts; asked for is the shortest one that is enough.",
        48: "48 bits is what one sent entry takes; share them among all weights of the network.",
        398 * 47 / d: "2 to the power of 15 is 32,768: fifteen bits cannot name 39,760 places.",
        398 * 48 / 8 / d: "those are bytes a weight; asked for are bits.",
    }
    expect_number(
        value, 398 * 48 / d, mistakes, "Multiply the entries sent by the bits of each, and divide by 39,760.", rel_tol=0.01
    )
    return "398 · (32 + 16) ÷ 39,760 = 0.48 bits a weight: less than half of what signs alone take."


def _largest(v: torch.Tensor) -> torch.Tensor:
    return torch.where(v.abs() == v.abs().max(), v, torch.zeros_like(v))


def _signs(v: torch.Tensor) -> torch.Tensor:
    return torch.where(v < 0, -v.abs().mean(), v.abs().mean())


def _coins(v: torch.Tensor) -> torch.Tensor:
    return 2 * v * (torch.rand(v.shape, dtype=v.dtype) < 0.5)


@checker
def feedback_step(step) -> str:
    """(sent, new residual) of one client, for three compressors, one of them random, and one for whom nothing is lost."""
    generator = torch.Generator().manual_seed(0)
    compressors = {"the largest entry": _largest, "one bit": _signs, "no compression": torch.clone, "random entries": _coins}
    for special, compress in compressors.items():
        u, e = torch.randn(2, 12, generator=generator, dtype=torch.float64)
        given, place = (u.clone(), e.clone()), f"With {special}:"
        answer = step(u, e, compress)
        expect(
            torch.equal(u, given[0]) and torch.equal(e, given[1]), f"{place} your function changed its input; make new tensors."
        )
        right = (
            isinstance(answer, tuple | list) and len(answer) == 2 and all(getattr(a, "shape", None) == u.shape for a in answer)
        )
        expect(
            right, f"{place} return two tensors of shape {tuple(u.shape)}, what is sent and the residual; got {describe(answer)}."
        )
        sent, new = answer
        if special == "random entries":
            expect(
                torch.allclose(sent + new, u + e),
                f"{place} what is sent and the residual do not add up to u + e: did you compress twice? Each call draws anew.",
            )
        else:
            _judge_step(place, u, e, compress, sent, new)
    return "four compressors agree: C(u + e) is sent, and what is missing from u + e is kept."


def _judge_step(place, u, e, compress, sent, new) -> None:
    """Name what is wrong with ``sent``, then with ``new``."""
    whole, wanted = u + e, compress(u + e)
    for mistake, why in (
        (compress(u), "the update alone was compressed; the residual must be added before."),
        (compress(u) + e, "the residual was added after compression, so it is sent whole; add it before."),
        (compress(u - e), "the residual was subtracted; it is what the server still has to get."),
        (whole - wanted, "the residual stands where the message should: return what is sent first."),
        (whole, "nothing was compressed."),
    ):
        if not torch.allclose(sent, wanted) and torch.allclose(sent, mistake):
            expect(False, f"{place} {why}")
    expect(torch.allclose(sent, wanted), f"{place} what is sent is not compress(u + e).")
    left = whole - wanted
    for mistake, why in (
        (e, "the residual stays as it was; it must become what is missing now."),
        (u - wanted, "the residual is u − C(u + e); what was missing before is forgotten. Keep (u + e) − C(u + e)."),
        (u - compress(u), "the residual is u − C(u); what was missing before is forgotten. Keep (u + e) − C(u + e)."),
        (whole, "the residual is u + e, although a part of it was sent; subtract that part."),
        (wanted - whole, "the residual has the wrong sign: it is what was wanted minus what was sent."),
        (e + left, "the old residual is counted twice; u + e has it already."),
    ):
        if not torch.allclose(new, left) and torch.allclose(new, mistake):
            expect(False, f"{place} {why}")
    expect(torch.allclose(new, left), f"{place} the residual is not (u + e) − C(u + e).")


@checker
def memory_for_two_bits(answer) -> str:
    """(prediction, loss with minus without error feedback for 1 bit, for 2 bits), as Estimates."""
    prediction, one, two = prediction_then_run(answer, ("helps", "hurts", "no difference"))
    expect(
        one.low < 0,
        f"for one bit your difference is positive ({one}): subtract the loss without error feedback from that with it.",
    )
    outcome = "helps" if two.high < 0 else "hurts" if two.low > 0 else "no difference"
    said = verdict(prediction, outcome, "How large is the error of one message?")
    return f"error feedback changes the loss by {one} with one bit and by {two} with two: {said}"


# --- heterogeneity -------------------------------------------------------------------------------------------------


@checker
def proximal_minimum(answer: object) -> str:
    """argmin of 2/2·(w − 4)² + 3/2·(w + 1)²: 1."""
    value = number(answer)
    mistakes = {
        4: "that is the device's own minimum, with μ = 0; the proximal term pulls it toward w_t.",
        -1: "that is w_t, where the device starts; its own loss pulls it away.",
        5: "that is a·c + μ·w_t; divide by a + μ.",
        1.6: "the term is centred on w_t = -1; you centred it on 0.",
        13 / 7: "the gradient of μ/2·(w − w_t)² is μ·(w − w_t): the half is gone.",
        2: "a belongs to c and μ to w_t; you exchanged them.",
        2.2: "w_t is -1, not 1: its sign got lost.",
        1.5: "the mean of c and w_t is weighted, by a and μ.",
    }
    expect_number(value, 1, mistakes, "At the minimum 2·(w − 4) + 3·(w + 1) = 0.", abs_tol=0.01)
    return "the gradients are 2·(1 − 4) = -6 and 3·(1 + 1) = 6: they cancel."


PULLS = {  # usual mistakes: what is added to the gradient instead of μ·(w − w_t)
    "the term is missing, or pulls to the previous step, where its gradient is 0; it pulls to `start`.": lambda w, s, mu: 0 * w,
    "the sign: the term pushes away from `start`; its gradient is +μ·(w − start).": lambda w, s, mu: -mu * (w - s),
    "the gradient of μ/2·‖w − w_t‖² is μ·(w − w_t): the half is gone.": lambda w, s, mu: mu / 2 * (w - s),
    "the gradient of μ/2·‖w − w_t‖² is μ·(w − w_t), not twice that.": lambda w, s, mu: 2 * mu * (w - s),
    "the term pulls to 0, which is weight decay; it pulls to `start`.": lambda w, s, mu: mu * w,
}


def _descend(gradient, start, steps, lr, mu, pull=lambda w, s, mu: mu * (w - s)):
    w = start
    for _ in range(steps):
        w = w - lr * (gradient(w) + pull(w, start, mu))
    return w


@checker
def proximal_sgd(descend) -> str:
    """Gradient descent on a quadratic plus μ/2·‖w − w_t‖²; several strengths, shapes and lengths."""
    generator = torch.Generator().manual_seed(0)
    for special, shape, steps, mu in (
        ("no step", (3,), 0, 1.0),
        ("one step", (3,), 1, 0.5),
        ("five steps", (3,), 5, 0.5),
        ("μ = 0", (2, 4), 5, 0.0),
        ("a strong μ", (2, 4), 8, 3.0),
    ):
        a, c, start = (torch.randn(shape, generator=generator, dtype=torch.double) for _ in range(3))
        a, given, place = a.abs() + 0.5, start.clone(), f"With {special}:"

        def gradient(w, a=a, c=c):
            return a * (w - c)

        new = descend(gradient, start, steps, 0.1, mu)
        right = isinstance(new, torch.Tensor) and new.shape == start.shape
        expect(right, f"{place} return the weights, a tensor of shape {tuple(shape)}; {describe(new)} came.")
        same = torch.equal(start, given)
        expect(same, f"{place} `start` changed: after `w = start`, `w -= …` works on the same tensor. Write `w = w - …`.")
        asked = gradient, given, steps, 0.1, mu
        if not torch.allclose(new, _descend(*asked)):
            why = next((why for why, pull in PULLS.items() if torch.allclose(new, _descend(*asked, pull))), None)
            expect(False, f"{place} {why or f'after {steps} steps your weights differ from gradient descent on h_k.'}")
    return "five cases agree, and `start` stays as it was."


@checker
def dropped_with_term(answer) -> str:
    """(prediction, loss of dropping minus keeping with μ = 0, the same with μ = 1), as Estimates."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "gone"))
    expect(
        before.mean > 0, f"dropping should cost training loss, and your first gap is {before}: subtract keeping from dropping."
    )
    expect(after.high > 0, f"with μ = 1 your gap is {after}: subtract the loss of keeping from that of dropping.")
    said = verdict(prediction, trend(before, after), "Whose model is the server's now?")
    return f"the gap went from {before} to {after}: {said}"


# --- privacy -------------------------------------------------------------------------------------------------------


@checker
def noise_of_average(answer: object) -> str:
    """1,000 clients, S = 0.5, σ = 8: the average of the updates carries noise of deviation σS/K = 0.004, to 1 %."""
    value = number(answer)
    mistakes = {
        8 * 0.5: "that is the noise of the sum; the average divides by the number of clients.",
        8 * 0.5 / 1000**0.5: "that is the share that each client adds. An average of K such shares is smaller by another √K.",
        8 / 1000: "σ counts in clipping norms: multiply by S.",
        (8 * 0.5 / 1000) ** 2: "that is the variance.",
        8**2 * 0.5 / 1000: "σ is a deviation already; there is nothing to square.",
    }
    expect_number(value, 0.004, mistakes, "What is the deviation of the sum, and of its K-th part?", rel_tol=0.01)
    return "the sum carries σS = 4, and the average a thousandth of it."


def _updates(seed: int) -> dict[str, torch.Tensor]:
    """Four clients: long, short, zero, and long in one tensor only."""
    generator = torch.Generator().manual_seed(seed)
    length = torch.tensor([3.0, 0.2, 0.0, 1.0])
    weight = torch.randn(4, 3, 5, generator=generator) * length.view(4, 1, 1)
    return {"weight": weight, "bias": 0.3 * torch.randn(4, 3, generator=generator) * length.view(4, 1)}


@checker
def clip_updates(clip) -> str:
    """Each client's whole update, scaled down to the norm where it is longer; against ``regbook.federated.clip``."""
    for seed, norm in ((0, 1.0), (1, 0.5), (2, 100.0)):
        updates = _updates(seed)
        before = {name: u.clone() for name, u in updates.items()}
        new, place = clip(updates, norm), f"With norm {norm:g}:"
        expect(all(torch.equal(u, before[n]) for n, u in updates.items()), f"{place} your function changed its input.")
        right = isinstance(new, dict) and all(n in new and new[n].shape == u.shape for n, u in updates.items())
        expect(right, f"{place} return a dictionary with the names and shapes of `updates`; {describe(new)} came.")
        expect(all(u.isfinite().all() for u in new.values()), f"{place} an update of length zero became NaN: it must stay zero.")
        wanted = federated.clip(before, norm)
        if not all(torch.allclose(new[n], u, rtol=1e-4, atol=1e-6) for n, u in wanted.items()):
            _name_the_mistake(place, before, new, norm)
    return "three norms agree: long updates end at the norm, short ones stay, and directions are kept."


def _name_the_mistake(place: str, before: dict, new: dict, norm: float) -> None:
    def same(other: dict) -> bool:
        return all(torch.allclose(new[n], u, rtol=1e-4, atol=1e-6) for n, u in other.items())

    def shrunk(lengths: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return u * (norm / lengths).clamp(max=1).view(-1, *[1] * (u.ndim - 1))

    flat = torch.cat([u.flatten(1) for u in before.values()], dim=1)
    lengths = flat.norm(dim=1)
    expect(
        not same({n: u.clamp(-norm, norm) for n, u in before.items()}), f"{place} you clipped single values; scale the update."
    )
    per_tensor = {n: shrunk(u.flatten(1).norm(dim=1), u) for n, u in before.items()}
    expect(not same(per_tensor), f"{place} you clipped each tensor for itself; one norm, over all tensors of a client.")
    together = {n: shrunk(flat.norm().expand(len(u)), u) for n, u in before.items()}
    expect(not same(together), f"{place} you took one norm over all clients; each client has its own.")
    expect(not same({n: shrunk(lengths**2, u) for n, u in before.items()}), f"{place} the root of the sum of squares is missing.")
    ended = torch.cat([new[n].flatten(1) for n in before], dim=1).norm(dim=1)
    expect(not (ended > lengths * 1.001).any(), f"{place} an update shorter than the norm grew; only shorten.")
    expect(not (ended > norm * 1.001).any(), f"{place} an update is {ended.max():.3g} long after clipping.")
    expect(False, f"{place} {describe(new)} is not the clipped update: multiply by min(1, S/‖u‖).")


@checker
def fewer_clients(answer) -> str:
    """(prediction, accuracy that privacy costs with all clients, with a third of them), as Estimates of a difference."""
    prediction, before, after = prediction_then_run(answer, ("larger", "smaller", "the same"))
    for measured in (before, after):
        expect(abs(measured.mean) <= 1, f"accuracies are shares, so a cost lies between -1 and 1; {measured} came.")
    expect(before.high > 0, f"your cost is negative ({before}): subtract the private from the plain accuracy.")
    apart = before.high < after.low or after.high < before.low
    outcome = ("larger" if after.mean > before.mean else "smaller") if apart else "the same"
    said = verdict(prediction, outcome, "What is σS divided by?")
    return f"the cost went from {before} to {after}: {said}"
