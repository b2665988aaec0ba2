import io
import json
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

sphinx = pytest.importorskip("sphinx", reason="the book's tools are not installed")

from regbook.press import offline  # noqa: E402  (it imports Sphinx)


@pytest.fixture
def npm(monkeypatch):
    """A stand-in for npm: `npm pack` writes an archive with these files; returns the list of packages asked for."""
    asked = []

    def pack(command, cwd, **_):
        asked.append(command[-1])
        with tarfile.open(Path(cwd) / "made.tgz", "w:gz") as archive:
            for name in (
                "es5/tex-mml-chtml.js",
                "es5/input/tex/extensions/ams.js",
                "es5/other.js",
                "dist/embed.js",
                "dist/a.woff2",
            ):
                member = tarfile.TarInfo(f"package/{name}")
                member.size = len(name)
                archive.addfile(member, io.BytesIO(name.encode()))

    monkeypatch.setattr(offline.shutil, "which", lambda _: "npm")
    monkeypatch.setattr(offline.subprocess, "run", pack)
    return asked


def config():
    return SimpleNamespace(html_static_path=["_static"], mathjax_path="far away", nb_ipywidgets_js={"far": {}})


def test_only_what_pages_need_is_kept_and_fetched_once(npm, tmp_path):
    for _ in range(2):
        made = config()
        offline.serve_from_here(SimpleNamespace(srcdir=tmp_path), made)
    assert npm == ["mathjax@3.2.2", "@jupyter-widgets/html-manager@1.0.15"]
    kept = tmp_path / "_build" / "vendored"
    files = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    assert files == {
        "vendor/mathjax/tex-mml-chtml.js", "vendor/mathjax/input/tex/extensions/ams.js", "vendor/mathjax/package.json",
        "vendor/widgets/embed.js", "vendor/widgets/a.woff2", "vendor/widgets/package.json",
    }  # fmt: skip
    assert made.html_static_path == ["_static", str(kept)] and made.mathjax_path.startswith("vendor/")
    assert list(made.nb_ipywidgets_js) == ["vendor/widgets/embed.js"]


def test_a_new_version_replaces_the_old_one(npm, tmp_path):
    offline.vendor("mathjax@1", r"tex.*", "es5/", tmp_path / "vendor" / "mathjax")
    offline.vendor("mathjax@2", r"other.*", "es5/", tmp_path / "vendor" / "mathjax")
    assert json.loads((tmp_path / "vendor" / "mathjax" / "package.json").read_text()) == {"from": "mathjax@2"}
    assert {path.name for path in (tmp_path / "vendor" / "mathjax").iterdir()} == {"other.js", "package.json"}


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (None, "npm is not installed"),
        (subprocess.CalledProcessError(1, "npm", stderr="npm error\nnetwork unreachable\n"), "unreachable"),
    ],
)
def test_without_npm_the_build_goes_on_and_says_so(failure, words, monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(offline.logger, "info", lambda text, *values, **_: said.append(text % values))
    monkeypatch.setattr(offline.shutil, "which", lambda _: "npm" if failure else None)
    monkeypatch.setattr(offline.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(failure))
    made = config()
    offline.serve_from_here(SimpleNamespace(srcdir=tmp_path), made)
    assert made == config() and len(said) == 1 and words in said[0] and "Install Node.js" in said[0]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_thebe_is_dropped_from_every_page():
    scripts = ["a.js", SimpleNamespace(filename=None, attributes={"body": "const THEBE_JS_URL = 1"}), "_static/sphinx-thebe.js"]
    context = {"script_files": scripts, "css_files": ["book.css", "thebe.css"]}
    offline.drop_thebe(None, "page", "page.html", context, None)
    assert context == {"script_files": ["a.js"], "css_files": ["book.css"]}
