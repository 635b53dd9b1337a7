"""What comparisons say of values, histograms and runs that are known: outcomes, bounds, tiers, and what is left out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import analysed, histogram, load, manifest, open_load, open_record, record, unmeasured

from bench.analyse import analyse
from bench.compare_runs import merge
from bench.comparisons import (
    LEVEL,
    Comparison,
    Contender,
    Rules,
    comparisons,
    from_histograms,
    from_values,
    looks_of,
    names_of,
    within_of,
)
from bench.metrics import CPU, P99, RATE, Metric
from bench.record import Record, Run

NAN = math.nan
GROUP = {"transport": "tcp", "connections": 16}
RULES = Rules(families=9, looks=5)


def named(*names: str) -> list[Contender]:
    return [Contender(name) for name in names]


def wander(rounds: int, seed: int = 0) -> np.ndarray:
    """What the machine makes of each round, for all alike."""
    return np.asarray(np.random.default_rng(1000 + seed).lognormal(0, 0.3, rounds))


def measured(levels: dict[str, float], rounds: int = 6, deviation: float = 0.03, seed: int = 0) -> np.ndarray:
    """A row a level, with noise of its own in rounds that all share."""
    noise = np.random.default_rng(seed).lognormal(0, deviation, (len(levels), rounds))
    return np.asarray(np.array(list(levels.values()))[:, None] * noise * wander(rounds, seed))


def compared(levels: dict[str, float], metric: Metric = RATE, rules: Rules = RULES, **more: Any) -> Comparison:
    return from_values(metric, GROUP, named(*levels), measured(levels, **more), rules=rules)


def outcomes(found: Comparison) -> dict[tuple[str, str], str]:
    return {(pair.ahead, pair.behind): pair.outcome for pair in found.pairs}


# --- three outcomes


def test_on_a_machine_that_wanders_by_a_third_a_tenth_is_told_in_six_rounds() -> None:
    found = compared({"a": 100_000, "b": 80_000, "c": 79_000})
    assert outcomes(found) == {("a", "b"): "better", ("a", "c"): "better", ("b", "c"): "undecided"}
    ratio = found.pair("b", "a").ratio
    assert 1.1 < ratio.low < 1.25 < ratio.high < 1.4
    assert ratio.level == found.level == LEVEL
    assert (found.winner, found.best.name, found.decided) == ("a", "a", True)
    assert found.spread == pytest.approx(0.03, rel=0.5)
    assert found.rounds == 6


def test_with_many_rounds_two_that_are_alike_are_equal_and_nobody_wins() -> None:
    found = compared({"a": 1000, "b": 1001}, rounds=40)
    assert outcomes(found).popitem()[1] == "equal"
    (pair,) = found.pairs
    assert pair.more_rounds is None
    assert 1 / 1.05 < pair.ratio.low < 1 < pair.ratio.high < 1.05
    assert (found.winner, found.decided) == ("", True)


def test_a_difference_that_is_sure_but_smaller_than_what_counts_as_equal_is_equal() -> None:
    levels = {"a": 1020, "b": 1000}
    for within, outcome in ((0.05, "equal"), (0.01, "better")):
        found = compared(levels, rounds=60, deviation=0.005, rules=Rules(within=within))
        assert outcomes(found) == {("a", "b"): outcome}
        assert found.within == within


def test_what_is_not_decided_says_how_large_the_difference_could_be_and_how_many_rounds_it_would_take() -> None:
    found = compared({"a": 1030, "b": 1000}, rounds=4, deviation=0.1)
    (pair,) = found.pairs
    assert pair.outcome == "undecided"
    assert pair.ratio.low < 1 < pair.ratio.high
    assert pair.more_rounds is not None
    assert 5 < pair.more_rounds < 500
    assert not found.decided


def test_more_looks_and_more_comparisons_ask_for_more_to_call_one_better() -> None:
    levels = {"a": 1080, "b": 1000}
    lenient, strict = (compared(levels, rules=rules) for rules in (Rules(), Rules(families=27, looks=20)))
    assert outcomes(lenient) == {("a", "b"): "better"}
    assert outcomes(strict) == {("a", "b"): "undecided"}
    assert lenient.pairs[0].ratio == strict.pairs[0].ratio


@pytest.mark.parametrize(("metric", "first"), [(RATE, "b"), (CPU, "a")])
def test_the_best_is_the_one_with_the_better_value(metric: Metric, first: str) -> None:
    found = compared({"a": 100, "b": 200}, metric)
    assert found.best.name == found.winner == first
    assert found.pairs[0].ratio.estimate == pytest.approx(2, rel=0.05)


def test_the_value_is_the_geometric_mean_of_the_rounds() -> None:
    values = measured({"a": 100, "b": 90})
    found = from_values(RATE, GROUP, named("a", "b"), values)
    assert found.best.value == pytest.approx(np.exp(np.log(values[0]).mean()))
    assert found.best.rounds == 6


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.floats(0.5, 2), st.sampled_from([RATE, CPU]), st.floats(1e-3, 1e3))
def test_neither_the_order_of_the_names_nor_the_unit_matters(
    seed: int, factor: float, metric: Metric, unit: float
) -> None:
    values = measured({"a": 1, "b": factor, "c": 1}, seed=seed)
    one = from_values(metric, GROUP, named("a", "b", "c"), values)
    other = from_values(metric, GROUP, named("c", "a", "b"), values[[2, 0, 1]] * unit)
    assert outcomes(other) == outcomes(one)
    for pair in one.pairs:
        assert other.pair(pair.ahead, pair.behind).ratio == pytest.approx(pair.ratio)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.lists(st.floats(0.7, 1.4), min_size=2, max_size=5))
def test_a_pair_is_what_its_limits_say(seed: int, levels: list[float]) -> None:
    found = compared({str(at): level for at, level in enumerate(levels)}, seed=seed)
    values = [standing.value for standing in found.ranking]
    assert values == sorted(values, reverse=True)
    for pair in found.pairs:
        assert pair.ratio.low <= pair.ratio.estimate <= pair.ratio.high
        assert pair.ratio.estimate >= 1
        inside = pair.ratio.low >= 1 / 1.05 and pair.ratio.high <= 1.05
        assert (pair.outcome == "equal") == inside
        assert pair.outcome != "better" or pair.ratio.low > 1
        assert pair.outcome == "undecided" or pair.more_rounds is None


def test_of_equals_hardly_any_is_called_better() -> None:
    """One family, one look: at most 5 % of comparisons; 12 of 120 would come with a chance of 1.5 %."""
    levels = dict.fromkeys("abcd", 1000.0)
    false = sum(
        "better" in outcomes(compared(levels, rounds=5, deviation=0.1, rules=Rules(), seed=seed)).values()
        for seed in range(120)
    )
    assert false < 12


# --- tiers


def test_who_was_shown_to_be_better_is_in_a_tier_before() -> None:
    found = compared({"a": 200, "b": 198, "c": 150, "d": 100, "e": 99})
    assert [[standing.name for standing in tier] for tier in found.tiers] == [["a", "b"], ["c"], ["d", "e"]]
    assert found.winner == ""


def test_who_was_shown_to_be_behind_the_first_only_shares_a_tier_with_those_who_were_not() -> None:
    found = compared({"a": 110, "b": 105, "c": 100}, deviation=0.018, seed=4)
    assert outcomes(found) == {("a", "b"): "undecided", ("a", "c"): "better", ("b", "c"): "undecided"}
    assert [standing.tier for standing in found.ranking] == [1, 1, 2]


# --- bounds


def at_least(bound: dict[str, list[int]], levels: dict[str, float], metric: Metric = RATE) -> Comparison:
    values = measured(levels, rounds=5)
    mask = np.array([[column in bound.get(name, []) for column in range(5)] for name in levels])
    return from_values(metric, GROUP, named(*levels), values, rules=RULES, client_bound=mask)


def test_at_least_59_000_is_better_than_9_040() -> None:
    found = at_least({"epoll_lt": [0, 1, 2, 3, 4]}, {"thread_per_connection": 9_040, "epoll_lt": 59_000})
    assert found.winner == "epoll_lt"
    ratio = found.pairs[0].ratio
    assert 5.5 < ratio.low < 59 / 9.04
    assert ratio.high == math.inf
    assert found.best.client_bound == 5


def test_at_least_9_040_is_not_shown_to_be_worse_than_59_000() -> None:
    found = at_least({"thread_per_connection": [0, 1, 2, 3, 4]}, {"thread_per_connection": 9_040, "epoll_lt": 59_000})
    (pair,) = found.pairs
    assert (pair.outcome, pair.more_rounds) == ("undecided", None), "no number of rounds would tell"
    assert pair.ratio.low == 0
    assert pair.ratio.high < 10
    assert found.winner == ""


def test_one_client_bound_round_in_five_of_one_far_behind_does_not_void_the_comparison() -> None:
    levels = {"epoll_lt": 59_000, "poll": 50_000, "thread_per_connection": 9_040}
    without, found = at_least({}, levels), at_least({"thread_per_connection": [2]}, levels)
    assert found.winner == "epoll_lt"
    assert found.pair("epoll_lt", "poll") == without.pair("epoll_lt", "poll")
    narrow, wide = (one.pair("epoll_lt", "thread_per_connection").ratio for one in (without, found))
    assert 5 < wide.low < narrow.low
    assert wide.high == narrow.high


def test_bounds_in_half_of_the_rounds_or_more_may_hide_anything() -> None:
    levels = {"a": 100, "b": 50}
    assert at_least({"b": [0, 1]}, levels).winner == "a"
    assert at_least({"b": [0, 1, 2]}, levels).winner == ""


def test_that_the_client_was_the_limit_is_no_matter_to_cpu() -> None:
    found = at_least({"a": [0, 1, 2, 3, 4]}, {"a": 10.0, "b": 5.0}, CPU)
    assert found.winner == "b"
    assert found.pair("a", "b").ratio.high < math.inf


# --- percentiles


def texts(medians_us: list[float], samples: int = 2000) -> list[str]:
    return [histogram(median * 1e3, samples) for median in medians_us]


def waits(levels: dict[str, float], rounds: int = 6, seed: int = 0) -> list[list[str]]:
    return [texts(list(row)) for row in measured(levels, rounds, seed=seed)]


def test_p99_is_that_of_the_merged_histograms_and_told_within_rounds() -> None:
    found = from_histograms(P99, GROUP, named("a", "b"), waits({"a": 100, "b": 150}, 8), rules=RULES)
    assert found.winner == "a"
    ratio = found.pairs[0].ratio
    assert 1.3 < ratio.low < 1.5 < ratio.high < 1.75
    both = analysed(
        *(record("a", repeat=at, load=load(2000, 16, service_hdr=text)) for at, text in enumerate(texts([100, 300])))
    ).estimates
    alone = from_histograms(P99, GROUP, named("a"), [texts([100, 300])])
    (expected,) = both[both["metric"] == "p99_us"]["value"]
    assert alone.best.value == pytest.approx(expected)


def test_the_limits_of_a_percentile_are_the_same_each_time() -> None:
    rows = waits({"a": 100, "b": 101, "c": 103})
    one, other = (from_histograms(P99, GROUP, named("a", "b", "c"), rows) for _ in range(2))
    assert one == other


def test_an_unfinished_percentile_can_be_shown_worse_and_not_better() -> None:
    rows = waits({"a": 100, "b": 200})
    for unfinished, outcome in (([True, False], "undecided"), ([False, True], "better")):
        found = from_histograms(P99, GROUP, named("a", "b"), rows, rules=RULES, unfinished=unfinished)
        (pair,) = found.pairs
        assert (pair.ahead, pair.outcome) == ("a", outcome)
        assert [standing.lower_bound for standing in found.ranking] == unfinished
        assert (pair.ratio.low == 0) == unfinished[0]
        assert (pair.ratio.high == math.inf) == unfinished[1]


def test_where_the_client_was_the_limit_its_own_delay_is_in_the_times() -> None:
    rows, bound = waits({"a": 100, "b": 200}), np.array([[False] * 6, [True] * 6])
    found = from_histograms(P99, GROUP, named("a", "b"), rows, rules=RULES, client_bound=bound)
    assert outcomes(found) == {("a", "b"): "undecided"}
    found = from_histograms(P99, GROUP, named("a", "b"), rows, rules=RULES, client_bound=bound[::-1])
    assert outcomes(found) == {("a", "b"): "better"}


def test_times_of_nothing_are_told_without_a_warning() -> None:
    found = from_histograms(P99, GROUP, named("a", "b"), [texts([0.0001] * 4), texts([50.0] * 4)])
    assert found.best.name == "a"


def test_a_histogram_that_is_missing_or_broken_is_a_round_less() -> None:
    rows = waits({"a": 100, "b": 150})
    rows[0][1], rows[1][2] = "", "no histogram"
    found = from_histograms(P99, GROUP, named("a", "b"), rows)
    assert {standing.name: standing.rounds for standing in found.ranking} == {"a": 5, "b": 5}
    assert found.pairs[0].ratio.estimate == pytest.approx(1.5, rel=0.2)


def test_strategies_in_two_blocks_are_compared_by_way_of_the_one_in_both() -> None:
    levels, rounds = {"a": 100, "common": 120, "c": 200}, 16
    rows = waits(levels, rounds)
    rows[0][8:], rows[2][:8] = [""] * 8, [""] * 8
    found = from_histograms(P99, GROUP, named(*levels), rows, rules=RULES, parts=[0] * 8 + [1] * 8)
    pair = found.pair("a", "c")
    assert pair.outcome == "better"
    assert pair.ratio.estimate == pytest.approx(2, rel=0.1)
    values = measured(levels, rounds)
    values[0, 8:], values[2, :8] = NAN, NAN
    assert from_values(CPU, GROUP, named(*levels), values, rules=RULES).winner == "a"


def test_a_percentile_that_hangs_on_the_rounds_of_a_bad_while_is_known_no_better_for_the_others() -> None:
    calm = np.array([np.full(8, 100.0), 150 * np.array([1.1, 0.9, 1.1, 0.9, 1.1, 0.9, 1.1, 0.9])])
    bad_while = calm * np.array([20, 20, 1, 1, 1, 1, 1, 1])
    ratios = [
        from_histograms(P99, GROUP, named("a", "b"), [texts(list(row)) for row in levels]).pairs[0].ratio
        for levels in (calm, bad_while)
    ]
    calm_width, bad_width = (math.log(ratio.high / ratio.low) for ratio in ratios)
    assert bad_width > 1.5 * calm_width


def test_only_a_percentile_is_told_from_histograms() -> None:
    with pytest.raises(ValueError, match="percentile"):
        from_histograms(RATE, GROUP, named("a"), [texts([100])])


# --- too little


def test_one_round_decides_nothing() -> None:
    found = compared({"a": 1000, "b": 10}, rounds=1)
    (pair,) = found.pairs
    assert (pair.outcome, pair.ratio.low, pair.ratio.high, pair.more_rounds) == ("undecided", 0, math.inf, 2)
    assert pair.ratio.estimate == pytest.approx(100, rel=0.2)
    assert (found.winner, found.decided) == ("", False)
    assert math.isnan(found.spread)


def test_two_that_have_no_round_in_common_are_not_compared() -> None:
    values = np.array([[10.0, 11, NAN, NAN], [NAN, NAN, 1.0, 1.1]])
    found = from_values(RATE, GROUP, named("a", "b"), values)
    assert found.pairs[0].outcome == "undecided"
    assert (found.pairs[0].ratio.low, found.pairs[0].ratio.high) == (0, math.inf)


def test_one_alone_is_ranked_and_wins_nothing() -> None:
    found = from_values(RATE, GROUP, named("a"), np.array([[4.0, 9.0]]))
    assert (found.best.value, found.pairs, found.winner) == (pytest.approx(6), (), "")


def test_a_round_in_which_one_failed_counts_for_the_others() -> None:
    values = measured({"a": 100, "b": 80, "c": 60})
    values[0, 2], values[0, 3] = NAN, 0.0
    found = from_values(RATE, GROUP, named("a", "b", "c"), values, rules=RULES)
    assert {standing.name: standing.rounds for standing in found.ranking} == {"a": 4, "b": 6, "c": 6}
    assert found.winner == "a"
    assert found.pair("a", "b").ratio.estimate == pytest.approx(1.25, rel=0.06)


def test_limits_beyond_all_floats_are_infinite() -> None:
    found = from_values(RATE, GROUP, named("a", "b"), np.array([[1e300, 1e-300], [1.0, 1.0]]))
    assert found.pairs[0].ratio.high == math.inf


@pytest.mark.parametrize("values", [np.ones((1, 4)), np.array([[1.0, 1], [NAN, 0]])])
def test_a_contender_without_a_row_or_a_value_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="each contender"):
        from_values(RATE, GROUP, named("a", "b"), values)


@pytest.mark.parametrize("wrong", [{"families": 0}, {"looks": 0}, {"within": 0.0}, {"within": 1.0}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="families and looks"):
        Rules(**wrong)


def test_the_interpreter_is_in_the_name_where_there_are_several() -> None:
    assert names_of([Contender("a", "python3.13"), Contender("b", "python3.13")]) == ["a", "b"]
    several = [Contender("a", "python3.12"), Contender("a", "python3.13"), Contender("node_echo")]
    assert names_of(several) == ["a on python3.12", "a on python3.13", "node_echo"]


# --- of a run


def repeats(strategy: str, rate_hz: float, rounds: int = 5, seed: int = 0, **more: Any) -> list[Record]:
    """So many rounds on a machine that wanders, with noise of 2 %."""
    noise = np.random.default_rng([seed, *strategy.encode()]).lognormal(0, 0.02, rounds)
    rates = rate_hz * noise * wander(rounds)
    return [record(strategy, repeat=at, rate_hz=rate, cpu_us=1e6 / rate, **more) for at, rate in enumerate(rates)]


def of(found: list[Comparison] | tuple[Comparison, ...], metric: Metric = RATE, **group: Any) -> Comparison:
    (one,) = [it for it in found if it.metric is metric and group.items() <= it.group.items()]
    return one


def test_each_setting_is_compared_by_each_metric_within_its_rounds() -> None:
    found = analysed(*repeats("a", 1e5), *repeats("b", 8e4), *repeats("a", 5e4, connections=1)).comparisons
    assert [(it.metric.name, it.group["connections"], len(it.ranking)) for it in found] == [
        (metric, connections, 2 if connections == 16 else 1)
        for metric in ("rate_hz", "cpu_us", "p99_us")
        for connections in (1, 16)
    ]
    for metric in (RATE, CPU, P99):
        assert of(found, metric, connections=16).winner == "a"
        assert of(found, metric, connections=16).pairs[0].ratio.estimate == pytest.approx(1.25, rel=0.05)


def test_a_run_says_the_same_as_its_values() -> None:
    a, b = repeats("a", 1e5), repeats("b", 9e4)
    found = of(analysed(*a, *b).comparisons)
    values = np.array([[one.load.completed for one in records if one.load] for records in (a, b)], dtype=float)
    assert found == from_values(RATE, found.group, named("a", "b"), values, rules=Rules(families=3))


def test_interpreters_are_compared_with_each_other() -> None:
    records = [it for python, rate in (("py1", 1e5), ("py2", 5e4)) for it in repeats("a", rate, python=python)]
    found = of(analysed(*records).comparisons)
    assert [(it.name, it.strategy, it.python) for it in found.ranking] == [
        ("a on py1", "a", "py1"),
        ("a on py2", "a", "py2"),
    ]
    assert "python" not in found.group
    assert found.winner == "a on py1"


def test_what_is_within_a_rounds_host_and_repeat_is_compared_and_nothing_else() -> None:
    """One host is ten times as fast; strategies that take turns on both are told apart none the less."""
    records = [
        record(name, repeat=at, rate_hz=level * (10 if at % 2 else 1) * (1 + at / 1000), server_host=f"host{at % 2}")
        for name, level in (("a", 11_000), ("b", 10_000))
        for at in range(6)
    ]
    assert of(analysed(*records).comparisons).pairs[0].ratio.estimate == pytest.approx(1.1, rel=1e-3)
    elsewhere = [msgspec.structs.replace(it, server_host="other") if it.trial.strategy == "b" else it for it in records]
    assert of(analysed(*elsewhere).comparisons).pairs[0].ratio.low == 0


def test_blocks_of_a_repeat_are_rounds_of_their_own() -> None:
    a, c = repeats("a", 1e5, 8), repeats("c", 5e4, 8, block=1)
    common = repeats("m", 8e4, 8) + [
        record("m", repeat=at, rate_hz=2 * rate, block=1) for at, rate in enumerate(8e4 * wander(8))
    ]
    found = of(analysed(*a, *c, *common).comparisons)
    assert found.rounds == 16
    assert found.pair("a", "c").ratio.estimate == pytest.approx(4, rel=0.1), "by way of m, which was twice as fast then"


def test_failed_trials_are_not_compared() -> None:
    failed = unmeasured("b", 16, 0, "failed", "it died")
    assert [it.name for it in of(analysed(*repeats("a", 1e5), failed).comparisons).ranking] == ["a"]


@pytest.mark.parametrize("flag", ["disturbed", "throttled"])
def test_trials_that_others_or_a_quota_disturbed_are_in_no_comparison_while_there_are_others(flag: str) -> None:
    found = [record(name, repeat=at, rate_hz=rate) for at in range(3) for name, rate in (("a", 1e5), ("b", 9e4))]
    spoilt = [record("a", repeat=3, rate_hz=1e3, flags=[flag]), record("b", repeat=3, rate_hz=9e4)]
    alone = record("c", repeat=3, rate_hz=1e3, flags=[flag])
    with_it, without = analysed(*found, *spoilt).comparisons, analysed(*found, spoilt[1]).comparisons
    assert [one.ranking for one in with_it] == [one.ranking for one in without]
    assert bool(analysed(alone).comparisons) is (flag == "disturbed"), "where every one was disturbed, all count"


def test_where_sends_were_planned_p99_is_that_of_the_response() -> None:
    records = [
        open_record(name, 50_000, 1e5, at, load=open_load(50_000, 1e5, response_hdr=histogram(wait, 50_000)))
        for at in range(4)
        for name, wait in (("a", 1e6 * (1 + at / 100)), ("b", 2e6))
    ]
    assert of(analysed(*records).comparisons, P99).pairs[0].ratio.estimate == pytest.approx(2, rel=0.05)


def test_messages_that_were_unfinished_make_a_percentile_a_bound() -> None:
    calm = [open_record("a", 90_000, 1e5, at) for at in range(4)]
    swamped = [open_record("b", 90_000, 5e4, at) for at in range(4)]
    found = of(analysed(*calm, *swamped).comparisons, P99)
    assert found.winner == "a"
    assert found.ranking[1].lower_bound
    assert found.pairs[0].ratio.high == math.inf


def test_trials_that_the_client_limited_are_bounds() -> None:
    found = analysed(*repeats("a", 1e5), *repeats("b", 5e4, bottleneck="client")).comparisons
    assert of(found).ranking[1].client_bound == 5
    assert of(found).winner == ""
    assert of(found, CPU).winner == "a"


def test_what_counts_as_equal_and_the_looks_are_the_sweeps_own() -> None:
    records = [*repeats("a", 1e5, 8), *repeats("b", 94_000, 8)]
    run = Run(folder=Path("run"), manifest=manifest(["a", "b"], sweep={"within": 0.2, "looks": 3}), records=records)
    analysis = analyse(run)
    assert of(analysis.comparisons).within == 0.2
    assert of(analysis.comparisons).pairs[0].outcome == "equal"
    asked = comparisons(run, analysis.trials, analysis.estimates, within=0.01)
    assert of(asked).pairs[0].outcome == "better"
    asked = comparisons(run, analysis.trials, analysis.estimates, within=0.01, looks=10**6)
    assert of(asked).pairs[0].outcome == "undecided"


@pytest.mark.parametrize(
    "wrong", [{}, {"within": "much", "looks": "many"}, {"within": 2.0, "looks": 0}, {"looks": 10**400}]
)
def test_a_sweep_that_does_not_say_is_held_to_what_is_usual(wrong: dict[str, Any]) -> None:
    assert (within_of(wrong), looks_of(wrong)) == (0.05, 1)
    assert (within_of({"within": 0.1}), looks_of({"looks": 7})) == (0.1, 7)


def test_a_strategy_without_the_label_of_a_run_is_in_none() -> None:
    records = [*repeats("a", 1e5), *repeats("b", 5e4)]
    about, labelled = merge([Run(folder=Path("x"), manifest=manifest(["a", "b"]), records=records)] * 2, ["x", "y"])
    found = analyse(Run(folder=Path("both"), manifest=about, records=[*labelled[:10], *repeats("c", 7e4)])).comparisons
    assert [[it.name for it in one.ranking] for one in found if one.metric is RATE] == [["c"], ["a (x)", "b (x)"]]


def test_of_several_runs_each_is_compared_by_itself() -> None:
    runs = [
        Run(folder=Path(label), manifest=manifest(["a", "b"]), records=[*repeats("a", 1e5), *repeats("b", rate)])
        for label, rate in (("before", 5e4), ("after", 2e5))
    ]
    about, records = merge(runs, ["before", "after"])
    found = analyse(Run(folder=Path("both"), manifest=about, records=records)).comparisons
    assert [[it.name for it in one.ranking] for one in found if one.metric is RATE] == [
        ["a (before)", "b (before)"],
        ["b (after)", "a (after)"],
    ]
    assert found == analyse(Run(folder=Path("both"), manifest=about, records=records)).comparisons
