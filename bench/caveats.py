"""What stands in the way of trusting a run, in sentences: what failed, what was left out, who was the limit.

Every function takes tables or records and returns plain text, with names between backticks. Nothing is measured, drawn
or marked up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pandas as pd

from bench.anatomy.steps import Anatomy
from bench.clusters import two_groups
from bench.lab.experiment import Finding
from bench.metrics import CASE, CPU, GROUP
from bench.record import MANIFEST_FILE, Manifest, Record, StrategyInfo
from bench.rows import dicts
from bench.why.counts import Counts
from bench.words import USUAL, column_text, counted, digits, joined, named, percent, quoted, value_text, varying


def why_lines_stop(strategies: Iterable[StrategyInfo], cases: pd.DataFrame) -> list[str]:
    """Say of each strategy that serves one connection at a time why it has no figures at more."""
    measured = cases[cases["ok"] > 0]
    most = measured["connections"].max()
    sentences = []
    for info in strategies:
        own = measured[measured["strategy"] == info.name]["connections"]
        if not info.concurrent and len(own) and own.max() < most:
            sentences.append(
                f"{quoted(info.name)} serves one connection at a time: it was measured at "
                f"{counted(own.max(), 'connection')} only, and its line stops there."
            )
    return sentences


def stops(records: Iterable[Record]) -> list[str]:
    """Say of each strategy that took no more connections at how many it stopped, and why; of several times, the most.

    Where that depends on the transport or the workload, each is told apart.
    """
    most: dict[tuple[str, str, str], tuple[int, str]] = {}
    for record in records:
        if record.stops_at and record.server is not None:
            place = (record.trial.strategy, record.trial.transport, column_text("workload", record.trial.workload))
            most[place] = max(most.get(place, (0, "")), (record.stops_at, "; ".join(sorted(record.server.refused))))
    places: dict[tuple[str, int, str], list[str]] = {}
    for (strategy, *where), (number, why) in sorted(most.items()):
        places.setdefault((strategy, number, why), []).append(", ".join(where))
    times = Counter(strategy for strategy, _, _ in places)
    return [
        f"{quoted(strategy)} stops at {counted(number, 'connection')}"
        f"{f' ({joined(told)})' if times[strategy] > 1 else ''}: {why.rstrip('.')}."
        for (strategy, number, why), told in places.items()
    ]


def left_out(trials: pd.DataFrame) -> list[str]:
    """Say which trials failed or were unavailable, and why, a sentence for each strategy and reason."""
    bad = trials[trials["status"] != "ok"]
    sentences = []
    for (strategy, status, reason), rows in bad.groupby(["strategy", "status", "reason"], sort=True):
        counts = sorted(rows["connections"].unique())
        where = f"{joined([f'{count:,}' for count in counts])} connection{'s' if counts != [1] else ''}"
        what = "failed" if status == "failed" else "unavailable"
        why = str(reason).rstrip(".") or "no reason was recorded"
        sentences.append(f"{quoted(str(strategy))}: {counted(len(rows), 'trial')} {what} at {where}: {why}.")
    return sentences


def client_bound(cases: pd.DataFrame) -> list[str]:
    """Say in which cases the client was the limit, a sentence for each strategy."""
    differing = varying(cases)
    sentences = []
    for strategy, rows in cases[cases["client_bound"] > 0].groupby("strategy", sort=True):
        places = [
            f"{', '.join(column_text(name, row[name]) for name in differing) or 'all that was run'} "
            f"({row['client_bound']} of {row['ok']} trials)"
            for row in dicts(rows)
        ]
        sentences.append(f"{quoted(str(strategy))}: {joined(places)}.")
    return sentences


def throttled(trials: pd.DataFrame, host: Mapping[str, Any]) -> list[str]:
    """Say which trials a CPU quota stopped, and what to do about it; nothing where none did."""
    good = trials[trials["status"] == "ok"]
    hit = good[good["flags"].str.contains("throttled")]
    if hit.empty:
        return []
    cpus = host.get("cpu_quota")
    quota = f"A quota of {digits(cpus)} CPUs" if isinstance(cpus, (int, float)) else "A CPU quota"
    return [
        f"{quota} was used up in {len(hit):,} of {counted(len(good), 'good trial')} "
        f"({named(sorted(hit['strategy'].unique()))}): it, and no server, was the limit there. They are in no "
        "comparison; a run without the quota (cpu.max, `docker run --cpus`, CPUQuota=), or on CPUs of its own "
        "(cpuset), has none of it."
    ]


def bimodal(trials: pd.DataFrame) -> list[str]:
    """Say where the processes of a case fall into two groups by CPU per message: then no single figure describes it."""
    good = trials[(trials["status"] == "ok") & (trials[CPU.name] > 0)]
    differing = varying(good)
    sentences = []
    for key, rows in good.groupby(list(CASE), sort=True):
        found = two_groups(rows[CPU.name])
        if found is None:
            continue
        case = dict(zip(CASE, key, strict=True))
        where = ", ".join(column_text(name, case[name]) for name in differing)
        sentences.append(
            f"{quoted(str(case['strategy']))}{f' ({where})' if where else ''}: {found.lows} of {len(rows)} processes "
            f"take about {value_text(CPU, found.low)} of CPU for a message, {found.highs} about "
            f"{value_text(CPU, found.high)}, and none anything between: whole processes come out one way or the other, "
            "and a median hides that."
        )
    return sentences


def missing(records: Iterable[Record]) -> list[str]:
    """Say which figures of the servers could not be read, and why."""
    found: dict[tuple[str, str], set[str]] = {}
    for record in records:
        for metric, why in (record.server.missing if record.server else {}).items():
            found.setdefault((metric, why), set()).add(record.trial.strategy)
    return [
        f"{metric} could not be read of {named(sorted(strategies))}: {why.rstrip('.')}."
        for (metric, why), strategies in sorted(found.items())
    ]


def unread(manifest: Manifest) -> list[str]:
    """Say what other commands have put into a manifest that can't be read, so that a report leaves it out."""
    kept: dict[str, tuple[dict[str, Any] | None, str, Any]] = {
        "calibrate": (manifest.calibration, "findings", list[dict[str, Any]]),
        "lab": (manifest.lab, "findings", list[Finding]),
        "anatomy": (manifest.anatomy, "anatomies", list[Anatomy]),
        "why": (manifest.why, "counts", list[Counts]),
    }
    sentences = []
    for command, (values, key, kind) in kept.items():
        try:
            msgspec.convert((values or {}).get(key, []), kind)
        except msgspec.ValidationError as error:
            what = str(error).replace("`", "")
            sentences.append(f"{MANIFEST_FILE}: what iobench {command} found can't be read, and is left out: {what}")
    return sentences


def unfinished(manifest: Manifest, recorded: int, folder: str) -> str:
    """Say how much of the sweep is missing; nothing where it is complete or its size is unknown."""
    planned = manifest.sweep.get("trials_planned")
    if not isinstance(planned, int) or recorded >= planned:
        return ""
    return (
        f"This run is unfinished: {recorded:,} of {counted(planned, 'trial')} are recorded. "
        f"`iobench sweep --resume {folder}` runs the others."
    )


def overhead(trials: pd.DataFrame) -> str:
    """Say which share of the wall time was not measuring; nothing where no time was recorded."""
    spent = {name: float(trials[name].sum()) for name in ("window_s", "warmed_s", "spawn_s", "connect_s", "teardown_s")}
    total = sum(spent.values())
    if total <= 0:
        return ""
    share = {name: percent(seconds / total) for name, seconds in spent.items()}
    rest = percent(1 - (spent["window_s"] + spent["warmed_s"]) / total)
    return (
        f"Of {total:,.1f} s of trials, {share['window_s']} was measured, {share['warmed_s']} was warm-up and "
        f"{rest} was neither: spawning {spent['spawn_s']:.1f} s, connecting "
        f"{spent['connect_s']:.1f} s, tear-down {spent['teardown_s']:.1f} s."
    )


def nothing_to_compare(trials: pd.DataFrame) -> str:
    """Say why a run has nothing to compare; nothing where a trial succeeded."""
    if trials.empty:
        return "No trial of this run was recorded, so there is nothing to compare."
    if (trials["status"] == "ok").any():
        return ""
    return "No trial of this run succeeded, so there is nothing to compare."


def conditions(trials: pd.DataFrame) -> str:
    """Say what all trials have in common, and how often each was repeated; nothing where there is none."""
    if trials.empty:
        return ""
    same = {name: trials[name].iloc[0] for name in GROUP if trials[name].nunique() == 1}
    common = [column_text(name, value) for name, value in same.items() if value != USUAL[name]]
    repeats = Counter(trials.groupby(list(CASE)).size()).most_common(1)[0][0]
    return f"All trials: {', '.join([*common, counted(repeats, 'repeat')])}."
