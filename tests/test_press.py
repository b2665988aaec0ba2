import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from regbook.__main__ import main
from regbook.press import pages
from regbook.press.execute import execute
from regbook.press.run import run, write_atomically

CLAIM = "from regbook.claims import claim\nclaim('two is more than one', [2.0, 2.1, 2.2], above=1)"


@pytest.fixture
def book(tmp_path, monkeypatch):
    """An empty book; returns a function that writes a page of code cells into it."""
    (tmp_path / "_toc.yml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("regbook.claims._made", {})

    def write(*cells: str, name: str = "topic/page") -> Path:
        path = tmp_path / "chapters" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell, id=f"c{i}") for i, cell in enumerate(cells)])
        path.write_text(nbformat.writes(notebook))
        return path

    return write


def test_pages_are_found_by_path_and_by_name(book):
    path = book("1")
    assert pages.find("topic/page") == pages.find("chapters/topic/page.ipynb") == path
    assert pages.name(path) == "topic/page" and pages.all_pages() == [path]
    with pytest.raises(pages.PageError, match="page 'nowhere' does not exist; the pages are: topic/page"):
        pages.find("nowhere")
    path.write_text("{")
    with pytest.raises(pages.PageError, match="not a notebook"):
        pages.read(path)


def test_pages_come_in_the_order_of_the_contents(book, tmp_path):
    written = [book("1", name=name) for name in ("b/second", "a/first", "a/unlisted")]
    (tmp_path / "_toc.yml").write_text(
        "root: index\nparts:\n- chapters:\n  - file: chapters/b/second\n  - file: chapters/a/first\n"
    )
    assert pages.all_pages() == written


def test_what_a_page_reaches_through_the_package():
    def names(source):
        return {str(path.relative_to(pages.PACKAGE)) for path in pages.reached(source)}

    assert names("import numpy") == set()
    assert names("from regbook.widgets import scrub") == {"__init__.py", "widgets.py", "figures.py"}
    assert {"data.py", "device.py", "training.py"} <= names("from regbook.experiments import compare")
    assert {"checks/__init__.py", "checks/start.py"} <= names("from regbook.checks import start as check")
    assert "training.py" in names("import regbook.training as t") and "models.py" not in names("import regbook.training as t")


def test_the_digest_sees_code_package_and_record_but_not_prose(book, tmp_path, monkeypatch):
    path = book("from regbook import claims", "1")
    before = pages.digest(path)
    notebook = json.loads(path.read_text())
    notebook["cells"].insert(0, {"cell_type": "markdown", "id": "m", "metadata": {}, "source": "prose"})
    path.write_text(json.dumps(notebook))
    assert pages.digest(path) == before
    notebook["cells"][-1]["source"] = "2"
    path.write_text(json.dumps(notebook))
    changed = pages.digest(path)
    assert changed != before
    (tmp_path / "results" / "topic").mkdir(parents=True)
    (tmp_path / "results" / "topic" / "page.json").write_text("{}")
    assert pages.digest(path) != changed

    copy = tmp_path / "regbook"
    copy.mkdir()
    for file in ("__init__.py", "claims.py"):
        (copy / file).write_text((pages.PACKAGE / file).read_text())
    monkeypatch.setattr(pages, "PACKAGE", copy)
    same = pages.digest(path)
    (copy / "claims.py").write_text((copy / "claims.py").read_text() + "\n# an edit of the package\n")
    assert pages.digest(path) != same


def test_run_prints_last_expressions_and_names_the_cell_that_failed(book, capsys):
    run(book("x = 2", "x + 1", "def f():\n    return x\nf(); None", "x;"))
    assert capsys.readouterr().out.startswith("3\n")
    book("1", "y = 0\n1 / y")
    command = [sys.executable, "-m", "regbook", "run", "topic/page"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1 and '"<topic/page, code cell 2>", line 2' in failed.stderr and "1 / y" in failed.stderr


def test_run_shares_work_with_functions_of_the_page(book):
    run(book(
        "from regbook.experiments import compare\nk = 3",
        "def once(_, seed):\n    import time\n    time.sleep(0.2)\n    yield {'step': 0, 'x': seed * k}",
        "r = compare({'a': {}}, run=once, seeds=30, processes=2)",
        "assert list(r.final('x')['a']) == [3 * i for i in range(30)]",
    ))  # fmt: skip


def test_record_keeps_claims_of_the_full_scale_only(book, tmp_path, monkeypatch, capsys):
    book(CLAIM)
    assert main(["run", "topic/page", "--record"]) == 2 and "--scale full" in capsys.readouterr().err
    for name in ("REGBOOK_SCALE", "REGBOOK_SEED", "REGBOOK_DEVICE", "MPLBACKEND"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # so that what main sets is taken back
    assert main(["run", "topic/page", "--scale", "full", "--seed", "3", "--device", "cpu", "--record"]) == 0
    kept = json.loads((tmp_path / "results" / "topic" / "page.json").read_text())
    assert kept["seed"] == 3 and kept["claims"][0]["here"]["mean"] == pytest.approx(2.1) and kept["device"].startswith("cpu")
    assert {"page", "date", "versions", "seconds"} <= set(kept)


def test_a_broken_claim_is_not_recorded(book, tmp_path, monkeypatch):
    path = book(CLAIM.replace("above=1", "above=3"))
    monkeypatch.setenv("REGBOOK_SCALE", "full")
    with pytest.raises(AssertionError, match="two is more than one"):
        run(path, record=True)
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_execute_stores_outputs_once_and_for_all(book, capsys, monkeypatch):
    monkeypatch.setenv("REGBOOK_SEED", "5")  # what is stored is always of the default seed
    path = book("import os\nprint(os.environ['REGBOOK_SEED'], os.environ['OMP_NUM_THREADS'])", "1 + 1")
    assert pages.is_stale(path) and main(["stale"]) == 1
    assert main(["execute"]) == 0 and main(["stale"]) == 0
    first = path.read_bytes()
    cells = json.loads(first)["cells"]
    assert cells[0]["outputs"][0]["text"] == ["0 1\n"] and cells[1]["outputs"][0]["data"]["text/plain"] == ["2"]
    assert [cell["id"] for cell in cells] == ["c0", "c1"] and "execution" not in cells[0]["metadata"]
    printed = capsys.readouterr().out
    assert "topic/page" in printed and "MiB" in printed and " s, " in printed
    assert json.loads(first)["metadata"]["regbook"]["claims"] == []
    assert main(["execute", "topic/page"]) == 0 and path.read_bytes() == first
    assert main(["execute"]) == 0 and "no page is stale" in capsys.readouterr().out


@pytest.mark.slow
def test_a_failing_page_is_left_as_it_was_and_the_others_go_on(book, capsys):
    good, bad = book("1", name="topic/good"), book("1", "raise ValueError('boo')", name="topic/bad")
    before = bad.read_bytes()
    assert execute([bad, good]) is False
    assert bad.read_bytes() == before and pages.is_stale(bad) and not pages.is_stale(good)
    assert "topic/bad: code cell 2 failed" in capsys.readouterr().out
    assert [path.name for path in bad.parent.iterdir() if path.name.startswith(".")] == []


def test_writing_is_atomic(tmp_path, monkeypatch):
    target = tmp_path / "file"
    write_atomically(target, "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, "new")
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_page_that_does_not_exist_is_an_error_in_words(book, capsys):
    book("1")
    assert main(["run", "nowhere"]) == 2 and "the pages are: topic/page" in capsys.readouterr().err


@pytest.mark.slow
def test_the_scoreboard_shows_what_runs_left_and_nothing_else(book, tmp_path, monkeypatch):
    from regbook import claims
    from regbook.press.scoreboard import board

    path = book(CLAIM)
    notebook = json.loads(path.read_text())
    notebook["cells"].insert(0, {"cell_type": "markdown", "id": "m", "metadata": {}, "source": "# A page"})
    path.write_text(json.dumps(notebook))
    assert board([path]) == "<p>No page has been executed yet.</p>"
    assert execute([path])
    shown = board([path])
    assert '<a href="chapters/topic/page.html">A page</a>' in shown
    assert "two is more than one" in shown and "2.10 ± 0.25" in shown and "not recorded yet" in shown
    kept = json.loads(path.read_text())["metadata"]["regbook"]["claims"]
    kept[0]["here"] |= {"mean": 9.0, "low": 8.0, "high": 10.0}
    recorded = {"claims": kept, "device": "a <GPU>", "date": "2026-01-02"}
    monkeypatch.setattr("regbook.press.scoreboard.record", lambda page: recorded)
    assert "9.0 ± 1.0" in board([path]) and "a &lt;GPU&gt;, 2026-01-02" in board([path])
    assert claims.claims() == []
