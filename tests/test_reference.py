"""The reference: every public module has a page, every function names its section, every page links what it uses."""

import re

import pytest
from conftest import ROOT

pytest.importorskip("sphinx", reason="the book's tools are not installed")

from regbook.press import pages, reference

PAGE = """
from regbook import data, figures as f
from regbook.training import fit as train
import torch
digits = data.digits(n=5)
f.show, train(digits), torch.ones(1)
def run(data): return data.valid
"""
MODULES = [*sorted(path.stem for path in (ROOT / "lib/regbook").glob("[a-z]*.py")), "checks"]
BUILT = ROOT / "_build" / "html"
built = pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="no built book here: run `make book` first")


def test_what_a_page_uses(monkeypatch, tmp_path):
    monkeypatch.setattr(pages, "read", lambda path: {"cells": [{"cell_type": "code", "source": PAGE}]})
    assert reference.uses(tmp_path) == {
        "regbook", "regbook.data", "regbook.data.digits", "regbook.figures", "regbook.figures.show", "regbook.training", "regbook.training.fit",
    }  # fmt: skip


def test_a_helper_that_no_page_calls_belongs_to_the_section_of_its_module(monkeypatch):
    monkeypatch.setattr(reference, "taught", lambda: {"regbook.a": ["one", "two"], "regbook.a.f": ["two"]})
    assert reference.sections("regbook.a.f") == ["two"]
    assert reference.sections("regbook.a.g") == reference.sections("regbook.a.Class.method") == ["one"]
    assert reference.sections("regbook.b.f") == []


def test_every_module_has_a_page():
    listed = set(re.findall(r"file: reference/(\w+)", (ROOT / "_toc.yml").read_text()))
    index = set(re.findall(r"\{doc\}`(\w+)`", (ROOT / "reference/index.md").read_text()))
    assert listed - {"index"} == index == set(MODULES)
    for module in MODULES:
        assert f".. automodule:: regbook.{module}\n" in (ROOT / f"reference/{module}.md").read_text()


@built
@pytest.mark.parametrize("module", MODULES)
def test_every_function_names_a_section(module):
    text = (BUILT / f"reference/{module}.html").read_text()
    entries = re.split(r'<dl class="py (?:function|class|exception)">', text)[1:]
    assert entries
    for entry in entries:
        assert re.search(r'<em>Section:</em> <a class="reference internal" href="\.\./chapters/', entry), entry[:300]


@built
@pytest.mark.parametrize("path", pages.all_pages(), ids=pages.name)
def test_every_page_links_the_functions_that_it_uses(path):
    text = (BUILT / path.relative_to(ROOT)).with_suffix(".html").read_text()
    line = re.search(r'<p class="from-the-package">.*?</p>', text, re.S)[0]
    assert 'reference/experiments.html#regbook.experiments.compare"' in line
    assert line.count("<a ") == line.count("<code") >= 5 and "regbook.checks." not in line
