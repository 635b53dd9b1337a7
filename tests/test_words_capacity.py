"""How much load each strategy carries, in sentences."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from synthetic import analysed, load_sweep, open_record, search

from bench import capacity
from bench.load_curve import CURVE, Bend, bends


def bend(**points: Any) -> Bend:
    given: dict[str, Any] = {"knee": None, "most": None, "behind": None}
    return Bend(dict.fromkeys(CURVE, "") | {"strategy": "poll", "connections": 16}, **given | points)


def point(offered_hz: float, p99_us: float, achieved_hz: float | None = None) -> dict[str, Any]:
    return {"offered_hz": offered_hz, "achieved_hz": achieved_hz or offered_hz, "p99_us": p99_us}


# --- searches


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            search("poll", 84_000, 88_000),
            "`poll` held p99 < 5 ms up to 84,000 messages/s and missed it at 88,000 messages/s, where the server was "
            "saturated.",
        ),
        (
            search("poll", 84_000, 88_000, limit="client"),
            "`poll` held p99 < 5 ms up to 84,000 messages/s and missed it at 88,000 messages/s, where the client was "
            "saturated: the server may hold it at more.",
        ),
        (
            search("poll", 84_000, 0),
            "`poll` held p99 < 5 ms up to 84,000 messages/s, the highest rate that was tried.",
        ),
        (
            search("poll", 0, 10, "p99.9<50us"),
            "`poll` held p99.9 < 50 µs at no rate that was tried. It was missed at 10.0 messages/s, the lowest rate "
            "tried.",
        ),
        (
            search("poll", 0, 0, reason="the closed loop that it starts from is failed: it died", finished=False),
            "`poll`: no answer, the closed loop that it starts from is failed: it died. The search was cut short; "
            "`iobench sweep --resume` goes on with it.",
        ),
    ],
)
def test_a_search_is_told_with_its_bracket_and_what_limited_it(found: Any, sentence: str) -> None:
    assert capacity.search_sentence(found) == sentence


def test_the_headline_names_who_holds_the_objective_at_the_highest_rate() -> None:
    headline = capacity.search_headlines([search("poll", 80_000, 84_000), search("epoll_lt", 90_000, 95_000)])
    assert headline == [("Highest rate that holds p99 < 5 ms", ["16 connections: `epoll_lt` with 90,000 messages/s"])]


def test_searches_whose_brackets_overlap_can_not_be_told_apart() -> None:
    searches = [search("poll", 88_000, 92_000), search("epoll_lt", 90_000, 95_000), search("select", 60_000, 0)]
    ((_, (clause,)),) = capacity.search_headlines(searches)
    assert clause == (
        "16 connections: `epoll_lt` with 90,000 messages/s, `poll` with 88,000 messages/s and `select` with 60,000 "
        "messages/s, which the search can't tell apart"
    )


def test_each_objective_and_each_setting_has_its_answer() -> None:
    many = msgspec.structs.replace(search("poll", 0, 100).start, connections=128)
    searches = [search("poll", 80_000, 84_000), search("poll", 0, 100, start=many), search("poll", 9, 10, "p50<1ms")]
    assert capacity.search_headlines(searches) == [
        ("Highest rate that holds p50 < 1 ms", ["16 connections: `poll` with 9.00 messages/s"]),
        (
            "Highest rate that holds p99 < 5 ms",
            ["16 connections: `poll` with 80,000 messages/s", "128 connections: none, at any rate that was tried"],
        ),
    ]


# --- curves


def test_a_curve_is_told_by_what_it_keeps_up_with_where_it_falls_behind_and_its_knee() -> None:
    found = bend(knee=point(50_000, 74), most=point(90_000, 370), behind=point(110_000, 2e5, 98_000))
    assert capacity.bend_sentence(found) == (
        "`poll` keeps up with 90,000 messages/s (p99 370 µs) and falls behind at 110,000 messages/s, of which it "
        "serves 89 %; the knee, where throughput by p99 is greatest, lies at 50,000 messages/s (p99 74.0 µs)."
    )


def test_a_curve_without_a_knee_below_its_end_has_none() -> None:
    found = bend(knee=point(90_000, 370), most=point(90_000, 370), behind=point(110_000, 2e5, 98_000))
    assert "up to there its p99 rises more slowly than its throughput." in capacity.bend_sentence(found)


def test_a_curve_that_was_not_followed_to_its_end_says_so() -> None:
    sentence = capacity.bend_sentence(bend(knee=point(10, 1), most=point(90_000, 370)))
    assert sentence.endswith("the highest rate offered that can be trusted.")


def test_a_curve_that_can_not_be_trusted_says_nothing_else() -> None:
    assert "none that can be trusted" in capacity.bend_sentence(bend())


def test_the_headline_names_who_keeps_up_with_most() -> None:
    found = bends(analysed(*load_sweep(repeats=1)).load_points)
    assert capacity.bend_headlines(found) == [
        ("Highest rate that was kept up with", ["16 connections: `epoll_lt` with 109,000 messages/s, p99 317 µs"])
    ]
    assert capacity.bend_headlines([]) == []


# --- the front


def test_a_strategy_that_is_the_whole_front_beats_all_others_at_every_load() -> None:
    points = analysed(*load_sweep(repeats=1)).load_points
    assert capacity.front_sentences(points) == [
        "Whatever the load, nothing that serves as much has a lower p99 than `epoll_lt`."
    ]


def test_a_shared_front_is_told_from_its_lowest_latency_to_its_highest_throughput() -> None:
    records = [
        *(open_record("quick", rate, 60_000) for rate in (10_000, 20_000)),
        *(open_record("strong", rate, 50_000) for rate in (15_000, 45_000)),
    ]
    (sentence,) = capacity.front_sentences(analysed(*records).load_points)
    assert sentence.startswith("The front runs from ")
    assert "at 10,000 messages/s (`quick`) to " in sentence
    assert "at 45,000 messages/s (`strong`), over `quick` and `strong`" in sentence


def test_a_panel_without_a_point_to_trust_says_so_under_its_setting() -> None:
    records = [open_record("a", rate, 1e5, flags=("unsteady",)) for rate in (10_000, 20_000)]
    records += [open_record("a", rate, 1e5, connections=128) for rate in (10_000, 20_000)]
    doubted, sure = capacity.front_sentences(analysed(*records).load_points)
    assert doubted == "16 connections: No point can be trusted enough to compare."
    assert sure.startswith("128 connections: Whatever the load")
