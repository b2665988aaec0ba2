"""The link that runs a page: with and without a repository to point Colab at."""

from types import SimpleNamespace

import pytest
from conftest import ROOT

pytest.importorskip("sphinx", reason="the book's tools are not installed")
pytest.importorskip("pybtex", reason="the book's tools are not installed")

from regbook.press import html, pages


def rendered(repository: str, page: str = "chapters/start/workbench", suffix: str = ".ipynb") -> str:
    config = SimpleNamespace(html_theme_options={"repository_url": repository}, published_branch="gh-pages")
    app = SimpleNamespace(config=config, env=SimpleNamespace(doc2path=lambda name: f"{name}{suffix}"))
    context = {"body": "<h1>Title</h1><p>Text.</p>"}
    html.link_to_run(app, page, "page.html", context, doctree=object())
    return context["body"]


def test_without_a_repository_there_is_a_download_and_no_colab():
    body = rendered("")
    assert '<a href="../../portable/start/workbench.ipynb" download>' in body and "colab" not in body
    assert body.index("</h1>") < body.index("Run this page") < body.index("Text.")


@pytest.mark.parametrize(
    "url", ["https://github.com/owner/book", "https://github.com/owner/book.git", "https://github.com/owner/book/"]
)
def test_with_a_repository_colab_opens_the_published_notebook(url):
    wanted = "https://colab.research.google.com/github/owner/book/blob/gh-pages/portable/start/workbench.ipynb"
    assert f'<a href="{wanted}">' in rendered(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/executablebooks/jupyter-book",
        "https://gitlab.com/owner/book",
        "https://github.com/owner",
        "https://example.org",
    ],
)
def test_an_address_that_colab_cannot_open_gets_no_link(url):
    assert "colab" not in rendered(url) and "download" in rendered(url)


def test_pages_without_code_have_no_link():
    assert "Run this page" not in rendered("https://github.com/owner/book", "index", ".md")


@pytest.mark.parametrize(
    ("base", "image"),
    [("", "../../_static/social.png"), ("https://example.org/book/", "https://example.org/book/_static/social.png")],
)
def test_a_social_card_has_a_title_and_a_picture_that_exists(base, image):
    app = SimpleNamespace(config=SimpleNamespace(html_baseurl=base, html_title="Book"))
    context = {"title": 'A "page"'}
    html.add_social_card(app, "chapters/start/workbench", "page.html", context, doctree=None)
    assert '<meta property="og:title" content="A &quot;page&quot;" />' in context["metatags"]
    assert f'<meta property="og:image" content="{image}" />' in context["metatags"]
    assert (ROOT / html.CARD).is_file() and (ROOT / "_static/favicon.png").is_file()


def test_the_built_pages_link_to_their_notebooks():
    built = ROOT / "_build" / "html"
    if not (built / "index.html").is_file():
        pytest.skip("no built book here: run `make book` first")
    for page in (ROOT / "chapters").rglob("*.ipynb"):
        shown = (built / page.relative_to(ROOT)).with_suffix(".html").read_text()
        assert f"portable/{pages.name(page)}.ipynb" in shown
        assert (built / "portable" / f"{pages.name(page)}.ipynb").is_file()
        assert "executablebooks/jupyter-book" not in shown, "a launch button without a repository points there"
