"""What became of the CPUs of a trial meanwhile: idle and stolen time, the load's wait for them, the stops by a quota.

All of it is /proc; where there is none, there is no Machine. What it means for a trial is judged in bench.validity.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.probes.process import growth, thread_waits_ns
from bench.probes.quota import ThrottleProbe
from bench.record import Machine

PROC_STAT = Path("/proc/stat")
TICK_NS = 10**9 / os.sysconf("SC_CLK_TCK")


class CpuTime(NamedTuple):
    """Time since the machine started, summed over some CPUs, in ns but whole clock ticks."""

    idle_ns: float
    steal_ns: float


class Reading(NamedTuple):
    """Everything at one moment."""

    server: CpuTime
    load: CpuTime
    load_waits_ns: dict[int, int] | None


class MachineProbe:
    """Watches the CPUs of server and load over one window, and the run-queue wait of the load's process."""

    def __init__(self, server_cpus: Sequence[int], load_cpus: Sequence[int], load_pid: int) -> None:
        self._server_cpus, self._load_cpus, self._load_pid = server_cpus, load_cpus, load_pid
        self._throttle = ThrottleProbe()
        self._opened: Reading | None = None
        self._began_ns = 0
        self.opened_ns = 0
        self.closed_ns = 0

    def start(self) -> None:
        """Take the first reading."""
        self._began_ns = time.process_time_ns()
        self._throttle.start()
        self._opened = self._read()
        self.opened_ns = time.monotonic_ns()

    def stop(self) -> Machine | None:
        """Take the second reading; None where the figures can't be had."""
        self.closed_ns = time.monotonic_ns()
        harness_ns = time.process_time_ns() - self._began_ns
        before, after = self._opened, self._read()
        throttled = self._throttle.stop()
        if before is None or after is None:
            return None
        waited = None
        if before.load_waits_ns is not None and after.load_waits_ns is not None:
            waited = growth(before.load_waits_ns, after.load_waits_ns)
        return Machine(
            server_idle_ns=after.server.idle_ns - before.server.idle_ns,
            server_steal_ns=after.server.steal_ns - before.server.steal_ns,
            load_cpus=list(self._load_cpus),
            load_idle_ns=after.load.idle_ns - before.load.idle_ns,
            load_steal_ns=after.load.steal_ns - before.load.steal_ns,
            load_wait_ns=waited,
            harness_ns=harness_ns,
            throttled_periods=throttled.periods,
            throttled_ns=throttled.stopped_ns,
        )

    def _read(self) -> Reading | None:
        try:
            lines = PROC_STAT.read_bytes().splitlines()
        except OSError:
            return None
        waits_ns: dict[int, int] | None
        try:
            waits_ns = thread_waits_ns(self._load_pid)
        except (OSError, ValueError):
            waits_ns = None
        return Reading(cpu_time(lines, self._server_cpus), cpu_time(lines, self._load_cpus), waits_ns)


def cpu_time(lines: Sequence[bytes], cpus: Sequence[int]) -> CpuTime:
    """Sum some CPUs' lines of /proc/stat (proc_stat(5)): idle and iowait, in which nothing runs either, and steal."""
    wanted = {b"cpu%d" % cpu for cpu in cpus}
    fields = [[int(field) for field in line.split()[1:]] for line in lines if line.split()[0] in wanted]
    idle = sum(each[3] + each[4] for each in fields)
    return CpuTime(idle * TICK_NS, sum(each[7] for each in fields) * TICK_NS)
