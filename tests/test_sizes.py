"""Message sizes drawn from a distribution: what is drawn, and that every workload sends, verifies and counts that."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import peers
import pytest
from driving import FOREVER_S, TRANSPORTS, after, drive, kinds, strategy
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import Fault, peer

from clients.connections import SHARED
from clients.faults import Mismatch, name_wrong_bytes
from clients.job import MOST_SIZES, Job, JobError
from clients.payload import bases, message
from clients.sizes import drawn, mean_bytes, spread

SIZES = [[10, 1], [300, 2], [70_000, 1]]
DISTRIBUTIONS = st.lists(
    st.tuples(st.integers(1, 1 << 30), st.floats(0.001, 1000)).map(list), min_size=1, max_size=MOST_SIZES
)


def draw(sizes: list[list[float]], seed: int, row: int, count: int, first: int = 0) -> list[int]:
    """The sizes of messages of one connection."""
    shared = np.zeros(1, SHARED)
    spread(shared, sizes)
    out = np.zeros(count, np.int64)
    drawn(shared, bases(seed, row + 1)[row], np.int64(first), out)
    return [int(size) for size in out]


@given(DISTRIBUTIONS, st.integers(0, 1 << 60), st.integers(0, 5), st.integers(0, 1 << 40))
@settings(deadline=None)
def test_the_size_of_a_message_follows_from_seed_connection_and_number_alone(
    sizes: list[list[float]], seed: int, row: int, number: int
) -> None:
    assert draw(sizes, seed, row, 3, number)[2] == draw(sizes, seed, row, 1, number + 2)[0]


@given(DISTRIBUTIONS, st.integers(0, 1 << 60))
@settings(deadline=None)
def test_only_sizes_of_the_distribution_are_drawn(sizes: list[list[float]], seed: int) -> None:
    assert set(draw(sizes, seed, 0, 500)) <= {int(size) for size, _ in sizes}


def test_sizes_are_as_frequent_as_their_weights_say() -> None:
    count = 100_000
    sizes = [[1, 0.5], [2, 9], [3, 0.5], [4, 90]]
    seen = draw(sizes, 1, 0, count)
    for size, weight in sizes:
        share = weight / 100
        deviation = (share * (1 - share) * count) ** 0.5
        assert abs(seen.count(int(size)) - share * count) < 4.5 * deviation  # one seed in 30,000 would miss


def test_two_connections_and_two_seeds_draw_apart() -> None:
    sizes = [[size, 1] for size in range(1, 200)]
    draws = [draw(sizes, seed, row, 50) for seed in (1, 2) for row in (0, 1)]
    assert len({tuple(each) for each in draws}) == 4


def test_a_weight_far_below_the_others_is_no_error() -> None:
    assert set(draw([[7, 1e-300], [8, 1e300]], 1, 0, 1000)) == {8}


def test_the_mean_of_a_distribution_is_weighted() -> None:
    assert mean_bytes([[10, 3], [50, 1]]) == 20


@pytest.mark.parametrize(
    "sizes",
    [
        [[0, 1]],
        [[10, 0]],
        [[10]],
        [[10, 1, 2]],
        [["10", 1]],
        [[1.5, 1]],
        [10, 1],
        [[2**31, 1]],
        [[1, 1]] * (MOST_SIZES + 1),
    ],
)
def test_a_bad_distribution_is_refused(sizes: Any) -> None:
    with pytest.raises(JobError, match="size"):
        Job(address="tcp:127.0.0.1:1", connections=1, message_bytes=1, duration_s=1.0, sizes=sizes)


WORKLOADS: list[dict[str, Any]] = [
    {"workload": "closed"},
    {"workload": "open", "rate_hz": 2000.0},
    {"workload": "burst"},
    {"workload": "churn"},
    {"workload": "idle", "silent": 3},
]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("options", WORKLOADS, ids=lambda options: str(options["workload"]))
def test_every_workload_echoes_the_drawn_sizes_in_order_and_counts_their_bytes(
    transport: str, options: dict[str, Any]
) -> None:
    with strategy("epoll_lt", transport) as server:
        load = drive(server, sizes=SIZES, seed=5, duration_s=0.5, **options)
    assert kinds(load) == {}
    assert load.completed > 0
    assert load.bytes_echoed == sum(draw(SIZES, 5, 0, load.completed))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "options",
    [
        {"workload": "closed", "depth": 4},
        {"workload": "stream", "depth": 4},
        {"workload": "churn"},
        {"workload": "slow", "trickle_bytes": 5000, "trickle_hz": 500.0},
    ],
    ids=lambda options: str(options["workload"]),
)
def test_several_connections_and_threads_draw_their_own_sizes(transport: str, options: dict[str, Any]) -> None:
    with strategy("thread_per_connection", transport) as server:
        load = drive(server, sizes=SIZES, connections=5, threads=2, duration_s=1.0, **options)
    assert kinds(load) == {}
    assert load.bytes_echoed > 0


FAULTS: list[tuple[Fault, str]] = [
    (peers.flip_first, "corrupt"),
    (peers.drop, "short"),
    (peers.pad, "extra"),
]


@pytest.mark.parametrize(("fault", "kind"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_a_fault_in_the_midst_of_messages_of_many_sizes_is_named(fault: Fault, kind: str) -> None:
    # The peer takes every byte for a message, so that byte 1,000 of the connection is the one that goes wrong.
    with peer("tcp", 1, fault, at=1000) as server:
        load = drive(
            server,
            "closed",
            sizes=[[50, 1], [200, 1], [333, 1]],
            duration_s=FOREVER_S,
            timeout_s=2.0 if fault is peers.drop else FOREVER_S,
        )
    assert kinds(load) == {kind: 1}
    assert 2 < load.completed < 20


@given(st.integers(0, 1 << 60), st.lists(st.integers(16, 400), min_size=12, max_size=12))
@settings(deadline=None)
def test_messages_out_of_place_are_named_whatever_their_sizes(seed: int, sizes: list[int]) -> None:
    base = int(bases(seed, 1)[0])

    def name(*numbers: int) -> str:
        arrived = b"".join(message(base, number, 0, sizes[number]) for number in numbers)
        return name_wrong_bytes(
            Mismatch(base=base, size_of=sizes.__getitem__, due=7, begun=10, offset=0, arrived=arrived)
        )

    assert name(6, 7, 8) == "duplicated"
    assert name(8, 9) == "lost"
    assert name(8, 7, 9) == "reordered"


def test_the_thresholds_of_equal_weights_divide_the_draws_evenly() -> None:
    shared = np.zeros(1, SHARED)
    spread(shared, [[1, 1], [2, 1], [3, 1]])
    upto = [Fraction(int(each) + 1, 2**64) for each in shared["size_upto"][0, :3]]
    assert [round(float(each), 12) for each in upto] == [round(k / 3, 12) for k in (1, 2, 3)]


def test_the_end_of_a_run_finds_every_byte_of_mixed_sizes_accounted_for() -> None:
    with peer("tcp", 1) as server:
        server.wrongs = 1
        load = drive(
            server,
            "closed",
            sizes=[[1, 1], [9, 1]],
            connections=2,
            duration_s=FOREVER_S,
            ended=after(500, lambda: server.echoed),
        )
        assert load.bytes_echoed <= server.echoed
    assert kinds(load) == {}
