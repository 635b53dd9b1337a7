"""Turns: several servers are up at once, one of them runs under its load, and the others stand still.

A shared machine is faster at one moment than at the next, by a factor of 1.6 within a minute where this was measured.
Servers that take short turns meet the same moments, and what differs between them is theirs. The
load generator keeps the connections of all of them open: connecting anew at each turn costs a thread or a process for
each connection, and came out as a third of the throughput of `thread_per_connection`. Who isn't on is stopped with all
of its processes (SIGSTOP): a server that polls would take the others' CPU.

Duets of two are in the literature (Bulej et al.: Duet Benchmarking, ICPE 2020; Abedi and Brecht: Conducting Repeatable
Experiments in Highly Variable Cloud Computing Environments, ICPE 2017, for trials in random order); here a whole field
takes turns. Which turns there are is decided by who calls this: bench/rounds.py for a sweep, bench/gate/ for a pair.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import msgspec
import psutil

from bench import disturbance, processes
from bench.load import JobInTurns, LoadFailedError, LoadWorker, Measured, Turned, job
from bench.observation import NOTHING_SEEN, Seen, TurnObservation, believed
from bench.probes.memory import MemoryProbe
from bench.probes.network import NetworkProbe
from bench.probes.process import with_children
from bench.processes import Ending
from bench.record import Network, Trial, Turn
from bench.server import RunningServer, ServerFailedError, stop_server
from bench.trial import with_memory
from bench.turn_length import Length
from bench.validity import HARNESS, LATE_NS

# A thread that SIGCONT has just woken has that still to deal with, so the kernel gives SIGTERM to another one
# (complete_signal in kernel/signal.c), and Python's main thread does not hear of it until it is sent again.
AWAKE_S = 0.002

_numbers = count()


class Taken(NamedTuple):
    """One turn that was taken: what the load generator and what the probes saw of it, and why it doesn't count."""

    turned: Turned
    seen: Seen
    disturbed: str


@dataclass
class Side:
    """One of those that take turns: its server, its load, its turns so far. Faults are its own, and end its turns."""

    trial: Trial
    start: Callable[[], RunningServer]
    server: RunningServer | None = None
    job: JobInTurns | None = None
    observation: TurnObservation | None = None  # of the load that is open
    taken: list[Taken] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    died: bool = False  # the server, before it was told to
    unopened: tuple[int, str] = (0, "")  # connections that could not be made, and why one of them could not
    network: Network | None = None
    memory: MemoryProbe = field(default_factory=MemoryProbe)
    at_start_bytes: float = 0.0  # resident, before the first connection
    measured: Measured | None = None  # once the load has ended
    seen: Seen = NOTHING_SEEN
    spent_s: dict[str, float] = field(default_factory=dict)  # by the names of bench.record.Timing
    strays: list[int] = field(default_factory=list)

    @property
    def fit(self) -> bool:
        """Whether it can have another turn."""
        return self.server is not None and not self.faults

    @property
    def kept(self) -> list[int]:
        """The numbers of the turns that count: those that were not disturbed; all of them where every one was."""
        clean = [number for number, turn in enumerate(self.taken) if not turn.disturbed]
        return clean or list(range(len(self.taken)))


def enter(side: Side) -> None:
    """Start a side's server and stop it until its turn comes. Raises Interrupted."""
    with _spent(side, "spawn_s"):
        try:
            side.server = side.start()
        except ServerFailedError as error:
            side.faults.append(str(error))
            return
        side.memory.start(side.server.roots)
        side.at_start_bytes = _rss_bytes(side.server.roots)
        _pause(side)


def open_load(side: Side, worker: LoadWorker, planned_hz: float, trial: Trial | None = None) -> None:
    """Open the connections of a side's load, that of its trial or of another one. Raises Interrupted."""
    assert side.server is not None
    with _spent(side, "connect_s"), _on(side), _its_own_fault(side):
        side.taken, side.job, side.measured, side.seen = [], None, None, NOTHING_SEEN
        dropped = NetworkProbe()
        opening = JobInTurns(worker, _line(side, trial or side.trial, planned_hz), side.server)
        side.unopened = opening.connected()
        side.network, side.job = dropped.stop(), opening
        if side.server.child is not None:
            _close_strays(side)
            side.strays = processes.open_strays(side.server.child, with_children([side.server.pid]))
    if not side.faults:
        side.observation = TurnObservation(side.server, worker)


def take_turn(side: Side, worker: LoadWorker, turn: Length, tick: Callable[[], None] = lambda: None) -> None:
    """Let a side go on for a turn, and stop it again. Raises Interrupted."""
    assert side.server is not None and side.job is not None and side.observation is not None
    began = time.monotonic()
    side.observation.before()
    with _its_own_fault(side):
        with _on(side):
            turned = side.job.turn(turn.warmup_s, turn.duration_s, side.observation.clocks, tick)
        whole, window, load_ns = side.observation.after(turned)
        disturbed = why_late(turned, whole, turn.warmup_s) or why_disturbed(
            msgspec.structs.replace(turned, cpu_ns=load_ns), whole, side.server.cpus
        )
        side.taken.append(Taken(turned, window, disturbed))
        measured_s = (turned.closed_ns - turned.opened_ns) / 1e9
        _add(side, "window_s", measured_s)
        _add(side, "warmup_s", turn.warmup_s)
        began += measured_s + turn.warmup_s
    _add(side, "teardown_s", max(0.0, time.monotonic() - began))


def close_load(side: Side) -> None:
    """End a side's load: `measured` and `seen` are what those of its turns came to that count. Raises Interrupted."""
    opened, side.job = side.job, None
    if opened is None or side.observation is None or not side.taken or side.faults:
        return
    kept = [side.taken[number] for number in side.kept]
    seen = side.observation.stop([turn.turned for turn in side.taken], [(turn.turned, turn.seen) for turn in kept])
    side.seen = believed(with_memory(seen, side.memory), sum(turn.turned.completed for turn in kept))
    with _spent(side, "teardown_s"), _on(side), _its_own_fault(side):
        side.measured = Measured(opened.result(side.kept), *side.unopened, machine=side.seen.machine)


def leave(side: Side, connections: int) -> Ending | None:
    """End a side's server, which had so many connections; how it ended, None where it was never started."""
    if side.server is None:
        return None
    with _spent(side, "teardown_s"):
        side.died = side.died or side.server.ended
        _go_on(side)
        time.sleep(AWAKE_S)
        ending = stop_server(side.server, connections)
        side.died = side.died or ending.unasked
        _close_strays(side)
        return ending


# --- what turns come to


def recorded(side: Side) -> list[Turn]:
    """A side's turns as a record has them."""
    return [
        Turn(
            opened_ns=turn.turned.opened_ns,
            closed_ns=turn.turned.closed_ns,
            completed=turn.turned.completed,
            disturbed=turn.disturbed,
        )
        for turn in side.taken
    ]


def why_late(turned: Turned, whole: Seen, warmup_s: float) -> str:
    """Say where the harness stood still round the window of a turn; "" where it did not.

    The window is the load generator's, and so are its figures. But the server went on, without load, until it was told
    to stop: what others had of the CPUs in the window is a small share of that time, and would not be found.
    """
    late_ns = (whole.closed_ns - whole.opened_ns) - (turned.closed_ns - turned.opened_ns) - int(warmup_s * 1e9)
    return f"{HARNESS} for {late_ns / 1e9:.1f} s" if late_ns > LATE_NS else ""


def why_disturbed(turned: Turned, seen: Seen, server_cpus: Sequence[int]) -> str:
    """Why a turn doesn't count: others had the CPUs for too much of it. "" where it does, or that isn't known.

    The kernel counts a wait when it is over. A server that got no CPU in a whole turn has none in its accounts: where
    nothing was completed, it is taken to have waited throughout, as far as others had its CPU.
    """
    if seen.machine is None:
        return ""
    window_ns = seen.closed_ns - seen.opened_ns
    metrics = seen.metrics if turned.completed else {**seen.metrics, "thread_demand_ns": float(window_ns)}
    return disturbance.disturbance(window_ns, server_cpus, metrics, turned.cpu_ns, seen.machine)


# --- in between


@contextmanager
def _on(side: Side) -> Iterator[None]:
    """Let a side's server go on for as long as the context lasts."""
    _go_on(side)
    try:
        yield
    finally:
        _pause(side)


@contextmanager
def _its_own_fault(side: Side) -> Iterator[None]:
    """Whatever goes wrong with a side's server or load is this side's fault alone."""
    assert side.server is not None
    try:
        yield
    except LoadFailedError as error:
        side.died = side.server.ended
        side.faults.append(str(error))


@contextmanager
def _spent(side: Side, what: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        _add(side, what, time.monotonic() - began)


def _add(side: Side, what: str, seconds: float) -> None:
    side.spent_s[what] = side.spent_s.get(what, 0.0) + seconds


def _pause(side: Side) -> None:
    if side.server is not None and side.server.child is not None:
        processes.pause(side.server.child, side.strays)


def _go_on(side: Side) -> None:
    if side.server is not None and side.server.child is not None:
        processes.go_on(side.server.child, side.strays)


def _close_strays(side: Side) -> None:
    while side.strays:
        with suppress(OSError):
            os.close(side.strays.pop())


def _rss_bytes(roots: Sequence[int]) -> float:
    found = 0
    for pid in with_children(roots):
        with suppress(psutil.Error):
            found += psutil.Process(pid).memory_info().rss
    return float(found)


def _line(side: Side, trial: Trial, planned_hz: float) -> dict[str, Any]:
    """The job under a name of its own: both sides of a pair are of one trial, and their jobs are open at once."""
    assert side.server is not None
    line = job(trial, planned_hz, side.server.address)
    return line | {"job": f"{line['job']}-{next(_numbers)}"}
