"""The search for the highest rate that holds an objective, against a server that exists only as a function."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import histogram
from clients.job import Job, JobError, Load
from clients.slo import PRECISION, Answer, Objective, Step, Verdict, conclusion, judge, read_objective, search

JOB = Job(address="tcp:127.0.0.1:1", connections=4, message_bytes=1, duration_s=1.0, workload="open", rate_hz=100.0)
P99 = Objective("p99", 5e6)


@pytest.mark.parametrize(
    ("text", "level", "limit_ns"),
    [
        ("p99<5ms", "p99", 5e6),
        ("p50 < 120us", "p50", 120e3),
        ("p99.9<=1.5s", "p99.9", 1.5e9),
        (" p90<1ms ", "p90", 1e6),
    ],
)
def test_an_objective_is_a_percentile_and_a_limit(text: str, level: str, limit_ns: float) -> None:
    assert read_objective(text) == Objective(level, limit_ns)


@pytest.mark.parametrize("text", ["", "p99", "p99>5ms", "p98<5ms", "p99<5", "p99<0ms", "99<5ms", "mean<5ms", "p99<5m"])
def test_anything_else_is_no_objective(text: str) -> None:
    with pytest.raises(JobError, match="p99<5ms"):
        read_objective(text)


def server_with(capacity_hz: float, asked: list[float] | None = None, samples_s: float = 1.0) -> object:
    """A measure function: what is below the capacity holds, and what has fewer than 726 samples isn't known."""

    def measure(rate_hz: float) -> Step:
        if asked is not None:
            asked.append(rate_hz)
        verdict: Verdict = "missed" if rate_hz > capacity_hz else "held" if rate_hz * samples_s >= 726 else "unknown"
        return Step(rate_hz, 1, verdict)

    return measure


@given(st.floats(1000, 5e6), st.floats(1000, 5e6))
def test_the_bracket_is_found_from_wherever_the_search_begins(capacity_hz: float, start_hz: float) -> None:
    asked: list[float] = []
    answer = search(server_with(capacity_hz, asked), start_hz)  # type: ignore[arg-type]
    assert answer.holds_hz is not None
    assert answer.fails_hz is not None
    assert answer.holds_hz <= capacity_hz < answer.fails_hz <= answer.holds_hz * PRECISION
    assert len(asked) <= 20
    assert [step.rate_hz for step in answer.steps] == asked


def test_every_step_is_at_a_rate_of_its_own() -> None:
    asked: list[float] = []
    search(server_with(12_345, asked), 1000)  # type: ignore[arg-type]
    assert len(set(asked)) == len(asked)


def test_a_server_that_holds_any_rate_is_not_asked_for_ever() -> None:
    answer = search(lambda rate_hz: Step(rate_hz, 1, "held"), 1000)
    assert answer.fails_hz is None
    assert answer.holds_hz is not None
    assert answer.holds_hz > 4e6


def test_a_server_that_holds_no_rate_is_not_asked_for_ever() -> None:
    answer = search(lambda rate_hz: Step(rate_hz, 1, "missed"), 1000)
    assert (answer.holds_hz, len(answer.steps)) == (None, 10)


def test_rates_with_too_few_samples_are_gone_up_from() -> None:
    answer = search(server_with(5000), 10)  # type: ignore[arg-type]
    assert answer.steps[0].verdict == "unknown"
    assert answer.holds_hz == pytest.approx(5000, rel=0.06)


def test_where_only_rates_with_too_few_samples_are_left_the_search_ends_without_an_answer() -> None:
    answer = search(server_with(500), 1000)  # type: ignore[arg-type]
    assert answer.holds_hz is None
    assert {step.verdict for step in answer.steps} == {"missed", "unknown"}
    assert "Longer windows" in conclusion(answer, P99)


def test_the_answer_is_a_sentence_with_its_bracket() -> None:
    assert conclusion(Answer(42_000.4, 44_000, []), P99) == (
        "p99 < 5 ms holds at 42,000 messages/s, and no longer at 44,000."
    )
    assert "no higher rate" in conclusion(Answer(42_000.4, None, []), P99)


def a_window(values_ns: list[int], busy: float = 0.1, **counts: int) -> Load:
    recorded = histogram.empty()
    histogram.count_all(recorded, np.array(values_ns, np.int64))
    text = histogram.encode(recorded)
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
        **figures,
    )


def test_a_window_below_the_limit_holds() -> None:
    assert judge(JOB, a_window([4_900_000] * 1000), P99).verdict == "held"


def test_a_window_at_the_limit_misses() -> None:
    step = judge(JOB, a_window([1000] * 980 + [5_100_000] * 20), P99)
    assert (step.verdict, step.reason) == ("missed", "too slow")


def test_a_window_that_left_more_than_a_hundredth_undone_misses() -> None:
    assert judge(JOB, a_window([1000] * 990, unsent=5, in_flight=5), P99).verdict == "held"
    step = judge(JOB, a_window([1000] * 989, unsent=6, in_flight=5), P99)
    assert (step.verdict, step.reason) == ("missed", "98.9% done in time")


def test_a_window_with_an_error_misses() -> None:
    step = judge(JOB, a_window([1000] * 1000, timed_out=1), P99)
    assert (step.verdict, step.reason) == ("missed", "1 failed")


def test_a_window_with_too_few_samples_tells_nothing() -> None:
    assert judge(JOB, a_window([1000] * 725), P99).verdict == "unknown"


def test_a_miss_that_is_the_client_s_says_so() -> None:
    assert "client" in judge(JOB, a_window([9_000_000] * 1000, busy=0.9), P99).reason
