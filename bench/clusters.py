"""Whether a few values fall into two separate groups: pure functions of plain numbers."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_IN_GROUP = 2  # one value apart from the others is an outlier, not a group
GAP = 5.0  # the groups are further apart than so many times the spread within the wider one
LEAST_RATIO = 1.25  # of the centres: a smaller difference is of no account, however clear


class TwoGroups(NamedTuple):
    """The centres (means) of two groups and how many values each has, the lower group first."""

    low: float
    lows: int
    high: float
    highs: int


def two_groups(values: Iterable[float]) -> TwoGroups | None:
    """Split values where the squares within the parts are least; None where that does not make two separate groups.

    The split is that of Otsu (1979), "A Threshold Selection Method from Gray-Level Histograms", which for values on a
    line is Fisher's and Jenks' optimal classification into two. There always is one, so the groups also have to be
    separate: the gap between them is more than GAP times the range of the wider one. Of normal samples of five,
    whatever their deviation, 1 % pass for two groups by that alone; of six 0.2 %, and of eight 0.01 %.
    """
    found = sorted(values)
    splits = range(LEAST_IN_GROUP, len(found) - LEAST_IN_GROUP + 1)
    if not splits or found[0] <= 0:
        return None
    at = splits[int(np.argmin(_squares(found)[LEAST_IN_GROUP : len(found) - LEAST_IN_GROUP + 1]))]
    low, high = found[:at], found[at:]
    spread = max(low[-1] - low[0], high[-1] - high[0])
    if high[0] - low[-1] <= GAP * spread or fmean(high) < LEAST_RATIO * fmean(low):
        return None
    return TwoGroups(fmean(low), len(low), fmean(high), len(high))


def _squares(values: list[float]) -> NDArray[np.float64]:
    """The squares within the two parts, by how many values the lower one has: all squares less those between them."""
    centred = np.array(values) - fmean(values)
    below = np.concatenate([[0.0], np.cumsum(centred)])
    sizes = np.arange(len(values) + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below**2 / sizes + (below[-1] - below) ** 2 / (len(values) - sizes)
    return np.asarray(float(np.sum(centred**2)) - between)
