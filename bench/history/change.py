"""Where a series of values has changed: E-divisive, with a permutation test for each split.

Matteson and James: A Nonparametric Approach for Multiple Change Point Analysis of Multivariate Data, 2014. The
libraries that have it bring clients of servers along or pin the versions of half of what is used here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

ALPHA = 0.002  # of a series: about so often is a change found in one that has none
PERMUTATIONS = 4999
FEWEST = 4  # values on either side of a change
LONGEST = 400  # values that are looked at, the newest: the test takes the square of them
# Shuffles that come out the same (those within one level) count by half, which is Lancaster's mid-P (1961). Compared
# to the last bit, it would be chance which of them count: their sums are rounded differently.
CLOSE = 1e-9
AT_ONCE = 1 << 17  # distances of shuffles in one step: they stay in a core's cache, and most calls of numpy are saved


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


def first_found(found: Sequence[Change], values: Sequence[float], came: Sequence[int]) -> list[Change]:
    """Of the changes of a series, give those that were not found before its newest value was there.

    `came` are the places of the values in the order in which they came. A change is looked for again without the newest
    value, without the newest two, and so on: one near the level of significance comes and goes, and was found already.
    More values move a change a little: it is the same as the nearest that goes the same way, unless they are further
    apart than there are values since.
    """
    fresh = list(found)
    before = list(came[:-1])
    while any(place >= change.at for place in before for change in fresh):
        places = sorted(before)
        for earlier in changes([values[place] for place in places]):
            at = places[earlier.at]
            alike = [change for change in found if (change.ratio > 1) == (earlier.ratio > 1)]
            nearest = min(alike, key=lambda change: abs(change.at - at), default=None)
            if nearest is not None and nearest in fresh and abs(nearest.at - at) <= len(values) - nearest.at:
                fresh.remove(nearest)
        before.pop()
    return fresh


@cache
def fewest_values(alpha: float = ALPHA) -> int:
    """How many values a series needs for a change to be found in it, however clear it is.

    The clearest change has half of the values before it. There are C(n, n / 2) ways to choose those that come first.
    Two of them part the values as they were, or the other way round, and count by half.
    """
    return next(n for n in count(2 * FEWEST) if 1 / comb(n, n // 2) <= alpha)


def _splits(logs: Floats, offset: int, alpha: float) -> Iterator[tuple[int, float]]:
    n = len(logs)
    if alpha < 1 / (PERMUTATIONS + 1) or n < fewest_values(alpha):
        return
    best, highest = _best_split(logs)
    at, statistic = int(best), float(highest)
    shuffler = np.random.default_rng(n)  # the same values give the same answer
    margin = CLOSE * abs(statistic)
    reached = 1.0
    for size in _batches(max(1, AT_ONCE // n**2)):
        _, shuffled = _best_split(shuffler.permuted(np.tile(logs, (size, 1)), axis=1))
        above, as_high = (int(np.sum(shuffled >= statistic + off)) for off in (margin, -margin))
        reached += (above + as_high) / 2
        if reached / (PERMUTATIONS + 1) > alpha:
            return
    yield offset + at, reached / (PERMUTATIONS + 1)
    yield from _splits(logs[:at], offset, alpha / 2)
    yield from _splits(logs[at:], offset + at, alpha / 2)


def _batches(size: int) -> Iterator[int]:
    for done in range(0, PERMUTATIONS, size):
        yield min(size, PERMUTATIONS - done)


def _best_split(logs: Floats) -> tuple[Places, Floats]:
    """Give the split into two parts of the largest scaled energy distance (equations 5 and 7, with exponent 1).

    The last axis is that of the values; before it, there may be one of shuffles.
    """
    n = logs.shape[-1]
    distances = logs[..., :, None] - logs[..., None, :]
    np.abs(distances, out=distances)
    # Sums of |x - y| within the first k, and between the first k and all, for all k from running sums.
    within = np.cumsum(np.einsum("...ij,ij->...i", distances, np.tri(n)), axis=-1)  # of pairs i < j <= k
    to_first = np.cumsum(np.sum(distances, axis=-1), axis=-1)  # of all pairs with the first in the first k
    total = to_first[..., -1:] / 2
    k = np.arange(1, n, dtype=np.float64)
    left = within[..., :-1]
    between = to_first[..., :-1] - 2 * left
    right = total - left - between
    m = n - k
    with np.errstate(divide="ignore", invalid="ignore"):
        energy = 2 * between / (k * m) - left / (k * (k - 1) / 2) - right / (m * (m - 1) / 2)
        scaled = np.where((k >= FEWEST) & (m >= FEWEST), k * m / n * energy, -np.inf)
    return np.argmax(scaled, axis=-1) + 1, np.max(scaled, axis=-1)
