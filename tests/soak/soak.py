"""A soak: the default sweep over and over for half an hour, while its harness and its load generator are watched.

    python tests/soak/soak.py --minutes 30 --results soak-results

Nothing may grow and nothing may drift: memory and descriptors of harness and client, sampled every second, and the
throughput and the CPU per message of the first tenth of the trials beside those of the last. A machine that others
share becomes faster and slower by itself, for minutes: that is the noise, and it is seen in the tenths between.

Prints a table in Markdown; the exit code is 1 where something grew or drifted. The samples stay beside the run, in
samples.csv: with --again they are read once more. pytest does not collect this file; tests/test_soak.py tests what it
concludes.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
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

EVERY_S = 1.0
SETTLED = 0.1  # of the run: what is allocated once is allocated by then
MOST_GROWTH = 0.02  # of the memory, from then to the end
LEAST_BYTES = 2 * 1024 * 1024  # growth below this is not told from noise
FEWEST = 0.1  # of the samples of descriptors, which come and go with the trials
PARTS = 10  # of the trials, in order; the first and the last are compared
DRIFT = 0.01


class Sample(NamedTuple):
    """What one process held at a moment."""

    at_s: float
    who: str
    rss_bytes: int
    descriptors: int


class Finding(NamedTuple):
    """One thing that was to stay as it was: whether it did, and how much it changed."""

    what: str
    holds: bool
    told: str


def settled(who: str, samples: Iterable[Sample]) -> list[Sample]:
    """The samples of one process, without the first tenth of them."""
    own = [sample for sample in samples if sample.who == who]
    return own[int(len(own) * SETTLED) :]


def memory(who: str, samples: Iterable[Sample]) -> Finding:
    """Growth of the resident memory, by the Theil-Sen slope of what was sampled after the first tenth."""
    own = settled(who, samples)
    at_s, rss = [sample.at_s for sample in own], [sample.rss_bytes for sample in own]
    step = max(1, len(own) // 600)  # all pairs of points are looked at
    slope = float(stats.theilslopes(rss[::step], at_s[::step])[0])
    grown = slope * (at_s[-1] - at_s[0])
    middle = float(np.median(rss))
    told = f"{middle / 2**20:.1f} MiB, {grown / 2**20:+.2f} MiB in {(at_s[-1] - at_s[0]) / 60:.1f} min"
    return Finding(f"memory of the {who}", grown < max(LEAST_BYTES, MOST_GROWTH * middle), told)


def descriptors(who: str, samples: Iterable[Sample]) -> Finding:
    """How many are held at least in nine samples out of ten, in the first third beside the last; a leak raises that."""
    own = [sample.descriptors for sample in settled(who, samples)]
    third = len(own) // 3
    first, last = (int(np.quantile(part, FEWEST)) for part in (own[:third], own[-third:]))
    told = f"{first} or more in the first third, {last} in the last; {max(own)} at most"
    return Finding(f"descriptors of the {who}", last <= first, told)


def drift(trials: pd.DataFrame, metric: str, title: str) -> Finding:
    """The first tenth of the trials beside the last, each trial by the median of its case.

    It is drift where the two are further apart than 1 %, and one is the lowest and the other the highest of all ten. By
    chance that is so once in 45 times, however much the tenths differ.
    """
    good = trials[(trials["status"] == "ok") & (trials[metric] > 0)].sort_values("order")
    middle = good.groupby(list(CASE))[metric].transform("median")
    off = np.log(good[metric] / middle).to_numpy()
    parts = [float(np.median(part)) for part in np.array_split(off, PARTS)]
    shift = math.exp(parts[-1] - parts[0]) - 1
    furthest = {parts[0], parts[-1]} == {min(parts), max(parts)}
    low, high = (math.exp(part) - 1 for part in (min(parts[1:-1]), max(parts[1:-1])))
    told = f"{shift:+.1%} from the first tenth to the last; those between from {low:+.1%} to {high:+.1%} of the median"
    return Finding(title, not (furthest and abs(shift) > DRIFT), told)


def conclude(samples: Sequence[Sample], trials: pd.DataFrame) -> list[Finding]:
    """Everything that was to stay as it was."""
    bad = trials[trials["status"] != "ok"]
    return [
        *(find_growth(who, samples) for who in ("harness", "client") for find_growth in (memory, descriptors)),
        drift(trials, "rate_hz", "throughput"),
        drift(trials, "cpu_us", "server CPU per message"),
        Finding("trials", bad.empty, f"{len(trials):,}, {len(bad)} of them not ok"),
    ]


def table(findings: Iterable[Finding]) -> str:
    """The outcome in Markdown."""
    rows = [f"| {found.what} | {'stayed' if found.holds else 'CHANGED'} | {found.told} |" for found in findings]
    return "\n".join(["| what | | |", "| --- | --- | --- |", *rows])


def repeats_for(sweep: str, minutes: float) -> int:
    """How often the sweep fits into so many minutes."""
    planned = make_plan(load_sweep(sweep), list_strategies()[0])
    once_s = expected_s(planned.runnable) / max(1, load_sweep(sweep).repeats)
    return max(5, round(minutes * 60 / once_s))


def watch(command: Sequence[str], into: Path) -> int:
    """Run the sweep and sample its two processes until it ends; returns its exit code."""
    began = time.monotonic()
    with into.open("w", newline="") as file, subprocess.Popen(command, cwd=ROOT) as harness:
        rows = csv.writer(file)
        rows.writerow(Sample._fields)
        while harness.poll() is None:
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


def read_samples(path: Path) -> list[Sample]:
    """What `watch` has written."""
    with path.open(newline="") as file:
        return [
            Sample(float(row["at_s"]), row["who"], int(row["rss_bytes"]), int(row["descriptors"]))
            for row in csv.DictReader(file)
        ]


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
        code = watch(command, folder / "samples.csv")
    run = max(folder.glob("soak-*/manifest.json"), key=lambda path: path.stat().st_mtime_ns).parent
    findings = conclude(read_samples(folder / "samples.csv"), analyse(read_run(run)).trials)
    print(table(findings))
    return code or int(not all(found.holds for found in findings))


if __name__ == "__main__":
    sys.exit(main())
