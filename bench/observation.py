"""Observing one load: what the kernel's accounts say of a server, and of the CPUs, from the window's start to its end.

Written once, for sweep, gate, calibration and capacity; what is read is in bench/probes/, what it means in validity.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from bench import validity
from bench.load import LoadFailedError, LoadWorker, Measured, Turned, Watch, measure_job
from bench.probes.machine import MachineProbe
from bench.probes.process import CpuProbe, ProcessProbe, process_clock, process_cpu_ns, with_children
from bench.probes.unwatched import Unwatched, credible
from bench.record import Machine
from bench.server import RunningServer

EACH_TURN = ("cpu_ns", "runqueue_wait_ns", "thread_demand_ns")  # what is read for each
STOCK = ("rss_bytes", "rss_peak_bytes", "threads", "descriptors", "processes")  # as found at the end, no amounts
CPU_TIMES = ("server_idle_ns", "server_steal_ns", "load_idle_ns", "load_steal_ns", "harness_ns", "throttled_ns")


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
        self._roots, self._probe = server.roots, _probe_of(server)
        where = (worker.cpus, worker.child.pid) if worker else ([], 0)
        self._machine = MachineProbe(server.cpus, *where)
        self.seen = NOTHING_SEEN

    def opened(self) -> None:
        """Take the first reading."""
        self._machine.start()
        self._probe.start(self._roots)

    def closed(self) -> None:
        """Take the second reading; `seen` has what came of it."""
        machine = self._machine.stop()
        metrics = self._probe.stop()
        self.seen = Seen(self._probe.opened_ns, self._probe.closed_ns, metrics, dict(self._probe.missing), machine)


class TurnObservation:
    """Observes one server through all of its turns; it is read while the server stands still.

    A tour of /proc takes microseconds for each thread, on the CPU that the load may have to share. A server that is
    stopped can be read at leisure; and since nothing of its accounts changes before its next turn, what is read after
    one turn is what the next begins with. Only its CPU clocks are read at the two ends of a window, by the load
    generator. What a turn is judged by is read for each; the rest, once before all of them and once after.
    """

    def __init__(self, server: RunningServer, worker: LoadWorker) -> None:
        self._roots, self._load_pid = server.roots, worker.child.pid
        self._probe = _probe_of(server)
        self._cpu = CpuProbe()
        self._machine = MachineProbe(server.cpus, worker.cpus, worker.child.pid)
        self._family: list[int] = []
        self._load_ns = 0
        self._probe.start(self._roots)
        self._read()

    @property
    def clocks(self) -> list[int]:
        """The numbers of the CPU clocks to be read at the ends of a window."""
        return [process_clock(pid) for pid in self._family]

    def before(self) -> None:
        """Read before the server may go on."""
        self._load_ns = _cpu_ns(self._load_pid)
        self._machine.start()

    def after(self, turned: Turned) -> tuple[Seen, Seen, int]:
        """Read when the server stands still again: what was seen of the turn as a whole, and of its window.

        Of what the turn came to, the window has the share that it has of all messages. Its CPU time is its own. The
        third is the load generator's CPU time in the whole turn, in ns.
        """
        machine, load_ns = self._machine.stop(), _cpu_ns(self._load_pid) - self._load_ns
        family = self._family
        metrics, missing = self._read(), dict(self._cpu.missing if self._roots else self._probe.missing)
        whole = Seen(self._machine.opened_ns, self._machine.closed_ns, metrics, missing, machine)
        window = {name: value * turned.completed / max(1, turned.in_all) for name, value in metrics.items()}
        if "cpu_ns" in metrics:
            window["cpu_ns"] = float(turned.clocks_ns[1] - turned.clocks_ns[0])
            if family != self._family:
                del window["cpu_ns"]
                missing = missing | {"cpu_ns": "processes of it began or ended within a turn"}
        times = (turned.closed_ns - turned.opened_ns) / max(1, whole.closed_ns - whole.opened_ns)
        seen = Seen(turned.opened_ns, turned.closed_ns, window, missing, machine and _part_of(machine, times))
        return whole, seen, load_ns

    def stop(self, turns: Sequence[Turned], kept: Sequence[tuple[Turned, Seen]]) -> Seen:
        """Read for the last time: what was seen in those windows that are kept, as if they had been one.

        Of what isn't read for each turn, they have the share that they have of all messages.
        """
        found = self._probe.stop()
        share = sum(turned.completed for turned, _ in kept) / max(1, sum(turned.in_all for turned in turns))
        metrics = {name: value * (1.0 if name in STOCK else share) for name, value in found.items()}
        total = added([seen for _, seen in kept])
        for name in EACH_TURN:
            metrics.pop(name, None)
        return total._replace(metrics=metrics | dict(total.metrics), missing=self._probe.missing | dict(total.missing))

    def _read(self) -> dict[str, float]:
        self._family = with_children(self._roots)
        return self._cpu.read(self._family) if self._roots else {}


def _probe_of(server: RunningServer) -> ProcessProbe | Unwatched:
    return Unwatched(server.unwatched) if server.unwatched else ProcessProbe()


def believed(seen: Seen, echoed: int) -> Seen:
    """What was seen, once it is known how many messages were echoed meanwhile (see bench.probes.unwatched)."""
    metrics, missing = credible(seen.metrics, seen.missing, echoed, seen.closed_ns - seen.opened_ns)
    return seen._replace(metrics=metrics, missing=missing)


def added(seen: Sequence[Seen]) -> Seen:
    """What was seen in several windows, as if they had been one: amounts and times added.

    What is not known of one of them is not known of their sum. Raises ValueError where there is none.
    """
    if not seen:
        raise ValueError("a sum needs a window")
    everywhere = set(seen[0].metrics).intersection(*(one.metrics for one in seen))
    missing: dict[str, str] = {}
    for one in seen:
        missing |= one.missing
    opened_ns = seen[0].opened_ns
    return Seen(
        opened_ns,
        opened_ns + sum(one.closed_ns - one.opened_ns for one in seen),
        {name: sum(one.metrics[name] for one in seen) for name in seen[0].metrics if name in everywhere},
        missing,
        _machine([one.machine for one in seen]),
    )


def _machine(machines: Sequence[Machine | None]) -> Machine | None:
    known = [one for one in machines if one is not None]
    if len(known) < len(machines):
        return None
    waits = [one.load_wait_ns for one in known if one.load_wait_ns is not None]
    return msgspec.structs.replace(
        known[-1],
        load_wait_ns=sum(waits) if len(waits) == len(known) else None,
        **{name: sum(getattr(one, name) for one in known) for name in (*CPU_TIMES, "throttled_periods")},
    )


def _cpu_ns(pid: int) -> int:
    """The CPU time that a process has used up to now; none if it has ended."""
    with suppress(OSError):
        return process_cpu_ns(pid)
    return 0


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
    """Put a job's load on a server and observe it; `watch` is told of the steps after that.

    Raises what measure_job does, and LoadFailedError where the readings are not of the load's window.
    """
    watch = watch or Watch()
    observation = Observation(server, worker)

    def opened() -> None:
        observation.opened()
        watch.opened()

    def closed() -> None:
        observation.closed()
        watch.closed()

    measured = measure_job(worker, line, server, Watch(watch.connected, opened, closed, watch.tick))
    seen = observation.seen
    if not server.unwatched and (why := validity.out_of_step(measured.load, seen.opened_ns, seen.closed_ns)):
        raise LoadFailedError(why, fatal=False)
    return measured._replace(machine=seen.machine), believed(seen, measured.load.completed)
