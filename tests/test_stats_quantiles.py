"""Intervals of quantiles between order statistics: their ranks, and how often they cover the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from bench.histograms import percentiles_us
from bench.stats import quantile_ranks, samples_needed

P99 = np.array([0.99])


def test_the_median_of_ten_lies_between_the_second_and_the_ninth() -> None:
    low, high = quantile_ranks(10, np.array([0.5]))
    assert (low[0], high[0]) == (2, 9)


@given(st.integers(1, 10**7), st.floats(0.001, 0.9999))
def test_the_ranks_are_those_of_the_binomial_distribution(n: int, p: float) -> None:
    low, high = quantile_ranks(n, np.array([p]))
    assert low[0] == max(0, binom.ppf(0.025, n, p))
    assert high[0] == binom.ppf(0.975, n, p) + 1


@given(st.integers(1, 10**6), st.floats(0.01, 0.999))
def test_the_ranks_enclose_the_quantile_with_at_least_95_percent(n: int, p: float) -> None:
    low, high = quantile_ranks(n, np.array([p]))
    assert binom.cdf(high[0] - 1, n, p) - binom.cdf(low[0] - 1, n, p) >= 0.95 - 1e-12


def test_too_few_samples_have_no_limit() -> None:
    low, high = quantile_ranks(3, np.array([0.5, 0.99]))
    assert list(low) == [0, 2]
    assert list(high) == [4, 4]


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99, 0.999, 0.9999])
def test_with_as_many_samples_as_are_asked_for_both_limits_are_within_the_sample(quantile: float) -> None:
    needed = samples_needed(quantile)
    low, high = quantile_ranks(needed, np.array([quantile]))
    assert 1 <= low[0] < high[0] <= needed


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_the_95_percent_interval_covers_the_truth_in_93_to_98_percent_of_2000_replications(quantile: float) -> None:
    """Waiting times of an M/M/1 queue, recorded in histograms as a trial's are."""
    rng = np.random.default_rng(11)
    mean_ns, samples, hits = 2e6, 2000, 0
    truth_us = -np.log(1 - quantile) * mean_ns / 1e3
    hist = HdrHistogram(1, 10**12, 3)
    counts = np.ctypeslib.as_array(hist.counts)
    starts = np.array([hist.get_value_from_index(index) for index in range(40 * 1024) if index < len(counts)])
    for _ in range(2000):
        counts[:] = 0
        places = np.searchsorted(starts, rng.exponential(mean_ns, samples), side="right") - 1
        np.add.at(counts, places, 1)
        hist.total_count = samples
        hist.max_value = hist.get_value_from_index(int(places.max()))
        found = percentiles_us(hist, [quantile])
        hits += bool(found.low[0] <= truth_us <= found.high[0])
    assert 0.93 <= hits / 2000 <= 0.98


# --- percentiles of a histogram


def recorded(*values_us: int) -> HdrHistogram:
    hist = HdrHistogram(1, 10**12, 3)
    for value in values_us:
        hist.record_value(value * 1000)
    return hist


def test_a_percentile_lies_within_its_interval() -> None:
    found = percentiles_us(recorded(*range(1, 1001)), [0.5, 0.9, 0.99])
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()
    assert found.value == pytest.approx([500, 900, 990], rel=0.002)
    assert (found.low[0], found.high[0]) == pytest.approx((469, 532), rel=0.002)
    assert not found.bound.any()


def test_a_percentile_that_too_few_samples_can_tell_is_withheld_with_its_interval() -> None:
    few, enough = (percentiles_us(recorded(*range(1, n + 1)), [0.99]) for n in (725, 726))
    assert np.isnan([few.value[0], few.low[0], few.high[0]]).all()
    assert np.isfinite([enough.value[0], enough.low[0], enough.high[0]]).all()


def test_a_percentile_that_unfinished_messages_reach_into_is_a_lower_bound() -> None:
    found = percentiles_us(recorded(*range(1, 1801)), [0.5, 0.9, 0.99], unfinished=200)  # 1800 of 2000: 90 %
    assert list(found.bound) == [False, False, True]


def test_the_upper_limit_counts_unfinished_messages_as_the_longest() -> None:
    hist = recorded(*range(1, 1801))
    without, with_them = percentiles_us(hist, [0.5, 0.99]), percentiles_us(hist, [0.5, 0.99], unfinished=200)
    assert with_them.high[0] > without.high[0]
    assert with_them.high[1] == np.inf
    assert list(with_them.low) == list(without.low)
    assert list(with_them.value) == list(without.value)
