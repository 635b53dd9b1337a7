"""The statistics of the gate's pairs, held against known answers, brute force and simulated machines."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, wilcoxon

from bench.gate.statistics import (
    detectable,
    paired_effect,
    quantile_effect,
    signed_rank_p,
    unpaired_effect,
)

RNG = np.random.default_rng(20)


def histogram(values_us: np.ndarray) -> str:
    hist = HdrHistogram(1_000, 100_000_000_000, 3)
    for value in values_us:
        hist.record_value(int(value * 1000))
    text: bytes = hist.encode()
    return text.decode()


@given(st.lists(st.integers(-1000, 1000).filter(bool), min_size=1, max_size=30, unique_by=abs))
def test_without_ties_the_p_value_is_scipys_exact_one(values: list[int]) -> None:
    expected = wilcoxon(values, alternative="greater", method="exact").pvalue
    assert signed_rank_p(values) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=30)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_with_ties_and_zeros_the_p_value_is_that_of_all_signs_tried_one_after_the_other(values: list[int]) -> None:
    ranks = rankdata(np.abs(values))
    used = [rank for rank, value in zip(ranks, values, strict=True) if value]
    reached = sum(rank for rank, value in zip(ranks, values, strict=True) if value > 0)
    sums = [
        sum(rank for rank, sign in zip(used, signs, strict=True) if sign) for signs in product((0, 1), repeat=len(used))
    ]
    expected = sum(total >= reached for total in sums) / len(sums)
    assert signed_rank_p(values) == pytest.approx(expected, abs=1e-12)


def test_nothing_but_zeros_is_no_evidence() -> None:
    assert signed_rank_p([0.0] * 20) == 1.0
    assert signed_rank_p([]) == 1.0


def test_ten_pairs_that_all_say_worse_have_the_smallest_p_there_is() -> None:
    assert signed_rank_p([0.1 + i / 100 for i in range(10)]) == pytest.approx(2**-10)


def test_the_estimate_is_the_median_of_the_walsh_averages() -> None:
    logs = [math.log(ratio) for ratio in (1.1, 1.2, 1.9)]
    averages = sorted([*logs, *((logs[i] + logs[j]) / 2 for i, j in ((0, 1), (0, 2), (1, 2)))])
    assert math.log(paired_effect(logs, 0.975).ratio) == pytest.approx((averages[2] + averages[3]) / 2)


def test_the_interval_holds_the_truth_in_95_of_100_runs() -> None:
    for pairs in (10, 30):
        inside = 0
        for _ in range(2000):
            effect = paired_effect(list(RNG.standard_t(4, pairs) * 0.03), 0.975)
            inside += effect.low <= 1 <= effect.high
        assert 0.93 <= inside / 2000 <= 0.97, pairs


def test_the_one_sided_limit_is_exceeded_as_seldom_as_it_says() -> None:
    above = sum(paired_effect(list(RNG.normal(0.05, 0.05, 20)), 0.975).upper < math.exp(0.05) for _ in range(2000))
    assert above / 2000 < 0.035


def test_too_few_pairs_have_no_limits() -> None:
    effect = paired_effect([0.1, 0.2, 0.3], 0.975)
    assert (effect.low, effect.high, effect.upper) == (0.0, math.inf, math.inf)
    assert math.isfinite(effect.error)
    with pytest.raises(ValueError, match="pair"):
        paired_effect([], 0.975)


@given(st.lists(st.floats(-0.5, 0.5), min_size=8, max_size=25))
def test_exchanging_base_and_head_turns_the_effect_round(logs: list[float]) -> None:
    one, other = paired_effect(logs, 0.975), paired_effect([-value for value in logs], 0.975)
    assert one.ratio == pytest.approx(1 / other.ratio)
    assert one.low == pytest.approx(1 / other.high)
    assert one.error == pytest.approx(other.error, abs=1e-12)


def test_a_quantile_is_that_of_the_merged_histograms_and_not_a_mean_of_quantiles() -> None:
    calm, wild = np.full(1000, 100.0), np.concatenate([np.full(900, 100.0), np.full(100, 5000.0)])
    base = [histogram(calm)] * 10
    head = [histogram(calm)] * 9 + [histogram(wild)]  # 1 % of all messages, which is not above p99
    effect = quantile_effect(0.99, base, head, [0.0] * 10, 0.975)
    assert effect.ratio == pytest.approx(1.0)
    assert effect.high > 5, "another process of that kind would have made the difference"


def test_the_interval_of_a_quantile_holds_the_truth_in_about_95_of_100_runs() -> None:
    inside = 0
    for _ in range(100):
        sides = [[histogram(RNG.lognormal(5 + RNG.normal(0, 0.1), 0.5, 400)) for _ in range(12)] for _ in range(2)]
        effect = quantile_effect(0.9, sides[0], sides[1], [0.0] * 12, 0.975)
        inside += effect.low <= 1 <= effect.high
    assert 0.89 <= inside / 100 <= 1


def test_a_histogram_that_cannot_be_read_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match="histogram"):
        quantile_effect(0.99, ["", ""], ["", ""], [0.0, 0.0], 0.975)


def test_unpaired_samples_that_do_not_overlap_have_the_smallest_p_there_is() -> None:
    effect = unpaired_effect([1.0, 1.01, 1.02, 1.03, 1.04], [2.0, 2.01, 2.02, 2.03, 2.04], 0.975)
    assert effect.p == pytest.approx(1 / 252)
    assert effect.ratio == pytest.approx(1.98, abs=0.02)


def test_what_is_detectable_is_found_nine_times_in_ten() -> None:
    noise, pairs, alpha = 0.05, 30, 0.005
    effect = math.log(detectable(noise / math.sqrt(pairs * 3 / math.pi), alpha))
    found = sum(signed_rank_p(RNG.normal(effect, noise, pairs).tolist()) < alpha for _ in range(1000))
    assert found / 1000 == pytest.approx(0.9, abs=0.04)
    assert detectable(math.inf, alpha) == math.inf
