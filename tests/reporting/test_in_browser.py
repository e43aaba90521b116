"""Report, comparison, demo page and site in a real browser: wide and narrow, light and dark."""

from __future__ import annotations

import importlib.util
import itertools
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gancompress.reporting.html import Picture, Slider, Verdict, Width, write_html
from gancompress.reporting.pictures import grid
from gancompress.reporting.tables import before_after
from tests.browser import SCHEMES, WIDTHS, Opened, browser
from tests.reporting.test_demo import Served, by_class
from tests.reporting.test_html import page

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
VIEWS = list(itertools.product(WIDTHS, SCHEMES))
LONG = "a.very.long.name." * 12


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report with all its parts, large pictures and long names."""
    dark, bright = (grid(torch.full((64, 1, 64, 64), v), 16) for v in (-1.0, 1.0))
    rows = [(LONG, "1,234,567,890", "2", "5.00x fewer"), ("MACs", "10", "2", "5.00x fewer")]
    whole = replace(
        page(LONG),
        tables=[before_after(LONG, rows, LONG)],
        pictures=[Picture("samples", dark, LONG)],
        slider=Slider("Teacher and student", dark, bright, caption=LONG),
        verdicts=[
            Verdict("size", "5.2x fewer parameters", LONG, "good"),
            Verdict("quality", "Frechet 0.17", "Allowed: 0.066", "bad"),
            Verdict("speed", "2.0x faster", "spread", "plain"),
        ],
        widths=[Width(LONG, 64, 8), Width("b", 3, 3)],
        notes=[LONG],
        load=f'gc.load("{LONG}")',
        texts=[("config", f"recipe: {LONG}")],
    )
    return write_html(whole, tmp_path_factory.mktemp("page") / "report.html").as_uri()


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_a_report(chrome: Any, report: str, width: int, scheme: str) -> None:
    opened = Opened(chrome, report, width, scheme)
    opened.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    opened.check(report)
    assert opened.asked == [report]
    top = opened.page.evaluate("document.querySelector('.verdicts').getBoundingClientRect().top")
    assert top < 800, "the verdict is the first thing seen"
    behind = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (behind == "rgb(255, 255, 255)") == (scheme == "light")


def test_the_slider_moves_by_keyboard_and_changes_what_is_seen(chrome: Any, report: str) -> None:
    opened = Opened(chrome, report, 1280, "light")
    keys, slider = opened.page.keyboard, opened.page.locator(".slider input")
    for _ in range(20):
        keys.press("Tab")
        if opened.page.evaluate("document.activeElement.type") == "range":
            break
    else:
        raise AssertionError("the slider is not reached by the Tab key")
    found = []
    for key in ("Home", "End", "ArrowLeft"):
        keys.press(key)
        found.append((slider.input_value(), opened.page.locator(".pictures").screenshot()))
    values, shots = zip(*found, strict=True)
    assert values == ("0", "100", "99")
    assert shots[0] != shots[1]
    assert slider.get_attribute("aria-label") is not None


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_the_demo_page(chrome: Any, width: int, scheme: str) -> None:
    served = Served(by_class())
    try:
        own = f"http://127.0.0.1:{served.port}/"
        opened = Opened(chrome, own, width, scheme)
        opened.page.wait_for_selector("#columns section:nth-of-type(2) img")
        first = opened.page.locator("#columns img").first.get_attribute("src")
        opened.check(own)
        assert opened.page.locator("#columns section").count() == 2
        opened.page.select_option("#class", "9")
        opened.page.locator("#next").focus()
        opened.page.keyboard.press("Enter")
        opened.page.wait_for_function(
            "first => document.querySelector('#columns img').src !== first", arg=first
        )
        assert opened.page.locator("#seed").input_value() == "1"
        assert " ms for " in opened.page.locator("#columns").inner_text()
        opened.check(own)
    finally:
        served.close()


def test_the_demo_says_that_its_server_is_gone(chrome: Any) -> None:
    served = Served(by_class())
    opened = Opened(chrome, f"http://127.0.0.1:{served.port}/", 400, "dark")
    opened.page.wait_for_selector("#columns img")
    served.close()
    opened.page.locator("#next").click()
    opened.page.wait_for_selector("#said.error")
    assert "still running" in opened.page.locator("#said").inner_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    assert runpy.run_path(str(ROOT / ".ci" / "site.py"))["build"](folder) == 0
    return folder


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_of_the_site(chrome: Any, site: Path, width: int) -> None:
    """Opened as files, as a reader does who has no network."""
    wrong: list[str] = []
    # That of a server's missing pages asks for its parts at the server's root.
    pages = sorted(file for file in site.rglob("*.html") if file.name != "404.html")
    for number, file in enumerate(pages):
        opened = Opened(chrome, file.as_uri(), width, SCHEMES[number % 2])
        try:
            opened.check(site.as_uri())
        except AssertionError as error:
            wrong.append(f"{file.relative_to(site)}: {str(error).splitlines()[0]}")
        opened.page.close()
    assert not wrong, "\n".join(wrong)
    assert len(pages) > 40


def test_the_search_of_the_site_finds_a_page(chrome: Any, site: Path) -> None:
    opened = Opened(chrome, (site / "index.html").as_uri(), 1280, "light")
    opened.page.locator("[data-md-component=search-query]").fill("reconstruct")
    opened.page.wait_for_selector(".md-search-result__item")
    assert "reconstruct" in opened.page.locator(".md-search-result__list").inner_text().lower()
