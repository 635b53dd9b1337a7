"""When the gate says regressed, ok or inconclusive, from pairs that are made up."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_gate import TRIAL

from bench.gate import decide
from bench.gate.decide import Settings
from bench.gate.model import CallCount, CallPair, Case, Pair, Result, Sample
from bench.gate.statistics import signed_rank_p

CASE = Case(name="epoll_lt", trial=TRIAL)
SETTINGS = Settings()


def a_pair(number: int, base_us: float, head_us: float, *, case: str = "epoll_lt", attempt: int = 1) -> Pair:
    return Pair(
        case=case,
        round=number,
        attempt=attempt,
        first="base",
        base=Sample(metrics={"cpu_us": base_us}),
        head=Sample(metrics={"cpu_us": head_us}),
    )


def noisy_pairs(
    count: int, ratio: float = 1.0, noise: float = 0.03, *, seed: int = 1, case: str = "epoll_lt"
) -> list[Pair]:
    rng = np.random.default_rng(seed)
    draws = np.exp(rng.normal(0, noise, (count, 2))) * 10
    return [a_pair(i + 1, one, other * ratio, case=case) for i, (one, other) in enumerate(draws.tolist())]


def judged(pairs: list[Pair], settings: Settings = SETTINGS, *, look: int = 1, looks: int = 1) -> Result:
    (result,) = decide.judge([CASE], pairs, settings, look=look, looks=looks, attempt=1)
    return result


def with_calls(base: list[dict[str, float]], head: list[dict[str, float]]) -> Result:
    pair = CallPair(
        case="epoll_lt", attempt=1, base=CallCount(burst=1, passes=base), head=CallCount(burst=1, passes=head)
    )
    (result,) = decide.judge_calls([pair], SETTINGS)
    return result


# --- how long


def test_a_budget_holds_as_many_rounds_as_fit_and_at_least_one() -> None:
    assert decide.planned_rounds(60, 2) == 30
    assert decide.planned_rounds(1, 2) == 1
    assert decide.planned_rounds(1e9, 0.1) == decide.MOST_ROUNDS


@pytest.mark.parametrize("comparisons", [1, 5, 15, 100, 1000])
def test_with_as_many_pairs_as_are_needed_the_clearest_comparison_is_significant_and_with_one_less_it_is_not(
    comparisons: int,
) -> None:
    def least_p(pairs: int) -> float:
        return signed_rank_p(list(range(1, pairs + 1))) * comparisons * len(decide.looks(pairs))

    needed = decide.pairs_needed(comparisons, SETTINGS.alpha)
    assert least_p(needed) < SETTINGS.alpha
    assert needed == decide.FEWEST_PAIRS or least_p(needed - 1) >= SETTINGS.alpha


def test_a_budget_that_would_do_leaves_room_for_pairs_that_are_disturbed() -> None:
    budget_s = decide.enough_s(10, 1.5)
    assert budget_s % 5 == 0
    assert decide.CLEAN_SHARE * decide.planned_rounds(budget_s, 1.5) >= 10


@given(st.integers(1, decide.MOST_ROUNDS))
def test_the_last_look_is_after_the_last_round_and_none_comes_before_a_verdict_is_possible(rounds: int) -> None:
    found = decide.looks(rounds)
    assert found[-1] == rounds
    assert list(found) == sorted(set(found))
    assert len(found) <= decide.LOOKS
    assert all(look >= decide.FIRST_LOOK for look in found[:-1])


# --- timed


def test_a_clear_slowdown_has_regressed_at_the_first_look() -> None:
    result = judged(noisy_pairs(10, ratio=1.2), look=1, looks=3)
    assert result.verdict == "regressed"
    assert result.ratio == pytest.approx(1.2, rel=0.05)
    assert result.low > 1.05


def test_the_same_server_twice_is_ok_with_the_effect_that_would_have_been_found() -> None:
    result = judged(noisy_pairs(30))
    assert result.verdict == "ok"
    assert 1 < result.detectable < 1.05


def test_a_significant_difference_below_what_is_allowed_is_no_regression() -> None:
    result = judged(noisy_pairs(60, ratio=1.02, noise=0.005))
    assert result.p < 1e-6
    assert result.verdict == "ok"


def test_a_large_ratio_that_may_be_noise_is_no_regression_and_no_pass() -> None:
    result = judged(noisy_pairs(9, ratio=1.1, noise=0.3))
    assert result.verdict == "inconclusive"
    assert "too noisy" in result.why


def test_an_improvement_is_ok_however_noisy() -> None:
    assert judged(noisy_pairs(20, ratio=0.5, noise=0.15)).verdict == "ok"


def test_throughput_counts_the_other_way_round() -> None:
    pairs = [
        msgspec.structs.replace(
            pair, base=Sample(metrics={"rate_hz": 1000.0 + i}), head=Sample(metrics={"rate_hz": 800.0 + i})
        )
        for i, pair in enumerate(noisy_pairs(12))
    ]
    result = judged(pairs)
    assert result.ratio == pytest.approx(1.25, rel=0.01)
    assert result.verdict == "regressed"


def test_too_few_pairs_are_inconclusive_whatever_they_say() -> None:
    result = judged(noisy_pairs(decide.FEWEST_PAIRS - 1, ratio=3))
    assert result.verdict == "inconclusive"
    assert f"{decide.FEWEST_PAIRS} are needed" in result.why


def test_pairs_that_were_disturbed_are_not_counted() -> None:
    pairs = noisy_pairs(30)
    worse = [msgspec.structs.replace(pair, disturbed="run-queue wait") for pair in noisy_pairs(10, ratio=3, seed=2)]
    result = judged(pairs + worse)
    assert (result.pairs, result.clean, result.verdict) == (40, 30, "ok")


def test_where_less_than_60_percent_are_clean_even_a_clear_slowdown_is_inconclusive() -> None:
    dropped = [msgspec.structs.replace(pair, disturbed="steal") for pair in noisy_pairs(21)]
    result = judged(noisy_pairs(30, ratio=1.5) + dropped)
    assert result.verdict == "inconclusive"
    assert "undisturbed" in result.why


def test_a_difference_smaller_than_a_metric_can_tell_is_none() -> None:
    def sample(value: float) -> Sample:
        return Sample(metrics={"bytes_per_connection": value})

    pairs = [
        msgspec.structs.replace(pair, base=sample(-100.0), head=sample(200.0 + i))
        for i, pair in enumerate(noisy_pairs(20))
    ]
    assert judged(pairs).verdict == "ok"


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_zeros_and_values_that_are_none_never_pass(value: float) -> None:
    pairs = [
        msgspec.structs.replace(pair, base=Sample(metrics={"cpu_us": value}), head=Sample(metrics={"cpu_us": value}))
        for pair in noisy_pairs(30)
    ]
    assert judged(pairs).verdict == "inconclusive"


def test_a_metric_that_head_lost_never_passes() -> None:
    pairs = [msgspec.structs.replace(pair, head=Sample(metrics={})) for pair in noisy_pairs(30)]
    assert judged(pairs).verdict == "inconclusive"


def test_a_case_without_a_pair_never_passes() -> None:
    assert judged([]).verdict == "inconclusive"
    assert decide.overall([], [CASE]) == "inconclusive"


def test_many_comparisons_need_a_clearer_difference() -> None:
    slow = noisy_pairs(10, ratio=1.15, noise=0.02)
    assert judged(slow).verdict == "regressed"
    names = [f"case {i}" for i in range(50)]
    others = [pair for i, name in enumerate(names) for pair in noisy_pairs(10, seed=i + 5, case=name)]
    cases = [CASE, *(Case(name=name, trial=TRIAL) for name in names)]
    results = decide.judge(cases, slow + others, SETTINGS, look=1, looks=1, attempt=1)
    assert results[0].p_holm == pytest.approx(51 * results[0].p)
    assert results[0].verdict == "inconclusive"


def test_a_case_closed_at_an_earlier_look_still_counts_in_the_correction() -> None:
    closed = [Result(case="done", metric="cpu_us", verdict="ok", p=0.5)] * 9
    (result,) = decide.judge([CASE], noisy_pairs(12, 1.2), SETTINGS, look=1, looks=1, attempt=1, closed=closed)
    assert result.p_holm == pytest.approx(10 * result.p)


def test_at_the_same_level_the_looks_together_spend_no_more_than_one_would() -> None:
    alarms = 0
    for seed in range(400):
        pairs = noisy_pairs(30, seed=seed, noise=0.1)
        alarms += any(
            judged(pairs[:count], Settings(max_regression=0.0), look=look, looks=3).verdict == "regressed"
            for look, count in enumerate(decide.looks(30), start=1)
        )
    assert alarms / 400 <= 0.015


def test_only_undecided_cases_go_on() -> None:
    results = [
        Result(case="a", metric="cpu_us", verdict="ok"),
        Result(case="b", metric="cpu_us", verdict="ok"),
        Result(case="b", metric="rate_hz", verdict="inconclusive"),
        Result(case="c", metric="cpu_us", verdict="regressed"),
        Result(case="c", metric="rate_hz", verdict="inconclusive"),
    ]
    assert decide.undecided(results) == ["b"]


# --- failures


def failing(pair: Pair, *sides: str) -> Pair:
    bad = Sample(metrics={}, failed="the server ended in mid-trial, killed by SIGSEGV")
    return msgspec.structs.replace(pair, **dict.fromkeys(sides, bad))


def test_a_server_of_head_that_crashes_has_regressed() -> None:
    pairs = [failing(pair, "head") for pair in noisy_pairs(3)]
    (result,) = decide.judge_failures([CASE], pairs, 1)
    assert result.verdict == "regressed"
    assert "SIGSEGV" in result.why


def test_a_base_that_crashes_is_no_baseline() -> None:
    pairs = [failing(pair, "base", "head") for pair in noisy_pairs(3)]
    (result,) = decide.judge_failures([CASE], pairs, 1)
    assert result.verdict == "inconclusive"
    assert decide.overall([result], [CASE]) == "inconclusive"


def test_pairs_without_a_failure_have_no_result_of_that_kind() -> None:
    assert decide.judge_failures([CASE], noisy_pairs(3), 1) == []


# --- counted


def test_one_more_system_call_is_a_regression_and_is_named() -> None:
    result = with_calls([{"epoll_wait": 1.0, "read": 1.0}] * 2, [{"epoll_wait": 1.0, "read": 2.0}] * 2)
    assert result.verdict == "regressed"
    assert "read +1.00" in result.why


def test_another_call_in_place_of_one_is_told_and_is_no_regression() -> None:
    result = with_calls([{"recvfrom": 1.0}] * 2, [{"read": 1.0}] * 2)
    assert result.verdict == "ok"
    assert "read +1.00" in result.why
    assert "recvfrom -1.00" in result.why


def test_fewer_calls_and_the_same_calls_are_ok() -> None:
    assert with_calls([{"read": 2.0}] * 2, [{"read": 1.0}] * 2).verdict == "ok"
    assert with_calls([{"read": 2.0}] * 2, [{"read": 2.0001}] * 2).why == "the same"


def test_counts_that_cannot_be_repeated_pass_nothing() -> None:
    result = with_calls([{"read": 10.0}, {"read": 14.0}], [{"read": 11.0}, {"read": 13.0}])
    assert result.verdict == "inconclusive"
    assert "can't be repeated" in result.why


def test_a_side_that_was_not_counted_passes_nothing() -> None:
    pair = CallPair(
        case="epoll_lt",
        attempt=1,
        base=CallCount(burst=1, passes=[{"read": 1.0}]),
        head=CallCount(burst=1, passes=[], reason="strace lost the server"),
    )
    (result,) = decide.judge_calls([pair], SETTINGS)
    assert result.verdict == "inconclusive"
    assert "strace lost the server" in result.why


# --- a stored run


def values(ratio: float = 1.0, count: int = 12) -> dict[str, dict[str, list[float]]]:
    return {"epoll_lt": {"cpu_us": [ratio * (10 + i / 100) for i in range(count)]}}


def test_a_stored_run_is_compared_without_pairs() -> None:
    assert decide.judge_unpaired(values(), values(1.3), SETTINGS)[0].verdict == "regressed"
    assert decide.judge_unpaired(values(), values(), SETTINGS)[0].verdict == "ok"


def test_unequal_numbers_of_repeats_are_told_and_do_not_pass_unnoticed() -> None:
    (result,) = decide.judge_unpaired(values(count=12), values(count=2), SETTINGS)
    assert result.verdict == "inconclusive"
    assert result.clean == 2


def test_a_case_or_metric_of_one_run_alone_is_refused() -> None:
    with pytest.raises(KeyError):
        decide.judge_unpaired(values(), {}, SETTINGS)
    with pytest.raises(KeyError):
        decide.judge_unpaired(values(), {"epoll_lt": {}}, SETTINGS)


def test_zeros_in_a_stored_run_pass_nothing() -> None:
    zeros = {"epoll_lt": {"cpu_us": [0.0] * 12}}
    (result,) = decide.judge_unpaired(zeros, zeros, SETTINGS)
    assert result.verdict == "inconclusive"


# --- the end

WORSE = Result(case="epoll_lt", metric="cpu_us", verdict="regressed", ratio=1.2, why="worse")
FINE = Result(case="epoll_lt", metric="cpu_us", verdict="ok", why="the same")
UNCLEAR = Result(case="epoll_lt", metric="cpu_us", verdict="inconclusive", why="too noisy")


def test_a_regression_stands_where_it_is_found_twice() -> None:
    (result,) = decide.confirm([WORSE], [WORSE])
    assert (result.verdict, result.attempts) == ("regressed", 2)


def test_a_regression_that_a_second_measurement_rules_out_is_ok() -> None:
    (result,) = decide.confirm([WORSE], [FINE])
    assert result.verdict == "ok"
    assert "found once of twice" in result.why


def test_a_regression_that_a_second_measurement_cannot_tell_is_inconclusive() -> None:
    (result,) = decide.confirm([WORSE], [UNCLEAR])
    assert result.verdict == "inconclusive"


def test_a_failure_that_does_not_come_again_is_inconclusive() -> None:
    failure = msgspec.structs.replace(WORSE, metric=decide.FAILED)
    (result,) = decide.confirm([failure], [])
    assert result.verdict == "inconclusive"
    assert "did not when measured again" in result.why


def test_what_only_the_second_measurement_finds_is_inconclusive() -> None:
    other = msgspec.structs.replace(WORSE, metric="rate_hz")
    found = decide.confirm([WORSE], [WORSE, other])
    assert [result.verdict for result in found] == ["regressed", "inconclusive"]


def test_cases_that_were_not_measured_again_keep_their_results() -> None:
    calm = msgspec.structs.replace(FINE, case="other")
    assert decide.confirm([calm, WORSE], [WORSE])[0] == calm


def test_one_regression_is_the_verdict_whatever_else_there_is() -> None:
    assert decide.overall([FINE, WORSE, UNCLEAR], [CASE]) == "regressed"
    assert decide.overall([FINE, UNCLEAR], [CASE]) == "inconclusive"
    assert decide.overall([FINE], [CASE]) == "ok"


def test_a_case_that_is_missing_never_passes() -> None:
    gone = Case(name="gone", trial=TRIAL, missing="base has no strategy gone")
    assert decide.overall([FINE], [CASE, gone]) == "inconclusive"
    assert decide.overall([FINE], []) == "inconclusive"
