"""What is seen of several windows adds up; a server's turns are observed while it stands still."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import psutil
import pytest
from spawn import eventually
from synthetic_turns import WINDOW_NS, machine, seen

from bench.load import LoadWorker, Turned
from bench.observation import Seen, TurnObservation, added, believed
from bench.probes.unwatched import METRICS, SHORT_NS
from bench.processes import Child, Guard, start
from bench.server import RunningServer

BUSY = "while True: pass"


def test_amounts_and_times_add_up_as_if_there_had_been_one_window() -> None:
    found = added([seen(7e6), seen(5e6), seen(1e6)])
    assert found.closed_ns - found.opened_ns == 3 * WINDOW_NS
    assert (found.metrics["cpu_ns"], found.metrics["thread_demand_ns"]) == (13e6, 13e6 + 15)
    assert found.machine is not None
    assert (found.machine.server_idle_ns, found.machine.load_idle_ns) == (6e6, 9e6)
    assert (found.machine.server_steal_ns, found.machine.load_wait_ns) == (3e3, 3e6)
    assert (found.machine.harness_ns, found.machine.load_cpus) == (3e5, [0])


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_known_of_one_window_is_not_known_of_their_sum(place: int) -> None:
    def sum_with(other: Seen) -> Seen:
        return added([other, seen()] if place == 0 else [seen(), other])

    found = sum_with(seen(metrics={"thread_demand_ns": 1.0}, missing={"cpu_ns": "no clock"}))
    assert (found.metrics, found.missing) == ({"thread_demand_ns": 10e6 + 6}, {"cpu_ns": "no clock"})
    assert sum_with(seen(machine=None)).machine is None
    unknown = sum_with(seen(machine=machine(load_wait_ns=None))).machine
    assert unknown is not None
    assert unknown.load_wait_ns is None


def test_no_window_has_no_sum() -> None:
    with pytest.raises(ValueError, match="needs a window"):
        added([])


# --- the turns of a server


@pytest.fixture
def busy() -> Iterator[Child]:
    """A process that uses all CPU time that it is given, and stands still."""
    guard = Guard()
    child = start([sys.executable, "-c", BUSY], guard)
    os.kill(child.pid, signal.SIGSTOP)
    assert eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    yield child
    os.kill(child.pid, signal.SIGKILL)
    child.process.wait()
    child.stderr.close()
    guard.close()


def observation(child: Child | None, cpus: list[int] | None = None) -> TurnObservation:
    roots, unwatched = ([child.pid], "") if child else ([], "it is elsewhere")
    server = SimpleNamespace(roots=roots, unwatched=unwatched, cpus=cpus or [0])
    load = SimpleNamespace(child=SimpleNamespace(pid=os.getpid()), cpus=[0])
    return TurnObservation(cast(RunningServer, server), cast(LoadWorker, load))


def burn(child: Child, cpu_s: float = 0.03) -> None:
    """Let it go on until it has used some CPU time."""
    process = psutil.Process(child.pid)
    until_s = sum(process.cpu_times()[:2]) + cpu_s
    os.kill(child.pid, signal.SIGCONT)
    assert eventually(lambda: sum(process.cpu_times()[:2]) >= until_s)
    os.kill(child.pid, signal.SIGSTOP)
    assert eventually(lambda: process.status() == psutil.STATUS_STOPPED)


def turned(completed: int = 30, in_all: int = 40, clocks_ns: tuple[int, int] = (5, 9)) -> Turned:
    return Turned(1, 1 + WINDOW_NS, completed, in_all, 0, clocks_ns)


def test_a_turn_has_all_that_was_used_since_the_one_before_and_its_window_what_the_clocks_say(busy: Child) -> None:
    found = observation(busy)
    used_ns = []
    for _ in range(2):
        found.before()
        burn(busy)
        whole, window, _ = found.after(turned())
        used_ns.append(whole.metrics["cpu_ns"])
        assert window.metrics["cpu_ns"] == 4
        assert window.closed_ns - window.opened_ns == WINDOW_NS
    assert all(0.02e9 < used < 0.3e9 for used in used_ns)
    before_ns = sum(used_ns)
    total = found.stop([turned(), turned()], [(turned(), window)])
    assert total.metrics["cpu_ns"] == 4
    assert total.metrics["cpu_user_ns"] <= before_ns * 30 / 80 + 10e6


def test_what_is_not_read_for_each_turn_is_shared_by_messages_and_what_is_held_is_as_at_the_end(busy: Child) -> None:
    found = observation(busy)
    found.before()
    burn(busy, 0.2)
    _, window, _ = found.after(turned())
    total = found.stop([turned(completed=30, in_all=80)], [(turned(completed=30), window)])
    assert total.metrics["cpu_user_ns"] == pytest.approx(0.2e9 * 30 / 80, rel=0.4)
    assert (total.metrics["threads"], total.metrics["processes"]) == (1, 1)
    assert total.metrics["rss_bytes"] > 1e6


def test_a_server_that_cannot_be_read_has_reasons_and_no_metrics() -> None:
    found = observation(None)
    found.before()
    whole, window, _ = found.after(turned())
    assert (whole.metrics, window.metrics, found.clocks) == ({}, {}, [])
    total = found.stop([turned()], [(turned(), window)])
    assert total.metrics == {}
    assert total.missing == dict.fromkeys(METRICS, "it is elsewhere")


def test_processes_that_used_no_cpu_time_did_not_echo_and_none_of_their_figures_is_the_server_s() -> None:
    idle = Seen(0, SHORT_NS, {"cpu_ns": 0.0, "rss_bytes": 9e6, "threads": 1.0}, {"descriptors": "not allowed"}, None)
    found = believed(idle, echoed=1)
    assert (found.metrics, found.missing.keys()) == ({}, {*METRICS})
    assert "used no CPU time while messages were echoed" in found.missing["cpu_ns"]
    assert believed(idle, echoed=0) == idle, "where nothing was echoed it is a figure"
    assert believed(idle._replace(closed_ns=SHORT_NS - 1), echoed=1).metrics["cpu_ns"] == 0, "too short to tell"
    busy = idle._replace(metrics={"cpu_ns": 1.0})
    assert believed(busy, echoed=1) == busy


def test_however_long_the_harness_stands_still_the_window_of_a_turn_has_its_own_cpu_time(busy: Child) -> None:
    """The load generator reads the clocks at its ends; the server goes on until the harness stops it."""
    found = observation(busy)
    found.before()
    burn(busy, 0.2)
    whole, window, _ = found.after(turned(clocks_ns=(0, WINDOW_NS)))
    assert whole.metrics["cpu_ns"] >= 0.2e9
    assert window.metrics["cpu_ns"] == WINDOW_NS
    assert found.stop([turned()], [(turned(), window)]).metrics["cpu_ns"] == WINDOW_NS
