"""What the tests share: a clean environment, and the full data sets where they are at hand."""

import os
from pathlib import Path

import matplotlib
import pytest
from hypothesis import settings

matplotlib.use("agg")
settings.register_profile("book", deadline=None)  # no test measures time
settings.load_profile("book")
ROOT = Path(__file__).parents[1]
FULL_DATA = os.environ.get("REGBOOK_DATA")  # before the tests hide it


@pytest.fixture(autouse=True)
def default_environment(monkeypatch, tmp_path):
    """Default seed, scale and device; an empty data folder, so that no test reads what lies on this machine by chance."""
    for name in ("REGBOOK_SEED", "REGBOOK_SCALE", "REGBOOK_PROCESSES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REGBOOK_DEVICE", "cpu")
    monkeypatch.setenv("REGBOOK_PROGRESS", "0")
    monkeypatch.setenv("REGBOOK_DATA", str(tmp_path / "data"))


@pytest.fixture
def full_data(monkeypatch) -> Path:
    """The folder of the full data sets; skips without it."""
    if not FULL_DATA or not (Path(FULL_DATA) / "MNIST" / "raw").is_dir():
        pytest.skip("REGBOOK_DATA names no folder with the full MNIST")
    monkeypatch.setenv("REGBOOK_DATA", FULL_DATA)
    return Path(FULL_DATA)
