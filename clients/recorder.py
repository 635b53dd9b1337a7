"""The recording side of the load generator alone, on known input: `iobench calibrate` checks what it makes of that.

    python -m clients.recorder < TIMES      int64 ns, as the machine stores them -> an HdrHistogram, V2, base64
    python -m clients.recorder --hours 1    the memory that a window of so long takes, in intervals made shorter

No server and no connection takes part; nothing is judged here.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from clients import histogram
from clients.connections import REACHED, SERVICE
from clients.job import Job
from clients.load_thread import Course, LoadThread, Watch
from clients.outcome import load_of
from clients.session import interval_ns
from clients.table import Ends, Table

SIMULATED_NS = 2_000_000  # an interval of the simulation
SPREAD_NS = (2e4, 2e8)  # of the times in it: wider than those of most servers
TIMES = 500


def record(times_ns: histogram.Counts) -> str:
    """Count times (int64) and return them as a result has them."""
    counts = histogram.empty()
    histogram.count_all(counts, times_ns)
    return histogram.encode(counts)


def simulate(hours: float) -> dict[str, int]:
    """Go through a window of so many hours with the intervals that it would have, each cut to SIMULATED_NS.

    Returns the number of intervals and the bytes by which this process has grown, its result included.
    """
    job = Job(address="pipe:itself", connections=1, message_bytes=64, duration_s=3600 * hours)
    table = Table([Ends(*os.pipe())], job)
    random = np.random.default_rng(1)
    low, high = np.log(SPREAD_NS)

    def advance(until_ns: int) -> int:
        histogram.count_all(table.counts[SERVICE], np.exp(random.uniform(low, high, TIMES)).astype(np.int64))
        time.sleep(max(0, until_ns - time.monotonic_ns()) / 1e9)
        return REACHED

    intervals = int(3600e9 * hours) // interval_ns(job.duration_s)
    now_ns = time.monotonic_ns()
    course = Course(threads=1, interval_ns=SIMULATED_NS, begins_ns=now_ns, opens_ns=now_ns)

    def opened(at_ns: int) -> None:
        course.opened_ns, course.closes_ns = at_ns, at_ns + intervals * SIMULATED_NS

    def closed(at_ns: int) -> None:
        course.releases_ns = at_ns

    advance(0)
    record(np.ones(1, np.int64))  # what is allocated once is there before the first reading
    before = resident_bytes()
    try:
        thread = LoadThread(table, advance, job.timeout_s)
        window = thread.drive(course, Watch(lambda: False, opened, closed))
    finally:
        table.close()
    load = load_of(job, Counter(), [[window]], Counter(), interval_ns=SIMULATED_NS)
    return {"intervals": len(load.interval_hdrs), "grown_bytes": resident_bytes() - before}


def resident_bytes() -> int:
    """Return the memory that this process has resident (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m clients.recorder", description="Record known times.")
    parser.add_argument("--hours", type=float, help="simulate a window of so long instead")
    hours = parser.parse_args().hours
    if hours is None:
        print(record(np.frombuffer(sys.stdin.buffer.read(), np.int64)))
    else:
        print(json.dumps(simulate(hours)))


if __name__ == "__main__":
    main()
