"""Speed as ratios, each pair measured in the same run: `make benchmarks`, or `python benchmarks/training.py`.

1. A training step of LeNet-300-100 (batch 60, Adam) through `fit`, against a hand-written loop on tensors.
2. An epoch of it on MNIST through `fit`, against the loop of most tutorials (torchvision's MNIST, ToTensor, DataLoader, default
   Adam), and against the same loop over a TensorDataset.
3. Twenty runs of it through `compare`, against the same runs one after another with all threads.

Full MNIST is read from REGBOOK_DATA; without it the small set is used, and repeated to 60,000 examples.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from regbook import data, models
from regbook.data import Data, Split
from regbook.device import processes
from regbook.experiments import compare
from regbook.training import fit

BATCH, RATE = 60, 1.2e-3


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratio(ours, theirs, repeats: int) -> dict[str, float]:
    """Median of ours/theirs over alternating pairs, so that a drift of the machine's speed cancels."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats + 1)][1:]  # the first pair warms up
    ratios = [a / b for a, b in pairs]
    return {
        "ratio": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios),
        "ours_s": statistics.median(a for a, _ in pairs), "theirs_s": statistics.median(b for _, b in pairs),
    }  # fmt: skip


def sixty_thousand() -> Data:
    try:
        os.environ["REGBOOK_SCALE"] = "full"
        full = data.mnist()
        train = Split(torch.cat([full.train.x, full.valid.x]), torch.cat([full.train.y, full.valid.y]))
    except data.DataError:
        os.environ["REGBOOK_SCALE"] = "small"
        full = data.mnist()
        train = Split(full.train.x.repeat(20, 1, 1, 1), full.train.y.repeat(20))
    finally:
        os.environ.pop("REGBOOK_SCALE")
    return Data(full.name, full.labels, train, full.valid, full.test, torch.zeros(len(train.y), dtype=torch.bool))


def bare_loop(mnist: Data, steps: int) -> None:
    """What a careful person writes without this package: tensors, index batches, the fused optimizer."""
    x, y = mnist.train
    model = models.mlp(784)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    order = torch.randperm(len(y)).repeat(-(-steps * BATCH // len(y))).split(BATCH)
    for index in order[:steps]:
        optimizer.zero_grad()
        F.cross_entropy(model(x[index]), y[index]).backward()
        optimizer.step()


def tutorial_epoch(loader: DataLoader) -> None:
    model = models.mlp(784)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    model.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        total += loss.item()


def torchvision_mnist(mnist: Data, root: Path):
    """torchvision's MNIST over the same pixels: its own reader, PIL image and ToTensor, example by example."""
    from torchvision.datasets import MNIST
    from torchvision.transforms import ToTensor

    class SamePixels(MNIST):
        def __init__(self):
            self.data, self.targets = (mnist.train.x[:, 0] * 255).byte(), mnist.train.y
            self.transform, self.target_transform, self.root = ToTensor(), None, root

    return SamePixels()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="steps of each of the twenty runs")
    options = parser.parse_args()
    os.environ["REGBOOK_DEVICE"] = "cpu"
    mnist, adam = sixty_thousand(), partial(torch.optim.Adam, lr=RATE)
    train = partial(fit, data=mnist, batch_size=BATCH, optimizer=adam, evaluate_every=0)

    def ours(**length) -> None:
        train(models.mlp(784), **length)

    found = {"a step, against a bare loop": ratio(lambda: ours(steps=1500), lambda: bare_loop(mnist, 1500), 2 * options.repeats)}
    with tempfile.TemporaryDirectory() as root:
        loader = DataLoader(torchvision_mnist(mnist, Path(root)), BATCH, shuffle=True)
        found["an epoch, against torchvision + DataLoader"] = ratio(
            lambda: ours(epochs=1), lambda: tutorial_epoch(loader), options.repeats
        )
    loader = DataLoader(TensorDataset(*mnist.train), BATCH, shuffle=True)
    found["an epoch, against TensorDataset + DataLoader"] = ratio(
        lambda: ours(epochs=1), lambda: tutorial_epoch(loader), options.repeats
    )

    few = mnist.subset(3000)
    settings = {"batch_size": BATCH, "optimizer": adam, "steps": options.steps}

    def together() -> None:
        compare({"a": {}}, few, seeds=20, model=partial(models.mlp, 784), **settings)

    def one_after_another() -> None:
        for seed in range(20):
            fit(models.mlp(784), few, seed=seed, **settings)

    first = seconds(together)
    found["twenty runs, against one after another"] = ratio(together, one_after_another, options.repeats)
    found["twenty runs with start-up, against one after another"] = {
        "ratio": first / found["twenty runs, against one after another"]["theirs_s"], "ours_s": first,
    }  # fmt: skip

    print(f"torch {torch.__version__}, {platform.machine()}, {processes()} cores, {torch.get_num_threads()} threads")
    for name, numbers in found.items():
        print(f"{name}: " + json.dumps({key: round(value, 3) for key, value in numbers.items()}))


if __name__ == "__main__":
    main()
