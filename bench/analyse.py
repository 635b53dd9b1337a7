"""From a run to tables: a row a trial, estimates of each case, and percentile curves.

A case is all of a trial's definition but the repeat. Pure functions of the records: analysing a run twice gives the
same tables. No figure, no sentence and no file is made here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.comparisons import Comparison, comparisons
from bench.histograms import CURVE, Floats, added, decode, percentiles_us, told_us
from bench.load_curve import load_points
from bench.metrics import CASE, GROUP, METRICS, QUANTILES, RATE
from bench.record import Load, Record, Run, Server
from bench.rows import by_key
from bench.stats import median_interval, samples_needed


@dataclass(frozen=True)
class Analysis:
    """A run and its tables, each sorted by definition.

    `trials`: a row a trial. `cases`: a row a case, with the number of its trials by status. `estimates`: a row for each
    case and metric. `curves`: a row for each case and point of the percentile curve, of its latency and, where sends
    were planned, of its service time too. `load_points`: as bench.load_curve.load_points gives them.
    """

    run: Run
    trials: pd.DataFrame
    cases: pd.DataFrame
    estimates: pd.DataFrame
    curves: pd.DataFrame
    comparisons: tuple[Comparison, ...]
    load_points: pd.DataFrame


def analyse(run: Run) -> Analysis:
    """Derive all tables of a run. Records without a measurement are kept in `trials` and counted in `cases`."""
    records = sorted(run.records, key=_sort_key)
    maxima_hz = _maxima_hz(run.manifest.calibration)
    trial_rows: list[dict[str, Any]] = []
    case_rows: list[dict[str, Any]] = []
    estimate_rows: list[dict[str, Any]] = []
    found_curves: list[pd.DataFrame] = []
    for _, group in groupby(records, key=lambda record: _sort_key(record)[:-2]):
        same = list(group)
        times = _times(same)
        rows = [_trial_row(record, times.by_trial.get(record.id, {}), maxima_hz) for record in same]
        trial_rows += rows
        case_rows.append(_case_row(rows))
        estimate_rows += _estimate_rows(rows, times)
        found_curves += _curves(len(case_rows) - 1, rows, times)
    estimates = pd.DataFrame(estimate_rows, columns=[*CASE, *ESTIMATE_COLUMNS])
    cases = pd.DataFrame(case_rows, columns=[*CASE, *CASE_COLUMNS])
    trials = pd.DataFrame(trial_rows, columns=[*CASE, *TRIAL_COLUMNS])
    curves = _of_cases(cases, found_curves)
    compared = tuple(comparisons(run, trials, estimates))
    return Analysis(run, trials, cases, estimates, curves, compared, load_points(cases, estimates))


def _sort_key(record: Record) -> tuple[Any, ...]:
    """Order by setting, connections, strategy, then repeat: groups lie together, and so do cases."""
    trial = record.trial
    return (*(getattr(trial, name) for name in GROUP), trial.strategy, trial.repeat, record.id)


# --- a row a trial

TRIAL_COLUMNS = (
    *("id", "repeat", "seed", "order", "started", "host", "status", "reason", "bottleneck", "client_bound", "flags"),
    *("planned", "completed", "errors", "unfinished", "spawn_s", "connect_s", "warmed_s", "window_s", "teardown_s"),
    *(metric.name for metric in METRICS),
    *("switches_voluntary", "switches_involuntary", "rss_bytes"),  # parts of metrics, for figures
)
MAXIMA_BYTES = 64  # what the calibration's maxima are measured with
P99_NEEDS = samples_needed(0.99)
CROWD = 100  # connections; with fewer, what a server allocates once weighs too much to be shared out


def _maxima_hz(calibration: Mapping[str, Any] | None) -> dict[str, float]:
    """By transport, what the generator can do at most here; nothing where it was not calibrated."""
    found = (calibration or {}).get("maxima_hz")
    values = found.items() if isinstance(found, dict) else ()
    return {name: float(most) for name, most in values if isinstance(most, (int, float)) and most > 0}


def _definition(record: Record) -> dict[str, Any]:
    values = {name: getattr(record.trial, name) for name in CASE}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _trial_row(record: Record, times_us: Mapping[str, float], maxima_hz: Mapping[str, float]) -> dict[str, Any]:
    load, timing = record.load, record.timing
    row = _definition(record) | {
        "id": record.id,
        "repeat": record.trial.repeat,
        "seed": record.trial.seed,
        "order": record.order,
        "started": record.started,
        "host": record.server_host,
        "status": record.status,
        "reason": record.reason,
        "bottleneck": record.bottleneck,
        "client_bound": record.bottleneck == "client" or "client_bound" in record.flags,
        "flags": ", ".join(sorted(_flags(record))),
        "planned": load is not None and load.response_hdr != "",
        "completed": load.completed if load else 0,
        "errors": sum(load.errors.values()) + load.timed_out if load else 0,
        "unfinished": load.in_flight + load.unsent if load and "censored" in record.flags else 0,
        "spawn_s": timing.spawn_s if timing else 0.0,
        "connect_s": timing.connect_s if timing else 0.0,
        "warmed_s": timing.warmup_s if timing else 0.0,
        "window_s": timing.window_s if timing else 0.0,
        "teardown_s": timing.teardown_s if timing else 0.0,
    }
    row |= dict.fromkeys((name for name in TRIAL_COLUMNS if name not in row), math.nan)
    if record.status == "ok" and load is not None and load.closed_ns > load.opened_ns:
        row |= _rates(record.trial.workload, load)
        if record.trial.message_bytes == MAXIMA_BYTES and (most_hz := maxima_hz.get(record.trial.transport)):
            row["of_maximum"] = 100 * row["rate_hz"] / most_hz
        if record.server is not None and row["rate_hz"] > 0:
            row |= _cost_per_message(record.server, row["rate_hz"])
        if record.server is not None:
            row["connection_kib"] = _connection_kib(record.server, record.trial.connections + record.trial.silent)
        row |= times_us
    return row


def _flags(record: Record) -> set[str]:
    """Those recorded, and `too_few`, which says that not even p99 can be told."""
    few = record.status == "ok" and record.load is not None and record.load.completed < P99_NEEDS
    return {*record.flags, *(["too_few"] if few else [])}


def _rates(workload: str, load: Load) -> dict[str, float]:
    window_s = (load.closed_ns - load.opened_ns) / 1e9
    return {
        "rate_hz": load.completed / window_s,
        "offered_hz": load.offered_hz or math.nan,
        "mb_s": load.bytes_echoed / window_s / 1e6 if workload == "stream" else math.nan,
    }


def _cost_per_message(server: Server, rate_hz: float) -> dict[str, float]:
    """Divide rates, not amounts: the probes' window and the load's are not the same instants."""
    window_s = (server.closed_ns - server.opened_ns) / 1e9
    seen = server.metrics
    costs = {name: seen.get(name, math.nan) for name in ("rss_peak_bytes", "rss_bytes")}
    if window_s <= 0:
        return costs

    def per_message(*names: str) -> float:
        return sum(seen.get(name, math.nan) for name in names) / window_s / rate_hz

    cpu_us = per_message("cpu_ns") / 1e3
    user, system = seen.get("cpu_user_ns", math.nan), seen.get("cpu_system_ns", math.nan)
    # cpu_ns is exact; the kernel tells user from system in whole clock ticks, which are good for a split only.
    user_share = user / (user + system) if user + system > 0 else math.nan
    return costs | {
        "messages_per_cpu_s": 1e6 / cpu_us if cpu_us > 0 else math.nan,
        "cpu_us": cpu_us,
        "cpu_user_us": cpu_us * user_share,
        "cpu_system_us": cpu_us * (1 - user_share),
        "switches": per_message("switches_voluntary", "switches_involuntary"),
        "switches_voluntary": per_message("switches_voluntary"),
        "switches_involuntary": per_message("switches_involuntary"),
    }


def _connection_kib(server: Server, connections: int) -> float:
    """What the server's own memory grew by, shared out to its connections."""
    if connections < CROWD:
        return math.nan
    seen = server.metrics
    grown = seen.get("anon_bytes", math.nan) - seen.get("anon_start_bytes", math.nan)
    return grown / 1024 / connections


# --- times


class Times(NamedTuple):
    """Percentiles in us of a case: of each trial, and of the sum of its trials' histograms, by metric.

    `curves`, by "latency" and "service": those of each trial and that of the sum, at CURVE, NaN where too few samples.
    """

    by_trial: dict[str, dict[str, float]]  # id -> metric -> percentile
    merged: dict[str, tuple[float, float, float, bool]]  # metric -> percentile, its interval, whether a lower bound
    curves: dict[str, tuple[list[Floats], Floats]]
    told_up_to: dict[str, float]  # by the same: percentiles above it are lower bounds


def _times(records: Sequence[Record]) -> Times:
    found = Times({}, {}, {}, {})
    planned = any(record.load is not None and record.load.response_hdr != "" for record in records)
    for kind in ("service", "response", "lag", "connect"):
        # Users wait for the response where sends were planned, else for the service.
        is_latency = kind == ("response" if planned else "service")
        _add_kind(found, records, kind, {kind, "latency"} if is_latency else {kind})
    return found


def _add_kind(found: Times, records: Iterable[Record], kind: str, meanings: set[str]) -> None:
    """Read the histograms of one kind, one after the other: together they may be larger than memory."""
    metrics = [metric for metric in QUANTILES if metric.of in meanings]
    names, at = [metric.name for metric in metrics], [metric.quantile or 0.0 for metric in metrics]
    curves = []
    total, unfinished = None, 0
    for record in records:
        hist = decode(_recorded(record).get(kind, ""))
        if hist is None:
            continue
        found.by_trial.setdefault(record.id, {}).update(zip(names, told_us(hist, at).tolist(), strict=True))
        curves.append(told_us(hist, CURVE))
        unfinished += _unfinished(record, kind)
        total = hist if total is None else added([total, hist])
    if total is None:
        return
    merged = (column.tolist() for column in percentiles_us(total, at, unfinished))
    found.merged.update(zip(names, zip(*merged, strict=True), strict=True))
    if kind in ("service", "response"):
        shown_as = "latency" if "latency" in meanings else kind
        found.curves[shown_as] = (curves, told_us(total, CURVE))
        found.told_up_to[shown_as] = total.total_count / (total.total_count + unfinished)


def _recorded(record: Record) -> dict[str, str]:
    load = record.load
    if load is None or record.status != "ok":
        return {}
    kinds = {"service": load.service_hdr, "response": load.response_hdr, "lag": load.lag_hdr}
    return kinds | {"connect": load.connect_hdr}


def _unfinished(record: Record, kind: str) -> int:
    """Count the messages whose time of this kind was not over at the end of a censored trial."""
    if record.load is None or kind not in ("service", "response") or "censored" not in record.flags:
        return 0
    return record.load.in_flight + (record.load.unsent if kind == "response" else 0)


CURVE_COLUMNS = ["of", "p", "value_us", "min_us", "max_us", "lower_bound", "client_bound", "ids"]


def _curves(case: int, rows: Sequence[dict[str, Any]], times: Times) -> Iterable[pd.DataFrame]:
    """The curves of a case, which is told by its place among the cases: there are far more points than cases."""
    for of, (curves, merged) in sorted(times.curves.items()):
        told = ~np.isnan(merged)
        columns = {
            "of": of,
            "p": np.array(CURVE)[told],
            "value_us": merged[told],
            "min_us": np.min(curves, axis=0)[told],  # NaN where a trial alone can't tell
            "max_us": np.max(curves, axis=0)[told],
            "lower_bound": np.array(CURVE)[told] > times.told_up_to[of],
            "client_bound": _bound(rows),
            "ids": _ids(rows),
        }
        yield pd.DataFrame(columns, index=np.full(int(told.sum()), case))


def _of_cases(cases: pd.DataFrame, found: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table of all curves, with the definition of each one's case before it."""
    if not found:
        return pd.DataFrame(columns=[*CASE, *CURVE_COLUMNS])
    return cases[[*CASE]].join(pd.concat(found), how="inner").reset_index(drop=True)


# --- estimates: a row a case and metric

CASE_COLUMNS = ["trials", "ok", "failed", "unavailable", "client_bound", "errors", "samples", "flags", "ids"]
ESTIMATE_COLUMNS = [
    *("metric", "value", "low", "high", "confidence", "min", "max", "n"),
    *("trials", "client_bound", "lower_bound", "planned", "ids"),
]


def _bound(rows: Iterable[dict[str, Any]]) -> int:
    """Count the good trials in which the client was the limit."""
    return sum(row["client_bound"] and row["status"] == "ok" for row in rows)


def _ids(rows: Iterable[dict[str, Any]]) -> str:
    """The ids of the good trials, in one string."""
    return " ".join(row["id"] for row in rows if row["status"] == "ok")


def _case_row(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    status = Counter(row["status"] for row in rows)
    flags = {flag for row in rows for flag in row["flags"].split(", ") if flag}
    return {name: rows[0][name] for name in CASE} | {
        "trials": len(rows),
        "ok": status["ok"],
        "failed": status["failed"],
        "unavailable": status["unavailable"],
        "client_bound": _bound(rows),
        "errors": sum(row["errors"] for row in rows),
        "samples": sum(row["completed"] for row in rows if row["status"] == "ok"),
        "flags": ", ".join(sorted(flags)),
        "ids": _ids(rows),
    }


def _estimate_rows(rows: Sequence[dict[str, Any]], times: Times) -> Iterable[dict[str, Any]]:
    """The median of the trials; for a percentile, that of the merged histogram, with the spread of the trials' own."""
    case = {name: rows[0][name] for name in CASE}
    good = [row for row in rows if row["status"] == "ok"]
    for metric in METRICS:
        values = [row[metric.name] for row in rows if not math.isnan(row[metric.name])]
        if metric.quantile is None:
            if not values:
                continue
            value, low, high, confidence = median_interval(values)
            lower_bound = metric is RATE and _bound(rows) > 0
        else:
            value, low, high, lower_bound = times.merged.get(metric.name, (math.nan, math.nan, math.nan, False))
            confidence = 0.95
            if len(values) < len(good):
                values = []  # the range of only those trials that are long enough would mislead
        if math.isnan(value):
            continue
        yield case | {
            "metric": metric.name,
            "value": value,
            "low": low,
            "high": high,
            "confidence": confidence,
            "min": min(values, default=math.nan),
            "max": max(values, default=math.nan),
            "n": len(values),
            "trials": len(good),
            "client_bound": _bound(rows),
            "lower_bound": lower_bound,
            "planned": any(row["planned"] for row in good),
            "ids": _ids(rows),
        }


def medians(trials: pd.DataFrame, column: str) -> dict[tuple[Any, ...], float]:
    """Give the median over the good trials of each case, by its definition; nothing of a case where none has it."""
    good = trials[(trials["status"] == "ok") & trials[column].notna()]
    return {case: float(np.median(found)) for case, found in by_key(good, CASE, column).items()}
