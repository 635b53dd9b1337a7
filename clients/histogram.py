"""Latency counts in HDR buckets: recorded by compiled code, read by everybody as an HdrHistogram.

The buckets are those of HdrHistogram(1, 1_000_000_000_000, 3): values are nanoseconds up to 1,000 s, and a bucket is at
most 0.1 % of its value wide. No percentile is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import numpy as np
from hdrh.histogram import HdrHistogram

from clients.compiled import compiled, inlined

LOWEST_NS = 1
HIGHEST_NS = 1_000_000_000_000
DIGITS = 3

# 3 digits need 2 * 10^3 buckets of equal width at the bottom, rounded up to a power of two. Above them each doubling of
# the value gets the upper half of as many, twice as wide.
_LINEAR = 2048
_HALF_BITS = 10
BUCKETS = (HIGHEST_NS.bit_length() - (_HALF_BITS + 1) + 2) << _HALF_BITS

Counts = np.ndarray[Any, np.dtype[np.int64]]


@inlined
def bucket_of(value_ns):  # type: ignore[no-untyped-def]
    """Index of the bucket that counts a value; one above HIGHEST_NS is counted as HIGHEST_NS, one below 0 as 0."""
    value = min(max(value_ns, 0), HIGHEST_NS)
    bits = math.frexp(float(value | (_LINEAR - 1)))[1]  # exact: HIGHEST_NS is far below 2^53
    doublings = bits - (_HALF_BITS + 1)
    return (doublings << _HALF_BITS) + (value >> doublings)


@compiled
def count_all(counts, values_ns):  # type: ignore[no-untyped-def]
    """Count each of an int64 array of values."""
    for value_ns in values_ns:
        counts[bucket_of(value_ns)] += 1


def empty() -> Counts:
    """Return zeroed counts, int64 of shape (BUCKETS,)."""
    return np.zeros(BUCKETS, np.int64)


class Sparse(NamedTuple):
    """Counts without the zeros: the indices of buckets, and how many values each holds."""

    buckets: np.ndarray[Any, np.dtype[np.uint16]]
    counts: Counts

    def add_to(self, counts: Counts) -> None:
        """Add these to counts of shape (BUCKETS,)."""
        counts[self.buckets] += self.counts


def sparse(counts: Counts) -> Sparse:
    """Return counts of shape (BUCKETS,) without the zeros."""
    buckets = np.flatnonzero(counts)
    return Sparse(buckets.astype(np.uint16), counts[buckets])


def added(parts: Iterable[Sparse]) -> Counts:
    """Return the sum of some counts, int64 of shape (BUCKETS,)."""
    counts = empty()
    for part in parts:
        part.add_to(counts)
    return counts


@compiled
def _changes(counts, before, buckets, added):  # type: ignore[no-untyped-def]
    found = 0
    for k in range(len(counts)):
        if counts[k] != before[k]:
            buckets[found] = k
            added[found] = counts[k] - before[k]
            before[k] = counts[k]
            found += 1
    return found


class Changes:
    """What is added to counts from one question to the next. Asking takes some 50 us and no large memory."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._before = counts.copy()
        self._buckets = np.empty(BUCKETS, np.uint16)
        self._added = np.empty(BUCKETS, np.int64)

    def take(self) -> Sparse:
        """Return what was added since the last time."""
        found = _changes(self._counts, self._before, self._buckets, self._added)
        return Sparse(self._buckets[:found].copy(), self._added[:found].copy())

    def forget(self) -> None:
        """Begin anew with counts that were set to zero."""
        self._before[:] = 0


def to_hdr(counts: Counts) -> HdrHistogram:
    """Return an HdrHistogram with the same counts."""
    histogram = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    np.frombuffer(histogram.counts, np.int64)[:] = counts
    used = np.flatnonzero(counts)
    if len(used):
        histogram.total_count = int(counts.sum())
        histogram.min_value = histogram.get_value_from_index(int(used[0]))
        highest = histogram.get_value_from_index(int(used[-1]))
        histogram.max_value = histogram.get_highest_equivalent_value(highest)
    return histogram


def from_hdr(histogram: HdrHistogram) -> Counts:
    """Return the counts of an HdrHistogram of this bucketing. Raises ValueError for any other."""
    shape = (histogram.lowest_trackable_value, histogram.highest_trackable_value, histogram.significant_figures)
    if shape != (LOWEST_NS, HIGHEST_NS, DIGITS):
        raise ValueError(f"buckets {shape} are not {(LOWEST_NS, HIGHEST_NS, DIGITS)}")
    return np.fromiter(histogram.counts, np.int64, BUCKETS)


def encode(counts: Counts) -> str:
    """Return the standard V2 encoding, compressed, base64."""
    return cast(bytes, to_hdr(counts).encode()).decode("ascii")


def decode(text: str) -> Counts:
    """Return the counts of a V2 encoding. Raises what hdrh raises for damaged text, ValueError for other buckets."""
    return from_hdr(HdrHistogram.decode(text))
