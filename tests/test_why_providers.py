"""Providers of system call counts: what they read in the output of perf and of strace, and which of them is taken."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bench.probes import perf, strace
from bench.probes.calls import CallCounter, CountingError, Tally, choose, guinea_pig
from bench.probes.perf import PerfStat
from bench.probes.strace import Strace
from bench.processes import Guard


class Fake:
    """A provider that works or says why not."""

    messages = 10

    def __init__(self, name: str, reason: str | None = None) -> None:
        self.name, self._reason = name, reason

    def unavailable(self) -> str | None:
        return self._reason

    def look_again(self) -> None: ...
    def look_further(self) -> Iterator[None]:
        return iter(())

    def start(self, pids: Sequence[int]) -> None: ...
    def stop(self) -> Tally:
        return Tally({}, {})

    def abandon(self) -> None: ...


@pytest.fixture
def guard() -> Iterator[Guard]:
    guard = Guard()
    yield guard
    guard.close()


def script(folder: Path, text: str) -> str:
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


# --- which one


def test_the_first_provider_that_works_is_taken_and_the_reasons_of_those_before_it_are_kept() -> None:
    works = Fake("strace")
    chosen = choose([Fake("perf stat", "perf is not installed"), works, Fake("never asked", "x")])
    assert chosen.counter is works
    assert chosen.unavailable == {"perf stat": "perf is not installed"}


def test_where_none_works_every_absence_is_told_with_its_reason() -> None:
    chosen = choose([Fake("perf stat", "no right"), Fake("strace", "not installed")])
    assert chosen == (None, {"perf stat": "no right", "strace": "not installed"})


@pytest.mark.parametrize("kind", [PerfStat, Strace])
def test_a_program_that_is_not_installed_is_the_reason(kind: type[PerfStat] | type[Strace], guard: Guard) -> None:
    assert kind(guard, program="no-such-program").unavailable() == "no-such-program is not installed"


def test_what_strace_says_of_a_process_that_it_may_not_attach_to_is_the_reason(tmp_path: Path, guard: Guard) -> None:
    program = script(tmp_path, 'echo "strace: attach: ptrace(PTRACE_SEIZE, 1): Operation not permitted" >&2; exit 1')
    assert Strace(guard, program=program).unavailable() == (
        "strace: attach: ptrace(PTRACE_SEIZE, 1): Operation not permitted"
    )


def test_a_perf_that_lists_no_tracepoints_is_the_reason(tmp_path: Path, guard: Guard) -> None:
    assert PerfStat(guard, program=script(tmp_path, "exit 0")).unavailable() == (
        "perf lists no tracepoints of system calls here: the kernel has none, or they may not be read"
    )


def test_what_perf_says_where_tracepoints_may_not_be_read_is_the_reason(tmp_path: Path, guard: Guard) -> None:
    program = script(
        tmp_path,
        'if [ "$1" = list ]; then echo "  syscalls:sys_enter_read  [Tracepoint event]"; exit 0; fi\n'
        "printf \"event syntax error: 'raw_syscalls:sys_enter'\\n  \\___ can't access trace events\\n\\n"
        'Error:\\tNo permissions to read /sys/kernel/tracing/events\\nHint: x\\n" >&2; exit 129',
    )
    assert PerfStat(guard, program=program).unavailable() in (
        "can't access trace events",
        "No permissions to read /sys/kernel/tracing/events",
    )


# --- strace


LOG = """\
100 epoll_wait(0x5, 0x560e267740e0, 0x3ff, 0xffffffff) = 0x1
100 read(0x6, 0x560e2679b4e0, 0x10000) = 0x40
101 read(0x7, 0x560e2679b4e0, 0x10000 <unfinished ...>
100 write(0x6, 0x560e2679b4e0, 0x40)  = 0x40
101 <... read resumed>)               = -1 EAGAIN (Resource temporarily unavailable)
100 read(0x6, 0x560e2679b550, 0x10000) = -1 EAGAIN (Resource temporarily unavailable)
100 restart_syscall(0x0 <unfinished ...>
101 exit(0 <unfinished ...>
101 <... exit resumed>)               = ?
101 +++ exited with 0 +++
100 --- SIGTERM {si_signo=SIGTERM} ---
100 epoll_wait(0x5, 0x560e267740e0, 0x3ff, 0xffffffff <detached ...>
"""


def test_strace_counts_calls_once_by_name_whether_told_in_one_line_or_in_two() -> None:
    tally = strace.parse(LOG.splitlines(keepends=True))
    assert tally.calls == {"epoll_wait": 2, "read": 3, "write": 1, "exit": 1}


def test_strace_counts_errors_by_name_and_error() -> None:
    assert strace.parse(LOG.splitlines()).errors == {"read EAGAIN": 2}


def test_what_only_the_attaching_calls_is_left_out() -> None:
    assert "restart_syscall" not in strace.parse(LOG.splitlines()).calls


# --- perf


def csv(events: Sequence[perf.Event], counts: dict[perf.Event, int | str]) -> str:
    lines = [f"{counts.get(event, 0)},,{event[0]},1000,100.00,," for event in events]
    return "# started on Tue Nov 24 02:36:10 2026\n\n" + "\n".join(lines) + "\n"


def test_perf_counts_calls_by_name_and_those_without_a_name_as_other() -> None:
    events = perf.events(["read", "write"], [])
    text = csv(
        events,
        {(perf.ENTER, ""): 105, ("syscalls:sys_enter_read", ""): 60, ("syscalls:sys_enter_write", ""): 40},
    )
    tally = perf.tally_of(events, perf.parse(text, len(events)))
    assert tally.calls == {"read": 60, "write": 40, "other": 5}
    assert tally.errors == {}


def test_perf_counts_errors_by_name_where_it_looked_and_the_rest_as_other() -> None:
    again, broken = f"ret == -{errno.EAGAIN}", f"ret == -{errno.EPIPE}"
    events = perf.events(["read", "write"], [errno.EAGAIN])
    counts: dict[perf.Event, int | str] = {
        (perf.ENTER, ""): 100,
        ("syscalls:sys_enter_read", ""): 100,
        (perf.EXIT, perf.ANY_ERROR): 12,
        (perf.EXIT, again): 9,
        (perf.EXIT, broken): 2,
        ("syscalls:sys_exit_read", again): 8,
    }
    assert perf.tally_of(events, perf.parse(csv(events, counts), len(events))).errors == {
        "read EAGAIN": 8,
        "other EAGAIN": 1,
        "other EPIPE": 2,
        "other error": 1,
    }


def test_an_event_that_never_came_on_a_cpu_counts_none() -> None:
    events = perf.events(["read"], [])
    assert sum(perf.parse(csv(events, dict.fromkeys(events, "<not counted>")), len(events))) == 0


def test_a_perf_that_does_not_support_an_event_or_tells_too_few_counts_nothing() -> None:
    events = perf.events(["read"], [])
    with pytest.raises(CountingError, match="does not support"):
        perf.parse(csv(events, {events[0]: "<not supported>"}), len(events))
    with pytest.raises(CountingError, match="told 0 counts"):
        perf.parse("", len(events))


def test_perf_looks_for_all_names_that_there_are_a_part_at_a_time_and_only_once_asked_to(
    tmp_path: Path, guard: Guard
) -> None:
    seldom = [f"call_{number}" for number in range(perf.AT_ONCE + 1)]
    listed = " ".join(f"syscalls:sys_enter_{name}" for name in [*perf.CANDIDATES, *seldom])
    counter = PerfStat(guard, program=script(tmp_path, f'[ "$1" = list ] && echo "{listed}" && exit 0; exit 1'))
    counter.unavailable()
    counter.look_again()
    assert set(counter.names) == set(perf.CANDIDATES)
    assert len(list(counter.look_further())) == 2
    assert set(counter.names) == {*perf.CANDIDATES, *seldom}
    counter.names = ["read"]  # all that was met
    next(iter(counter.look_further()))
    assert counter.names[0] == "read"
    assert len(counter.names) == perf.AT_ONCE + 1


# --- both, where they work


@pytest.mark.parametrize("kind", [PerfStat, Strace])
def test_a_provider_that_works_here_counts_what_a_process_calls_while_it_is_attached(
    kind: type[PerfStat] | type[Strace], guard: Guard
) -> None:
    counter: CallCounter = kind(guard)
    reason = counter.unavailable()
    if reason is not None:
        pytest.skip(f"{counter.name}: {reason}")
    echo = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    assert echo.stdin is not None
    assert echo.stdout is not None
    try:
        tallies = []
        for times in (10, 30):
            counter.start([echo.pid])
            for _ in range(times):
                echo.stdin.write(b"x")
                assert echo.stdout.read(1) == b"x"
            tallies.append(counter.stop())
            counter.abandon()
    finally:
        counter.abandon()
        echo.communicate()
    few, many = tallies
    # The last read is entered, or not yet, when the counting ends.
    assert 19 <= many.calls["read"] - few.calls["read"] <= 21
    assert many.calls["write"] - few.calls["write"] == 20


def test_the_process_that_a_provider_is_tried_on_ends() -> None:
    with guinea_pig() as pid:
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
