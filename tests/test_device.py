import pytest
import torch

from regbook import device


def test_device_is_the_one_asked_for(monkeypatch):
    assert device.device() == torch.device("cpu")
    for wrong in ("gpu9", "cuda:99"):
        monkeypatch.setenv("REGBOOK_DEVICE", wrong)
        with pytest.raises(ValueError, match=f"REGBOOK_DEVICE='{wrong}'.*cpu, cuda, mps"):
            device.device()


def test_without_a_wish_the_best_device_is_taken(monkeypatch):
    monkeypatch.delenv("REGBOOK_DEVICE")
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device.device().type == best


def test_pick_follows_the_scale(monkeypatch):
    assert device.pick(small=1, full=2) == 1
    monkeypatch.setenv("REGBOOK_SCALE", "full")
    assert device.pick(small=1, full=2) == 2
    monkeypatch.setenv("REGBOOK_SCALE", "huge")
    with pytest.raises(ValueError, match="REGBOOK_SCALE='huge'"):
        device.pick(small=1, full=2)


def test_seed_shifts_share_no_seed(monkeypatch):
    assert device.seeds(3) == [0, 1, 2]
    monkeypatch.setenv("REGBOOK_SEED", "1")
    assert not set(device.seeds(999)) & set(range(999))
    monkeypatch.setenv("REGBOOK_SEED", "one")
    with pytest.raises(ValueError, match="REGBOOK_SEED='one'"):
        device.seeds()
    with pytest.raises(ValueError, match="n=0"):
        device.seeds(0)


def test_processes(monkeypatch):
    assert device.processes() >= 1
    monkeypatch.setenv("REGBOOK_PROCESSES", "0")
    with pytest.raises(ValueError, match="REGBOOK_PROCESSES=0"):
        device.processes()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_data_and_training_on_the_gpu(monkeypatch):
    from regbook import data, models
    from regbook.experiments import compare

    monkeypatch.setenv("REGBOOK_DEVICE", "cuda")
    spirals = data.spirals()
    assert spirals.train.x.is_cuda
    results = compare({"a": {}}, spirals, seeds=2, model=lambda: models.mlp(2, [32], 2), steps=200)
    assert results.final("test_accuracy")["a"].min() > 0.5
