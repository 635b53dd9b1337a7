"""Observing one load: what the kernel's accounts say of a server, and of the CPUs, from the window's start to its end.

Written once, for sweep, gate, calibration and capacity; what is read is in bench/probes/, what it means in validity.py.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from bench.load import LoadWorker, Measured, Watch, measure_job
from bench.probes.machine import MachineProbe
from bench.probes.process import ProcessProbe, process_cpu_ns
from bench.probes.unwatched import Unwatched
from bench.record import Machine
from bench.server import RunningServer

STOCK = ("rss_bytes", "rss_peak_bytes", "threads", "descriptors", "processes")  # as found at the end, no amounts
CPU_TIMES = ("server_idle_ns", "server_steal_ns", "load_idle_ns", "load_steal_ns", "harness_ns")


class Seen(NamedTuple):
    """What was read at the two ends of a window: the metrics of bench.record.Server, and what became of the CPUs.

    `missing` says why a metric is not there. Times are ns of CLOCK_MONOTONIC.
    """

    opened_ns: int
    closed_ns: int
    metrics: Mapping[str, float]
    missing: Mapping[str, str]
    machine: Machine | None


NOTHING_SEEN = Seen(0, 0, {}, {}, None)


class Observation:
    """Reads at a window's start and at its end. Without a `worker`, the load runs elsewhere."""

    def __init__(self, server: RunningServer, worker: LoadWorker | None = None) -> None:
        self._pid = server.pid
        self._probe: ProcessProbe | Unwatched = ProcessProbe() if server.child else Unwatched()
        where = (worker.cpus, worker.child.pid) if worker else ([], 0)
        self._machine = MachineProbe(server.cpus, *where)
        self.seen = NOTHING_SEEN

    def opened(self) -> None:
        """Take the first reading."""
        self._machine.start()
        self._probe.start([self._pid])

    def closed(self) -> None:
        """Take the second reading; `seen` has what came of it."""
        machine = self._machine.stop()
        metrics = self._probe.stop()
        self.seen = Seen(self._probe.opened_ns, self._probe.closed_ns, metrics, dict(self._probe.missing), machine)


class TurnObservation:
    """Reads round a turn, while the server stands still, and its CPU clocks alone at the two ends of the window.

    A tour of /proc takes a tenth of a millisecond for each thread, on the CPU that the load may have to share: 16 ms
    for 128 threads, which would be a third of a turn. A server that is stopped can be read at leisure, and nothing of
    its accounts changes meanwhile.
    """

    def __init__(self, server: RunningServer, worker: LoadWorker) -> None:
        self._pid, self._load_pid = server.pid, worker.child.pid
        self._probe: ProcessProbe | Unwatched = ProcessProbe() if server.child else Unwatched()
        self._machine = MachineProbe(server.cpus, worker.cpus, worker.child.pid)
        self._family: list[int] = []
        self._opened, self._closed = (0, 0.0), (0, 0.0)
        self._load_ns = 0.0

    def before(self) -> None:
        """Read before the server may go on."""
        self._probe.start([self._pid])
        self._family = self._probe.family
        self._load_ns = _clocks([self._load_pid])[1]
        self._machine.start()

    def opened(self) -> None:
        """Read the CPU clocks at the window's start."""
        self._opened = _clocks(self._family)

    def closed(self) -> None:
        """Read the CPU clocks at the window's end."""
        self._closed = _clocks(self._family)

    def after(self, completed: int, in_all: int) -> tuple[Seen, Seen, int]:
        """Read when the server stands still again: what was seen of the turn as a whole, and of its window.

        Of what the turn came to, the window has the share that it has of all messages: `completed` of `in_all`. Its CPU
        time is its own. The third is the load generator's CPU time in the whole turn, in ns.
        """
        machine = self._machine.stop()
        load_ns = round(_clocks([self._load_pid])[1] - self._load_ns)
        metrics, missing = self._probe.stop(), dict(self._probe.missing)
        whole = Seen(self._probe.opened_ns, self._probe.closed_ns, metrics, missing, machine)
        window = {name: value * _share(name, completed, in_all) for name, value in metrics.items()}
        if "cpu_ns" in metrics:
            window["cpu_ns"] = self._closed[1] - self._opened[1]
            if self._family != self._probe.family:
                del window["cpu_ns"]
                missing = missing | {"cpu_ns": "processes of it began or ended within a turn"}
        times = (self._closed[0] - self._opened[0]) / max(1, whole.closed_ns - whole.opened_ns)
        seen = Seen(self._opened[0], self._closed[0], window, missing, machine and _part_of(machine, times))
        return whole, seen, load_ns


def _clocks(family: Sequence[int]) -> tuple[int, float]:
    """The moment, and the CPU time that processes have used up to it; one that has ended counts for nothing."""
    before, used_ns = time.monotonic_ns(), 0.0
    for pid in family:
        with suppress(OSError):
            used_ns += process_cpu_ns(pid)
    return (before + time.monotonic_ns()) // 2, used_ns


def _share(name: str, completed: int, in_all: int) -> float:
    return 1.0 if name in STOCK else completed / max(1, in_all)


def _part_of(machine: Machine, share: float) -> Machine:
    """What became of the CPUs in a part of the time."""
    waited = machine.load_wait_ns
    return msgspec.structs.replace(
        machine,
        load_wait_ns=None if waited is None else waited * share,
        **{name: getattr(machine, name) * share for name in CPU_TIMES},
    )


def observe(
    worker: LoadWorker, line: dict[str, Any], server: RunningServer, watch: Watch | None = None
) -> tuple[Measured, Seen]:
    """Put a job's load on a server and observe it; `watch` is told of the steps after that. Raises as measure_job."""
    watch = watch or Watch()
    observation = Observation(server, worker)

    def opened() -> None:
        observation.opened()
        watch.opened()

    def closed() -> None:
        observation.closed()
        watch.closed()

    measured = measure_job(worker, line, server, Watch(watch.connected, opened, closed, watch.tick))
    return measured._replace(machine=observation.seen.machine), observation.seen
