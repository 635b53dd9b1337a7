"""Count what one strategy costs the kernel, per message: a server process, bursts, and readings while all is quiet.

Server and load run on one CPU, both under SCHED_BATCH (sched(7)): a wake-up then never takes the CPU away from who has
it. So a round is written in full before the server runs, and answered in full before the load runs again: the server
finds at its wake-up exactly as many messages as were sent, and the counts can be repeated. Times are not measured here
but those of the server's own CPU.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count as numbers
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench import host, interpreters
from bench.load import LoadFailedError, Watch, measure_job
from bench.load_pool import LoadPool
from bench.lock import alone_on
from bench.probes.calls import OTHER, CallCounter, CountingError, Tally, choose
from bench.probes.perf import PerfStat
from bench.probes.process import ProcessProbe, process_cpu_ns, with_children
from bench.probes.strace import Strace
from bench.probes.waiting import until
from bench.processes import Guard
from bench.record import Load, StrategyInfo
from bench.server import RunningServer, ServerFailedError, start_server, stop_server
from bench.trial import utc_now
from bench.why.counts import (
    CPU,
    FAULTS,
    SWITCHES_INVOLUNTARY,
    SWITCHES_VOLUNTARY,
    SYSTEM,
    USER,
    WAIT,
    Counts,
    Pass,
    Point,
)

BURSTS = (1, 8, 64)
PASSES = 2
MESSAGE_BYTES = 64
MESSAGES = 16_000  # of the shorter of two loads that are read; the longer has twice as many
WARM_UP_MESSAGES = 640
FEWEST_ROUNDS = 8
SLACK = 0.01  # calls per message that the set-up of two loads may differ by
LONG_S = 1.0  # a load that would take longer has fewer rounds
JOB_S = 30.0
QUIET_S = 0.003
SETTLE_PATIENCE_S = 0.25
COUNTED = (SWITCHES_VOLUNTARY, SWITCHES_INVOLUNTARY, FAULTS)
TIMED = (CPU, USER, SYSTEM, WAIT)
HELD = ("rss_bytes", "threads", "processes", "descriptors")
SOURCES = {
    "CPU time": "the process's CPU clock, split by the clock ticks of psutil",
    "context switches and wake-ups": "/proc/PID/task/TID/status",
    "run-queue wait": "/proc/PID/task/TID/schedstat",
    "minor faults": "/proc/PID/stat",
    "memory and threads": "psutil",
}


class Bench(NamedTuple):
    """What strategies are counted with: a warm load generator, and the provider of system calls, if any works."""

    guard: Guard
    cpus: list[int]  # of server and load
    pool: LoadPool
    counter: CallCounter | None
    unavailable: dict[str, str]  # provider -> why it can't count here


class Reading(NamedTuple):
    """What a server used during one load, and what it held at its end."""

    messages: int
    used: dict[str, float]  # counts, from before the first connection on
    times: dict[str, float]  # from the first message on
    held: dict[str, float]
    missing: dict[str, str]


def count_strategy(
    bench: Bench,
    info: StrategyInfo,
    transport: str,
    *,
    python: str = "",
    bursts: Sequence[int] = BURSTS,
    passes: int = PASSES,
    server_command: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Counts:
    """Count one strategy on one transport. What can't be counted is there with its reason. Raises Interrupted."""
    counts = Counts(
        strategy=info.name,
        transport=transport,
        message_bytes=MESSAGE_BYTES,
        created=utc_now(),
        python=python,
        kernel=f"{platform.system()} {platform.release()}",
        providers=SOURCES | ({"system calls": bench.counter.name} if bench.counter else {}),
        unavailable=bench.unavailable,
    )

    def start() -> RunningServer:
        command, env = list(server_command), None
        if python:
            command, env = interpreters.command(python), interpreters.environment_for(python)
        server = start_server(info, transport, bench.cpus, bench.guard, command, env=env)
        counts.implementation, counts.version = server.implementation, server.version
        return server

    for burst in bursts:
        tell(f"{info.name}: {burst} at one go")
        if burst > 1 and not info.concurrent:
            counts.points.append(Point(burst=burst, reason="it serves one connection at a time"))
        else:
            counts.points.append(_count_point(bench, start, burst, passes))
    return counts


@contextmanager
def benched(worker_command: Sequence[str] = (), counters: Sequence[CallCounter] | None = None) -> Iterator[Bench]:
    """A load generator on the server's CPU, and the first provider that works; all is ended with the context.

    Raises LoadFailedError, Interrupted.
    """
    layout = host.choose_cpus()
    guard = Guard()
    pool = LoadPool(guard, layout.server, worker_command)
    try:
        if counters is None:
            counters = (PerfStat(guard, layout.harness), Strace(guard, layout.harness))
        chosen = choose(counters)
        with alone_on(layout.server, Path.cwd()):
            pool.worker()
            yield Bench(guard, layout.server, pool, chosen.counter, chosen.unavailable)
    finally:
        pool.end()
        guard.close()


def in_batches(pids: Sequence[int]) -> None:
    """Put processes, all their threads and those that they will have under SCHED_BATCH, where there is such a thing."""
    if not hasattr(os, "SCHED_BATCH"):
        return
    for pid in with_children(pids):
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))


def _count_point(bench: Bench, start: Callable[[], RunningServer], burst: int, passes: int) -> Point:
    point = Point(burst=burst)
    share = 0.0  # of the usual number of rounds, decided in the first pass
    if bench.counter:
        bench.counter.look_again()
    for _ in range(passes):
        try:
            server = start()
        except (ServerFailedError, interpreters.BrokenError) as error:
            return Point(burst=burst, reason=str(error))
        try:
            in_batches([server.pid, bench.pool.worker().child.pid])
            warm_up = _drive(bench, server, burst, max(FEWEST_ROUNDS, WARM_UP_MESSAGES // burst))
            if not share and bench.counter:
                _tally(bench, bench.counter, server, burst, FEWEST_ROUNDS)  # so that it knows what to look for
            share = share or _share(warm_up)
            point.passes.append(_count_process(bench, server, burst, share))
        except (LoadFailedError, CountingError) as error:
            return Point(burst=burst, reason=str(error))
        finally:
            stop_server(server)
    return point


def _share(warm_up: Load) -> float:
    """Which share of the usual messages can be sent in the time there is."""
    message_s = (warm_up.closed_ns - warm_up.opened_ns) / 1e9 / max(1, warm_up.completed)
    return min(1.0, LONG_S / (message_s * MESSAGES))


def _rounds(messages: int, burst: int, share: float) -> int:
    return max(FEWEST_ROUNDS, round(messages * share / burst))


def _count_process(bench: Bench, server: RunningServer, burst: int, share: float) -> Pass:
    """Read two loads, count two more, and take the differences."""
    rounds = _rounds(MESSAGES, burst, share)
    short, long = (_read(bench, server, burst, number) for number in (rounds, 2 * rounds))
    one = Pass(
        messages=long.messages - short.messages,
        metrics={
            name: long.used[name] - short.used[name] for name in COUNTED if name in long.used and name in short.used
        },
        timed_messages=short.messages + long.messages,
        times={
            name: short.times[name] + long.times[name] for name in TIMED if name in long.times and name in short.times
        },
        held=long.held,
        missing={name: why for name, why in long.missing.items() if name in (*COUNTED, *TIMED, *HELD)},
    )
    if bench.counter:
        one.counted_messages, one.calls, one.errors = _named(bench, bench.counter, server, burst, share)
    return one


def count_calls(
    bench: Bench, start: Callable[[], RunningServer], burst: int, *, learn: bool = True
) -> dict[str, float]:
    """System calls per message, by name, of one new server process: quicker than all that `why` counts.

    `learn` for another server than before: names are looked for among those that servers are known to use first.
    Raises CountingError where nothing can count or there is nothing to count, ServerFailedError, LoadFailedError,
    Interrupted.
    """
    if bench.counter is None:
        raise CountingError("; ".join(bench.unavailable.values()))
    server = start()
    try:
        in_batches([server.pid, bench.pool.worker().child.pid])
        warm_up = _drive(bench, server, burst, max(FEWEST_ROUNDS, WARM_UP_MESSAGES // burst))
        if learn:
            bench.counter.look_again()
            _tally(bench, bench.counter, server, burst, FEWEST_ROUNDS)
        messages, calls, _ = _named(bench, bench.counter, server, burst, _share(warm_up))
    finally:
        stop_server(server)
    if not calls:
        raise CountingError("messages came back without a system call of the processes that were started")
    return {name: count / messages for name, count in calls.items()}


def _named(
    bench: Bench, counter: CallCounter, server: RunningServer, burst: int, share: float
) -> tuple[int, dict[str, int], dict[str, int]]:
    """As `difference` has it, with a name for each call that a message takes, as far as the provider has one."""
    rounds = _rounds(counter.messages, burst, share)

    def counted() -> tuple[int, dict[str, int], dict[str, int]]:
        few, many = (_tally(bench, counter, server, burst, number) for number in (rounds, 2 * rounds))
        return difference(few, many, rounds * burst)

    messages, calls, errors = counted()
    unnamed = calls.get(OTHER, 0) / messages
    if unnamed <= SLACK:
        return messages, calls, errors
    for _ in counter.look_further():
        left = _tally(bench, counter, server, burst, FEWEST_ROUNDS).calls.get(OTHER, 0)
        if left < unnamed * FEWEST_ROUNDS * burst / 2:  # what is left is of the set-up
            break
    return counted()


def difference(few: Tally, many: Tally, messages: int) -> tuple[int, dict[str, int], dict[str, int]]:
    """What `messages` more messages cost: their number, calls and errors.

    A server that never rests makes calls whether messages come or not, so that more messages may have taken fewer: then
    it is the whole of the longer load, of twice as many messages. A few less are chance in the set-up of the loads, as
    with futex(2), and count as none: no message takes back a call.
    """
    calls = _more(few.calls, many.calls)
    if any(count < -SLACK * messages for count in calls.values()):
        return 2 * messages, many.calls, many.errors
    return messages, _counted(calls), _counted(_more(few.errors, many.errors))


def _more(few: dict[str, int], many: dict[str, int]) -> dict[str, int]:
    """Count by count, without those that are equal."""
    return {
        name: many.get(name, 0) - few.get(name, 0)
        for name in sorted({*few, *many})
        if many.get(name, 0) != few.get(name, 0)
    }


def _counted(more: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in more.items() if count > 0}


def _read(bench: Bench, server: RunningServer, burst: int, rounds: int) -> Reading:
    """Put a load on the server, and read what it used up to the moment when the last echo is in."""
    counts, times = ProcessProbe(), ProcessProbe()
    settle(server.pid)
    faults = minor_faults([server.pid])
    used: dict[str, float] = {}
    timed: dict[str, float] = {}

    def closed() -> None:
        settle(server.pid)
        timed.update(times.stop())
        used.update(counts.stop())
        if faults is not None and (now := minor_faults([server.pid])) is not None:
            used[FAULTS] = float(now - faults)

    counts.start([server.pid])
    load = _drive(bench, server, burst, rounds, opened=lambda: times.start([server.pid]), closed=closed)
    held = {name: used[name] for name in HELD if name in used}
    return Reading(load.completed, used, timed, held, counts.missing | times.missing)


def _tally(bench: Bench, counter: CallCounter, server: RunningServer, burst: int, rounds: int) -> Tally:
    """Put a load on the server, and count its system calls from before the first connection to the last echo."""
    tallies: list[Tally] = []

    def closed() -> None:
        settle(server.pid)
        tallies.append(counter.stop())

    settle(server.pid)
    try:
        counter.start(with_children([server.pid]))
        _drive(bench, server, burst, rounds, closed=closed)
    finally:
        counter.abandon()
    return tallies[0]


_jobs = numbers()


def _drive(
    bench: Bench,
    server: RunningServer,
    burst: int,
    rounds: int,
    *,
    opened: Callable[[], None] = lambda: None,
    closed: Callable[[], None] = lambda: None,
) -> Load:
    """Send so many rounds and make sure that each was answered. Raises LoadFailedError, Interrupted."""
    job: dict[str, Any] = {
        "job": f"why-{next(_jobs)}",
        "address": server.address,
        "workload": "burst",
        "connections": burst,
        "message_bytes": MESSAGE_BYTES,
        "rounds": rounds,
        "warmup_s": 0.0,
        "duration_s": JOB_S,
        "timeout_s": JOB_S,
        "seed": 1,
    }
    load = measure_job(bench.pool.worker(), job, server, Watch(opened=opened, closed=closed)).load
    if load.completed != rounds * burst:
        raise LoadFailedError(f"{load.completed:,} of {rounds * burst:,} messages were echoed in {JOB_S:g} s", False)
    return load


def settle(pid: int) -> None:
    """Wait until the processes have not run for a moment; not for long, for some never rest."""
    before: list[int] = []

    def rests() -> bool:
        nonlocal before
        now = _ran_ns(pid)
        resting, before = now == before, now
        return resting

    until(rests, SETTLE_PATIENCE_S, QUIET_S)


def _ran_ns(pid: int) -> list[int]:
    found = []
    for each in with_children([pid]):
        with suppress(OSError):
            found += [each, process_cpu_ns(each)]
    return found


def minor_faults(pids: Sequence[int]) -> int | None:
    """Page faults that took no I/O, of processes and those that descend from them; None where they can't be read.

    It is the tenth field of /proc/PID/stat (proc_pid_stat(5)), and holds what threads that have ended had too. The
    second field, the name, may hold anything: what follows it begins after the last parenthesis.
    """
    total = 0
    try:
        for pid in with_children(pids):
            total += int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[7])
    except (OSError, IndexError, ValueError, psutil.Error):
        return None
    return total
