"""What figures are drawn from: estimates, with what is to be borne in mind of each case, and the cases without any."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pandas as pd

from bench.analyse import ESTIMATE_COLUMNS, Analysis
from bench.metrics import CASE
from bench.rows import dicts

# Flags that make a point hollow. A throughput is a lower bound as soon as the client limited one of its trials; for the
# others, half of the trials or more must have the flag: one of many moves no median.
DOUBTS = ("client_bound", "lagging_schedule", "unsteady", "censored", "disturbed", "throttled")
ENOUGH = 0.5

Case = tuple[Any, ...]


def measured(analysis: Analysis, *metrics: str, planned: bool = True) -> pd.DataFrame:
    """Give the estimates of these metrics, and a row for each case that has no good trial; of searches, no steps.

    Columns: CASE, ESTIMATE_COLUMNS, `doubts` (flags of DOUBTS, or "failed" or "unavailable") and `reason` (of those).
    A row of a case without a value has the first of the metrics. `planned`: also where sends were planned. Nothing at
    all where nothing was measured.
    """
    found = analysis.estimates[analysis.estimates["metric"].isin(metrics) & (analysis.estimates["slo"] == "")]
    if not planned:
        found = found[~found["planned"].astype(bool)]
    flags = doubts(analysis.trials)
    rows = [row | {"doubts": flags.get(_case(row), ""), "reason": ""} for row in dicts(found)]
    if rows:
        rows += [row for row in _absent(analysis.trials, metrics[0]) if planned or not row["planned"]]
    return pd.DataFrame(rows, columns=[*CASE, *ESTIMATE_COLUMNS, "doubts", "reason"])


def doubts(trials: pd.DataFrame) -> dict[Case, str]:
    """Give for each case that has some the flags of DOUBTS that make it hollow, as one string."""
    all_trials: Counter[Case] = Counter()
    flagged: dict[Case, Counter[str]] = {}
    good = trials[trials["status"] == "ok"]
    for *case, flags, bound in zip(*(good[name].tolist() for name in (*CASE, "flags", "client_bound")), strict=True):
        key = tuple(case)
        all_trials[key] += 1
        found = set(flags.split(", ")) | ({"client_bound"} if bound else set())
        if found & set(DOUBTS):
            flagged.setdefault(key, Counter()).update(found)
    return {
        key: ", ".join(
            flag
            for flag in DOUBTS
            if counts[flag] and (flag == "client_bound" or counts[flag] >= ENOUGH * all_trials[key])
        )
        for key, counts in flagged.items()
    }


def doubts_by_ids(analysis: Analysis) -> dict[str, str]:
    """Give the doubts of each case by the ids of its good trials, which every table has."""
    flags = doubts(analysis.trials)
    return {case["ids"]: flags.get(_case(case), "") for case in dicts(analysis.cases)}


def _absent(trials: pd.DataFrame, metric: str) -> list[dict[Any, Any]]:
    """A row for each case in which every trial failed or was unavailable."""
    columns = dicts(trials[[*CASE, "status", "reason", "id"]])
    good = {_case(trial) for trial in columns if trial["status"] == "ok"}
    gone: dict[Case, list[dict[Any, Any]]] = {}
    for trial in columns:
        if (key := _case(trial)) not in good:
            gone.setdefault(key, []).append(trial)
    empty = dict.fromkeys(("value", "low", "high", "confidence", "min", "max"), math.nan)
    counts = dict.fromkeys(("n", "trials", "client_bound"), 0)
    return [
        {name: same[0][name] for name in CASE}
        | empty
        | counts
        | {
            "metric": metric,
            "lower_bound": False,
            "planned": bool(same[0]["planned_hz"] or same[0]["load_fraction"]),
            "ids": " ".join(trial["id"] for trial in same),
            "doubts": "failed" if any(trial["status"] == "failed" for trial in same) else "unavailable",
            "reason": same[0]["reason"],
        }
        for same in gone.values()
        if not same[0]["slo"]
    ]


def _case(row: dict[Any, Any]) -> Case:
    return tuple(row[name] for name in CASE)


def reasons(rows: pd.DataFrame) -> set[str]:
    """Give every doubt that one of these rows has."""
    return {flag for flags in rows["doubts"].unique() for flag in flags.split(", ") if flag}


def without(doubts: pd.Series[str], flag: str) -> list[str]:
    """Leave out a flag that is no doubt of what a figure shows."""
    return [", ".join(one for one in flags.split(", ") if one != flag) for flags in doubts]
