"""The turns of a pair: who has one when, what they add up to, and who has no more."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import pytest
from synthetic import load, server

from bench.gate.measure import turns
from bench.gate.model import Side
from bench.gate.sides import Source
from bench.gate.turns import Contestant, Window, take_turns, total
from bench.histograms import decode
from bench.record import Machine
from bench.server import RunningServer

WINDOW_NS = 15_000_000


def contestant(role: Any) -> Contestant:
    """One whose server is not ours, so that no process is paused."""
    nobody = RunningServer(None, "tcp:127.0.0.1:1", [], None, 0.0)  # type: ignore[arg-type]
    return Contestant(Source(Side(role=role, label=role), {}, lambda *_: nobody), nobody)


def order_of(times: int, breaks: str = "") -> str:
    sides = [contestant("base"), contestant("head")]
    taken: list[str] = []

    def turn(one: Contestant) -> None:
        taken.append(one.source.side.role[0])
        if taken[-1] == breaks:
            one.faults.append("it broke")

    take_turns(sides, times, turn)
    return "".join(taken)


def test_each_side_is_first_as_often_as_second_so_that_a_drift_meets_both_alike() -> None:
    assert order_of(4) == "bhhbbhhb"


def test_a_side_that_is_broken_has_no_more_turns_and_the_other_goes_on() -> None:
    assert order_of(4, breaks="h") == "bhbbb"


@pytest.mark.parametrize(
    ("in_all_s", "turn_s", "number"), [(0.18, 0.015, 12), (0.2, 0.05, 4), (0.18, 0.06, 4), (0.18, 1.0, 2)]
)
def test_there_is_an_even_number_of_turns_however_long_they_are(in_all_s: float, turn_s: float, number: int) -> None:
    assert turns(in_all_s, turn_s) == number


def window(completed: int, cpu_ns: int, response_ns: int | None = None, wait_ns: float | None = 1e6) -> Window:
    at_ns = int.from_bytes(os.urandom(4), "little")
    return Window(
        load(max(1, completed), 16, response_ns, opened_ns=at_ns, closed_ns=at_ns + WINDOW_NS, completed=completed),
        server(
            completed,
            1.0,
            0.5,
            opened_ns=at_ns,
            closed_ns=at_ns + WINDOW_NS,
            metrics={"cpu_ns": cpu_ns, "thread_demand_ns": cpu_ns + 5, "rss_bytes": 1000 + completed},
        ),
        Machine(
            server_idle_ns=2e6,
            server_steal_ns=1e3,
            load_cpus=[0],
            load_idle_ns=3e6,
            load_steal_ns=0,
            load_wait_ns=wait_ns,
            harness_ns=1e5,
        ),
    )


def test_turns_add_up_as_if_they_had_been_one_window() -> None:
    found = total([window(100, 7_000_000), window(50, 5_000_000), window(0, 1_000_000)])
    assert found.load.completed == 150
    assert found.load.closed_ns - found.load.opened_ns == 3 * WINDOW_NS
    assert found.server.closed_ns - found.server.opened_ns == 3 * WINDOW_NS
    assert found.server.metrics == {"cpu_ns": 13_000_000, "thread_demand_ns": 13_000_015, "rss_bytes": 1000}
    assert found.machine is not None
    assert (found.machine.server_idle_ns, found.machine.load_idle_ns) == (6e6, 9e6)
    assert (found.machine.server_steal_ns, found.machine.load_wait_ns) == (3e3, 3e6)
    assert found.machine.harness_ns == 3e5


def test_response_times_of_all_turns_are_in_one_histogram() -> None:
    one, other = (window(100, 1, response_ns) for response_ns in (50_000, 90_000))
    for each in (one, other):
        each.load = msgspec.structs.replace(each.load, response_hdr=each.load.service_hdr)
    merged = decode(total([one, other]).load.response_hdr)
    assert merged is not None
    assert merged.total_count == 200


def test_what_is_not_known_of_one_turn_is_not_known_of_their_sum() -> None:
    blind = window(1, 1)
    blind.machine = None
    assert total([window(1, 1), blind]).machine is None
    found = total([window(1, 1), window(1, 1, wait_ns=None)]).machine
    assert found is not None
    assert found.load_wait_ns is None


def test_no_turn_has_no_sum() -> None:
    with pytest.raises(ValueError, match="needs a turn"):
        total([])
