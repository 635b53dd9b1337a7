"""What else the machine did while a claim was measured: stolen time, other processes, waiting for a CPU.

Read from /proc at the two ends of a window; the difference of two readings is a pure function. What a disturbance means
for a verdict is decided in claim.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic_ns
from typing import NamedTuple

from bench.probes.process import process_cpu_ns, thread_waits_ns

PROC = Path("/proc")
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")

# Of the window. Less than these leave a p99 alone.
STOLEN = 0.005  # of the time of the CPUs in use
FOREIGN = 0.02
WAITED = 0.005  # of the window, for each process of ours
ROUNDING_NS = 3 * TICK_NS  # /proc/stat counts whole ticks


class Reading(NamedTuple):
    """Everything up to a moment, in ns. `busy` and `stolen` are of the CPUs in use, `used` and `waited` by process."""

    at_ns: int
    busy_ns: int
    stolen_ns: int
    used_ns: dict[int, int]
    waited_ns: dict[int, int]


def take_reading(pids: Sequence[int], cpus: Sequence[int]) -> Reading:
    """Read; a process that has gone, or a machine without /proc, counts for nothing."""
    busy_ns, stolen_ns = read_cpus(cpus)
    used: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):
            used[pid] = process_cpu_ns(pid)
    return Reading(monotonic_ns(), busy_ns, stolen_ns, used, {pid: waited_ns(pid) for pid in pids})


def read_cpus(cpus: Sequence[int], stat: Path = PROC / "stat") -> tuple[int, int]:
    """Time that processes ran, and time stolen by the hypervisor, summed over some CPUs (proc_stat(5)), in ns.

    Time in interrupts is left out: the kernel keeps it apart from that of processes too.
    """
    busy = stolen = 0
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return 0, 0
    for line in lines:
        name, *fields = line.split()
        if name in {f"cpu{cpu}" for cpu in cpus}:
            user, nice, system = (int(field) for field in fields[:3])
            busy += user + nice + system
            stolen += int(fields[7]) if len(fields) > 7 else 0
    return busy * TICK_NS, stolen * TICK_NS


def waited_ns(pid: int) -> int:
    """Time that all threads of a process were ready to run and had no CPU; 0 where the kernel does not keep it."""
    with suppress(OSError, ValueError):
        return sum(thread_waits_ns(pid).values())
    return 0


class Disturbance(NamedTuple):
    """Something else that took CPU time: `share` of the window, or of the CPUs in use."""

    what: str
    share: float

    def __str__(self) -> str:
        return self.what.format(f"{self.share:.1%}" if self.share < 0.1 else f"{self.share:.0%}")


def disturbances(before: Reading, after: Reading, names: Mapping[int, str], cpus: int) -> list[Disturbance]:
    """What was out of the ordinary between two readings; `names` are those of our processes that nobody must delay."""
    window_ns = max(1, after.at_ns - before.at_ns)
    found = []
    stolen = max(0, after.stolen_ns - before.stolen_ns)
    if stolen > STOLEN * window_ns * cpus and stolen > TICK_NS:
        found.append(Disturbance("the hypervisor stole {} of the CPU time", stolen / window_ns / cpus))
    ours = sum(ns - before.used_ns.get(pid, 0) for pid, ns in after.used_ns.items())
    foreign = max(0, after.busy_ns - before.busy_ns - ours)
    if foreign > FOREIGN * window_ns * cpus + ROUNDING_NS:
        found.append(Disturbance("other processes took {} of the CPUs in use", foreign / window_ns / cpus))
    for pid, ns in after.waited_ns.items():
        waited = ns - before.waited_ns.get(pid, 0)
        if pid in names and waited > WAITED * window_ns:
            found.append(Disturbance(f"{names[pid]} waited {{}} of the time for a CPU", waited / window_ns))
    return found


def worst(found: Sequence[Disturbance]) -> list[Disturbance]:
    """The worst of each kind, in order of appearance."""
    most: dict[str, Disturbance] = {}
    for each in found:
        if each.what not in most or each.share > most[each.what].share:
            most[each.what] = each
    return list(most.values())
