"""The plan of an open loop: when messages are due follows from rate, arrivals and seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clients.schedule import due_by, due_times_ns, planned, start

RATES = st.floats(0.01, 1e7)


def test_constant_arrivals_are_evenly_spaced_from_the_start() -> None:
    assert due_times_ns(planned(1000, "constant", seed=1), 4).tolist() == [0, 1_000_000, 2_000_000, 3_000_000]


@given(RATES)
@settings(deadline=None)
def test_constant_arrivals_do_not_drift(rate_hz: float) -> None:
    times_ns = due_times_ns(planned(rate_hz, "constant", seed=1), 10_000)
    assert abs(int(times_ns[-1]) - 9_999 * 1e9 / rate_hz) <= 1 + 1e-9 * times_ns[-1]
    assert np.ptp(np.diff(times_ns)) <= 1 + 1e-9 * times_ns[-1]


@given(RATES, st.integers(1, 9))
@settings(deadline=None)
def test_constant_arrivals_are_dealt_to_the_threads_in_turn(rate_hz: float, threads: int) -> None:
    alone = due_times_ns(planned(rate_hz, "constant", seed=1), 30 * threads)
    dealt = [due_times_ns(planned(rate_hz, "constant", 1, thread, threads), 30) for thread in range(threads)]
    assert np.abs(np.array(dealt).T.ravel() - alone).max() <= 1 + 1e-9 * alone[-1]


def gaps_ns(seed: int, thread: int = 0, threads: int = 1, count: int = 4096) -> list[int]:
    return np.diff(due_times_ns(planned(1000, "poisson", seed, thread, threads), count + 1)).tolist()


@pytest.mark.parametrize("seed", range(10))
def test_poisson_gaps_are_exponential(seed: int) -> None:
    """Anderson and Darling's A-squared for an exponential of estimated mean: 1.959 is passed once in 100 (D'Agostino
    and Stephens 1986, 4.14), 3.5 hardly ever."""
    gaps = np.sort(gaps_ns(seed))
    ranks = np.arange(1, len(gaps) + 1)
    below = -np.expm1(-gaps / gaps.mean())
    squared = -len(gaps) - np.mean((2 * ranks - 1) * (np.log(below) + np.log1p(-below[::-1])))
    assert squared < 3.5
    assert gaps.mean() == pytest.approx(1e6, rel=4 / np.sqrt(len(gaps)))


@pytest.mark.parametrize("seed", range(10))
def test_poisson_counts_vary_as_much_as_they_are_many(seed: int) -> None:
    times_ns = due_times_ns(planned(1000, "poisson", seed), 40_000)
    counts = np.bincount(times_ns // 20_000_000)[:-1]  # windows of 20 messages
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.15)


def test_poisson_gaps_have_no_memory() -> None:
    gaps = gaps_ns(seed=5, count=100_000)
    assert abs(stats.spearmanr(gaps[:-1], gaps[1:]).statistic) < 0.015


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert gaps_ns(7) == gaps_ns(7)
    assert gaps_ns(7) != gaps_ns(8)
    assert len(set(gaps_ns(7)) & set(gaps_ns(8))) < 40


def test_poisson_threads_are_independent_and_have_the_rate_together() -> None:
    first, second = gaps_ns(3, 0, 2), gaps_ns(3, 1, 2)
    assert first != second
    assert abs(stats.spearmanr(first, second).statistic) < 0.07
    assert np.mean(first) == pytest.approx(2e6, rel=0.07)


@given(RATES, st.sampled_from(["constant", "poisson"]), st.integers(0, 2**63), st.integers(0, 2000))
@settings(deadline=None)
def test_as_many_are_due_by_a_moment_as_were_planned_up_to_it(
    rate_hz: float, arrivals: str, seed: int, count: int
) -> None:
    plan = planned(rate_hz, arrivals, seed)
    times_ns = due_times_ns(plan, 2001)
    at_ns = int(times_ns[count])
    assert due_by(plan, at_ns) == np.count_nonzero(times_ns <= at_ns)
    assert due_by(plan, at_ns - 1) == np.count_nonzero(times_ns < at_ns)


def test_asking_what_is_due_does_not_move_the_plan() -> None:
    plan = planned(1000, "poisson", seed=1)
    before = due_times_ns(plan, 5).tolist()
    due_by(plan, 10**9)
    assert due_times_ns(plan, 5).tolist() == before


def test_a_plan_begins_when_it_is_told_to() -> None:
    plan = planned(1000, "poisson", seed=1)
    before = due_times_ns(plan, 100)
    start(plan, 5_000_000_000)
    assert (due_times_ns(plan, 100) - before).tolist() == [5_000_000_000] * 100


def test_gaps_are_never_negative_nor_without_end() -> None:
    times_ns = due_times_ns(planned(1e9, "poisson", seed=1), 1_000_000)
    assert np.diff(times_ns).min() >= 0
    assert times_ns[-1] == pytest.approx(1_000_000, rel=0.01)
