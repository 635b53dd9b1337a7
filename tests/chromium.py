"""A real browser for the tests of pages: Debian's Chromium, without a window, driven by Playwright.

Nothing is downloaded. Where there is no Chromium, or no Playwright, a test is skipped with the reason; in CI, where
`CI` is set, it fails.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage")  # as root, and with a small /dev/shm, as in containers
PATIENCE_MS = 20_000  # for what should be there at once, on a machine that is busy with other tests
WIDE, NARROW = (1440, 900), (360, 740)  # CSS pixels: a laptop's window, a small phone
# What is left of A4 at 96 pixels an inch: upright between margins of 15 mm, lying between margins of 12 mm.
UPRIGHT_PX, LYING_PX = 680, 1031

# Elements that end beyond the window's right edge, or begin before its left one, and are in no box of their own that
# scrolls. Figures are looked at as a whole.
_BEYOND = """() => {
  const boxed = (element) => {
    for (let box = element.parentElement; box && box !== document.body; box = box.parentElement)
      if (getComputedStyle(box).overflowX !== "visible") return true;
    return false;
  };
  const found = [];
  const beyond = document.scrollingElement.scrollWidth - innerWidth;
  if (beyond > 0) found.push(`the page is ${beyond} px wider than its window`);
  for (const element of document.body.querySelectorAll(":not(svg *)")) {
    const { left, right, width } = element.getBoundingClientRect();
    if (width && (right > innerWidth + 0.5 || left < -0.5) && !boxed(element))
      found.push(`<${element.localName} class="${element.getAttribute("class") ?? ""}"> from ${left} to ${right}: ` +
        element.textContent.trim().slice(0, 40));
  }
  return found;
}"""


def program() -> str | None:
    """Give the path of a Chromium; None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def absent(why: str) -> NoReturn:
    """Skip the test, or fail it where a browser must not be absent."""
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(f"{why}; in CI it must be there", pytrace=False)
    pytest.skip(why)


@contextmanager
def launched() -> Iterator[Browser]:
    """Start a Chromium, and end it."""
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - slow to import
    except ImportError:
        absent("playwright is not installed (pip install -e '.[test]')")
    path = program()
    if path is None:
        absent("there is no Chromium here (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def window(browser: Browser, path: Path, size: tuple[int, int] = WIDE, script: str = "", **how: Any) -> Iterator[Page]:
    """Open a file in a window of its own; `script` runs before those of the page, `how` is for the context.

    In the end nothing may have been complained of on the console, and nothing asked for but the file itself.
    """
    settings = {"viewport": {"width": size[0], "height": size[1]}, "reduced_motion": "reduce"} | how
    context = browser.new_context(**settings)
    complaints: list[str] = []
    requested: list[str] = []
    try:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        if script:
            context.add_init_script(script)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(path.as_uri())
        yield page
        page.title()  # what is under way is heard of before this is answered
        assert complaints == []
        assert {url for url in requested if not url.startswith(("data:", "blob:"))} == {path.as_uri()}
    finally:
        context.close()


def unfold(page: Page) -> None:
    """Open whatever is folded."""
    page.evaluate("() => document.querySelectorAll('details').forEach((one) => (one.open = true))")


def beyond_the_edge(page: Page) -> list[str]:
    """Say which elements are beyond the window's edge, where no box scrolls to them; folded ones are not seen."""
    return list(page.evaluate(_BEYOND))


def beyond_the_paper(page: Page) -> list[str]:
    """Say which elements are beyond the edge of A4, which is upright but for the tables that sort."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": LYING_PX, "height": 1000})
    lying = beyond_the_edge(page)
    page.add_style_tag(content="#table, details:has(.sortable) { display: none }")
    page.set_viewport_size({"width": UPRIGHT_PX, "height": 1000})
    return [*lying, *beyond_the_edge(page)]
