"""One trial, from its definition to its record: start a server, put the load on it, read the probes, judge.

It is a function of the trial and of two roles, the server's and the load's. Here is who plays them at home; where they
are played on other machines is the affair of bench/cluster/. Neither the order of trials nor any file is known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Protocol

import msgspec

from bench import disturbance, validity
from bench.load import LoadFailedError, LoadWorker, Measured, Watch, measure
from bench.observation import NOTHING_SEEN, Observation, Seen
from bench.probes.memory import MemoryProbe
from bench.probes.network import NetworkProbe
from bench.probes.unwatched import credible
from bench.processes import Ending, how_it_ended
from bench.record import Machine, Network, Record, Server, Timing, Trial, Turn
from bench.server import RunningServer, ServerFailedError, stop_patience_s, stop_server
from bench.slo import holds
from clients.objective import read_objective

NOTHING_COMPLETED = "no message was completed"


class Stopwatch:
    """Where the time goes: each lap is the time since the one before."""

    def __init__(self) -> None:
        self._laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        """End a lap."""
        now = time.monotonic()
        self._laps[name] = now - self._last
        self._last = now

    def timing(self) -> Timing:
        """All laps; those that never came took no time."""
        return Timing(**{name: self._laps.get(name, 0.0) for name in Timing.__struct_fields__})


class Stopped(NamedTuple):
    """What is known of a server once it has ended.

    `machine` is about the server's CPUs, and about the load's where both are at home. `died`: it had ended before it
    was told to.
    """

    server: Server
    faults: list[str]
    died: bool
    machine: Machine | None = None
    network: Network | None = None
    stops_at: int = 0


class ServerRole(Protocol):
    """Where a trial's server runs. After `start` comes `stop`, whatever happens between."""

    def start(self, trial: Trial) -> None:
        """Start it and wait until it is ready. Raises ServerFailedError, Interrupted."""

    def connected(self) -> None:
        """All connections are open."""

    def opened(self) -> None:
        """The window has opened: the probes take their first reading."""

    def closed(self) -> None:
        """The window has closed: the probes take their second reading."""

    def stop(self) -> Stopped:
        """End it."""


class LoadRole(Protocol):
    """Where a trial's load comes from."""

    def measure(self, trial: Trial, planned_hz: float, watch: Watch) -> Measured:
        """Put the load on the server that has been started. Raises LoadFailedError, Interrupted."""


class ServerAtHome:
    """The server is a process of this machine, or was running before; the load is that of `worker`, or elsewhere."""

    def __init__(self, start: Callable[[Trial], RunningServer], worker: LoadWorker | None = None) -> None:
        self._start, self._worker = start, worker
        self.running: RunningServer | None = None
        self._trial: Trial | None = None
        self._observation: Observation | None = None
        self._seen = NOTHING_SEEN
        self._memory = MemoryProbe()
        self._connecting = NetworkProbe()
        self._network: Network | None = None

    def start(self, trial: Trial) -> None:
        """Start it. Raises ServerFailedError, Interrupted."""
        self.running, self._trial = self._start(trial), trial
        self._observation, self._seen = Observation(self.running, self._worker), NOTHING_SEEN
        self._memory, self._connecting, self._network = MemoryProbe(), NetworkProbe(), None
        self._memory.start(self.running.roots)

    def connected(self) -> None:
        """Read what the kernel dropped while the connections were opened."""
        self._network = self._connecting.stop()

    def opened(self) -> None:
        """Take the first reading."""
        assert self._observation is not None
        self._observation.opened()

    def closed(self) -> None:
        """Take the second reading."""
        assert self._observation is not None
        self._observation.closed()
        self._seen = with_memory(self._observation.seen, self._memory)

    def stop(self) -> Stopped:
        """End it."""
        assert self.running is not None and self._trial is not None and self._observation is not None
        connections = connections_of(self._trial)
        died = self.running.ended
        ending = stop_server(self.running, connections)
        died = died or ending.unasked
        return Stopped(
            describe_server(self.running, self._seen, ending),
            server_faults(self.running, ending, died, connections),
            died,
            machine=self._seen.machine,
            network=self._network,
            stops_at=stops_at(self._trial, self.running),
        )


class LoadAtHome:
    """The load comes from a process of this machine, on which the server runs as well."""

    def __init__(self, worker: LoadWorker, server: ServerAtHome) -> None:
        self._worker, self._server = worker, server

    def measure(self, trial: Trial, planned_hz: float, watch: Watch) -> Measured:
        """Put the load on the server. Raises LoadFailedError, Interrupted."""
        server = self._server.running
        assert server is not None
        return measure(self._worker, trial, planned_hz, server, watch)


def run_trial(
    trial: Trial,
    start: Callable[[Trial], RunningServer],
    worker: LoadWorker,
    *,
    planned_hz: float = 0.0,
    shared_cpus: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Record:
    """Run one trial with both roles at home; the rest is as in `carry_out`."""
    server = ServerAtHome(start, worker)
    load = LoadAtHome(worker, server)
    return carry_out(trial, server, load, planned_hz=planned_hz, shared_cpus=shared_cpus, tick=tick)


def carry_out(
    trial: Trial,
    server: ServerRole,
    load: LoadRole,
    *,
    planned_hz: float = 0.0,
    shared_cpus: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Record:
    """Run one trial. Whatever goes wrong with server or load becomes a failed record with the reason.

    `planned_hz` is the rate to plan for, which a trial may have as a fraction. The server has ended when this returns
    or raises. Raises Interrupted.
    """
    record = Record(id=trial.id, trial=trial, status="ok", started=utc_now(), planned_hz=planned_hz)
    stopwatch = Stopwatch()
    try:
        server.start(trial)
    except ServerFailedError as error:
        stopwatch.lap("spawn_s")
        record.status, record.reason, record.timing = "failed", str(error), stopwatch.timing()
        return record
    stopwatch.lap("spawn_s")
    measured: Measured | None = None
    trouble = ""

    def connected() -> None:
        server.connected()
        stopwatch.lap("connect_s")

    def opened() -> None:
        stopwatch.lap("warmup_s")
        server.opened()

    def closed() -> None:
        server.closed()
        stopwatch.lap("window_s")

    try:
        measured = load.measure(trial, planned_hz, Watch(connected, opened, closed, tick))
    except LoadFailedError as error:
        trouble = str(error)
    finally:
        stopped = server.stop()
        stopwatch.lap("teardown_s")
    record.timing = stopwatch.timing()
    if measured:
        record.load, record.load_hosts, record.overlap = measured.load, list(measured.hosts), measured.overlap
    record.machine = _both_sides(measured.machine if measured else None, stopped.machine)
    record.server, record.network, record.stops_at = stopped.server, stopped.network, stopped.stops_at
    if record.load:
        seen = record.server
        window_ns = seen.closed_ns - seen.opened_ns
        seen.metrics, seen.missing = credible(seen.metrics, seen.missing, record.load.completed, window_ns)
    reasons = [
        *stopped.faults,
        *reading_faults(record),
        *load_faults(
            trial, measured, stopped.server.refused, "" if stopped.died else trouble, stopped_at=record.stops_at
        ),
    ]
    if reasons:
        record.status, record.reason = "failed", "; ".join(reasons)
    judge(record)
    if shared_cpus:
        record.flags.append("shared_core")
    return record


def _both_sides(load: Machine | None, server: Machine | None) -> Machine | None:
    """What became of the CPUs of both roles, where each has read its own; else what one has read of both."""
    if load is None or server is None:
        return load or server
    return msgspec.structs.replace(
        load,
        server_idle_ns=server.server_idle_ns,
        server_steal_ns=server.server_steal_ns,
        throttled_periods=load.throttled_periods + server.throttled_periods,
        throttled_ns=load.throttled_ns + server.throttled_ns,
    )


def judge(record: Record) -> None:
    """Note what kept the trial from going faster, what its figures can't be trusted for, and whether its SLO held."""
    load, server = record.load, record.server
    if load is None or server is None:
        return
    record.bottleneck = validity.bottleneck(load, server, record.machine)
    record.flags = validity.flags(record.trial, load, record.bottleneck, record.network, record.turns)
    if not record.turns:
        record.flags += _disturbed(record)
    record.lower_bounds = validity.lower_bounds(load)
    if record.trial.slo:
        record.held = record.status == "ok" and holds(read_objective(record.trial.slo), load)


def _disturbed(record: Record) -> list[str]:
    """Flags of a trial that was measured as a whole, where others disturbed it: the rule by which turns don't count.

    What the CPUs of several load hosts were waited for is one sum, which says nothing of any of them.
    """
    load, server, machine = record.load, record.server, record.machine
    if load is None or server is None or machine is None:
        return []
    if disturbance.throttled(machine):
        return ["throttled"]
    if record.load_hosts:
        return []
    window_ns, load_ns = server.closed_ns - server.opened_ns, load.cpu_user_ns + load.cpu_system_ns
    why = disturbance.disturbance(window_ns, server.cpus, server.metrics, load_ns, machine)
    return ["disturbed"] if why else []


def reading_faults(record: Record) -> list[str]:
    """What was wrong with the readings of the server, in words; where the load is another machine's, its clock is."""
    load, server = record.load, record.server
    if load is None or server is None or not server.metrics or record.load_hosts:
        return []
    why = validity.out_of_step(load, server.opened_ns, server.closed_ns)
    return [why] if why else []


def describe_server(server: RunningServer, seen: Seen, ending: Ending) -> Server:
    """Everything that is recorded of the server."""
    return Server(
        pid=server.pid,
        implementation=server.implementation,
        version=server.version,
        gil=server.gil,
        cpus=server.cpus,
        opened_ns=seen.opened_ns,
        closed_ns=seen.closed_ns,
        metrics=dict(seen.metrics),
        missing=dict(seen.missing),
        refused=server.refused,
        exit_code=ending.exit_code if server.child else None,
        stderr_tail=ending.stderr_tail,
        jit=server.jit,
    )


def with_memory(seen: Seen, memory: MemoryProbe) -> Seen:
    """What was seen, and how much memory the server has of its own, of which the probe has the first reading."""
    found = memory.stop()
    return seen._replace(metrics={**seen.metrics, **found}, missing={**seen.missing, **memory.missing})


def connections_of(trial: Trial) -> int:
    """All connections of a trial, those that say nothing among them."""
    return trial.connections + trial.silent


def stops_at(trial: Trial, server: RunningServer) -> int:
    """How many connections a server took that refused the others for want of something; 0 where it took all or none.

    Under churn there is no such number: the connections come one after the other.
    """
    if not server.refused_are_all or not server.refused or trial.workload == "churn":
        return 0
    return max(0, connections_of(trial) - sum(server.refused.values()))


def server_faults(server: RunningServer, ending: Ending, died: bool, connections: int = 0) -> list[str]:
    """What was wrong with the end of a server of so many connections, in words.

    A clean end is exit code 0 soon after SIGTERM. How a server that is not ours ends is its own affair.
    """
    if server.foreign and not died:
        return []
    if ending.stopped:
        return ["a signal had stopped the server, so that it did nothing, and it had to be killed"]
    if ending.killed:
        patience_s = stop_patience_s(connections)
        return [f"the server did not stop within {patience_s:g} s of SIGTERM and had to be killed"]
    if died:
        return [f"the server ended in mid-trial, {how_it_ended(ending)}"]
    if ending.exit_code != 0:
        return [f"the server ended badly, {how_it_ended(ending)}"]
    return []


def load_faults(
    trial: Trial,
    measured: Measured | None,
    refused: dict[str, int],
    trouble: str,
    *,
    stopped_at: int = 0,
    turns: Sequence[Turn] = (),
) -> list[str]:
    """What was wrong in the eyes of the load generator, in words; `turns` are those that it was measured in, if any."""
    faults = [trouble] if trouble else []
    missing = measured.refused if measured else 0
    if missing or refused:
        faults.append(_unopened(connections_of(trial), measured, refused, stopped_at))
    if measured is None:
        return faults
    load = measured.load
    errors = {kind: number for kind, number in load.errors.items() if number}
    late = load.timed_out - max(0, missing - errors.get("refused", 0))  # besides connections that were late themselves
    if missing or refused:
        errors.pop("refused", None)
    if errors:
        faults.append("errors: " + ", ".join(f"{number} {kind}" for kind, number in sorted(errors.items())))
    faults += measured.faults
    if late > 0:
        faults.append(f"{late} messages timed out")
    if not load.completed:
        faults.append(NOTHING_COMPLETED)
    if mute := validity.unanswered(load):
        faults.append(mute)
    if quiet := validity.quiet(load, turns):
        faults.append(quiet)
    return faults


def _unopened(total: int, measured: Measured | None, refused: dict[str, int], stopped_at: int) -> str:
    """How many of so many connections there were not, and why; until a server has ended it tells no more than one."""
    missing = measured.refused if measured else 0
    if not refused and measured and measured.reason:
        return f"{missing} of {total} connections could not be opened ({measured.reason})"
    told = sum(refused.values())
    at_least = "at least " if refused and not stopped_at and missing < told else ""
    why = "; ".join(refused) or "the server gave no reason"
    text = f"{at_least}{max(missing, told)} of {total} connections refused ({why})"
    return f"{text}: it stops at {stopped_at}" if stopped_at else text


def not_run(trial: Trial, status: Literal["failed", "unavailable"], reason: str) -> Record:
    """The record of a trial that was not run."""
    return Record(id=trial.id, trial=trial, status=status, reason=reason, started=utc_now())


def utc_now() -> str:
    """The time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
