"""The files that the tools of HdrHistogram read: what was measured comes back from them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from driving import drive
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from peers import peer

from clients import histogram
from clients.export import interval_log, opened_s, percentile_table
from clients.job import Load

OPENED_S = 1_700_000_000.5


def a_load(intervals: list[list[int]], **changes: object) -> Load:
    """A load with these response times in each of its intervals of 100 ms, and service times of 1 ns."""
    parts = []
    for values in intervals:
        counts = histogram.empty()
        histogram.count_all(counts, np.array(values, np.int64))
        parts.append(counts)
    total = np.sum(parts, axis=0)
    service = histogram.empty()
    service[1] = total.sum()
    settings: dict[str, object] = {
        "opened_ns": 0,
        "closed_ns": len(parts) * 100_000_000,
        "connections": 1,
        "planned": int(total.sum()),
        "completed": int(total.sum()),
        "errors": {},
        "timed_out": 0,
        "unsent": 0,
        "in_flight": 0,
        "bytes_echoed": 0,
        "interval_ns": 100_000_000,
        "intervals": [len(values) for values in intervals],
        "service_hdr": histogram.encode(service),
        "cpu_user_ns": 0,
        "cpu_system_ns": 0,
        "worker_busy": [0.0],
        "response_hdr": histogram.encode(total),
        "interval_hdrs": [histogram.encode(part) for part in parts],
    }
    return Load(**{**settings, **changes})  # type: ignore[arg-type]


VALUES = np.random.default_rng(2).lognormal(13, 1.5, (5, 400)).astype(int).tolist()


def read_log(text: str, folder: Path) -> tuple[HistogramLogReader, list[HdrHistogram]]:
    path = folder / "x.hlog"
    path.write_text(text, encoding="ascii")
    reader = HistogramLogReader(str(path), HdrHistogram(1, histogram.HIGHEST_NS, 3))
    found = []
    while (interval := reader.get_next_interval_histogram()) is not None:
        found.append(interval)
    reader.close()
    return reader, found


def test_an_interval_log_is_read_back_to_the_same_counts(tmp_path: Path) -> None:
    load = a_load([*VALUES, []])
    _, found = read_log(interval_log(load, OPENED_S), tmp_path)
    assert [histogram.from_hdr(each).tolist() for each in found] == [
        histogram.decode(text).tolist() for text in load.interval_hdrs
    ]


def test_the_intervals_of_a_log_follow_one_another_from_the_opening_of_the_window(tmp_path: Path) -> None:
    load = a_load(VALUES, closed_ns=450_000_000)
    reader, found = read_log(interval_log(load, OPENED_S), tmp_path)
    assert reader.get_start_time_sec() == OPENED_S
    begun = [each.get_start_time_stamp() for each in found]
    assert begun == pytest.approx([OPENED_S * 1000 + 100 * number for number in range(5)], abs=1)
    lengths = [each.get_end_time_stamp() - each.get_start_time_stamp() for each in found]
    assert lengths == pytest.approx([100, 100, 100, 100, 50], abs=1)


def test_the_longest_time_of_an_interval_is_given_in_milliseconds() -> None:
    lines = interval_log(a_load([[1_500_000], []]), OPENED_S).splitlines()
    assert [line.split(",")[2] for line in lines[4:]] == ["1.500", "0.000"]


def test_the_intervals_add_up_to_the_whole_when_a_tool_adds_them(tmp_path: Path) -> None:
    load = a_load(VALUES)
    path = tmp_path / "x.hlog"
    path.write_text(interval_log(load, OPENED_S), encoding="ascii")
    total = HdrHistogram(1, histogram.HIGHEST_NS, 3)
    reader = HistogramLogReader(str(path), total)
    while reader.add_next_interval_histogram() is not None:
        pass
    reader.close()
    assert histogram.from_hdr(total).tolist() == histogram.decode(load.response_hdr).tolist()


ROW = re.compile(r" *([\d.]+) ([01]\.\d{12}) +(\d+)(?: +([\d.]+))?")


def test_a_percentile_table_has_the_classic_layout() -> None:
    lines = percentile_table(a_load(VALUES)).splitlines()
    assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert lines[1] == ""
    rows = [ROW.fullmatch(line) for line in lines[2:-3]]
    assert all(rows)
    assert re.fullmatch(r"#\[Mean    = +[\d.]+, StdDeviation   = +[\d.]+\]", lines[-3])
    assert re.fullmatch(r"#\[Max     = +[\d.]+, TotalCount     = +2000.000\]", lines[-2])
    assert lines[-1].startswith("#[Buckets = ")


def test_a_percentile_table_holds_the_percentiles_in_milliseconds() -> None:
    load = a_load(VALUES)
    ordered = np.sort(np.array(VALUES).ravel())
    rows = [ROW.fullmatch(line) for line in percentile_table(load).splitlines()[2:-3]]
    for row in rows:
        assert row is not None
        below = int(row[3])
        assert below >= float(row[2]) * len(ordered) - 1
        assert float(row[1]) == pytest.approx(ordered[below - 1] / 1e6, rel=0.002, abs=0.001)
    last = rows[-1]
    assert last is not None
    assert (float(last[2]), int(last[3]), last[4]) == (1.0, 2000, None)


def test_mean_and_standard_deviation_are_in_the_unit_of_the_values() -> None:
    values = np.array(VALUES).ravel()
    mean, deviation = re.findall(r"= +([\d.]+)", percentile_table(a_load(VALUES)).splitlines()[-3])
    assert float(mean) == pytest.approx(values.mean() / 1e6, rel=0.002)
    assert float(deviation) == pytest.approx(values.std() / 1e6, rel=0.002)


def test_without_a_plan_the_service_times_are_written() -> None:
    load = a_load([[7_000_000]], response_hdr="")
    assert percentile_table(load).splitlines()[-2].split()[2] == "0.000,"  # ms: 1 ns


def test_a_window_without_a_single_echo_can_be_written_too(tmp_path: Path) -> None:
    load = a_load([[], []])
    assert len(read_log(interval_log(load, OPENED_S), tmp_path)[1]) == 2
    assert "TotalCount     =        0.000" in percentile_table(load)


def test_a_real_run_is_read_back_whole(tmp_path: Path) -> None:
    with peer("tcp", 64) as server:
        load = drive(server, connections=2, workload="open", rate_hz=1000.0, duration_s=0.25)
    _, found = read_log(interval_log(load, opened_s(load)), tmp_path)
    assert [each.total_count for each in found] == load.intervals
