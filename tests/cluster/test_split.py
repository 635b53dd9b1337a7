"""A load that is split over hosts and put together again: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from bench.cluster.split import (
    Window,
    deal,
    merge_hdrs,
    merge_loads,
    merge_machines,
    overlap,
    split_job,
    window_of,
)
from bench.record import Load, Machine
from clients import histogram

MS = 10**6
SECOND = 10**9


def job(**fields: Any) -> dict[str, Any]:
    usual = {"connections": 64, "threads": 1, "silent": 0, "cap": 0, "rate_hz": 0.0, "seed": 1, "address": "tcp:h:1"}
    return usual | fields


def encoded(times_ns: list[int]) -> str:
    counts = histogram.empty()
    histogram.count_all(counts, np.array(times_ns, np.int64))
    return histogram.encode(counts)


def load(times_ns: list[int], **fields: Any) -> Load:
    usual: dict[str, Any] = {
        "opened_ns": 5 * SECOND,
        "closed_ns": 6 * SECOND,
        "connections": 2,
        "planned": len(times_ns),
        "completed": len(times_ns),
        "errors": {},
        "timed_out": 0,
        "unsent": 0,
        "in_flight": 0,
        "bytes_echoed": 64 * len(times_ns),
        "interval_ns": 100 * MS,
        "intervals": [len(times_ns)],
        "service_hdr": encoded(times_ns),
        "cpu_user_ns": 3,
        "cpu_system_ns": 4,
        "worker_busy": [0.5],
    }
    return Load(**(usual | fields))


@settings(deadline=None)
@given(
    connections=some.integers(1, 1_000_000),
    silent=some.integers(0, 10_000),
    rate_hz=some.floats(0.001, 1e8),
    cap=some.integers(0, 1_000_000),
    threads=some.integers(1, 64),
    hosts=some.integers(1, 40),
)
def test_the_shares_of_a_job_add_up_to_it_and_are_as_even_as_they_can_be(
    connections: int, silent: int, rate_hz: float, cap: int, threads: int, hosts: int
) -> None:
    threads = min(threads, connections, cap or threads)
    whole = job(connections=connections, silent=silent, rate_hz=rate_hz, cap=cap, threads=threads)
    parts = split_job(whole, hosts)
    assert 1 <= len(parts) <= hosts
    for name in ("connections", "silent", "cap"):
        amounts = [part[name] for part in parts]
        assert sum(amounts) == whole[name]
        assert max(amounts) - min(amounts) <= 1
    assert math.fsum(part["rate_hz"] for part in parts) == pytest.approx(rate_hz, rel=1e-12)
    assert all(part["rate_hz"] == pytest.approx(rate_hz * part["connections"] / connections) for part in parts)
    assert all(part["connections"] >= threads for part in parts)
    assert all(part["cap"] >= threads for part in parts) or not cap
    assert len({part["seed"] for part in parts}) == len(parts)
    split = {"connections", "silent", "cap", "rate_hz", "seed"}
    assert all(
        {key: part[key] for key in part.keys() - split} == {"threads": threads, "address": "tcp:h:1"} for part in parts
    )


@settings(deadline=None)
@given(total=some.integers(0, 10**9), parts=some.integers(1, 1000))
def test_a_number_is_dealt_out_whole_remainders_to_the_first(total: int, parts: int) -> None:
    dealt = deal(total, parts)
    assert (sum(dealt), len(dealt)) == (total, parts)
    assert dealt == sorted(dealt, reverse=True)
    assert dealt[0] - dealt[-1] <= 1


def test_a_job_for_one_host_is_the_job_itself() -> None:
    assert split_job(job(connections=7, rate_hz=3.0), 1) == [job(connections=7, rate_hz=3.0)]


@pytest.mark.parametrize(
    ("fields", "hosts"), [({"connections": 2}, 2), ({"connections": 1}, 1), ({"cap": 1}, 1), ({"threads": 30}, 2)]
)
def test_hosts_for_which_there_is_nothing_to_do_get_no_job(fields: dict[str, Any], hosts: int) -> None:
    assert len(split_job(job(**fields), 3)) == hosts


times = some.lists(some.integers(0, 10**12), max_size=200)


@settings(deadline=None)
@given(parts=some.lists(times, min_size=1, max_size=5))
def test_merged_histograms_are_byte_for_byte_those_of_the_same_values_recorded_in_one_place(
    parts: list[list[int]],
) -> None:
    assert merge_hdrs(map(encoded, parts)) == encoded([value for part in parts for value in part])


def test_where_no_host_has_a_histogram_the_sum_has_none() -> None:
    assert merge_hdrs(["", ""]) == ""


def test_loads_are_added_count_by_count_and_interval_by_interval() -> None:
    one = load(
        [1, 2, 3],
        errors={"reset": 1, "lost": 2},
        intervals=[2, 1],
        interval_hdrs=[encoded([1, 2]), encoded([3])],
        response_hdr=encoded([5]),
        offered_hz=10.0,
        pacing="sleep",
        worker_busy=[0.2, 0.9],
        threads=2,
    )
    other = load(
        [4],
        opened_ns=77,
        closed_ns=77 + 2 * SECOND,
        errors={"reset": 3},
        intervals=[0, 0, 1],
        interval_hdrs=[encoded([]), encoded([]), encoded([4])],
        response_hdr=encoded([6, 7]),
        offered_hz=20.0,
        pacing="sleep",
        timed_out=1,
        unsent=2,
        in_flight=3,
    )
    both = merge_loads([one, other])
    assert (both.planned, both.completed, both.connections, both.bytes_echoed) == (4, 4, 4, 256)
    assert (both.errors, both.timed_out, both.unsent, both.in_flight) == ({"reset": 4, "lost": 2}, 1, 2, 3)
    assert (both.opened_ns, both.closed_ns) == (0, 2 * SECOND)
    assert both.intervals == [2, 1, 1]
    assert both.interval_hdrs == [encoded([1, 2]), encoded([3]), encoded([4])]
    assert both.service_hdr == encoded([1, 2, 3, 4])
    assert both.response_hdr == encoded([5, 6, 7])
    assert (both.connect_hdr, both.lag_hdr, both.pacing) == ("", "", "sleep")
    assert (both.offered_hz, both.worker_busy, both.threads) == (30.0, [0.2, 0.9, 0.5], 3)
    assert (both.cpu_user_ns, both.cpu_system_ns) == (6, 8)


def test_every_field_of_a_load_is_either_added_or_put_together() -> None:
    """One that is new to Load and unknown to the merge would get lost: here it would differ from the parts."""
    values: dict[str, Any] = {
        "rounds": 2,
        "connects": 3,
        "mute": 1,
        "interval_hdrs": [encoded([1])],
        "pacing": "x",
        "offered_hz": 1.0,
    }
    values |= {name: encoded([1]) for name in ("response_hdr", "lag_hdr", "connect_hdr")}
    one = load([1], errors={"lost": 1}, timed_out=1, unsent=1, in_flight=1, **values)
    told = msgspec.to_builtins(merge_loads([one, one]))
    assert {name for name, value in told.items() if not value} == {"opened_ns"}


def test_the_load_of_one_host_stays_as_it_is() -> None:
    assert merge_loads([load([1])]) == load([1])


def test_a_sum_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a load"):
        merge_loads([])


def machine(cpus: list[int], idle_ns: float, wait_ns: float | None = 1.0) -> Machine:
    return Machine(
        server_idle_ns=0, server_steal_ns=0, load_cpus=cpus, load_idle_ns=idle_ns, load_steal_ns=2, load_wait_ns=wait_ns
    )


def test_the_cpus_of_all_load_hosts_are_added() -> None:
    both = merge_machines([machine([1], 10), machine([1, 2], 20)])
    assert both is not None
    assert (both.load_cpus, both.load_idle_ns, both.load_steal_ns, both.load_wait_ns) == ([1, 1, 2], 30, 4, 2)


def test_what_is_not_known_of_one_host_is_not_known_of_all() -> None:
    assert merge_machines([machine([1], 10), None]) is None
    without = merge_machines([machine([1], 10), machine([1], 10, None)])
    assert without is not None and without.load_wait_ns is None


def test_a_window_lies_between_the_go_and_the_answer_less_half_the_way() -> None:
    found = window_of(sent_ns=1000 * MS, heard_ns=1204 * MS, until_open_ns=200 * MS, length_ns=SECOND)
    assert found == Window(1202 * MS, 2202 * MS, 2 * MS)


@settings(deadline=None)
@given(there_ns=some.integers(0, 50 * MS), back_ns=some.integers(0, 50 * MS), waited_ns=some.integers(0, SECOND))
def test_a_window_is_misplaced_by_no_more_than_its_uncertainty(there_ns: int, back_ns: int, waited_ns: int) -> None:
    opened_ns = there_ns + waited_ns
    found = window_of(0, opened_ns + back_ns, waited_ns, SECOND)
    assert abs(found.opened_ns - opened_ns) <= found.uncertainty_ns + 1


@pytest.mark.parametrize(
    ("late_ms", "share"), [([0, 0, 0], 1.0), ([0, 40, 10], 0.96), ([500, 0, 100], 0.5), ([0, 1500], 0.0)]
)
def test_the_overlap_is_the_share_of_the_window_in_which_all_were_open(late_ms: list[int], share: float) -> None:
    windows = [Window(late * MS, late * MS + SECOND) for late in late_ms]
    assert overlap(windows) == pytest.approx(share)


def test_a_host_that_ended_early_did_not_overlap_for_the_rest() -> None:
    assert overlap([Window(0, SECOND), Window(0, SECOND // 4)]) == pytest.approx(0.25)
