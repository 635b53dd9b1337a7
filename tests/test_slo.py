"""Latency objectives, and the search for the highest rate that holds one, against servers whose limit is known."""

from __future__ import annotations

from typing import Any

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.record import Load, Record, Trial
from bench.slo import MAX_STEPS, answer, holds, next_step
from clients.objective import PRECISION, bracket, read_objective

OBJECTIVE = read_objective("p99<5ms")
START = Trial(
    strategy="epoll",
    transport="tcp",
    connections=16,
    message_bytes=64,
    workload="closed",
    warmup_s=0.2,
    duration_s=0.8,
    repeat=1,
    seed=1,
)


def load(completed: int, times_ms: dict[float, int] | None = None, **facts: Any) -> Load:
    """A second in which so many messages came back, after these times."""
    made = HdrHistogram(1, 100_000_000_000, 3)
    for time_ms, messages in (times_ms or {}).items():
        made.record_value(int(time_ms * 1e6), messages)
    usual: dict[str, Any] = {
        "opened_ns": 0,
        "closed_ns": 10**9,
        "connections": 16,
        "planned": completed,
        "completed": completed,
        "errors": {},
        "timed_out": 0,
        "unsent": 0,
        "in_flight": 0,
        "bytes_echoed": 0,
        "interval_ns": 10**8,
        "intervals": [],
        "service_hdr": "",
        "response_hdr": made.encode().decode() if times_ms else "",
        "cpu_user_ns": 0,
        "cpu_system_ns": 0,
        "worker_busy": [0.1],
    }
    return Load(**usual | facts)


def record(trial: Trial, held: bool | None = None, **facts: Any) -> Record:
    return Record(**{"id": trial.id, "trial": trial, "status": "ok", "held": held} | facts)


def begun(capacity: int) -> dict[str, Record]:
    return {START.id: record(START, load=load(capacity))}


def searched(capacity: int, limit_hz: float) -> dict[str, Record]:
    """All records of a search against a server that holds the objective up to a limit."""
    records = begun(capacity)
    while step := next_step(OBJECTIVE, START, records):
        assert step.id not in records
        records[step.id] = record(step, step.planned_hz <= limit_hz, bottleneck="server")
    return records


# --- whether an objective holds


@pytest.mark.parametrize(
    ("times_ms", "planned", "expected"),
    [
        ({1: 990, 9: 10}, 1000, True),
        ({1: 989, 9: 11}, 1000, False),
        ({1: 990}, 1000, True),  # ten without an answer are ten too late
        ({1: 989}, 1000, False),
        ({5: 1000}, 1000, True),
        ({5.1: 1000}, 1000, False),
        ({1: 725}, 725, False),  # too few to tell a p99
        ({1: 726}, 726, True),
        (None, 1000, False),
    ],
)
def test_an_objective_holds_where_enough_of_all_planned_messages_came_in_time(
    times_ms: dict[float, int] | None, planned: int, expected: bool
) -> None:
    answered = sum((times_ms or {}).values())
    assert holds(OBJECTIVE, load(answered, times_ms, planned=planned)) is expected


# --- the search


def test_a_search_begins_with_half_of_what_the_closed_loop_came_to() -> None:
    assert next_step(OBJECTIVE, START, {}) is None
    first = next_step(OBJECTIVE, START, begun(100_000))
    assert first is not None
    assert (first.workload, first.arrivals, first.planned_hz) == ("open", "poisson", 50_000.0)
    assert (first.slo, first.connections, first.repeat, first.seed) == ("p99<5ms", 16, 1, 1)


@pytest.mark.parametrize("limit_hz", [300.0, 49_000.0, 50_000.0, 51_000.0, 400_000.0])
def test_a_search_encloses_the_limit_within_five_percent(limit_hz: float) -> None:
    records = searched(100_000, limit_hz)
    found = answer(OBJECTIVE, START, records)
    assert found.held_hz <= limit_hz < found.missed_hz <= found.held_hz * PRECISION
    assert (found.finished, found.reason, found.limit) == (True, "", "server")
    assert found.steps == [one.id for one in records.values()][1:]


@settings(deadline=None)
@given(st.integers(1, 10**7), st.floats(0.1, 1e9))
def test_a_search_ends_after_a_bounded_number_of_steps(capacity: int, limit_hz: float) -> None:
    records = searched(capacity, limit_hz)
    found = answer(OBJECTIVE, START, records)
    assert len(found.steps) == len(records) - 1 <= MAX_STEPS
    assert found.finished
    assert found.held_hz <= limit_hz
    assert found.missed_hz == 0 or found.missed_hz > limit_hz


@settings(deadline=None)
@given(st.integers(100, 10**6), st.floats(10, 1e6), st.integers(0, MAX_STEPS))
def test_a_search_that_was_cut_short_goes_on_as_it_would_have(capacity: int, limit_hz: float, after: int) -> None:
    whole = searched(capacity, limit_hz)
    cut = dict(list(whole.items())[: after + 1])
    step = next_step(OBJECTIVE, START, cut)
    following = [one.trial for one in whole.values()][after + 1 :]
    assert step == (following[0] if following else None)
    assert answer(OBJECTIVE, START, cut).finished is not bool(following)


def test_a_step_is_long_enough_to_tell_its_percentile() -> None:
    slow = next_step(OBJECTIVE, START, begun(1000))
    assert slow is not None and slow.planned_hz == 500.0
    assert slow.duration_s * slow.planned_hz >= 1.2 * 726
    fast = next_step(OBJECTIVE, START, begun(100_000))
    assert fast is not None and fast.duration_s == START.duration_s
    never = next_step(read_objective("p99.99<5ms"), START, begun(100))
    assert never is not None and never.duration_s == 30.0


def test_without_a_closed_loop_there_is_no_answer_and_the_reason_is_told() -> None:
    failed = {START.id: record(START, status="failed", reason="the server died")}
    assert next_step(OBJECTIVE, START, failed) is None
    found = answer(OBJECTIVE, START, failed)
    assert (found.held_hz, found.missed_hz, found.finished) == (0.0, 0.0, True)
    assert found.reason == "the closed loop that it starts from is failed: the server died"


def test_an_objective_that_nothing_holds_ends_with_the_lowest_rate_tried() -> None:
    found = answer(OBJECTIVE, START, searched(1000, 0.0))
    assert (found.held_hz, found.finished) == (0.0, True)
    assert found.reason == f"it was missed even at {found.missed_hz:,.4g} messages/s"


def test_a_step_of_which_nothing_can_be_told_does_not_hold_either() -> None:
    records = begun(1000)
    first = next_step(OBJECTIVE, START, records)
    assert first is not None
    records[first.id] = record(first, None)
    second = next_step(OBJECTIVE, START, records)
    assert second is not None and second.planned_hz < first.planned_hz
    assert answer(OBJECTIVE, START, records).limit == "client"


def test_a_failed_step_does_not_hold() -> None:
    records = begun(1000)
    first = next_step(OBJECTIVE, START, records)
    assert first is not None
    records[first.id] = record(first, None, status="failed", reason="errors: 3 reset")
    second = next_step(OBJECTIVE, START, records)
    assert second is not None and second.planned_hz < first.planned_hz


def test_a_bracket_is_the_highest_that_held_and_the_lowest_that_did_not() -> None:
    assert bracket([]) == (0.0, 0.0)
    assert bracket([(500, True), (1000, False), (700, True), (800, False)]) == (700, 800)
