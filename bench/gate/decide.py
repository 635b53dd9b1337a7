"""From pairs to verdicts. Pure: the same pairs give the same results, so a gate can be replayed from its file.

A timed metric has regressed where the signed-rank test, corrected for all comparisons of the gate (Holm), is
significant *and* the ratio is beyond what is allowed. It is ok where the ratio is surely below that, or where a
regression of that size would have been found and was not. Everything else is inconclusive.

It is looked at a few times, so that what is clear ends early. The level is spent in equal parts, one for each look
planned: whatever the looks have in common, false alarms stay below the sum (Lan and DeMets: Discrete sequential
boundaries for clinical trials, 1983, with linear spending and Bonferroni's inequality).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import NamedTuple

import msgspec

from bench.gate import statistics
from bench.gate.model import (
    CALLS,
    METRICS,
    P99,
    TIMED,
    UNBOUNDED,
    CallCount,
    CallPair,
    Case,
    Metric,
    Pair,
    Result,
    Sample,
    Verdict,
)
from bench.gate.statistics import Effect
from bench.stats import holm

FEWEST_PAIRS = 8  # 2^-8 is below a level of 0.5 %: with fewer, no outcome whatever is significant
FIRST_LOOK = 10
LOOKS = 3
MOST_ROUNDS = 1000
CLEAN_SHARE = 0.6
SURE = 0.975  # one-sided: of a ratio that is called surely below what is allowed
FAILED = "failed"  # in place of a metric, where a server failed
BY_NAME = {metric.name: metric for metric in METRICS}


class Settings(msgspec.Struct, frozen=True):
    """What is allowed. `allowed` is by metric, where it is not `max_regression` times the metric's own slack."""

    max_regression: float = 0.05
    alpha: float = 0.005
    allowed: dict[str, float] = {}

    def limit(self, metric: Metric) -> float:
        """The ratio up to which head may be worse."""
        return 1 + self.allowed.get(metric.name, self.max_regression * metric.slack)


class _Measured(NamedTuple):
    case: str
    metric: Metric
    base: list[float]
    head: list[float]
    pairs: list[Pair]  # that `base` and `head` are of
    all_pairs: int


# --- how long


def planned_rounds(budget_s: float, round_s: float) -> int:
    """How many pairs of a case fit into its budget, of so many seconds each."""
    return max(1, min(MOST_ROUNDS, math.floor(budget_s / round_s)))


def pairs_needed(comparisons: int, alpha: float) -> int:
    """With how many pairs at least one of so many comparisons can be found to have regressed.

    The smallest p-value that n pairs can have is 2^-n. Correcting multiplies it by the number of comparisons, and the
    level is spent over the looks.
    """
    pairs = FEWEST_PAIRS
    while comparisons * 2.0**-pairs >= alpha / len(looks(pairs)):
        pairs += 1
    return pairs


def enough_s(pairs: int, pair_s: float) -> float:
    """The budget of a case (s, whole fives) that so many pairs fit into, were as many of them disturbed as may be."""
    return 5.0 * math.ceil(math.ceil(pairs / CLEAN_SHARE) * pair_s / 5)


def looks(rounds: int) -> tuple[int, ...]:
    """After which rounds the pairs are looked at: thrice, or once where there are too few rounds to gain by it."""
    if rounds < LOOKS * FIRST_LOOK // 2:
        return (rounds,)
    return tuple(sorted({max(FIRST_LOOK, -(-rounds * look // LOOKS)) for look in range(1, LOOKS + 1)}))


# --- timed metrics


def judge(
    cases: Sequence[Case],
    pairs: Sequence[Pair],
    settings: Settings,
    *,
    look: int,
    looks: int,
    attempt: int,
    closed: Sequence[Result] = (),
) -> list[Result]:
    """Judge each case by each timed metric that it has, from this attempt's pairs, at one of the looks (from 1).

    `closed` are the results of cases that were decided at an earlier look: they count in the correction, and are not
    judged again. "inconclusive" at a look that is not the last one means that it is not decided yet.
    """
    measured = [one for case in cases for one in _measured(case.name, pairs, attempt)]
    level = settings.alpha / looks
    effects = [_effect(one) if len(one.pairs) >= FEWEST_PAIRS else None for one in measured]
    timed = {metric.name for metric in TIMED}
    # Holm's correction goes by all that are compared: those without enough pairs yet count as p = 1.
    adjusted = holm(
        [effect.p if effect else 1.0 for effect in effects] + [result.p for result in closed if result.metric in timed]
    )
    return [
        _judged(
            one,
            effect,
            p_holm=corrected,
            level=level,
            comparisons=len(adjusted),
            settings=settings,
            last=look >= looks,
        )
        for one, effect, corrected in zip(measured, effects, adjusted, strict=False)
    ]


def undecided(results: Iterable[Result]) -> list[str]:
    """The cases to go on with: nothing has regressed, and not everything is ok."""
    verdicts: dict[str, set[Verdict]] = {}
    for result in results:
        verdicts.setdefault(result.case, set()).add("ok" if _passed_over(result) else result.verdict)
    return [case for case, found in verdicts.items() if "regressed" not in found and found != {"ok"}]


def _passed_over(result: Result) -> bool:
    return result.optional and result.verdict == "inconclusive"


def _measured(case: str, pairs: Sequence[Pair], attempt: int) -> list[_Measured]:
    """The clean pairs of a case, metric by metric. A metric that either side has, in any clean pair, is there."""
    own = [pair for pair in pairs if pair.case == case and pair.attempt == attempt]
    clean = [pair for pair in own if pair.clean]
    found = []
    for metric in TIMED:
        if not any(metric.name in side.metrics for pair in clean for side in (pair.base, pair.head)):
            continue
        both = [pair for pair in clean if _has(pair.base, metric) and _has(pair.head, metric)]
        found.append(
            _Measured(
                case,
                metric,
                [max(pair.base.metrics[metric.name], metric.least) for pair in both],
                [max(pair.head.metrics[metric.name], metric.least) for pair in both],
                both,
                len(own),
            )
        )
    if not found:
        found = [_Measured(case, metric, [], [], [], len(own)) for metric in TIMED[:1]]
    return found


def _has(sample: Sample, metric: Metric) -> bool:
    """Whether there is a value to compare: zero is none, but where a metric may be as small as that."""
    value = sample.metrics.get(metric.name, math.nan)
    return math.isfinite(value) and (value > 0 or metric.least > 0)


def _effect(one: _Measured) -> Effect:
    logs = log_ratios(one.metric, one.base, one.head)
    hdrs = [(pair.base.response_hdr, pair.head.response_hdr) for pair in one.pairs]
    if one.metric is P99 and all(base and head for base, head in hdrs):
        base, head = zip(*hdrs, strict=True)
        return statistics.quantile_effect(0.99, base, head, logs, SURE)
    return statistics.paired_effect(logs, SURE)


def log_ratios(metric: Metric, base: Sequence[float], head: Sequence[float]) -> list[float]:
    """The logarithm of each pair's ratio, above 0 where head is worse."""
    way = -1 if metric.higher_is_better else 1
    return [way * math.log(after / before) for before, after in zip(base, head, strict=True)]


def _judged(
    one: _Measured,
    effect: Effect | None,
    *,
    p_holm: float,
    level: float,
    comparisons: int,
    settings: Settings,
    last: bool,
) -> Result:
    clean = len(one.pairs)
    result = Result(
        case=one.case, metric=one.metric.name, verdict="inconclusive", pairs=one.all_pairs, clean=clean, p_holm=p_holm
    )
    result.optional = one.metric.optional and one.metric.name not in settings.allowed and effect is not None
    if effect is None:
        result.why = f"{clean} of {one.all_pairs} pairs count, {FEWEST_PAIRS} are needed"
        result.high = result.upper = result.detectable = UNBOUNDED
        result.low = 0.0
        return result
    result.base, result.head = median(one.base), median(one.head)
    result.ratio, result.low, result.high, result.upper, result.p = (min(value, UNBOUNDED) for value in effect[:5])
    # What is told apart whatever the other comparisons come to: the level, shared among all.
    result.detectable = min(UNBOUNDED, statistics.detectable(effect.error, level / comparisons))
    limit = settings.limit(one.metric)
    if clean < CLEAN_SHARE * one.all_pairs:
        result.why = f"only {clean} of {one.all_pairs} pairs were undisturbed"
    elif p_holm < level and effect.ratio > limit and abs(result.head - result.base) >= one.metric.least:
        result.verdict, result.why = "regressed", f"worse by more than {_percent(limit)}"
    elif effect.upper < limit:
        result.verdict, result.why = "ok", f"surely worse by less than {_percent(limit)}, if at all"
    elif last and result.detectable <= limit and effect.ratio < limit:
        result.verdict, result.why = "ok", f"a regression of {_percent(limit)} would have been found"
    else:
        result.why = f"too noisy: only {_percent(result.detectable)} or more would have been found"
    return result


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):.3g} %" if ratio < UNBOUNDED else "anything"


# --- failures


def judge_failures(cases: Sequence[Case], pairs: Sequence[Pair], attempt: int) -> list[Result]:
    """A result for each case of which a server or its load failed: head alone is a regression, base is no baseline."""
    results = []
    for case in cases:
        own = [pair for pair in pairs if pair.case == case.name and pair.attempt == attempt]
        base = Counter(pair.base.failed for pair in own if pair.base.failed)
        head = Counter(pair.head.failed for pair in own if pair.head.failed)
        if not base and not head:
            continue
        result = Result(
            case=case.name,
            metric=FAILED,
            verdict="inconclusive" if base else "regressed",
            base=float(base.total()),
            head=float(head.total()),
            pairs=len(own),
            clean=sum(pair.clean for pair in own),
        )
        who, failed = ("base", base) if base else ("head", head)
        (reason, _), *others = failed.most_common()
        more = f" (and {len(others)} other reasons)" if others else ""
        result.why = f"{who} failed in {failed.total()} of {len(own)} pairs: {reason}{more}"
        results.append(result)
    return results


# --- counted metrics


def judge_calls(call_pairs: Sequence[CallPair], settings: Settings, attempt: int = 1) -> list[Result]:
    """Judge counts of system calls: any more of them per message than CALLS.least is a regression.

    Where a strategy's own counts can't be repeated (a server that polls without rest), they are held to what is allowed
    of the timed metrics, and are inconclusive where its processes differ by more than that.
    """
    return [
        _judged_calls(one, settings)
        for one in call_pairs
        if one.attempt == attempt and (one.base.passes or one.head.passes)
    ]


def _judged_calls(one: CallPair, settings: Settings) -> Result:
    result = Result(
        case=one.case,
        metric=CALLS.name,
        verdict="inconclusive",
        burst=one.base.burst,
        detectable=UNBOUNDED,
        attempts=one.attempt,
    )
    for side in (one.base, one.head):
        if not side.passes:
            result.why = f"{'base' if side is one.base else 'head'} was not counted: {side.reason}"
            return result
    base, head = _totals(one.base), _totals(one.head)
    result.base, result.head = fmean(base), fmean(head)
    result.pairs = result.clean = min(len(base), len(head))
    result.ratio = _ratio(result.head, result.base)
    result.low, result.high = _ratio(min(head), max(base)), _ratio(max(head), min(base))
    result.upper = result.high
    result.changed = changed_calls(one)
    spread = max(max(base) - min(base), max(head) - min(head))
    result.detectable = 1 + _ratio(max(CALLS.least, spread), result.base)
    limit = settings.limit(CALLS)
    if min(head) - max(base) > CALLS.least and (spread <= CALLS.least or result.ratio > limit):
        result.verdict, result.why = "regressed", _told(result.changed)
    elif spread > CALLS.least and (result.detectable > limit or result.ratio > limit):
        result.why = f"the counts can't be repeated: processes differ by {spread:.2f} calls a message"
    else:
        result.verdict = "ok"
        result.why = f"no more than before: {_told(result.changed)}" if result.changed else "the same"
    return result


def _ratio(a: float, b: float) -> float:
    return min(a / b, UNBOUNDED) if b > 0 else UNBOUNDED


def _totals(count: CallCount) -> list[float]:
    return [sum(one.values()) for one in count.passes]


def changed_calls(one: CallPair) -> dict[str, tuple[float, float]]:
    """The calls of which there are more or fewer than CALLS.least a message, by name: base and head, passes' means."""
    base, head = _mean_by_name(one.base.passes), _mean_by_name(one.head.passes)
    both = {name: (base.get(name, 0.0), head.get(name, 0.0)) for name in sorted({*base, *head})}
    return {name: counts for name, counts in both.items() if abs(counts[1] - counts[0]) > CALLS.least}


def _mean_by_name(passes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        name: sum(one.get(name, 0.0) for one in passes) / len(passes)
        for name in {name for one in passes for name in one}
    }


def _told(changed: Mapping[str, tuple[float, float]]) -> str:
    largest_first = sorted(changed.items(), key=lambda item: item[1][0] - item[1][1])
    return ", ".join(f"{name} {after - before:+.2f}" for name, (before, after) in largest_first)


# --- a stored run as the baseline


def judge_unpaired(
    base: Mapping[str, Mapping[str, Sequence[float]]],
    head: Mapping[str, Mapping[str, Sequence[float]]],
    settings: Settings,
) -> list[Result]:
    """Judge values by case and metric, of two runs made at different times: the weaker comparison.

    What the machine did between the two runs looks like a change of the server. Raises KeyError where a case or metric
    is in one of them only: never is something passed because it is missing.
    """
    for case in {*base, *head}:
        if base[case].keys() != head[case].keys():
            raise KeyError(case)
    measured = [(case, BY_NAME[name]) for case in sorted(base) for name in base[case]]
    effects: list[Effect | None] = []
    for case, metric in measured:
        before, after = base[case][metric.name], head[case][metric.name]
        usable = bool(before) and bool(after) and min(*before, *after) > 0
        # Of so few values no outcome whatever would be significant: they pass nothing.
        usable = usable and 1 / math.comb(len(before) + len(after), len(before)) < settings.alpha
        if metric.higher_is_better:
            before, after = after, before
        effects.append(statistics.unpaired_effect(before, after, SURE) if usable else None)
    adjusted = holm([effect.p if effect else 1.0 for effect in effects])
    results = []
    for (case, metric), effect, corrected in zip(measured, effects, adjusted, strict=True):
        one = _Measured(case, metric, list(base[case][metric.name]), list(head[case][metric.name]), [], 0)
        result = _judged(
            one,
            effect,
            p_holm=corrected,
            level=settings.alpha,
            comparisons=len(measured),
            settings=settings,
            last=True,
        )
        result.pairs = result.clean = min(len(one.base), len(one.head))
        if effect is None:
            result.why = f"{len(one.base)} and {len(one.head)} values, or zeros among them, can tell nothing"
        results.append(result)
    return results


# --- the end


def confirm(first: Sequence[Result], again: Sequence[Result]) -> list[Result]:
    """Put together a gate's results and those of the cases that were measured again since they would have failed.

    A regression stands where it was found both times. What was found in one of the two only is not ok either, unless
    the other one would have found it.
    """
    second = {_key(result): result for result in again}
    results = []
    for result in first:
        other = second.pop(_key(result), None)
        if result.verdict != "regressed" and (other is None or other.verdict != "regressed"):
            results.append(result)
        elif other is None:
            gone = "it failed once and did not when measured again" if result.metric == FAILED else "measured once only"
            results.append(msgspec.structs.replace(result, verdict="inconclusive", why=gone, attempts=2))
        elif result.verdict == other.verdict:
            results.append(msgspec.structs.replace(other, attempts=2, why=f"{other.why}, twice"))
        else:
            good = other if result.verdict == "regressed" else result
            why = f"found once of twice; {good.why}"
            results.append(msgspec.structs.replace(good, attempts=2, why=why))
    unexpected = [result for result in second.values() if result.verdict == "regressed"]
    return results + [
        msgspec.structs.replace(result, verdict="inconclusive", why=f"seen only once: {result.why}", attempts=2)
        for result in unexpected
    ]


def _key(result: Result) -> tuple[str, str, int]:
    return result.case, result.metric, result.burst


def overall(results: Sequence[Result], cases: Sequence[Case]) -> Verdict:
    """The verdict of a gate: regressed where anything has, ok where every case has results and all of them are.

    An optional metric that is too noisy to judge is told, and does not count.
    """
    verdicts = {result.verdict for result in results if not _passed_over(result)}
    if "regressed" in verdicts:
        return "regressed"
    judged = {result.case for result in results}
    complete = bool(cases) and all(case.name in judged and not case.missing for case in cases)
    return "ok" if complete and verdicts == {"ok"} else "inconclusive"
