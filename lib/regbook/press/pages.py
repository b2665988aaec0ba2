"""What a page is: where it lies, what its code cells say, and what its stored outputs depend on."""

import ast
import hashlib
import json
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


class PageError(ValueError):
    """A page that does not exist, or that cannot be read."""


def book_root() -> Path:
    """The checkout: the folder of ``_toc.yml`` at or above the working folder, else the one that holds this package."""
    for folder in (Path.cwd(), *Path.cwd().parents, PACKAGE.parents[1]):
        if (folder / "_toc.yml").is_file():
            return folder
    raise PageError(f"no _toc.yml at or above {Path.cwd()}: run this inside a checkout of the book")


def all_pages() -> list[Path]:
    """Every notebook under ``chapters/`` in the order of the contents; what they do not list comes last."""
    root = book_root()
    listed = re.findall(r"file: *(\S+)", (root / "_toc.yml").read_text(encoding="utf-8"))
    place = {root / f"{entry}.ipynb": position for position, entry in enumerate(listed)}
    found = (p for p in (root / "chapters").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    return sorted(found, key=lambda path: (place.get(path, len(place)), path))


def find(page: str) -> Path:
    """The notebook of ``page``: a path, or a name such as ``initialization/activation-statistics``."""
    for path in (Path(page), book_root() / "chapters" / f"{page.removesuffix('.ipynb')}.ipynb"):
        if path.is_file():
            return path.resolve()
    known = ", ".join(map(name, all_pages()))
    raise PageError(f"page {page!r} does not exist; the pages are: {known}")


def name(path: Path) -> str:
    """``topic/section``, the name that results and claims use."""
    return f"{path.parent.name}/{path.stem}"


def read(path: Path) -> dict:
    """The notebook as JSON; Jupyter's own libraries are not needed."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        assert notebook["nbformat"] == 4
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise PageError(f"{path} is not a notebook of format 4 ({error})") from error
    return notebook


def code_cells(notebook: dict) -> list[str]:
    """The source of each code cell."""
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def digest(path: Path) -> str:
    """What the stored outputs depend on, as one number: the code, the modules it reaches, the recorded run."""
    cells = code_cells(read(path))
    parts = [*cells, *(file.read_text(encoding="utf-8") for file in reached("\n".join(cells)))]
    record = book_root() / "results" / f"{name(path)}.json"
    parts += [record.read_text(encoding="utf-8")] if record.is_file() else []
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_stale(path: Path) -> bool:
    """Whether the page was never executed, or something that its outputs depend on changed since."""
    return read(path)["metadata"].get("regbook", {}).get("digest") != digest(path)


def reached(source: str) -> list[Path]:
    """The files of this package that ``source`` imports, directly or through another of them, sorted."""
    found: set[Path] = set()
    todo = _imports(source)
    while todo:
        file = todo.pop()
        if file not in found:
            found.add(file)
            todo |= _imports(file.read_text(encoding="utf-8"))
    return sorted(found)


def _imports(source: str) -> set[Path]:
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {file for module in modules for file in _files(module)}


def _files(module: str) -> list[Path]:
    """The file of ``regbook.a.b`` and of every package above it; names that are no module have none."""
    package, *rest = module.split(".")
    if package != "regbook":
        return []
    candidates = []
    for depth in range(len(rest) + 1):
        folder = PACKAGE.joinpath(*rest[:depth])
        candidates += [folder / "__init__.py", folder.with_suffix(".py")]
    return [file for file in candidates if file.is_file()]
