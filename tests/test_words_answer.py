"""The answer that the report opens with: which strategy for what, by how much, where it is a tie, and what is open."""

from __future__ import annotations

from typing import Any

import pytest

from bench import answer
from bench.contests import Contest, Standing
from bench.metrics import CPU, P99, RATE, Metric
from bench.stats import Interval

GROUP = {"transport": "tcp", "message_bytes": 64, "workload": "closed", "connections": 16}
LEAD = Interval(1.2, 1.15, 1.25, 0.97)
NONE = Interval(1.01, 0.98, 1.04, 0.97)  # contains 1
UNKNOWN = Interval(1.2, 0, float("inf"), 0)  # of too few repeats


def contest(
    metric: Metric = RATE,
    values: dict[str, float] | None = None,
    ratio: Interval | None = LEAD,
    level: tuple[str, ...] = (),
    bound: tuple[str, ...] = (),
    unfinished: tuple[str, ...] = (),
    **group: Any,
) -> Contest:
    values = values or {"epoll_lt": 120_000.0, "select": 100_000.0}
    ranking = tuple(
        Standing(name, value, 5, 5 if name in bound else 0, name in unfinished) for name, value in values.items()
    )
    return Contest(metric, GROUP | group, ranking, ratio, level)


def tie(**changes: Any) -> Contest:
    return contest(ratio=NONE, level=("select",), **changes)


# --- what to use in one case, and by how much


def test_a_winner_is_named_with_its_figure_its_lead_and_the_interval_of_the_lead() -> None:
    assert answer.clause(contest()) == (
        "`epoll_lt` with 120,000 messages/s, 20 % more than `select` (95 % interval 15 to 25 %)"
    )


@pytest.mark.parametrize(("metric", "value"), [(CPU, "7.00 µs"), (P99, "7.00 µs")])
def test_where_less_is_better_the_lead_is_told_as_less(metric: Metric, value: str) -> None:
    said = answer.clause(contest(metric, {"epoll_lt": 7.0, "select": 8.4}))
    assert said == f"`epoll_lt` with {value}, 17 % less than `select` (95 % interval 13 to 20 %)"


def test_a_lead_of_a_factor_of_two_or_more_is_told_as_a_factor() -> None:
    said = answer.clause(contest(values={"a": 300.0, "b": 100.0}, ratio=Interval(3, 2.5, 3.5, 0.97)))
    assert said == "`a` with 300 messages/s, 3.00 times more than `b` (95 % interval 2.50 to 3.50 times)"


def test_a_tie_names_all_that_are_level_and_how_far_the_next_one_is_behind() -> None:
    said = answer.clause(contest(values={"a": 101.0, "b": 100.0, "c": 50.5}, ratio=NONE, level=("b",)))
    assert said == "`a` or `b`, a tie: 101 and 100 messages/s; about 2.00 times more than `c`, the next"


def test_where_the_client_was_the_limit_no_winner_is_named_and_the_figure_is_a_lower_bound() -> None:
    said = answer.clause(contest(bound=("epoll_lt",)))
    assert said == "no winner, the client was the limit (`epoll_lt`: at least 120,000 messages/s)"


def test_where_messages_were_unfinished_no_percentile_wins() -> None:
    said = answer.clause(contest(P99, {"a": 7.0, "b": 8.4}, unfinished=("a",)))
    assert said.startswith("no winner, messages were unfinished when the window closed (`a`: at least 7.00 µs)")


def test_too_few_repeats_and_a_single_strategy_are_told_as_such() -> None:
    assert answer.clause(contest(ratio=UNKNOWN, level=("select",))) == (
        "`epoll_lt` with 120,000 messages/s, but too few repeats to tell"
    )
    assert answer.clause(contest(values={"a": 5.0}, ratio=None)) == "`a`, the only one: 5.00 messages/s"


# --- for what


def test_each_question_is_answered_case_by_case() -> None:
    contests = [contest(connections=1), tie(connections=16), contest(CPU, {"a": 7.0, "b": 8.4})]
    assert [(asked, len(clauses)) for asked, clauses in answer.advice(contests)] == [
        ("For throughput", 2),
        ("For little server CPU", 1),
    ]
    (_, (first, second)), _ = answer.advice(contests)
    assert first.startswith("1 connection: `epoll_lt` with")
    assert second.startswith("16 connections: `epoll_lt` or `select`, a tie:")


def test_many_cases_are_counted_by_winner_with_the_ties_and_those_left_open() -> None:
    contests = [contest(connections=2**power) for power in range(8)]
    contests += [tie(connections=512), contest(bound=("epoll_lt",), connections=1024)]
    ((_, clauses),) = answer.advice(contests)
    assert clauses == [
        "`epoll_lt` in 9 of 10 cases, in 1 a tie; where ahead, 20 % more than the next (median)",
        "`select` in 1 of 10 cases, in 1 a tie",
        "no winner, the client was the limit in 1 of 10 cases",
    ]


def test_a_strategy_without_a_rival_comes_first_in_no_case() -> None:
    contests = [contest(connections=2**power) for power in range(8)]
    contests += [contest(values={"b": 5.0}, ratio=None, connections=512)]
    ((_, clauses),) = answer.advice(contests)
    assert clauses == [
        "`epoll_lt` in 8 of 9 cases; where ahead, 20 % more than the next (median)",
        "only one strategy was measured in 1 of 9 cases",
    ]


def test_values_that_are_written_alike_are_written_once() -> None:
    said = answer.clause(contest(values={"a": 8.001, "b": 8.0, "c": 7.999}, ratio=NONE, level=("b", "c")))
    assert said == "`a`, `b` or `c`, a tie: all 8.00 messages/s"


# --- one for all


def test_the_one_for_everything_is_that_whose_worst_place_is_the_best() -> None:
    contests = [
        contest(values={"fast": 200.0, "even": 190.0, "slow": 10.0}, connections=1),
        contest(values={"slow": 200.0, "even": 180.0, "fast": 100.0}, connections=16),
    ]
    assert answer.one_for_all(contests, "One") == [
        "One: `even`, first or level with the first in none of 2 comparisons; at worst a factor of 1.11 behind the "
        "best (throughput, 16 connections)."
    ]


def test_who_is_first_everywhere_is_behind_nowhere() -> None:
    contests = [contest(connections=count) for count in (1, 4, 16)]
    assert answer.one_for_all(contests, "One") == [
        "One: `epoll_lt`, first or level with the first in all 3 comparisons."
    ]


def test_who_is_level_with_the_first_everywhere_is_behind_by_noise_alone() -> None:
    contests = [
        contest(values={"select": 110.0, "epoll_lt": 100.0}, ratio=NONE, level=("epoll_lt",)),
        contest(values={"epoll_lt": 500.0, "select": 400.0}, connections=64),
    ]
    assert answer.one_for_all(contests, "One") == [
        "One: `epoll_lt`, first or level with the first in both comparisons; at worst a factor of 1.10 behind the best "
        "(throughput, 16 connections), which is within the noise."
    ]


def test_for_many_connections_there_is_an_answer_of_its_own() -> None:
    contests = [
        contest(metric, {"a": a, "b": b}, connections=count)
        for metric in (RATE, CPU)
        for count, a, b in ((1, 200.0, 100.0), (64, 100.0, 250.0))
    ]
    said = answer.opening(contests)
    assert any(sentence.startswith("For many connections (64, the most here): `") for sentence in said)


# --- how it came out


def test_winners_ties_and_open_comparisons_are_counted_with_the_reason() -> None:
    contests = [contest(connections=1), contest(connections=2), tie(connections=4), contest(bound=("epoll_lt",))]
    assert answer.tally(contests) == [
        "Of 4 comparisons 2 have a winner, 1 is a tie and 1 names none, since the client was the limit."
    ]
    assert answer.tally(contests[:2]) == ["Of 2 comparisons 2 have a winner."]
    assert answer.tally(contests[:1]) == []


def test_how_much_the_choice_matters_is_told_by_the_widest_gap() -> None:
    contests = [contest(connections=1), contest(values={"a": 900.0, "b": 100.0}, connections=16)]
    assert answer.stakes(contests) == [
        "How much the choice matters: with 16 connections, throughput goes from 100 messages/s (`b`) to 900 messages/s "
        "(`a`), a factor of 9.00."
    ]
    assert answer.stakes([contest(values={"a": 102.0, "b": 100.0})])[0].startswith(
        "For throughput the choice hardly matters"
    )


def test_too_few_repeats_for_any_comparison_are_told_first() -> None:
    said = answer.opening([contest(ratio=UNKNOWN, level=("select",))])
    assert said[0] == "There are too few repeats to tell any two strategies apart: it takes 4."


def test_without_a_rival_the_answer_says_that_there_is_no_choice() -> None:
    alone = contest(values={"a": 5.0}, ratio=None)
    assert answer.opening([alone]) == ["Only `a` was measured: there is nothing to choose from."]
    other = contest(values={"b": 5.0}, ratio=None, connections=64)
    assert answer.opening([alone, other]) == [
        "No two strategies were measured under the same load: there is nothing to choose by."
    ]
    assert answer.opening([]) == []
