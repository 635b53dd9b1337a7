"""Observing one load: what the kernel's accounts say of a server, and of the CPUs, from the window's start to its end.

Written once, for sweep, gate, calibration and capacity; what is read is in bench/probes/, what it means in validity.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from bench.load import LoadWorker, Measured, Watch, measure_job
from bench.probes.machine import MachineProbe
from bench.probes.process import ProcessProbe
from bench.probes.unwatched import Unwatched
from bench.record import Machine
from bench.server import RunningServer


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
