"""The scoreboard: every claim of the book in one table, from what executed pages and recorded runs left behind.

``execute`` keeps the claims of a run in the page's metadata and ``run --record`` in ``results/``. Nothing else is read, so no number
stands here that no run produced.
"""

import html
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from regbook.claims import Claim, Estimate, as_html, record
from regbook.press import pages, portable


class Scoreboard(SphinxDirective):
    """```` ```{scoreboard} ```` in a page of Markdown."""

    def run(self) -> list[nodes.Node]:
        """One raw HTML table for each page that has claims."""
        for path in pages.all_pages():
            self.env.note_dependency(str(path))
        return [nodes.raw("", board(pages.all_pages()), format="html")]


def board(paths: list[Path]) -> str:
    """The claims of ``paths`` as HTML, one table a page under a link to it."""
    parts = []
    for path in paths:
        made = stored(path)
        if made:
            link = f'<a href="chapters/{pages.name(path)}.html">{html.escape(portable.title(path.with_suffix("")))}</a>'
            parts.append(f"<h2>{link}</h2>{as_html(made, record(pages.name(path)))}")
    return "\n".join(parts) or "<p>No page has been executed yet.</p>"


def stored(path: Path) -> list[Claim]:
    """The claims that held when ``path`` was last executed."""
    kept = pages.read(path)["metadata"].get("regbook", {}).get("claims", [])
    return [Claim(**(made | {"here": Estimate(**made["here"])})) for made in kept]
