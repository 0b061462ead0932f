"""The report in a real browser, on a desktop and on a phone, with the network cut off."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from analysis.report.page import report
from study.record.results import Results
from tests.analysis.conftest import plan, record
from tests.analysis.report.test_page import GRID, quickstart
from tests.analysis.statistics import test_membership as halves
from tests.analysis.tuning import test_tradeoff as tuned

if TYPE_CHECKING:
    from playwright import sync_api as playwright

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with every kind of part."""
    folder = tmp_path_factory.mktemp("page")
    results = Results.at(folder / "results")
    plan(results, GRID, "quickstart")
    record(results, GRID, quickstart, "quickstart")
    halves.write(results, *halves.TRIALS, sweep="halves")
    tuned.everything(results)
    (folder / "report.html").write_text(report(results), encoding="utf-8")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: "playwright.Browser", file: Path) -> Iterator["playwright.Page"]:
    """The page without network, every complaint and request of which is kept."""
    phone = request.param is PHONE
    context = browser.new_context(viewport=request.param, is_mobile=phone, has_touch=phone, offline=True)
    opened = context.new_page()
    opened.complaints, opened.requests = [], []
    opened.on("console", lambda said: opened.complaints.append(said.text))
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on("request", lambda request: opened.requests.append(request.url))
    opened.goto(file.as_uri())
    yield opened
    context.close()


def test_it_opens_without_an_error_and_asks_for_nothing_else(page: "playwright.Page"):
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == [page.url]


def test_nothing_is_wider_than_the_screen(page: "playwright.Page"):
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_what_is_too_wide_scrolls_in_a_place_of_its_own(page: "playwright.Page"):
    clipped = """[...document.querySelectorAll('table, svg')].filter(each => each.checkVisibility())
        .filter(each => each.getBoundingClientRect().width > document.documentElement.clientWidth)
        .filter(each => getComputedStyle(each.closest('.wide')).overflowX != 'auto').length"""
    assert page.evaluate(clipped) == 0


def test_no_cell_of_a_table_has_a_word_a_line(page: "playwright.Page"):
    narrow = """[...document.querySelectorAll('td')].filter(each => {
        document.querySelectorAll('details').forEach(part => part.open = true)
        const range = document.createRange(); range.selectNodeContents(each)
        const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top))).size
        return lines > 2 && each.textContent.trim().length / lines < 18
    }).map(each => each.textContent)"""
    assert page.evaluate(narrow) == []


def test_texts_are_large_enough_to_read(page: "playwright.Page"):
    small = """[...document.querySelectorAll('p, li, td, th, figcaption, h3, a, code')]
        .filter(each => parseFloat(getComputedStyle(each).fontSize) < 11.5).length"""
    assert page.evaluate(small) == 0
    drawn = """[...document.querySelectorAll('figure svg text')].filter(each => each.textContent.trim())
        .map(each => each.getBoundingClientRect()).filter(box => box.height > 0 && box.width > box.height)
        .map(box => box.height)"""
    heights = page.evaluate(drawn)
    assert heights
    assert min(heights) >= 7


def test_what_was_found_is_the_first_that_is_seen(page: "playwright.Page"):
    box = page.locator(".found").first.bounding_box()
    assert box is not None
    assert box["y"] < 200


def test_a_point_tells_its_value_when_it_is_pointed_at(page: "playwright.Page"):
    point = page.locator("[data-tip]").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    assert box is not None
    assert not page.locator("#tip").is_visible()
    if page.viewport_size == PHONE:
        page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    else:
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert page.locator("#tip").is_visible()
    told = page.evaluate("[...document.querySelectorAll('[data-tip]')].map(each => each.dataset.tip)")
    assert page.locator("#tip").inner_text() in told
    tip = page.locator("#tip").bounding_box()
    assert tip is not None
    assert tip["x"] >= 0
    assert tip["x"] + tip["width"] <= page.viewport_size["width"]


def test_every_link_leads_to_a_part_of_the_page(page: "playwright.Page"):
    lost = """[...document.querySelectorAll('nav a')]
        .filter(each => !document.getElementById(each.getAttribute('href').slice(1))).length"""
    assert page.evaluate(lost) == 0
