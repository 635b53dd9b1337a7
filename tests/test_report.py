"""`python report.py results/RUN`: the files that it writes, what they say, and how it refuses bad input."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from synthetic import (
    STRATEGIES,
    manifest,
    record,
    server,
    sweep,
    unmeasured,
    write_run,
)
from typer.testing import CliRunner

import report
from bench import answer
from bench import record as schema
from bench.analyse import analyse
from bench.cli import app
from bench.commands import folders
from bench.compare_runs import merge
from bench.errors import BadInputError
from bench.metrics import METRICS, PERCENTILES
from bench.page import facts

FIGURES = (
    *("ratios", "throughput", "heat", "response", "latency"),
    *("cpu", "switches", "memory", "order", "intervals"),
)
FILES = {
    "report.html",
    "report.md",
    *(f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")),
}
OTHERWISE = {"offered_hz", "of_maximum", "mb_s"}  # of an open loop, a calibrated generator, a stream
MANIFEST_PARTS = ("Manifest", "Search", "Interpreter", "StrategyInfo")
WITHIN_A_LINE = {"code", "a", "em"}
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """The text, tags and attributes of a page; fails where tags don't match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.text += "" if tag in WITHIN_A_LINE else " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture(scope="module")
def page(default_run: Path) -> Page:
    return Page((default_run / "report.html").read_text(encoding="utf-8"))


# --- the files


def test_the_report_is_a_page_a_summary_and_each_figure_as_svg_and_png(default_run: Path) -> None:
    assert {path.name for path in default_run.iterdir()} == FILES | {"manifest.json", "trials.jsonl", "strategies"}


def test_making_it_again_gives_the_same_bytes(default_run: Path) -> None:
    before = {path: path.read_bytes() for path in default_run.rglob("*") if path.is_file()}
    assert report.write(default_run) == default_run / "report.html"
    assert {path: path.read_bytes() for path in before} == before


def test_the_page_refers_to_nothing_on_a_network(default_run: Path, page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action"):
            target = attributes.get(name) or ""
            assert "//" not in target, (tag, target)
            assert target.startswith("#") or target in ("", "data:,") or (default_run / target).exists(), target
    assert "@import" not in (default_run / "report.html").read_text(encoding="utf-8")


def test_the_page_is_small(default_run: Path) -> None:
    assert (default_run / "report.html").stat().st_size < 3_000_000


# --- what the page says


def test_the_answer_in_words_comes_before_any_figure(page: Page) -> None:
    answer = page.words.index("No strategy is shown better than all others or equal within 5 % at all 9 points")
    assert answer < page.words.index("For throughput") < page.words.index("Throughput over connections")


def test_the_answer_is_one_short_paragraph(page: Page) -> None:
    assert len([attributes for attributes in page.all("p") if attributes.get("class") == "lead"]) == 1
    said = page.words[page.words.index("No strategy is shown") : page.words.index("For throughput")]
    assert len(said) < 700
    assert re.search(r"Of 66 comparisons with the best \d+ show a difference", said)


def test_the_ranking_has_a_row_for_each_strategy_and_a_column_for_each_comparison_with_limits(
    default_run: Path,
) -> None:
    html = (default_run / "report.html").read_text(encoding="utf-8")
    table = html.partition('aria-label="Table of the ranking"')[2].partition("</table>")[0]
    rows = re.findall(r"<tr data-strategy=.*?</tr>", table, re.DOTALL)
    assert len(rows) == len(STRATEGIES)
    assert {row.count("<td") for row in rows} == {9}
    streams = next(row for row in rows if "asyncio_streams" in row)
    assert len(re.findall(r">\d\.\d\d× <span class=\"spread\">\d\.\d\d–\d\.\d\d</span>", streams)) >= 5
    assert sum(row.count("<td>= <span") for row in rows) >= 1  # epoll_et beside epoll_lt


def test_every_comparison_is_told_in_tiers(page: Page) -> None:
    assert len(page.all("ol")) == 9
    assert page.words.index("Every comparison in tiers") < page.words.index("Throughput over connections")


def test_the_answer_says_how_far_to_trust_it_before_any_figure(page: Page) -> None:
    for ground in ("Load generator", "Trials", "Limit", "Noise", "Others", "Stolen time", "Machine"):
        assert page.words.index(f" {ground} ") < page.words.index("Throughput over connections"), ground


def test_the_markers_of_the_figures_are_explained_above_them(page: Page) -> None:
    for said in (
        "filled Measured",
        "hollow Not to be taken as it stands",
        "failed 1 trial, of which",
        "unavailable 1 trial, of",
    ):
        assert page.words.index(said) < page.words.index("Throughput over connections"), said


def test_each_figure_has_its_message_as_text_and_as_caption(page: Page) -> None:
    labels = [attributes["aria-label"] or "" for attributes in page.all("div") if attributes.get("role") == "img"]
    assert len(labels) == len(page.all("figure")) == len(page.all("figcaption")) == len(FIGURES)
    assert labels[0].startswith("Every strategy by the best. By the best of each panel, throughput: ")
    assert "128 connections: `epoll_et` or `epoll_lt`, not decided" in labels[1].replace(
        "lt` or `epoll_et", "et` or `epoll_lt"
    )


def test_headings_descend_without_a_gap_and_ids_are_unique(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in page.all("a") if (a["href"] or "").startswith("#")} <= set(ids)


def test_the_table_sorts_by_buttons_in_headings_and_has_a_row_for_each_case(page: Page) -> None:
    headings = [attributes for attributes in page.all("th") if "aria-sort" in attributes]
    shown = [metric for metric in METRICS if metric.of in ("", "latency") and metric.name not in OTHERWISE]
    of_cases, of_percentiles, of_trials = len(shown) + 4, len(PERCENTILES) + 3, 11
    assert len(headings) == of_cases + of_percentiles + of_trials
    assert len(page.all("button")) == len(headings) + len(STRATEGIES) + 2  # those that switch a strategy, all, none
    assert all(attributes["scope"] == "col" for attributes in headings)
    sortable = [attributes for attributes in page.all("th") if "data-sort" in attributes]
    measured = 1 + 3 * (len(STRATEGIES) - 1)  # iterative once
    trials = 5 * measured - 1
    assert len(sortable) == 2 * measured + 1 + trials  # in the second table too; io_uring in the first


def test_numbers_sort_by_their_value_not_by_their_text(page: Page) -> None:
    values = [attributes["data-sort"] or "" for attributes in page.all("td") if "data-sort" in attributes]
    assert sum(bool(re.fullmatch(r"[\d.e+-]+", value)) for value in values) > 200
    words = {value for value in values if not re.fullmatch(r"[\d.e+-]+|[\da-f]{16}", value)}  # a trial's id is one
    assert words == {"", "service", "server", "client", "latency"}


def test_failed_unavailable_and_client_bound_trials_are_listed_with_their_reasons(page: Page) -> None:
    assert "iterative: 1 trial failed at 1 connection: the server died with SIGSEGV." in page.words
    assert "io_uring: 1 trial unavailable at 16 connections: kernel.io_uring_disabled is 2." in page.words
    assert "epoll_lt: 128 connections (5 of 5 trials)." in page.words


def test_a_throughput_that_the_client_limited_is_marked_in_the_table_and_in_the_heat_map(page: Page) -> None:
    ranking, _, cases = page.words.partition("Every case")
    assert len(re.findall(r"≥ \d+,\d{3} ", cases)) == 2
    assert len(re.findall(r"≥ 14\d,000 ", ranking)) == 1  # the best of its column
    assert len(re.findall(r"≥ \d+k", page.words)) == 2


def test_the_page_says_why_the_line_of_iterative_stops(page: Page) -> None:
    assert "iterative serves one connection at a time" in page.words


def test_the_page_says_what_was_run_where_and_what_time_was_not_measuring(page: Page) -> None:
    for text in (
        "Example CPU at 3 GHz",
        "sysctls.net.core.somaxconn",
        "iobench sweep quick",
        "CPython 3.11.9",
        "was neither",
    ):
        assert text in page.words, text


def test_both_themes_and_print_have_their_rules(default_run: Path) -> None:
    html = (default_run / "report.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_the_standard_error_of_a_server_that_died_is_shown(tmp_path: Path) -> None:
    seen = server(1000, 10, 0.5, stderr_tail="Traceback: <ZeroDivisionError>", exit_code=1)
    failed = msgspec.structs.replace(unmeasured("poll", 16, 0, "failed", "it died"), server=seen)
    html = report.write(write_run(tmp_path / "run", [failed])).read_text(encoding="utf-8")
    assert "Traceback: &lt;ZeroDivisionError&gt;" in html


# --- hostile and odd names

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a|b`c`", "$x^{2}$", "x" * 200, "two\nlines"]


def test_names_and_reasons_are_text_whatever_they_contain(tmp_path: Path) -> None:
    records = [record(name, count) for name in HOSTILE for count in (1, 16)]
    records += [unmeasured(name, 128, 0, "failed", "</table><script>x</script>") for name in HOSTILE]
    about = manifest(HOSTILE, sweep={"name": HOSTILE[0]}, host={HOSTILE[1]: {HOSTILE[0]: None}})
    folder = write_run(tmp_path / "run", records, about)
    found = Page(report.write(folder).read_text(encoding="utf-8"))
    assert len(found.all("script")) == 2  # the page's own
    assert found.all("img") == []
    assert "<script>alert(1)</script>" in found.text


# --- runs that are not what one hopes for


@pytest.mark.parametrize(
    "records",
    [
        [],
        [record()],
        [unmeasured("poll", 1, index, "failed", "it died") for index in range(3)],
        [it for it in sweep(repeats=2) if it.trial.strategy == "epoll_lt"],
        [record(f"strategy_{index:02d}", count) for index in range(40) for count in (1, 16)],
        [
            record(name, count, repeat, transport=transport, message_bytes=size, workload=workload)
            for name in ("a", "b")
            for count in (1, 16)
            for repeat in range(2)
            for transport in ("tcp", "unix")
            for size in (1, 4096)
            for workload in ("closed", "open")
        ],
        [record(rate_hz=3, connections=1)],
    ],
    ids=["none", "one trial", "only failures", "one strategy", "forty strategies", "many settings", "three messages"],
)
def test_any_set_of_records_gives_a_report(tmp_path: Path, records: list[schema.Record]) -> None:
    found = Page(report.write(write_run(tmp_path / "run", records)).read_text(encoding="utf-8"))
    good = any(it.status == "ok" for it in records)
    assert ("nothing to compare" in found.words) == (not good)
    assert bool(found.all("figure")) == good


def test_an_unfinished_run_has_a_report_that_says_so(tmp_path: Path) -> None:
    about = manifest(["epoll_lt"], sweep={"name": "quick", "trials_planned": 99})
    folder = write_run(tmp_path / "run", [record()], about)
    assert "This run is unfinished: 1 of 99 trials" in Page(report.write(folder).read_text(encoding="utf-8")).words
    assert "This run is unfinished" in (folder / "report.md").read_text(encoding="utf-8")


def test_a_cut_last_line_is_warned_of_and_stated_in_the_report(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record()])
    with (folder / "trials.jsonl").open("a") as file:
        file.write('{"id": "12')
    with pytest.warns(UserWarning, match="cut off"):
        found = Page(report.write(folder).read_text(encoding="utf-8"))
    assert "trials.jsonl:2 is left out: the line was cut off." in found.words
    assert str(tmp_path) not in found.text


def test_a_report_replaces_the_one_before(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record("poll")])
    report.write(folder)
    write_run(folder, [record("select")])
    assert "poll" not in report.write(folder).read_text(encoding="utf-8")


# --- bad input


def test_a_folder_that_is_no_run_is_refused_with_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path / "none", tmp_path):
        assert report.main([str(folder)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert str(folder) in err
        assert "ls results/" in err or "iobench sweep" in err


def test_a_file_that_can_not_be_written_is_named_and_nothing_half_written_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", [record()])
    (folder / "report.html").mkdir()
    assert report.main([str(folder)]) == 2
    assert f"{folder / 'report.html'} can't be written" in capsys.readouterr().err
    assert not list(folder.glob("*.part"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record()])
    folder.chmod(0o500)
    try:
        with pytest.raises(BadInputError, match="Permission denied"):
            report.write(folder)
    finally:
        folder.chmod(0o700)


def test_the_command_prints_the_path_of_the_page_and_its_warnings_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", [record()])
    with (folder / "trials.jsonl").open("a") as file:
        file.write("{")
    with warnings.catch_warnings():
        assert report.main([str(folder)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{folder / 'report.html'}\n"
    assert err.startswith("warning: ")
    assert "Traceback" not in err


def test_iobench_report_prints_the_answer_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "write_report", lambda folder, *_: folder / "report.html")
    folder = write_run(tmp_path / "run", sweep(repeats=3))
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert done.exit_code == 0
    *lines, path = done.output.splitlines()
    assert lines == answer.terminal(analyse(schema.read_run(folder)).comparisons)
    assert lines[0].startswith("No strategy is shown better than all others")
    assert path == str(folder / "report.html")


def test_the_answer_of_a_spoilt_run_is_told_without_a_second_warning(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record()])
    with (folder / "trials.jsonl").open("a") as file:
        file.write("{")
    assert folders.the_answer(folder) == ["Only epoll_lt was measured: there is nothing to choose from."]


def test_a_gate_and_several_runs_together_have_no_answer_of_this_kind(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text("{}")
    assert folders.the_answer(tmp_path) == []
    runs = [schema.read_run(write_run(tmp_path / name, [record()])) for name in "ab"]
    about, records = merge(runs, ["before", "after"])
    assert folders.the_answer(write_run(tmp_path / "both", records, about)) == []


def test_it_runs_as_a_script(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record()])
    script = Path(report.__file__)
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False, cwd=script.parent
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == str(folder / "report.html")


# --- facts and schema


def test_facts_of_any_plain_kind_are_shown() -> None:
    found = facts({"a": {"b": 1, "c": {}}, "d": [1, 2], "e": None, "f": True, "g": 0, "h": ""})
    assert found == [("a.b", "1"), ("a.c", "–"), ("d", "1, 2"), ("e", "–"), ("f", "yes"), ("g", "0"), ("h", "–")]


@pytest.mark.parametrize(
    "struct",
    [getattr(schema, name) for name in (*["Record", "Trial", "Load", "Server", "Machine", "Timing"], *MANIFEST_PARTS)],
)
def test_the_schema_in_words_names_every_field(struct: type[msgspec.Struct]) -> None:
    text = (Path(report.__file__).parent / "results" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+)`", text))
    assert set(struct.__struct_fields__) <= named
