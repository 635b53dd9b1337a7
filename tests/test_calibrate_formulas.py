"""What theory expects of a correct load generator: known figures, and the same by simulation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ideal_load import every, serve
from scipy import stats

from bench.calibrate import formulas
from bench.calibrate.formulas import (
    MD1_SD,
    MM1_SD,
    SD_MESSAGES,
    Stall,
    anderson_darling_exponential,
    dispersion,
    md1_mean,
    md1_quantile,
    md1_waits_at_most,
    mm1_mean,
    mm1_quantile,
    simulate_queue,
    three_sd,
    variation,
)

STALL = Stall(stalled=1.0, run=10.0, rate=1000.0, capacity=20_000.0)


def test_a_stall_of_a_second_in_ten_has_the_known_percentiles() -> None:
    assert STALL.quantile(0.95) == pytest.approx(0.525)
    assert STALL.quantile(0.99) == pytest.approx(0.905)
    assert STALL.quantile(0.999) == pytest.approx(0.9905)
    assert STALL.mean() == pytest.approx(0.0526, rel=0.001)


@pytest.mark.parametrize("capacity", [2_000.0, 5_000.0, 20_000.0])
def test_the_formula_of_a_stall_is_what_a_queue_does(capacity: float) -> None:
    planned = every(1000.0, 10.0)
    response = serve(planned, 1 / capacity, (4.0, 1.0)) - planned
    stall = STALL._replace(capacity=capacity)
    for q in (0.95, 0.99, 0.999):
        assert np.quantile(response, q, method="inverted_cdf") == pytest.approx(stall.quantile(q), abs=0.003)
    assert response.mean() == pytest.approx(stall.mean() + 1 / capacity, rel=0.01)


def test_queues_at_half_load_have_the_known_response_times() -> None:
    assert mm1_mean(0.5, 1.0) == 2.0
    assert mm1_quantile(0.5, 0.5, 1.0) == pytest.approx(1.386, abs=0.001)
    assert mm1_quantile(0.99, 0.5, 1.0) == pytest.approx(9.210, abs=0.001)
    assert md1_mean(0.5, 1.0) == 1.5
    assert md1_quantile(0.5, 0.5, 1.0) == 1.0
    assert md1_quantile(0.99, 0.5, 1.0) == pytest.approx(4.336, abs=0.001)


def test_the_formulas_scale_with_the_unit_of_time() -> None:
    assert mm1_quantile(0.99, 500.0, 0.001) == pytest.approx(0.00921, rel=0.001)
    assert md1_quantile(0.99, 500.0, 0.001) == pytest.approx(0.004336, rel=0.001)
    assert md1_mean(500.0, 0.001) == pytest.approx(0.0015)


def test_the_waits_of_a_constant_service_are_a_distribution() -> None:
    waits = [md1_waits_at_most(t / 10, 0.5, 1.0) for t in range(90)]
    assert md1_waits_at_most(-0.1, 0.5, 1.0) == 0.0
    assert waits[0] == 0.5  # half of all find the server free
    assert waits == sorted(waits)
    assert 0.9999 < waits[-1] < 1.0


def exponential(mean: float) -> formulas.Draw:
    return lambda random, n: random.exponential(mean, n)


def constant(value: float) -> formulas.Draw:
    return lambda random, n: np.full(n, value)


def test_simulated_queues_agree_with_the_formulas() -> None:
    random = simulate_queue(1, 400_000, exponential(2.0), exponential(1.0))
    steady = simulate_queue(2, 400_000, exponential(2.0), constant(1.0))
    assert random.mean() == pytest.approx(mm1_mean(0.5, 1.0), rel=0.02)
    assert np.quantile(random, 0.99) == pytest.approx(mm1_quantile(0.99, 0.5, 1.0), rel=0.04)
    assert steady.mean() == pytest.approx(md1_mean(0.5, 1.0), rel=0.01)
    for q in (0.9, 0.99, 0.999):
        assert np.quantile(steady, q) == pytest.approx(md1_quantile(q, 0.5, 1.0), rel=0.03)


def estimates(services: formulas.Draw, messages: int) -> np.ndarray:
    """Mean, p50 and p99 of 150 runs."""
    runs = (simulate_queue(seed, messages, exponential(2.0), services) for seed in range(150))
    return np.array([[run.mean(), *np.quantile(run, [0.5, 0.99], method="inverted_cdf")] for run in runs])


def test_the_standard_deviations_are_those_of_simulated_runs() -> None:
    messages = 15_000
    scale = np.sqrt(SD_MESSAGES / messages)
    found = estimates(exponential(1.0), messages)
    relative = found.std(axis=0) / found.mean(axis=0) / scale
    assert relative == pytest.approx(list(MM1_SD.values()), rel=0.25)

    found = estimates(constant(1.0), messages)
    relative = found.std(axis=0) / found.mean(axis=0) / scale
    assert relative[[0, 2]] == pytest.approx([MD1_SD["mean"], MD1_SD["p99"]], rel=0.25)
    # The estimates of the median are the upper half of a normal distribution: their root mean square is its spread.
    above = np.sqrt(np.mean(np.maximum(0, found[:, 1] - 1.0) ** 2) * 2) / scale
    assert above == pytest.approx(MD1_SD["p50"], rel=0.25)


def test_three_standard_deviations_shrink_with_the_root_of_the_messages() -> None:
    assert three_sd(0.01, SD_MESSAGES) == pytest.approx(0.03)
    assert three_sd(0.01, SD_MESSAGES / 4) == pytest.approx(0.06)


def test_the_statistic_of_anderson_and_darling_is_scipys_where_the_rate_is_that_of_the_sample() -> None:
    gaps = np.random.default_rng(3).exponential(0.001, 4096)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # newer ones want a method to be named
        theirs = stats.anderson(gaps, "expon").statistic
    assert anderson_darling_exponential(gaps, 1 / gaps.mean()) == pytest.approx(theirs, rel=1e-6)


def test_arrivals_that_are_poisson_exceed_the_limit_once_in_a_hundred_times() -> None:
    random = np.random.default_rng(4)
    found = np.array([anderson_darling_exponential(random.exponential(1.0, 500), 1.0) for _ in range(4_000)])
    assert 0.005 < (found > 3.92).mean() < 0.015


def test_equal_send_times_do_not_break_the_statistic() -> None:
    assert np.isfinite(anderson_darling_exponential(np.array([0.0, 0.0, 1.0, 2.0]), 1.0))


def test_dispersion_tells_clumps_from_chance_from_regularity() -> None:
    random = np.random.default_rng(5)
    assert dispersion(np.cumsum(random.exponential(0.001, 20_000)), 0.02) == pytest.approx(1.0, abs=0.15)
    assert dispersion(every(1000.0, 20.0), 0.02) < 0.1
    assert dispersion(np.repeat(np.cumsum(random.exponential(0.004, 5_000)), 4), 0.02) > 3


def test_the_coefficient_of_variation_is_one_for_chance_and_nought_for_regularity() -> None:
    assert variation(np.random.default_rng(6).exponential(1.0, 100_000)) == pytest.approx(1.0, abs=0.02)
    assert variation(np.full(10, 0.001)) == pytest.approx(0.0)
