"""One echo under strace: start a server as a run does, warm it up, send one message when it sleeps, read the trace.

The server is started by strace, not attached to: a process may trace its own children where it may not trace others
(kernel.yama.ptrace_scope, the default of several distributions).
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from bench.anatomy import trace
from bench.anatomy.steps import READS, WAITS, WRITES, Anatomy, Step
from bench.errors import BadInputError
from bench.events import readable, wait
from bench.host import CpuLayout
from bench.probes.process import with_children
from bench.processes import Guard, pinned
from bench.record import StrategyInfo
from bench.server import RunningServer, ServerFailedError, start_server, stop_server
from servers.transport import dial, parse

MESSAGE = (b"one echo of iobench " * 4)[:64]
WARM_UP = 20
MESSAGES = 3
PATIENCE_S = 5.0
ASLEEP_WITHIN_S = 1.0
LOOKS = 5  # in a row that must find it asleep
STEP_S = 0.002
SHORTEST_RUN = 4  # of fruitless calls that become one step
TRANSFERS = (*READS, *WRITES, "accept", "accept4")  # that are over at once where there is something
ONLY_GIVEN = ("futex", "io_uring_enter")  # whose arguments tell nothing that comes back
MAX_STEPS = 200
MAX_ARGUMENTS = 160
OPTIONS = ("-f", "-yy", "-s", "8")
# Since strace 5.6; with nanoseconds the order of calls of several threads is what it was.
NANOSECONDS = ("--absolute-timestamps=format:unix,precision:ns", "--syscall-times=ns")
MICROSECONDS = ("-ttt", "-T")


class Tracer(NamedTuple):
    """A strace that works here."""

    command: list[str]
    version: str


class FailedError(Exception):
    """There is no anatomy of this strategy; the message is the reason."""


def find_tracer() -> Tracer:
    """Find strace, and try whether it may trace. Raises BadInputError."""
    if platform.system() != "Linux":
        raise BadInputError(
            "The anatomy is not available: strace is Linux's alone.", "iobench list shows what can run here"
        )
    program = shutil.which("strace")
    if program is None:
        raise BadInputError(
            "The anatomy is not available: strace is not installed.", "apt install strace, or dnf install strace"
        )
    for times in (NANOSECONDS, MICROSECONDS):
        command = [program, *OPTIONS, *times]
        tried = _try([*command, "-o", os.devnull, sys.executable, "-I", "-S", "-c", ""])
        if not tried:
            return Tracer(command, _try_version(program))
    raise BadInputError(
        f"The anatomy is not available: strace can't trace here: {tried}.",
        "in a container, allow ptrace: docker run --cap-add=SYS_PTRACE ...",
    )


def _try(command: Sequence[str]) -> str:
    """Run it; the reason why it failed, or nothing."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if ended.returncode == 0:
        return ""
    return (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]


def _try_version(program: str) -> str:
    told = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=PATIENCE_S, check=False).stdout
    return (told.splitlines() or ["strace"])[0].replace("-- version ", "")


def take(info: StrategyInfo, transport: str, tracer: Tracer, layout: CpuLayout, guard: Guard) -> Anatomy:
    """One message's anatomy, failed ones with their reason. Raises Interrupted."""
    with tempfile.TemporaryDirectory(prefix="iobench-") as folder:
        path = Path(folder) / "trace"
        command = [*tracer.command, "-o", str(path), sys.executable, "-m", "servers"]
        try:
            server = start_server(info, transport, layout.server, guard, command)
            channel = None
            try:
                with pinned(layout.load):
                    channel = dial(parse(server.address), PATIENCE_S)
                    moments = _send(server, channel.rfd, channel.wfd)
            finally:
                # The connection stays open until then: a thread that its end wakes may take the SIGTERM that was to
                # wake the main thread, which strace keeps stopped meanwhile.
                stop_server(server)
                for fd in {*(channel or ())}:
                    os.close(fd)
        except (ServerFailedError, FailedError, OSError) as error:
            return Anatomy(
                strategy=info.name, transport=transport, message_bytes=len(MESSAGE), status="failed", reason=str(error)
            )
        calls = trace.read(path.read_text(errors="replace").splitlines())
    return dissect(info.name, transport, calls, moments)


class Moments(NamedTuple):
    """What the client knows, in nanoseconds of CLOCK_REALTIME, as strace's are."""

    before_ns: int  # the last echo before it was there
    sent_ns: int  # just before the write, and just after
    written_ns: int
    received_ns: int
    end_ns: int
    slept: bool  # the server, before and after


def _send(server: RunningServer, rfd: int, wfd: int) -> Moments:
    """Warm the connection up, then send a few messages, each when the server sleeps; keep the quickest.

    In that one other processes have disturbed least. Raises FailedError, OSError.
    """
    for _ in range(WARM_UP):
        os.write(wfd, MESSAGE)
        _receive(server, rfd)
    sent = [_send_one(server, rfd, wfd)]
    while sent[-1].slept and len(sent) < MESSAGES:
        sent.append(_send_one(server, rfd, wfd))
    return min((one for one in sent if one.slept == sent[0].slept), key=lambda one: one.received_ns - one.sent_ns)


def _send_one(server: RunningServer, rfd: int, wfd: int) -> Moments:
    before_ns = time.time_ns()
    slept = _falls_asleep(server)
    sent_ns = time.time_ns()
    os.write(wfd, MESSAGE)
    written_ns = time.time_ns()
    _receive(server, rfd)
    received_ns = time.time_ns()
    if slept:
        _falls_asleep(server)
    else:
        _pause(server, STEP_S)
    return Moments(before_ns, sent_ns, written_ns, received_ns, time.time_ns(), slept)


def _receive(server: RunningServer, rfd: int) -> None:
    """Take the whole echo and compare it."""
    deadline = time.monotonic() + PATIENCE_S
    echo = b""
    while len(echo) < len(MESSAGE):
        if not readable(rfd, 0.05):
            _pause(server, 0)  # a signal that came meanwhile is raised
            if time.monotonic() > deadline:
                raise FailedError(f"no echo within {PATIENCE_S:g} s")
            continue
        data = os.read(rfd, len(MESSAGE) - len(echo))
        if not data:
            raise FailedError("the server closed the connection")
        echo += data
    if echo != MESSAGE:
        raise FailedError("the echo is not what was sent")


def _falls_asleep(server: RunningServer) -> bool:
    """Wait until every thread sleeps, and go on when it never does."""
    deadline = time.monotonic() + ASLEEP_WITHIN_S
    family = with_children([server.pid])[1:]  # the first is strace
    looks = 0
    while looks < LOOKS:
        looks = looks + 1 if set(states(family)) == {"S"} else 0
        if looks < LOOKS and time.monotonic() > deadline:
            return False
        _pause(server, STEP_S)
    return True


def _pause(server: RunningServer, seconds: float) -> None:
    """Let time pass; a server that ends meanwhile, and a signal, are heard."""
    with suppress(TimeoutError):
        server.hear(wait([server.status], seconds))
    if server.ended:
        raise FailedError("the server ended")


def states(pids: Sequence[int]) -> list[str]:
    """The state of every thread of these processes (proc_pid_stat(5)): S sleeps, t is stopped by its tracer."""
    found = []
    for pid in pids:
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):  # it has just ended
                    found.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return found


def dissect(strategy: str, transport: str, calls: Sequence[trace.Call], moments: Moments) -> Anatomy:
    """Pick the calls of one echo from a trace."""
    begin_ns = moments.sent_ns if moments.slept else moments.before_ns
    within = [
        call
        for call in calls
        if call.start_ns <= moments.end_ns and (call.end_ns is None or call.end_ns >= begin_ns) and call.name != "exit"
    ]
    throughout = [call for call in within if call.start_ns < begin_ns and not _ends_by(call, moments.end_ns)]
    busy = [call for call in within if call not in throughout and (moments.slept or _ends_by(call, moments.end_ns))]
    who = trace.labels(calls, dict.fromkeys(call.tid for call in within))
    woken = [
        call.end_ns
        for call in busy
        if moments.slept and call.start_ns < moments.sent_ns and call.end_ns is not None and call.name in WAITS
    ]
    steps = _collapsed([_step(call, who.get(call.tid, f"thread {call.tid}"), moments) for call in busy])
    return Anatomy(
        strategy=strategy,
        transport=transport,
        message_bytes=len(MESSAGE),
        send_took_us=_us(moments.written_ns - moments.sent_ns),
        received_us=_us(moments.received_ns - moments.sent_ns),
        woke_us=_us(min(woken) - moments.sent_ns) if woken else None,
        end_us=_us(moments.end_ns - moments.sent_ns),
        steps=steps[:MAX_STEPS],
        asleep={who[call.tid]: call.name for call in throughout},
        left_out=max(0, len(steps) - MAX_STEPS),
    )


def _ends_by(call: trace.Call, end_ns: int) -> bool:
    return call.end_ns is not None and call.end_ns <= end_ns


def _step(call: trace.Call, who: str, moments: Moments) -> Step:
    returned = _ends_by(call, moments.end_ns)
    began_before = moments.slept and call.start_ns < moments.sent_ns
    # A wait that others' calls came between, and that then brought something, is taken to have slept.
    waited = call.split and call.name not in TRANSFERS and not call.error and not call.result.startswith("0 (")
    slept = call.name in WAITS and (not returned or began_before or (waited and "FUTEX_WAKE" not in call.arguments))
    # What strace writes of a call that returned later is what came then.
    arguments = call.arguments if returned or call.name in ONLY_GIVEN else _first(call.arguments)
    return Step(
        who=who,
        name=call.name,
        arguments=arguments if len(arguments) <= MAX_ARGUMENTS else arguments[: MAX_ARGUMENTS - 1] + "…",
        result=call.result if returned else "",
        at_us=_us(call.start_ns - moments.sent_ns),
        took_us=_us(call.end_ns - call.start_ns) if returned and call.end_ns is not None else None,
        error=call.error if returned else "",
        slept=slept,
    )


def _first(arguments: str) -> str:
    """The first argument, which is known as the call begins."""
    first, comma, _ = arguments.partition(", ")
    return first if not comma else "…" if first.startswith("[") else f"{first}, …"


def _collapsed(steps: Sequence[Step]) -> list[Step]:
    """Make one step of each run of calls of a thread that brought nothing: polls."""
    found: list[Step] = []
    run: list[Step] = []
    for step in steps:
        if run and (not _in_vain(step) or step.who != run[0].who):
            found += _one(run)
            run = []
        if _in_vain(step):
            run.append(step)
        else:
            found.append(step)
    return found + _one(run)


def _in_vain(step: Step) -> bool:
    return step.error == "EAGAIN" or (step.result.startswith("0 (Timeout)") and not step.slept)


def _one(run: list[Step]) -> list[Step]:
    if len(run) < SHORTEST_RUN:
        return run
    first, last = run[0], run[-1]
    return [
        Step(
            who=first.who,
            name=", ".join(dict.fromkeys(step.name for step in run if step.error)) or first.name,
            arguments="",
            result="-1 EAGAIN",
            error="EAGAIN",
            at_us=first.at_us,
            took_us=round((last.end_us or last.at_us) - first.at_us, 3),
            times=len(run),
        )
    ]


def _us(ns: int) -> float:
    return round(ns / 1000, 3)
