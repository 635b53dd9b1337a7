"""One trial, from its definition to its record: start a server, put the load on it, read the probes, judge.

Where the server and the load run is given; neither the order of trials nor any file is known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from bench import validity
from bench.load import LoadFailedError, LoadWorker, Measured, Watch, measure
from bench.probes.machine import MachineProbe
from bench.probes.memory import MemoryProbe
from bench.probes.network import NetworkProbe
from bench.probes.process import ProcessProbe
from bench.probes.unwatched import Unwatched
from bench.processes import Ending, how_it_ended
from bench.record import Record, Server, Timing, Trial
from bench.server import RunningServer, ServerFailedError, stop_patience_s, stop_server
from bench.slo import holds, read_objective

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


def run_trial(
    trial: Trial,
    start: Callable[[Trial], RunningServer],
    worker: LoadWorker,
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
        server = start(trial)
    except ServerFailedError as error:
        stopwatch.lap("spawn_s")
        record.status, record.reason, record.timing = "failed", str(error), stopwatch.timing()
        return record
    stopwatch.lap("spawn_s")
    probe = ProcessProbe() if server.child else Unwatched()
    machine = MachineProbe(server.cpus, worker.cpus, worker.child.pid)
    memory = MemoryProbe()
    memory.start([server.pid] if server.child else [])
    network = NetworkProbe()
    metrics: dict[str, float] = {}
    measured: Measured | None = None
    trouble = ""

    def connected() -> None:
        record.network = network.stop()
        stopwatch.lap("connect_s")

    def opened() -> None:
        stopwatch.lap("warmup_s")
        machine.start()
        probe.start([server.pid])

    def closed() -> None:
        record.machine = machine.stop()
        metrics.update(probe.stop() | memory.stop())
        stopwatch.lap("window_s")

    try:
        watch = Watch(connected, opened, closed, tick)
        measured = measure(worker, trial, planned_hz, server, watch)
    except LoadFailedError as error:
        trouble = str(error)
    finally:
        died = server.ended
        ending = stop_server(server, connections_of(trial))
        died = died or ending.unasked
        stopwatch.lap("teardown_s")
    record.timing = stopwatch.timing()
    record.load = measured.load if measured else None
    record.stops_at = stops_at(trial, server)
    record.server = describe_server(server, probe, metrics, ending, memory.missing)
    reasons = [
        *server_faults(server, ending, died, connections_of(trial)),
        *load_faults(trial, measured, server.refused, "" if died else trouble, record.stops_at),
    ]
    if reasons:
        record.status, record.reason = "failed", "; ".join(reasons)
    judge(record)
    if shared_cpus:
        record.flags.append("shared_core")
    return record


def judge(record: Record) -> None:
    """Note what kept the trial from going faster, what its figures can't be trusted for, and whether its SLO held."""
    load, server = record.load, record.server
    if load is None or server is None:
        return
    if "cpu_ns" in server.metrics:
        record.bottleneck = validity.bottleneck(load, server, record.machine)
    record.flags = validity.flags(record.trial, load, record.bottleneck, record.network)
    record.lower_bounds = validity.lower_bounds(load)
    if record.trial.slo:
        record.held = record.status == "ok" and holds(read_objective(record.trial.slo), load)


def describe_server(
    server: RunningServer,
    probe: ProcessProbe | Unwatched,
    metrics: dict[str, float],
    ending: Ending,
    missing: Mapping[str, str] = MappingProxyType({}),
) -> Server:
    """Everything that is recorded of the server; `missing` is what other probes than `probe` could not read."""
    return Server(
        pid=server.pid,
        implementation=server.implementation,
        version=server.version,
        gil=server.gil,
        cpus=server.cpus,
        opened_ns=probe.opened_ns,
        closed_ns=probe.closed_ns,
        metrics=metrics,
        missing={**probe.missing, **missing},
        refused=server.refused,
        exit_code=ending.exit_code if server.child else None,
        stderr_tail=ending.stderr_tail,
        jit=server.jit,
    )


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
    trial: Trial, measured: Measured | None, refused: dict[str, int], trouble: str, stopped_at: int = 0
) -> list[str]:
    """What was wrong in the eyes of the load generator, in words."""
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
    if late > 0:
        faults.append(f"{late} messages timed out")
    if not load.completed:
        faults.append(NOTHING_COMPLETED)
    if quiet_s := validity.quiet_s(load):
        faults.append(f"no echo came in the last {quiet_s:.1f} s of the window")
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


def utc_now() -> str:
    """The time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
