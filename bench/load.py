"""The load generator as a run uses it: one warm worker process (`python -m clients --worker`) for all trials.

One job a line goes to its standard input, events come back from its standard output:

    {"event": "ready", "pid": ..., "note": ...}                 warm: everything is compiled
    -> {"job": ID, "address": "tcp:127.0.0.1:4000", "workload": "closed", "connections": 64, "message_bytes": 64,
        "warmup_s": 0.2, "duration_s": 0.8, "timeout_s": 10.0, "connect_s": 10.1, "hold_s": 1.1, "seed": 1}
    {"event": "connected", "job": ID, "connections": n, "refused": n, "reason": ..., "connect_ns": ...}
    {"event": "window_opened", "job": ID, "monotonic_ns": ...}
    {"event": "window_closed", "job": ID, "monotonic_ns": ...}  the load stays on, so that the probes see it
    -> {"stop": ID}
    {"event": "result", "job": ID, "load": {...}}
    {"event": "failed", "job": ID, "reason": ...}               in place of whatever should have come next

A job with "hold": true waits after "connected" for a line {"go": ID}, so that several load generators start together.

One with "turns": true waits for its turns, and any number of such jobs are open at once:

    -> {"turn": ID, "warmup_s": 0.002, "duration_s": 0.01, "clocks": [...]}
    {"event": "turned", "job": ID, "opened_ns": ..., "closed_ns": ..., "completed": n, "in_all": n, ...}
    -> {"end": ID, "kept": [0, 2, 3]}                           the numbers of the turns that count
    {"event": "result", ...}

No load is generated in this file and no server is known here, but for the death of one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from bench import processes
from bench.events import ProtocolError, Stream, wait
from bench.processes import Guard
from bench.record import Count, Load, LoadHost, Machine, Trial
from bench.server import RunningServer

WARM_PATIENCE_S = 300.0  # the very first time, the loop is compiled
CONNECT_TIMEOUT_S = 10.0
# More for each connection. A server may have to fork; or it asks all connections between one accept and the next, and
# then the time for all of them goes with the square of their number.
CONNECT_EACH_S = 0.016
HOLD_S = 1.0  # the load stays on after the window for the probes, which read each process of a server ...
HOLD_EACH_S = 0.001  # ... and there may be one for each connection
MARGIN_S = 5.0  # beyond what a step should take
END_PATIENCE_S = 1.0
TICK_S = 1.0


class LoadFailedError(Exception):
    """The load generator has no result for a trial; the message says why. `fatal`: the worker must be replaced."""

    def __init__(self, reason: str, fatal: bool) -> None:
        super().__init__(reason)
        self.fatal = fatal


@dataclass
class LoadWorker:
    """A warm load generator."""

    child: processes.Child
    events: Stream
    cpus: list[int]
    usable: bool = True
    ending: processes.Ending | None = None  # once it has ended
    note: str = ""  # what a user should know of it

    def send(self, line: dict[str, Any]) -> None:
        """Write one line to it. Raises LoadFailedError where it has gone."""
        if self.ending is not None:  # in another's turn
            raise LoadFailedError(_died(self), fatal=True)
        pipe = self.child.process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(line).encode() + b"\n")
        except BrokenPipeError:
            raise LoadFailedError(_died(self), fatal=True) from None


@dataclass
class Watch:
    """What a run does at the steps of a trial; each is called as soon as the worker has told of the step."""

    connected: Callable[[], None] = lambda: None
    opened: Callable[[], None] = lambda: None
    closed: Callable[[], None] = lambda: None
    tick: Callable[[], None] = lambda: None  # about once a second while the window is open


class Measured(NamedTuple):
    """What a trial's load came to; `refused`: connections that could not be made, and one `reason` for it.

    `machine` is what became of the CPUs meanwhile, where that was read. `hosts` tells of each where there were several,
    `overlap` for which share of the window all of them were at work, and `faults` what was wrong with that.
    """

    load: Load
    refused: int
    reason: str = ""
    machine: Machine | None = None
    hosts: Sequence[LoadHost] = ()
    overlap: float | None = None
    faults: Sequence[str] = ()


def start_worker(cpus: Sequence[int], guard: Guard, command: Sequence[str] = ()) -> LoadWorker:
    """Start a load generator and wait until it is warm. Raises LoadFailedError, and Interrupted after it has ended."""
    argv = [*(command or [sys.executable, "-m", "clients"]), "--worker", "--cpus", ",".join(map(str, cpus))]
    try:
        child = processes.start(argv, guard, cpus, piped=True)
    except OSError as error:
        raise LoadFailedError(f"{argv[0]} can't be started: {error.strerror}", fatal=True) from None
    assert child.process.stdout is not None
    worker = LoadWorker(child, Stream(child.process.stdout.fileno(), "the load generator"), list(cpus))
    try:
        worker.note = str(_expect(worker, "ready", "", WARM_PATIENCE_S).get("note", ""))
    except (TimeoutError, ProtocolError) as error:
        end_worker(worker)
        raise LoadFailedError(f"the load generator does not get ready: {error}", fatal=True) from None
    except BaseException:
        end_worker(worker)
        raise
    return worker


def end_worker(worker: LoadWorker) -> processes.Ending:
    """End it: by the end of its standard input, or by a signal where it does not heed that."""
    if worker.ending is None:
        assert worker.child.process.stdin is not None
        worker.child.process.stdin.close()
        worker.ending = processes.end(worker.child, terminate=False, patience_s=END_PATIENCE_S)
    return worker.ending


def measure(worker: LoadWorker, trial: Trial, planned_hz: float, server: RunningServer, watch: Watch) -> Measured:
    """Put the trial's load on the server and return what came of it; raises what `measure_job` does."""
    return measure_job(worker, job(trial, planned_hz, server.address), server, watch)


def measure_job(worker: LoadWorker, line: dict[str, Any], server: RunningServer, watch: Watch) -> Measured:
    """Give the worker a job and return what came of it.

    Every wait is bounded. Raises LoadFailedError (also when the server dies meanwhile) and Interrupted; after that,
    and where the error is fatal, the worker is not `usable` any more and must be ended.
    """
    with _whatever_goes_wrong(worker):
        return _measure(worker, line, server, watch)


class HeldJob:
    """A job whose steps somebody else times, so that several load generators start together.

    Its steps are `connected`, `go`, `closed` and `result`, in this order; each waits for the worker's word, no longer
    than that should take, and raises what `measure_job` does.
    """

    def __init__(self, worker: LoadWorker, line: dict[str, Any]) -> None:
        self._worker, self._line, self._name = worker, line, str(line["job"])

    def connected(self) -> tuple[int, str]:
        """Open the connections and hold them; returns how many could not be made, and one reason for it."""
        with _whatever_goes_wrong(self._worker):
            self._worker.send(self._line | {"hold": True})
            return _refused(_expect(self._worker, "connected", self._name, connect_patience_s(self._line)))

    def go(self) -> int:
        """Begin; returns when the window opened, in ns of CLOCK_MONOTONIC."""
        with _whatever_goes_wrong(self._worker):
            self._worker.send({"go": self._name})
            opened = _expect(self._worker, "window_opened", self._name, self._line["warmup_s"] + MARGIN_S)
            return msgspec.convert(opened["monotonic_ns"], Count)

    def closed(self) -> None:
        """Wait until the window closes."""
        with _whatever_goes_wrong(self._worker):
            _expect(self._worker, "window_closed", self._name, self._line["duration_s"] + MARGIN_S)

    def result(self) -> Load:
        """End the load; returns what came of it."""
        with _whatever_goes_wrong(self._worker):
            self._worker.send({"stop": self._name})
            return msgspec.convert(_expect(self._worker, "result", self._name, MARGIN_S)["load"], Load)

    def call_off(self) -> None:
        """End the job wherever it is; a worker that does not come to an end of it is not `usable` any more."""
        self._worker.usable = self._worker.ending is None and _called_off(self._worker, self._name)


class Turned(msgspec.Struct):
    """What the load generator saw of one turn. Times are ns of CLOCK_MONOTONIC; `cpu_ns` is its own.

    `clocks_ns` are the sums of the clocks that it was to read, at the window's start and at its end.
    """

    opened_ns: Count
    closed_ns: Count
    completed: Count
    in_all: Count  # completed from the turn's beginning to its end, what was not recorded among them
    cpu_ns: Count
    clocks_ns: tuple[Count, Count] = (0, 0)


class JobInTurns:
    """A job whose connections stay open from one turn to the next; between two the server is to stand still.

    Its steps are `connected`, any number of `turn`, `result`. Each raises what `measure_job` does; after that the job
    is over, and the others of the same load generator go on unless the error was fatal.
    """

    def __init__(self, worker: LoadWorker, line: dict[str, Any], server: RunningServer) -> None:
        self._worker, self._line, self._server, self._name = worker, line, server, str(line["job"])

    def connected(self) -> tuple[int, str]:
        """Open the connections; returns how many could not be made, and one reason for it."""
        self._send(self._line | {"turns": True})
        return _refused(self._expect("connected", connect_patience_s(self._line)))

    def turn(self, warmup_s: float, duration_s: float, clocks: Sequence[int], tick: Callable[[], None]) -> Turned:
        """Put the load on for a turn, while these clocks are read (clockid_t); `tick` as in Watch."""
        self._send({"turn": self._name, "warmup_s": warmup_s, "duration_s": duration_s, "clocks": list(clocks)})
        with _whatever_goes_wrong(self._worker):
            return msgspec.convert(self._expect("turned", warmup_s + duration_s + MARGIN_S, tick=tick), Turned)

    def result(self, kept: Sequence[int]) -> Load:
        """End the job; returns what the turns with these numbers came to."""
        self._send({"end": self._name, "kept": list(kept)})
        with _whatever_goes_wrong(self._worker):
            return msgspec.convert(self._expect("result", MARGIN_S)["load"], Load)

    def _send(self, line: dict[str, Any]) -> None:
        with _whatever_goes_wrong(self._worker):
            self._worker.send(line)

    def _expect(self, kind: str, seconds: float, tick: Callable[[], None] | None = None) -> dict[str, Any]:
        with _whatever_goes_wrong(self._worker):
            return _expect(self._worker, kind, self._name, seconds, server=self._server, tick=tick, in_turns=True)


@contextmanager
def _whatever_goes_wrong(worker: LoadWorker) -> Iterator[None]:
    """Have it told by a LoadFailedError, and the worker not `usable` where it must be replaced."""
    worker.usable = False
    try:
        yield
    except TimeoutError as error:
        stopped = ", a signal has stopped it" if processes.is_stopped(worker.child.pid) else ""
        raise LoadFailedError(f"the load generator hangs: {error}{stopped}", fatal=True) from None
    except ProtocolError as error:
        raise LoadFailedError(str(error), fatal=True) from None
    except (KeyError, msgspec.ValidationError) as error:
        raise LoadFailedError(f"the load generator is not understood: {error}", fatal=True) from None
    except LoadFailedError as error:
        worker.usable = not error.fatal
        raise
    worker.usable = True


def _measure(worker: LoadWorker, line: dict[str, Any], server: RunningServer, watch: Watch) -> Measured:
    name = str(line["job"])
    worker.send(line)
    connected = _expect(worker, "connected", name, connect_patience_s(line), server=server)
    watch.connected()
    _expect(worker, "window_opened", name, line["warmup_s"] + MARGIN_S, server=server)
    watch.opened()
    _expect(worker, "window_closed", name, line["duration_s"] + MARGIN_S, server=server, tick=watch.tick)
    watch.closed()
    worker.send({"stop": name})
    result = _expect(worker, "result", name, MARGIN_S, server=server)
    return Measured(msgspec.convert(result["load"], Load), *_refused(connected))


def _refused(connected: dict[str, Any]) -> tuple[int, str]:
    """How many connections could not be made, and why one of them could not."""
    return msgspec.convert(connected["refused"], Count), msgspec.convert(connected.get("reason", ""), str)


def connect_patience_s(line: dict[str, Any]) -> float:
    """How long a job's connections may take to open."""
    return float(line.get("ramp_s", 0.0)) + float(line.get("connect_s", CONNECT_TIMEOUT_S)) + MARGIN_S


def job(trial: Trial, planned_hz: float, address: str) -> dict[str, Any]:
    """The line that tells the worker what to do."""
    connections = trial.connections + trial.silent
    return {
        "job": trial.id,
        "address": address,
        "workload": trial.workload,
        "connections": trial.connections,
        "message_bytes": trial.message_bytes,
        "sizes": trial.sizes,
        "depth": trial.depth,
        "rate_hz": planned_hz,
        "arrivals": trial.arrivals,
        "cap": trial.cap,
        "silent": trial.silent,
        "ramp_s": trial.ramp_s,
        "connect_s": CONNECT_TIMEOUT_S + CONNECT_EACH_S * connections,
        "hold_s": HOLD_S + HOLD_EACH_S * connections,
        "threads": trial.threads,
        "trickle_bytes": trial.trickle_bytes,
        "trickle_hz": trial.trickle_hz,
        "warmup_s": trial.warmup_s,
        "duration_s": trial.duration_s,
        "timeout_s": CONNECT_TIMEOUT_S,
        "seed": trial.seed,
    }


def _expect(
    worker: LoadWorker,
    kind: str,
    job_name: str,
    seconds: float,
    *,
    server: RunningServer | None = None,
    tick: Callable[[], None] | None = None,
    in_turns: bool = False,
) -> dict[str, Any]:
    """Wait for one kind of event, about one job if it is named; what the server says meanwhile is noted with it.

    Raises TimeoutError, also where one of them goes on and on talking of other things, LoadFailedError, ProtocolError
    and Interrupted.
    """
    deadline = time.monotonic() + seconds
    streams = [worker.events] + ([server.status] if server else [])
    while True:
        left = deadline - time.monotonic()
        try:
            event = wait(streams, min(left, TICK_S) if tick else left)
        except TimeoutError:
            if tick is None or time.monotonic() > deadline:
                raise TimeoutError(f"no {kind!r} event within {seconds:g} s") from None
            tick()
            continue
        if server and event.sender is server.status:
            server.hear(event)
            if server.ended:
                raise LoadFailedError("the server died", fatal=not _called_off(worker, job_name, in_turns))
        elif event.fields is None:
            raise LoadFailedError(_died(worker), fatal=True)
        elif _is_about(event.fields, kind, job_name):
            return event.fields
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {kind!r} event within {seconds:g} s")


def _is_about(fields: dict[str, Any], kind: str, job_name: str) -> bool:
    """Whether this is the event that is waited for. Raises LoadFailedError where the worker reports a failure."""
    if job_name and fields.get("job") != job_name:
        return False  # a belated word about a job that was called off
    if fields.get("event") == "failed":
        raise LoadFailedError(str(fields.get("reason")), fatal=False)
    return fields.get("event") == kind


def _died(worker: LoadWorker) -> str:
    return f"the load generator died, {processes.how_it_ended(end_worker(worker))}"


def _called_off(worker: LoadWorker, job_name: str, in_turns: bool = False) -> bool:
    """Stop a job whose server has gone; False where the worker does not come to an end of it.

    One in turns may have been in the middle of one, or between two.
    """
    try:
        worker.send({"stop": job_name})
        if in_turns:
            worker.send({"end": job_name, "kept": []})
        _expect(worker, "result", job_name, MARGIN_S)
    except LoadFailedError as error:
        return not error.fatal
    except (TimeoutError, ProtocolError):
        return False
    return True
