"""A federated round as ratios, ours ÷ theirs, each pair measured in the same run: `make benchmarks`, or `python benchmarks/federated.py`.

1. FedAvg: ten of 100 clients with 600 examples each train the 2NN (784-200-200-10), one epoch, batches of ten, against the plain
   loop over clients with torch.optim.SGD.
2. FedProx: ten of 30 devices with 50 to 500 examples train a softmax regression, 60 inputs, 20 epochs, batches of ten, against
   the same loop with the proximal term in the loss.
3. The round of 1 against Flower's simulation of it, both without start-up: `--flower PYTHON` names the interpreter of an
   environment of its own, with `flwr[simulation]` and torch. Without it this part is left out.

The pixels are random numbers: they cost what an image costs.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

BATCH, CLIENTS, SAMPLED, RATE = 10, 100, 10, 0.01


def two_nn() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10))


def train_locally(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int, mu: float = 0.0) -> None:
    """What everybody writes."""
    anchors = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for _ in range(epochs):
        for index in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[index]), y[index])
            if mu:
                near = zip(model.parameters(), anchors, strict=True)
                loss = loss + mu / 2 * sum((p - anchor).square().sum() for p, anchor in near)
            loss.backward()
            optimizer.step()


def plain_round(model: nn.Module, clients: list, sampled: int, epochs: int, mu: float = 0.0) -> None:
    start = {name: value.clone() for name, value in model.state_dict().items()}
    total = {name: torch.zeros_like(value) for name, value in start.items()}
    chosen = torch.randperm(len(clients))[:sampled].tolist()
    n = sum(len(clients[k][1]) for k in chosen)
    for k in chosen:
        model.load_state_dict(start)
        train_locally(model, *clients[k], epochs, mu)
        for name, value in model.state_dict().items():
            total[name] += len(clients[k][1]) / n * value
    model.load_state_dict(total)


def images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(CLIENTS * 600, 1, 28, 28, generator=generator)
    return x, torch.randint(10, (len(x),), generator=generator)


def flower_rounds(folder: str, rounds: int) -> None:
    """Runs in Flower's environment: prints the seconds of every round after the first, which starts Ray's workers."""
    from flwr.client import ClientApp, NumPyClient
    from flwr.common import ndarrays_to_parameters
    from flwr.server import ServerApp, ServerAppComponents, ServerConfig
    from flwr.server.strategy import FedAvg
    from flwr.simulation import run_simulation

    file, ends = Path(folder, "round.pt"), []

    class Client(NumPyClient):
        def __init__(self, number: int):
            held = torch.load(file, mmap=True, weights_only=True)  # as lean as Flower allows: nothing is read before it is used
            mine = slice(600 * number, 600 * (number + 1))
            self.x, self.y = held["x"][mine].clone(), held["y"][mine].clone()

        def fit(self, parameters, config):
            torch.set_num_threads(1)  # Ray runs two clients side by side on two cores
            model = two_nn()
            model.load_state_dict({n: torch.from_numpy(p.copy()) for n, p in zip(model.state_dict(), parameters, strict=True)})
            train_locally(model, self.x, self.y, epochs=1)
            return [value.numpy() for value in model.state_dict().values()], len(self.y), {}

    def server(context):
        start = ndarrays_to_parameters([value.numpy() for value in two_nn().state_dict().values()])
        strategy = FedAvg(
            fraction_fit=SAMPLED / CLIENTS, fraction_evaluate=0.0, min_available_clients=CLIENTS, initial_parameters=start,
            evaluate_fn=lambda number, weights, config: ends.append(time.perf_counter()),
        )  # fmt: skip
        return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=rounds + 1))

    run_simulation(
        ServerApp(server_fn=server), ClientApp(client_fn=lambda context: Client(int(context.node_config["partition-id"])).to_client()),
        num_supernodes=CLIENTS, backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )  # fmt: skip
    print(json.dumps([after - before for before, after in pairwise(ends[1:])]))


def against_flower(python: str, clients: list, x: torch.Tensor, y: torch.Tensor, repeats: int) -> dict[str, float]:
    from training import seconds

    from regbook import federated

    model = two_nn()
    one_round = partial(federated.server_round, model, clients, fraction=SAMPLED / CLIENTS, lr=RATE, batch_size=BATCH)
    ours = [seconds(one_round) for _ in range(repeats + 1)][1:]  # before Flower's processes exist
    with tempfile.TemporaryDirectory() as folder:
        torch.save({"x": x, "y": y}, Path(folder, "round.pt"))
        command = [python, __file__, "--flower-worker", folder, "--repeats", str(repeats)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    theirs = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "lowest": min(ours) / max(theirs), "highest": max(ours) / min(theirs),
        "ours_s": statistics.median(ours), "theirs_s": statistics.median(theirs),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--flower", metavar="PYTHON", help="an interpreter with flwr[simulation] and torch")
    parser.add_argument("--flower-worker", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flower_worker:
        return flower_rounds(options.flower_worker, options.repeats)

    from training import ratio

    from regbook import federated
    from regbook.data import Split

    x, y = images()
    clients, model, other = federated.iid(Split(x, y), CLIENTS), two_nn(), two_nn()
    one_round = {"fraction": SAMPLED / CLIENTS, "lr": RATE, "batch_size": BATCH}
    found = {
        "FedAvg, 2NN, against a loop over clients": ratio(
            lambda: federated.server_round(model, clients, **one_round),
            lambda: plain_round(other, clients, SAMPLED, epochs=1),
            options.repeats,
        )
    }
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(1.7, 2.7, 30).int().tolist()
    devices = [Split(torch.randn(n, 60, generator=generator), torch.randint(10, (n,), generator=generator)) for n in sizes]
    linear, same = nn.Linear(60, 10), nn.Linear(60, 10)
    found["FedProx, softmax regression, against a loop over devices"] = ratio(
        lambda: federated.server_round(linear, devices, fraction=1 / 3, lr=RATE, batch_size=BATCH, epochs=20, mu=1.0),
        lambda: plain_round(same, devices, SAMPLED, epochs=20, mu=1.0),
        options.repeats,
    )
    if options.flower:
        found["FedAvg, 2NN, against Flower"] = against_flower(options.flower, clients, x, y, options.repeats)

    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads")
    for name, numbers in found.items():
        print(f"{name}: " + json.dumps({key: round(value, 3) for key, value in numbers.items()}))


if __name__ == "__main__":
    sys.exit(main())
