"""Known answers and properties of the statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, mannwhitneyu, ttest_ind

from bench import stats
from bench.stats import (
    hodges_lehmann_ratio,
    holm,
    mann_whitney_null,
    median_interval,
    samples_needed,
    welch_p,
)

POSITIVE = st.floats(1e-3, 1e6)
SAMPLES = st.lists(POSITIVE, min_size=1, max_size=9)


def test_ten_values_give_the_median_interval_of_the_second_and_the_ninth() -> None:
    interval = median_interval(range(1, 11))
    assert interval[:3] == (5.5, 2, 9)
    assert interval.level == pytest.approx(1 - 2 * 11 / 1024)


def test_five_values_give_their_range_and_say_that_it_falls_short_of_95_percent() -> None:
    assert median_interval([5, 1, 3, 2, 4]) == (3, 1, 5, 0.9375)


def test_one_value_is_its_own_interval_without_confidence() -> None:
    assert median_interval([7.0]) == (7, 7, 7, 0)


def test_the_median_of_no_values_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


@given(st.integers(6, 400))
def test_the_median_interval_has_the_binomial_confidence_and_is_the_narrowest_with_95_percent(n: int) -> None:
    interval = median_interval(range(1, n + 1))
    outside = int(interval.low) - 1
    assert interval.high == n - outside
    assert interval.level == pytest.approx(1 - 2 * binom.cdf(outside, n, 0.5))
    assert interval.level >= 0.95 > 1 - 2 * binom.cdf(outside + 1, n, 0.5)


def test_the_null_distribution_of_five_against_five_is_the_tabled_one() -> None:
    below = np.cumsum(mann_whitney_null(5, 5)) * 252
    assert below[:6] == pytest.approx([1, 2, 4, 7, 12, 19])


@given(st.integers(1, 8), st.integers(1, 8))
def test_the_null_distribution_sums_to_one_and_is_symmetric(m: int, n: int) -> None:
    null = mann_whitney_null(m, n)
    assert len(null) == m * n + 1
    assert null.sum() == pytest.approx(1)
    assert null == pytest.approx(null[::-1])


@given(st.sets(st.integers(1, 10**6), min_size=4, max_size=12), st.data())
def test_the_ratio_interval_excludes_1_exactly_where_the_exact_rank_test_rejects(
    values: set[int], data: st.DataObject
) -> None:
    mixed = data.draw(st.permutations(sorted(values)))
    cut = data.draw(st.integers(1, len(mixed) - 1))
    a, b = mixed[:cut], mixed[cut:]
    rejected = mannwhitneyu(a, b, method="exact").pvalue <= 0.05
    assert hodges_lehmann_ratio(a, b).contains(1.0) == (not rejected)


def test_five_against_five_uses_the_third_ratio_from_either_end() -> None:
    a, b = [1, 2, 3, 4, 5], [1.5, 2.5, 8, 9, 10]
    ratios = sorted(x / y for x in a for y in b)
    interval = hodges_lehmann_ratio(a, b)
    assert interval.estimate == pytest.approx(ratios[12])
    assert (interval.low, interval.high) == pytest.approx((ratios[2], ratios[22]))
    assert interval.level == pytest.approx(1 - 2 * 4 / 252)


@pytest.mark.parametrize(("m", "n"), [(60, 60), (30, 120), (50, 70)])
def test_where_samples_are_large_the_normal_distribution_gives_the_exact_interval(
    monkeypatch: pytest.MonkeyPatch, m: int, n: int
) -> None:
    rng = np.random.default_rng(m)
    a, b = rng.lognormal(0.1, 0.1, m).tolist(), rng.lognormal(0, 0.1, n).tolist()
    exact = hodges_lehmann_ratio(a, b)
    monkeypatch.setattr(stats, "MOST_EXACT", 0)
    stats._shift_cut.cache_clear()
    near = hodges_lehmann_ratio(a, b)
    stats._shift_cut.cache_clear()
    assert near.estimate == exact.estimate
    assert near == pytest.approx(exact, rel=2e-3)


def test_hundreds_of_values_have_an_interval_of_their_median_and_of_their_ratio() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.lognormal(math.log(1.2), 0.1, 1500).tolist(), rng.lognormal(0, 0.1, 1500).tolist()
    ratio = hodges_lehmann_ratio(a, b)
    assert 1.18 < ratio.low < ratio.estimate < ratio.high < 1.22
    assert ratio.level == pytest.approx(0.95, abs=1e-3)
    assert median_interval(a).level == pytest.approx(0.95, abs=0.005)


def test_three_against_three_are_too_few_for_an_interval() -> None:
    interval = hodges_lehmann_ratio([100, 101, 102], [1, 2, 3])
    assert (interval.low, interval.high) == (0, math.inf)
    assert interval.estimate > 30


@given(SAMPLES, SAMPLES)
def test_the_ratio_turned_round_is_its_reciprocal(a: list[float], b: list[float]) -> None:
    there, back = hodges_lehmann_ratio(a, b), hodges_lehmann_ratio(b, a)
    assert there.estimate == pytest.approx(1 / back.estimate)
    assert there.low == pytest.approx(1 / back.high if back.high < math.inf else 0)
    assert there.low <= there.estimate * (1 + 1e-12)
    assert there.estimate <= there.high * (1 + 1e-12)


@given(st.lists(POSITIVE, min_size=4, max_size=8), st.floats(0.01, 100))
def test_the_ratio_of_a_sample_to_itself_scaled_is_the_scale(sample: list[float], scale: float) -> None:
    interval = hodges_lehmann_ratio([value * scale for value in sample], sample)
    assert interval.estimate == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize(("a", "b"), [([], [1.0]), ([1.0], []), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_a_ratio_of_nothing_or_of_what_is_not_positive_is_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="a ratio needs"):
        hodges_lehmann_ratio(a, b)


def test_the_interval_covers_the_true_ratio_in_at_least_95_percent_of_runs() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(1000):
        a, b = rng.lognormal(math.log(1.2), 0.1, 5), rng.lognormal(0, 0.1, 5)
        hits += hodges_lehmann_ratio(a.tolist(), b.tolist()).contains(1.2)
    assert hits >= 950


def test_the_t_test_is_welchs_on_the_logarithms() -> None:
    a, b = [10.0, 11, 12, 10.5], [13.0, 12.5, 15, 14]
    assert welch_p(a, b) == pytest.approx(ttest_ind(np.log(a), np.log(b), equal_var=False).pvalue)


@pytest.mark.parametrize(
    ("a", "b", "p"), [([2, 2, 2], [2, 2], 1), ([2, 2, 2], [3, 3], 0), ([2], [3, 3], 1), ([], [3, 3], 1)]
)
def test_the_t_test_has_an_answer_without_any_spread(a: list[float], b: list[float], p: float) -> None:
    assert welch_p(a, b) == p


def test_the_t_test_refuses_what_has_no_logarithm() -> None:
    with pytest.raises(ValueError, match="positive"):
        welch_p([0.0, 1.0], [1.0, 2.0])


def test_holm_multiplies_the_smallest_by_their_number_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=20))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= max(p, min(1.0, len(p_values) * max([other for other in p_values if other <= p])))
    assert [q for _, q in sorted(zip(p_values, adjusted, strict=True))] == sorted(adjusted)


@pytest.mark.parametrize(("quantile", "needed"), [(0.5, 11), (0.99, 726), (0.999, 7289), (0.9999, 72928)])
def test_a_percentile_needs_this_many_samples(quantile: float, needed: int) -> None:
    assert samples_needed(quantile) == needed


@given(st.floats(0.5, 0.99999))
def test_the_samples_needed_are_the_fewest_with_room_above_the_upper_limit(quantile: float) -> None:
    def room(n: int) -> float:
        return n * (1 - quantile) - 1.96 * math.sqrt(n * quantile * (1 - quantile))

    needed = samples_needed(quantile)
    assert room(needed) >= 2 - 1e-6
    assert room(needed - 1) < 2 + 1e-6
