"""What the counts of `iobench why` say: figures, sentences, table, file and report. Nothing is counted here."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from synthetic import manifest, record, write_run

import report
from bench.analyse import analyse
from bench.errors import BadInputError
from bench.figures import PLATES
from bench.page import content, html
from bench.record import Run
from bench.why import counts as figures
from bench.why import files, table, words
from bench.why.counts import Counts, Pass, Point, Why

HOST = {"kernel": "6.18", "machine": "x86_64", "cpu_model": "a CPU", "interpreter": "CPython 3.11"}
MESSAGES = 1_000


def one_pass(calls: dict[str, float] | None, errors: dict[str, float] | None = None, **changes: Any) -> Pass:
    """A server process; calls and errors are per message."""
    about: dict[str, Any] = {
        "messages": MESSAGES,
        "metrics": {"switches_voluntary": 1000.0, "switches_involuntary": 10.0, "minor_faults": 0.0},
        "timed_messages": 3 * MESSAGES,
        "times": {"cpu_ns": 30e6, "cpu_user_ns": 10e6, "cpu_system_ns": 30e6, "runqueue_wait_ns": 6e6},
        "held": {"rss_bytes": 16e6, "threads": 1.0},
    }
    if calls is not None:
        about["counted_messages"] = MESSAGES
        about["calls"] = {name: round(value * MESSAGES) for name, value in calls.items()}
        about["errors"] = {name: round(value * MESSAGES) for name, value in (errors or {}).items()}
    return Pass(**{**about, **changes})


def point(burst: int, *each: dict[str, float] | None, errors: dict[str, float] | None = None) -> Point:
    return Point(burst=burst, passes=[one_pass(calls, errors) for calls in each])


def counts(name: str, *points: Point, **changes: Any) -> Counts:
    about: dict[str, Any] = {
        "strategy": name,
        "transport": "tcp",
        "message_bytes": 64,
        "created": "2026-01-02T03:04:05.000+00:00",
        "providers": {"system calls": "perf stat"},
        "points": list(points),
    }
    return Counts(**{**about, **changes})


LT = {1: {"epoll_wait": 1.0, "read": 1.0, "write": 1.0}, 64: {"read": 1.0, "write": 1.0, "epoll_wait": 0.016}}


def epoll_lt(**changes: Any) -> Counts:
    return counts("epoll_lt", *(point(burst, calls, calls) for burst, calls in LT.items()), **changes)


# --- figures


def test_figures_are_per_message_and_the_mean_of_the_passes() -> None:
    at_one = point(1, {"read": 1.0, "write": 1.0}, {"read": 2.0, "write": 1.0})
    assert figures.calls(at_one) == {"read": 1.5, "write": 1.0}
    assert figures.total(at_one) == 2.5
    assert figures.switches(at_one) == 1.01
    assert figures.messages_a_wakeup(at_one) == 1.0


def test_cpu_time_is_the_exact_sum_shared_out_as_the_clock_ticks_say() -> None:
    assert figures.cpu_parts_ns(point(1, {"read": 1.0})) == (2500.0, 7500.0)


def test_a_server_that_never_sleeps_has_no_end_of_messages_a_wakeup() -> None:
    awake = Point(burst=1, passes=[one_pass({"read": 1.0}, metrics={"switches_voluntary": 0.0})])
    assert figures.messages_a_wakeup(awake) == math.inf


def test_what_was_not_counted_is_none_and_not_nought() -> None:
    uncounted = point(1, None, None)
    assert figures.total(uncounted) is None
    assert figures.apart(uncounted) is None
    assert figures.metric(Point(burst=1), "minor_faults") is None
    assert figures.time_ns(Point(burst=1), "cpu_ns") is None


@pytest.mark.parametrize(
    ("second", "agree"),
    [
        ({"read": 1.0, "write": 1.0}, True),
        ({"read": 1.0, "write": 1.019}, True),
        ({"read": 1.0, "write": 1.03}, False),
        ({"read": 1.0, "write": 0.9, "futex": 0.1}, False),  # the sum is the same
        ({"read": 1.0, "write": 1.0, "mmap": 1.0, "munmap": 1.0}, False),
    ],
)
def test_two_passes_agree_within_a_hundredth_of_the_calls_by_name_and_in_sum(
    second: dict[str, float], agree: bool
) -> None:
    assert figures.agrees(point(1, {"read": 1.0, "write": 1.0}, second)) is agree


def test_one_pass_alone_agrees_with_nothing() -> None:
    assert not figures.agrees(point(1, {"read": 1.0}))


def test_what_a_connection_takes_is_the_growth_from_the_fewest_to_the_most() -> None:
    held = {1: {"threads": 2.0, "rss_bytes": 1e6}, 64: {"threads": 65.0, "rss_bytes": 1e6 + 63e3}}
    found = counts("t", *(Point(burst=burst, passes=[one_pass(None, held=now)]) for burst, now in held.items()))
    assert figures.per_connection(found, "threads") == 1.0
    assert figures.per_connection(found, "rss_bytes") == 1000.0
    assert figures.per_connection(counts("t", found.points[0]), "threads") is None


# --- sentences


def test_a_sentence_says_the_calls_at_many_messages_a_wakeup_and_at_one_and_which_they_are() -> None:
    assert words.sentence(epoll_lt()) == (
        "`epoll_lt` makes 2.02 system calls for a message at 64 messages a wake-up, 3.00 at one: epoll_wait 1.00, "
        "read 1.00 and write 1.00."
    )


def test_a_sentence_names_the_errors() -> None:
    found = counts("epoll_et", point(1, {"read": 2.0, "epoll_wait": 1.0, "write": 1.0}, errors={"read EAGAIN": 1.0}))
    assert words.sentence(found) == (
        "`epoll_et` makes 4.00 system calls for a message: read 2.00, epoll_wait 1.00 and write 1.00; 1.00 end in "
        "EAGAIN."
    )


def test_calls_that_one_process_makes_and_another_does_not_are_named() -> None:
    usual = {"epoll_wait": 1.0, "recvfrom": 1.0, "sendto": 1.0}
    mapping = dict.fromkeys(["mmap", "mremap", "munmap"], 1.0)
    found = counts("asyncio_protocol", point(1, usual, usual | mapping))
    assert words.remarks(found) == [
        "`asyncio_protocol` at one a wake-up: two passes differ by 67 % of the calls: mmap 0 and 1.00; mremap 0 and "
        "1.00; munmap 0 and 1.00."
    ]


def test_where_nothing_could_count_the_sentence_gives_each_reason() -> None:
    reasons = {"perf stat": "perf is not installed", "strace": "strace is not installed"}
    found = counts("poll", point(1, None, None), providers={}, unavailable=reasons)
    assert words.sentence(found) == (
        "`poll`: its system calls were not counted: not available: perf stat: perf is not installed; strace: strace is "
        "not installed."
    )


def test_bursts_that_a_strategy_can_not_serve_are_told_together() -> None:
    calls = {"read": 1.0, "write": 1.0}
    why = "it serves one connection at a time"
    found = counts("iterative", point(1, calls, calls), Point(burst=8, reason=why), Point(burst=64, reason=why))
    assert words.remarks(found) == [
        "`iterative` was not counted at 8 messages a wake-up and at 64 messages a wake-up: it serves one connection at "
        "a time."
    ]


def test_futex_calls_of_threads_under_strace_are_said_to_be_partly_its_doing() -> None:
    calls = {"read": 1.0, "write": 1.0, "futex": 3.0}
    passes = [one_pass(calls, held={"threads": 65.0}) for _ in range(2)]
    found = counts("thread_per_connection", Point(burst=64, passes=passes), providers={"system calls": "strace"})
    assert "some of the futex calls at 64 messages a wake-up are its doing" in words.remarks(found)[0]
    assert words.remarks(msgspec.structs.replace(found, providers={"system calls": "perf stat"})) == []


def test_transport_and_interpreter_are_named_where_they_are_not_the_usual_ones() -> None:
    elsewhere = epoll_lt(transport="pipe", python="/a/long/path/python3.13", implementation="CPython", version="3.13.0")
    assert words.who(elsewhere) == "epoll_lt on pipe, CPython 3.13.0"
    assert words.who(epoll_lt(python="python3.13")) == "epoll_lt on python3.13"
    assert words.who(epoll_lt()) == "epoll_lt"


def test_the_agreement_of_all_points_is_told() -> None:
    off = counts("x", point(1, {"read": 1.0}, {"read": 2.0}))
    assert words.agreement([epoll_lt()]) == (
        "System calls were counted twice, in two server processes, which agree within 1 % at every point."
    )
    assert words.agreement([epoll_lt(), off]).endswith("which agree within 1 % at 2 of 3 points.")
    assert words.agreement([counts("y", Point(burst=1, reason="z"))]) == ""


def test_the_provider_is_named_and_why_it_was_not_another() -> None:
    found = epoll_lt(providers={"system calls": "strace"}, unavailable={"perf stat": "perf is not installed"})
    assert words.sources([found]) == [
        "System calls were counted with strace.",
        "perf stat is not available: perf is not installed.",
    ]


# --- the table


def shown(*all_counts: Counts) -> str:
    out = io.StringIO()
    table.show(all_counts, Console(file=out, width=80, highlight=False))
    return out.getvalue()


def test_the_table_has_strategies_side_by_side_and_calls_by_name() -> None:
    calls = {"read": 2.0, "epoll_wait": 1.0, "write": 1.0}
    text = shown(
        epoll_lt(), counts("epoll_et", *(point(burst, calls, calls, errors={"read EAGAIN": 1.0}) for burst in (1, 64)))
    )
    lines = {line[: table.LABEL].strip(): line[table.LABEL :].split() for line in text.splitlines()}
    assert lines["system calls"] == ["3.00", "2.02", "4.00", "4.00"]
    assert lines["epoll_wait"] == ["1.00", "0.02", "1.00", "1.00"]
    assert lines["= read EAGAIN"] == ["0", "0", "1.00", "1.00"]
    assert lines["two passes agree"] == ["yes"] * 4
    assert lines["CPU, kernel µs"] == ["7.50"] * 4


def test_a_burst_that_was_not_counted_is_a_dash() -> None:
    text = shown(counts("iterative", point(1, {"read": 1.0}, {"read": 1.0}), Point(burst=8, reason="one at a time")))
    row = next(line for line in text.splitlines() if line.startswith("system calls"))
    assert row.split()[-2:] == ["1.00", table.NONE]


@given(
    st.lists(
        st.tuples(
            st.text("abcdefgh_", min_size=1, max_size=40),
            st.floats(0, 1e7, allow_nan=False),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_no_line_of_the_tables_is_wider_than_80_columns(found: list[tuple[str, float]]) -> None:
    calls = [{"read": value, "io_getevents_of_a_long_name": 1.0} for _, value in found]
    text = shown(
        *(counts(name, *(point(b, own, own) for b in (1, 8, 64))) for (name, _), own in zip(found, calls, strict=True))
    )
    assert max(map(len, text.splitlines())) <= 80


# --- the file


def why(*all_counts: Counts, **host: str) -> Why:
    return Why(counts=list(all_counts), host=HOST | host, versions={}, command=["iobench", "why"])


def test_what_is_counted_again_takes_the_place_of_what_was_counted_before_and_the_rest_stays(tmp_path: Path) -> None:
    files.write(tmp_path, why(epoll_lt(version="old"), counts("poll")))
    files.write(tmp_path, why(epoll_lt(version="new"), epoll_lt(transport="unix")))
    found = files.read(tmp_path)
    assert found is not None
    assert [(one.strategy, one.transport, one.version) for one in found.counts] == [
        ("epoll_lt", "tcp", "new"),
        ("epoll_lt", "unix", ""),
        ("poll", "tcp", ""),
    ]


def test_counts_of_another_machine_are_not_mixed_in(tmp_path: Path) -> None:
    files.write(tmp_path, why(counts("poll"), kernel="5.4"))
    files.write(tmp_path, why(epoll_lt()))
    found = files.read(tmp_path)
    assert found is not None
    assert [one.strategy for one in found.counts] == ["epoll_lt"]


def test_a_run_takes_the_counts_of_its_strategies_from_this_machine_alone() -> None:
    there = why(epoll_lt(), counts("poll"))
    kept = files.of_strategies(there, {"poll"}, HOST)
    assert [one.strategy for one in files.understood(kept)] == ["poll"]
    assert files.of_strategies(there, {"poll"}, HOST | {"kernel": "5.4"}) is None
    assert files.of_strategies(there, {"select"}, HOST) is None
    assert files.of_strategies(None, {"poll"}, HOST) is None


@pytest.mark.parametrize("text", ["", "{", '{"counts": 1}'])
def test_a_file_that_can_not_be_read_is_told_and_none_counts_nothing(tmp_path: Path, text: str) -> None:
    assert files.read(tmp_path) is None
    assert files.read(tmp_path / "none") is None
    (tmp_path / figures.WHY_FILE).write_text(text)
    with pytest.raises(BadInputError, match=r"why\.json can't be read"):
        files.read(tmp_path)
    assert files.understood({"counts": 1}) == []
    assert files.understood(None) == []


def test_a_folder_that_can_not_be_written_to_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"why\.json can't be written"):
        files.write(tmp_path / "file", why(epoll_lt()))


def test_the_schema_of_the_counts_is_written_down() -> None:
    text = (Path(report.__file__).parent / "results" / "README.md").read_text(encoding="utf-8")
    for struct in (Why, Counts, Point, Pass):
        for name in struct.__struct_fields__:
            assert f"`{name}`" in text, name


# --- the report


def test_a_report_shows_sentences_remarks_and_stacked_charts(tmp_path: Path) -> None:
    busy = {"read": 300.0, "write": 1.0}
    found = why(
        epoll_lt(), counts("polling", *(point(burst, busy, {"read": 200.0, "write": 1.0}) for burst in (1, 64)))
    )
    about = manifest(["epoll_lt"], why=msgspec.to_builtins(found))
    folder = write_run(tmp_path / "run", [record("epoll_lt", repeat=index) for index in range(2)], about)
    page = report.write(folder).read_text(encoding="utf-8")
    assert 'id="why"' in page
    assert "makes 2.02 system calls for a message at 64 messages a wake-up" in page
    assert "two passes differ by" in page
    for plate in ("why-calls", "why-time", "why-switches"):
        assert (folder / f"{plate}.svg").exists()
        assert f'id="figure-{plate}"' in page
    assert "system calls per message" in (folder / "why-calls.svg").read_text(encoding="utf-8")
    assert "2.02 system calls" in (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("part", "odd"),
    [
        ("why", {"counts": [{"strategy": "epoll_lt"}]}),
        ("lab", {"findings": 3}),
        ("anatomy", {"anatomies": [{}]}),
        ("calibration", {"findings": None}),
    ],
)
def test_a_report_says_what_it_has_to_leave_out_of_a_manifest_for_it_can_not_be_read(
    part: str, odd: dict[str, object], tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run", [record("epoll_lt")], manifest(["epoll_lt"], **{part: odd}))
    said = f"what iobench {part.replace('calibration', 'calibrate')} found can't be read, and is left out"
    with pytest.warns(UserWarning, match=f"manifest.json: {said}"):
        page = report.write(folder).read_text(encoding="utf-8")
    assert said.replace("'", "&#39;") in page
    assert said in (folder / "report.md").read_text(encoding="utf-8")


def test_counts_below_zero_are_told_in_a_report_and_not_passed_over(tmp_path: Path) -> None:
    found = msgspec.to_builtins(why(epoll_lt()))
    found["counts"][0]["points"][0]["passes"][0]["calls"]["futex"] = -18
    folder = write_run(tmp_path / "run", [record("epoll_lt")], manifest(["epoll_lt"], why=found))
    with pytest.warns(UserWarning, match="what iobench why found can't be read, and is left out: Expected int >= 0"):
        report.write(folder)


def test_a_report_of_a_run_without_counts_says_nothing_of_them() -> None:
    records = [record("epoll_lt", repeat=index) for index in range(2)]
    analysis = analyse(Run(folder=Path("run"), manifest=manifest(["epoll_lt"]), records=records))
    assert 'id="why"' not in html(content(analysis), [])
    assert not any(len(plate.rows(analysis)) for plate in PLATES if plate.name.startswith("why"))
