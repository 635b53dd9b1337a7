"""What holds for every format of an export, the command, and HdrHistogram's formats, read by its own reader."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from synthetic import (
    load_sweep,
    manifest,
    open_load,
    open_record,
    record,
    sweep,
    unmeasured,
    workloads,
    write_run,
)

from bench.errors import BadInputError
from bench.export import export, find, names
from bench.record import Record, Run, read_run


def run_of(folder: Path, *records: Record) -> Run:
    return Run(folder=folder, manifest=manifest(["poll"]), records=list(records))


def read_log(path: Path) -> Iterator[HdrHistogram]:
    reader = HistogramLogReader(str(path), HdrHistogram(1, 10**12, 3))
    try:
        while (interval := reader.get_next_interval_histogram()) is not None:
            yield interval
    finally:
        reader.close()


def read_distribution(path: Path) -> list[tuple[float, float, int]]:
    """(value in ms, quantile, total count) of each line; the file has numbers, a heading and a few notes."""
    lines = [line.split() for line in path.read_text(encoding="ascii").splitlines() if re.match(r"\s*\d", line)]
    return [(float(line[0]), float(line[1]), int(line[2])) for line in lines]


FOLDERS = {"hgrm", "github-action-benchmark"}
FORMATS = [
    *("bmf", "csv", "github-action-benchmark", "hgrm", "hlog", "junit", "openmetrics", "parquet", "pyperf"),
    "pytest-benchmark",
]
READERS = {"parquet": "pyarrow"}  # and writers


def needs_its_library(to: str) -> None:
    if to in READERS:
        pytest.importorskip(READERS[to])


def test_every_module_of_the_package_is_a_format() -> None:
    here = {path.stem for path in Path(sys.modules["bench.export"].__path__[0]).glob("[!_]*.py")}
    assert names() == FORMATS == sorted(stem.replace("_", "-") for stem in here)
    assert all(find(name).name == name and find(name).summary for name in names())


# --- hlog


def test_a_log_holds_every_interval_of_every_trial_tagged_with_its_id(tmp_path: Path) -> None:
    records = [open_record("poll", rate, 1e5, order=order) for order, rate in enumerate((20_000, 50_000))]
    (path,) = export(run_of(tmp_path, *records), "hlog")
    assert path == tmp_path / "latency.hlog"
    intervals = list(read_log(path))
    assert [it.get_tag() for it in intervals].count(records[0].id) == 10
    assert {it.get_tag() for it in intervals} == {found.id for found in records}
    for found in records:
        assert found.load is not None
        total = sum(it.get_total_count() for it in intervals if it.get_tag() == found.id)
        assert total == found.load.completed


def test_the_intervals_of_a_log_lie_where_the_window_lay(tmp_path: Path) -> None:
    found = open_record("poll", 20_000, 1e5, started="2025-01-02T03:04:05.500Z")
    (path,) = export(run_of(tmp_path, found), "hlog")
    starts = [it.get_start_time_stamp() / 1000 for it in read_log(path)]
    opened_s = 1735787045.5 + 0.06 + 0.01 + 0.2  # started, spawned, connected, warmed up
    assert starts == pytest.approx([opened_s + 0.1 * number for number in range(10)], abs=0.002)
    assert list(read_log(path))[3].get_end_time_stamp() / 1000 == pytest.approx(opened_s + 0.4, abs=0.002)


def test_trials_follow_each_other_in_a_log_as_they_were_run(tmp_path: Path) -> None:
    records = [open_record(f"s{at}", 20_000, 1e5, started=f"2025-01-02T03:04:{at:02d}Z") for at in (40, 7, 23, 51, 12)]
    (path,) = export(run_of(tmp_path, *records), "hlog")
    tags = [it.get_tag() for it in read_log(path)]
    assert tags[::10] == [found.id for found in sorted(records, key=lambda it: it.started)]
    assert next(line.split(",")[1] for line in path.read_text().splitlines() if line.startswith("Tag=")) == "0.000"


def test_the_largest_value_of_an_interval_is_told_in_milliseconds(tmp_path: Path) -> None:
    (path,) = export(run_of(tmp_path, open_record("poll", 20_000, 1e5)), "hlog")
    line = next(line for line in path.read_text().splitlines() if line.startswith("Tag="))
    first = next(read_log(path))
    assert float(line.split(",")[3]) == pytest.approx(first.get_max_value() / 1e6, abs=0.001)


def test_an_interval_without_a_message_is_in_the_log_and_empty(tmp_path: Path) -> None:
    empty = str(HdrHistogram(1, 10**12, 3).encode().decode())
    stalled = open_load(20_000, 1e5)
    stalled.interval_hdrs[4] = empty
    (path,) = export(run_of(tmp_path, open_record("poll", 20_000, 1e5, load=stalled)), "hlog")
    assert [it.get_total_count() for it in read_log(path)].count(0) == 1


def test_a_trial_without_intervals_is_one_line_of_its_whole_window(tmp_path: Path) -> None:
    found = record(rate_hz=20_000)
    (path,) = export(run_of(tmp_path, found), "hlog")
    (only,) = read_log(path)
    assert only.get_total_count() == 20_000
    assert only.get_end_time_stamp() - only.get_start_time_stamp() == pytest.approx(1000)


# --- hgrm


def test_a_case_becomes_a_percentile_distribution_of_all_its_repeats(tmp_path: Path) -> None:
    repeats = [record("poll", repeat=repeat, rate_hz=20_000) for repeat in range(3)]
    (path,) = export(run_of(tmp_path, *repeats), "hgrm")
    assert path == tmp_path / "hgrm" / "poll.hgrm"
    points = read_distribution(path)
    assert points[-1][1:] == (1.0, 60_000)
    assert [value for value, *_ in points] == sorted(value for value, *_ in points)
    median = next(value for value, quantile, _ in points if quantile >= 0.5)
    assert median == pytest.approx(16 / 20_000 * 1000, rel=0.02)  # in ms


def test_planned_sends_have_a_distribution_of_response_and_one_of_service_times(tmp_path: Path) -> None:
    latency, service = export(run_of(tmp_path, open_record("poll", 80_000, 1e5)), "hgrm")
    assert (latency.name, service.name) == ("poll.hgrm", "poll-service.hgrm")
    assert read_distribution(latency)[10][0] > 2 * read_distribution(service)[10][0]


def test_files_are_named_after_what_differs(tmp_path: Path) -> None:
    records = [
        record(name, count, planned_hz=rate) for name, count, rate in (("a", 1, 0.0), ("a", 16, 0.0), ("b", 1, 2.5))
    ]
    written = export(run_of(tmp_path, *records), "hgrm")
    assert {path.name for path in written} == {
        "a-connections=1-planned_hz=0.hgrm",
        "a-connections=16-planned_hz=0.hgrm",
        "b-connections=1-planned_hz=2.5.hgrm",
    }


def test_names_that_look_the_same_in_a_file_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    records = [record(name, rate_hz=rate) for name, rate in (("../a b", 1000), ("../a/b", 2000), ("x" * 300, 10))]
    written = export(run_of(tmp_path, *records), "hgrm")
    assert len({path.name for path in written}) == 3
    assert {path.parent for path in written} == {tmp_path / "hgrm"}
    assert sorted(read_distribution(path)[-1][2] for path in written) == [10, 1000, 2000]


# --- of any run


@pytest.mark.parametrize("to", ["hlog", "hgrm"])
def test_failed_and_damaged_trials_are_left_out(tmp_path: Path, to: str) -> None:
    damaged = record("torn", load=open_load(1000, 2000, response_hdr="HISTFtorn", interval_hdrs=[]))
    dead = unmeasured("dead", 1, 0, "failed", "it died")
    written = export(run_of(tmp_path, record("good"), dead, damaged), to)
    assert all("dead" not in path.name for path in written)
    if to == "hlog":
        (only,) = read_log(written[0])
        assert only.get_total_count() == 100_000
    else:
        assert {path.name for path in written} == {"good.hgrm", "torn-service.hgrm"}


@pytest.mark.parametrize("to", ["hlog", "hgrm"])
def test_a_run_without_histograms_is_bad_input(tmp_path: Path, to: str) -> None:
    with pytest.raises(BadInputError, match="has a histogram to export"):
        export(run_of(tmp_path, unmeasured("poll", 1, 0, "failed", "it died")), to)


def test_a_format_that_there_is_not_is_bad_input_that_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="there are: bmf, csv, github-action-benchmark, hgrm, hlog"):
        export(run_of(tmp_path, record()), "xlsx")


def test_a_mistyped_format_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="did you mean 'parquet'"):
        export(run_of(tmp_path, record()), "parket")


@pytest.mark.parametrize("to", [name for name in FORMATS if name not in ("hgrm", "hlog", "junit", "openmetrics")])
def test_a_run_in_which_nothing_succeeded_is_bad_input_where_a_format_can_not_say_so(tmp_path: Path, to: str) -> None:
    with pytest.raises(BadInputError, match="succeeded"):
        export(run_of(tmp_path, unmeasured("poll", 1, 0, "failed", "it died")), to)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_the_same_run_gives_the_same_bytes_and_leaves_nothing_half_written(tmp_path: Path, to: str) -> None:
    needs_its_library(to)
    written = [export(run_of(tmp_path, *sweep(repeats=2)), to, tmp_path / name) for name in ("one", "two")]
    contents = [[path.read_bytes() for path in paths] for paths in written]
    assert contents[0] == contents[1]
    assert all(contents[0])
    assert list(tmp_path.rglob("*.part")) == []


@pytest.mark.parametrize("to", FORMATS)
def test_names_may_be_anything(tmp_path: Path, to: str) -> None:
    needs_its_library(to)
    odd = ['"quoted", and, <tagged> & more', "two\nlines", "back\\slash", "tab\there", "ünïcödé 🚀", "\x1b[31mred"]
    assert export(run_of(tmp_path, *(record(name) for name in odd)), to)


@pytest.mark.parametrize("to", FORMATS)
def test_any_workload_and_search_can_be_exported(tmp_path: Path, to: str) -> None:
    needs_its_library(to)
    assert export(run_of(tmp_path, *workloads(), *load_sweep(repeats=1)), to)


@pytest.mark.parametrize("to", ["hlog", "hgrm", "csv"])
def test_a_path_that_can_not_be_written_is_bad_input(tmp_path: Path, to: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="can't be written"):
        export(run_of(tmp_path, record()), to, tmp_path / "file" / "below")


@pytest.mark.parametrize("to", ["csv", "hgrm", "github-action-benchmark"])
def test_no_folder_is_made_above_the_one_that_was_named(tmp_path: Path, to: str) -> None:
    run = run_of(tmp_path, record())
    with pytest.raises(BadInputError, match=r"There is no folder .*/new\.") as told:
        export(run, to, tmp_path / "new" / "out")
    assert told.value.next_step == f"mkdir -p {tmp_path / 'new'}"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("records", [sweep(repeats=1)[:4], load_sweep(repeats=1)[:4]], ids=["closed", "open"])
def test_the_command_exports_a_run_folder_and_prints_what_it_wrote(tmp_path: Path, records: list[Record]) -> None:
    folder = write_run(tmp_path / "run", records)
    for to, name in (("hlog", "latency.hlog"), ("hgrm", "hgrm")):
        command = [sys.executable, "-m", "bench", "export", str(folder), "--to", to]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
        assert (done.returncode, done.stderr) == (0, "")
        written = [Path(line) for line in done.stdout.splitlines()]
        assert all(path.exists() and (path == folder / name or path.parent == folder / name) for path in written)
    assert len(read_run(folder).records) == 4


def test_the_command_writes_where_it_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record()])
    target = tmp_path / "elsewhere.hlog"
    done = iobench("export", folder, "--to", "hlog", "--out", target)
    assert done.stdout.strip() == str(target)
    assert len(list(read_log(target))) == 1


def iobench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])


def test_a_dash_writes_the_file_to_standard_output_and_nothing_else(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [record()])
    done = iobench("export", folder, "--to", "csv", "--out", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("run,strategy,") and "rate_hz" in done.stdout
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "trials.jsonl"}


@pytest.mark.parametrize("to", sorted(FOLDERS))
def test_a_folder_of_files_can_not_go_to_standard_output(tmp_path: Path, to: str) -> None:
    done = iobench("export", write_run(tmp_path / "run", [record()]), "--to", to, "--out", "-")
    assert (done.returncode, done.stdout) == (2, "")
    assert "standard output" in done.stderr.replace("\n", " ") and f"--to {to} --out" in done.stderr


def test_a_device_or_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert export(run_of(tmp_path, record()), "csv", fifo) == [fifo]
        assert os.read(reader, 1 << 16).startswith(b"run,strategy,")
    finally:
        os.close(reader)
    assert fifo.is_fifo()


def test_without_a_format_the_command_lists_them_all(tmp_path: Path) -> None:
    done = iobench("export", write_run(tmp_path / "run", [record()]))
    assert done.returncode == 2
    assert [line.split()[0] for line in done.stdout.splitlines()] == FORMATS
    assert all(len(line) <= 80 for line in done.stdout.splitlines()), done.stdout
    assert "--to csv" in done.stderr


def test_a_format_that_there_is_not_is_told_before_a_run_is_looked_for(tmp_path: Path) -> None:
    done = iobench("export", tmp_path / "none", "--to", "cvs")
    assert done.returncode == 2
    assert "did you mean 'csv'?" in done.stderr and "Traceback" not in done.stderr
