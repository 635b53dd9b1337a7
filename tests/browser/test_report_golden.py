"""Reports of runs at the edges: each has the outline that is written down in tests/golden/, and fits its window.

`IOBENCH_UPDATE_GOLDEN=1 python -m pytest tests/browser/test_report_golden.py` writes the outlines anew; look at what
`git diff` then shows.
"""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import NARROW, WIDE, beyond_the_edge, beyond_the_paper, unfold, window
from spawn import ROOT
from subsets import SUBSETS

import report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GOLDEN = ROOT / "tests" / "golden"
MOST_BYTES = 3_000_000


class Outline(HTMLParser):
    """What a page is made of: its headings, figures, and tables with their number of rows; the answer in full."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._label = ""
        self._rows = 0
        self._section = ""
        self._text: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "section":
            self._section = found["id"]
        elif found.get("role") == "group":
            self._label = found["aria-label"]
        elif tag == "figure":
            self.lines.append(f"figure: {found['id'].removeprefix('figure-')}")
        elif tag == "table":
            self._rows = 0
        elif tag == "tr":
            self._rows += 1
        if tag in ("h1", "h2", "h3") or (self._section == "answer" and tag in ("p", "dt", "dd")):
            self._text = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.lines.append(f"table: {self._label}: {self._rows - 1} rows")
        elif self._text is not None and tag in ("h1", "h2", "h3", "p", "dt", "dd"):
            prefix = "#" * int(tag[1]) if tag[0] == "h" else {"dt": "-", "dd": "  "}.get(tag, "")
            self.lines.append(f"{prefix} {' '.join(''.join(self._text).split())}".strip("\n"))
            self._text = None

    def handle_data(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports that were made already, by the name of their subset."""
    return {}


@pytest.fixture(params=SUBSETS, ids=lambda name: name.replace(" ", "-"))
def subset(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def file(subset: str, made: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    if subset not in made:
        folder = tmp_path_factory.mktemp("results") / "quick-20250102T030400Z"
        made[subset] = report.write(SUBSETS[subset].write(folder))
    return made[subset]


def test_a_report_has_the_outline_that_is_written_down(subset: str, file: Path) -> None:
    golden = GOLDEN / f"{subset.replace(' ', '-')}.txt"
    outline = "".join(f"{line.rstrip()}\n" for line in Outline(file.read_text(encoding="utf-8")).lines)
    if os.environ.get("IOBENCH_UPDATE_GOLDEN"):
        golden.write_text(outline, encoding="utf-8")
    assert outline == golden.read_text(encoding="utf-8")


def test_a_page_is_small_enough_to_be_sent_by_mail(file: Path) -> None:
    assert file.stat().st_size < MOST_BYTES


def test_nothing_of_a_page_is_beyond_the_edge_of_its_window_or_of_the_paper(browser: Browser, file: Path) -> None:
    with window(browser, file, NARROW) as page:
        unfold(page)
        assert beyond_the_edge(page) == []
        page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        assert beyond_the_edge(page) == []
        assert beyond_the_paper(page) == []


def test_every_outline_that_is_written_down_is_of_a_run_that_is_made() -> None:
    assert {path.stem.replace("-", " ") for path in GOLDEN.glob("*.txt")} == set(SUBSETS)
