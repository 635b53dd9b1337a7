"""One trial, from its definition to its record: start a server, put the load on it, read the probes, judge.

Where the server and the load run is given; neither the order of trials nor any file is known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from bench.load import LoadFailedError, LoadWorker, Measured, Watch, measure
from bench.probes.process import ProcessProbe
from bench.processes import Ending, how_it_ended
from bench.record import Load, Record, Server, Timing, Trial
from bench.server import STOP_PATIENCE_S, RunningServer, ServerFailedError, stop_server

SERVER_BOUND = 0.95  # of the CPU time that its CPUs offered
CLIENT_BOUND = 0.80  # of the window, for the busiest load thread

Bottleneck = Literal["", "server", "client", "latency"]


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
    shared_cpus: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Record:
    """Run one trial. Whatever goes wrong with server or load becomes a failed record with the reason.

    The server has ended when this returns or raises. Raises Interrupted.
    """
    record = Record(id=trial.id, trial=trial, status="ok", started=utc_now())
    stopwatch = Stopwatch()
    try:
        server = start(trial)
    except ServerFailedError as error:
        stopwatch.lap("spawn_s")
        record.status, record.reason, record.timing = "failed", str(error), stopwatch.timing()
        return record
    stopwatch.lap("spawn_s")
    probe = ProcessProbe()
    metrics: dict[str, float] = {}
    measured: Measured | None = None
    trouble = ""

    def opened() -> None:
        stopwatch.lap("warmup_s")
        probe.start([server.pid])

    def closed() -> None:
        metrics.update(probe.stop())
        stopwatch.lap("window_s")

    try:
        watch = Watch(lambda: stopwatch.lap("connect_s"), opened, closed, tick)
        measured = measure(worker, trial, server, watch)
    except LoadFailedError as error:
        trouble = str(error)
    finally:
        died = server.ended
        ending = stop_server(server)
        stopwatch.lap("teardown_s")
    record.timing = stopwatch.timing()
    record.load = measured.load if measured else None
    record.server = describe_server(server, probe, metrics, ending)
    reasons = [*server_faults(ending, died), *load_faults(trial, measured, server.refused, "" if died else trouble)]
    if reasons:
        record.status, record.reason = "failed", "; ".join(reasons)
    if record.load and "cpu_ns" in metrics:
        record.bottleneck = bottleneck(record.load, record.server)
    record.flags = [
        *(["client_bound"] if record.bottleneck == "client" else []),
        *(["shared_core"] if shared_cpus else []),
    ]
    return record


def describe_server(server: RunningServer, probe: ProcessProbe, metrics: dict[str, float], ending: Ending) -> Server:
    """Everything that is recorded of the server."""
    return Server(
        pid=server.pid,
        implementation=server.implementation,
        version=server.version,
        gil=server.gil,
        cpus=server.cpus,
        opened_ns=probe.opened_ns,
        closed_ns=probe.closed_ns,
        metrics=metrics,
        missing=probe.missing,
        refused=server.refused,
        exit_code=ending.exit_code,
        stderr_tail=ending.stderr_tail,
    )


def bottleneck(load: Load, server: Server) -> Bottleneck:
    """What kept the trial from going faster: server or client, by the CPU time each used; otherwise latency."""
    offered_ns = (server.closed_ns - server.opened_ns) * max(1, len(server.cpus))
    if server.metrics["cpu_ns"] >= SERVER_BOUND * offered_ns:
        return "server"
    if max(load.worker_busy, default=0.0) >= CLIENT_BOUND:
        return "client"
    return "latency"


def server_faults(ending: Ending, died: bool) -> list[str]:
    """What was wrong with the server's end, in words; a clean end is exit code 0 soon after SIGTERM."""
    if ending.killed:
        return [f"the server did not stop within {STOP_PATIENCE_S:g} s of SIGTERM and had to be killed"]
    if died:
        return [f"the server ended in mid-trial, {how_it_ended(ending)}"]
    if ending.exit_code != 0:
        return [f"the server ended badly, {how_it_ended(ending)}"]
    return []


def load_faults(trial: Trial, measured: Measured | None, refused: dict[str, int], trouble: str) -> list[str]:
    """What was wrong in the eyes of the load generator, in words."""
    faults = [trouble] if trouble else []
    missing = measured.refused if measured else 0
    if missing or refused:
        why = "; ".join(refused) or "the server gave no reason"
        faults.append(f"{max(missing, sum(refused.values()))} of {trial.connections} connections refused ({why})")
    if measured is None:
        return faults
    load = measured.load
    errors = {kind: number for kind, number in load.errors.items() if number}
    if missing or refused:
        errors.pop("refused", None)
    if errors:
        faults.append("errors: " + ", ".join(f"{number} {kind}" for kind, number in sorted(errors.items())))
    if load.timed_out:
        faults.append(f"{load.timed_out} messages timed out")
    if not load.completed:
        faults.append("no message was completed")
    return faults


def utc_now() -> str:
    """The time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
