"""Recorded times as the claims read them: in a unit of their own, with the code that reads them for every report.

No percentile is computed here (bench.histograms does that), and none is ever averaged: counts are added.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.histograms import decode, quantiles_us

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

US, MS = 1.0, 1e3  # microseconds in a unit


def quantile(text: str, q: float, unit: float = MS) -> float:
    """The smallest time that the share q of all does not exceed, NaN where none was recorded."""
    histogram = decode(text)
    return math.nan if histogram is None else float(quantiles_us(histogram, (q,))[0]) / unit


def mean(text: str, unit: float = MS) -> float:
    """The mean, NaN where none was recorded."""
    histogram = decode(text)
    return math.nan if histogram is None else float(histogram.get_mean_value()) / 1e3 / unit


def longest(text: str, unit: float = MS) -> float:
    """The longest recorded time."""
    return quantile(text, 1.0, unit)


def recorded(text: str) -> int:
    """How many times were recorded."""
    histogram = decode(text)
    return 0 if histogram is None else int(histogram.total_count)


def merge(texts: Iterable[str]) -> HdrHistogram | None:
    """The sum of several histograms; None where nothing was recorded in any."""
    total: HdrHistogram | None = None
    for histogram in filter(None, map(decode, texts)):
        if total is None:
            total = histogram
        else:
            total.add(histogram)
    return total
