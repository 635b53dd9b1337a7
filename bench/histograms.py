"""Percentiles of recorded times: read from an HdrHistogram, with their confidence intervals, and as a curve.

Percentiles are never averaged: histograms are added, and the sum is asked. Nothing here knows a trial or a table.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.stats import quantile_ranks, samples_needed

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

Floats = NDArray[np.float64]

# HdrHistogram V2, compressed: a cookie and a length, then zlib's bytes of a header and the counters, at most nine bytes
# for each (LEB128). The header is a cookie, a length, an offset, digits, the lowest and the highest value, and a ratio.
COOKIES, HEADER = struct.Struct(">II"), struct.Struct(">IIIIQQd")
MOST_DIGITS = 3
MOST_BYTES = 1 << 20
MOST_SAMPLES = 2.0**48  # at ten million a second, most of a year

# Points of the percentile curve: 1/(1-p) from 1 (the minimum) to a million, 16 a decade, and the median.
CURVE = tuple(sorted({0.5, *(round(1 - 10 ** (-step / 16), 9) for step in range(16 * 6 + 1))}))


def decode(text: str) -> HdrHistogram | None:
    """Read a histogram; None where there is none, it is empty, or it isn't one."""
    hist = decode_any(text)
    return hist if hist is not None and hist.total_count > 0 else None


def decode_any(text: str) -> HdrHistogram | None:
    """Read a histogram, be it empty; None where there is none, or it isn't one."""
    from hdrh.histogram import HdrHistogram  # noqa: PLC0415 - used here alone

    if not text:
        return None
    try:
        hist = HdrHistogram.decode(text) if _is_bounded(text) else None
    except Exception:  # base64, zlib, struct and hdrh's own: whichever part of a damaged text is met first
        return None
    return hist if hist is not None and _is_counted(hist) else None


def _is_bounded(text: str) -> bool:
    """Whether a histogram takes no more memory than one of ours, in whatever file it was found.

    A few bytes of zlib's may stand for gigabytes, and a header of 40 bytes asks for a counter for each value from the
    lowest to the highest, in so many digits.
    """
    packed = base64.b64decode(text)[COOKIES.size :]
    plain = zlib.decompressobj().decompress(packed, MOST_BYTES + 1)
    if len(plain) > MOST_BYTES:
        return False
    _, _, _, digits, lowest, highest, _ = HEADER.unpack_from(plain)
    return bool(digits <= MOST_DIGITS and lowest < highest < 1 << 62)


def _is_counted(hist: HdrHistogram) -> bool:
    """Whether its counters are counts, which can be added up: any bytes can be read as some numbers."""
    counts = np.ctypeslib.as_array(hist.counts)
    return bool(counts.min() >= 0 and counts.sum(dtype=np.float64) < MOST_SAMPLES)


def merged(texts: Sequence[str]) -> str:
    """Add histograms, as text, and write down their sum; "" where none of them holds anything."""
    found = [hist for text in texts if (hist := decode(text)) is not None]
    if not found:
        return ""
    return str(added(found).encode().decode())


def added(hists: Sequence[HdrHistogram]) -> HdrHistogram:
    """Add one or more histograms. The one that holds the highest values takes up the others, and is returned."""
    total = max(hists, key=lambda hist: hist.get_value_from_index(hist.counts_len - 1))
    for other in hists:
        if other is not total:
            total.add(other)
    return total


def quantiles_us(hist: HdrHistogram, at: Sequence[float]) -> Floats:
    """Give the smallest recorded times, in us, that at least these shares of samples don't exceed (nearest rank)."""
    ranks = np.ceil(np.asarray(at) * float(hist.total_count) - 1e-6)
    return _ranked_us(hist, np.maximum(1, ranks))


def _ranked_us(hist: HdrHistogram, ranks: NDArray[np.float64], lowest: bool = False) -> Floats:
    """Give the times of these ranks, from 1, in us: the highest that their buckets hold, or the lowest."""
    last = hist.get_counts_array_index(hist.max_value)  # far before the end of the array, as a rule
    counts = np.ctypeslib.as_array(hist.counts)[: last + 1]
    recorded = np.flatnonzero(counts)
    reached = np.cumsum(counts[recorded])
    indices = recorded[np.minimum(np.searchsorted(reached, ranks), len(recorded) - 1)]
    starts, widths = _buckets(hist, indices)
    return np.asarray(starts if lowest else starts + widths - 1, dtype=np.float64) / 1e3


def _buckets(hist: HdrHistogram, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the lowest values of the histogram's counters, and how many values each counts: all of them at once.

    The first counters are of equal width; from there on, every half a sub-bucket count of them are twice as wide as the
    ones before (Tene: HdrHistogram).
    """
    half = hist.sub_bucket_half_count
    doubled = (indices >> hist.sub_bucket_half_count_magnitude) - 1
    within = np.where(doubled < 0, indices, (indices & (half - 1)) + half)
    widths = np.left_shift(1, np.maximum(doubled, 0) + hist.unit_magnitude)
    return within * widths, widths


class Percentiles(NamedTuple):
    """Percentiles of one histogram, in us, an array each with a value for each percentile asked for.

    NaN where there are too few samples to tell it; `high` is infinite where only a lower limit can be told. `bound`
    says where `value` is only a lower bound, because messages that would belong above it were not finished.
    """

    value: Floats
    low: Floats  # limits of the 95 % interval
    high: Floats
    bound: NDArray[np.bool_]


def percentiles_us(hist: HdrHistogram, at: Sequence[float], unfinished: int = 0) -> Percentiles:
    """Give percentiles with their exact 95 % order-statistic intervals.

    `unfinished` messages were still waited for when the window closed. Of n + c messages, c of them unfinished, no
    percentile above n/(n+c) can be told: the value is then a lower bound. Below it, the upper limit counts the
    unfinished as longer than any that finished.
    """
    n = int(hist.total_count)
    wanted = np.asarray(at, dtype=np.float64)
    low_ranks, high_ranks = quantile_ranks(n, wanted)
    if unfinished:
        _, high_ranks = quantile_ranks(n + unfinished, wanted)
    told = n >= _needs(tuple(at))
    value, high = quantiles_us(hist, at), _ranked_us(hist, high_ranks)
    low = np.where(low_ranks > 0, _ranked_us(hist, np.maximum(1, low_ranks), lowest=True), 0.0)
    return Percentiles(
        np.where(told, value, math.nan),
        np.where(told, low, math.nan),
        np.where(told, np.where(high_ranks > n, math.inf, high), math.nan),
        told & (wanted > n / (n + unfinished)),
    )


def told_us(hist: HdrHistogram, at: Sequence[float]) -> Floats:
    """Give percentiles without their intervals, NaN where there are too few samples to tell them."""
    return np.where(hist.total_count >= _needs(tuple(at)), quantiles_us(hist, at), math.nan)


@lru_cache(maxsize=64)
def _needs(at: tuple[float, ...]) -> NDArray[np.int64]:
    return np.array([samples_needed(quantile) for quantile in at])
