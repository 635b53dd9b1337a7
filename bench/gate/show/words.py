"""What is said of a gate and of each result, as text that every output shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from bench.gate.decide import BY_NAME, FAILED
from bench.gate.model import CALLS, UNBOUNDED, Gate, Result, Side
from bench.words import counted

MARKS = {"ok": "✓", "regressed": "✗", "inconclusive": "?"}
HEADLINES = {"ok": "No regression", "regressed": "Regression", "inconclusive": "Inconclusive"}
MEANINGS = {
    "ok": "head is no worse than base by more than is allowed",
    "regressed": "head is worse than base, found twice",
    "inconclusive": "this run can't tell; it is neither a pass nor a fail",
}


class Row(NamedTuple):
    """One result, as text."""

    case: str
    metric: str
    base: str
    head: str
    change: str  # such as "+1.2 %": above 0 is worse
    interval: str
    found: str  # the change that this run could have found
    pairs: str
    verdict: str
    mark: str
    why: str


def row(result: Result) -> Row:
    """Put a result into words."""
    verdict = "too noisy" if result.optional and result.verdict == "inconclusive" else result.verdict
    mark = "~" if verdict == "too noisy" else MARKS[result.verdict]
    known = result.metric != FAILED and result.low > 0 and result.high < UNBOUNDED and result.base > 0
    exact = result.metric == CALLS.name
    head = _beside(result) if known else result.head
    return Row(
        case=result.case,
        metric=metric_title(result),
        base=_value(result, result.base),
        head=_value(result, head),
        change=percent(result.ratio) if known else "–",
        interval=f"{percent(result.low)} .. {percent(result.high)}" if known and not exact else "",
        found=percent(result.detectable) if known and result.detectable < UNBOUNDED else "–",
        pairs=f"{result.clean}/{result.pairs}",
        verdict=verdict,
        mark=mark,
        why=result.why,
    )


def _beside(result: Result) -> float:
    """Head's figure in a row with base's: apart from it by the ratio that the row tells.

    The ratio is estimated from pairs, and by how much the medians of the two sides differ may be more, less or even the
    other way round: two figures of one kind and a third of another would contradict each other.
    """
    better_upwards = result.metric in BY_NAME and BY_NAME[result.metric].higher_is_better
    return result.base / result.ratio if better_upwards else result.base * result.ratio


def rows(gate: Gate) -> list[Row]:
    """All results by case: first the cases in which something regressed, then those that are inconclusive."""
    worst = {"regressed": 0, "inconclusive": 1, "ok": 2}
    rank: dict[str, int] = {}
    for result in gate.results:
        own = 2 if result.optional and result.verdict == "inconclusive" else worst[result.verdict]
        rank[result.case] = min(rank.get(result.case, 2), own)
    order = {name: number for number, name in enumerate([*BY_NAME, FAILED])}
    ordered = sorted(gate.results, key=lambda it: (rank[it.case], it.case, order.get(it.metric, 99), it.burst))
    return [row(result) for result in ordered]


def metric_title(result: Result) -> str:
    """What was compared, with the burst of counted calls."""
    if result.metric == FAILED:
        return "failures"
    title = BY_NAME[result.metric].title if result.metric in BY_NAME else result.metric
    return f"{title}, {result.burst} at one go" if result.burst else title


def percent(ratio: float) -> str:
    """A ratio as a change, such as "+1.2 %"."""
    if ratio >= UNBOUNDED:
        return "∞"
    change = 100 * (ratio - 1)
    return f"{change:+.1f} %" if abs(change) < 100 else f"{change:+,.0f} %"


def _value(result: Result, value: float) -> str:
    unit = BY_NAME[result.metric].unit if result.metric in BY_NAME else ""
    if result.metric == FAILED:
        return f"{value:.0f}"
    if value == 0 and result.high >= UNBOUNDED:
        return "–"
    short = {"messages/s": "/s", "us": " µs", "bytes": " B", "calls": ""}.get(unit, f" {unit}")
    digits = f"{value:,.0f}" if value >= 1000 else f"{value:.2f}" if unit == "calls" else f"{value:.4g}"
    return digits + short


def headline(gate: Gate) -> str:
    """The verdict in a line."""
    return f"{HEADLINES[gate.verdict]}: {MEANINGS[gate.verdict]}."


def summary(gate: Gate) -> str:
    """What was compared with what, and how."""
    base, head = side(gate.base), side(gate.head)
    cases = counted(len(gate.cases), "case")
    if not gate.paired:
        return f"Base is the stored run {base}, head is {head}: {cases}, not paired. Allowed: {allowed(gate)}."
    kept = sum(pair.clean for pair in gate.pairs)
    dropped = sum(bool(pair.disturbed) for pair in gate.pairs)
    failed = sum(pair.failed for pair in gate.pairs)
    told = [f"{kept} counted", f"{dropped} dropped"] + ([f"{failed} failed"] if failed else [])
    return (
        f"Base is {base}, head is {head}: {cases}, {counted(len(gate.pairs), 'pair')} of fresh server processes "
        f"({', '.join(told)}). Allowed: {allowed(gate)}."
    )


def allowed(gate: Gate) -> str:
    """How much worse head may be, by metric where that differs."""
    parts = [f"{100 * gate.max_regression:g} %"]
    for name, metric in BY_NAME.items():
        share = gate.allowed.get(name, gate.max_regression * metric.slack)
        if share != gate.max_regression:
            parts.append(f"{100 * share:g} % of {metric.title}")
    return ", ".join(parts)


def side(one: Side) -> str:
    """What a side is, such as "main (1a2b3c4d5e, changed since)"."""
    about = [one.commit[:10]] if one.commit else []
    about += ["changed since"] if one.dirty else []
    about += [one.interpreter] if one.interpreter else []
    return f"{one.label} ({', '.join(about)})" if about else one.label


def dropped(gate: Gate) -> list[str]:
    """Why pairs did not count, each reason with how often."""
    reasons = Counter(pair.disturbed.rstrip("0123456789 %") if pair.disturbed else "" for pair in gate.pairs)
    del reasons[""]
    kinds = Counter("steal" if "hypervisor" in why else "run-queue wait" for why in reasons.elements())
    return [f"{number} for {kind}" for kind, number in kinds.most_common()]


def could_have_found(gate: Gate) -> str:
    """The smallest change that would have been found, case by case, of throughput and CPU time at least."""
    texts = []
    for case in gate.cases:
        best = [
            f"{BY_NAME[result.metric].title} {percent(result.detectable)}"
            for result in gate.results
            if result.case == case.name and result.metric in ("rate_hz", "cpu_us") and result.detectable < UNBOUNDED
        ]
        if best:
            texts.append(f"{case.name}: {', '.join(best)}")
    return "; ".join(texts)


def trouble(results: Sequence[Result]) -> list[Result]:
    """Results that are worth an annotation: all that are not ok and not passed over."""
    return [
        result
        for result in results
        if result.verdict == "regressed" or (result.verdict == "inconclusive" and not result.optional)
    ]
