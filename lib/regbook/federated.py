"""Federated averaging and its proximal variant, simulated on one machine.

Follows McMahan et al. 2017 (arXiv 1602.05629), Algorithm 1, and Li et al. 2020 (arXiv 1812.06127) for the local objective
F_k(w) + μ/2·‖w − w_t‖² and for stragglers. As in the code of the second paper (litian96/FedProx) clients are sampled
uniformly and averaged by n_k; its Algorithm 2 samples by n_k and takes the plain mean.

A client is a ``data.Split``: the examples that it holds. The clients of a round that train a network of linear layers advance
together, as one batched computation; any other network visits them one after another.

    clients = by_shards(data.train, 100)                      # or iid(data.train, 100)
    rows = federate(net, clients, data, rounds=50, fraction=0.1, epochs=5, batch_size=10, lr=0.1)
"""

import math
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import combinations
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regbook.data import Data, Split
from regbook.device import device
from regbook.training import evaluate

Weights = dict[str, Tensor]

# --- partitions ----------------------------------------------------------------------------------------------------


def iid(split: Split, clients: int, seed: int = 0) -> list[Split]:
    """``split`` shuffled and dealt to ``clients``, whose sizes differ by one example at most."""
    return _deal(split, torch.randperm(len(split.y), generator=torch.Generator().manual_seed(seed)), clients)


def by_shards(split: Split, clients: int, shards: int = 2, seed: int = 0) -> list[Split]:
    """The pathological partition of McMahan et al.: sorted by label, cut into ``clients · shards``, ``shards`` to each client."""
    if not (isinstance(shards, Integral) and shards >= 1):
        raise ValueError(f"shards={shards}; each client gets a whole number of shards, at least 1")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(split.y), generator=generator)  # which examples of a label share a shard is drawn
    order = order[split.y.cpu()[order].argsort(stable=True)]
    pieces = order.tensor_split(clients * shards)
    drawn = torch.randperm(len(pieces), generator=generator)
    return _deal(split, torch.cat([pieces[piece] for piece in drawn]), clients)


def _deal(split: Split, order: Tensor, clients: int) -> list[Split]:
    if not (isinstance(clients, Integral) and 1 <= clients <= len(order)):
        raise ValueError(f"clients={clients}; {len(order)} examples can go to 1..{len(order)} clients, or some would be empty")
    return [Split(split.x[i], split.y[i]) for i in order.to(split.y.device).tensor_split(clients)]


# --- one round -----------------------------------------------------------------------------------------------------


def sample(clients: int, fraction: float, generator: torch.Generator | None = None) -> list[int]:
    """The clients of a round: max(1, ``fraction`` · ``clients``) of them, uniformly and without replacement."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction={fraction}; the share of clients in a round lies in (0, 1]; one client of K is 1/K")
    return torch.randperm(clients, generator=generator)[: max(1, round(fraction * clients))].tolist()


def client_updates(
    model: nn.Module, clients: Sequence[Split], *, lr: float, epochs: int | Sequence[int] = 1, batch_size: int | None = None,
    mu: float = 0.0, seeds: Sequence[int] | None = None, together: bool | None = None,
) -> Weights:  # fmt: skip
    """What M ``clients`` send back, by name, M × the parameter's shape: their weights minus those of ``model``, which stays.

    Each starts from ``model`` and takes plain SGD steps of size ``lr`` on the cross-entropy of its batches plus
    ``mu``/2·‖w − w_t‖², for ``epochs`` (one number, or one each), in batches of ``batch_size`` (None: all it has, B = ∞).
    ``seeds``, one each, order its batches. ``together=None`` batches the clients where ``model`` is linear layers and ReLU;
    True and False insist, and agree to rounding. Floating buffers are sent as well. Raises ``ValueError`` on bad arguments.
    """
    _refuse_clients(clients, range(len(clients)))
    _refuse_labels(model, clients)
    if lr <= 0 or mu < 0:
        raise ValueError(f"lr={lr}, mu={mu}; the learning rate must be positive and the proximal strength not negative")
    epochs = [epochs] * len(clients) if isinstance(epochs, Integral) else list(epochs)
    seeds = range(len(clients)) if seeds is None else list(seeds)
    if not len(epochs) == len(seeds) == len(clients):
        raise ValueError(f"{len(epochs)} epochs and {len(seeds)} seeds for {len(clients)} clients; give one of each a client")
    for name, values in {"epochs": epochs, "batch_size": [1 if batch_size is None else batch_size]}.items():
        if bad := [value for value in values if not (isinstance(value, Integral) and value >= 1)]:
            raise ValueError(f"{name}={bad[0]!r}; it must be a whole number, at least 1")
    layers = _linear_layers(model)
    if together and layers is None:
        raise ValueError("together=True needs a model of nn.Flatten, nn.Linear with bias, and nn.ReLU between; leave it out")
    orders = [_order(len(c.y), batch_size or len(c.y), e, s) for c, e, s in zip(clients, epochs, seeds, strict=True)]
    if layers is None or together is False:
        return _one_by_one(model, clients, orders, lr, mu)
    return _side_by_side(layers, clients, orders, lr, mu)


def aggregate(updates: Weights, sizes: Sequence[int], names: Sequence | None = None) -> Weights:
    """Σ_k n_k u_k / Σ_k n_k: the mean of ``updates`` (M × … by name), weighted by ``sizes``; ``names`` are the clients'.

    The order of the clients does not change a bit of it: they are added in an order of their own values. A client whose
    update is not finite is left out, with a ``UserWarning`` that names it; ``FloatingPointError`` where none is left.
    """
    n, names = [float(size) for size in sizes], list(range(len(sizes))) if names is None else list(names)
    totals = sum(u.flatten(1).sum(1, dtype=torch.double) for u in updates.values()).tolist()  # NaN or infinite if any entry is
    if not len(n) == len(names) == len(totals) > 0 or min(n) <= 0:
        raise ValueError(f"sizes={list(sizes)} for {len(totals)} updates; give one positive number of examples a client")
    order = sorted((k for k in range(len(n)) if math.isfinite(totals[k])), key=lambda k: (n[k], totals[k]))
    if refused := [names[k] for k in range(len(n)) if k not in order]:
        if not order:
            raise FloatingPointError(f"the updates of all clients, {refused}, are NaN or infinite; a smaller lr may help")
        warnings.warn(f"client {refused}: NaN or infinite update refused; the round goes on without it", stacklevel=2)

    def mean(u: Tensor) -> Tensor:
        total = torch.zeros_like(u[0], dtype=torch.double)
        for k in order:
            total.add_(u[k], alpha=n[k])
        return (total / sum(n[k] for k in order)).to(u)

    return {name: mean(u) for name, u in updates.items()}


def server_round(
    model: nn.Module, clients: Sequence[Split], *, fraction: float, lr: float, epochs: int = 1, batch_size: int | None = None,
    mu: float = 0.0, stragglers: float = 0.0, drop: bool = False, generator: torch.Generator | None = None,
    change: Callable[[Weights, list[int]], Weights] | None = None, together: bool | None = None,
) -> list[int]:  # fmt: skip
    """One round, which changes ``model`` in place; returns the clients that took part.

    Of the sampled clients the share ``stragglers`` (rounded down) has time only for a number of epochs drawn from
    1..``epochs``; ``drop=True`` leaves them out, as FedAvg does. ``change(updates, participants)`` may alter what the
    server receives. The same ``generator`` draws the same clients, stragglers and batch orders whatever the other arguments.
    """
    if not 0 <= stragglers < 1:
        raise ValueError(f"stragglers={stragglers}; their share lies in [0, 1), or nobody would finish")
    if not clients:
        raise ValueError("clients=[]; a round needs at least one client")
    chosen = sample(len(clients), fraction, generator)
    seeds = torch.randint(2**31, (len(chosen),), generator=generator).tolist()
    work = torch.randint(1, epochs + 1, (len(chosen),), generator=generator).tolist()
    late = int(stragglers * len(chosen) + 1e-9)  # chosen at random: the first are as good as any
    work[late:] = [epochs] * (len(chosen) - late)
    if drop:
        chosen, seeds, work = chosen[late:], seeds[late:], work[late:]
    _refuse_clients([clients[k] for k in chosen], chosen)
    updates = client_updates(model, [clients[k] for k in chosen], lr=lr, epochs=work, batch_size=batch_size, mu=mu, seeds=seeds,
                             together=together)  # fmt: skip
    if change:
        updates = change(updates, chosen)
    mean = aggregate(updates, [len(clients[k].y) for k in chosen], names=chosen)
    state = model.state_dict()
    with torch.no_grad():
        for name, step in mean.items():
            state[name].add_(step)
    return chosen


def federate(
    model: nn.Module, clients: Sequence[Split], data: Data, *, rounds: int, seed: int = 0, evaluate_every: int = 1,
    on_round: Callable[[dict, nn.Module], bool | None] | None = None, **settings,
) -> list[dict]:  # fmt: skip
    """``rounds`` of :func:`server_round` with ``settings``; rows with ``step`` (rounds so far), ``valid_loss``, ``valid_accuracy``.

    Measures ``data.valid`` before the first round and after every ``evaluate_every``; ``on_round(row, model)`` may add to the
    row, and stops where it returns True. The clients of each round and their batch orders depend on ``seed`` alone.
    """
    if not (isinstance(rounds, Integral) and rounds >= 1 and isinstance(evaluate_every, Integral) and evaluate_every >= 1):
        raise ValueError(f"rounds={rounds}, evaluate_every={evaluate_every}; both must be whole numbers, at least 1")
    model, generator, rows = model.to(data.valid.x.device), torch.Generator().manual_seed(seed), []
    for step in range(rounds + 1):
        if step:
            server_round(model, clients, generator=generator, **settings)
        if step % evaluate_every == 0 or step == rounds:
            rows.append({"step": step} | {f"valid_{key}": value for key, value in evaluate(model, *data.valid).items()})
            if on_round and on_round(rows[-1], model):
                break
    return rows


def rounds_to_target(rounds: Sequence[float], accuracy: Sequence[float], target: float) -> float:
    """When the curve, made monotone by its running maximum, crosses ``target``, interpolated; infinity if it never does.

    So McMahan et al. read their tables. ``rounds`` increase; they may as well be bytes.
    """
    best, before = -math.inf, None
    for at, value in zip(rounds, accuracy, strict=True):
        if value >= target:
            return float(at) if before is None else before + (at - before) * (target - best) / (value - best)
        best, before = max(best, value), at
    return math.inf


# --- local training ------------------------------------------------------------------------------------------------


def _order(n: int, batch_size: int, epochs: int, seed: int) -> Tensor:
    """Batches of indices, steps × batch_size; each epoch is a permutation, and where its last batch is short, -1 fills it."""
    steps = math.ceil(n / batch_size)
    order = torch.full((epochs, steps * batch_size), -1)
    order[:, :n] = torch.rand(epochs, n, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return order.view(epochs * steps, batch_size)


def _one_by_one(model: nn.Module, clients: Sequence[Split], orders: Sequence[Tensor], lr: float, mu: float) -> Weights:
    worker = deepcopy(model).train()  # one resident model: each client's weights pass through it
    start = {name: value.clone() for name, value in worker.state_dict().items() if value.is_floating_point()}
    trained = {name: p for name, p in worker.named_parameters() if p.requires_grad}
    parameters, anchors, sent = list(trained.values()), [start[name] for name in trained], []
    for client, order in zip(clients, orders, strict=True):
        worker.load_state_dict(start, strict=False)
        for batch in order:
            index = batch[batch >= 0].to(client.y.device)
            gradients = torch.autograd.grad(F.cross_entropy(worker(client.x[index]), client.y[index]), parameters)
            _step(parameters, gradients, anchors, lr, mu)
        state = worker.state_dict()
        sent.append({name: state[name] - before for name, before in start.items()})
    return {name: torch.stack([update[name] for update in sent]) for name in start}


@torch.no_grad()
def _side_by_side(layers: Weights, clients: Sequence[Split], orders: Sequence[Tensor], lr: float, mu: float) -> Weights:
    """All clients in one batched computation; ``layers`` are weight and bias of each linear layer in turn."""
    # The longest work comes first: at each step those still at work are the first so many, and nobody idles along.
    rank = sorted(range(len(clients)), key=lambda k: -len(orders[k]))
    x = torch.cat([clients[k].x.flatten(1) for k in rank])
    y = torch.cat([clients[k].y for k in rank])
    index, share, active = _padded([orders[k] for k in rank], [len(clients[k].y) for k in rank])
    index, share = index.to(y.device), share.to(x)
    anchors = [v.detach().t()[None] if v.ndim > 1 else v.detach()[None, None] for v in layers.values()]
    stacked = [anchor.repeat(len(clients), 1, 1) for anchor in anchors]  # M × inputs × outputs, as baddbmm takes them
    for step, many in enumerate(active):
        weights = [s[:many] for s in stacked]
        rows = index[step, :many]
        gradients = _gradients(weights, x[rows], y[rows], share[step, :many])
        if mu:
            torch._foreach_lerp_(weights, [a.expand_as(w) for a, w in zip(anchors, weights, strict=True)], lr * mu)
        for weight, bias, (h, g) in zip(weights[::2], weights[1::2], gradients, strict=True):
            weight.baddbmm_(h.mT, g, alpha=-lr)  # gradient and step at once: the gradient of a large layer is never stored
            bias.sub_(g.sum(1, keepdim=True), alpha=lr)
    back = [rank.index(k) for k in range(len(clients))]
    updates = [(s - anchor)[back] for s, anchor in zip(stacked, anchors, strict=True)]
    return {name: u.mT if v.ndim > 1 else u.squeeze(1) for u, (name, v) in zip(updates, layers.items(), strict=True)}


def _gradients(weights: Sequence[Tensor], x: Tensor, y: Tensor, share: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Of each linear layer its input h and the loss's gradient g with respect to its output: the weight's gradient is hᵀg."""
    inputs, h = [x], x
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        h = torch.baddbmm(bias, h, weight)
        inputs.append(h if weight is weights[-2] else h.relu_())
        h = inputs[-1]
    g = h.softmax(2)
    g.scatter_add_(2, y[..., None], torch.full_like(g[..., :1], -1)).mul_(share[..., None])  # cross-entropy: softmax − one-hot
    outputs = [g]
    for weight, h in zip(weights[-2:0:-2], inputs[-2:0:-1], strict=True):
        outputs.append((outputs[-1] @ weight.mT) * (h > 0))
    return list(zip(inputs[:-1], reversed(outputs), strict=True))


@torch.no_grad()
def _step(parameters: Sequence[Tensor], gradients: Sequence[Tensor], anchors: Sequence[Tensor], lr: float, mu: float) -> None:
    """w ← w − lr·(gradient + mu·(w − anchor)), in place."""
    if mu:
        torch._foreach_lerp_(parameters, anchors, lr * mu)
    torch._foreach_add_(parameters, gradients, alpha=-lr)


def _padded(orders: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
    """Indices into the joined examples and each one's share of its batch's mean, steps × M × batch; how many work at each step."""
    shape = (len(orders[0]), len(orders), max(order.shape[1] for order in orders))
    index, first = torch.full(shape, -1), 0
    for k, (order, n) in enumerate(zip(orders, sizes, strict=True)):
        index[: len(order), k, : order.shape[1]] = torch.where(order >= 0, order + first, -1)
        first += n
    real = index >= 0
    share = real.double() / real.sum(2, keepdim=True).clamp(min=1)
    return index.clamp(min=0), share, real[:, :, 0].sum(1).tolist()


def _linear_layers(model: nn.Module) -> Weights | None:
    """The weights of a ``Sequential`` of linear layers with ReLU between, in order; None for any other network."""
    modules = [m for m in model if not isinstance(m, nn.Flatten)] if isinstance(model, nn.Sequential) else [model]
    kinds = [nn.ReLU if number % 2 else nn.Linear for number in range(len(modules))]
    if len(modules) % 2 == 0 or any(type(m) is not kind for m, kind in zip(modules, kinds, strict=True)):
        return None
    if any(m.bias is None for m in modules[::2]) or not all(p.requires_grad for p in model.parameters()):
        return None
    return dict(model.named_parameters())


def _refuse_clients(clients: Sequence[Split], names: Sequence) -> None:
    if not clients:
        raise ValueError("clients=[]; a round needs at least one client")
    for name, (x, y) in zip(names, clients, strict=True):
        if not len(y) or len(x) != len(y):
            raise ValueError(f"client {name} holds {len(x)} inputs and {len(y)} labels; it needs as many, and at least one")
        if x.shape[1:] != clients[0].x.shape[1:]:
            raise ValueError(f"client {name} holds inputs of shape {tuple(x.shape[1:])}, others {tuple(clients[0].x.shape[1:])}")
        if y.dtype != torch.int64 or y.ndim != 1:
            raise ValueError(f"client {name} holds labels of {y.dtype}, shape {tuple(y.shape)}; all need one class number each")


@torch.no_grad()
def _refuse_labels(model: nn.Module, clients: Sequence[Split]) -> None:
    was_training = model.training
    classes = model.eval()(clients[0].x[:1]).shape[1]
    model.train(was_training)
    ends = torch.stack([end for _, y in clients for end in y.aminmax()]).tolist()
    if min(ends) < 0 or max(ends) >= classes:
        raise ValueError(f"labels from {min(ends)} to {max(ends)}; the model tells {classes} classes apart, so 0..{classes - 1}")


# --- compression ---------------------------------------------------------------------------------------------------


def top_k(updates: Weights, share: float) -> Weights:
    """Of each client's d entries, all tensors together, the k = ⌈``share`` · d⌉ of largest magnitude; the others are zero.

    Exactly k also among equals (Aji & Heafield 2017; Stich et al. 2018). ``updates``: M × shape by name.
    """
    flat = torch.cat([u.flatten(1) for u in updates.values()], dim=1)
    kept = flat.abs().topk(_kept(share, flat.shape[1]), dim=1, sorted=False).indices
    parts = torch.zeros_like(flat).scatter_(1, kept, flat.gather(1, kept)).split([u[0].numel() for u in updates.values()], dim=1)
    return {name: part.reshape(u.shape) for part, (name, u) in zip(parts, updates.items(), strict=True)}


def quantize(updates: Weights, bits: int, generator: torch.Generator | None = None) -> Weights:
    """Each entry in ``bits`` bits, and one 32-bit scale a client and tensor; values as the server decodes them.

    From 2 bits on, unbiased: an entry goes to one of the two nearest of the 2^``bits`` − 1 levels between ± the tensor's
    largest magnitude, at random (QSGD, Alistarh et al. 2017, with the largest magnitude for the norm). One bit is biased: the
    sign, zero counting as positive, times the tensor's mean magnitude (Karimireddy et al. 2019). ``generator``: on the CPU.
    """
    _refuse_bits(bits, 16)

    def rounded(u: Tensor) -> Tensor:
        flat = u.flatten(1)
        if bits == 1:
            scale = flat.abs().mean(1, keepdim=True)
            return torch.where(flat < 0, -scale, scale).view(u.shape)
        levels, largest = 2 ** (bits - 1) - 1, flat.abs().amax(1, keepdim=True)
        largest = torch.where(largest > 0, largest, torch.ones_like(largest))
        noise = torch.rand(flat.shape, generator=generator).to(flat)
        # the sum's floor is the upper level with the fraction as its chance
        return (((flat / largest * levels + noise).floor().clamp(max=levels) / levels) * largest).view(u.shape)

    return {name: rounded(u) for name, u in updates.items()}


class ErrorFeedback:
    """Compression with memory, for ``server_round(change=ErrorFeedback(compress))``.

    A client adds to its update what it has not yet sent, e ← (u + e) − C(u + e), and sends C(u + e) (Seide et al. 2014;
    Karimireddy et al. 2019). ``compress`` takes and returns stacked updates; ``residuals`` holds e by client and name.
    The e of a client that is not sampled waits. An update that is not finite passes as it is, and leaves e alone.
    """

    def __init__(self, compress: Callable[[Weights], Weights]):
        self.compress, self.residuals = compress, {}

    def __call__(self, updates: Weights, clients: Sequence[int]) -> Weights:
        wanted = {name: u.clone() for name, u in updates.items()}
        for row, client in enumerate(clients):
            for name, residual in self.residuals.get(client, {}).items():
                wanted[name][row] += residual
        sent = self.compress(wanted)
        left = {name: wanted[name] - sent[name] for name in wanted}
        for row, client in enumerate(clients):
            mine = {name: e[row] for name, e in left.items()}
            if all(e.isfinite().all() for e in mine.values()):
                self.residuals[client] = mine
        return sent


def update_bytes(model: nn.Module, *, share: float | None = None, bits: int = 32) -> int:
    """Bytes of one update of ``model``'s parameters, as one client sends it.

    Dense in 32-bit floats; with ``bits`` below 32 packed, plus a 32-bit scale a tensor; with ``share``, ⌈share · d⌉ values
    of 32 bits, each with its index in 32 bits. The server's model, which travels down, is dense.
    """
    sizes = [p.numel() for p in model.parameters()]
    if share is not None:
        if bits != 32:
            raise ValueError(f"share={share}, bits={bits}; give one of the two: the values of a sparse update have 32 bits")
        return 8 * _kept(share, sum(sizes))
    _refuse_bits(bits, 32)
    return sum(math.ceil(bits * size / 8) for size in sizes) + (4 * len(sizes) if bits < 32 else 0)


def _kept(share: float, entries: int) -> int:
    if not 0 < share <= 1:
        raise ValueError(f"share={share}; the share of the entries that is sent lies in (0, 1]")
    return math.ceil(share * entries - 1e-9)  # 0.28 · 25 is a little over 7 in floating point


def _refuse_bits(bits: int, most: int) -> None:
    if not (isinstance(bits, Integral) and 1 <= bits <= most):
        raise ValueError(f"bits={bits!r}; give a whole number from 1 (signs) to {most}")


# --- data that differ from device to device ------------------------------------------------------------------------


def synthetic(
    alpha: float, beta: float, devices: int = 30, seed: int = 0, *, iid: bool = False, largest: int | None = None
) -> tuple[list[Split], Split]:
    """Synthetic(α, β) of Li et al. 2020: each device's training part, 80 %, and the joint test set, the rest of every device.

    Device k has 60 features x ~ N(v_k, Σ), Σ_jj = j^-1.2, v_k[j] ~ N(B_k, 1), B_k ~ N(0, β), and labels argmax(W_k x + b_k), all
    entries ~ N(u_k, 1), u_k ~ N(0, α). ``alpha`` and ``beta`` are variances and the split is 80/20, as in the paper; its code reads
    standard deviations and splits 90/10. ``iid``: v = 0 and one W, b ~ N(0, 1) for all. As in the code, device k holds
    50 + lognormal(4, 2) examples; ``largest`` bounds that number. One ``seed`` gives every level the same sizes and random
    numbers. Raises ``ValueError`` on bad arguments.
    """
    if not (0 <= alpha < math.inf and 0 <= beta < math.inf):
        raise ValueError(f"alpha={alpha}, beta={beta}; both are variances, finite and not negative")
    if not (isinstance(devices, Integral) and devices >= 1):
        raise ValueError(f"devices={devices!r}; it must be a whole number, at least 1")
    if largest is not None and not (isinstance(largest, Integral) and largest >= 50):
        raise ValueError(f"largest={largest!r}; a device holds at least 50 examples: give a whole number from 50 on, or None")
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.double)

    sizes = 50 + (4 + 2 * normal(devices)).exp().clamp(max=math.inf if largest is None else largest - 50).long()
    u, centre = math.sqrt(alpha) * normal(devices, 1), math.sqrt(beta) * normal(devices, 1)
    v, w, b = centre + normal(devices, 60), u[:, :, None] + normal(devices, 10, 60), u + normal(devices, 10)
    if iid:
        v, w, b = 0 * v, (w - u[:, :, None])[:1].expand_as(w), (b - u)[:1].expand_as(b)
    deviation = torch.arange(1, 61, dtype=torch.double) ** -0.6
    train, test = [], []
    for n, v_k, w_k, b_k in zip(sizes.tolist(), v, w, b, strict=True):
        x = v_k + deviation * normal(n, 60)
        held = Split(x.float().to(device()), (x @ w_k.T + b_k).argmax(1).to(device()))
        train.append(Split(*(part[: round(0.8 * n)] for part in held)))
        test.append(Split(*(part[round(0.8 * n) :] for part in held)))
    return train, Split(*map(torch.cat, zip(*test, strict=True)))


def dissimilarity(model: nn.Module, clients: Sequence[Split]) -> float:
    """Σ_k p_k ‖∇F_k(w) − ∇f(w)‖² with p_k = n_k/n and f = Σ_k p_k F_k: the variance of the clients' gradients, 0 if they agree.

    The paper's E_k weighs clients by p_k; its code takes the plain mean. Gradients are those of training mode.
    """
    steps = client_updates(model, clients, lr=1.0)  # one step of length 1 on all data: minus the gradient
    gradients = torch.cat([steps[name].flatten(1) for name, _ in model.named_parameters()], dim=1).double()
    share = torch.tensor([len(c.y) for c in clients], dtype=torch.double, device=gradients.device)
    share /= share.sum()
    return (share @ (gradients - share @ gradients).square().sum(1)).item()


# --- privacy -------------------------------------------------------------------------------------------------------


def clip(updates: Weights, norm: float) -> Weights:
    """Each client's whole update, all its tensors together, scaled down to the L2 norm ``norm`` where it is longer.

    ``updates`` M × … by name, as :func:`client_updates` returns them. Raises ``ValueError`` unless ``norm`` is positive.
    """
    if not norm > 0:
        raise ValueError(f"norm={norm}; the longest update that may pass must be positive")
    flat = torch.cat([u.reshape(len(u), -1) for u in updates.values()], dim=1)
    shrink = (norm / flat.norm(dim=1)).clamp(max=1)  # an update of length zero gives infinity, and stays
    return {name: u * shrink.view(-1, *[1] * (u.ndim - 1)) for name, u in updates.items()}


def pairwise_masks(seeds: Sequence[Sequence[int]], size: int) -> Tensor:
    """Masks that cancel (Bonawitz et al. 2017): K rows of ``size`` int32, each uniform, whose sum is 0 modulo 2³².

    ``seeds[k][j] == seeds[j][k]`` is what clients k and j share; k adds what it generates, j subtracts it, for k < j.
    """
    if any(seeds[k][j] != seeds[j][k] for k in range(len(seeds)) for j in range(k)):
        raise ValueError("seeds is not symmetric; two clients share one seed, so seeds[k][j] must equal seeds[j][k]")
    masks = torch.zeros(len(seeds), size, dtype=torch.int32)
    for k, j in combinations(range(len(seeds)), 2):
        generator = torch.Generator().manual_seed(seeds[k][j])
        drawn = torch.randint(-(2**31), 2**31, (size,), generator=generator).int()
        masks[k] += drawn
        masks[j] -= drawn
    return masks


def rdp_gaussian(sigma: float, alpha: float, q: float = 1.0) -> float:
    """Rényi divergence of order ``alpha`` that one round may cause: noise of deviation ``sigma`` clipping norms on the sum.

    Each client takes part with probability ``q``, independently (Poisson sampling; a fixed number of clients is another
    mechanism). For q < 1 the order must be whole: Mironov, Talwar & Zhang 2019 (arXiv 1908.10530), section 3.3.
    """
    if not (sigma > 0 and 0 < q <= 1 and alpha > 1):
        raise ValueError(f"sigma={sigma}, alpha={alpha}, q={q}; needed are sigma > 0, alpha > 1 and 0 < q <= 1")
    if q == 1:
        return alpha / (2 * sigma**2)
    if alpha != int(alpha):
        raise ValueError(f"alpha={alpha}; with q < 1 the order must be a whole number")
    k = torch.arange(int(alpha) + 1, dtype=torch.double)
    choose = math.lgamma(alpha + 1) - torch.lgamma(k + 1) - torch.lgamma(alpha - k + 1)
    terms = choose + (alpha - k) * math.log1p(-q) + k * math.log(q) + k * (k - 1) / (2 * sigma**2)
    return terms.logsumexp(0).item() / (alpha - 1)


def epsilon(sigma: float, rounds: int, delta: float, q: float = 1.0) -> float:
    """ε of (ε, ``delta``)-differential privacy after ``rounds`` of noise ``sigma``, for adding or removing one client.

    The smallest over the orders α (fractions too where q = 1) of the bound of Canonne, Kamath & Steinke 2020
    (arXiv 2004.00010, proposition 12). ``sigma`` and ``q`` as in :func:`rdp_gaussian`.
    """
    if not (0 < delta < 1 and rounds >= 1):
        raise ValueError(f"delta={delta}, rounds={rounds}; needed are 0 < delta < 1 and at least one round")
    orders = [*range(2, 257), *([1 + k / 20 for k in range(1, 20)] if q == 1 else [])]
    bounds = [rounds * rdp_gaussian(sigma, a, q) + math.log1p(-1 / a) - math.log(delta * a) / (a - 1) for a in orders]
    return max(0.0, min(bounds))
