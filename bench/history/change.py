"""Where a series of values has changed: E-divisive, with a permutation test for each split.

Matteson and James: A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data, 2014. The
libraries that have it bring clients of servers along or pin the versions of half of what is used here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ALPHA = 0.002  # of a series: at most so often is a change found in one that has none
PERMUTATIONS = 4999
FEWEST = 4  # values on either side of a change
LONGEST = 400  # values that are looked at, the newest: the test takes the square of them


class Change(NamedTuple):
    """A change between `values[at - 1]` and `values[at]`; `ratio` is by what factor the median rose."""

    at: int
    ratio: float
    p: float


def changes(values: Sequence[float], alpha: float = ALPHA) -> list[Change]:
    """Find the changes of a series of positive values, in order of place.

    A series is split where its two parts differ most in energy distance, if that is significant when its values are
    shuffled, and so on in each part. The level is shared by halves, so that all splits of a series together keep it.
    Raises ValueError where a value isn't positive.
    """
    if values and min(values) <= 0:
        raise ValueError("a series needs positive values")
    skipped = max(0, len(values) - LONGEST)
    logs = np.log(np.asarray(values[skipped:], dtype=np.float64))
    found = sorted(_splits(logs, 0, alpha))
    bounds = [0, *(at for at, _ in found), len(logs)]
    return [
        Change(
            at + skipped,
            float(np.exp(np.median(logs[at : bounds[number + 2]]) - np.median(logs[bounds[number] : at]))),
            p,
        )
        for number, (at, p) in enumerate(found)
    ]


def _splits(logs: Floats, offset: int, alpha: float) -> Iterator[tuple[int, float]]:
    if len(logs) < 2 * FEWEST or alpha < 1 / (PERMUTATIONS + 1):
        return
    distances = np.abs(logs[:, None] - logs[None, :])
    at, statistic = _best_split(distances)
    shuffler = np.random.default_rng(len(logs))  # the same values give the same answer
    reached = 1
    for _ in range(PERMUTATIONS):
        order = shuffler.permutation(len(logs))
        reached += _best_split(distances[np.ix_(order, order)])[1] >= statistic
        if reached / (PERMUTATIONS + 1) > alpha:
            return
    yield offset + at, reached / (PERMUTATIONS + 1)
    yield from _splits(logs[:at], offset, alpha / 2)
    yield from _splits(logs[at:], offset + at, alpha / 2)


def _best_split(distances: Floats) -> tuple[int, float]:
    """Give the split into two parts of the largest scaled energy distance (equations 5 and 7, with exponent 1)."""
    n = len(distances)
    # Sums of |x - y| within the first k, and between the first k and the others, for all k from running sums.
    rows = np.cumsum(distances, axis=1)
    within = np.cumsum(np.diagonal(rows))  # of pairs i < j <= k
    to_first = np.cumsum(rows[:, -1])  # of all pairs with the first in the first k
    total = to_first[-1] / 2
    k = np.arange(1, n, dtype=np.float64)
    left = within[:-1]
    between = to_first[:-1] - 2 * left
    right = total - left - between
    m = n - k
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = 2 * between / (k * m) - left / (k * (k - 1) / 2) - right / (m * (m - 1) / 2)
        scaled = np.where((k >= FEWEST) & (m >= FEWEST), k * m / n * energy, -np.inf)
    best = int(np.argmax(scaled))
    return best + 1, float(scaled[best])
