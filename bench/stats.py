"""The statistics of a comparison: small pure functions over plain sequences of numbers.

Nothing here knows a trial, a strategy or a table.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_EXACT = 3_600  # pairs of two samples, such as 60 and 60: from there on the normal distribution is as good


class Interval(NamedTuple):
    """An estimate between its confidence limits; `level` is the confidence that they attain."""

    estimate: float
    low: float
    high: float
    level: float

    def contains(self, value: float) -> bool:
        """Say whether the value lies between the limits, or on one."""
        return self.low <= value <= self.high


def median_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Estimate the median, with the distribution-free interval between two order statistics.

    The limits are as many values from either end as leave at least `level` of confidence: their number above the
    median is binomial (Hollander, Wolfe, Chicken: Nonparametric Statistical Methods, section 3.6). Five values or fewer
    can't reach 95 %: then the limits are the smallest and the largest, and `level` says what that attains (5: 93.75 %).
    Raises ValueError where there is no value.
    """
    if not values:
        raise ValueError("the median of no values")
    ordered = sorted(values)
    cut, attained = _median_cut(len(ordered), level)
    return Interval(float(statistics.median(ordered)), float(ordered[cut]), float(ordered[-1 - cut]), attained)


@lru_cache(maxsize=64)
def _median_cut(n: int, level: float) -> tuple[int, float]:
    """Give how many of n values lie outside the interval of the median on either side, and what it attains."""
    cut, ways, more = 0, 1, n  # of the 2^n ways to fall on either side of the median: all values on the same one
    while cut + 1 < (n + 1) // 2 and (ways + more) / 2**n <= (1 - level) / 2:
        cut += 1
        ways += more
        more = more * (n - cut) // (cut + 1)
    return cut, max(0.0, 1 - 2 * ways / 2**n)


@lru_cache(maxsize=64)
def mann_whitney_null(m: int, n: int) -> NDArray[np.float64]:
    """Give the probability of each U = 0 ... m*n when samples of m and of n come from one distribution.

    The arrangements with a given U are the partitions of U into at most m parts of at most n each (Mann, Whitney:
    On a test of whether one of two random variables is stochastically larger than the other, 1947).
    """
    ways = np.zeros((m + 1, m * n + 1))
    ways[0, 0] = 1.0
    for part in range(1, n + 1):
        for parts in range(1, m + 1):
            ways[parts, part:] += ways[parts - 1, :-part]
    total = ways.sum(axis=0)
    return np.asarray(total / total.sum(), dtype=np.float64)


def hodges_lehmann_ratio(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Estimate by what factor `a` is larger than `b`: the median of all ratios, with its exact interval.

    On logarithms this is the Hodges-Lehmann shift between two independent samples; the limits are those shifts that the
    exact Mann-Whitney test does not reject (Lehmann: Nonparametrics, section 2.5; Hollander, Wolfe, Chicken,
    sections 4.2 and 4.3). No distribution is assumed. Samples too small for `level` (3 against 3, say) give
    limits of 0 and infinity; of samples with more than MOST_EXACT ratios the test is the one by the normal
    approximation. Raises ValueError where a value isn't positive or a sample is empty.
    """
    return blocked_ratio([(a, b)], level)


def blocked_ratio(blocks: Sequence[tuple[Sequence[float], Sequence[float]]], level: float = 0.95) -> Interval:
    """Estimate by what factor `a` is larger than `b` where both were measured in each of some blocks, such as machines.

    Values are compared within their blocks only: the estimate is the median of those ratios, and the limits are those
    that the sum of the blocks' Mann-Whitney statistics does not reject, exact given independent blocks (Lehmann:
    Nonparametrics, section 3.3: blocked comparisons). With one block it is `hodges_lehmann_ratio`. Raises ValueError
    where a value isn't positive, a block has none on one side, or there is no block.
    """
    if not blocks or not all(a and b for a, b in blocks):
        raise ValueError("a ratio needs values on both sides")
    if min(min(*a, *b) for a, b in blocks) <= 0:
        raise ValueError("a ratio needs positive values")
    shifts = np.sort(np.concatenate([np.subtract.outer(np.log(a), np.log(b)).ravel() for a, b in blocks]))
    cut, attained = _shift_cut(tuple((len(a), len(b)) for a, b in blocks), level)
    estimate = math.exp(float(np.median(shifts)))
    if cut == 0:
        return Interval(estimate, 0.0, math.inf, 1.0)
    return Interval(estimate, math.exp(shifts[cut - 1]), math.exp(shifts[-cut]), attained)


@lru_cache(maxsize=256)
def _shift_cut(sizes: tuple[tuple[int, int], ...], level: float) -> tuple[int, float]:
    """Give how many of the shifts lie outside the interval on either side, or on a limit, and what it attains.

    There are m*n shifts in each block, of m and n values.
    """
    if sum(m * n for m, n in sizes) > MOST_EXACT:
        middle = sum(m * n for m, n in sizes) / 2
        spread = math.sqrt(sum(m * n * (m + n + 1) for m, n in sizes) / 12)
        normal = statistics.NormalDist()
        cut = max(0, math.floor(middle + 0.5 + spread * normal.inv_cdf((1 - level) / 2)))
        return cut, 1 - 2 * normal.cdf((cut - 0.5 - middle) / spread)
    below = np.cumsum(reduce(np.convolve, (mann_whitney_null(m, n) for m, n in sizes)))
    cut = int(np.searchsorted(below, (1 - level) / 2, side="right"))
    return cut, float(1 - 2 * below[cut - 1]) if cut else 1.0


def theil_sen(x: Sequence[float], y: Sequence[float], level: float = 0.95) -> Interval:
    """Estimate the slope of y over x: the median of the slopes of all pairs of points, and its interval.

    One point in four may lie anywhere and hardly moves it. The limits are order statistics of the slopes, by the normal
    approximation to Kendall's tau with ties (Sen: Estimates of the regression coefficient based on Kendall's tau,
    1968). Raises ValueError where all points have one x.
    """
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    wider = np.subtract.outer(xs, xs)
    pairs = wider > 0
    slopes = np.sort(np.subtract.outer(ys, ys)[pairs] / wider[pairs])
    if not len(slopes):
        raise ValueError("a slope needs two different x")
    n = len(xs)
    ties = sum(
        int(count) * (int(count) - 1) * (2 * int(count) + 5)
        for values in (xs, ys)
        for count in np.unique(values, return_counts=True)[1]
    )
    spread = math.sqrt(max(0.0, (n * (n - 1) * (2 * n + 5) - ties) / 18))
    away = statistics.NormalDist().inv_cdf((1 + level) / 2) * spread
    low = max(0, round((len(slopes) - away) / 2) - 1)
    high = min(len(slopes) - 1, round((len(slopes) + away) / 2))
    return Interval(float(np.median(slopes)), float(slopes[low]), float(slopes[high]), level)


def welch_p(a: Sequence[float], b: Sequence[float]) -> float:
    """Give the two-sided p-value of Welch's t-test on the logarithms, 1 where a sample has fewer than two values.

    A rank test of 5 against 5 can't go below 0.008, however far apart the samples are, and so can't survive a
    correction for many comparisons; this one can (Welch: The generalization of "Student's" problem when several
    different population variances are involved, 1947). Raises ValueError where a value isn't positive.
    """
    if len(a) < 2 or len(b) < 2:
        return 1.0
    if min(*a, *b) <= 0:
        raise ValueError("a ratio needs positive values")
    x, y = np.log(a), np.log(b)
    if np.ptp(x) == 0 and np.ptp(y) == 0:
        return float(x[0] == y[0])
    from scipy.special import stdtr  # noqa: PLC0415 - slow to import, though not as slow as scipy.stats

    parts = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(x) - 1) + parts[1] ** 2 / (len(y) - 1))
    return float(2 * stdtr(freedom, -abs(x.mean() - y.mean()) / math.sqrt(sum(parts))))


def blocked_p(blocks: Sequence[tuple[Sequence[float], Sequence[float]]]) -> float:
    """Give the two-sided p-value of a t-test on the logarithms, of values that are compared within their blocks only.

    With two values or more on each side of every block, it is Welch's test on the mean of the blocks' differences, each
    with its own variances. With fewer, it is Student's paired test on those differences, one for each block; of a
    single block it is `welch_p`. Raises ValueError as that does.
    """
    if len(blocks) == 1:
        return welch_p(*blocks[0])
    if not blocks or min(min(*a, *b) for a, b in blocks) <= 0:
        raise ValueError("a ratio needs positive values")
    logs = [(np.log(a), np.log(b)) for a, b in blocks]
    differences = np.array([x.mean() - y.mean() for x, y in logs])
    if all(len(x) > 1 and len(y) > 1 for x, y in logs):
        parts = np.array([(side.var(ddof=1) / len(side), len(side) - 1) for pair in logs for side in pair])
        error = parts[:, 0].sum() / len(blocks) ** 2
        weights = (parts[:, 0] ** 2 / parts[:, 1]).sum()
        freedom = parts[:, 0].sum() ** 2 / weights if weights else 0.0
    else:
        error, freedom = differences.var(ddof=1) / len(differences), float(len(differences) - 1)
    if not error or not freedom:
        return float(differences.mean() == 0)
    from scipy.special import stdtr  # noqa: PLC0415 - slow to import, though not as slow as scipy.stats

    return float(2 * stdtr(freedom, -abs(differences.mean()) / math.sqrt(error)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number so that the chance of any false alarm stays below the level.

    Holm: A simple sequentially rejective multiple test procedure, 1979. The result is in the order of the input.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def samples_needed(quantile: float) -> int:
    """Give the fewest samples from which a quantile can be told with an upper limit below the sample's maximum.

    The rank of the upper 95 % limit is np + 1.96 sqrt(np(1-p)), rounded up, plus one (Le Boudec: Performance
    Evaluation of Computer and Communication Systems, section 2.2); it must be less than n. 726 samples for p99, 7,289
    for p99.9.
    """
    tail = 1 - quantile
    # n*tail - 1.96*sqrt(n*quantile*tail) - 2 = 0 is quadratic in sqrt(n).
    half = 1.96 * math.sqrt(quantile * tail)
    root = (half + math.sqrt(half * half + 8 * tail)) / (2 * tail)
    return max(1, math.ceil(root * root - 1e-9))


def quantile_ranks(
    samples: int, quantiles: NDArray[np.float64], level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the ranks, from 1, of the two order statistics that enclose each quantile with at least this confidence.

    How many of n samples lie below the true quantile p is binomial (n, p), whatever the distribution: the lower rank is
    the smallest k with P(X <= k) >= (1-level)/2, the upper one is one more than the smallest with P(X <= k) >=
    (1+level)/2 (David, Nagaraja: Order Statistics, section 7.1; Conover: Practical Nonparametric Statistics, section
    3.2). A rank of 0 or of n + 1 is no limit: there are too few samples.
    """
    lower = _binomial_quantile((1 - level) / 2, samples, quantiles)
    upper = _binomial_quantile((1 + level) / 2, samples, quantiles)
    return lower, upper + 1


def _binomial_quantile(probability: float, n: int, p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the smallest whole k with P(X <= k) >= probability, X binomial (n, p)."""
    from scipy.special import bdtr, bdtrik  # noqa: PLC0415 - slow to import

    # bdtrik is the root of the continuous extension, good to its last digits only: the steps next to it are tried.
    near = np.clip(np.ceil(bdtrik(probability, n, p)), 0, n)
    for _ in range(2):
        near = np.where((near > 0) & (bdtr(near - 1, n, p) >= probability), near - 1, near)
        near = np.where(bdtr(near, n, p) < probability, near + 1, near)
    return np.asarray(near, dtype=np.float64)
