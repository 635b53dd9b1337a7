"""Differences within rounds, held against known answers, brute force and simulated machines."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import polygamma
from scipy.stats import studentized_range, t, ttest_rel

from bench.within_rounds import (
    CORNER,
    Difference,
    Fit,
    _inverse_trigamma,
    critical,
    fit,
    joined,
    limits,
    resampled,
    room,
    rounds_needed,
)

NAN = math.nan
# Yields of penicillin by four variants of a process, in five blends of corn steep liquor, which vary.
PENICILLIN = np.array([[89, 84, 81, 87, 79], [88, 77, 87, 92, 81], [97, 92, 87, 89, 80], [94, 79, 85, 84, 88]], float)


def noise(k: int, n: int, seed: int = 1, deviation: float = 0.03) -> np.ndarray:
    """Rows that differ by chance alone, in rounds that differ tenfold as much."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, deviation, (k, n)) + rng.normal(0, 10 * deviation, n)


def differences(found: Fit) -> np.ndarray:
    return np.asarray(found.location[:, None] - found.location)


def shapes(most_rows: int = 5, most_rounds: int = 12) -> st.SearchStrategy[np.ndarray]:
    sizes = st.tuples(st.integers(2, most_rows), st.integers(2, most_rounds), st.integers(0, 10**6))
    return sizes.map(lambda drawn: noise(*drawn))


# --- known answers


def test_the_analysis_of_variance_of_box_hunter_and_hunters_penicillin_yields() -> None:
    """Statistics for Experimenters, section 4.2: means 84, 85, 89 and 86; 226 left over with 12 degrees of freedom."""
    found = fit(PENICILLIN)
    assert found.location == pytest.approx([84, 85, 89, 86])
    assert found.spread == pytest.approx(math.sqrt(226 / 12))
    assert found.pooled
    assert found.error[0, 2] == pytest.approx(math.sqrt(2 * 226 / 12 / 5))
    assert (found.freedom[0, 2], found.shared[0, 2]) == (12, 5)


def test_two_rows_are_students_paired_test() -> None:
    values = noise(2, 7)
    found = fit(values)
    difference = Difference(differences(found)[0, 1], found.error[0, 1], int(found.freedom[0, 1]), 7, rows=2)
    expected = ttest_rel(*values).confidence_interval(0.95)
    assert limits(difference, 0.95) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(
    ("rows", "freedom", "level", "tabled"), [(3, 10, 0.95, 3.88), (5, 20, 0.95, 4.23), (4, 12, 0.99, 5.50)]
)
def test_critical_values_are_those_of_the_tables(rows: int, freedom: int, level: float, tabled: float) -> None:
    assert critical(rows, freedom, level) * math.sqrt(2) == pytest.approx(tabled, abs=0.005)


@pytest.mark.parametrize("rows", [2, 9, 25])
@pytest.mark.parametrize("freedom", [2, 7, 200])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.9997])
def test_critical_values_are_scipys(rows: int, freedom: int, level: float) -> None:
    expected = studentized_range.ppf(level, rows, freedom) / math.sqrt(2)
    assert critical(rows, freedom, level) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("freedom", [1, 2, 5, 1000])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.99999, 1 - 1e-9])
def test_of_two_rows_the_critical_value_is_students_far_into_the_tail(freedom: int, level: float) -> None:
    assert critical(2, freedom, level) == pytest.approx(-t.ppf((1 - level) / 2, freedom), rel=1e-6)


@pytest.mark.parametrize(("rows", "freedom", "level"), [(1, 5, 0.95), (3, 0, 0.95), (3, 5, 1.0)])
def test_a_critical_value_of_nothing_is_refused(rows: int, freedom: int, level: float) -> None:
    with pytest.raises(ValueError, match="studentized range"):
        critical(rows, freedom, level)


@pytest.mark.parametrize("value", [1e-3, 0.1, 1.0, 30.0])
def test_the_inverse_of_trigamma_is_its_inverse(value: float) -> None:
    assert polygamma(1, _inverse_trigamma(value)) == pytest.approx(value)


# --- missing cells


def brute_force(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Differences of the rows, their variances by that of an error, and the mean square: from the whole design."""
    cells = np.argwhere(np.isfinite(values))
    k, n = values.shape
    design = np.zeros((len(cells), k + n))
    for line, (row, column) in zip(design, cells, strict=True):
        line[row] = line[k + column] = 1
    y = values[tuple(cells.T)]
    effects, *_ = np.linalg.lstsq(design, y, rcond=None)
    squares = float(((y - design @ effects) ** 2).sum())
    freedom = len(y) - np.linalg.matrix_rank(design)
    inverse = np.linalg.pinv(design.T @ design)[:k, :k]
    own = np.diag(inverse)
    return effects[:k, None] - effects[:k], own[:, None] + own - 2 * inverse, math.sqrt(squares / freedom)


@given(st.integers(0, 10**6), st.sets(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=3))
def test_with_missing_cells_it_is_least_squares_over_the_whole_design(seed: int, holes: set[tuple[int, int]]) -> None:
    values = noise(3, 5, seed)
    for hole in holes:
        values[hole] = NAN
    apart, by_variance, spread = brute_force(values)
    found = fit(values)
    assert differences(found) == pytest.approx(apart)
    assert found.spread == pytest.approx(spread)
    off = ~np.eye(3, dtype=bool)
    rounds = 2 / by_variance[off]
    assert found.shared[off] == pytest.approx(np.where(rounds > 2 - 1e-9, np.floor(rounds + 1e-9), 0))


def test_a_row_that_was_missing_in_a_bad_round_is_not_better_for_it() -> None:
    rounds = np.array([0.0, 0.1, -3.0, 0.2, 0.1])
    values = np.array([rounds, rounds + 0.1, rounds + 0.2])
    values[0, 2] = NAN
    assert fit(values).location - fit(values).location[0] == pytest.approx([0, 0.1, 0.2])


def test_two_rows_that_never_met_are_compared_by_way_of_a_third_that_met_both() -> None:
    values = noise(3, 16, deviation=0.01)
    values[0] += 0.5
    values[0, 8:], values[2, :8] = NAN, NAN
    found = fit(values)
    assert differences(found)[0, 2] == pytest.approx(0.5, abs=0.03)
    assert found.shared[0, 2] == 4, "two differences of eight rounds each vary twice as much as one of them"
    assert found.error[0, 2] == pytest.approx(math.sqrt(2) * found.error[0, 1], rel=0.2)
    assert found.freedom[0, 2] >= 7


def test_two_rows_that_nothing_links_have_heights_and_no_difference() -> None:
    found = fit(np.array([[1.0, 2, NAN, NAN], [NAN, NAN, 5.0, 6]]))
    assert found.location == pytest.approx([1.5, 5.5])
    assert (found.error[0, 1], found.freedom[0, 1], found.shared[0, 1]) == (math.inf, 0, 0)


def test_one_round_tells_no_difference() -> None:
    found = fit(np.array([[1.0], [2.0], [3.0]]))
    assert found.location == pytest.approx([1, 2, 3])
    assert np.isinf(found.error[0, 1:]).all()
    assert math.isnan(found.spread)


def test_a_row_alone_is_the_mean_of_its_values() -> None:
    assert fit(np.array([[1.0, 2.0, 6.0, NAN]])).location == pytest.approx([3])


@pytest.mark.parametrize("values", [np.zeros((0, 3)), np.array([1.0]), np.array([[1.0, math.inf]])])
def test_what_is_no_table_of_numbers_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="rows"):
        fit(values)


def test_rows_that_never_vary_have_no_error() -> None:
    for k, n in ((2, 2), (2, 20), (9, 9)):
        found = fit(np.arange(k)[:, None] + np.arange(n) * 7.0)
        assert differences(found)[1, 0] == pytest.approx(1)
        assert found.error.max() == pytest.approx(0, abs=1e-9)


def test_a_row_without_any_value_takes_no_part() -> None:
    values = noise(3, 6)
    found = fit(np.vstack([values, np.full(6, NAN)]))
    assert math.isnan(found.location[3])
    assert differences(found)[0, 1] == pytest.approx(differences(fit(values))[0, 1])
    assert np.isinf(found.error[3, :3]).all()


# --- properties


@settings(deadline=None)
@given(shapes(), st.floats(-100, 100), st.integers(0, 11))
def test_what_a_round_does_to_all_rows_alike_takes_no_part(values: np.ndarray, shift: float, column: int) -> None:
    other = values.copy()
    other[:, column % values.shape[1]] += shift
    one, two = fit(values), fit(other)
    assert differences(two) == pytest.approx(differences(one), abs=1e-9)
    assert two.error == pytest.approx(one.error, abs=1e-9)


@settings(deadline=None)
@given(shapes(), st.randoms(use_true_random=False))
def test_the_order_of_rows_and_of_rounds_does_not_matter(values: np.ndarray, random: object) -> None:
    rng = np.random.default_rng(len(values))
    rows, columns = rng.permutation(values.shape[0]), rng.permutation(values.shape[1])
    one, two = fit(values), fit(values[rows][:, columns])
    assert two.location == pytest.approx(one.location[rows], abs=1e-9)
    assert two.error == pytest.approx(one.error[rows][:, rows], abs=1e-9)


@settings(deadline=None)
@given(shapes(), st.floats(0.01, 100))
def test_errors_scale_with_the_values(values: np.ndarray, scale: float) -> None:
    one, two = fit(values), fit(values * scale)
    assert differences(two) == pytest.approx(differences(one) * scale, abs=1e-8 * scale)
    assert two.error == pytest.approx(one.error * scale, rel=1e-6)


@settings(deadline=None)
@given(shapes(), st.floats(-3, 3))
def test_a_row_that_is_shifted_is_shifted_and_nothing_else(values: np.ndarray, shift: float) -> None:
    other = values.copy()
    other[0] += shift
    one, two = fit(values), fit(other)
    assert differences(two)[0, 1:] == pytest.approx(differences(one)[0, 1:] + shift, abs=1e-9)
    assert two.error == pytest.approx(one.error, abs=1e-9)


# --- what went wrong


@settings(deadline=None)
@given(st.integers(3, 6), st.integers(8, 16), st.integers(0, 1000), st.floats(-1e6, 1e6))
def test_a_wild_cell_moves_no_row_by_more_than_what_a_cell_counts_at_most(
    k: int, n: int, seed: int, wild: float
) -> None:
    values = noise(k, n, seed)
    without = values.copy()
    without[0, 0] = NAN
    values[0, 0] = wild
    one, two = fit(without), fit(values)
    assert np.abs(differences(two) - differences(one)).max() <= 4 * max(one.reach, two.reach) / n
    assert two.reach < 6 * CORNER * 0.03


def test_how_wild_a_cell_is_does_not_matter() -> None:
    found = []
    for wild in (-5.0, -5e6):
        values = noise(5, 12)
        values[2, 3] = wild
        found.append(fit(values))
    assert found[0].location == pytest.approx(found[1].location)
    assert found[0].error == pytest.approx(found[1].error)
    assert found[0].spread < 0.05


def test_a_round_that_went_wrong_for_some_does_not_hide_a_difference() -> None:
    values = noise(4, 10)
    values[0] += 0.15
    clean = fit(values)
    values[:2, 4] -= [2.0, 3.0]
    found = fit(values)
    assert differences(found)[0, 2] == pytest.approx(differences(clean)[0, 2], abs=0.03)
    assert found.error[0, 2] < 2 * clean.error[0, 2]


def test_with_few_rounds_of_two_rows_nothing_is_drawn_in() -> None:
    values = noise(2, 6)
    values[0, 0] += 10
    assert fit(values).location[0] == pytest.approx(values[0].mean())


# --- unequal spread


def test_rows_that_vary_alike_have_one_error() -> None:
    found = fit(noise(6, 20, seed=4))
    assert found.pooled
    assert np.ptp(found.error[np.triu_indices(6, 1)]) == pytest.approx(0)


def test_a_row_that_varies_more_than_others_has_larger_errors_and_fewer_degrees_of_freedom() -> None:
    rng = np.random.default_rng(2)
    found = fit(rng.normal(0, 0.03, (6, 20)) * np.array([5, 1, 1, 1, 1, 1])[:, None])
    assert not found.pooled
    assert found.error[0, 1:].min() > 1.5 * found.error[1, 2:].max()
    assert 19 <= found.freedom[1, 2] < 95


# --- how often it holds


def held(deviations: list[float], n: int, times: int) -> float:
    """How often the intervals of all pairs together hold at 95 %."""
    rng, k = np.random.default_rng(3), len(deviations)
    pairs = np.triu_indices(k, 1)
    inside = 0
    for _ in range(times):
        found = fit(rng.normal(0, 1, (k, n)) * np.array(deviations)[:, None] + rng.normal(0, 10, n))
        reach = [critical(k, int(freedom), 0.95) for freedom in found.freedom[pairs]] * found.error[pairs]
        inside += bool((np.abs(differences(found)[pairs]) <= reach).all())
    return inside / times


@pytest.mark.parametrize(
    ("deviations", "n"), [([1.0, 1.0], 4), ([1.0] * 5, 6), ([1.0, 1.5, 2.0, 2.5, 3.0], 6), ([1.0] * 5, 12)]
)
def test_all_intervals_together_hold_in_about_95_of_100_cases(deviations: list[float], n: int) -> None:
    assert 0.90 <= held(deviations, n, 300) <= 0.99


# --- bounds


def test_bounds_move_a_location_by_no_more_than_they_may_and_by_any_amount_from_half_of_the_rounds_on() -> None:
    found = fit(noise(4, 12))
    moved = room(found, np.array([0, 2, 5, 6]), np.full(4, 12))
    assert moved == pytest.approx([0, 2 * found.reach * 2 / 12, 2 * found.reach * 5 / 12, math.inf])


@given(st.integers(1, 40), st.data())
def test_an_m_estimate_moves_by_no_more_than_the_room_where_bounds_are_in_truth_anywhere_beyond(
    n: int, data: st.DataObject
) -> None:
    """Cells at 0, of which b are in truth beyond all: sum of psi = 0 has its root at reach*b/(n-b)."""
    b = data.draw(st.integers(0, (n - 1) // 2))
    reach = 0.1
    cells = np.zeros(n)
    cells[:b] = 1e9
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(cells - middle, -reach, reach).sum() > 0 else (low, middle)
    found = fit(noise(2, 4))._replace(reach=reach)
    assert high <= room(found, np.array([b]), np.array([n]))[0] + 1e-9


# --- how many rounds it takes


def undecided(estimate: float, rounds: int = 6, deviation: float = 0.04, **more: float) -> Difference:
    return Difference(estimate, deviation * math.sqrt(2 / rounds), 8 * (rounds - 1), rounds, rows=9, **more)


def after(found: Difference, rounds: int) -> Difference:
    error = found.error * math.sqrt(found.rounds / rounds)
    return found._replace(error=error, rounds=rounds, freedom=8 * (rounds - 1))


MARGIN = math.log(1.05)


@pytest.mark.parametrize("estimate", [0.0, 0.01, 0.03, 0.06, 0.07, 0.1])
def test_it_is_decided_after_about_as_many_rounds_as_were_said_to_be_needed_and_not_long_before(
    estimate: float,
) -> None:
    def decided(rounds: int) -> bool:
        then = after(undecided(estimate), rounds)
        low, high = limits(then, 0.95)
        return limits(then, 0.9997)[0] > 0 or (high <= MARGIN and low >= -MARGIN)

    needed = rounds_needed(undecided(estimate), 0.9997, 0.95, MARGIN)
    assert needed is not None
    assert needed > 6
    assert decided(math.ceil(needed * 1.05) + 1)
    assert not decided(math.floor(needed * 0.95) - 1)


def test_no_number_of_rounds_decides_what_lies_on_the_border_or_hangs_on_a_bound() -> None:
    border = math.log(1.05)
    assert rounds_needed(undecided(0.0, above=0.1, below=0.1), 0.9997, 0.95, border) is None
    assert rounds_needed(undecided(0.2, below=math.inf), 0.9997, 0.95, border) is None
    assert rounds_needed(undecided(0.2, above=math.inf), 0.9997, 0.95, border) is not None
    assert rounds_needed(undecided(0.0)._replace(error=math.inf), 0.9997, 0.95, border) is None
    assert rounds_needed(undecided(1e-5, deviation=30.0), 0.9997, 0.95, border) is None


def test_a_difference_without_an_error_has_no_limits() -> None:
    assert limits(undecided(0.1)._replace(error=math.inf), 0.95) == (-math.inf, math.inf)


# --- rounds drawn anew


def means_drawn(values: np.ndarray, times: int = 4000) -> np.ndarray:
    n = values.shape[1]
    weights = np.random.default_rng(1).multinomial(n, [1 / n] * n, size=times) / n
    return np.asarray(weights @ values.T)


def test_of_means_the_errors_by_drawing_rounds_are_those_of_least_squares() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0, 0.03, (4, 3)) * np.array([[3], [1], [1], [1]]) + rng.normal(0, 0.3, 3)
    by_drawing = resampled(values.mean(axis=1), means_drawn(values), np.isfinite(values), np.full(4, 3.0))
    by_squares = fit(values)
    pairs = np.triu_indices(4, 1)
    assert by_drawing.error[pairs] == pytest.approx(by_squares.error[pairs], rel=0.1)
    assert by_drawing.freedom[pairs] == pytest.approx(by_squares.freedom[pairs], abs=1)
    assert by_drawing.spread == pytest.approx(by_squares.spread, rel=0.1)


def test_drawings_in_which_a_row_has_nothing_are_left_out() -> None:
    values = noise(2, 6)
    drawn = means_drawn(values)
    drawn[::50, 0] = NAN
    found = resampled(values.mean(axis=1), drawn, np.isfinite(values), np.full(2, 6.0))
    assert found.error[0, 1] == pytest.approx(fit(values).error[0, 1], rel=0.1)


def test_rounds_that_are_worth_fewer_of_equal_weight_tell_less() -> None:
    values = noise(2, 8)
    whole, half, hardly = (
        resampled(values.mean(axis=1), means_drawn(values), np.isfinite(values), np.full(2, worth))
        for worth in (8.0, 2.0, 0.5)
    )
    assert [found.shared[0, 1] for found in (whole, half, hardly)] == [8, 4, 2], "roots of 8 by what they are worth"
    assert [found.freedom[0, 1] for found in (whole, half, hardly)] == [7, 3, 1]
    assert half.error[0, 1] == pytest.approx(whole.error[0, 1] * math.sqrt(4 / 3 * 7 / 8))


def test_rows_drawn_from_one_round_have_no_error() -> None:
    found = resampled(np.array([1.0, 2.0]), np.ones((10, 2)), np.ones((2, 1), dtype=bool), np.ones(2))
    assert (found.error[0, 1], found.freedom[0, 1], found.shared[0, 1]) == (math.inf, 0, 0)


def test_heights_of_one_part_are_what_they_are() -> None:
    heights = np.array([[1.0, 2.0, 4.0], [1.5, 2.0, 3.0]])
    assert joined(heights[:, :, None]) == pytest.approx(heights)


def test_heights_of_two_parts_are_compared_by_way_of_what_is_in_both() -> None:
    first, second = [1.0, 2.0, NAN], [NAN, 12.0, 15.0]
    (found,) = joined(np.array([[first, second]]).transpose(0, 2, 1))
    assert found - found[1] == pytest.approx([-1, 0, 3])
    assert found[1] == pytest.approx(7), "in the average of the parts"


def test_a_drawing_that_lacks_what_is_needed_is_not_known() -> None:
    whole = np.array([[1.0, NAN], [2.0, 12.0], [NAN, 15.0]])
    lacking = np.where(whole == 12.0, NAN, whole)
    found = joined(np.array([whole, lacking]))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
