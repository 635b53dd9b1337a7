"""The gate's loop over pairs that are made up: when it ends, what it measures again, what never passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from synthetic_gate import a_case

from bench.errors import BadInputError
from bench.gate import decide, run
from bench.gate.command import read_duration, read_settings
from bench.gate.decide import Settings
from bench.gate.measure import Rig
from bench.gate.model import Case, Pair, Result, Sample, Side
from bench.gate.run import Progress, Setting, Tell, compare, make_cases
from bench.gate.sides import Source
from bench.load_pool import LoadPool
from bench.record import StrategyInfo
from bench.sweep import load_sweep

INFO = StrategyInfo(
    name="epoll_lt",
    module="readiness",
    summary="",
    model="multiplexing",
    transports=["tcp"],
    concurrent=True,
    available=True,
    reason="",
    doc="",
)


class Clock:
    """A clock that stands still but for what a pair takes."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


Make = Callable[[str, int, int], tuple[Sample, Sample]]  # of case, round and attempt


def side(role: Any, *infos: StrategyInfo) -> Source:
    def start(*_: object) -> Any:
        raise AssertionError("nothing is started here")

    return Source(Side(role=role, label=role), {info.name: info for info in infos}, start)


def samples(ratio: float, noise: float = 0.02) -> Make:
    rng = np.random.default_rng(3)

    def make(case: str, number: int, attempt: int) -> tuple[Sample, Sample]:
        base, head = (10 * np.exp(rng.normal(0, noise, 2))).tolist()
        return Sample(metrics={"cpu_us": base, "rate_hz": 1e5}), Sample(
            metrics={"cpu_us": head * ratio, "rate_hz": 1e5}
        )

    return make


def gate(
    monkeypatch: pytest.MonkeyPatch,
    make: Make,
    *,
    cases: int = 1,
    budget_s: float = 60,
    pair_s: float = 2.0,
    tell: Tell | None = None,
) -> tuple[Progress, list[str]]:
    """Run the loop; a pair takes `pair_s` of a clock that nothing else moves."""
    clock = Clock()
    told: list[str] = []

    def measure(rig: object, case: Case, base: Source, head: Source, **about: Any) -> Pair:
        clock.now += pair_s
        one, other = make(case.name, about["number"], about["attempt"])
        about["round"] = about.pop("number")
        return Pair(case=case.name, base=one, head=other, **about)

    monkeypatch.setattr(run, "measure_pair", measure)
    monkeypatch.setattr(run.time, "monotonic", clock)
    monkeypatch.setattr(LoadPool, "worker", lambda pool: None)
    progress = Progress()
    rig = Rig(None, None, LoadPool(None, []))  # type: ignore[arg-type]
    sides = (side("base", INFO), side("head", INFO))
    setting = Setting(rig, sides, Settings(), budget_s, Random(1), progress, tell or told.append)
    compare(setting, [a_case(f"case {number}") for number in range(cases)], count=False)
    return progress, told


def verdict(progress: Progress, cases: int = 1) -> str:
    return decide.overall(progress.results, [a_case(f"case {number}") for number in range(cases)])


def test_equal_servers_are_ok_at_the_first_look_already(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, _ = gate(monkeypatch, samples(1.0))
    assert verdict(progress) == "ok"
    assert len([pair for pair in progress.pairs if pair.attempt == 1]) == decide.FIRST_LOOK


def test_a_slow_head_is_measured_twice_and_has_regressed(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, told = gate(monkeypatch, samples(1.3))
    assert verdict(progress) == "regressed"
    assert {pair.attempt for pair in progress.pairs} == {1, 2}
    assert any("measured once more" in text for text in told)


def test_a_slowdown_that_is_gone_the_second_time_is_no_regression(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, equal = samples(1.3), samples(1.0)
    progress, _ = gate(
        monkeypatch, lambda case, number, attempt: (slow if attempt == 1 else equal)(case, number, attempt)
    )
    assert verdict(progress) == "ok"
    assert any("found once of twice" in result.why for result in progress.results)


def test_only_the_cases_that_would_fail_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, equal = samples(1.3), samples(1.0)
    progress, _ = gate(monkeypatch, lambda case, *about: (slow if case == "case 1" else equal)(case, *about), cases=3)
    assert {pair.case for pair in progress.pairs if pair.attempt == 2} == {"case 1"}
    assert verdict(progress, 3) == "regressed"


def test_what_is_too_noisy_goes_on_to_the_budget_and_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, _ = gate(monkeypatch, samples(1.0, noise=0.4), budget_s=60, pair_s=2.0)
    assert verdict(progress) == "inconclusive"
    assert len(progress.pairs) == 30


def test_a_budget_that_is_too_short_to_decide_is_told_before_a_pair_is_measured_with_one_that_would_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[int] = []
    slow = samples(1.3)

    def noted(case: str, number: int, attempt: int) -> tuple[Sample, Sample]:
        measured.append(number)
        return slow(case, number, attempt)

    said: list[tuple[str, int]] = []
    progress, _ = gate(monkeypatch, noted, budget_s=5, tell=lambda text: said.append((text, max(measured))))
    text, number = said[0]
    assert number == 0, "only pilots came before"
    assert "--budget 5s is too short to decide" in text
    assert text in progress.notes
    assert verdict(progress) == "inconclusive"
    enough = re.search(r"--budget (\S+) would do", text)
    assert enough is not None
    progress, told = gate(monkeypatch, samples(1.3), budget_s=read_duration(enough[1]))
    assert not any("too short" in text for text in [*told, *progress.notes])
    assert verdict(progress) == "regressed"


def test_the_more_cases_there_are_the_more_pairs_are_needed_and_the_budget_goes_by_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_short(cases: int) -> bool:
        progress, _ = gate(monkeypatch, samples(1.0), budget_s=33, cases=cases)
        return any("too short" in text for text in progress.notes)

    assert not too_short(1)
    assert too_short(40)


def test_each_round_has_a_pair_of_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, _ = gate(monkeypatch, samples(1.0), cases=4)
    for number in range(1, decide.FIRST_LOOK + 1):
        assert sorted(pair.case for pair in progress.pairs if pair.round == number) == [f"case {n}" for n in range(4)]
    orders = {tuple(pair.case for pair in progress.pairs if pair.round == number) for number in range(1, 11)}
    assert len(orders) > 1, "the order is drawn anew"
    assert {pair.first for pair in progress.pairs} == {"base", "head"}


def test_the_rate_of_response_times_is_a_share_of_what_base_can_do_and_the_same_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    progress, _ = gate(monkeypatch, samples(1.0))
    assert {pair.offered_hz for pair in progress.pairs} == {25_000.0}


def failing(role: str, attempts: tuple[int, ...] = (1, 2)) -> Make:
    fine = Sample(metrics={"cpu_us": 10.0, "rate_hz": 1e5})
    bad = Sample(metrics={}, failed="the server ended in mid-trial, killed by signal 11")

    def make(case: str, number: int, attempt: int) -> tuple[Sample, Sample]:
        broken = attempt in attempts
        return (bad if broken and role == "base" else fine), (bad if broken and role == "head" else fine)

    return make


def test_a_head_that_crashes_has_regressed_after_a_few_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, _ = gate(monkeypatch, failing("head"))
    assert verdict(progress) == "regressed"
    assert len(progress.pairs) <= 2 * (run.FAILED_OFTEN + 1)
    assert any("signal 11" in result.why for result in progress.results)


def test_a_base_that_crashes_passes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, _ = gate(monkeypatch, failing("base"))
    assert verdict(progress) == "inconclusive"


def test_a_crash_that_does_not_come_again_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, _ = gate(monkeypatch, failing("head", attempts=(1,)))
    assert verdict(progress) == "inconclusive"


# --- cases


def test_a_case_is_a_point_of_the_closed_loops() -> None:
    cases, notes = make_cases(load_sweep("quick"), side("base", *_all_of("quick")), side("head", *_all_of("quick")))
    assert {case.trial.workload for case in cases} == {"closed"}
    assert len({case.name for case in cases}) == len(cases)
    assert all(not case.missing for case in cases)
    assert any("iterative" in note for note in notes)


def test_a_strategy_that_base_or_head_alone_has_is_missing_and_not_passed() -> None:
    sweep = load_sweep("gate")
    everything = _all_of("gate")
    cases, _ = make_cases(sweep, side("base", *everything[1:]), side("head", *everything))
    gone = [case for case in cases if case.missing]
    assert [case.trial.strategy for case in gone] == [everything[0].name]
    assert "base has no strategy" in gone[0].missing
    assert decide.overall([Result(case=case.name, metric="cpu_us", verdict="ok") for case in cases], cases) != "ok"


def test_a_strategy_that_cannot_run_here_is_missing() -> None:
    infos = _all_of("gate")
    cannot = msgspec.structs.replace(infos[0], available=False, reason="no epoll here")
    cases, _ = make_cases(load_sweep("gate"), side("base", *infos), side("head", cannot, *infos[1:]))
    assert any("no epoll here" in case.missing for case in cases)


def _all_of(sweep: str) -> list[StrategyInfo]:
    return [
        msgspec.structs.replace(INFO, name=name, concurrent=name != "iterative")
        for name in load_sweep(sweep).strategies
    ]


# --- what a user types


@pytest.mark.parametrize(
    ("text", "share", "allowed"),
    [
        ("5%", 0.05, {}),
        ("0.1", 0.1, {}),
        ("2.5 %, p99=30%", 0.025, {"p99_us": 0.3}),
        ("cpu=1%", 0.05, {"cpu_us": 0.01}),
        ("0,p99=200%", 0.0, {"p99_us": 2.0}),
    ],
)
def test_what_is_allowed_is_a_share_and_others_by_metric(text: str, share: float, allowed: dict[str, float]) -> None:
    assert read_settings(text) == Settings(max_regression=share, allowed=allowed)


@pytest.mark.parametrize("text", ["", "five", "-5%", "5%,p98=1%", "p99", "5%%", "1e3", "1000%", "1", "5", "5%,p99=30"])
def test_what_is_no_share_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(BadInputError, match="max-regression"):
        read_settings(text)


@pytest.mark.parametrize(
    ("text", "both"), [("5", "5% or 0.05"), ("p99=30", "30% or 0.3"), ("1", "1% or 0.01"), ("lots", "5% or 0.05")]
)
def test_a_number_that_may_be_a_percentage_or_not_is_refused_with_both_spellings(text: str, both: str) -> None:
    with pytest.raises(BadInputError, match=both):
        read_settings(text)


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("90", 90), ("2min", 120), ("1.5 m", 90), ("1h", 3600)])
def test_a_budget_is_a_duration(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0s", "-1s", "2 days", "1e9s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="budget"):
        read_duration(text)
