"""Names come from files that others wrote: whatever they look like, they are text, in every file that is made of them
and on a terminal.
"""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from prometheus_client.openmetrics.parser import text_fd_to_metric_families
from rich.console import Console
from synthetic import manifest, record, unmeasured, write_run
from synthetic_gate import a_gate, a_regression
from test_history import an_entry, write_history
from test_run import trial
from test_run_progress import drawn, ended, terminal

import report
from bench import say
from bench.export import find
from bench.figures.style import shorten
from bench.gate import show
from bench.history.command import Options, history
from bench.history.store import Entry, Estimate
from bench.progress import Lines, LiveDisplay
from bench.record import read_run

NAMES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</svg><script>1</script>",
    "--><script>1</script>",
    "]]><b>",
    "`<i>``",
    "\\`<i>`",
    "&lt;u&gt;",
    "![x](http://192.0.2.1/)",
    "[x](javascript:1)",
    "{{ 7*7 }}",
    "a|b",
    "$x^2$",
    "=1+1",
    "+1",
    "-1",
    "@x",
    "\x1b[31mred",
    "\ufffe",
)
FORMULAS = ("=", "+", "-", "@", "\t", "\r")
OURS = {"a", "img"}  # elements of a page that may refer to something
LIKE_MARKUP = {"script", "b", "i", "u", "iframe", "object", "embed"}  # that no page of ours has within its text


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.found)


def assert_is_harmless(page: Elements, scripts: int = 0) -> None:
    """No element and no attribute of it comes from a name."""
    assert page.named("script") == scripts
    assert [tag for tag, _ in page.found if tag in LIKE_MARKUP - {"script"}] == []
    for tag, attributes in page.found:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("href", "src", "xlink:href"):
            target = attributes.get(name) or ""
            assert not target.startswith(("http", "javascript", "x")) and "//" not in target, (tag, target)


def assert_are_pictures(folder: Path) -> None:
    """Every SVG is well-formed, and nothing in it would be carried out."""
    found = list(folder.glob("*.svg"))
    assert found
    for path in found:
        for element in ET.fromstring(path.read_text(encoding="utf-8")).iter():
            assert element.tag.rpartition("}")[2] not in ("script", "img", "b", "i", "foreignObject", "image")
            assert not [name for name in element.attrib if name.startswith("on")]


def texts_of(path: Path) -> str:
    return "\n".join(ET.fromstring(path.read_text(encoding="utf-8")).itertext())


# --- a run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run in which everything that can be named has such a name."""
    records = [record(name, 16, repeat) for name in NAMES for repeat in (0, 1)]
    records += [unmeasured(name, 16, 2, "failed", name) for name in NAMES]
    records += [record("poll", 16, python=name) for name in NAMES[:3]]
    about = manifest(
        [*NAMES, "poll"], sweep={"name": NAMES[0]}, host={NAMES[1]: {NAMES[0]: NAMES[2]}, "cpu_model": NAMES[1]}
    )
    for info, name in zip(about.strategies, NAMES, strict=False):
        info.summary = info.doc = info.model = name
    folder = write_run(tmp_path_factory.mktemp("names") / "run", records, about)
    report.write(folder)
    return folder


def test_on_the_page_of_a_run_names_are_text(run: Path) -> None:
    page = Elements((run / "report.html").read_text(encoding="utf-8"))
    assert_is_harmless(page, scripts=2)  # the theme's, before anything is shown, and the page's
    for name in NAMES[:5]:
        assert name in page.text


def test_in_the_figures_of_a_run_names_are_text(run: Path) -> None:
    assert_are_pictures(run)
    said = texts_of(run / "throughput.svg")
    for name in NAMES[:5]:
        assert shorten(name) in said


def test_in_the_summary_of_a_run_names_are_text_to_whoever_reads_markdown(run: Path) -> None:
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render((run / "report.md").read_text("utf-8"))
    page = Elements(html)
    assert page.named("table") == 1
    assert page.named("a") == 0
    pictures = {attributes["src"] for tag, attributes in page.found if tag == "img"}
    assert pictures and all((run / (target or "none")).is_file() for target in pictures)
    page.found = [(tag, attributes) for tag, attributes in page.found if tag != "img"]
    assert_is_harmless(page)
    for name in NAMES[:5]:
        assert name in page.text


# --- a gate


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate")
    results = [a_regression(name, why=name) for name in NAMES]
    show.write(folder, a_gate(*results, verdict="regressed", notes=list(NAMES), sweep=NAMES[0], created=NAMES[-2]))
    return folder


def test_on_the_page_of_a_gate_and_in_its_figures_names_are_text(gate: Path) -> None:
    page = Elements((gate / "report.html").read_text(encoding="utf-8"))
    clean = Elements(show.page.render(a_gate(a_regression(), verdict="regressed"))[0])
    assert_is_harmless(page, scripts=clean.named("script"))
    assert all(name in page.text for name in NAMES[:5])
    assert_are_pictures(gate)


def test_in_the_summary_of_a_gate_names_are_text_to_whoever_reads_markdown(gate: Path) -> None:
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render((gate / "gate.md").read_text("utf-8"))
    page = Elements(html)
    assert_is_harmless(page)
    assert page.named("img") == page.named("a") == 0
    assert all(name in page.text for name in NAMES[:5])


def test_a_junit_file_is_well_formed_and_has_the_names_as_they_are(gate: Path) -> None:
    root = ET.fromstring((gate / "junit.xml").read_bytes())
    named = {case.attrib["classname"] for case in root.iter("testcase")}
    assert set(NAMES[:-2]) <= named
    assert not [
        one for one in root.iter() if one.tag not in ("testsuites", "testsuite", "testcase", "failure", "error")
    ]


# --- exports


def exported(run: Path, to: str) -> bytes:
    return find(to).render(read_run(run))


def test_no_cell_of_an_exported_csv_file_is_a_formula_and_every_name_is_in_it(run: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(run, "csv").decode(), newline="")))
    assert {row["strategy"].removeprefix("'") for row in rows} == {*NAMES, "poll"}
    assert not [cell for row in rows for cell in row.values() if cell.startswith(FORMULAS)]
    assert all(float(row["value"]) >= 0 for row in rows)


def test_an_exported_parquet_file_has_the_names_as_they_are(run: Path) -> None:
    pytest.importorskip("pyarrow")
    table = pd.read_parquet(io.BytesIO(exported(run, "parquet")))
    assert set(table["strategy"]) == {*NAMES, "poll"}


def test_an_exported_junit_file_is_well_formed_and_has_the_names_as_they_are(run: Path) -> None:
    root = ET.fromstring(exported(run, "junit"))
    titles = "\n".join(case.attrib["classname"] for case in root.iter("testcase"))
    assert all(name in titles for name in NAMES[:-2])
    ours = ("testsuites", "testsuite", "testcase", "properties", "property", "failure", "skipped", "system-err")
    assert not [one for one in root.iter() if one.tag not in ours]


def test_an_exported_file_of_openmetrics_has_the_names_as_they_are(run: Path) -> None:
    families = text_fd_to_metric_families(io.StringIO(exported(run, "openmetrics").decode(), newline="\n"))
    labels = [sample.labels for family in families for sample in family.samples]
    assert {found["strategy"] for found in labels if "strategy" in found} == {*NAMES, "poll"}


# --- a history


@pytest.fixture
def entries() -> list[Entry]:
    estimates = [Estimate(case=name, strategy=name, metric="cpu_us", value=9, low=8, high=10, n=5) for name in NAMES]
    found = [an_entry(number) for number in range(len(NAMES))]
    return [
        msgspec.structs.replace(entry, run=name, commit=name, sweep=name, machine="aaaa", estimates=estimates)
        for entry, name in zip(found, NAMES, strict=True)
    ]


def test_on_the_page_of_a_history_and_in_its_figures_names_are_text(entries: list[Entry], tmp_path: Path) -> None:
    path = write_history(tmp_path / "history.jsonl", entries)
    history(Options(path, None, (), (), None, tmp_path / "page", fail_on_change=False))
    page = Elements((tmp_path / "page" / "history.html").read_text(encoding="utf-8"))
    assert_is_harmless(page)
    assert all(name in page.text for name in NAMES[:5])
    assert_are_pictures(tmp_path / "page")


def test_no_cell_of_a_csv_file_is_a_formula(entries: list[Entry], tmp_path: Path) -> None:
    path = write_history(tmp_path / "history.jsonl", entries)
    history(Options(path, None, (), ("a|b",), tmp_path / "otava", None, fail_on_change=False))
    (table,) = (tmp_path / "otava").glob("*.csv")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"].removeprefix("'") for row in rows] == list(NAMES)
    assert not [cell for row in rows for cell in row.values() if cell.startswith(FORMULAS)]


def test_every_case_has_a_file_of_its_own_however_alike_the_names(entries: list[Entry], tmp_path: Path) -> None:
    path = write_history(tmp_path / "history.jsonl", entries)
    history(Options(path, None, (), (), tmp_path / "otava", None, fail_on_change=False))
    assert len(list((tmp_path / "otava").glob("*.csv"))) == len(NAMES)


# --- a terminal


def test_on_a_terminal_control_characters_are_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    say.say("the server ended badly: \x1b]0;owned\x07 \x9b31m")
    say.complain("\x00")
    out, err = capsys.readouterr()
    assert out == "the server ended badly: \\x1b]0;owned\\x07 \\x9b31m\n"
    assert err == "\\x00\n"


def test_progress_shows_names_and_reasons_as_they_are() -> None:
    for name in (*NAMES, "[/bold]", "[reverse]"):
        one = trial(name)
        failed = ended(one, status="failed", reason=name)
        out = io.StringIO()
        lines = Lines(Console(file=out, width=80), [one], {})
        lines.setting_starts([one])
        lines.trial_ended(failed)
        assert "\x1b" not in out.getvalue()
        assert say.plain(name) in out.getvalue()
        display = LiveDisplay(terminal()[0], [one], {})
        display.setting_starts([one])
        display.trial_ended(failed)
        shown = drawn(display)
        display.close()
        assert "\x1b" not in shown
        assert re.sub(r"\s", "", say.plain(name))[:10] in re.sub(r"\s", "", shown)
