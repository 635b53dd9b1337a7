"""Two separate groups of processes: found where they are, and not where there is only noise."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import manifest, record, server

from bench.analyse import Analysis, analyse
from bench.caveats import bimodal
from bench.clusters import two_groups
from bench.page import content, html
from bench.record import Run
from bench.summary import markdown


def test_two_groups_are_found_with_both_centres() -> None:
    assert two_groups([26.1, 6.4, 25.9, 6.6, 6.5]) == pytest.approx((6.5, 3, 26.0, 2))


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=20),
    st.lists(st.floats(0, 1), min_size=2, max_size=20),
    st.floats(6.5, 100),
    st.randoms(use_true_random=False),
)
def test_groups_that_lie_far_apart_are_always_found_in_whatever_order(
    low: list[float], high: list[float], far: float, random: Random
) -> None:
    values = [10 + value for value in low] + [10 + far + value for value in high]
    random.shuffle(values)
    found = two_groups(values)
    assert found is not None
    assert (found.lows, found.highs) == (len(low), len(high))


@pytest.mark.parametrize("deviation", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("size", [2, 3, 4, 5, 10, 20])
def test_normal_samples_are_never_taken_for_two_groups_where_noise_is_usual(size: int, deviation: float) -> None:
    random = Random(size)
    samples = ([random.gauss(10, 10 * deviation) for _ in range(size)] for _ in range(500))
    assert not any(map(two_groups, samples))


def test_of_five_values_of_a_very_noisy_machine_one_sample_in_a_hundred_at_most_is_taken_for_two_groups() -> None:
    random = Random(5)
    samples = ([max(0.1, random.gauss(10, 3)) for _ in range(5)] for _ in range(3_000))
    assert sum(two_groups(sample) is not None for sample in samples) < 0.015 * 3_000


@pytest.mark.parametrize(
    "values",
    [
        [],
        [5.0],
        [5.0, 5.0, 5.0, 5.0],
        [1.0, 1.0, 1.0, 9.0],  # an outlier
        [0.0, 0.0, 5.0, 5.0],  # what took no time was not measured
        [10.0, 10.0, 11.0, 11.0],  # clear, and of no account
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    ],
)
def test_fewer_than_two_of_a_kind_or_no_gap_is_one_group(values: list[float]) -> None:
    assert two_groups(values) is None


def slow_and_fast(folder: Path) -> Run:
    cpu = [6.5, 26.0, 6.4, 26.2, 6.6]
    records = [
        *(record("asyncio_protocol", 1, index, server=server(40_000, us, 0.5)) for index, us in enumerate(cpu)),
        *(record("epoll_lt", 1, index) for index in range(5)),
    ]
    return Run(folder=folder, manifest=manifest(["asyncio_protocol", "epoll_lt"]), records=records)


def test_a_case_whose_processes_fall_into_two_groups_is_told_with_both_centres() -> None:
    (told,) = bimodal(analyse(slow_and_fast(Path("run"))).trials)
    assert told.startswith("`asyncio_protocol`: 3 of 5 processes take about ")
    assert "whole processes come out one way or the other" in told


def reports(analysis: Analysis) -> list[str]:
    return [html(content(analysis), []), markdown(analysis, [])]


def test_the_report_says_so_among_what_limits_it() -> None:
    run = slow_and_fast(Path("run"))
    for written in reports(analyse(run)):
        assert "Two kinds of processes" in written
    run.records = run.records[5:]
    for written in reports(analyse(run)):
        assert "Two kinds of processes" not in written
