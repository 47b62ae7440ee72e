"""Every kind of page in a browser: wide and on a phone, light and dark, by keys, and on paper."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from every_kind import ANSWERS, write_every_kind
from PIL import Image

from testbed.reporting.drawing import DARK, PAPER
from testbed.reporting.reports import report_of

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.timeout(600),
]

KINDS = ("calibration", "devices", "cluster", "evaluation", "experiment", "study", "run", *ANSWERS, "demo", "overview")
WIDTHS = (1400, 400)
THEMES = ("light", "dark")
LEAST_CONTRAST = 4.5  # WCAG 2, AA, for letters of any size
Opened = Callable[..., Any]

# Text whose contrast with what is behind it is too low. An alpha of a colour is not looked at: there is none.
LOW_CONTRAST = """least => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const linear = value => value <= 10.31 ? value / 255 / 12.92 : Math.pow((value / 255 + .055) / 1.055, 2.4);
  const luminance = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const behind = element => {
    for (let part = element; part; part = part.parentElement) {
      const colour = channels(getComputedStyle(part).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, text = texts.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("script")) continue;
    const front = luminance(channels(getComputedStyle(element).color)), back = luminance(behind(element));
    const contrast = (Math.max(front, back) + .05) / (Math.min(front, back) + .05);
    if (contrast < least) found.push(contrast.toFixed(2) + " " + text.slice(0, 40));
  }
  return found;
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_every_kind(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def opened(pages: dict[str, Path]) -> Iterator[Opened]:
    """Opens a page, once for each look; its `complaints` are what its console said."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        @cache
        def look(kind: str, width: int = 1400, theme: str = "light") -> Any:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
            page.complaints = []
            page.on("console", lambda message: page.complaints.append(message.text))
            page.on("pageerror", lambda error: page.complaints.append(str(error)))
            page.goto(pages[kind].as_uri())
            return page

        yield look
        browser.close()


def pixel(screenshot: bytes) -> tuple[int, ...]:
    """In the corner: what the figure is drawn on."""
    return tuple(Image.open(io.BytesIO(screenshot)).convert("RGB").getpixel((2, 2)))


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_whole_at_any_width_and_in_any_light(opened: Opened, kind: str, width: int, theme: str) -> None:
    page = opened(kind, width, theme)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(LOW_CONTRAST, LEAST_CONTRAST) == []
    # Whatever is wider than the page scrolls in a frame of its own that says so.
    hidden = (
        "[...document.querySelectorAll('table, img')].filter(one => one.getBoundingClientRect().right > innerWidth)"
    )
    assert page.evaluate(f"{hidden}.filter(one => !one.closest('.scroll.wide-inside')).length") == 0


@pytest.mark.parametrize("kind", KINDS)
def test_figures_have_a_name_and_room_for_their_letters(opened: Opened, kind: str) -> None:
    page = opened(kind, 400)
    pictures = page.locator("main img")
    assert pictures.count() > 0
    for picture in pictures.all():
        assert len(picture.get_attribute("alt")) > 20
    if kind not in ("demo", "overview"):  # those show pictures, made for another page
        shares = page.evaluate("[...document.querySelectorAll('figure img')].map(one => one.width / one.naturalWidth)")
        assert min((share for share in shares if share), default=1) >= 0.7


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("demo", "overview")])
def test_figures_are_drawn_on_the_colour_of_the_page(opened: Opened, kind: str) -> None:
    for theme, paper in zip(THEMES, (PAPER, DARK[PAPER]), strict=True):
        assert pixel(opened(kind, 1400, theme).locator("figure img:visible").first.screenshot()) == rgb(paper)


@pytest.mark.parametrize("kind", ["demo", "overview"])
def test_pictures_of_other_pages_do_not_glare_on_a_dark_screen(opened: Opened, kind: str) -> None:
    pictures = {theme: opened(kind, 1400, theme).locator("main img").first.screenshot() for theme in THEMES}
    assert min(pixel(pictures["light"])) > 230
    assert max(pixel(pictures["dark"])) < 40


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_keys_reach_everything_that_can_be_used(opened: Opened, kind: str, width: int) -> None:
    page = opened(kind, width)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    wanted = page.evaluate("""() => {
      const usable = "a[href], summary, th > button, button[data-group], .wide-inside, .enlarge, abbr";
      const all = [...document.querySelectorAll(usable)];
      const shown = all.filter(one => one.checkVisibility() && !one.closest("details:not([open]) > :not(summary)"));
      shown.forEach((one, number) => one.dataset.number = number);
      return shown.length;
    }""")
    reached, first, outlined = set(), None, True
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        number, text, outline = page.evaluate("""() => {
          const one = document.activeElement;
          return [one.dataset.number ?? null, one.textContent, getComputedStyle(one).outlineStyle];
        }""")
        first = first or text
        if number is not None:
            reached.add(int(number))
            outlined &= outline != "none"
    assert first == "Skip to the content"
    assert reached == set(range(wanted))
    assert outlined
    assert page.locator("main").count() == page.locator("header").count() == page.locator("footer").count() == 1


def test_a_logarithmic_axis_is_named_so(pages: dict[str, Path]) -> None:
    scaled = 0
    for kind in (kind for kind in KINDS if kind not in ("demo", "overview")):
        folder = pages[kind].parent
        for draw in report_of(folder).gather(folder).figures.values():
            for axes in draw().axes:
                if axes.get_xscale() != "linear":
                    scaled += 1
                    assert "logarithmic" in axes.get_xlabel(), (kind, axes.get_title("left"))
                if axes.get_yscale() != "linear":
                    scaled += 1
                    shared = axes.get_shared_y_axes().get_siblings(axes)  # the first of a row names it
                    assert any("logarithmic" in one.get_ylabel() for one in shared), (kind, axes.get_title("left"))
    assert scaled > 10


@pytest.mark.parametrize("width", WIDTHS)
def test_a_figure_is_enlarged_by_keys_and_by_a_click(opened: Opened, width: int) -> None:
    page = opened("run", width)
    figure = page.locator("figure").first
    figure.locator(".enlarge").focus()
    page.keyboard.press("Enter")
    shown = page.locator("dialog img")
    assert shown.evaluate("one => one.width / one.naturalWidth") == pytest.approx(1.6, rel=0.01)
    assert shown.get_attribute("alt") == figure.locator("img").get_attribute("alt")
    page.keyboard.press("Escape")
    shown.wait_for(state="detached")
    figure.locator("img").click(position={"x": 50, "y": 50})
    assert shown.count() == 1
    page.locator("dialog button").click()
    shown.wait_for(state="detached")
    assert page.complaints == []


@pytest.mark.parametrize("width", WIDTHS)
def test_terms_are_explained_on_the_page_and_where_they_are_first_used(opened: Opened, width: int) -> None:
    page = opened("calibration", width)
    assert {"held out", "KS"} <= set(page.locator(".terms b").all_inner_texts())
    term = page.locator("abbr", has_text="KS")
    term.focus()
    bubble = term.evaluate("one => getComputedStyle(one, '::after').content")
    assert "Kolmogorov-Smirnov" in bubble
    assert "Kolmogorov-Smirnov" in term.get_attribute("title")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    term.blur()
    assert page.locator(".terms").count() == 1
    assert opened("overview", width).locator(".terms b").all_inner_texts() == ["held out", "KS"]


def test_nothing_fades_in_a_wide_table_on_a_phone(opened: Opened) -> None:
    frames = opened("evaluation", 400).locator(".scroll.more")
    assert frames.count() > 0
    for frame in frames.all():
        looks = frame.evaluate("one => [getComputedStyle(one).maskImage, getComputedStyle(one).borderRightStyle]")
        assert looks == ["none", "double"]


def test_a_table_is_sorted_by_keys_and_by_size(opened: Opened) -> None:
    page = opened("study")
    header = page.locator("table.sortable th", has_text="rate_rps")
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    column = [float(text) for text in page.locator("table.sortable td:first-child").all_inner_texts()]
    assert column == sorted(column, reverse=True)
    page = opened("calibration")
    header = page.locator("table.sortable th", has_text="requests").first
    header.locator("button").click()
    header.locator("button").click()
    rows = page.locator("table.sortable").first.locator("tbody td:nth-child(2)").all_inner_texts()
    counts = [int(text.replace("\u202f", "")) for text in rows]
    assert counts == sorted(counts)


def test_paper_is_white_however_dark_the_screen(opened: Opened) -> None:
    page = opened("cluster", 1400, "dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert pixel(page.locator("figure img").first.screenshot()) == rgb(PAPER)
    assert not page.locator("nav").is_visible()
    page.emulate_media(media="screen")
