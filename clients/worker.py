"""The warm load process that serves a whole sweep: jobs come in as JSON lines, events go out as JSON lines.

    {"job": "ID", "address": "tcp:127.0.0.1:4000", "connections": 64, "message_bytes": 64, "duration_s": 0.8, ...}
    {"stop": "ID"}
    {"go": "ID"}

    {"event": "ready", "pid": 1}
    {"event": "connected", "job": "ID", "connections": 64, "refused": 0, "reason": "", "connect_ns": 1}
    {"event": "window_opened", "job": "ID", "monotonic_ns": 1}
    {"event": "window_closed", "job": "ID", "monotonic_ns": 1}
    {"event": "result", "job": "ID", "load": {...}}
    {"event": "failed", "job": "ID", "reason": "..."}                in place of whatever should have come next

Ready means that everything is compiled. A job with "hold": true waits with its connections open until its go, for 60 s
at most, so that several load processes can start together. Once the window is closed the load stays on until the stop,
for `hold_s` at most, so that whoever watches the server can read its counters under load; a result means that all
connections are closed. A stop before the window closes ends it early. End-of-file ends the process, in mid-job too, and
so does SIGTERM. SIGINT is ignored: in a terminal it reaches the whole group, and what is to be done about it is the
runner's decision.
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

from clients.job import JobError, read_job
from clients.opening import connect
from clients.session import run, warm_up_code

GO_PATIENCE_S = 60.0


class Inbox:
    """Lines from a descriptor. Raises SystemExit at its end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
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
        while select.select([self._fd], [], [], 0)[0]:
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
            if left_s <= 0 or not select.select([self._fd], [], [], left_s)[0]:
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
    say("ready", pid=os.getpid())
    while True:
        fields = inbox.next_job()
        if isinstance(fields, str):
            say("failed", job="", reason=fields)
            continue
        job_id = str(fields.pop("job", ""))
        try:
            _serve(job_id, fields, inbox, cpus)
        except JobError as error:
            say("failed", job=job_id, reason=str(error))
        gc.collect()


def _serve(job_id: str, fields: dict[str, Any], inbox: Inbox, cpus: Sequence[int]) -> None:
    held = fields.pop("hold", False) is True
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
