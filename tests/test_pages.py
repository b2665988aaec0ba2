"""What every page of the book must keep: fresh outputs, exercises that work, claims that hold for other seeds, no Jupyter."""

import ast
import json
import os
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from regbook.press import pages

PAGES = sorted((ROOT / "chapters").rglob("*.ipynb"))
page = pytest.mark.parametrize("path", PAGES, ids=[f"{path.parent.name}/{path.stem}" for path in PAGES])


def cells(path, kind="code"):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def tagged(path, tag):
    return [cell for cell in cells(path) if tag in cell["metadata"].get("tags", [])]


def source(cell):
    return "".join(cell["source"])


def shown(cell):
    """What the cell's stored outputs say as text."""
    return "".join("".join(out.get("text", out.get("data", {}).get("text/plain", ""))) for out in cell["outputs"])


def test_the_contents_list_every_page():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = re.findall(r"chapters/[\w/-]+", json.dumps(toc))
    assert len(listed) == len(set(listed))
    written = {
        str(path.relative_to(ROOT).with_suffix("")) for path in (ROOT / "chapters").rglob("*") if path.suffix in (".ipynb", ".md")
    }
    assert set(listed) == written


def test_the_lecture_map_knows_every_section_and_says_what_is_to_come():
    text = (ROOT / "lecture-map.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert rows and all("{doc}" in row or "to come" in row for row in rows)
    linked = set(re.findall(r"\{doc\}`([^`]+)`", text))
    assert linked == {str(path.relative_to(ROOT).with_suffix("")) for path in PAGES}


def test_the_glossary_defines_each_term_and_links_a_section_or_says_that_it_is_to_come():
    (block,) = re.findall(r"```\{glossary\}\n(.+?)\n```", (ROOT / "glossary.md").read_text(), re.S)
    entries = [entry.split("\n") for entry in block.split("\n\n")]
    terms = [lines[0] for lines in entries]
    assert len(terms) >= 70 and terms == sorted(set(terms), key=str.lower)
    sections = {str(path.relative_to(ROOT).with_suffix("")) for path in PAGES}
    for *names, text in entries:
        assert 1 <= len(names) <= 2 and all(re.search(r"[\u4e00-\u9fff]", name) for name in names[1:])
        definition, linked, coming = re.fullmatch(r"  (.+\.) (?:\{doc\}`(\S+)`|\*To come: (\S+)\.\*)", text).groups()
        assert len(definition) > 20
        assert linked in sections if linked else f"chapters/{coming}" not in sections, names[0]


@page
def test_stored_outputs_are_fresh_and_clean(path):
    assert not pages.is_stale(path), "run `make execute` and commit the page"
    outputs = [out for cell in cells(path) for out in cell["outputs"]]
    assert outputs and not [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"]
    assert path.stat().st_size < 1_500_000
    assert not re.search(r"(?<!=)https?://", re.sub(r'"source": \[.*?\]', "", json.dumps(outputs))), "an output asks another host"


@page
def test_the_scoreboard_has_every_claim_of_the_page(path):
    kept = [made["text"] for made in json.loads(path.read_text())["metadata"]["regbook"]["claims"]]
    (table,) = [
        out
        for cell in cells(path)
        for out in cell["outputs"]
        if "full scale" in "".join(out.get("data", {}).get("text/html", ""))
    ]
    assert kept and len(kept) == "".join(table["data"]["text/html"]).count("<tr>") - 1
    assert [line.partition(" — here ")[0] for line in "".join(table["data"]["text/plain"]).split("\n")] == [
        f"✓ {text}" for text in kept
    ]


@page
def test_every_image_has_alternative_text(path):
    for cell in cells(path):
        for out in cell["outputs"]:
            assert not {"image/png", "image/svg+xml", "image/jpeg"} & set(out.get("data", {})), "use figures.show"
            for image in re.findall(r"<img [^>]*>", "".join(out.get("data", {}).get("text/html", ""))):
                assert re.search(r'alt="[^"]{20,}"', image)


@page
def test_a_page_has_what_every_page_has(path):
    text = "\n".join(map(source, cells(path, "markdown")))
    assert "**What you will be able to do.**" in text and "minutes" in text and "## Summary" in text and "lecture" in text
    assert "figures.style()" in source(cells(path)[0])
    code = "\n".join(map(source, cells(path)))
    assert "widgets.scrub(" in code and "compare(" in code
    assert f'claims_table(page="{pages.name(path)}")' in code
    assert not re.search(r"^\s*[%!]", code, re.M), "a magic would need IPython"
    assert max(source(cell).count("\n") + 1 for cell in cells(path)) <= 40


@page
def test_sources_of_claims_and_citations_are_in_the_bibliography(path):
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "references.bib").read_text()))
    used = set(re.findall(r'source="(\w+)"', "\n".join(map(source, cells(path)))))
    for keys in re.findall(r"\{cite:\w+\}`([^`]+)`", "\n".join(map(source, cells(path, "markdown")))):
        used |= {key.strip() for key in keys.split(",")}
    assert used <= known


@page
def test_exercises_stubs_ask_and_solutions_pass(path):
    stubs, checks, solutions = (tagged(path, tag) for tag in ("stub", "check", "solution"))
    text = "\n".join(map(source, cells(path, "markdown")))
    labels = re.findall(r"```\{exercise\} .+\n:label: (\S+)", text)
    assert len(stubs) == len(checks) == len(solutions) == len(labels) >= 3
    assert re.findall(r"```\{solution-start\} (\S+)", text) == labels
    for check, solution in zip(checks, solutions, strict=True):
        assert "○ not attempted yet" in shown(check)
        assert "✓ correct" in shown(solution)


def signature(cell):
    """Names that a cell assigns, and the arguments of the functions that it defines."""
    found = {}
    for node in ast.parse(source(cell)).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = ast.unparse(node.args)
    return found


@page
def test_stub_and_solution_have_the_same_signature(path):
    for stub, solution, check in zip(*(tagged(path, tag) for tag in ("stub", "solution", "check")), strict=True):
        assert signature(stub).items() <= signature(solution).items()
        (checker,) = re.findall(r"check\.(\w+)\(", source(check))
        assert f"check.{checker}(" in source(solution)


ONE_THREAD = {"OMP_NUM_THREADS": "1", "REGBOOK_PROCESSES": "1"}


@pytest.mark.slow
@page
def test_claims_hold_for_another_seed(path):
    command = [sys.executable, "-W", "error", "-m", "regbook", "run", str(path), "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "every claim held" in done.stdout


# Nothing is found that torch, torchvision, NumPy, pandas and matplotlib do not bring themselves.
BARE = """
import sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    missing = {'IPython', 'ipykernel', 'ipywidgets', 'jupyter_client', 'jupyter_core', 'nbclient', 'nbformat', 'traitlets', 'yaml',
               'sklearn', 'skimage', 'scipy', 'mlxtend', 'mnist1d', 'joblib', 'tqdm', 'requests', 'cloudpickle', 'sphinx', 'pybtex'}

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition('.')[0] in cls.missing else super().find_spec(name, path, target)

sys.meta_path = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
from regbook.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_page_runs_where_only_torch_numpy_pandas_and_matplotlib_are():
    command = [sys.executable, "-c", BARE, "run", "chapters/initialization/activation-statistics.ipynb", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "every claim held" in done.stdout
