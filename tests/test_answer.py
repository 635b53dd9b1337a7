"""The answer in words: what to use for what, by how much, what is equal, what isn't decided; no winner beyond that."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import STRATEGIES, comparison

from bench import answer
from bench.comparisons import Comparison, Pair, Standing
from bench.metrics import CONTESTED, CPU, P99, RATE, Metric
from bench.stats import Interval

FAST_AND_SLOW = {"epoll_lt": 120_000.0, "select": 100_000.0}
ALIKE = {"epoll_lt": 101_000.0, "select": 100_000.0}  # by 1 %: equal with limits of 2 %
NEARLY = {"epoll_lt": 104_000.0, "select": 100_000.0}  # by 4 %: not decided with limits of 5 %


def equal(**group: Any) -> Comparison:
    return comparison(ALIKE, **group)


def undecided(**group: Any) -> Comparison:
    return comparison(NEARLY, limits=1.05, **group)


def default_sweep(limits: float = 1.02) -> list[Comparison]:
    """Nine strategies, three numbers of connections, three metrics."""
    return [
        comparison(
            {
                name: rates[at] if metric is RATE else 1e6 / rates[at]
                for name, rates in rates_of().items()
                if at < len(rates)
            },
            metric,
            limits=limits,
            connections=count,
        )
        for metric, (at, count) in product(CONTESTED, enumerate((1, 16, 128)))
    ]


def rates_of() -> dict[str, tuple[float, ...]]:
    return {name: rates for name, (_, rates, _, _) in STRATEGIES.items()}


# --- one setting


def test_who_was_shown_better_is_named_with_the_value_and_how_many_times_as_good_as_the_next_one() -> None:
    assert answer.clause(comparison(FAST_AND_SLOW)) == (
        "`epoll_lt` (120,000 messages/s); 1.20 times (1.18 to 1.22) as good as `select`, the next"
    )


@pytest.mark.parametrize("metric", [CPU, P99], ids=lambda metric: metric.name)
def test_where_less_is_better_the_factor_is_how_many_times_less(metric: Metric) -> None:
    assert answer.clause(comparison({"epoll_lt": 7.0, "select": 8.4}, metric)) == (
        "`epoll_lt` (7.00 µs); 1.20 times (1.18 to 1.22) as good as `select`, the next"
    )


def test_those_that_are_equal_are_named_alike_with_what_counts_as_equal() -> None:
    assert answer.clause(equal()) == "`epoll_lt` or `select`, equal within 5 % (101,000 and 100,000 messages/s)"


def test_what_counts_as_equal_is_told_to_its_last_digit() -> None:
    assert answer.leaders(replace(equal(), within=0.025)).endswith(", equal within 2.5 %")


def test_what_is_not_decided_is_said_with_how_far_apart_they_may_be_and_how_many_rounds_would_tell() -> None:
    assert answer.clause(undecided()) == (
        "`epoll_lt` or `select`, not decided (104,000 and 100,000 messages/s); at most 9.2 % apart, and about 7 more "
        "rounds would tell"
    )


def test_a_guess_of_many_rounds_is_told_to_two_digits() -> None:
    assert "about 630 more rounds" in answer.clause(comparison(NEARLY, limits=1.05, more_rounds=627))
    assert "about 1 more round would" in answer.clause(comparison(NEARLY, limits=1.05, more_rounds=1))
    assert "round" not in answer.clause(comparison(NEARLY, limits=1.05, more_rounds=None))


def test_a_difference_of_twice_or_more_that_is_still_possible_is_told_as_a_factor() -> None:
    assert "at most 2.60 times apart" in answer.clause(comparison({"a": 130.0, "b": 100.0}, limits=2.0))


def test_behind_several_that_are_not_told_apart_the_next_tier_is_compared_with_the_best_value() -> None:
    said = answer.clause(comparison({"a": 101.0, "b": 100.0, "c": 50.0}))
    assert said.endswith("; `a` is 2.02 times (1.98 to 2.06) as good as `c`, the next")


def test_several_of_which_not_all_are_equal_are_not_decided() -> None:
    chain = comparison({"a": 103.0, "b": 101.5, "c": 100.0}, limits=1.03)
    assert {pair.outcome for pair in chain.pairs} == {"equal", "undecided"}
    assert answer.leaders(chain) == "`a`, `b` or `c`, not decided"


def test_one_that_was_measured_alone_is_said_to_be_the_only_one() -> None:
    assert answer.clause(comparison({"poll": 5000.0})) == "`poll`, the only one (5,000 messages/s)"


def test_a_leading_tier_of_one_that_was_not_shown_better_than_all_is_not_decided() -> None:
    """It takes a round that some strategies are not in: the second is better than the third, and the first isn't."""
    interval = Interval(1.2, 0.9, 1.6, 0.95)
    pairs = (
        Pair("a", "b", Interval(1.1, 1.05, 1.2, 0.95), "better"),
        Pair("a", "c", interval, "undecided", 3),
        Pair("b", "c", Interval(1.1, 1.05, 1.2, 0.95), "better"),
    )
    ranking = (
        Standing("a", "a", "", 120, 5),
        Standing("b", "b", "", 110, 5, tier=2),
        Standing("c", "c", "", 100, 5, tier=3),
    )
    found = comparison(FAST_AND_SLOW)
    made = Comparison(RATE, found.group, ranking, pairs, 5, 0.05, 0.95, 0.03, pooled=True)
    assert answer.leaders(made) == "`a`, not decided"


# --- bounds


def test_a_throughput_that_the_client_limited_is_a_lower_bound_and_can_be_shown_better() -> None:
    said = answer.clause(comparison({"epoll_lt": 59_000.0, "threads": 9_040.0}, bounds=["epoll_lt"]))
    assert said == (
        "`epoll_lt` (at least 59,000 messages/s: the client was the limit); at least 6.40 times as good as `threads`, "
        "the next"
    )


def test_one_that_may_be_faster_than_measured_is_not_shown_to_be_worse() -> None:
    said = answer.clause(comparison(FAST_AND_SLOW, bounds=["select"], more_rounds=None))
    assert said == (
        "`epoll_lt` or `select`, not decided (120,000 messages/s and at least 100,000 messages/s: the client was the "
        "limit); how far apart they are is not known"
    )


@pytest.mark.parametrize(
    ("metric", "about", "text"),
    [
        (RATE, {"bounds": "a"}, "at least 7.00 messages/s"),
        (P99, {"bounds": "a"}, "at most 7.00 µs"),  # the client's own delay is in it
        (P99, {"unfinished": "a"}, "at least 7.00 µs"),
        (P99, {"bounds": "a", "unfinished": "a"}, "7.00 µs"),  # either way
        (CPU, {"bounds": "a"}, "7.00 µs"),  # a saturated client does nothing to it
    ],
)
def test_a_value_is_written_as_the_bound_that_it_is(metric: Metric, about: dict[str, str], text: str) -> None:
    assert answer.value_of(metric, comparison({"a": 7.0}, metric, **about).best) == text


def test_a_percentile_of_unfinished_messages_says_why_it_is_a_bound() -> None:
    said = answer.clause(comparison({"a": 7.0, "b": 8.4}, P99, unfinished=["a"]))
    assert said.startswith("`a` or `b`, not decided (at least 7.00 µs and 8.40 µs: messages were unfinished)")


# --- for what


def test_each_metric_is_answered_setting_by_setting() -> None:
    comparisons = [comparison(FAST_AND_SLOW, connections=1), equal(connections=16), comparison(FAST_AND_SLOW, CPU)]
    (asked, (first, second)), (other, _) = answer.advice(comparisons)
    assert (asked, other) == ("For throughput", "For little server CPU")
    assert first.startswith("1 connection: `epoll_lt` (")
    assert second.startswith("16 connections: `epoll_lt` or `select`, equal within 5 % (")


def test_many_settings_are_counted_by_who_was_shown_best_or_equal_with_those_left_open() -> None:
    comparisons = [comparison(FAST_AND_SLOW, connections=2**power) for power in range(7)]
    comparisons += [equal(connections=256), undecided(connections=512), comparison({"a": 1.0}, connections=1024)]
    ((_, clauses),) = answer.advice(comparisons)
    assert clauses == [
        "`epoll_lt` in 8 of 10 settings",
        "`select` in 1 of 10 settings",
        "not decided in 1 of 10 settings",
        "only one strategy was measured in 1 of 10 settings",
    ]
    assert answer.headlines(comparisons) == [("Most messages per second", clauses)]


def test_headlines_gather_the_settings_in_which_the_same_is_said() -> None:
    comparisons = [
        comparison(FAST_AND_SLOW, connections=1),
        comparison(FAST_AND_SLOW, connections=16),
        equal(connections=64),
        undecided(connections=128),
    ]
    assert answer.headlines(comparisons) == [
        (
            "Most messages per second",
            [
                "1 and 16 connections: `epoll_lt`",
                "64 connections: `epoll_lt` or `select`, equal within 5 %",
                "128 connections: `epoll_lt` or `select`, not decided",
            ],
        )
    ]


# --- one for everything


def test_one_is_for_everything_where_it_was_shown_better_than_or_equal_to_all_others_at_every_point() -> None:
    comparisons = [comparison(FAST_AND_SLOW, connections=1), equal(connections=16)]
    assert answer.opening(comparisons)[0] == (
        "For everything measured here: `epoll_lt`, shown better than all others or equal within 5 % at all 2 points "
        "(setting by metric)."
    )


def test_a_difference_that_is_not_decided_anywhere_leaves_nothing_for_everything() -> None:
    said = " ".join(answer.opening([comparison(FAST_AND_SLOW, connections=1), undecided(connections=16)]))
    assert said.startswith("No strategy is shown better than all others or equal within 5 % at all 2 points")
    assert "for everything" not in said.lower()


def test_who_was_not_measured_everywhere_is_not_for_everything() -> None:
    comparisons = [comparison({"fast": 9.0, "a": 5.0}, connections=1), comparison({"a": 5.0, "b": 4.0}, connections=2)]
    assert answer.shown_best(comparisons) == []


def test_what_is_for_which_setting_by_every_metric_is_said_where_nothing_is_for_everything() -> None:
    comparisons = [
        comparison(values, metric, connections=count)
        for metric in (RATE, CPU)
        for count, values in ((1, {"a": 2.0, "b": 1.0} if metric is RATE else {"a": 1.0, "b": 2.0}), (16, NEARLY))
    ]
    assert answer.opening(comparisons)[1] == "By every metric, 1 connection: `a`; 16 connections: none."


def test_else_who_leads_with_the_most_connections_is_said_with_what_is_equal_and_not_decided() -> None:
    comparisons = [comparison(NEARLY, metric, limits=1.05, connections=1) for metric in (RATE, CPU, P99)]
    comparisons += [comparison(FAST_AND_SLOW, RATE), comparison(NEARLY, CPU, limits=1.05), comparison(ALIKE, P99)]
    assert answer.opening(comparisons)[1] == (
        "With 16 connections, throughput: `epoll_lt`; server CPU per message: `select` or `epoll_lt`, not decided; p99 "
        "latency: `select` or `epoll_lt`, equal within 5 %."
    )


def test_of_many_settings_it_is_counted_who_was_shown_best_at_the_most_points() -> None:
    comparisons = [
        comparison({"a": 2.0, "b": 1.0} if size < 1000 else {"b": 2.0, "a": 1.0}, message_bytes=size)
        for size in (1, 64, 512, 1024, 4096)
    ]
    assert (
        answer.opening(comparisons)[1] == "Shown best or equal to the best at the most points: `a` at 3 and `b` at 2."
    )


def test_who_is_never_shown_worse_is_named_and_only_where_something_was_shown() -> None:
    some = [comparison({"a": 104.0, "b": 100.0, "c": 50.0}, limits=1.05)]
    assert answer.never_worse(some) == ["Never shown worse than another: `a` and `b`."]
    assert answer.never_worse([undecided()]) == ["No strategy was shown better than another."]
    assert answer.never_worse([comparison(FAST_AND_SLOW)]) == []  # one is for everything


def test_the_outcomes_of_the_comparisons_with_the_best_are_counted() -> None:
    comparisons = [comparison(FAST_AND_SLOW), equal(connections=1), undecided(connections=2)]
    assert answer.tally([*comparisons, equal(connections=4)]) == (
        "Of 4 comparisons with the best 1 shows a difference, 2 are equal within 5 % and 1 is not decided."
    )


def test_how_much_the_choice_matters_is_the_widest_difference_that_was_shown() -> None:
    comparisons = [comparison(FAST_AND_SLOW, connections=1), comparison({"a": 900.0, "b": 100.0, "c": 890.0})]
    assert answer.stakes(comparisons) == [
        "How much the choice matters: with 16 connections, `a` serves 9.00 times (8.82 to 9.18) as many messages/s as "
        "`b`."
    ]


def test_without_a_difference_that_was_shown_nothing_is_said_of_how_much_the_choice_matters() -> None:
    assert answer.stakes([undecided()]) == []
    assert answer.stakes([comparison({"a": 7.0, "b": 70.0}, CPU)]) == []


def test_where_all_are_equal_the_choice_hardly_matters() -> None:
    assert answer.stakes([equal()]) == [
        "For throughput the choice hardly matters: all strategies are equal within 5 %."
    ]


def test_too_few_rounds_for_any_limit_are_said_and_nothing_else() -> None:
    unknown = comparison(FAST_AND_SLOW, limits=math.inf)
    assert answer.opening([unknown]) == ["No two strategies can be told apart yet: 5 rounds give no interval."]


def test_without_a_rival_the_answer_says_that_there_is_no_choice() -> None:
    alone, other = comparison({"a": 5.0}), comparison({"b": 5.0}, connections=64)
    assert answer.opening([alone]) == ["Only `a` was measured: there is nothing to choose from."]
    assert answer.opening([alone, other]) == [
        "No two strategies were measured under the same load: there is nothing to choose by."
    ]
    assert answer.opening([]) == []


@given(
    st.lists(
        st.tuples(st.dictionaries(st.sampled_from("abcd"), st.floats(90, 120), min_size=2), st.floats(1.001, 1.2)),
        min_size=1,
        max_size=4,
    )
)
def test_whoever_is_named_for_everything_is_never_behind_and_never_undecided(
    found: list[tuple[dict[str, float], float]],
) -> None:
    comparisons = [comparison(values, limits=limits, connections=2**at) for at, (values, limits) in enumerate(found)]
    for name, one in product(answer.shown_best(comparisons), comparisons):
        outcomes = {answer.seen_from(pair, name)[1] for pair in one.pairs if name in (pair.ahead, pair.behind)}
        assert outcomes <= {"better", "equal"}
        assert name in {it.name for it in one.ranking}
    for one in comparisons:
        alone = not answer.leaders(one).endswith(("equal within 5 %", "not decided"))
        assert alone == bool(one.winner)


# --- the whole ranking


def test_the_ranking_says_the_tiers_of_each_setting_and_metric_with_what_was_shown_of_each() -> None:
    comparisons = [comparison({"a": 100.0, "b": 99.5, "c": 97.0, "d": 50.0}), comparison({"a": 7.0, "b": 9.0}, CPU)]
    assert answer.rankings(comparisons) == [
        (
            "16 connections",
            [
                (
                    "throughput",
                    [
                        "`a` 100 messages/s; `b` 99.5 messages/s: equal within 5 %, 1.01 times (0.985 to 1.03)",
                        "`c` 97.0 messages/s: 1.03 times (1.01 to 1.05)",
                        "`d` 50.0 messages/s: 2.00 times (1.96 to 2.04)",
                    ],
                ),
                ("server CPU per message", ["`a` 7.00 µs", "`b` 9.00 µs: 1.29 times (1.26 to 1.31)"]),
            ],
        )
    ]


def test_one_strategy_alone_has_no_ranking() -> None:
    assert answer.rankings([comparison({"a": 100.0})]) == []


def test_where_settings_differ_a_ranking_says_which_it_is_of() -> None:
    found = answer.rankings([comparison(FAST_AND_SLOW), comparison(FAST_AND_SLOW, transport="unix", message_bytes=1)])
    assert [where for where, _ in found] == ["tcp, 64 bytes", "unix, 1 byte"]


def test_a_table_has_how_many_times_the_best_of_each_column_is_better_by_strategies() -> None:
    comparisons = [
        comparison({"a": 120.0, "b": 100.0, "c": 60.0}, connections=1),
        comparison({"b": 100.0, "a": 99.5, "c": 97.0}, limits=1.04, connections=16),
        comparison({"a": 7.0, "b": 6.9}, CPU, connections=16),
    ]
    table = answer.table(comparisons)
    assert table.metrics == [("throughput, messages/s", 2), ("server CPU per message", 1)]
    assert table.columns == ["1 connection", "16 connections", "16 connections"]
    assert dict(table.rows) == {
        "a": [("120", ""), ("=", "0.966–1.05"), ("=", "0.995–1.03")],
        "b": [("1.20×", "1.18–1.22"), ("100", ""), ("6.90 µs", "")],
        "c": [("2.00×", "1.96–2.04"), ("?", "0.991–1.07"), ("–", "")],
    }
    assert [name for name, _ in table.rows] == ["a", "b", "c"]


def test_a_bound_in_a_table_has_its_sign() -> None:
    table = answer.table([comparison({"a": 900.0, "b": 100.0, "c": 110.0}, bounds=["a", "c"])])
    assert dict(table.rows)["a"] == [("≥ 900", "")]
    assert dict(table.rows)["b"] == [("> 8.82×", "")]
    assert dict(table.rows)["c"] == [("?", "")]


# --- one strategy


@pytest.mark.parametrize(
    ("values", "limits", "name", "how", "words"),
    [
        ({"a": 9.0}, 1.02, "a", "alone", "the only one measured"),
        ({"a": 9.0, "b": 5.0}, 1.02, "a", "best", "shown better than the other"),
        ({"a": 9.0, "b": 5.0, "c": 3.0}, 1.02, "a", "best", "shown better than all others"),
        ({"a": 9.0, "b": 5.0}, 1.02, "b", "behind", "`a` is 1.80 times (1.76 to 1.84) as good"),
        (ALIKE, 1.02, "epoll_lt", "equal", "equal within 5 % with `select`"),
        (ALIKE, 1.02, "select", "equal", "equal within 5 % with `epoll_lt`"),
        (
            NEARLY,
            1.05,
            "epoll_lt",
            "undecided",
            "not decided against `select`: at most 9.2 % apart, and about 7 more rounds would tell",
        ),
        (
            NEARLY,
            1.05,
            "select",
            "undecided",
            "not decided against `epoll_lt`: at most 9.2 % apart, and about 7 more rounds would tell",
        ),
    ],
)
def test_of_one_strategy_it_is_said_how_it_came_out_against_the_best(
    values: dict[str, float], limits: float, name: str, how: str, words: str
) -> None:
    found = comparison(values, limits=limits)
    assert answer.outcome(found, name) == how
    assert answer.standing(found, name) == words


@given(st.floats(1, 9), st.floats(1.01, 2), st.sampled_from([(), ("a",), ("b",)]))
def test_a_pair_seen_from_the_other_side_is_the_same_turned_round(ratio: float, limits: float, bounds: Any) -> None:
    (pair,) = comparison({"a": 100 * ratio, "b": 100.0}, limits=limits, bounds=bounds).pairs
    ahead, how = answer.seen_from(pair, pair.ahead)
    behind, turned = answer.seen_from(pair, pair.behind)
    assert behind.estimate == pytest.approx(1 / ahead.estimate)
    assert behind.low * ahead.high in (pytest.approx(1), 0) or math.isnan(behind.low * ahead.high)
    assert turned == ("worse" if how == "better" else how)


# --- the terminal


@pytest.mark.parametrize("limits", [1.001, 1.02, 1.2], ids=["sure", "usual", "noisy"])
def test_the_ranking_of_a_default_sweep_has_at_most_20_lines_of_80_columns(limits: float) -> None:
    comparisons = default_sweep(limits)
    lines = answer.ranking(comparisons)
    assert len(lines) <= 20
    assert max(map(len, [*lines, *answer.terminal(comparisons)])) <= 80
    assert "`" not in "".join(answer.terminal(comparisons))


def test_the_terminal_shows_the_first_metric_as_a_table_and_the_others_in_lines() -> None:
    lines = answer.ranking(default_sweep())
    assert lines[0].split("  ")[0] == "throughput, messages/s"
    assert "epoll_lt                1.37x (1.34-1.39)  121,000            141,000" in lines
    assert "  128 connections: epoll_lt 7.09 us = epoll_et; next poll 1.60x (1.57-1.63)" in lines
    assert [line for line in lines if not line.startswith(" ")][-3:-1] == ["server CPU per message", "p99 latency"]
    assert lines[-1].endswith("= equal within 5 %; ? not decided")


def test_the_terminal_opens_with_the_answer() -> None:
    comparisons = default_sweep()
    said = " ".join(answer.opening(comparisons)).replace("`", "")
    assert " ".join(answer.terminal(comparisons)).startswith(said)


def test_what_does_not_fit_a_line_is_left_out_limits_first_and_then_names() -> None:
    def line(*names: str) -> str:
        """What is said of those that are alike and of one that takes ten times as much."""
        found = [comparison(dict.fromkeys(names, 7.0) | {"slow": 70.0}, metric) for metric in (RATE, CPU)]
        return answer.ranking(found)[-2]

    assert line("a") == "  16 connections: a 7.00 us; next slow 10.0x (9.80-10.2)"
    assert line("a" * 36) == f"  16 connections: {'a' * 36} 7.00 us; next slow 10.0x"
    assert line("a" * 50) == f"  16 connections: {'a' * 50} 7.00 us"
    assert line("a" * 30, "b" * 30) == f"  16 connections: {'a' * 30} 7.00 us and 1 more"


def test_more_settings_than_a_table_has_columns_are_told_in_lines() -> None:
    comparisons = [comparison(FAST_AND_SLOW, connections=count) for count in (1, 4, 16, 64)]
    lines = answer.ranking(comparisons)
    assert lines[:2] == [
        "throughput, messages/s",
        "  1 connection: epoll_lt 120,000 messages/s; next select 1.20x (1.18-1.22)",
    ]
    assert len(lines) == 6


def test_of_many_strategies_the_first_dozen_are_on_the_terminal() -> None:
    lines = answer.ranking([comparison({f"s{at:02d}": 100.0 + at for at in range(40)})])
    assert lines[13] == "28 more are in the report."


def test_a_name_can_do_nothing_to_the_terminal() -> None:
    shown = answer.terminal([comparison({"a\x1b[2J": 9.0, "b" * 200: 5.0})])
    assert "\x1b" not in "".join(shown)
    assert max(map(len, shown)) <= 80


def test_without_a_rival_the_terminal_has_the_opening_alone() -> None:
    assert answer.terminal([comparison({"a": 5.0})]) == ["Only a was measured: there is nothing to choose from."]
