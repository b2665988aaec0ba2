"""Links between the reference and the pages: which page teaches a function, and which functions a page uses."""

import ast
import functools
import pydoc
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from regbook.press import pages

NOT_LISTED = ("regbook.checks.", "regbook.press.")  # a checker's text gives its exercise away


def uses(path: Path) -> set[str]:
    """Full names of what the code of the page at ``path`` takes from the package: modules, functions, classes."""
    tree = ast.parse("\n".join(pages.code_cells(pages.read(path))))
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "regbook":
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    used = {known[node.id] for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in known}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            used.add(f"{known[node.value.id]}.{node.attr}")
    used = {name for name in used if pydoc.locate(name)}  # a function's own argument may be called data, too
    return used | {name.rpartition(".")[0] for name in used}


@functools.cache
def taught() -> dict[str, list[str]]:
    """The pages that use each name, in the order of the book."""
    found: dict[str, list[str]] = {}
    for path in pages.all_pages():
        for name in sorted(uses(path)):
            found.setdefault(name, []).append(pages.name(path))
    return found


def sections(name: str) -> list[str]:
    """The pages that use ``name``; for a helper that no page calls itself, the first one that uses its module."""
    if name in taught() or "." not in name:
        return taught().get(name, [])
    return sections(name.rpartition(".")[0])[:1]


def name_the_section(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """For autodoc: end the text of each function and class with the section that teaches it."""
    if what in ("function", "class", "exception") and (found := sections(name)):
        first, *others = (f":doc:`/chapters/{page}`" for page in found)
        more = [f"{len(others) - 3} more"] if len(others) > 3 else []
        also = f" Also used in {', '.join(others[:3] + more)}." if others else ""
        lines += ["", f"*Section:* {first}.{also}", ""]


def list_functions(app: Sphinx, document: nodes.document) -> None:
    """End a page with links to the functions of the package that it uses."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    listed = (name for name in uses(path) if name.count(".") > 1 and not name.startswith(NOT_LISTED))
    names = sorted(name for name in listed if not name.rpartition(".")[2].isupper())  # constants have no docstring
    line = nodes.paragraph("", "From the package: ", classes=["from-the-package"])
    for position, name in enumerate(names):
        line += nodes.Text(" · " if position else "")
        link = addnodes.pending_xref(
            "", refdomain="py", reftype="obj", reftarget=name, refdoc=app.env.docname, refwarn=True, refspecific=False
        )
        line += link
        link += nodes.literal("", name.removeprefix("regbook."))
    document.children[0] += line
