"""The histogram of the load generator has the buckets of HdrHistogram(1, 1_000_000_000_000, 3), and its encoding."""

from __future__ import annotations

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from clients import histogram

VALUES = st.lists(st.integers(0, histogram.HIGHEST_NS), min_size=1, max_size=200)


def counted(values: list[int]) -> histogram.Counts:
    counts = histogram.empty()
    histogram.count_all(counts, np.array(values, np.int64))
    return counts


def reference(values: list[int]) -> HdrHistogram:
    recorded = HdrHistogram(1, 1_000_000_000_000, 3)
    for value in values:
        assert recorded.record_value(value)
    return recorded


@given(VALUES)
@settings(deadline=None)
def test_any_values_fall_into_the_buckets_of_hdrhistogram(values: list[int]) -> None:
    assert counted(values).tolist() == list(reference(values).counts)


def test_values_at_the_edge_of_every_bucket_fall_into_the_buckets_of_hdrhistogram() -> None:
    edges = [edge + step for edge in (1 << bit for bit in range(40)) for step in (-1, 0, 1)]
    bucket = HdrHistogram(1, 1_000_000_000_000, 3)
    starts = [bucket.get_value_from_index(index) for index in range(0, histogram.BUCKETS, 7)]
    values = [value for value in edges + starts if value <= histogram.HIGHEST_NS]
    assert counted(values).tolist() == list(reference(values).counts)


def test_a_value_above_the_highest_is_counted_as_the_highest_and_one_below_zero_as_zero() -> None:
    counts = counted([histogram.HIGHEST_NS + 1, 1 << 62, -5])
    assert counts.tolist() == counted([histogram.HIGHEST_NS, histogram.HIGHEST_NS, 0]).tolist()


@given(st.integers(1, histogram.HIGHEST_NS))
@settings(deadline=None)
def test_a_recorded_value_is_read_back_within_a_thousandth(value: int) -> None:
    read = histogram.to_hdr(counted([value])).get_value_at_percentile(50)
    assert abs(read - value) <= value / 1000


@given(VALUES)
@settings(deadline=None)
def test_the_encoding_is_that_of_hdrhistogram_and_comes_back_the_same(values: list[int]) -> None:
    counts = counted(values)
    text = histogram.encode(counts)
    assert text == reference(values).encode().decode()
    assert histogram.decode(text).tolist() == counts.tolist()


def test_percentiles_and_totals_are_those_of_hdrhistogram() -> None:
    values = np.random.default_rng(3).lognormal(11, 1, 5000).astype(int).tolist()
    ours, theirs = histogram.to_hdr(counted(values)), reference(values)
    assert ours.total_count == theirs.total_count == 5000
    for percentile in (0, 1, 50, 90, 99, 99.9, 100):
        assert ours.get_value_at_percentile(percentile) == theirs.get_value_at_percentile(percentile)
    assert ours.min_value <= min(values) <= max(values) <= ours.max_value


def test_an_empty_histogram_survives_its_encoding() -> None:
    assert histogram.decode(histogram.encode(histogram.empty())).sum() == 0


def test_a_histogram_with_other_buckets_is_not_taken() -> None:
    with pytest.raises(ValueError, match="buckets"):
        histogram.from_hdr(HdrHistogram(1, 3_600_000_000, 2))
