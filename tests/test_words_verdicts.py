"""The answer in sentences, for contests that are known."""

from __future__ import annotations

from typing import Any

import pytest

from bench import verdicts
from bench.contests import Contest, Standing
from bench.metrics import CPU, P99, RATE, Metric
from bench.stats import Interval

GROUP = {
    "transport": "tcp",
    "message_bytes": 64,
    "workload": "closed",
    "warmup_s": 0.2,
    "duration_s": 1.0,
    "connections": 16,
}

LEAD = Interval(1.2, 1.15, 1.25, 0.97)


def contest(
    metric: Metric = RATE,
    values: dict[str, float] | None = None,
    ratio: Interval | None = LEAD,
    level: tuple[str, ...] = (),
    bound: dict[str, int] | None = None,
    **group: Any,
) -> Contest:
    values = values or {"epoll_lt": 120_000.0, "select": 100_000.0}
    ranking = tuple(Standing(name, value, 5, (bound or {}).get(name, 0)) for name, value in values.items())
    return Contest(metric, GROUP | group, ranking, ratio, level)


# --- verdicts


def test_a_winner_is_named_with_its_figure_and_its_lead_over_the_second() -> None:
    assert verdicts.verdict(contest()) == (
        "`epoll_lt` serves the most: 120,000 messages/s, ahead of `select` by a factor of 1.20 "
        "(95 % interval 1.15 to 1.25)."
    )


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (CPU, "`epoll_lt` costs the server the least CPU per message: 7.00 µs, ahead of `select`"),
        (P99, "`epoll_lt` has the lowest p99 latency: 7.00 µs, ahead of `select`"),
    ],
)
def test_a_winner_by_cost_or_latency_has_the_least(metric: Metric, expected: str) -> None:
    assert verdicts.verdict(contest(metric, {"epoll_lt": 7.0, "select": 8.4})).startswith(expected)


def test_a_tie_is_called_within_the_noise_and_names_no_winner() -> None:
    tied = contest(ratio=Interval(1.01, 0.98, 1.04, 0.97), level=("select",))
    assert verdicts.verdict(tied) == (
        "`epoll_lt` and `select` serve the most, and the difference is within the noise: 120,000 and "
        "100,000 messages/s; between the first two lies a factor of 1.01 (95 % interval 0.980 to 1.04)."
    )


def test_too_few_repeats_are_said_to_be_too_few() -> None:
    unsure = contest(ratio=Interval(1.2, 0, float("inf"), 1), level=("select",))
    assert verdicts.verdict(unsure) == (
        "`epoll_lt` comes first by throughput, with 120,000 messages/s, but 5 repeats can't tell a lead from noise "
        "(4 or more can)."
    )


def test_a_strategy_alone_wins_nothing() -> None:
    assert verdicts.verdict(contest(values={"poll": 5000.0}, ratio=None)) == (
        "`poll` is the only one measured; its throughput: 5,000 messages/s."
    )


def test_where_the_client_limited_the_best_throughput_names_no_winner_and_cpu_ranks() -> None:
    cpu = contest(CPU, {"epoll_et": 5.0, "epoll_lt": 8.0})
    sentence = verdicts.verdict(contest(bound={"epoll_lt": 3}), cpu)
    assert sentence == (
        "Throughput names no winner: in 3 of 5 trials the client, not the server, was the limit of `epoll_lt` "
        "(at least 120,000 messages/s). By messages per server CPU-second `epoll_et` comes first with 200,000."
    )


def test_a_client_limited_strategy_level_with_the_best_leaves_the_question_open() -> None:
    found = contest(level=("select",), ratio=Interval(1.01, 0.98, 1.04, 0.97), bound={"select": 1})
    assert verdicts.client_was_the_limit(found)
    assert "names no winner" in verdicts.verdict(found)


def test_a_tie_by_cpu_ranks_within_the_noise() -> None:
    cpu = contest(CPU, {"epoll_et": 5.0, "epoll_lt": 5.0}, level=("epoll_lt",))
    assert verdicts.verdict(contest(bound={"epoll_lt": 5}), cpu).endswith(
        "By messages per server CPU-second `epoll_et` and `epoll_lt` come first, within the noise, the first of them "
        "with 200,000."
    )


def test_a_slower_strategy_that_the_client_limited_may_be_faster_than_measured() -> None:
    sentence = verdicts.verdict(contest(bound={"select": 2}))
    assert sentence.startswith("`epoll_lt` serves the most")
    assert sentence.endswith("The client limited `select`, which may be faster than measured.")


def test_latency_under_a_saturated_client_is_said_to_include_the_clients_delay() -> None:
    assert verdicts.verdict(contest(P99, bound={"epoll_lt": 2})).endswith(
        "With `epoll_lt` the client was saturated, and its own delay is part of these times."
    )
    assert "saturated" not in verdicts.verdict(contest(CPU, bound={"epoll_lt": 2}))


def test_a_large_tie_names_the_first_and_counts_the_others() -> None:
    values = {f"s{index}": 100.0 - index for index in range(9)}
    tied = contest(values=values, ratio=Interval(1, 0.9, 1.1, 0.97), level=tuple(values)[1:])
    assert verdicts.verdict(tied).startswith("`s0`, `s1`, `s2`, `s3` and 5 more serve the most")


def test_verdicts_are_grouped_by_connections_and_each_metric_has_its_sentence() -> None:
    found = verdicts.verdicts([contest(), contest(connections=1), contest(CPU), contest(CPU, connections=1)])
    assert [where for where, _ in found] == ["1 connection", "16 connections"]
    assert [len(sentences) for _, sentences in found] == [2, 2]


def test_where_settings_differ_a_verdict_says_which_it_is_of() -> None:
    found = verdicts.verdicts([contest(), contest(transport="unix", message_bytes=1)])
    assert [where for where, _ in found] == ["tcp, 64 bytes", "unix, 1 byte"]


# --- headlines


def test_headlines_gather_the_places_where_the_same_strategy_leads() -> None:
    tied = contest(ratio=Interval(1, 0.9, 1.1, 0.97), level=("select",), connections=128)
    bound = contest(bound={"epoll_lt": 5}, connections=1024)
    (headline,) = verdicts.headlines([contest(connections=1), contest(connections=16), tied, bound])
    assert headline == (
        "Most messages per second",
        [
            "1 and 16 connections: `epoll_lt`",
            "128 connections: `epoll_lt` or `select`, within the noise",
            "1,024 connections: no winner, the client was the limit",
        ],
    )


def test_headlines_say_where_a_leader_is_alone_or_unproven() -> None:
    alone = contest(values={"poll": 1.0}, ratio=None, connections=1)
    unproven = contest(ratio=Interval(2, 0, float("inf"), 1), level=("select",))
    assert verdicts.headlines([alone, unproven])[0][1] == [
        "1 connection: `poll`, the only one",
        "16 connections: `epoll_lt`, but too few repeats to tell",
    ]


def test_many_cases_are_counted_not_listed() -> None:
    won = [contest(connections=count) for count in range(1, 8)]
    tied = [contest(connections=8, ratio=Interval(1, 0.9, 1.1, 0.97), level=("select",))]
    bound = [contest(connections=9, bound={"epoll_lt": 5})]
    unproven = [contest(connections=10, ratio=Interval(2, 0, float("inf"), 1), level=("select",))]
    assert verdicts.headlines([*won, *tied, *bound, *unproven])[0][1] == [
        "8 of 10 cases: `epoll_lt`, in 1 within the noise",
        "1 of 10 cases: `select`, in 1 within the noise",
        "1 of 10 cases: no winner, the client was the limit",
        "1 of 10 cases: too few repeats to tell",
    ]
