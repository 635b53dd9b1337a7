"""A soak: the default sweep over and over for half an hour, while its harness and its load generator are watched.

    python tests/soak/soak.py --minutes 30 --results soak-results

Nothing may grow and nothing may drift: memory and descriptors of harness and client, sampled every second, and the
throughput and the CPU per message of the first trials beside those of the last. A machine that others share becomes
faster and slower by itself. So every second a fixed piece of work is timed as well, the yardstick, and what is judged
is the throughput and the CPU per message by the yardstick of the same seconds.

Prints a table in Markdown; the exit code is 1 where something grew or drifted. The samples stay beside the run, in
samples.csv and speed.csv: with --again they are read once more. pytest does not collect this file; tests/test_soak.py
tests what it concludes.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import psutil
from scipy import stats

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from bench.analyse import analyse  # noqa: E402
from bench.catalogue import list_strategies  # noqa: E402
from bench.metrics import CASE  # noqa: E402
from bench.plan import expected_s, make_plan  # noqa: E402
from bench.record import read_run  # noqa: E402
from bench.sweep import find, load_sweep  # noqa: E402

SAMPLES, SPEEDS = "samples.csv", "speed.csv"
EVERY_S = 1.0
SETTLED = 0.1  # of the run: what is allocated once is allocated by then
MOST_GROWTH = 0.02  # of the memory, from then to the end
LEAST_BYTES = 2 * 1024 * 1024  # growth below this is not told from noise
ROUNDS = 400  # of the yardstick: half a millisecond or so, of each second
NEAR_S = 3.0  # before and after the middle of a trial, over which the yardstick's times are averaged
ENDS = 0.2  # of the trials, at either end, are compared
DRIFT = 0.01
DRIFT_P = 0.01


class Sample(NamedTuple):
    """What one process held at a moment."""

    at_s: float
    who: str
    rss_bytes: int
    descriptors: int


class Speed(NamedTuple):
    """How long the yardstick took at a moment, seconds since the epoch."""

    at_s: float
    took_ns: int


class Finding(NamedTuple):
    """One thing that was to stay as it was: whether it did, and how much it changed. None: it is not ours to hold."""

    what: str
    holds: bool | None
    told: str


def memory(who: str, samples: Iterable[Sample]) -> Finding:
    """Growth of the resident memory, by the Theil-Sen slope of what was sampled after the first tenth."""
    own = [sample for sample in samples if sample.who == who]
    own = own[int(len(own) * SETTLED) :]
    at_s, rss = [sample.at_s for sample in own], [sample.rss_bytes for sample in own]
    step = max(1, len(own) // 600)  # all pairs of points are looked at
    slope = float(stats.theilslopes(rss[::step], at_s[::step])[0])
    grown = slope * (at_s[-1] - at_s[0])
    middle = float(np.median(rss))
    told = f"{middle / 2**20:.1f} MiB, {grown / 2**20:+.2f} MiB in {(at_s[-1] - at_s[0]) / 60:.1f} min"
    return Finding(f"memory of the {who}", grown < max(LEAST_BYTES, MOST_GROWTH * middle), told)


def descriptors(who: str, samples: Iterable[Sample]) -> Finding:
    """The fewest and the most of the first third beside those of the last: one that leaks has more of the fewest."""
    own = [sample.descriptors for sample in samples if sample.who == who]
    third = len(own) // 3
    first, last = own[:third], own[-third:]
    told = f"{min(first)} to {max(first)} in the first third, {min(last)} to {max(last)} in the last"
    return Finding(f"descriptors of the {who}", min(last) <= min(first) and max(last) <= max(first), told)


def yardstick_ns() -> int:
    """Time a fixed piece of work, the least of three times: calls into the kernel, as an echo makes them.

    CPU time of this thread, which leaves out what runs in between.
    """
    reader, writer = os.pipe()
    times = []
    try:
        for _ in range(3):
            began = time.thread_time_ns()
            for _ in range(ROUNDS):
                os.write(writer, b"yard")
                os.read(reader, 4)
            times.append(time.thread_time_ns() - began)
    finally:
        os.close(reader)
        os.close(writer)
    return min(times)


def yardstick_of(trials: pd.DataFrame, speeds: Sequence[Speed]) -> pd.Series[float]:
    """How long the yardstick took around the middle of each trial, by its median over the whole; 1 where unknown."""
    at_s, took = np.array([speed.at_s for speed in speeds]), np.array([speed.took_ns for speed in speeds])
    began_s = trials["started"].map(lambda text: datetime.fromisoformat(text).timestamp()).astype(float)
    lasted_s = trials[["spawn_s", "connect_s", "warmed_s", "window_s"]].sum(axis=1)
    found = []
    for middle_s in began_s + lasted_s - trials["window_s"] / 2:
        near = took[abs(at_s - middle_s) <= NEAR_S]
        found.append(near.mean() / np.median(took) if len(near) else 1.0)
    return pd.Series(found, index=trials.index)


def drift(trials: pd.DataFrame, metric: str, title: str) -> Finding:
    """The first fifth of the trials beside the last, each by the median of its case.

    The shift is Hodges and Lehmann's; it counts as drift where it is above 1 % and Mann and Whitney's test finds it
    significant at 1 %.
    """
    good = trials[(trials["status"] == "ok") & (trials[metric] > 0)].sort_values("order")
    middle = good.groupby(list(CASE))[metric].transform("median")
    off = np.log(good[metric] / middle).to_numpy()
    part = max(1, int(len(off) * ENDS))
    first, last = off[:part], off[-part:]
    shift = math.exp(float(np.median(last[:, None] - first[None, :]))) - 1
    p = float(stats.mannwhitneyu(first, last).pvalue)
    told = f"{shift:+.2%} (p = {p:.2g}, {part} trials at either end; within a case {np.std(off):.1%})"
    return Finding(title, not (abs(shift) > DRIFT and p < DRIFT_P), told)


def conclude(samples: Sequence[Sample], trials: pd.DataFrame, speeds: Sequence[Speed]) -> list[Finding]:
    """Everything that was to stay as it was."""
    bad = trials[trials["status"] != "ok"]
    machine = yardstick_of(trials, speeds)
    by_machine = trials.assign(rate_hz=trials["rate_hz"] * machine, cpu_us=trials["cpu_us"] / machine)
    measured = [
        drift(trials.assign(machine=machine), "machine", "the machine: time of the yardstick"),
        drift(trials, "rate_hz", "throughput, as measured"),
        drift(trials, "cpu_us", "server CPU per message, as measured"),
    ]
    return [
        *(find_growth(who, samples) for who in ("harness", "client") for find_growth in (memory, descriptors)),
        *(finding._replace(holds=None) for finding in measured),
        drift(by_machine, "rate_hz", "throughput by the yardstick"),
        drift(by_machine, "cpu_us", "server CPU per message by the yardstick"),
        Finding("trials", bad.empty, f"{len(trials):,}, {len(bad)} of them not ok"),
    ]


def table(findings: Iterable[Finding]) -> str:
    """The outcome in Markdown."""
    words = {True: "stayed", False: "CHANGED", None: "–"}
    rows = [f"| {found.what} | {words[found.holds]} | {found.told} |" for found in findings]
    return "\n".join(["| what | | |", "| --- | --- | --- |", *rows])


def repeats_for(sweep: str, minutes: float) -> int:
    """How often the sweep fits into so many minutes."""
    planned = make_plan(load_sweep(sweep), list_strategies()[0])
    once_s = expected_s(planned.runnable) / max(1, load_sweep(sweep).repeats)
    return max(5, round(minutes * 60 / once_s))


def watch(command: Sequence[str], folder: Path) -> int:
    """Run the sweep and sample its two processes and the machine until it ends; returns its exit code."""
    began = time.monotonic()
    with (
        (folder / SAMPLES).open("w", newline="") as held_file,
        (folder / SPEEDS).open("w", newline="") as speed_file,
        subprocess.Popen(command, cwd=ROOT) as harness,
    ):
        rows, speeds = csv.writer(held_file), csv.writer(speed_file)
        rows.writerow(Sample._fields)
        speeds.writerow(Speed._fields)
        while harness.poll() is None:
            speeds.writerow(Speed(round(time.time(), 3), yardstick_ns()))
            for who, process in watched(harness.pid):
                try:
                    held = (process.memory_info().rss, process.num_fds())
                except psutil.Error:
                    continue  # it has just ended
                rows.writerow(Sample(round(time.monotonic() - began, 2), who, *held))
            time.sleep(EVERY_S)
        return harness.returncode


def watched(pid: int) -> list[tuple[str, psutil.Process]]:
    """The harness, and its load generator once there is one."""
    found: list[tuple[str, psutil.Process]] = []
    try:
        harness = psutil.Process(pid)
        clients = [child for child in harness.children() if "--worker" in child.cmdline()]
        found = [("harness", harness), *(("client", client) for client in clients)]
    except psutil.Error:
        pass  # it has just ended
    return found if len(found) == 2 else []


def read_samples(folder: Path) -> tuple[list[Sample], list[Speed]]:
    """What `watch` has written."""
    with (folder / SAMPLES).open(newline="") as held_file, (folder / SPEEDS).open(newline="") as speed_file:
        return [
            Sample(float(row["at_s"]), row["who"], int(row["rss_bytes"]), int(row["descriptors"]))
            for row in csv.DictReader(held_file)
        ], [Speed(float(row["at_s"]), int(row["took_ns"])) for row in csv.DictReader(speed_file)]


def main() -> int:
    """Soak, or conclude again from what was sampled before."""
    parser = argparse.ArgumentParser(description="Run a sweep for long, and see whether anything grows or drifts.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--sweep", default="quick", help="the name of a sweep, or its file")
    parser.add_argument("--results", type=Path, default=Path("soak-results"))
    parser.add_argument("--again", type=Path, metavar="FOLDER", help="conclude from an earlier soak; nothing is run")
    options = parser.parse_args()
    folder = options.again or options.results
    code = 0
    if options.again is None:
        folder.mkdir(parents=True, exist_ok=True)
        repeats = repeats_for(options.sweep, options.minutes)
        text = find(options.sweep).read_text()
        sweep = folder / "soak.toml"
        sweep.write_text(re.sub(r"(?m)^repeats = .*$", f"repeats = {repeats}", text))
        command = [sys.executable, "-m", "bench", "sweep", str(sweep.resolve()), "--results", str(folder.resolve())]
        code = watch(command, folder)
    run = max(folder.glob("soak-*/manifest.json"), key=lambda path: path.stat().st_mtime_ns).parent
    samples, speeds = read_samples(folder)
    findings = conclude(samples, analyse(read_run(run)).trials, speeds)
    print(table(findings))
    return code or int(any(found.holds is False for found in findings))


if __name__ == "__main__":
    sys.exit(main())
