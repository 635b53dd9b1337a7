"""Latency over offered load: a row for each point of each strategy's curve, what each curve shows, what searches found.

Pure functions of the tables that analyse.py makes and of the manifest. What is said of it is in capacity.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.metrics import CASE, GROUP
from bench.rows import dicts

# What tells the points of one curve apart.
LOAD = ("planned_hz", "load_fraction")
PANEL = tuple(name for name in GROUP if name not in LOAD)
CURVE = (*PANEL, "strategy")
# Figures that a point needs; the others may be missing.
_NEEDED = {"offered_hz": "offered_hz", "rate_hz": "achieved_hz", "p99_us": "p99_us"}
_OTHERS = ("p50_us", "service_p99_us", "lag_p99_us")
# With any of these a point is not to be trusted as it stands.
DOUBTS = ("client_bound", "lagging_schedule", "unsteady", "censored", "disturbed", "throttled")
KEEPS_UP = 0.99  # of what was offered


def load_points(cases: pd.DataFrame, estimates: pd.DataFrame) -> pd.DataFrame:
    """Give the points of curves of two points or more, in order of the curves and the rates offered: CASE and

    offered_hz, achieved_hz, p50_us, p99_us, p99_low_us, p99_high_us, service_p99_us, lag_p99_us; `lower_bound`: of p99;
    `doubts`: those of DOUBTS that flag one of its trials; `keeps_up`: 99 % or more of what was offered was served;
    `front`: no other point of its panel without doubts has a lower p99 and serves as much (Pareto front).
    """
    table = _pivot(estimates)
    points = cases.merge(table, on=list(CASE)) if len(table) else cases.assign(**dict.fromkeys(table.columns))[:0]
    points["doubts"] = [", ".join(flag for flag in DOUBTS if flag in flags.split(", ")) for flags in points["flags"]]
    points["keeps_up"] = points["achieved_hz"] >= KEEPS_UP * points["offered_hz"]
    points = points[points.groupby(list(CURVE))["offered_hz"].transform("size") > 1]
    points = points.sort_values([*CURVE, "offered_hz"], ignore_index=True)
    points["front"] = False
    for _, panel in points[points["doubts"] == ""].groupby(list(PANEL)):
        points.loc[_front(panel), "front"] = True
    return points


def _pivot(estimates: pd.DataFrame) -> pd.DataFrame:
    """A row for each case that has the figures needed, a column for each figure."""
    wanted = estimates[estimates["planned"].astype(bool) & estimates["metric"].isin([*_NEEDED, *_OTHERS])]
    table = wanted.pivot(index=list(CASE), columns="metric", values="value").reindex(columns=[*_NEEDED, *_OTHERS])
    p99 = wanted[wanted["metric"] == "p99_us"].set_index(list(CASE))[["low", "high", "lower_bound"]]
    table = table.rename(columns=_NEEDED).dropna(subset=list(_NEEDED.values()))
    table = table.join(p99.rename(columns={"low": "p99_low_us", "high": "p99_high_us"}))
    return table.reset_index()


def _front(panel: pd.DataFrame) -> list[int]:
    """Indices of the points that no other one beats in p99 without serving less."""
    ordered = panel.sort_values(["achieved_hz", "p99_us"], ascending=[False, True])
    best, found = float("inf"), []
    for index, p99_us in ordered["p99_us"].items():
        if p99_us < best:
            best = p99_us
            found.append(index)
    return found  # type: ignore[return-value]


@dataclass(frozen=True)
class Bend:
    """What one curve shows; the points are rows of the table of points, None where there is none.

    `knee`: where throughput by p99 is greatest (Kleinrock: Power and deterministic rules of thumb for probabilistic
    problems in computer communications, 1979). `most`: the highest rate that was kept up with. `behind`: the lowest
    above it that was not.
    """

    curve: dict[str, Any]
    knee: dict[str, Any] | None
    most: dict[str, Any] | None
    behind: dict[str, Any] | None


def bends(points: pd.DataFrame) -> list[Bend]:
    """Read every curve. Points with doubts count only as those that fell behind."""
    found = []
    for key, curve in points.groupby(list(CURVE), sort=True):
        sure = curve[curve["doubts"] == ""]
        kept = sure[sure["keeps_up"]]
        power = sure["achieved_hz"] / sure["p99_us"]
        most = _row(kept.tail(1))
        above = curve[~curve["keeps_up"] & (curve["offered_hz"] > (most["offered_hz"] if most else 0))]
        knee = _row(sure.loc[[power.idxmax()]]) if len(sure) else None
        found.append(Bend(dict(zip(CURVE, key, strict=True)), knee, most, _row(above.head(1))))
    return found


def _row(table: pd.DataFrame) -> dict[str, Any] | None:
    rows = dicts(table)
    return {str(name): value for name, value in rows[0].items()} if rows else None
