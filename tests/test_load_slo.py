"""The search for the highest rate that holds an objective, against a server that exists only as a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.record import Load as RecordedLoad
from bench.slo import holds
from clients import histogram
from clients.job import Job, JobError, Load
from clients.objective import PRECISION, Judgement, Objective, Verdict
from clients.slo import (
    MOST_STEPS,
    Answer,
    Step,
    conclusion,
    first_rate,
    judged,
    line,
    read_objective,
    search,
    without_plan,
)

JOB = Job(address="tcp:127.0.0.1:1", connections=4, message_bytes=1, duration_s=1.0, workload="open", rate_hz=100.0)
P99 = Objective(0.99, 5e6, "p99<5ms")


@pytest.mark.parametrize(
    ("text", "quantile", "limit_ns"),
    [
        ("p99<5ms", 0.99, 5e6),
        ("p50 < 120us", 0.5, 120e3),
        ("p99.9<=1.5s", 0.999, 1.5e9),
        (" p90<1ms ", 0.9, 1e6),
    ],
)
def test_an_objective_is_a_percentile_and_a_limit(text: str, quantile: float, limit_ns: float) -> None:
    assert read_objective(text)[:2] == (pytest.approx(quantile), limit_ns)


@pytest.mark.parametrize("text", ["", "p99", "p99>5ms", "p98<5ms", "p99<5", "p99<0ms", "99<5ms", "mean<5ms", "p99<5m"])
def test_anything_else_is_no_objective(text: str) -> None:
    with pytest.raises(JobError, match="p99<5ms"):
        read_objective(text)


# --- the search


def step(rate_hz: float, verdict: Verdict, few: bool = False) -> Step:
    return Step(rate_hz, Judgement(verdict, 1, few=few))


def server_with(
    capacity_hz: float, asked: list[float] | None = None, samples_s: float = 1.0
) -> Callable[[float], Step]:
    """A measure function: what is below the capacity holds, and what has fewer than 726 samples isn't known."""

    def measure(rate_hz: float) -> Step:
        if asked is not None:
            asked.append(rate_hz)
        if rate_hz > capacity_hz:
            return step(rate_hz, "missed")
        few = rate_hz * samples_s < 726
        return step(rate_hz, "unknown" if few else "held", few)

    return measure


@given(st.floats(1000, 5e6), st.floats(1000, 5e6))
def test_the_bracket_is_found_from_wherever_the_search_begins(capacity_hz: float, start_hz: float) -> None:
    asked: list[float] = []
    answer = search(server_with(capacity_hz, asked), start_hz)
    assert answer.holds_hz is not None
    assert answer.fails_hz is not None
    assert answer.holds_hz <= capacity_hz < answer.fails_hz <= answer.holds_hz * PRECISION
    assert [step.rate_hz for step in answer.steps] == asked
    assert len(asked) < MOST_STEPS


def test_a_rate_that_held_is_asked_for_once_and_one_that_was_missed_twice() -> None:
    asked: list[float] = []
    search(server_with(12_345, asked), 1000)
    assert {asked.count(rate_hz) for rate_hz in asked if rate_hz <= 12_345} == {1}
    assert {asked.count(rate_hz) for rate_hz in asked if rate_hz > 12_345} == {2}


@given(st.floats(2000, 1e5), st.integers(0, 7))
def test_a_single_spike_wherever_it_falls_changes_no_answer(capacity_hz: float, number: int) -> None:
    right, steps = server_with(capacity_hz), []

    def measure(rate_hz: float) -> Step:
        steps.append(rate_hz)
        return step(rate_hz, "missed") if len(steps) == number + 1 else right(rate_hz)

    assert search(measure, 1000)[:2] == search(right, 1000)[:2]


def test_a_client_that_is_too_slow_is_an_end_of_the_search_and_no_miss_of_the_server() -> None:
    answer = search(lambda rate_hz: step(rate_hz, "unknown" if rate_hz > 30_000 else "held"), 1000)
    assert answer.fails_hz is None
    assert answer.holds_hz is not None and answer.unknown_hz is not None
    assert answer.holds_hz <= 30_000 < answer.unknown_hz <= answer.holds_hz * PRECISION
    said = conclusion(answer, P99)
    assert "no longer at" not in said
    assert "the client was too slow: try --threads" in said


def test_a_rate_that_was_missed_once_and_unknown_once_is_unknown() -> None:
    seen: list[float] = []

    def measure(rate_hz: float) -> Step:
        seen.append(rate_hz)
        verdicts: tuple[Verdict, Verdict] = ("missed", "unknown")
        return step(rate_hz, "held" if rate_hz <= 1000 else verdicts[seen.count(rate_hz) - 1])

    answer = search(measure, 1000)
    assert answer.fails_hz is None
    assert answer.unknown_hz is not None


def test_a_server_that_holds_any_rate_is_not_asked_for_ever() -> None:
    answer = search(lambda rate_hz: step(rate_hz, "held"), 1000)
    assert answer.fails_hz is None
    assert answer.holds_hz is not None
    assert answer.holds_hz > 4e6


def test_a_server_that_holds_no_rate_is_not_asked_for_ever() -> None:
    answer = search(lambda rate_hz: step(rate_hz, "missed"), 1000)
    assert (answer.holds_hz, len(answer.steps)) == (None, 10)


def test_rates_with_too_few_samples_are_gone_up_from() -> None:
    answer = search(server_with(5000), 10)
    assert answer.steps[0].judgement.verdict == "unknown"
    assert answer.holds_hz == pytest.approx(5000, rel=0.06)


def test_where_only_rates_with_too_few_samples_are_left_the_search_ends_without_an_answer() -> None:
    answer = search(server_with(500), 1000)
    assert answer.holds_hz is None
    assert {step.judgement.verdict for step in answer.steps} == {"missed", "unknown"}
    assert "Longer windows" in conclusion(answer, P99)


def test_the_answer_is_a_sentence_with_its_bracket() -> None:
    assert conclusion(Answer(42_000.4, 44_000, []), P99) == (
        "p99 < 5 ms holds at 42,000 messages/s, and no longer at 44,000."
    )
    assert "No higher rate" in conclusion(Answer(42_000.4, None, []), P99)
    assert conclusion(Answer(None, 1.0, []), P99) == "No rate was found that holds p99 < 5 ms."


def test_a_step_is_told_with_its_reason() -> None:
    assert line(Step(1000.0, Judgement("unknown", 7_000_000, "the client sent late"))).split(maxsplit=3) == [
        *("1,000", "7", "ms"),
        "unknown: the client sent late",
    ]


# --- where it begins


def test_a_search_begins_with_half_of_what_a_closed_loop_comes_to() -> None:
    assert first_rate(a_window([1000] * 46_000)) == 23_000
    with pytest.raises(JobError, match="no message was completed"):
        first_rate(a_window([]))


def test_the_closed_loop_that_it_begins_with_has_all_but_the_plan() -> None:
    asked = replace(JOB, connections=7, arrivals="poisson", cap=9)
    assert without_plan(asked) == replace(JOB, connections=7, arrivals="poisson", workload="closed", rate_hz=0.0)
    idle = replace(JOB, workload="idle", silent=5)
    assert without_plan(idle) == replace(idle, rate_hz=0.0)


# --- one window


def encoded(values_ns: list[int]) -> str:
    recorded = histogram.empty()
    histogram.count_all(recorded, np.array(values_ns, np.int64))
    return histogram.encode(recorded)


def a_window(values_ns: list[int], busy: float = 0.1, lag_ns: int = 0, mute: int = 0, **counts: int) -> Load:
    text = encoded(values_ns)
    figures = {"completed": len(values_ns), "timed_out": 0, "unsent": 0, "in_flight": 0, **counts}
    return Load(
        opened_ns=0,
        closed_ns=10**9,
        connections=4,
        planned=sum(figures.values()),
        errors={},
        bytes_echoed=0,
        interval_ns=10**8,
        intervals=[],
        service_hdr=text,
        cpu_user_ns=0,
        cpu_system_ns=0,
        worker_busy=[busy],
        response_hdr=text,
        lag_hdr=encoded([lag_ns] * 1000) if lag_ns else "",
        mute=mute,
        **figures,
    )


SLOW = [1000] * 980 + [5_100_000] * 20
WINDOWS: dict[str, tuple[Load, Verdict, str]] = {
    "below the limit": (a_window([4_900_000] * 1000), "held", ""),
    "at the limit": (a_window([5_000_000] * 1000), "held", ""),
    "above it": (a_window(SLOW), "missed", "too slow"),
    "a hundredth unanswered": (a_window([1000] * 990, unsent=5, in_flight=5), "held", ""),
    "more than that unanswered": (a_window([1000] * 989, unsent=6, in_flight=5), "missed", "98.9% answered"),
    # Of those that were answered 99 % were in time; of those that were planned they were not.
    "slow ones and unanswered ones": (
        a_window([1000] * 985 + [9_000_000] * 9, unsent=6),
        "missed",
        "too slow",
    ),
    "an error": (a_window([1000] * 1000, timed_out=1), "missed", "1 failed"),
    "connections without an echo": (a_window([1000] * 1000, mute=2), "missed", "2 connections without an echo"),
    "too few messages": (a_window([1000] * 725), "unknown", "too few messages"),
    "a busy client": (a_window(SLOW, busy=0.9), "unknown", "the client was the limit"),
    "a late client": (a_window(SLOW, lag_ns=2_000_000), "unknown", "the client sent late"),
    "a late client, and held all the same": (a_window([4_900_000] * 1000, lag_ns=2_000_000), "held", ""),
    "a client that was late, but little": (a_window(SLOW, lag_ns=90_000), "missed", "too slow"),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_a_window_is_judged_by_a_percentile_of_all_planned_messages(name: str) -> None:
    window, verdict, reason = WINDOWS[name]
    judgement = judged(JOB, window, P99).judgement
    assert (judgement.verdict, judgement.reason) == (verdict, reason)


@pytest.mark.parametrize("name", WINDOWS)
def test_a_sweep_says_of_the_same_window_what_load_says(name: str) -> None:
    window, verdict, reason = WINDOWS[name]
    expected = None if verdict == "unknown" and reason != "too few messages" else verdict == "held"
    assert holds(P99, msgspec.convert(asdict(window), RecordedLoad)) is expected


def test_where_messages_are_to_wait_under_a_cap_lateness_is_no_excuse() -> None:
    late = a_window(SLOW, lag_ns=2_000_000)
    assert judged(replace(JOB, cap=8), late, P99).judgement.verdict == "missed"
