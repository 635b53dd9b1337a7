"""The report's sentences, for results that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic import manifest, record, server, unmeasured

from bench import words
from bench.analyse import CPU, P99, RATE, Analysis, Contest, Metric, Standing, analyse
from bench.record import Record, Run
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


def analysed(*records: Record, **about: Any) -> Analysis:
    names = sorted({found.trial.strategy for found in records})
    return analyse(Run(folder=Path("run"), manifest=manifest(names, **about), records=list(records)))


# --- verdicts


def test_a_winner_is_named_with_its_figure_and_its_lead_over_the_second() -> None:
    assert words.verdict(contest()) == (
        "`epoll_lt` serves the most: 120,000 messages/s, ahead of `select` by a factor of 1.20 "
        "(95 % interval 1.15 to 1.25)."
    )


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (CPU, "`epoll_lt` costs the server the least CPU per message: 7.00 µs, ahead of `select`"),
        (P99, "`epoll_lt` has the lowest p99 service time: 7.00 µs, ahead of `select`"),
    ],
)
def test_a_winner_by_cost_or_latency_has_the_least(metric: Metric, expected: str) -> None:
    assert words.verdict(contest(metric, {"epoll_lt": 7.0, "select": 8.4})).startswith(expected)


def test_a_tie_is_called_within_the_noise_and_names_no_winner() -> None:
    tied = contest(ratio=Interval(1.01, 0.98, 1.04, 0.97), level=("select",))
    assert words.verdict(tied) == (
        "`epoll_lt` and `select` serve the most, and the difference is within the noise: 120,000 and "
        "100,000 messages/s; between the first two lies a factor of 1.01 (95 % interval 0.980 to 1.04)."
    )


def test_too_few_repeats_are_said_to_be_too_few() -> None:
    unsure = contest(ratio=Interval(1.2, 0, float("inf"), 1), level=("select",))
    assert words.verdict(unsure) == (
        "`epoll_lt` comes first by throughput, with 120,000 messages/s, but 5 repeats can't tell a lead from noise "
        "(4 or more can)."
    )


def test_a_strategy_alone_wins_nothing() -> None:
    assert words.verdict(contest(values={"poll": 5000.0}, ratio=None)) == (
        "`poll` is the only one measured; its throughput: 5,000 messages/s."
    )


def test_where_the_client_limited_the_best_throughput_names_no_winner_and_cpu_ranks() -> None:
    cpu = contest(CPU, {"epoll_et": 5.0, "epoll_lt": 8.0})
    sentence = words.verdict(contest(bound={"epoll_lt": 3}), cpu)
    assert sentence == (
        "Throughput names no winner: in 3 of 5 trials the client, not the server, was the limit of `epoll_lt` "
        "(at least 120,000 messages/s). By messages per server CPU-second `epoll_et` comes first with 200,000."
    )


def test_a_client_limited_strategy_level_with_the_best_leaves_the_question_open() -> None:
    found = contest(level=("select",), ratio=Interval(1.01, 0.98, 1.04, 0.97), bound={"select": 1})
    assert words.client_was_the_limit(found)
    assert "names no winner" in words.verdict(found)


def test_a_tie_by_cpu_ranks_within_the_noise() -> None:
    cpu = contest(CPU, {"epoll_et": 5.0, "epoll_lt": 5.0}, level=("epoll_lt",))
    assert words.verdict(contest(bound={"epoll_lt": 5}), cpu).endswith(
        "By messages per server CPU-second `epoll_et` and `epoll_lt` come first, within the noise, the first of them "
        "with 200,000."
    )


def test_a_slower_strategy_that_the_client_limited_may_be_faster_than_measured() -> None:
    sentence = words.verdict(contest(bound={"select": 2}))
    assert sentence.startswith("`epoll_lt` serves the most")
    assert sentence.endswith("The client limited `select`, which may be faster than measured.")


def test_latency_under_a_saturated_client_is_said_to_include_the_clients_delay() -> None:
    assert words.verdict(contest(P99, bound={"epoll_lt": 2})).endswith(
        "With `epoll_lt` the client was saturated, and its own delay is part of these times."
    )
    assert "saturated" not in words.verdict(contest(CPU, bound={"epoll_lt": 2}))


def test_a_large_tie_names_the_first_and_counts_the_others() -> None:
    values = {f"s{index}": 100.0 - index for index in range(9)}
    tied = contest(values=values, ratio=Interval(1, 0.9, 1.1, 0.97), level=tuple(values)[1:])
    assert words.verdict(tied).startswith("`s0`, `s1`, `s2`, `s3` and 5 more serve the most")


def test_verdicts_are_grouped_by_connections_and_each_metric_has_its_sentence() -> None:
    found = words.verdicts([contest(), contest(connections=1), contest(CPU), contest(CPU, connections=1)])
    assert [where for where, _ in found] == ["1 connection", "16 connections"]
    assert [len(sentences) for _, sentences in found] == [2, 2]


def test_where_settings_differ_a_verdict_says_which_it_is_of() -> None:
    found = words.verdicts([contest(), contest(transport="unix", message_bytes=1)])
    assert [where for where, _ in found] == ["tcp, 64 bytes, 16 connections", "unix, 1 byte, 16 connections"]


# --- headlines


def test_headlines_gather_the_places_where_the_same_strategy_leads() -> None:
    tied = contest(ratio=Interval(1, 0.9, 1.1, 0.97), level=("select",), connections=128)
    bound = contest(bound={"epoll_lt": 5}, connections=1024)
    (headline,) = words.headlines([contest(connections=1), contest(connections=16), tied, bound])
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
    assert words.headlines([alone, unproven])[0][1] == [
        "1 connection: `poll`, the only one",
        "16 connections: `epoll_lt`, but too few repeats to tell",
    ]


def test_many_cases_are_counted_not_listed() -> None:
    won = [contest(connections=count) for count in range(1, 8)]
    tied = [contest(connections=8, ratio=Interval(1, 0.9, 1.1, 0.97), level=("select",))]
    bound = [contest(connections=9, bound={"epoll_lt": 5})]
    unproven = [contest(connections=10, ratio=Interval(2, 0, float("inf"), 1), level=("select",))]
    assert words.headlines([*won, *tied, *bound, *unproven])[0][1] == [
        "8 of 10 cases: `epoll_lt`, in 1 within the noise",
        "1 of 10 cases: `select`, in 1 within the noise",
        "1 of 10 cases: no winner, the client was the limit",
        "1 of 10 cases: too few repeats to tell",
    ]


# --- what stands in the way of trusting it


def test_the_line_of_a_strategy_that_serves_one_connection_at_a_time_is_explained() -> None:
    analysis = analysed(record("iterative", 1), record("poll", 1), record("poll", 16))
    assert words.why_lines_stop(analysis.run.manifest.strategies, analysis.cases) == [
        "`iterative` serves one connection at a time: it was measured at 1 connection only, and its line stops there."
    ]


def test_nothing_is_explained_where_no_line_stops() -> None:
    analysis = analysed(record("iterative", 1), record("poll", 1))
    assert words.why_lines_stop(analysis.run.manifest.strategies, analysis.cases) == []


def test_failed_and_unavailable_trials_are_listed_with_reason_and_number() -> None:
    analysis = analysed(
        unmeasured("select", 1024, 0, "failed", "more than FD_SETSIZE"),
        unmeasured("select", 2048, 0, "failed", "more than FD_SETSIZE"),
        unmeasured("uring", 1, 0, "unavailable", "no io_uring here."),
        record("poll"),
    )
    assert words.left_out(analysis.trials) == [
        "`select`: 2 trials failed at 1,024 and 2,048 connections: more than FD_SETSIZE.",
        "`uring`: 1 trial unavailable at 1 connection: no io_uring here.",
    ]


def test_client_bound_cases_are_listed_with_their_number() -> None:
    analysis = analysed(
        record("poll", 16, 0, bottleneck="client"), record("poll", 16, 1), record("poll", 1, bottleneck="client")
    )
    assert words.client_bound(analysis.cases) == [
        "`poll`: 1 connection (1 of 1 trials) and 16 connections (1 of 2 trials)."
    ]


def test_a_figure_that_could_not_be_read_is_said_to_be_missing_with_the_reason() -> None:
    blind = server(1000, 10, 0.5, missing={"descriptors": "permission denied"})
    assert words.missing([record("poll", server=blind), record("select", server=blind), record("epoll_lt")]) == [
        "descriptors could not be read of `poll` and `select`: permission denied."
    ]


def test_an_unfinished_run_says_how_much_is_missing_and_how_to_go_on() -> None:
    about = manifest(["poll"], sweep={"trials_planned": 125})
    assert words.unfinished(about, 87, "quick-1") == (
        "This run is unfinished: 87 of 125 trials are recorded. `iobench sweep --resume quick-1` runs the others."
    )


@pytest.mark.parametrize("sweep", [{}, {"trials_planned": 87}, {"trials_planned": "many"}])
def test_a_run_that_is_complete_or_of_unknown_size_is_not_called_unfinished(sweep: dict[str, Any]) -> None:
    assert words.unfinished(manifest(["poll"], sweep=sweep), 87, "quick-1") == ""


def test_the_share_of_time_that_was_not_measuring_is_told() -> None:
    trials = analysed(*(record(repeat=index) for index in range(10))).trials
    assert words.overhead(trials) == (
        "Of 12.9 s of trials, 78% was measured, 16% was warm-up and 7% was neither: spawning 0.6 s, connecting 0.1 s, "
        "tear-down 0.2 s."
    )
    assert words.overhead(trials[:0]) == ""


def test_what_all_trials_have_in_common_is_said_once() -> None:
    trials = analysed(record(connections=1), record(connections=16)).trials
    assert (
        words.conditions(trials)
        == "All trials: tcp, 64 bytes, closed workload, 0.2 s of warm-up, 1 s measured, 1 repeat."
    )


def test_a_run_without_a_success_says_that_there_is_nothing_to_compare() -> None:
    assert "No trial of this run was recorded" in words.nothing_to_compare(analysed().trials)
    failed = analysed(unmeasured("poll", 1, 0, "failed", "it died"))
    assert "No trial of this run succeeded" in words.nothing_to_compare(failed.trials)
    assert words.nothing_to_compare(analysed(record()).trials) == ""


# --- numbers and names


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (123456, "123,000"), (9.999, "10.0"), (1.005, "1.00"), (0.2817, "0.282"), (0.00012345, "0.000123")],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert words.digits(value) == text


@pytest.mark.parametrize(("us", "text"), [(0.25, "250 ns"), (56.19, "56.2 µs"), (2009, "2.01 ms"), (3.2e6, "3.20 s")])
def test_durations_are_in_the_unit_that_suits_them(us: float, text: str) -> None:
    assert words.duration_text(us) == text


def test_a_column_that_this_file_does_not_know_is_said_by_name() -> None:
    assert words.column_text("python", "pypy3") == "python pypy3"


def test_a_name_can_not_break_out_of_its_backticks_or_its_line() -> None:
    assert words.quoted("a`b\nc") == "`a'b c`"
