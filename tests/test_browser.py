"""The built pages in a real browser: nothing from outside, nothing broken, sliders that move. Needs Chromium and a built book."""

import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest
from conftest import ROOT

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

HTML = ROOT / "_build" / "html"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
NAMES = re.findall(r"(?:file|root): *(\S+)", (ROOT / "_toc.yml").read_text())
NOTEBOOKS = [name for name in NAMES if (ROOT / f"{name}.ipynb").is_file()]

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: install it to test the pages in a browser"),
    pytest.mark.skipif(not (HTML / "index.html").is_file(), reason="no built book here: run `make book` first"),
]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def visit(browser):
    """Open a page of the book from the disk; returns it with the addresses it asked for and what its console said."""
    contexts = []

    def open_page(name: str, width: int = 1440, theme: str = "light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme))
        page = contexts[-1].new_page()
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((HTML / f"{name}.html").as_uri())
        page.evaluate("async () => { await window.MathJax?.startup?.promise }")
        return page, asked, said

    yield open_page
    for context in contexts:
        context.close()


# Equations scroll in their box, so the page stays as narrow as it is; a reader should not have to.
BEYOND_THE_EDGE = """[...document.querySelectorAll('div.math')].filter(
    (box) => box.querySelector('mjx-math')?.getBoundingClientRect().right > innerWidth).map((box) => box.id)"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_loads_alone_and_fits(visit, name, width, theme):
    page, asked, said = visit(name, width, theme)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("html").get_attribute("data-theme") == theme
    for image in page.locator("img").all():
        assert image.get_attribute("alt"), image.get_attribute("src")[:80]
    formulas = page.locator(".math").count()
    if formulas:
        page.wait_for_function("document.querySelectorAll('mjx-container').length > 0")
        assert page.locator("mjx-container").count() >= formulas and page.locator("mjx-merror").count() == 0
        assert page.evaluate(BEYOND_THE_EDGE) == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_each_slider_changes_its_picture_by_keyboard_and_mouse(visit, name):
    page, _, _ = visit(name)
    figures = page.locator("figure.scrub").all()
    assert figures
    for figure in figures:
        slider, images = figure.locator("input[type=range]"), figure.locator("img")

        def shown(figure=figure, images=images):
            visible = [i for i in range(images.count()) if images.nth(i).is_visible()]
            assert len(visible) == 1
            assert figure.locator("output").inner_text() == images.nth(visible[0]).get_attribute("data-value")
            return visible[0]

        slider.focus()
        page.keyboard.press("Home")
        assert shown() == 0
        page.keyboard.press("ArrowRight")
        assert shown() == 1
        box = slider.bounding_box()
        page.mouse.click(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
        assert shown() == images.count() - 1
        assert slider.get_attribute("aria-valuetext") == figure.locator("output").inner_text()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_solutions_and_hints_are_folded(visit, name):
    page, _, _ = visit(name)
    exercises = page.locator("div.exercise").count()
    assert exercises >= 3 and page.locator("div.solution.dropdown").count() == exercises
    assert page.locator("div.solution pre").first.is_hidden()
    page.locator("div.solution.dropdown").first.locator("button, summary, .admonition-title").first.click()
    page.wait_for_function("!!document.querySelector('div.solution pre')?.offsetParent")


@pytest.mark.parametrize("name", NAMES)
def test_internal_links_answer(name):
    page = HTML / f"{name}.html"
    for target in re.findall(r'<a [^>]*href="([^"]+)"', page.read_text()):
        if urlparse(target).scheme or target.startswith("#"):
            continue
        file, fragment = urldefrag(target)
        linked = Path(page.parent, unquote(file)).resolve()
        assert linked.is_file(), target
        if fragment and linked.suffix == ".html":
            assert re.search(rf'id="{re.escape(fragment)}"', linked.read_text()), target


def test_search_finds_a_page(visit):
    page, _, _ = visit("index")
    page.goto((HTML / "search.html").as_uri() + "?q=saturates")
    page.wait_for_selector("#search-results li")
    assert "Activation statistics" in page.locator("#search-results").inner_text()
