"""The warm load process that serves a whole sweep: jobs come in as JSON lines, events go out as JSON lines.

    {"job": "ID", "address": "tcp:127.0.0.1:4000", "connections": 64, "message_bytes": 64, "duration_s": 0.8, ...}
    {"stop": "ID"}
    {"go": "ID"}
    {"turn": "ID", "warmup_s": 0.01, "duration_s": 0.05, "clocks": [-38]}   of a job with "turns": true
    {"end": "ID", "kept": [0, 1, 3]}

    {"event": "ready", "pid": 1, "note": ""}
    {"event": "connected", "job": "ID", "connections": 64, "refused": 0, "reason": "", "connect_ns": 1}
    {"event": "window_opened", "job": "ID", "monotonic_ns": 1}
    {"event": "window_closed", "job": "ID", "monotonic_ns": 1}
    {"event": "turned", "job": "ID", "opened_ns": 1, "closed_ns": 2, "completed": 3, "in_all": 4, ...}
    {"event": "result", "job": "ID", "load": {...}}
    {"event": "failed", "job": "ID", "reason": "..."}                in place of whatever should have come next

Ready means that everything is compiled; the note is what a user should know of that, as a rule nothing. A job with
"hold": true waits with its connections open until its go, for 60 s at most, so that several load processes can start
together. Once the window is closed the load stays on until the stop, for `hold_s` at most, so that whoever watches the
server can read its counters under load; a result means that all connections are closed. A stop before the window
closes ends it early.

A job with "turns": true opens its connections and waits for its turns; any number of such jobs are there at once. Each
turn is a warm-up and a window, and is over with that: a word about either would cost more than some turns last. So the
clocks that whoever watches the server would read at the window's ends, by their numbers (clock_gettime(2)), are read
here: their sums are in "turned". Between two turns the job stands still, and the server is to do so too. The end says
which turns count, from 0 on.

End-of-file ends the process, in mid-job too, and so does SIGTERM. SIGINT is ignored: in a terminal it reaches the whole
group, and what is to be done about it is the runner's decision.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NoReturn

from clients.compiled import why_not_kept
from clients.job import JobError, read_job, read_kept, read_turn
from clients.opening import connect
from clients.session import Session, run, warm_up_code

GO_PATIENCE_S = 60.0


class Inbox:
    """Lines from a descriptor. Raises SystemExit at its end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()  # select(2) can't watch a descriptor of 1,024 or more
        self._poll.register(fd, select.POLLIN)
        self._part = b""
        self._lines: deque[bytes] = deque()
        self._stopped = False

    def next_job(self) -> dict[str, Any] | str:
        """Wait for a job: its fields, or what is wrong with the line. What is said of jobs that are over is dropped."""
        self._stopped = False
        while True:
            while not self._lines:
                self._receive()
            line = self._lines.popleft()
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError) as error:
                return f"a line is not JSON: {error}"
            if not isinstance(fields, dict):
                return "a line is not a JSON object"
            if "stop" not in fields and "go" not in fields:
                return fields

    def told_to_stop(self, job: str) -> bool:
        """Look, without waiting, whether the job is to stop. Other lines are kept for `next_job`."""
        while self._poll.poll(0):
            self._receive()
        for line in list(self._lines):
            with suppress(ValueError, RecursionError):  # next_job will report it
                if json.loads(line) == {"stop": job}:
                    self._lines.remove(line)
                    self._stopped = True
        return self._stopped

    def await_go(self, job: str) -> bool:
        """Wait until the job may begin; False where it is to stop, or nothing is said of it in time."""
        deadline = time.monotonic() + GO_PATIENCE_S
        while not self.told_to_stop(job):
            for line in list(self._lines):
                with suppress(ValueError, RecursionError):
                    if json.loads(line) == {"go": job}:
                        self._lines.remove(line)
                        return True
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._poll.poll(left_s * 1000):
                return False
        return False

    def _receive(self) -> None:
        data = os.read(self._fd, 65536)
        if not data:
            raise SystemExit(0)
        *lines, self._part = (self._part + data).split(b"\n")
        self._lines.extend(line for line in lines if line.strip())


def say(event: str, **facts: object) -> None:
    """Print one event. Raises SystemExit if nobody reads any more."""
    try:
        print(json.dumps({"event": event, **facts}), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered goes nowhere, quietly
        raise SystemExit(0) from None


def work(cpus: Sequence[int] = ()) -> None:
    """Serve jobs until end-of-file or SIGTERM. SIGINT is to be ignored already when this is called.

    Several load threads of a job get a CPU of `cpus` each, where those are enough.
    """
    signal.signal(signal.SIGTERM, _leave)
    inbox = Inbox(sys.stdin.fileno())
    warm_up_code()
    # What is there now stays: the collector need not go through it again. What a job leaves is collected after it, so
    # that the next one has the same memory as the last.
    gc.collect()
    gc.freeze()
    say("ready", pid=os.getpid(), note=why_not_kept())
    sessions: dict[str, Session] = {}
    while True:
        fields = inbox.next_job()
        if isinstance(fields, str):
            say("failed", job="", reason=fields)
            continue
        kind = next((kind for kind in ("turn", "end") if kind in fields), "job")
        job_id = str(fields.pop(kind, ""))
        try:
            if kind == "turn":
                _take_turn(job_id, fields, sessions, inbox, cpus)
            elif kind == "end":
                _end(job_id, fields, sessions)
            else:
                _serve(job_id, fields, sessions, inbox, cpus)
        except JobError as error:
            if job_id in sessions:
                sessions.pop(job_id).close()
            say("failed", job=job_id, reason=str(error))
        if kind != "turn":
            gc.collect()


def _take_turn(
    job_id: str, fields: dict[str, Any], sessions: dict[str, Session], inbox: Inbox, cpus: Sequence[int]
) -> None:
    if job_id not in sessions:
        raise JobError("there is no such job in turns")
    turn = read_turn(fields)
    before = sessions[job_id].completed
    clocks_ns: list[int] = []
    windows = sessions[job_id].turn(
        turn.warmup_s,
        turn.duration_s,
        say=lambda event, at_ns: clocks_ns.append(_sum_ns(turn.clocks)),
        ended=lambda: inbox.told_to_stop(job_id),
        cpus=cpus,
    )
    opened, closed = windows[0].opened, windows[0].closed
    say(
        "turned",
        job=job_id,
        opened_ns=opened.at_ns,
        closed_ns=closed.at_ns,
        completed=sum(window.closed.completed - window.opened.completed for window in windows),
        in_all=sessions[job_id].completed - before,
        cpu_ns=closed.cpu_user_ns + closed.cpu_system_ns - opened.cpu_user_ns - opened.cpu_system_ns,
        clocks_ns=clocks_ns,
    )


def _sum_ns(clocks: Sequence[int]) -> int:
    """What clocks show together; one that is gone, as that of a process that has ended, shows nothing."""
    total = 0
    for clock in clocks:
        with suppress(OSError):
            total += time.clock_gettime_ns(clock)
    return total


def _end(job_id: str, fields: dict[str, Any], sessions: dict[str, Session]) -> None:
    session = sessions.pop(job_id, None)
    if session is None:
        raise JobError("there is no such job in turns")
    with session:
        load = session.finish(read_kept(fields, session.turns))
    say("result", job=job_id, load=asdict(load))


def _serve(
    job_id: str, fields: dict[str, Any], sessions: dict[str, Session], inbox: Inbox, cpus: Sequence[int]
) -> None:
    held, in_turns = (fields.pop(key, False) is True for key in ("hold", "turns"))
    job = read_job(fields)
    connected = connect(job, ended=lambda: inbox.told_to_stop(job_id))
    if not connected.channels:
        raise JobError(f"no connection could be opened to {job.address}: {connected.reason}")
    say(
        "connected",
        job=job_id,
        connections=len(connected.channels),
        refused=connected.failed.total(),
        reason=connected.reason,
        connect_ns=connected.connect_ns,
    )
    if held and not inbox.await_go(job_id):
        for channel in {*connected.channels, *connected.silent}:
            channel.close()
        raise JobError("it was called off before it had begun")
    if in_turns:
        sessions[job_id] = Session(job, connected)
        return
    load = run(
        job,
        connected,
        say=lambda event, at_ns: say(event, job=job_id, monotonic_ns=at_ns),
        ended=lambda: inbox.told_to_stop(job_id),
        hold_s=job.hold_s,
        cpus=cpus,
    )
    say("result", job=job_id, load=asdict(load))


def _leave(signum: int, frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough; a second one must not interrupt the ending
    raise SystemExit(0)
