"""What the analysis makes of a run on several machines: compared within each, and told where one differs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.stats import ttest_1samp, wilcoxon
from synthetic import analysed, manifest, record

from bench.comparisons import Comparison
from bench.machines import differences
from bench.metrics import RATE
from bench.record import Host, Record
from bench.stats import blocked_p, blocked_ratio, hodges_lehmann_ratio, welch_p
from bench.trust import company

FACTS: dict[str, Any] = {"kernel": "6.1", "cpu_model": "X", "governor": "performance", "cpus": 4}
values = some.lists(some.floats(0.01, 1e6), min_size=1, max_size=6)


def host(name: str, *roles: str, **facts: Any) -> Host:
    return Host(name=name, roles=list(roles or ("server", "load")), facts=FACTS | facts)


@settings(deadline=None)
@given(a=values, b=values)
def test_one_block_is_the_unblocked_comparison(a: list[float], b: list[float]) -> None:
    assert blocked_ratio([(a, b)]) == hodges_lehmann_ratio(a, b)
    assert blocked_p([(a, b)]) == welch_p(a, b)


def test_pairs_of_single_values_have_the_interval_of_their_signs() -> None:
    """With one value a side in each block, the statistics add up to how many pairs a wins, which is the sign test."""
    blocks = [([float(ratio)], [1.0]) for ratio in range(2, 10)]
    found = blocked_ratio(blocks)
    assert (found.low, found.high) == (pytest.approx(2), pytest.approx(9))
    assert found.level == pytest.approx(1 - 2 / 2**8)
    assert found.estimate == pytest.approx(math.sqrt(5 * 6))


@settings(deadline=None)
@given(factors=some.lists(some.floats(0.01, 100), min_size=3, max_size=3), ratio=some.floats(0.5, 2))
def test_how_fast_each_machine_is_does_not_matter(factors: list[float], ratio: float) -> None:
    a, b = np.array([1.0, 1.1, 0.9, 1.05]) * ratio, np.array([1.0, 1.02, 0.95, 1.04])
    blocks = [((a * factor).tolist(), (b * factor).tolist()) for factor in factors]
    alike = [(a.tolist(), b.tolist())] * 3
    assert blocked_ratio(blocks) == pytest.approx(blocked_ratio(alike))
    assert blocked_p(blocks) == pytest.approx(blocked_p(alike))


def test_the_interval_covers_the_true_ratio_in_at_least_95_percent_of_runs() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        speeds = rng.lognormal(0, 1, 3)
        blocks = [(list(s * 1.3 * rng.lognormal(0, 0.1, 3)), list(s * rng.lognormal(0, 0.1, 3))) for s in speeds]
        covered += blocked_ratio(blocks).contains(1.3)
    assert covered / 400 > 0.93


def test_single_values_are_tested_in_pairs_as_by_student() -> None:
    a, b = [1.3, 2.8, 0.9, 4.4], [1.0, 2.5, 0.8, 3.9]
    expected = ttest_1samp(np.log(a) - np.log(b), 0).pvalue
    assert blocked_p([([x], [y]) for x, y in zip(a, b, strict=True)]) == pytest.approx(expected)


def test_with_repeats_in_every_block_two_machines_are_enough_to_tell() -> None:
    blocks = [([2.0, 2.1, 2.05], [1.0, 1.05, 1.02]), ([20.0, 21.0, 20.5], [10.0, 10.5, 10.2])]
    assert blocked_p(blocks) < 1e-6
    assert wilcoxon([1.0, 2.0]).pvalue > 0.4  # what pairs alone could say of two machines


@pytest.mark.parametrize("blocks", [[], [([1.0], [])], [([1.0], [0.0]), ([1.0], [1.0])]])
def test_a_comparison_without_values_or_of_what_has_no_logarithm_is_refused(blocks: Any) -> None:
    with pytest.raises(ValueError, match="a ratio needs"):
        blocked_ratio(blocks)


def test_blocks_without_any_spread_have_an_answer() -> None:
    assert blocked_p([([1.0], [1.0]), ([2.0], [2.0])]) == 1
    assert blocked_p([([2.0], [1.0]), ([4.0], [2.0])]) == 0


def on(machine: str, strategy: str, repeat: int, rate_hz: float) -> Record:
    return record(strategy, repeat=repeat, rate_hz=rate_hz, server_host=machine)


def by_throughput(*records: Record) -> Comparison:
    (found,) = (one for one in analysed(*records).comparisons if one.metric is RATE)
    return found


def test_strategies_are_compared_within_the_rounds_of_a_machine() -> None:
    """One machine is ten times as fast as the other: between them the difference of a tenth would drown."""
    rounds = [("fast", 1e6) if repeat % 2 else ("slow", 1e5) for repeat in range(10)]
    epoll = [on(name, "epoll_lt", n, 1.1 * hz * (1 + 0.001 * n)) for n, (name, hz) in enumerate(rounds)]
    select = [on(name, "select", n, hz * (1 - 0.001 * n)) for n, (name, hz) in enumerate(rounds)]
    pair = by_throughput(*epoll, *select).pair("epoll_lt", "select")
    assert (pair.ahead, pair.outcome) == ("epoll_lt", "better")
    assert 1.05 < pair.ratio.low < pair.ratio.estimate < pair.ratio.high < 1.15


def test_the_same_number_on_two_machines_is_two_rounds() -> None:
    """Where a round was begun anew elsewhere, what is left of it there has nothing in common with the other."""
    both = [on(name, strategy, 1, 1e5) for name in ("a", "b") for strategy in ("epoll_lt", "select")]
    apart = [on("a", "epoll_lt", 2, 3e5), on("b", "select", 2, 1e5)]
    found = by_throughput(*both, *apart)
    assert found.rounds == 4
    assert found.pair("epoll_lt", "select").ratio.estimate == pytest.approx(1)


def test_strategies_that_have_no_machine_in_common_are_not_decided() -> None:
    found = by_throughput(
        *(on("a", "epoll_lt", n, 2e5) for n in range(5)), *(on("b", "select", n, 1e5) for n in range(5))
    )
    pair = found.pair("epoll_lt", "select")
    assert (pair.outcome, pair.ratio.low, pair.ratio.high) == ("undecided", 0, math.inf)


def test_machines_that_are_not_like_the_others_are_named_with_what_differs() -> None:
    hosts = [host("a"), host("b", kernel="6.8", governor="powersave"), host("c")]
    assert differences(hosts) == ["b has kernel 6.8, others 6.1", "b has governor powersave, others performance"]
    assert differences(hosts[::2]) == []


def test_the_report_says_on_which_machines_the_run_was_made() -> None:
    assert company(manifest(["select"]).hosts) == []
    told = company([host("a"), host("b", kernel="6.8")])
    assert told[0].startswith("Rounds ran on 2 machines: `a` and `b`.")
    assert told[1:] == ["A machine differs: b has kernel 6.8, others 6.1."]
    assert company([host("s", "server", cpus=64), host("l", "load"), host("m", "load")]) == [
        "Servers ran on `s`, the load came from `l` and `m`."
    ]
