"""A trial that is measured as a whole is judged by the rule by which turns don't count."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import synthetic

from bench.record import LoadHost, Machine, Record, Turn
from bench.trial import judge

SECOND_NS = synthetic.SECOND_NS


def judged(demand_ns: float, **about: Any) -> Record:
    """A second in which the server ran for 0.1 s, its CPU was never idle, and its one thread ran or waited so long."""
    machine = Machine(
        server_idle_ns=0,
        server_steal_ns=0,
        load_cpus=[1],
        load_idle_ns=0.3 * SECOND_NS,
        load_steal_ns=0,
        load_wait_ns=0,
        **about.pop("machine", {}),
    )
    server = synthetic.server(1e5, 1.0, 0.4)
    server.metrics["thread_demand_ns"] = demand_ns
    record = synthetic.record(server=server, machine=machine, **about)
    judge(record)
    return record


def test_a_server_that_waited_for_its_cpu_most_of_the_window_flags_the_trial() -> None:
    assert "disturbed" in judged(0.93 * SECOND_NS).flags
    assert "disturbed" not in judged(0.12 * SECOND_NS).flags


def test_a_trial_that_a_cpu_quota_stopped_is_flagged_with_that_cause() -> None:
    flags = judged(0.93 * SECOND_NS, machine={"throttled_periods": 9, "throttled_ns": 7e8}).flags
    assert "throttled" in flags and "disturbed" not in flags


def test_a_quota_is_told_also_of_a_server_of_which_nothing_is_known() -> None:
    record = judged(0, machine={"throttled_periods": 1})
    assert record.server is not None
    record.server.metrics = {}
    judge(record)
    assert "throttled" in record.flags


def test_of_a_trial_in_turns_the_turns_are_judged_and_not_their_sum() -> None:
    turn = Turn(opened_ns=0, closed_ns=SECOND_NS, completed=100_000)
    assert "disturbed" not in judged(0.93 * SECOND_NS, turns=[turn]).flags


@pytest.mark.parametrize(("quota", "flags"), [({}, set()), ({"throttled_periods": 1}, {"throttled"})])
def test_of_several_load_hosts_only_the_quota_is_judged(quota: dict[str, int], flags: set[str]) -> None:
    host = LoadHost(
        name="a", connections=1, completed=1, offered_hz=0, start_ns=0, uncertainty_ns=0, window_ns=1, busy=0.1
    )
    record = judged(0.93 * SECOND_NS, load_hosts=[host, msgspec.structs.replace(host, name="b")], machine=quota)
    assert {*record.flags} & {"disturbed", "throttled"} == flags
