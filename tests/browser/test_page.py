"""The page of a report in a real browser: what it does for a mouse, a finger, a keyboard, a screen reader and paper."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from chromium import NARROW, UPRIGHT_PX, WIDE, beyond_the_edge, beyond_the_paper, unfold, window
from subsets import EVERYTHING
from synthetic import manifest, record, write_run

import report
from bench.compare_runs import merge
from bench.record import read_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

CASES = "Table of every case"
PERCENTILES = "Table of percentiles"
TRIALS = "Table of every trial"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(20, 24, 31)"  # of the paper

# For each figure: the marks of a strategy that are shown.
SHOWN_MARKS = """(name) => Object.fromEntries([...document.querySelectorAll("figure")].map((figure) => [
  figure.id,
  [...figure.querySelectorAll("g.mark")].filter(
    (mark) => mark.dataset.strategy === name && getComputedStyle(mark).display !== "none").length,
]))"""
LABELLED_FIGURES = """(name) => [...document.querySelectorAll("figure")].filter((figure) =>
  [...figure.querySelectorAll(".label")].some((label) => label.dataset.strategy === name)).map((figure) => figure.id)"""
SHOWN_ROWS = """(name) => [...document.querySelectorAll("table.sortable tbody tr")].filter(
  (row) => row.dataset.strategy === name && getComputedStyle(row).display !== "none").length"""
# A point of a figure that nothing covers, and what it says.
FREE_POINT = """(figure) => {
  for (const point of figure.querySelectorAll("use[data-says]")) {
    const { x, y, width, height } = point.getBoundingClientRect();
    const middle = { x: x + width / 2, y: y + height / 2 };
    if (document.elementFromPoint(middle.x, middle.y) === point) return { ...middle, says: point.dataset.says };
  }
  return null;
}"""
FOCUSABLE = "a[href], button, input, summary, [tabindex='0']"
NUMBERED = f"""() => {{
  const seen = [...document.querySelectorAll("{FOCUSABLE}")].filter((one) => one.checkVisibility());
  seen.forEach((one, number) => (one.dataset.number = number));
  return seen.length;
}}"""
# The focused element: its number, whether an outline shows it, and whether something that sticks to the top covers it.
FOCUSED = """() => {
  const one = document.activeElement, style = getComputedStyle(one), box = one.getBoundingClientRect();
  const bar = document.getElementById("shown"), above = bar.getBoundingClientRect();
  return {
    number: Number(one.dataset.number ?? -1),
    what: `${one.localName} ${one.textContent.trim().slice(0, 30)}`,
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    covered: !bar.contains(one) && box.top >= above.top && box.bottom <= above.bottom,
  };
}"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(EVERYTHING.write(tmp_path_factory.mktemp("results") / "quick-20250102T030400Z"))


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    with window(browser, file) as opened:
        yield opened


@pytest.fixture
def narrow(browser: Browser, file: Path) -> Iterator[Page]:
    with window(browser, file, NARROW) as opened:
        yield opened


def switch(page: Page, name: str) -> Locator:
    """The button that switches a strategy."""
    return page.locator(f"#shown button[data-strategy='{name}']")


def tools(page: Page, label: str) -> Locator:
    """The filter, the button for CSV and the count of a table."""
    return page.locator(".tools").filter(has=page.get_by_label(f"Filter: {label}", exact=True))


def table(page: Page, label: str) -> Locator:
    return page.get_by_role("group", name=label, exact=True).locator("table")


def column(page: Page, label: str, heading: str) -> list[str]:
    """What the shown rows of a table have in a column, as it sorts."""
    found = table(page, label).evaluate(
        """(table, heading) => {
          const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.trim() === heading);
          return [...table.tBodies[0].rows].filter((row) => row.offsetParent !== null)
            .map((row) => row.cells[at].dataset.sort ?? row.cells[at].textContent.trim());
        }""",
        heading,
    )
    return list(found)


def paper(page: Page) -> str:
    return str(page.evaluate("() => getComputedStyle(document.body).backgroundColor"))


# --- alone


def test_the_page_of_a_default_sweep_with_all_that_it_can_have_is_smaller_than_3_mb(file: Path) -> None:
    assert file.stat().st_size < 3_000_000


def test_the_page_loads_without_a_complaint_and_asks_for_nothing_but_itself(browser: Browser, file: Path) -> None:
    with window(browser, file) as page:  # which ends with both checks
        assert page.title() == "quick – iobench report"
        assert page.locator("h1").inner_text() == "quick"


def test_without_its_script_everything_is_there_to_read_and_nothing_is_offered_that_needs_it(
    browser: Browser, file: Path
) -> None:
    with window(browser, file, java_script_enabled=False) as page:
        assert page.locator("#shown").is_hidden()
        assert page.locator(".tools, .theme").count() == 0
        assert page.locator("#figure-throughput svg").is_visible()
        assert table(page, CASES).locator("tbody tr").first.is_visible()


# --- strategies


def test_a_switch_takes_a_strategy_out_of_every_figure_and_table_at_once_and_back(page: Page) -> None:
    name = "epoll_lt"
    before, rows = page.evaluate(SHOWN_MARKS, name), page.evaluate(SHOWN_ROWS, name)
    other = page.evaluate(SHOWN_MARKS, "poll")
    named = page.evaluate(LABELLED_FIGURES, name)
    assert len(named) >= 3
    assert [figure for figure in named if not before[figure]] == []
    assert rows > 0
    switch(page, name).click()
    assert set(page.evaluate(SHOWN_MARKS, name).values()) == {0}
    assert page.evaluate(SHOWN_ROWS, name) == 0
    assert page.evaluate(SHOWN_MARKS, "poll") == other
    assert switch(page, name).get_attribute("aria-pressed") == "false"
    assert page.locator("#shown output").inner_text() == "8 of 9 shown"
    switch(page, name).click()
    assert page.evaluate(SHOWN_MARKS, name) == before
    assert page.evaluate(SHOWN_ROWS, name) == rows
    assert switch(page, name).get_attribute("aria-pressed") == "true"
    assert page.locator("#shown output").inner_text() == ""


def test_a_name_in_a_figure_switches_as_the_button_does_and_a_double_click_leaves_it_alone(page: Page) -> None:
    label = page.locator("#figure-throughput .label[data-strategy='poll'] text").first
    label.click()
    assert set(page.evaluate(SHOWN_MARKS, "poll").values()) == {0}
    assert switch(page, "poll").get_attribute("aria-pressed") == "false"
    label.click()
    label.dblclick()
    assert page.locator("#shown button[aria-pressed=true]").count() == 1
    assert switch(page, "poll").get_attribute("aria-pressed") == "true"


def test_all_and_none_do_what_they_say(page: Page) -> None:
    page.get_by_role("button", name="None", exact=True).click()
    assert page.locator("#shown button[aria-pressed=true]").count() == 0
    assert column(page, CASES, "strategy") == ["io_uring"]  # which was unavailable, and has no switch
    page.get_by_role("button", name="All", exact=True).click()
    assert page.locator("#shown button[aria-pressed=false]").count() == 0


# --- points


@pytest.mark.parametrize("figure", ["throughput", "latency", "order"])
def test_a_point_under_the_mouse_tells_its_numbers_and_its_trials(page: Page, file: Path, figure: str) -> None:
    plate = page.locator(f"#figure-{figure}")
    plate.locator("svg").scroll_into_view_if_needed()
    point = plate.evaluate(FREE_POINT)
    page.mouse.move(point["x"], point["y"])
    tip = page.locator(".tip")
    assert tip.is_visible()
    assert tip.inner_text() == point["says"]
    *numbers, trials = point["says"].splitlines()
    assert any(re.search(r"\d", line) for line in numbers)
    ids = {json.loads(line)["id"] for line in (file.parent / "trials.jsonl").read_text().splitlines()}
    told = re.findall(r"\b[0-9a-f]{16}\b", trials)
    assert told
    assert set(told) <= ids
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_every_point_of_a_figure_of_trials_says_something(page: Page) -> None:
    points = page.evaluate(
        """() => [...document.querySelectorAll("#figure-order g.mark[data-strategy]")].map((mark) =>
          [mark.querySelectorAll("use").length, mark.querySelectorAll("use[data-says]").length])"""
    )
    assert sum(told for _, told in points) > 100
    assert all(there == told for there, told in points if there > 1)  # a single one may be the sign in a hollow point


@pytest.mark.parametrize("figure", ["throughput", "response", "latency"])
def test_a_line_of_a_figure_says_something_at_each_of_its_cases(page: Page, figure: str) -> None:
    places = page.evaluate(
        """(figure) => [...document.querySelectorAll(`#figure-${figure} use[data-says]`)].map((point) =>
          [point.closest("g.mark").dataset.strategy, point.dataset.says.split("\\n")[0]])""",
        figure,
    )
    assert places
    cases: dict[str, set[str]] = {}
    for strategy, place in places:
        assert strategy in place
        cases.setdefault(strategy, set()).add(place)
    assert all(len(found) == (1 if name in ("iterative", "io_uring") else 3) for name, found in cases.items()), cases


def test_a_point_under_a_finger_tells_its_numbers_and_the_next_tap_elsewhere_ends_it(
    browser: Browser, file: Path
) -> None:
    with window(browser, file, has_touch=True) as page:
        plate = page.locator("#figure-throughput")
        plate.locator("svg").scroll_into_view_if_needed()
        point = plate.evaluate(FREE_POINT)
        page.touchscreen.tap(point["x"], point["y"])
        assert page.locator(".tip").inner_text() == point["says"]
        page.touchscreen.tap(5, point["y"])
        assert page.locator(".tip").is_hidden()


# --- tables


def test_a_heading_sorts_by_number_both_ways_and_says_which(page: Page) -> None:
    heading = table(page, CASES).get_by_role("button", name="messages/s", exact=True)
    cell = table(page, CASES).locator("th", has=page.get_by_role("button", name="messages/s", exact=True))
    heading.click()
    rising = [float(value) for value in column(page, CASES, "messages/s") if value]
    assert cell.get_attribute("aria-sort") == "ascending"
    heading.click()
    falling = [float(value) for value in column(page, CASES, "messages/s") if value]
    assert cell.get_attribute("aria-sort") == "descending"
    assert rising == sorted(rising)
    assert falling == rising[::-1]
    assert len(set(rising)) > 20
    assert table(page, CASES).locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1


def test_a_heading_sorts_by_name_too(page: Page) -> None:
    table(page, CASES).get_by_role("button", name="strategy", exact=True).click()
    names = column(page, CASES, "strategy")
    assert names == sorted(names)
    assert len(set(names)) == 10  # with io_uring, which was unavailable


@pytest.mark.parametrize("clicks", [1, 2])
def test_rows_without_a_value_come_last_whichever_way_it_sorts(page: Page, clicks: int) -> None:
    for _ in range(clicks):
        table(page, CASES).get_by_role("button", name="messages/s", exact=True).click()
    assert column(page, CASES, "messages/s").index("") == len(column(page, CASES, "messages/s")) - 1


def test_a_filter_leaves_the_rows_that_have_every_word_and_counts_them(page: Page) -> None:
    box = page.get_by_label(f"Filter: {CASES}", exact=True)
    every = len(column(page, CASES, "strategy"))
    box.fill("EPOLL client-bound")
    left = column(page, CASES, "strategy")
    assert set(left) == {"epoll_et", "epoll_lt"}
    assert set(column(page, CASES, "connections")) == {"128"}
    assert tools(page, CASES).locator("output").inner_text() == f"{len(left)} of {every} rows"
    box.fill("no such thing")
    assert column(page, CASES, "strategy") == []
    box.fill("")
    assert len(column(page, CASES, "strategy")) == every
    assert tools(page, CASES).locator("output").inner_text() == f"{every} rows"


NO_CLIPBOARD = """Object.defineProperty(navigator, "clipboard",
  { value: { writeText: () => Promise.reject(new Error("not allowed")), readText: () => Promise.resolve("") } });"""
NO_COPY = f"{NO_CLIPBOARD} document.execCommand = () => false;"


def _read_clipboard(page: Page, copy: Callable[[], None]) -> str:
    copy()
    return str(page.evaluate("() => navigator.clipboard.readText()"))


def _paste(page: Page, copy: Callable[[], None]) -> str:
    copy()
    page.evaluate("() => document.body.append(Object.assign(document.createElement('textarea'), { id: 'pasted' }))")
    page.locator("#pasted").focus()
    page.keyboard.press("Control+V")
    return page.locator("#pasted").input_value()


def _download(page: Page, copy: Callable[[], None]) -> str:
    with page.expect_download() as download:
        copy()
    assert download.value.suggested_filename == "iobench.csv"
    return Path(download.value.path()).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("script", "obtain", "told"),
    [
        ("", _read_clipboard, "Copied"),
        (NO_CLIPBOARD, _paste, "Copied"),
        (NO_COPY, _download, "Saved as iobench.csv"),
    ],
    ids=["clipboard", "selection", "file"],
)
def test_the_rows_that_are_shown_are_copied_as_csv(
    browser: Browser, file: Path, script: str, obtain: Callable[[Page, Callable[[], None]], str], told: str
) -> None:
    with window(browser, file, script=script) as page:
        page.get_by_label(f"Filter: {CASES}", exact=True).fill("epoll")
        switch(page, "epoll_et").click()
        button = page.get_by_label(f"Copy as CSV: {CASES}", exact=True)
        text = obtain(page, button.click)
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["strategy"] for row in rows] == column(page, CASES, "strategy") == ["epoll_lt"] * 3
        assert [row["messages/s"] for row in rows] == column(page, CASES, "messages/s")
        assert all(float(row["messages/s"]) > 1000 and "–" in row["messages/s range"] for row in rows)
        assert [row["messages/s bound"] for row in rows] == ["", "", "≥"]  # the client was the limit at 128 connections
        page.wait_for_function("(told) => document.querySelector('.tools output').textContent === told", arg=told)


def test_no_copied_cell_is_a_formula_and_numbers_stay_numbers(browser: Browser, tmp_path: Path) -> None:
    names = ["=1+1", "@x", "-1", "poll"]
    run = write_run(tmp_path / "run", [record(name, 16, 1) for name in names], manifest(names))
    with window(browser, report.write(run)) as page:
        button = page.get_by_label(f"Copy as CSV: {CASES}", exact=True)
        rows = list(csv.DictReader(io.StringIO(_read_clipboard(page, button.click))))
    assert sorted(row["strategy"] for row in rows) == ["'=1+1", "'@x", "-1", "poll"]


# --- light and dark


def test_the_theme_is_that_of_the_system_until_the_reader_chooses_the_other_which_is_kept(
    browser: Browser, file: Path
) -> None:
    with window(browser, file, color_scheme="light") as page:
        assert paper(page) == LIGHT
        page.emulate_media(color_scheme="dark")
        assert paper(page) == DARK
        page.emulate_media(color_scheme="light")
        page.get_by_role("button", name="Dark theme").click()
        assert paper(page) == DARK
        ink = page.evaluate("() => getComputedStyle(document.querySelector('.plate text')).fill")
        assert ink == page.evaluate("() => getComputedStyle(document.body).color")
        page.reload()
        assert paper(page) == DARK
        page.get_by_role("button", name="Light theme").click()
        assert paper(page) == LIGHT
        page.reload()
        assert paper(page) == LIGHT
        page.emulate_media(color_scheme="dark")  # back with the system's choice, the page follows it again
        assert paper(page) == DARK
        assert page.get_by_role("button", name="Light theme").is_visible()


def test_where_nothing_can_be_kept_the_theme_is_switched_all_the_same(browser: Browser, file: Path) -> None:
    forbidden = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('forbidden'); } });"
    with window(browser, file, script=forbidden, color_scheme="light") as page:
        page.get_by_role("button", name="Dark theme").click()
        assert paper(page) == DARK


# --- sizes


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["360 px", "1440 px"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_beyond_the_edge_of_the_window(
    browser: Browser, file: Path, size: tuple[int, int], theme: str
) -> None:
    with window(browser, file, size, color_scheme=theme) as page:
        unfold(page)
        assert beyond_the_edge(page) == []


def test_on_a_phone_wide_tables_and_figures_scroll_in_boxes_of_their_own(narrow: Page) -> None:
    unfold(narrow)
    boxes = narrow.locator(".scroll").evaluate_all(
        "(boxes) => boxes.map((box) => [box.scrollWidth > box.clientWidth, box.getBoundingClientRect().right])"
    )
    assert sum(scrolls for scrolls, _ in boxes) >= 5
    assert all(right <= NARROW[0] for _, right in boxes)


def test_on_a_phone_the_names_of_the_rows_stay_in_sight_and_leave_half_of_the_box_to_the_values(narrow: Page) -> None:
    box = narrow.get_by_role("group", name=CASES, exact=True)
    box.evaluate("(box) => (box.scrollLeft = box.scrollWidth)")
    placed = box.evaluate(
        """(box) => {
          const edge = box.getBoundingClientRect(), row = box.querySelector("tbody tr");
          const [name, value, heading] = [row.cells[0], row.cells[row.cells.length - 1], box.querySelector("thead th")]
            .map((cell) => cell.getBoundingClientRect());
          return { box: edge.width, left: edge.left, name: [name.left, name.right], heading: heading.left,
            last: value.right - edge.right, free: edge.right - name.right };
        }"""
    )
    assert placed["name"][0] == pytest.approx(placed["left"], abs=1)
    assert placed["heading"] == pytest.approx(placed["left"], abs=1)
    assert placed["last"] <= 1
    assert placed["free"] >= placed["box"] / 2


# --- keyboard


def test_tab_reaches_every_control_in_the_order_of_the_page_and_shows_where_it_is(page: Page) -> None:
    unfold(page)
    expected = page.evaluate(NUMBERED)
    assert expected > 60
    reached = []
    for _ in range(expected):
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        assert focused["outlined"], focused
        assert not focused["covered"], focused
        reached.append(focused["number"])
    assert reached == list(range(expected))


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_controls_are_worked_by_the_keyboard(page: Page, key: str) -> None:
    switch(page, "poll").focus()
    page.keyboard.press(key)
    assert switch(page, "poll").get_attribute("aria-pressed") == "false"
    table(page, CASES).get_by_role("button", name="messages/s", exact=True).focus()
    page.keyboard.press(key)
    assert table(page, CASES).locator("th[aria-sort=ascending]").inner_text() == "messages/s"
    page.locator(".theme").focus()
    page.keyboard.press(key)
    assert paper(page) == DARK
    folded = page.locator("#table details").first
    folded.locator("summary").focus()
    page.keyboard.press(key)
    assert folded.evaluate("(one) => one.open")
    page.get_by_label(f"Copy as CSV: {CASES}", exact=True).focus()
    page.keyboard.press(key)
    page.wait_for_function("() => document.querySelector('.tools output').textContent === 'Copied'")


# --- screen readers


def test_the_page_has_a_language_a_title_and_headings_without_a_jump(page: Page) -> None:
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title()
    levels = page.locator("h1, h2, h3, h4, h5, h6").evaluate_all("(all) => all.map((one) => Number(one.localName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - before <= 1 for before, later in pairwise(levels))


def test_every_heading_of_a_table_says_what_it_is_the_heading_of(page: Page) -> None:
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("table").evaluate_all("(all) => all.every((table) => table.tHead && table.tHead.rows.length)")


def test_a_figure_is_an_image_whose_text_is_its_message(page: Page) -> None:
    figures = page.locator("figure")
    for at in range(figures.count()):
        image = figures.nth(at).get_by_role("img")
        assert image.count() == 1
        label = image.get_attribute("aria-label") or ""
        message = figures.nth(at).locator("figcaption p").first.inner_text()
        assert label.startswith(figures.nth(at).locator("h3").inner_text())
        assert " ".join(message.split()) in " ".join(label.replace("`", "").split())
    assert page.locator("svg:not([aria-hidden=true])").count() == 0


def test_a_checker_of_accessibility_finds_nothing(browser: Browser, file: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - only where there is a browser

    colours = {"runOnly": ["color-contrast"]}
    for theme, rules in (("light", {}), ("dark", colours)):
        with window(browser, file, color_scheme=theme) as page:
            unfold(page)
            found = Axe().run(page, context={"exclude": [[".plate svg"], ["tr:nth-child(n+4)"]]}, options=rules)
            assert [_violation(one) for one in found.response["violations"]] == []


def _violation(found: dict[str, Any]) -> str:
    return f"{found['id']}: {found['help']}: {[node['html'][:120] for node in found['nodes'][:3]]}"


# --- paper


def on_paper(page: Page) -> None:
    """Lay the page out as for print on A4."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": UPRIGHT_PX, "height": 1000})


def test_on_paper_nothing_is_cut_off_at_the_right_and_what_can_not_be_used_there_is_gone(page: Page) -> None:
    assert beyond_the_paper(page) == []
    for control in ("header nav", ".theme", ".tools", "#shown"):
        assert page.locator(control).first.is_hidden(), control


def test_on_paper_a_page_is_light_whatever_the_screen_has(browser: Browser, file: Path) -> None:
    with window(browser, file, color_scheme="dark") as page:
        assert paper(page) == DARK
        on_paper(page)
        assert paper(page) == LIGHT


def test_on_paper_it_is_said_what_was_switched_off_or_filtered_away(page: Page) -> None:
    switch(page, "poll").click()
    page.get_by_label(f"Filter: {CASES}", exact=True).fill("epoll")
    on_paper(page)
    assert page.locator("#shown").is_visible()
    assert page.locator("#shown output").inner_text() == "8 of 9 shown"
    assert tools(page, CASES).locator("output").is_visible()
    assert page.get_by_label(f"Filter: {CASES}", exact=True).is_hidden()


def test_a_pdf_is_a4_and_has_every_section_and_what_was_folded(page: Page, file: Path) -> None:
    from pypdf import PdfReader  # noqa: PLC0415 - only where there is a browser

    headings = page.locator("h2").all_inner_texts()
    folded = page.locator("details:not(.bulk) summary").all_inner_texts()
    within = ["watch 1,000 instead of 10", "epoll_wait(4, [...], 64, -1) = 1"]  # of the lab, of an anatomy
    trials = [json.loads(line) for line in (file.parent / "trials.jsonl").read_text().splitlines()]
    reader = PdfReader(io.BytesIO(page.pdf(prefer_css_page_size=True)))
    sizes_pt = {(round(sheet.mediabox.width), round(sheet.mediabox.height)) for sheet in reader.pages}
    assert sizes_pt == {(595, 842), (842, 595)}  # the wide tables lie
    text = _squeezed("".join(sheet.extract_text() for sheet in reader.pages))
    assert len(headings) == 10
    for said in [*headings, *folded, *within, *(trial["id"] for trial in trials if trial["status"] == "ok")]:
        assert _squeezed(said) in text, said
    assert not page.locator("#table details").first.evaluate("(one) => one.open")  # folded again afterwards


def _squeezed(text: str) -> str:
    """Without spaces and line ends, and without ligatures, which a font may set for ff and fi."""
    return "".join(unicodedata.normalize("NFKC", text).split())


# --- a comparison


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, put together; one strategy has become slower, and one has a long name."""
    folder = tmp_path_factory.mktemp("results")
    names = ("poll", "epoll_lt", "n" * 80)
    runs = []
    for factor in (1.0, 0.5):
        speeds = dict(zip(names, (9_000, 100_000 * factor, 20_000), strict=True))
        made = [
            record(name, count, repeat, rate_hz * (1 + repeat / 100))
            for name, rate_hz in speeds.items()
            for count in (1, 16)
            for repeat in range(5)
        ]
        runs.append(read_run(write_run(folder / str(factor), made, manifest(list(names)))))
    about, records = merge(runs, ["before", "after"])
    return report.write(write_run(folder / "both", records, about))


def test_the_figures_of_a_comparison_sort_by_their_values(browser: Browser, comparison: Path) -> None:
    with window(browser, comparison) as page:
        found = table(page, "Ratios of each case")
        for heading in ("first", "other", "ratio", "95 % interval"):
            found.get_by_role("button", name=heading, exact=True).click()
            values = [float(value) for value in column(page, "Ratios of each case", heading)]
            assert values == sorted(values), heading
            assert len(set(values)) > 2


@pytest.mark.parametrize("size", [NARROW, WIDE])
def test_a_comparison_fits_its_window_and_keeps_a_name_and_its_place_on_a_line(
    browser: Browser, comparison: Path, size: tuple[int, int]
) -> None:
    with window(browser, comparison, size) as page:
        assert beyond_the_edge(page) == []
        cell = table(page, "Ratios of each case").locator("th[scope=row]", has_text="poll, 1 connection").first
        code = cell.locator("code").bounding_box()
        whole = cell.bounding_box()
        assert code is not None and whole is not None
        assert whole["height"] < 2.5 * code["height"]
