"""Curves of latency over offered load: their points, the front, the knee, and where a strategy falls behind."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from synthetic import load_sweep, manifest, open_record, record

from bench.analyse import analyse
from bench.load_curve import Bend, bends
from bench.record import Record, Run

CAPACITY_HZ = 100_000
RATES = (10_000, 30_000, 50_000, 70_000, 90_000, 110_000)


def points_of(*records: Record) -> pd.DataFrame:
    return analyse(Run(folder=Path("run"), manifest=manifest(["poll"]), records=list(records))).load_points


def curve(strategy: str = "poll", capacity_hz: float = CAPACITY_HZ, rates: tuple[int, ...] = RATES) -> list[Record]:
    return [open_record(strategy, rate, capacity_hz) for rate in rates]


def bend(*records: Record) -> Bend:
    (found,) = bends(points_of(*records))
    return found


def test_a_curve_has_a_point_for_each_rate_in_order() -> None:
    points = points_of(*reversed(curve()))
    assert list(points["offered_hz"]) == list(RATES)
    assert list(points["achieved_hz"]) == [*RATES[:-1], 98_000]
    assert points["p99_us"].is_monotonic_increasing


def test_a_point_stands_for_all_repeats_of_its_rate() -> None:
    repeats = [open_record("poll", rate, CAPACITY_HZ, repeat) for rate in RATES for repeat in range(3)]
    assert len(points_of(*repeats)) == len(RATES)


def test_a_single_rate_makes_no_curve_and_neither_does_a_closed_loop() -> None:
    assert points_of(open_record("poll", 1000, CAPACITY_HZ), record("select", 1), record("select", 16)).empty
    assert points_of().empty


@pytest.mark.parametrize("flag", ["client_bound", "lagging_schedule", "unsteady"])
def test_a_flag_on_one_trial_casts_doubt_on_its_point(flag: str) -> None:
    doubted = open_record("poll", 50_000, CAPACITY_HZ, 1, (flag,))
    points = points_of(*curve(), doubted).set_index("offered_hz")
    assert points["doubts"][50_000] == flag
    assert points["doubts"][30_000] == ""
    assert not points["front"][50_000]


def test_a_censored_point_is_a_lower_bound_with_a_doubt() -> None:
    last = points_of(*curve()).iloc[-1]
    assert (last["doubts"], bool(last["lower_bound"]), bool(last["keeps_up"])) == ("censored", True, False)


def test_the_front_holds_the_points_that_no_other_beats_in_p99_while_serving_as_much() -> None:
    points = points_of(*curve("slow", 80_000, RATES[:4]), *curve("fast", 100_000, RATES[:4]))
    assert set(points[points["front"]]["strategy"]) == {"fast"}
    points = points_of(*curve("quick", 60_000, (10_000, 20_000)), *curve("strong", 50_000, (15_000, 45_000)))
    assert {(row.strategy, row.offered_hz) for row in points[points["front"]].itertuples()} == {
        ("quick", 10_000),
        ("quick", 20_000),
        ("strong", 45_000),
    }


def test_each_setting_has_a_front_of_its_own() -> None:
    one, other = curve("a", 1e5, (10_000, 20_000)), curve("b", 5e4, (10_000, 20_000))
    other = [open_record("b", rate, 5e4, connections=128) for rate in (10_000, 20_000)]
    assert points_of(*one, *other)["front"].all()


def test_the_knee_is_where_throughput_by_p99_is_greatest() -> None:
    found = bend(*curve())
    assert found.knee is not None
    assert found.knee["offered_hz"] == 50_000  # M/M/1: the power is greatest at half of the capacity


def test_a_strategy_keeps_up_until_less_than_99_percent_is_served() -> None:
    found = bend(*curve())
    assert found.most is not None
    assert found.behind is not None
    assert (found.most["offered_hz"], found.behind["offered_hz"]) == (90_000, 110_000)


def test_a_curve_that_never_falls_behind_says_so() -> None:
    found = bend(*curve(rates=RATES[:-1]))
    assert found.behind is None


def test_a_point_with_doubts_is_neither_the_knee_nor_kept_up_with() -> None:
    doubted = [open_record("poll", rate, CAPACITY_HZ, flags=("lagging_schedule",)) for rate in (50_000, 90_000)]
    found = bend(*curve(rates=(10_000, 30_000, 70_000, 110_000)), *doubted)
    assert found.most is not None
    assert found.knee is not None
    assert found.most["offered_hz"] == 70_000
    assert found.knee["offered_hz"] != 50_000


def test_a_curve_of_doubts_alone_has_neither() -> None:
    doubted = [open_record("poll", rate, CAPACITY_HZ, flags=("client_bound",)) for rate in (10_000, 20_000)]
    found = bend(*doubted)
    assert (found.most, found.knee, found.behind) == (None, None, None)


def test_fractions_of_what_each_can_do_are_points_at_the_rates_that_they_came_to() -> None:
    points = points_of(*load_sweep(repeats=1))
    assert len(points) == 4 * 8
    assert len(bends(points)) == 4
    assert points.groupby("strategy")["offered_hz"].is_monotonic_increasing.all()
