"""The Sphinx extension of the book: pages that work offline, links to run them and to the reference, the scoreboard."""

import html
import posixpath
import shutil
from pathlib import Path

from sphinx.application import Sphinx

from regbook import __version__
from regbook.press import offline, pages, portable, reference
from regbook.press.scoreboard import Scoreboard

COLAB = "https://colab.research.google.com/github"
CARD = "_static/social.png"
PLACEHOLDER = "executablebooks/jupyter-book"  # what Jupyter Book fills in where _config.yml names no repository


def setup(app: Sphinx) -> dict:
    """Called by Sphinx for an extension of this name."""
    app.add_config_value("published_branch", "gh-pages", "html")
    app.add_directive("scoreboard", Scoreboard)
    app.connect("config-inited", offline.serve_from_here)
    app.connect("html-page-context", offline.drop_thebe, priority=900)
    app.connect("html-page-context", link_to_run)
    app.connect("html-page-context", add_social_card)
    app.connect("autodoc-process-docstring", reference.name_the_section)
    app.connect("doctree-read", reference.list_functions)
    app.connect("build-finished", copy_portable)
    return {"version": __version__, "parallel_read_safe": True, "parallel_write_safe": True}


def link_to_run(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Under the title of a notebook page: the portable notebook and, where the repository is known, Colab."""
    if doctree is None or not str(app.env.doc2path(page)).endswith(".ipynb"):
        return
    notebook = f"portable/{page.removeprefix('chapters/')}.ipynb"
    here = posixpath.relpath(notebook, posixpath.dirname(page))
    links = [f'<a href="{html.escape(here)}" download>download it as one notebook</a>']
    if repository := github(app.config.html_theme_options.get("repository_url", "")):
        url = f"{COLAB}/{repository}/blob/{app.config.published_branch}/{notebook}"
        links.insert(0, f'<a href="{html.escape(url)}">open it on Colab</a>')
    context["body"] = context["body"].replace(
        "</h1>", f'</h1>\n<p class="run-this-page">Run this page: {" · ".join(links)}</p>', 1
    )


def add_social_card(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """What a link to the page shows elsewhere; the picture has a full address once ``html_baseurl`` says where the book is."""
    base = app.config.html_baseurl
    image = posixpath.join(base, CARD) if base else posixpath.relpath(CARD, posixpath.dirname(page))
    card = {"title": context.get("title", ""), "site_name": app.config.html_title, "type": "article", "image": image}
    tags = (f'<meta property="og:{name}" content="{html.escape(text)}" />' for name, text in card.items())
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


def github(url: str) -> str:
    """``owner/name`` of a GitHub address; empty for anything else, since Colab opens no other host's notebooks."""
    host, _, path = url.removeprefix("https://").removesuffix("/").removesuffix(".git").partition("/")
    return path if host == "github.com" and path.count("/") == 1 and path != PLACEHOLDER else ""


def copy_portable(app: Sphinx, failure: Exception | None) -> None:
    """Put the portable notebooks beside the pages that link to them."""
    if failure is None and app.builder.format == "html":
        for made in portable.make(pages.all_pages()):
            target = Path(app.outdir, "portable", made.parent.name, made.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made, target)
