"""Counting a strategy: real servers and a real load, with a made-up provider, and with those that work here."""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bench.catalogue import list_strategies
from bench.events import signals_interrupt_waits
from bench.probes.calls import CountingError, Tally, choose
from bench.probes.perf import PerfStat
from bench.probes.strace import Strace
from bench.processes import Guard
from bench.record import StrategyInfo
from bench.server import RunningServer, start_server
from bench.why import count, words
from bench.why.count import Bench, benched, count_calls, count_strategy, difference
from bench.why.counts import Counts, calls, errors, metric, per_connection, total
from bench.why.words import sentence


class Made:
    """Counts what it is told that a message takes, and 100 calls for the set-up; keeps what it was asked to do."""

    name = "made up"
    messages = 40

    def __init__(self, each: dict[str, int], reason: str | None = None, broken: bool = False) -> None:
        self.each, self.reason, self.broken = each, reason, broken
        self.attached: list[list[int]] = []
        self.abandoned = 0

    def unavailable(self) -> str | None:
        return self.reason

    def look_again(self) -> None: ...

    def look_further(self) -> Iterator[None]:
        return iter(())

    def start(self, pids: Sequence[int]) -> None:
        if self.broken:
            raise CountingError("it broke")
        for pid in pids:
            os.kill(pid, 0)
        self.attached.append(list(pids))

    def stop(self) -> Tally:
        rounds = (count.FEWEST_ROUNDS, 40, 80)[(len(self.attached) - 1) % 3]
        return Tally({"accept4": 100, **{name: rounds * number for name, number in self.each.items()}}, {})

    def abandon(self) -> None:
        self.abandoned += 1


class Hides(Made):
    """Makes a getpid for each message, which it has a name for at the second of three steps further."""

    loads = (count.FEWEST_ROUNDS, 40, 80, count.FEWEST_ROUNDS, count.FEWEST_ROUNDS, 40, 80)
    looked = 0

    def look_further(self) -> Iterator[None]:
        for self.looked in (1, 2, 3):
            yield

    def stop(self) -> Tally:
        rounds = self.loads[len(self.attached) - 1]
        name = "getpid" if self.looked >= 2 else "other"
        return Tally({"accept4": 100, "read": rounds, name: rounds}, {})


@pytest.fixture(scope="module")
def known() -> dict[str, StrategyInfo]:
    return {info.name: info for info in list_strategies()[0]}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with signals_interrupt_waits(), benched(counters=()) as made:
        yield made


@pytest.fixture(autouse=True)
def few_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "MESSAGES", 400)
    monkeypatch.setattr(count, "WARM_UP_MESSAGES", 64)


def at_one(bench: Bench, info: StrategyInfo, counter: object = None, **options: int) -> Counts:
    return count_strategy(bench._replace(counter=counter), info, "tcp", bursts=(1,), **options)  # type: ignore[arg-type]


def test_the_calls_of_a_message_are_what_a_longer_load_has_more_so_that_the_set_up_cancels_out(
    bench: Bench, known: dict[str, StrategyInfo]
) -> None:
    counter = Made({"read": 1, "write": 1})
    found = at_one(bench, known["thread_per_connection"], counter, passes=1)
    assert calls(found.points[0]) == {"read": 1.0, "write": 1.0}
    assert found.providers["system calls"] == "made up"
    assert counter.abandoned == len(counter.attached) == 3


def test_a_call_of_each_message_that_nobody_had_looked_for_gets_its_name(
    bench: Bench, known: dict[str, StrategyInfo]
) -> None:
    found = at_one(bench, known["epoll_lt"], Hides({}), passes=1)
    assert calls(found.points[0]) == {"read": 1.0, "getpid": 1.0}


def test_a_set_up_that_nobody_had_looked_for_is_not_looked_for(bench: Bench, known: dict[str, StrategyInfo]) -> None:
    class SetsUp(Hides):
        def stop(self) -> Tally:
            return Tally({"other": 100, "read": self.loads[len(self.attached) - 1]}, {})

    counter = SetsUp({})
    at_one(bench, known["epoll_lt"], counter, passes=1)
    assert counter.looked == 0


def test_messages_that_came_back_without_a_system_call_are_not_counted_as_free(
    bench: Bench, known: dict[str, StrategyInfo]
) -> None:
    counting = bench._replace(counter=Made({}))  # type: ignore[arg-type]

    def start() -> RunningServer:
        return start_server(known["epoll_lt"], "tcp", bench.cpus, bench.guard)

    with pytest.raises(CountingError, match="without a system call"):
        count_calls(counting, start, 1)


def test_a_thread_of_each_connection_is_seen_and_a_sleep_for_each_message(
    bench: Bench, known: dict[str, StrategyInfo]
) -> None:
    found = count_strategy(bench, known["thread_per_connection"], "unix", bursts=(1, 8), passes=1)
    assert per_connection(found, "threads") == 1.0
    slept = metric(found.points[0], "switches_voluntary")
    assert slept is not None
    assert 0.5 < slept < 1.5
    assert found.points[0].passes[0].missing == {}
    assert set(found.points[0].passes[0].times) == {"cpu_ns", "cpu_user_ns", "cpu_system_ns", "runqueue_wait_ns"}


def test_without_a_provider_all_else_is_read_and_every_reason_is_told(
    bench: Bench, known: dict[str, StrategyInfo]
) -> None:
    blind = bench._replace(unavailable={"perf stat": "perf is not installed", "strace": "no leave"})
    found = count_strategy(blind, known["epoll_lt"], "tcp", bursts=(1,), passes=1)
    assert total(found.points[0]) is None
    assert metric(found.points[0], "minor_faults") is not None
    assert "not available: perf stat: perf is not installed; strace: no leave" in sentence(found)


def test_a_strategy_of_one_connection_at_a_time_is_counted_at_one(bench: Bench, known: dict[str, StrategyInfo]) -> None:
    found = count_strategy(bench, known["iterative"], "pipe", bursts=(1, 8), passes=1)
    assert [len(point.passes) for point in found.points] == [1, 0]
    assert found.points[1].reason == "it serves one connection at a time"


def test_a_provider_that_breaks_and_a_server_that_does_not_start_are_reasons(
    bench: Bench, known: dict[str, StrategyInfo]
) -> None:
    broken = Made({}, broken=True)
    assert at_one(bench, known["epoll_lt"], broken).points[0].reason == "it broke"
    assert broken.abandoned
    silent = count_strategy(bench, known["epoll_lt"], "tcp", bursts=(1,), server_command=["/bin/false"])
    assert "the server ended at its start" in silent.points[0].reason


def test_a_load_generator_that_died_is_replaced_at_the_next_point(known: dict[str, StrategyInfo]) -> None:
    with signals_interrupt_waits(), benched(counters=()) as made:
        os.kill(made.pool.worker().child.pid, signal.SIGKILL)
        found = count_strategy(made, known["epoll_lt"], "tcp", bursts=(1, 8), passes=1)
        policy = os.sched_getscheduler(made.pool.worker().child.pid)
    assert [len(point.passes) for point in found.points] == [0, 1]
    assert "the load generator died" in found.points[0].reason
    assert policy == os.SCHED_BATCH


def test_no_process_is_left_behind(known: dict[str, StrategyInfo]) -> None:
    def children() -> set[str]:
        return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}

    before = children()
    with signals_interrupt_waits(), benched(counters=()) as made:
        at_one(made, known["epoll_lt"], passes=1)
    assert children() == before


def test_a_server_that_made_fewer_calls_for_more_messages_is_told_by_the_whole_of_the_longer_load() -> None:
    few, many = Tally({"read": 9_000, "write": 100}, {}), Tally({"read": 8_000, "write": 200}, {"read EAGAIN": 7_800})
    assert difference(few, many, 100) == (200, many.calls, many.errors)


def test_a_few_calls_less_for_more_messages_are_chance_and_count_as_none() -> None:
    few = Tally({"futex": 38, "read": 1000}, {"futex EAGAIN": 20, "read EAGAIN": 10})
    many = Tally({"futex": 20, "read": 2000}, {"futex EAGAIN": 2, "read EAGAIN": 30})
    assert difference(few, many, 10_000) == (10_000, {"read": 1000}, {"read EAGAIN": 20})


GLIBC = platform.libc_ver()[0] == "glibc"
KNOWN_ANSWERS = {
    "thread_per_connection": [{"read": 1.0, "write": 1.0}],
    "epoll_lt": [{"epoll_wait": 1.0, "read": 1.0, "write": 1.0}],
    # Its buffer of 256 KiB comes from the heap once glibc has seen such a one freed, as mostly happens when a client
    # leaves; in a process where it has not, it is mapped anew for every message (docs/why.md).
    "asyncio_protocol": [
        {"epoll_wait": 1.0, "recvfrom": 1.0, "sendto": 1.0},
        dict.fromkeys(("epoll_wait", "recvfrom", "sendto", "mmap", "mremap", "munmap"), 1.0),
    ],
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [*((Strace, name) for name in KNOWN_ANSWERS), (PerfStat, "thread_per_connection"), (PerfStat, "epoll_lt")],
)
def test_a_provider_that_works_here_gives_the_known_answers_at_one_message_a_wakeup(
    bench: Bench, known: dict[str, StrategyInfo], kind: type[PerfStat] | type[Strace], name: str
) -> None:
    guard = Guard()
    counter = kind(guard)
    try:
        reason = counter.unavailable()
        if reason is not None:
            pytest.skip(f"{counter.name}: {reason}")
        found = at_one(bench, known[name], counter, passes=1)
    finally:
        guard.close()
    assert found.points[0].reason == ""
    got = {call: value for call, value in calls(found.points[0]).items() if abs(value) >= words.TOLD}
    assert got in [pytest.approx(answer, rel=0.01) for answer in KNOWN_ANSWERS[name]]
    assert errors(found.points[0]) == {}


def test_memory_that_a_process_maps_anew_for_every_message_is_seen_without_being_looked_for(
    bench: Bench, known: dict[str, StrategyInfo]
) -> None:
    if not GLIBC:
        pytest.skip("only glibc can be told the threshold above which it maps memory")
    guard = Guard()
    try:
        chosen = choose([Strace(guard), PerfStat(guard)])
        if chosen.counter is None:
            pytest.skip(f"no provider works here: {chosen.unavailable}")
        # A fixed threshold: asyncio's receive buffer of 256 KiB is above it in every process.
        command = ["env", "GLIBC_TUNABLES=glibc.malloc.mmap_threshold=131072", sys.executable, "-m", "servers"]
        mapping = count_strategy(
            bench._replace(counter=chosen.counter),
            known["asyncio_protocol"],
            "tcp",
            bursts=(1,),
            passes=1,
            server_command=command,
        )
    finally:
        guard.close()
    got = calls(mapping.points[0])
    assert [got.get(name) for name in ("mmap", "mremap", "munmap")] == pytest.approx([1.0, 1.0, 1.0], rel=0.01)
    assert "mmap 1.00, mremap 1.00, munmap 1.00" in sentence(mapping)
