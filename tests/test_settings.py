"""What makes up a setting, whether it is measured in turns, and how one that is too large is dealt to blocks."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bench.external import read_externals
from bench.plan import capacity_trial, make_plan
from bench.record import StrategyInfo, Trial
from bench.settings import MOST_OPEN, in_settings, key_of, why_whole
from bench.sweep import from_values


def trial(strategy: str = "epoll_lt", **changes: Any) -> Trial:
    fields: dict[str, Any] = {
        "transport": "tcp",
        "connections": 4,
        "message_bytes": 64,
        "workload": "closed",
        "warmup_s": 0.1,
        "duration_s": 0.2,
        "repeat": 1,
        "seed": 2,
    }
    return Trial(strategy=strategy, **(fields | changes))


def known(*names: str) -> list[StrategyInfo]:
    return [
        StrategyInfo(
            name=name,
            module=name,
            summary="",
            model="multiplexing",
            transports=["tcp", "pipe"],
            concurrent=True,
            available=True,
            reason="",
            doc="",
        )
        for name in names
    ]


def test_strategies_on_all_interpreters_are_in_one_setting() -> None:
    trials = [trial("a"), trial("b"), trial("a", python="python3.13")]
    (setting,) = in_settings(trials, {})
    assert setting.trials == trials
    assert setting.in_turns


@pytest.mark.parametrize(
    "changes",
    [{"connections": 5}, {"transport": "unix"}, {"message_bytes": 65}, {"workload": "burst"}, {"planned_hz": 10.0}],
)
def test_what_differs_in_its_load_is_another_setting(changes: dict[str, Any]) -> None:
    assert key_of(trial(**changes)) != key_of(trial())


def test_one_alone_has_nobody_to_take_turns_with() -> None:
    (setting,) = in_settings([trial()], {})
    assert not setting.in_turns
    assert setting.whole == ""


def test_a_server_that_was_running_before_can_not_be_stopped_and_so_nobody_takes_turns() -> None:
    (external,) = read_externals([{"name": "theirs", "address": "tcp:127.0.0.1:9000"}], None)
    why = why_whole([trial(), trial("theirs")], {"theirs": external})
    assert why == "theirs was running before and can't be stopped while others have their turns"


def test_slow_peers_take_no_turns() -> None:
    assert "a slow peer takes longer" in why_whole([trial("a", workload="slow"), trial("b", workload="slow")], {})


def test_searches_take_no_turns() -> None:
    settings = in_settings([trial("a"), trial("b")], {}, slo="p99<5ms")
    assert [setting.in_turns for setting in settings] == [False, False]
    assert {setting.whole for setting in settings} == {"each search goes its own way"}


def test_more_connections_than_can_be_open_twice_are_measured_as_a_whole() -> None:
    both = [trial(name, connections=MOST_OPEN // 2 + 1) for name in "ab"]
    assert "can't be open twice at once" in why_whole(both, {})
    assert why_whole([trial(name, connections=MOST_OPEN // 2) for name in "ab"], {}) == ""


def test_a_setting_that_is_too_large_is_dealt_to_blocks_with_one_strategy_in_common() -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    connections = MOST_OPEN // 3
    values = {"connections": [connections], "repeats": 2, "strategies": names}
    plan = make_plan(from_values("many", values, "many"), known(*names))
    for number in (1, 2):
        settings = plan.settings(plan.round(number))
        assert all(setting.in_turns and len(setting.trials) <= 3 for setting in settings)
        met = Counter(one.strategy for setting in settings for one in setting.trials)
        assert met == Counter({"a": 3} | dict.fromkeys(names[1:], 1))
    assert len({one.id for one in plan.trials}) == len(plan.trials) == 16


def test_who_is_in_a_block_with_whom_changes_from_round_to_round() -> None:
    names = [*"abcdefgh"]
    values = {"connections": [MOST_OPEN // 3], "repeats": 6, "strategies": names}
    plan = make_plan(from_values("many", values, "many"), known(*names))
    met = {
        frozenset(one.strategy for one in setting.trials)
        for number in range(1, 7)
        for setting in plan.settings(plan.round(number))
    }
    assert len(met) > 4


def test_pipes_count_twice_for_they_take_two_descriptors() -> None:
    values = {"connections": [MOST_OPEN // 6], "repeats": 1, "strategies": [*"abcdef"], "transports": ["tcp", "pipe"]}
    plan = make_plan(from_values("many", values, "many"), known(*"abcdef"))
    sizes = Counter((setting.trials[0].transport, len(setting.trials)) for setting in plan.settings(plan.round(1)))
    assert sizes[("tcp", 6)] == 1
    assert sizes[("pipe", 3)] > 1


def test_the_closed_loops_that_rates_come_from_are_measured_before_and_once() -> None:
    values = {
        "connections": [1, 4],
        "repeats": 3,
        "strategies": ["a", "b"],
        "workloads": [{"kind": "open", "load": [0.5, 0.9]}, "closed"],
    }
    plan = make_plan(from_values("rates", values, "rates"), known("a", "b"))
    assert len({one.id for one in plan.trials}) == len(plan.trials) == 3 * 2 * 2 * 3
    order = {one.id: place for place, one in enumerate(plan.trials)}
    for one in plan.trials:
        capacity = capacity_trial(one)
        assert capacity is None or order[capacity.id] < order[one.id]


def test_settings_and_strategies_have_another_order_in_each_round() -> None:
    values = {"connections": [*range(1, 9)], "repeats": 5, "strategies": [*"abcdefgh"]}
    plan = make_plan(from_values("order", values, "order"), known(*"abcdefgh"))
    rounds = [plan.round(number) for number in range(1, 6)]
    assert len({tuple(one.connections for one in trials) for trials in rounds}) == 5
    assert len({tuple(one.strategy for one in trials) for trials in rounds}) == 5
    assert [one for trials in rounds for one in trials] == plan.trials
