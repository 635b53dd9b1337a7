"""Turns: which of them count; and real servers that have them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from spawn import eventually
from synthetic_turns import WINDOW_NS, machine, seen, trial

from bench import turns
from bench.catalogue import list_strategies
from bench.external import read_externals
from bench.external_server import start_external
from bench.load import Turned
from bench.load_pool import LoadPool
from bench.observation import NOTHING_SEEN, added
from bench.probes.process import process_cpu_ns, with_children
from bench.processes import Guard
from bench.server import RunningServer, start_server
from bench.turn_length import Length
from bench.turns import (
    Side,
    Taken,
    close_load,
    enter,
    leave,
    open_load,
    recorded,
    take_turn,
    why_disturbed,
    why_late,
)
from bench.validity import LATE_NS

FOREIGN = str(Path(__file__).with_name("foreign_server.py"))
CPUS = sorted(os.sched_getaffinity(0))
MOMENT_NS = 5_000_000  # that a signal to stop may take
SHORT = Length(1, 0.005, 0.03)


# --- which of them count


def turned(completed: int = 100, cpu_ns: int = 20_000_000) -> Turned:
    return Turned(1, 1 + WINDOW_NS, completed, completed, cpu_ns)


def side_with(disturbed: Sequence[str]) -> Side:
    side = Side(trial(), lambda: pytest.fail("nothing is started here"))
    side.taken = [Taken(turned(number), NOTHING_SEEN, why) for number, why in enumerate(disturbed)]
    return side


def test_disturbed_turns_do_not_count_and_are_recorded_with_the_reason() -> None:
    side = side_with(["", "others ran", "", ""])
    assert side.kept == [0, 2, 3]
    assert [(turn.completed, turn.disturbed) for turn in recorded(side)] == [
        (0, ""),
        (1, "others ran"),
        (2, ""),
        (3, ""),
    ]


def test_where_every_turn_was_disturbed_all_count() -> None:
    assert side_with(["others ran"] * 3).kept == [0, 1, 2]


def disturbed(turn: Turned, cpu_ns: float, demand_ns: float, **cpus: float) -> str:
    quiet = {"server_idle_ns": 0.0, "server_steal_ns": 0.0, "load_idle_ns": 5e6, "load_wait_ns": 0.0}
    metrics = {"cpu_ns": cpu_ns, "thread_demand_ns": demand_ns}
    return why_disturbed(turn, seen(metrics=metrics, machine=machine(**(quiet | cpus))), [1])


def test_a_turn_in_which_others_had_the_server_s_cpu_is_disturbed() -> None:
    assert "waited for during 40 %" in disturbed(turned(), 15e6, 25e6)
    assert disturbed(turned(), 24e6, 25e6) == ""


def test_threads_that_wait_for_each_other_are_no_disturbance() -> None:
    """What the busiest one ran or waited, less all that ran of the server, is what it waited for others."""
    assert disturbed(turned(), 24.5e6, 22e6) == ""


def test_a_turn_of_a_server_that_got_no_cpu_at_all_is_disturbed_though_its_wait_is_not_over() -> None:
    assert "waited for during 100 %" in disturbed(turned(completed=0), 0, 0)
    assert disturbed(turned(completed=1), 0, 0) == ""


def test_a_turn_without_an_echo_on_an_idle_cpu_is_the_server_s_own_fault() -> None:
    assert disturbed(turned(completed=0), 0, 0, server_idle_ns=25e6) == ""


def test_a_turn_of_which_nothing_is_known_counts() -> None:
    assert why_disturbed(turned(), seen(machine=None), [1]) == ""
    assert why_disturbed(turned(), seen(metrics={"threads": 1.0}), [1]) == ""


def test_a_turn_that_a_cpu_quota_stopped_is_disturbed_also_where_nothing_is_known_of_the_server() -> None:
    stopped = machine(throttled_periods=2, throttled_ns=30e6)
    reason = "a CPU quota stopped it: used up before its time in 2 periods"
    assert why_disturbed(turned(), seen(machine=stopped), [1]) == reason
    assert why_disturbed(turned(), seen(metrics={}, machine=stopped), [1]) == reason


def test_a_turn_round_which_the_harness_stood_still_is_disturbed() -> None:
    """What others had of the CPUs in it would be a small share of the time that was looked at."""
    in_time, late = (seen()._replace(opened_ns=0, closed_ns=WINDOW_NS + ms * 1_000_000) for ms in (20, 3020))
    assert why_late(turned(), in_time, warmup_s=0.01) == ""
    assert why_late(turned(), late, warmup_s=0.01) == "the harness stood still for 3.0 s"


# --- real servers


@pytest.fixture(scope="module")
def guard() -> Iterator[Guard]:
    made = Guard()
    yield made
    made.close()


@pytest.fixture(scope="module")
def pool(guard: Guard) -> Iterator[LoadPool]:
    """The real load generator, warm."""
    made = LoadPool(guard, CPUS[-1:])
    yield made
    made.end()


@pytest.fixture
def sides(guard: Guard) -> Iterator[Callable[..., Side]]:
    """Makes sides whose servers are up, of our own strategies and of commands; all have ended after the test."""
    known = {one.name: one for one in list_strategies()[0]}
    made: list[Side] = []

    def make(what: str | list[str]) -> Side:
        start: Callable[[], RunningServer]
        if isinstance(what, str):
            start = partial(start_server, known[what], "tcp", CPUS[:1], guard)
        else:
            (external,) = read_externals([{"name": "foreign", "command": [sys.executable, *what, "{port}"]}], None)
            start = partial(start_external, external, CPUS[:1], guard)
        made.append(Side(trial(connections=3), start))
        enter(made[-1])
        assert made[-1].faults == []
        return made[-1]

    yield make
    for side in made:
        leave(side, 3)


def family(side: Side) -> list[int]:
    assert side.server is not None
    return with_children([side.server.pid])


def cpu_ns(side: Side) -> int:
    return sum(map(process_cpu_ns, family(side)))


def test_jobs_of_one_trial_are_open_at_once_and_each_side_has_its_own_result(
    sides: Callable[..., Side], pool: LoadPool
) -> None:
    both = [sides("epoll_lt"), sides("epoll_lt")]
    for side in both:
        open_load(side, pool.worker(), 0.0)
    for side in (both[0], both[1], both[1], both[0]):
        take_turn(side, pool.worker(), SHORT)
    for side in both:
        close_load(side)
        assert (side.faults, len(side.taken)) == ([], 2)
        assert side.measured is not None
        completed = [side.taken[number].turned.completed for number in side.kept]
        assert side.measured.load.completed == sum(completed) > 0
        assert side.seen.metrics["cpu_ns"] > 0


def test_a_second_load_of_a_side_has_nothing_of_the_first(sides: Callable[..., Side], pool: LoadPool) -> None:
    side = sides("epoll_lt")
    open_load(side, pool.worker(), 0.0)
    take_turn(side, pool.worker(), SHORT)
    close_load(side)
    assert side.measured is not None
    assert side.measured.load.response_hdr == ""
    open_load(side, pool.worker(), 1000.0, trial(connections=3, workload="open"))
    assert (side.taken, side.measured, side.seen) == ([], None, NOTHING_SEEN)
    take_turn(side, pool.worker(), Length(1, 0.005, 0.1))
    close_load(side)
    assert side.measured is not None
    assert side.measured.load.offered_hz == pytest.approx(1000, rel=0.1)


def test_a_side_whose_server_dies_has_no_more_turns_and_the_others_go_on(
    sides: Callable[..., Side], pool: LoadPool
) -> None:
    good, bad, other = sides("epoll_lt"), sides([FOREIGN, "dies"]), sides("thread_per_connection")
    for side in (good, bad, other):
        open_load(side, pool.worker(), 0.0)
    for _ in range(2):
        for side in (good, bad, other):
            if side.fit:
                take_turn(side, pool.worker(), SHORT)
    for side in (good, bad, other):
        close_load(side)
    assert (bad.fit, bad.measured, len(bad.faults)) == (False, None, 1)
    assert len(bad.taken) < 2
    for side in (good, other):
        assert (side.fit, len(side.taken)) == (True, 2)
        assert side.measured is not None
        assert side.measured.load.errors == {}


def test_a_load_generator_that_is_gone_is_a_fault_of_every_side(sides: Callable[..., Side], guard: Guard) -> None:
    mine = LoadPool(guard, CPUS[-1:])
    try:
        both = [sides("epoll_lt"), sides("epoll_lt")]
        worker = mine.worker()
        for side in both:
            open_load(side, worker, 0.0)
        psutil.Process(worker.child.pid).kill()
        for side in both:
            take_turn(side, worker, SHORT)
            close_load(side)
            assert "the load generator died" in side.faults[0]
            assert (side.fit, side.died, side.measured) == (False, False, None)
        assert mine.worker() is not worker
    finally:
        mine.end()


STRAY = """
import os, socket, sys
server = os.getpid()
left, leaves = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.write(leaves, b"x")
    while os.getppid() == server:
        pass
    sys.exit()
os.read(left, 1)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=8)
while True:
    conn, _ = listener.accept()
    if os.fork() == 0:
        while message := conn.recv(65536):
            conn.sendall(message)
        os._exit(0)
    conn.close()
"""


def test_a_stray_that_left_its_server_s_process_group_stands_still_while_others_have_their_turn(
    sides: Callable[..., Side], pool: LoadPool, tmp_path: Path
) -> None:
    (tmp_path / "stray.py").write_text(STRAY)
    busy, other = sides([str(tmp_path / "stray.py")]), sides("epoll_lt")
    for side in (busy, other):
        open_load(side, pool.worker(), 0.0)
    (stray,) = (pid for pid in family(busy) if os.getpgid(pid) == pid != busy.server.pid)  # type: ignore[union-attr]
    at_first = process_cpu_ns(stray)
    take_turn(busy, pool.worker(), SHORT)
    after_its_own = process_cpu_ns(stray)
    take_turn(other, pool.worker(), SHORT)
    assert process_cpu_ns(stray) - after_its_own < MOMENT_NS, "it stands still"
    assert after_its_own > at_first, "and goes on with its server"
    assert busy.faults == other.faults == []


def test_a_server_that_polls_takes_no_cpu_time_from_the_other_s_turn(
    sides: Callable[..., Side], pool: LoadPool
) -> None:
    polling, other = sides("nonblocking_polling"), sides("epoll_lt")
    for side in (polling, other):
        open_load(side, pool.worker(), 0.0)
    before_ns = cpu_ns(polling)
    take_turn(other, pool.worker(), SHORT)
    assert cpu_ns(polling) - before_ns < MOMENT_NS
    take_turn(polling, pool.worker(), SHORT)
    assert cpu_ns(polling) - before_ns > MOMENT_NS


def test_turns_that_do_not_count_are_in_no_figure(
    sides: Callable[..., Side], pool: LoadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = iter(["others ran", "", ""])
    monkeypatch.setattr(turns, "why_disturbed", lambda *_: next(verdicts))
    side = sides("epoll_lt")
    open_load(side, pool.worker(), 0.0)
    for _ in range(3):
        take_turn(side, pool.worker(), SHORT)
    close_load(side)
    assert side.measured is not None
    assert side.measured.load.completed == sum(turn.turned.completed for turn in side.taken[1:])
    counted = added([turn.seen for turn in side.taken[1:]])
    assert side.seen.metrics["cpu_ns"] == counted.metrics["cpu_ns"]


def test_a_turn_in_which_the_harness_stood_still_does_not_count_and_has_the_right_cpu_time(
    sides: Callable[..., Side], pool: LoadPool
) -> None:
    """A server that polls uses all CPU time until it is told to stop, which comes late."""
    side = sides("nonblocking_polling")
    open_load(side, pool.worker(), 0.0)
    assert side.job is not None
    take = side.job.turn

    def turn_and_stand_still(*arguments: Any) -> Turned:
        found = take(*arguments)
        used_ns = cpu_ns(side)
        assert eventually(lambda: cpu_ns(side) - used_ns > 2 * LATE_NS)
        return found

    side.job.turn = turn_and_stand_still  # type: ignore[method-assign]
    take_turn(side, pool.worker(), SHORT)
    (taken,) = side.taken
    assert taken.disturbed.startswith("the harness stood still for ")
    assert taken.seen.metrics["cpu_ns"] <= 1.1 * (taken.turned.closed_ns - taken.turned.opened_ns)
