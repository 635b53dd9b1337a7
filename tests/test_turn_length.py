"""How long a turn is, and how many there are in a round."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic_turns import trial

from bench.turn_length import (
    EACH_CONNECTION_S,
    LEAST_SETTLING_S,
    SLEEPING_SETTLING_S,
    TURN_S,
    length,
    turns_s,
)


def test_a_turn_is_as_short_as_it_may_be_and_all_of_them_last_as_long_as_the_trial() -> None:
    found = length(trial(duration_s=40 * TURN_S))
    assert (found.turns, found.duration_s) == (40, pytest.approx(TURN_S))


@pytest.mark.parametrize("total_s", [0.18, 0.2, 0.33, 1.0, 7.77])
@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("connections", [1, 128, 10_000])
def test_turns_last_in_all_as_long_as_asked(total_s: float, even: bool, connections: int) -> None:
    found = length(trial(connections), total_s, even=even)
    assert found.turns * found.duration_s == pytest.approx(total_s)


def test_a_turn_is_longer_the_more_connections_there_are_so_that_each_has_its_share() -> None:
    lengths_s = [length(trial(connections), 60.0).duration_s for connections in (16, 64, 128, 1000)]
    assert lengths_s[0] == lengths_s[1] == pytest.approx(TURN_S)
    assert lengths_s[2:] == [pytest.approx(EACH_CONNECTION_S * number, rel=0.01) for number in (128, 1000)]


@pytest.mark.parametrize(("connections", "depth", "sleeps"), [(1, 1, True), (7, 1, True), (8, 1, False), (1, 8, False)])
def test_where_cpus_sleep_between_messages_a_turn_is_longer_and_has_longer_to_settle(
    connections: int, depth: int, sleeps: bool
) -> None:
    found = length(trial(connections, depth=depth))
    assert (found.duration_s > 2 * TURN_S) == sleeps
    assert (found.warmup_s >= SLEEPING_SETTLING_S) == sleeps


@pytest.mark.parametrize("changes", [{}, {"connections": 1}, {"connections": 1000}, {"planned_hz": 50.0}])
def test_what_turns_take_is_more_than_their_windows(changes: dict[str, Any]) -> None:
    one = trial(**changes)
    found = length(one)
    assert turns_s(one) > found.turns * (found.warmup_s + found.duration_s) > one.duration_s


@pytest.mark.parametrize("plan", [{"planned_hz": 1000.0}, {"load_fraction": 0.5}])
def test_a_turn_of_planned_sends_is_longer(plan: dict[str, float]) -> None:
    assert length(trial(workload="open", **plan)).duration_s > 1.5 * length(trial()).duration_s


@pytest.mark.parametrize(("turns", "number"), [(0.2, 2), (2.9, 2), (3.1, 4), (8, 8), (9.2, 10)])
def test_where_sides_are_to_be_first_as_often_as_second_the_number_of_turns_is_even(turns: float, number: int) -> None:
    assert length(trial(), turns * TURN_S, even=True).turns == number


def test_there_is_one_turn_at_least_however_short_the_time() -> None:
    found = length(trial(10_000, duration_s=0.1))
    assert (found.turns, found.duration_s) == (1, 0.1)


def test_what_comes_before_a_window_is_a_share_of_it_and_never_less_than_a_switch_takes() -> None:
    assert length(trial(1000), 0.4).warmup_s == pytest.approx(0.02)
    assert length(trial(), 0.001).warmup_s == LEAST_SETTLING_S
