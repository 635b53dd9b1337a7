"""Whatever the files of a run, a gate or a history hold, they are read, or refused in a sentence."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
import synthetic
from fuzzing import MIB, cut_up, examples, nothing_but_notes, spoilt, taking_at_most, within_memory
from hypothesis import example, given
from hypothesis import strategies as st
from synthetic_calibration import calibration
from synthetic_gate import a_gate, a_regression, a_result, more_calls
from test_history import a_history, noisy

import report
from bench import page, record, summary
from bench.analyse import Analysis, analyse
from bench.errors import BadInputError
from bench.export import export, names
from bench.figures import PLATES
from bench.figures.style import Picture, looks
from bench.gate.model import GATE_FILE
from bench.gate.show import junit, markdown, read, terminal, workflow
from bench.gate.show import page as gate_page
from bench.history.command import Options, history
from bench.record import MANIFEST_FILE, TRIALS_FILE, Machine, Manifest, read_run

pytestmark = pytest.mark.timeout(600)

DEEP = b"[" * 5000 + b"]" * 5000


# --- what is spoilt: a run, a gate and a history in which everything occurs


@cache
def trials() -> list[Any]:
    """Records of all kinds, as plain values."""
    machine = Machine(server_idle_ns=1e8, server_steal_ns=3e7, load_cpus=[1], load_idle_ns=1e8, load_steal_ns=0.0)
    failed = synthetic.unmeasured("poll", 16, 0, "failed", "it died")
    missing = synthetic.server(900, 9, 0.4, missing={"rss_bytes": "no /proc"}, refused={"EMFILE": 2})
    found = [
        synthetic.record("epoll_lt", 16, 0, machine=machine, flags=["unsteady"]),
        synthetic.record("epoll_lt", 16, 1),
        synthetic.record("poll", 16, 1, server=missing),
        synthetic.open_record("poll", 9000, 8000, order=4),
        synthetic.record("poll", 4, 0, load=synthetic.churn_load(900, 4), workload="churn"),
        failed,
    ]
    return [msgspec.to_builtins(one) for one in found]


@cache
def about() -> Any:
    """A manifest, as plain values."""
    search = synthetic.search("epoll_lt", 9e3, 1e4)
    chart = {"title": "t", "x": "descriptors", "y": "us", "lines": {"epoll": [[1, 2.0], [10, 2.5]]}}
    seen = {"what": "a read", "observed": "0", "expected": "0", "holds": True}
    finding = {"name": "x", "claim": "c", "status": "ok", "observations": [seen], "charts": [chart]}
    step = {"who": "1", "name": "read", "arguments": "3", "result": "64", "at_us": 1.0, "took_us": 2.0}
    echo = {"strategy": "poll", "transport": "tcp", "message_bytes": 64, "woke_us": 1.0, "end_us": 5.0, "steps": [step]}
    whole = synthetic.manifest(
        ["epoll_lt", "poll"],
        calibration=calibration(),
        lab={"created": "2026-01-01T00:00:00Z", "host": {"system": "Linux", "kernel": "6"}, "findings": [finding]},
        why=synthetic.why("epoll_lt", "poll"),
        anatomy={"created": "2026-01-01T00:00:00Z", "tracer": "strace", "host": {}, "anatomies": [echo]},
        searches=[search],
        interpreters=[record.Interpreter(name="pypy3", available=True, implementation="PyPy", version="7")],
    )
    return msgspec.to_builtins(whole)


@cache
def gate() -> Any:
    whole = a_gate(a_regression(), more_calls(), a_result("asyncio_protocol, tcp, 16 x 64 B"), verdict="regressed")
    return msgspec.to_builtins(whole)


def encoded(value: Any) -> bytes:
    """JSON, as the standard library writes it: numbers of any length among it, and Infinity, which is none."""
    return json.dumps(value).encode()


def lines(values: Any) -> bytes:
    return b"".join(encoded(value) + b"\n" for value in (values if isinstance(values, list) else [values]))


# --- what is done with them


@contextmanager
def a_run(manifest: bytes, records: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, MANIFEST_FILE).write_bytes(manifest)
        Path(folder, TRIALS_FILE).write_bytes(records)
        yield Path(folder)


def reported(folder: Path, draw: bool = False) -> None:
    """Make the report of a run, with its figures or without, unless it is refused."""
    with within_memory(), nothing_but_notes():
        try:
            run = read_run(folder)
        except BadInputError as error:
            assert error.next_step
            return
        analysis = analyse(run)
        if draw:
            drawn(analysis)
        html = page.html(page.content(analysis), [])
        assert len(re.findall("<script", html)) == 2  # the page's own
        assert "<script" not in summary.markdown(analysis, []).replace("`<script>`", "")


def drawn(analysis: Analysis) -> None:
    """Draw all figures, without rendering them."""
    all_looks = looks(analysis.trials["strategy"])
    for plate in PLATES:
        rows = plate.rows(analysis)
        if len(rows):
            plate.draw(rows, all_looks)
            plate.message(analysis, rows)


# --- a run


@examples(6)
@given(cut_up(lines(trials())))
@example(b'{"zzz": ' + DEEP + b"}\n" + lines(trials()))
@example(lines(trials()).replace(b'"order"', b'"zzz": ' + DEEP + b', "order"'))
@example(b"\n\n" + DEEP + b"\n")
@example(lines(trials()).replace(b'"completed":', b'"completed":1' + b"0" * 400 + b', "was":'))
def test_trials_of_any_bytes_can_be_reported(content: bytes) -> None:
    with a_run(encoded(about()), content) as folder:
        reported(folder)


@examples(25)
@given(spoilt(trials(), most=6))
def test_trials_with_values_of_any_kind_can_be_reported(values: Any) -> None:
    with a_run(encoded(about()), lines(values)) as folder:
        reported(folder)


@examples(4)
@given(spoilt(trials(), most=6))
def test_trials_with_values_of_any_kind_can_be_drawn(values: Any) -> None:
    with a_run(encoded(about()), lines(values)) as folder:
        reported(folder, draw=True)


@examples(15)
@given(spoilt(trials(), most=6), st.sampled_from(["hlog", "hgrm"]))
def test_trials_with_values_of_any_kind_can_be_exported(values: Any, to: str) -> None:
    assert to in names()
    run = a_run(encoded(about()), lines(values))
    with run as folder, within_memory(), nothing_but_notes(), suppress(BadInputError):
        for path in export(read_run(folder), to, folder / "out"):
            assert path.is_relative_to(folder)


@examples(5)
@given(cut_up(encoded(about())))
@example(DEEP)
@example(b'{"host": ' + DEEP + b"}")
def test_a_manifest_of_any_bytes_is_one_or_bad_input(content: bytes) -> None:
    with a_run(content, lines(trials())) as folder:
        reported(folder)


@examples(25)
@given(spoilt(about(), most=6))
def test_a_manifest_with_values_of_any_kind_is_one_or_bad_input(values: Any) -> None:
    with a_run(encoded(values), lines(trials())) as folder:
        reported(folder)


@examples(3)
@given(spoilt(about(), most=6))
def test_a_manifest_with_values_of_any_kind_can_be_drawn(values: Any) -> None:
    with a_run(encoded(values), lines(trials())) as folder:
        reported(folder, draw=True)


# --- files of a size that nobody meant


def test_a_line_without_end_is_left_out_and_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "MOST_BYTES", MIB)
    (tmp_path / MANIFEST_FILE).write_bytes(encoded(about()))
    good = lines(trials()[:1])
    with (tmp_path / TRIALS_FILE).open("wb") as file:
        file.write(good + b'{"id": "')
        file.seek(64 * MIB, io.SEEK_CUR)
        file.write(b"\n" + lines(trials()[1:2]))
    with taking_at_most(8 * MIB), pytest.warns(UserWarning, match=f"{TRIALS_FILE}:2 is left out"):
        run = read_run(tmp_path)
    assert len(run.records) == 2


def test_a_manifest_without_end_is_bad_input_and_not_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "MOST_BYTES", MIB)
    with (tmp_path / MANIFEST_FILE).open("wb") as file:
        file.truncate(1 << 34)
    with taking_at_most(8 * MIB), pytest.raises(BadInputError, match="it has more than 1,048,576 bytes"):
        read_run(tmp_path)


# --- a gate and a history


@examples(40)
@given(spoilt(gate(), most=6).map(encoded) | cut_up(encoded(gate())))
@example(b'{"host": ' + DEEP + b"}")
def test_a_gate_of_any_kind_can_be_shown_or_is_bad_input(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, within_memory(), nothing_but_notes():
        Path(folder, GATE_FILE).write_bytes(content)
        try:
            found = read(Path(folder))
        except BadInputError:
            return
        with redirect_stdout(io.StringIO()) as said:
            terminal.show(found)
        assert "\x1b" not in said.getvalue() and "\x00" not in said.getvalue()
        assert "<script" not in markdown.render(found)
        assert all(line.startswith("::") and "\n" not in line for line in workflow.render(found))
        ET.fromstring(junit.render(found))


@examples(4)
@given(spoilt(gate(), most=6))
def test_the_page_of_a_gate_of_any_kind_can_be_made(values: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, within_memory(), nothing_but_notes():
        Path(folder, GATE_FILE).write_bytes(encoded(values))
        with pytest.MonkeyPatch.context() as patch, suppress(BadInputError):
            patch.setattr(gate_page, "picture", lambda draw, name: draw() and Picture("", "", b""))
            html, _ = gate_page.render(read(Path(folder)))
            assert html.count("<script") == 1  # the page's own


@examples(60)
@given(
    spoilt([msgspec.to_builtins(one) for one in a_history(noisy(10, 6, 1))], most=6).map(lines)
    | cut_up(lines([msgspec.to_builtins(one) for one in a_history(noisy(10, 6, 1))]))
)
@example(DEEP)
def test_a_history_of_any_kind_can_be_shown_or_is_bad_input(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, within_memory(), nothing_but_notes():
        path = Path(folder, "history.jsonl")
        path.write_bytes(content)
        with redirect_stdout(io.StringIO()) as said, suppress(BadInputError):
            history(Options(path, None, (), (), Path(folder, "otava"), None, fail_on_change=False))
        assert "\x1b" not in said.getvalue() and "\x00" not in said.getvalue()


@examples(2)
@given(spoilt(trials(), most=3))
def test_a_spoilt_run_has_a_whole_report(values: Any) -> None:
    with a_run(encoded(about()), lines(values)) as folder, nothing_but_notes():
        written = report.write(folder)
        assert written.read_text().rstrip().endswith("</html>")
        for path in folder.glob("*.svg"):
            ET.fromstring(path.read_text())


def test_what_is_spoilt_is_whole_to_begin_with() -> None:
    assert msgspec.convert(about(), Manifest).searches
    with a_run(encoded(about()), lines(trials())) as folder:
        run = read_run(folder)
        assert (len(run.records), run.notes) == (len(trials()), [])
        reported(folder, draw=True)
