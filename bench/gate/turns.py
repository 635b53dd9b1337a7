"""One side of a pair: its server is started, loaded in turns, stopped in between and ended; what the turns add up to.

Which turns there are, and what follows from them, is decided in measure.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import psutil

from bench import processes
from bench.gate.sides import Source
from bench.histograms import merged
from bench.host import CpuLayout
from bench.load import LoadFailedError, LoadWorker, Measured, Watch, end_worker, measure, start_worker
from bench.probes.machine import MachineProbe
from bench.probes.process import ProcessProbe, with_children
from bench.probes.unwatched import Unwatched
from bench.processes import Ending, Guard
from bench.record import Load, Machine, Server, Trial
from bench.server import RunningServer, ServerFailedError, stop_server
from bench.trial import NOTHING_COMPLETED, describe_server, load_faults, server_faults

T = TypeVar("T")


@dataclass
class Rig:
    """What pairs are measured with; the load generator is started anew where it broke down."""

    guard: Guard
    layout: CpuLayout
    worker_command: Sequence[str] = ()
    _worker: LoadWorker | None = None

    def worker(self) -> LoadWorker:
        """A load generator that is warm. Raises LoadFailedError, Interrupted."""
        if self._worker and not self._worker.usable:
            self.end()
        if self._worker is None:
            self._worker = start_worker(self.layout.load, self.guard, self.worker_command)
        return self._worker

    def end(self) -> None:
        """End it, if it runs."""
        worker, self._worker = self._worker, None
        if worker:
            end_worker(worker)


class Window(msgspec.Struct):
    """What the probes and the load saw of one turn, or of several together."""

    load: Load
    server: Server
    machine: Machine | None


@dataclass
class Contestant:
    """One side of a pair. `at_start_bytes` is its resident set before the first connection; `faults` end its turns."""

    source: Source
    server: RunningServer | None = None
    at_start_bytes: float = 0.0
    full: list[Window] = field(default_factory=list)  # at full load
    fixed: list[Window] = field(default_factory=list)  # at a fixed rate
    faults: list[str] = field(default_factory=list)
    died: bool = False


def enter(rig: Rig, trial: Trial, source: Source) -> Contestant:
    """Start a fresh server of one side and stop it until its turn comes. Raises Interrupted."""
    one = Contestant(source)
    try:
        rig.worker()
        one.server = source.start(trial, rig.layout.server, rig.guard)
    except (ServerFailedError, LoadFailedError) as error:
        one.faults.append(str(error))
        return one
    source.side.interpreter = f"{one.server.implementation} {one.server.version}".strip()
    one.at_start_bytes = _rss_bytes(one.server)
    _pause(one.server)
    return one


def take_turns(sides: Sequence[Contestant], times: int, turn: Callable[[Contestant], None]) -> None:
    """Let each side have so many turns, A B B A; one that is broken has no more."""
    for number in range(times):
        for one in sides if number % 2 == 0 else reversed(sides):
            if one.server is not None and not one.faults:
                _go_on(one.server)
                turn(one)
                _pause(one.server)


def drive(rig: Rig, one: Contestant, trial: Trial, rate_hz: float) -> list[Window]:
    """Put a load on a side's server: the window, or none where that is a fault. Raises Interrupted."""
    assert one.server is not None
    try:
        window, faults = _drive(rig.worker(), trial, one.server, rate_hz)
    except LoadFailedError as error:
        one.died = one.server.ended
        one.faults += [] if one.died else [str(error)]
        return []
    one.died = one.server.ended
    one.faults += faults
    return [window] if window else []


def leave(one: Contestant) -> None:
    """End a side's server, and add to its faults what was wrong with that."""
    if one.server is None:
        return
    _go_on(one.server)
    ending = stop_server(one.server)
    one.faults = [*server_faults(one.server, ending, one.died or ending.unasked), *one.faults]


def _drive(worker: LoadWorker, trial: Trial, server: RunningServer, rate_hz: float) -> tuple[Window | None, list[str]]:
    """Put a load on the server; what came of it, and what was wrong with it. Raises LoadFailedError, Interrupted."""
    probe = ProcessProbe() if server.child else Unwatched()
    machine = MachineProbe(server.cpus, worker.cpus, worker.child.pid)
    seen: list[tuple[dict[str, float], Machine | None]] = []

    def opened() -> None:
        machine.start()
        probe.start([server.pid])

    def closed() -> None:
        found = machine.stop()
        seen.append((probe.stop(), found))

    measured: Measured = measure(worker, trial, rate_hz, server, Watch(_nothing, opened, closed, _nothing))
    # A turn may be too short for a message; whether all of them were is seen in the end.
    faults = [fault for fault in load_faults(trial, measured, server.refused, "") if fault != NOTHING_COMPLETED]
    metrics, found = seen[0]
    if "cpu_ns" not in metrics:
        return None, [*faults, probe.missing.get("cpu_ns", "the server's CPU time can't be read")]
    about = describe_server(server, probe, metrics, Ending(0, killed=False, stderr_tail=""))
    return Window(measured.load, about, found), faults


def total(windows: Sequence[Window]) -> Window:
    """All of a side's turns as if they had been one: amounts and times are added. Raises ValueError for none."""
    if not windows:
        raise ValueError("a sum needs a turn")
    loads, servers = [one.load for one in windows], [one.server for one in windows]
    machines = [one.machine for one in windows if one.machine is not None]
    load = msgspec.structs.replace(
        loads[-1],
        opened_ns=0,
        closed_ns=sum(one.closed_ns - one.opened_ns for one in loads),
        response_hdr=merged([one.response_hdr for one in loads]),
        worker_busy=[statistics.fmean(busy) for busy in zip(*(one.worker_busy for one in loads), strict=True)],
        **_added(loads, ("completed", "cpu_user_ns", "cpu_system_ns")),
    )
    amounts = [name for name in ("cpu_ns", "thread_demand_ns") if all(name in one.metrics for one in servers)]
    server = msgspec.structs.replace(
        servers[-1],
        opened_ns=0,
        closed_ns=sum(one.closed_ns - one.opened_ns for one in servers),
        metrics={**servers[-1].metrics, **{name: sum(one.metrics[name] for one in servers) for name in amounts}},
    )
    if len(machines) < len(windows):
        return Window(load, server, None)
    times = ("server_idle_ns", "server_steal_ns", "load_idle_ns", "load_steal_ns", "harness_ns")
    waits = [one.load_wait_ns for one in machines if one.load_wait_ns is not None]
    machine = msgspec.structs.replace(
        machines[-1], load_wait_ns=sum(waits) if len(waits) == len(machines) else None, **_added(machines, times)
    )
    return Window(load, server, machine)


def _added(records: Sequence[T], names: Sequence[str]) -> dict[str, float]:
    return {name: sum(getattr(one, name) for one in records) for name in names}


def _pause(server: RunningServer) -> None:
    if server.child:
        processes.pause(server.child)


def _go_on(server: RunningServer) -> None:
    if server.child:
        processes.go_on(server.child)


def _rss_bytes(server: RunningServer) -> float:
    found = 0
    for pid in with_children([server.pid]) if server.child else []:
        with suppress(psutil.Error):
            found += psutil.Process(pid).memory_info().rss
    return float(found)


def _nothing() -> None:
    pass
