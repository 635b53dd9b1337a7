"""Reports of large runs, with pytest-benchmark: time, and the peak of the memory that the process held.

    pytest benchmarks/test_report_speed.py --benchmark-columns=median,rounds -s
    pytest benchmarks/test_report_speed.py -k "1000-"                            # the small ones
    pytest benchmarks/test_report_speed.py -k dicts                              # a table's rows as dicts, two ways

Runs are made up: many repeats of few cases, or few repeats of many cases. Memory is in `extra_info` of the JSON
(`--benchmark-json FILE`), and printed at the end with the time per trial, which stays the same as runs grow.
"""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import count, product
from pathlib import Path

import msgspec
import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.analyse import analyse
from bench.record import Record, read_run
from bench.rows import dicts

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from synthetic import manifest, sweep, write_default, write_run  # noqa: E402 - found by the line above

PER_REPEAT = 25  # trials of a repeat of the default sweep
SIZES = (64, 256, 1024, 4096, 16384)
TRANSPORTS = ("tcp", "unix", "pipe")
DEPTHS = tuple(range(1, 33))


def many_repeats(trials: int) -> list[Record]:
    """The cases of the default sweep, again and again."""
    return spread(trials, ({} for _ in count()))


def many_cases(trials: int) -> list[Record]:
    """The default sweep of five repeats, at other sizes, transports and depths."""
    settings = product(DEPTHS, TRANSPORTS, SIZES)
    return spread(
        trials,
        (
            {"depth": depth, "transport": transport, "message_bytes": size}
            for depth, transport, size in settings
            for _ in range(5)
        ),
    )


def spread(trials: int, changes) -> list[Record]:  # type: ignore[no-untyped-def]
    """So many trials, of blocks of 25 with a change each; the histograms of five blocks serve for all."""
    blocks = sweep(repeats=5)
    found: list[Record] = []
    for number, change in enumerate(changes):
        for made in blocks[number % 5 * PER_REPEAT : (number % 5 + 1) * PER_REPEAT]:
            trial = msgspec.structs.replace(made.trial, repeat=number, **change)
            found.append(msgspec.structs.replace(made, id=trial.id, trial=trial, order=len(found)))
            if len(found) == trials:
                return found
    raise ValueError(f"there are no {trials:,} trials to be made")


def spawned(folder: Path) -> tuple[float, int]:
    """Make the report; give the seconds and the most bytes that its processes held together, looked at each 20 ms."""
    began = time.perf_counter()
    peak = 0
    with psutil.Popen([sys.executable, str(ROOT / "report.py"), str(folder)], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(_resident(one) for one in _all_of(process)))
            time.sleep(0.02)
    assert process.returncode == 0
    return time.perf_counter() - began, peak


def _all_of(process: psutil.Popen) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def measured(benchmark: BenchmarkFixture, folder: Path, trials: int, rounds: int) -> None:
    peaks = []
    benchmark.pedantic(lambda: peaks.append(spawned(folder)), rounds=rounds)
    seconds, peak_bytes = min(seconds for seconds, _ in peaks), max(peak for _, peak in peaks)
    benchmark.extra_info.update(
        trials=trials, peak_bytes=peak_bytes, page_bytes=(folder / "report.html").stat().st_size
    )
    page_mb = benchmark.extra_info["page_bytes"] / 1e6
    print(
        f"\n{trials:,} trials: {seconds:.1f} s ({1e3 * seconds / trials:.2f} ms each), "
        f"{peak_bytes / 1e6:,.0f} MB, a page of {page_mb:.1f} MB"
    )


def test_the_default_sweep(tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    measured(benchmark, write_default(tmp_path / "run"), 5 * PER_REPEAT, rounds=3)


@pytest.mark.parametrize("shape", [many_repeats, many_cases], ids=["repeats", "cases"])
@pytest.mark.parametrize("trials", [1_000, 10_000])
def test_a_large_run(tmp_path: Path, benchmark: BenchmarkFixture, trials: int, shape) -> None:  # type: ignore[no-untyped-def]
    records = shape(trials)
    names = sorted({found.trial.strategy for found in records})
    folder = write_run(tmp_path / "run", records, manifest(names))
    del records
    measured(benchmark, folder, trials, rounds=1)


@pytest.mark.parametrize("way", [dicts, lambda table: table.to_dict("records")], ids=["ours", "pandas"])
@pytest.mark.parametrize("rows", [5, 125])
def test_rows_as_dicts(tmp_path: Path, benchmark: BenchmarkFixture, rows: int, way) -> None:  # type: ignore[no-untyped-def]
    table = analyse(read_run(write_default(tmp_path / "run"))).trials[:rows]
    assert len(benchmark(way, table)) == rows
