"""What is kept of each interval of a window, and that it has an end however long the window."""

from __future__ import annotations

import numpy as np
import pytest
from driving import count, drive
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import peer

from clients import histogram
from clients.session import MOST_INTERVALS, interval_ns


@pytest.mark.parametrize(
    ("duration_s", "length_ms"),
    [(0.05, 100), (1, 100), (60, 100), (60.1, 200), (120, 200), (121, 500), (300, 500), (301, 1000), (3600, 10_000)],
)
def test_an_interval_has_100_ms_or_the_next_round_length_that_makes_600_of_them(
    duration_s: float, length_ms: int
) -> None:
    assert interval_ns(duration_s) == length_ms * 1_000_000


@given(st.floats(0.001, 1e6))
def test_there_are_never_more_than_600_intervals_and_in_a_long_window_at_least_240(duration_s: float) -> None:
    intervals = duration_s * 1e9 / interval_ns(duration_s)
    assert intervals <= MOST_INTERVALS
    if duration_s > 60:
        assert intervals >= 0.4 * MOST_INTERVALS - 1e-6


VALUES = st.lists(st.integers(0, histogram.HIGHEST_NS), max_size=30)


@given(st.lists(VALUES, max_size=8))
@settings(deadline=None)
def test_what_was_counted_in_each_interval_adds_up_to_the_whole(intervals: list[list[int]]) -> None:
    counts, total = histogram.empty(), histogram.empty()
    changes = histogram.Changes(counts)
    for values in intervals:
        histogram.count_all(counts, np.array(values, np.int64))
        added = changes.take()
        assert added.counts.sum() == len(values)
        added.add_to(total)
    assert total.tolist() == counts.tolist()


def test_an_interval_takes_no_more_room_than_the_buckets_it_touched() -> None:
    """An hour of intervals of 100 ms, each of 10,000 messages of around 100 us."""
    rng = np.random.default_rng(1)
    counts, most = histogram.empty(), 0
    changes = histogram.Changes(counts)
    for _ in range(50):
        histogram.count_all(counts, rng.lognormal(11.5, 0.3, 10_000).astype(np.int64))
        kept = changes.take()
        assert kept.buckets.base is kept.counts.base is None  # they keep no larger array alive
        most = max(most, kept.buckets.nbytes + kept.counts.nbytes)
    assert most * MOST_INTERVALS < 16 << 20


def test_what_was_counted_before_a_new_beginning_is_forgotten() -> None:
    counts = histogram.empty()
    changes = histogram.Changes(counts)
    counts[5] = 3
    changes.take()
    counts[:] = 0
    changes.forget()
    counts[5] = 1
    assert [array.tolist() for array in changes.take()] == [[5], [1]]


@pytest.mark.parametrize("workload", [{}, {"workload": "open", "rate_hz": 2000.0}])
def test_each_interval_has_a_histogram_of_its_completions(workload: dict[str, object]) -> None:
    with peer("tcp", 64) as server:
        load = drive(server, connections=3, duration_s=0.35, **workload)
    assert [count(text) for text in load.interval_hdrs] == load.intervals
    assert len(load.intervals) == 4
    together = sum(histogram.decode(text) for text in load.interval_hdrs)
    assert histogram.encode(np.asarray(together)) == (load.response_hdr or load.service_hdr)


def test_with_recording_off_nothing_is_in_any_histogram_and_the_messages_are_counted_all_the_same() -> None:
    from clients.job import Job  # noqa: PLC0415
    from clients.opening import connect  # noqa: PLC0415
    from clients.session import run  # noqa: PLC0415

    with peer("tcp", 64) as server:
        for workload in ({}, {"workload": "open", "rate_hz": 2000.0}):
            job = Job(
                address=server.address, connections=2, message_bytes=64, duration_s=0.1, record_off=True, **workload
            )
            load = run(job, connect(job))
            assert load.completed == sum(load.intervals) > 0
            assert count(load.service_hdr) == 0
