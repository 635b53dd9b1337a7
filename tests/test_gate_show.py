"""What a gate shows, from gates that are made up."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from junitparser import Error, Failure, JUnitXml, Skipped
from spawn import ROOT
from synthetic_gate import a_case, a_gate, a_regression, a_result, more_calls, too_noisy

import report
from bench.errors import BadInputError
from bench.gate import show
from bench.gate.model import GATE_FILE, UNBOUNDED, Case, Gate, Pair, Result, Sample, Side
from bench.gate.show import junit, markdown, page, words, workflow

FINE = a_gate(a_result(), a_result(metric="rate_hz", base=240_000, head=239_000))
WORSE = a_gate(a_regression(), more_calls(), a_result("asyncio_protocol, tcp, 16 x 64 B"), verdict="regressed")
UNCLEAR = a_gate(too_noisy(), verdict="inconclusive")
NASTY = "<script>alert(1)</script> a|b"


def printed(gate: Gate, capsys: pytest.CaptureFixture[str]) -> str:
    show.tell(gate)
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _not_in_a_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


@pytest.mark.parametrize(
    ("gate", "said"),
    [(FINE, "No regression"), (WORSE, "Regression"), (UNCLEAR, "Inconclusive")],
    ids=["ok", "regressed", "inconclusive"],
)
def test_every_output_begins_with_the_verdict(gate: Gate, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(gate, capsys).startswith(said)
    assert said in markdown.render(gate).splitlines()[0]
    assert said in workflow.render(gate)[0]
    assert f"<h1>{said}" in page.render(gate)[0]


def test_the_terminal_is_80_columns_wide(capsys: pytest.CaptureFixture[str]) -> None:
    long = a_case("a_strategy_with_quite_a_long_name, unix, 1024 x 65536 B, 16 deep").name
    gate = a_gate(a_regression(long), more_calls(long), too_noisy(), verdict="regressed", notes=["Words " * 40])
    assert max(map(len, printed(gate, capsys).splitlines())) <= 80


def test_a_regression_is_told_with_its_reason_before_all_else(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(WORSE, capsys)
    assert text.index("epoll_lt, tcp") < text.index("asyncio_protocol, tcp")
    assert "worse by more than 5 %, twice" in text
    assert "read +1.00" in text
    assert "+20.0 %" in text


def test_what_could_have_been_found_is_told_case_by_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(r"could have found:\s+epoll_lt, tcp, 16 x 64 B:.*\+4\.0 %", printed(FINE, capsys), re.DOTALL)


def test_dropped_pairs_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(FINE, capsys)
    assert "11 counted, 1" in text
    assert "1 for run-queue wait" in text


def test_a_metric_that_is_too_noisy_and_optional_is_told_as_that() -> None:
    shown = words.row(too_noisy(metric="p99_us", optional=True))
    assert shown.verdict == "too noisy"
    assert words.row(too_noisy()).verdict == "inconclusive"


@pytest.mark.parametrize(
    "fields",
    [
        {"metric": "rate_hz", "base": 110_748.0, "head": 111_483.0, "ratio": 1.009},
        {"metric": "rate_hz", "base": 900.0, "head": 1_000.0, "ratio": 1.25},
        {"metric": "cpu_us", "base": 4.04, "head": 4.01, "ratio": 1.003},
        {"metric": "p99_us", "base": 151.2, "head": 149.0, "ratio": 1.04},
        {"metric": "bytes_per_connection", "base": 4096.0, "head": 5000.0, "ratio": 1.01},
    ],
    ids=lambda fields: f"{fields['metric']} {fields['ratio']}",
)
def test_the_two_figures_of_a_row_are_apart_by_the_ratio_beside_them_whatever_the_medians_are(
    fields: dict[str, Any],
) -> None:
    row = words.row(a_result(**fields))
    base, head = (float(text.rstrip("/sµB ").replace(",", "")) for text in (row.base, row.head))
    worse = base / head if fields["metric"] == "rate_hz" else head / base
    assert 100 * (worse - 1) == pytest.approx(float(row.change.removesuffix(" %")), abs=0.1)


def test_figures_without_a_ratio_are_the_medians() -> None:
    row = words.row(too_noisy(base=4.0, head=5.0, low=0.0, high=UNBOUNDED))
    assert (row.base, row.head, row.change) == ("4 µs", "5 µs", "–")


def test_a_comparison_with_a_stored_run_is_called_not_paired(capsys: pytest.CaptureFixture[str]) -> None:
    assert "not paired" in printed(a_gate(a_result(), paired=False, pairs=[]), capsys)


def test_names_are_text_in_markdown_and_on_the_page() -> None:
    gate = a_gate(a_regression(NASTY), verdict="regressed", notes=[NASTY])
    text = markdown.render(gate)
    assert "<script>" not in text
    assert "a\\|b" in text
    assert "<script>alert" not in page.render(gate)[0]


def test_the_markdown_has_what_regressed_outside_of_the_fold() -> None:
    before_the_fold = markdown.render(WORSE).split("<details>")[0]
    assert "read +1.00" in before_the_fold
    assert "asyncio" not in before_the_fold.split("\n| ", 1)[1]


def test_every_row_of_a_markdown_table_has_all_columns() -> None:
    rows = [line for line in markdown.render(WORSE).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {len(markdown.COLUMNS) + 1}


def test_a_reader_of_junit_files_finds_failures_errors_and_skipped_ones(tmp_path: Path) -> None:
    gate = a_gate(
        a_regression(NASTY), too_noisy(), a_result(), too_noisy(metric="p99_us", optional=True), verdict="regressed"
    )
    path = tmp_path / "junit.xml"
    path.write_bytes(junit.render(gate))
    (suite,) = JUnitXml.fromfile(str(path))
    kinds = [type(outcome) for case in suite for outcome in case.result]
    assert kinds.count(Failure) == 1
    assert kinds.count(Error) == 1
    assert kinds.count(Skipped) == 1
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 1, 1)


def test_a_gate_that_was_interrupted_is_not_green_in_a_junit_file(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    path.write_bytes(junit.render(a_gate(verdict="inconclusive", notes=["The gate was interrupted."])))
    (suite,) = JUnitXml.fromfile(str(path))
    assert suite.errors == 1
    assert suite.tests == 1


def test_annotations_are_escaped_as_workflow_commands_are() -> None:
    gate = a_gate(a_regression("a,b: c"), verdict="regressed")
    _, line = workflow.render(gate)
    assert line.startswith("::error title=a%2Cb%3A c::")
    assert "+20.0 %25" in line
    assert "\n" not in line


def test_annotations_and_the_step_summary_appear_within_a_workflow_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "::" not in printed(WORSE, capsys)
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert "::error title=iobench gate::" in printed(WORSE, capsys)
    assert summary.read_text().startswith("## ✗ Regression")


def test_all_files_are_written_and_made_again_from_gate_json_alone(tmp_path: Path) -> None:
    (tmp_path / GATE_FILE).write_bytes(msgspec.json.encode(WORSE))
    written = show.write(tmp_path, WORSE)
    assert {path.name for path in written} == {
        *("report.html", "gate.md", "junit.xml"),
        *("forest.svg", "forest.png", "pairs.svg", "pairs.png"),
    }
    before = {path: path.read_bytes() for path in written}
    for path in written:
        path.unlink()
    assert report.write(tmp_path) == tmp_path / "report.html"
    assert {path: path.read_bytes() for path in written} == before


def test_a_gate_without_a_result_has_a_page_all_the_same(tmp_path: Path) -> None:
    html, files = page.render(a_gate(verdict="inconclusive", pairs=[], cases=[a_case()]))
    assert files == {}
    assert "Nothing was compared" in html


def test_fifty_cases_make_one_page() -> None:
    names = [f"case {number}" for number in range(50)]
    html, files = page.render(a_gate(*(a_result(name) for name in names)))
    assert all(f">{name}<" in html for name in names)
    assert len(html) < 3_000_000
    assert "forest.png" in files


def test_limits_that_there_are_none_of_survive_being_written(tmp_path: Path) -> None:
    endless = too_noisy(low=0.0, high=UNBOUNDED, upper=UNBOUNDED, detectable=UNBOUNDED)
    gate = a_gate(endless, verdict="inconclusive")
    (tmp_path / GATE_FILE).write_bytes(msgspec.json.encode(gate))
    assert show.read(tmp_path) == gate
    assert words.row(endless).change == "–"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 99}', b"\xff"])
def test_what_is_no_gate_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / GATE_FILE).write_bytes(content)
    with pytest.raises(BadInputError, match=GATE_FILE):
        show.read(tmp_path)


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    class Sources(HTMLParser):
        found: list[str] = []  # noqa: RUF012 - one parser, used once

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [value or "" for name, value in attrs if name == "src" or (tag == "link" and name == "href")]

    parser = Sources()
    parser.feed(page.render(WORSE)[0])
    assert parser.found == []


@pytest.mark.parametrize("struct", [Gate, Pair, Result, Case, Side, Sample], ids=lambda struct: struct.__name__)
def test_every_field_of_gate_json_is_described(struct: type[msgspec.Struct]) -> None:
    described = (ROOT / "results" / "README.md").read_text(encoding="utf-8").split("## gate.json")[1]
    fields = [field.name for field in msgspec.structs.fields(struct)]
    assert [name for name in fields if f"`{name}`" not in described] == []
