"""From a run to tables: a row a trial, estimates of each case, and percentile curves.

A case is all of a trial's definition but the repeat. Pure functions of the records: analysing a run twice gives the
same tables. No figure, no sentence and no file is made here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.contests import Contest, contests
from bench.metrics import CASE, GROUP, METRICS, QUANTILES
from bench.record import Load, Record, Run, Server
from bench.stats import Interval, median_interval, samples_needed

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

# Points of the percentile curve: 1/(1-p) from 1 (the minimum) to a million, 16 a decade, and the median.
CURVE = tuple(sorted({0.5, *(round(1 - 10 ** (-step / 16), 9) for step in range(16 * 6 + 1))}))
CURVE_NEEDS = np.array([samples_needed(p) for p in CURVE])


@dataclass(frozen=True)
class Analysis:
    """A run and its tables, each sorted by definition.

    `trials`: a row a trial. `cases`: a row a case, with the number of its trials by status. `estimates`: a row for each
    case and metric. `curves`: a row for each case and point of the percentile curve.
    """

    run: Run
    trials: pd.DataFrame
    cases: pd.DataFrame
    estimates: pd.DataFrame
    curves: pd.DataFrame
    contests: tuple[Contest, ...]


def analyse(run: Run) -> Analysis:
    """Derive all tables of a run. Records without a measurement are kept in `trials` and counted in `cases`."""
    records = sorted(run.records, key=_sort_key)
    trial_rows: list[dict[str, Any]] = []
    case_rows: list[dict[str, Any]] = []
    estimate_rows: list[dict[str, Any]] = []
    curve_rows: list[dict[str, Any]] = []
    for _, group in groupby(records, key=lambda record: _sort_key(record)[:-2]):
        same = list(group)
        times = _service_times(same)
        rows = [_trial_row(record, times.by_trial.get(record.id)) for record in same]
        trial_rows += rows
        case_rows.append(_case_row(rows))
        estimate_rows += _estimate_rows(rows, times)
        curve_rows += _curve_rows(rows, times)
    estimates = pd.DataFrame(estimate_rows, columns=[*CASE, *ESTIMATE_COLUMNS])
    cases = pd.DataFrame(case_rows, columns=[*CASE, *CASE_COLUMNS])
    trials = pd.DataFrame(trial_rows, columns=[*CASE, *TRIAL_COLUMNS])
    curves = pd.DataFrame(curve_rows, columns=[*CASE, *CURVE_COLUMNS])
    return Analysis(run, trials, cases, estimates, curves, tuple(contests(trials, estimates)))


def _sort_key(record: Record) -> tuple[Any, ...]:
    """Order by setting, connections, strategy, then repeat: groups lie together, and so do cases."""
    trial = record.trial
    return (*(getattr(trial, name) for name in GROUP), trial.strategy, trial.repeat, record.id)


# --- a row a trial

TRIAL_COLUMNS = (
    *("id", "repeat", "seed", "order", "started", "status", "reason", "bottleneck", "client_bound", "flags"),
    *("completed", "errors", "spawn_s", "connect_s", "warmed_s", "window_s", "teardown_s"),
    *(metric.name for metric in METRICS),
)


def _trial_row(record: Record, times_us: NDArray[np.float64] | None) -> dict[str, Any]:
    trial, load, server, timing = record.trial, record.load, record.server, record.timing
    row: dict[str, Any] = {name: getattr(trial, name) for name in CASE}
    row |= {
        "id": record.id,
        "repeat": trial.repeat,
        "seed": trial.seed,
        "order": record.order,
        "started": record.started,
        "status": record.status,
        "reason": record.reason,
        "bottleneck": record.bottleneck,
        "client_bound": record.bottleneck == "client" or "client_bound" in record.flags,
        "flags": ", ".join(sorted(record.flags)),
        "completed": load.completed if load else 0,
        "errors": sum(load.errors.values()) + load.timed_out + load.unsent if load else 0,
        "spawn_s": timing.spawn_s if timing else 0.0,
        "connect_s": timing.connect_s if timing else 0.0,
        "warmed_s": timing.warmup_s if timing else 0.0,
        "window_s": timing.window_s if timing else 0.0,
        "teardown_s": timing.teardown_s if timing else 0.0,
    }
    row |= dict.fromkeys((metric.name for metric in METRICS), math.nan)
    if record.status == "ok" and load is not None and load.closed_ns > load.opened_ns:
        rate_hz = load.completed * 1e9 / (load.closed_ns - load.opened_ns)
        row["rate_hz"] = rate_hz
        if server is not None and rate_hz > 0:
            row |= _cost_per_message(server, rate_hz)
        if times_us is not None:
            for metric, value in zip(QUANTILES, times_us, strict=True):
                row[metric.name] = _told(value, metric.quantile or 0, load.completed)
    return row


def _cost_per_message(server: Server, rate_hz: float) -> dict[str, float]:
    """Divide rates, not amounts: the probes' window and the load's are not the same instants."""
    window_s = (server.closed_ns - server.opened_ns) / 1e9
    seen = server.metrics
    costs = {"rss_peak_bytes": seen.get("rss_peak_bytes", math.nan)}
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
    }


def _told(value: float, quantile: float, samples: int) -> float:
    """Withhold a percentile that so few samples can't tell."""
    return float(value) if samples >= samples_needed(quantile) else math.nan


# --- service times: percentiles are never averaged, histograms are added


class ServiceTimes(NamedTuple):
    """Percentiles in us of a case: of each trial, and of the sum of its trials' histograms."""

    by_trial: dict[str, NDArray[np.float64]]  # id -> at QUANTILES
    curves: list[NDArray[np.float64]]  # of each trial, at CURVE, NaN where too few samples
    merged: NDArray[np.float64]  # at QUANTILES
    merged_curve: NDArray[np.float64]
    samples: int


def _service_times(records: Iterable[Record]) -> ServiceTimes:
    found = ServiceTimes({}, [], np.empty(0), np.empty(0), 0)
    total: HdrHistogram | None = None
    at = tuple(metric.quantile or 0.0 for metric in QUANTILES)
    for record in records:
        hist = _decode(record.load) if record.status == "ok" else None
        if hist is None:
            continue
        found.by_trial[record.id] = quantiles_us(hist, at)
        found.curves.append(_curve(hist))
        if total is None:
            total = hist
        else:
            total.add(hist)
    if total is None:
        return found
    return found._replace(merged=quantiles_us(total, at), merged_curve=_curve(total), samples=int(total.total_count))


def _decode(load: Load | None) -> HdrHistogram | None:
    """Read a histogram; None where there is none, it is empty, or it isn't one."""
    from hdrh.histogram import HdrHistogram  # noqa: PLC0415 - used here alone

    if load is None or not load.service_hdr:
        return None
    try:
        hist = HdrHistogram.decode(load.service_hdr)
    except Exception:  # base64, zlib, struct and hdrh's own: whichever part of a damaged text is met first
        return None
    return hist if hist.total_count > 0 else None


def quantiles_us(hist: HdrHistogram, at: Sequence[float]) -> NDArray[np.float64]:
    """Give the smallest recorded times, in us, that at least these shares of samples don't exceed (nearest rank)."""
    counts = np.ctypeslib.as_array(hist.counts)
    recorded = np.flatnonzero(counts)
    reached = np.cumsum(counts[recorded])
    ranks = np.maximum(1, np.ceil(np.asarray(at) * float(reached[-1]) - 1e-6))
    indices = recorded[np.minimum(np.searchsorted(reached, ranks), len(recorded) - 1)]
    values = {
        index: hist.get_highest_equivalent_value(hist.get_value_from_index(index))
        for index in {int(index) for index in indices}
    }
    return np.array([values[int(index)] / 1e3 for index in indices])


def _curve(hist: HdrHistogram) -> NDArray[np.float64]:
    return np.where(hist.total_count >= CURVE_NEEDS, quantiles_us(hist, CURVE), math.nan)


CURVE_COLUMNS = ["p", "value_us", "min_us", "max_us", "samples", "client_bound"]


def _curve_rows(rows: Sequence[dict[str, Any]], times: ServiceTimes) -> Iterable[dict[str, Any]]:
    case = {name: rows[0][name] for name in CASE}
    lowest = np.min(times.curves, axis=0) if times.curves else ()  # NaN where a trial alone can't tell
    highest = np.max(times.curves, axis=0) if times.curves else ()
    for p, value, low, high in zip(CURVE, times.merged_curve, lowest, highest, strict=False):
        if not math.isnan(value):
            row = (p, float(value), float(low), float(high), times.samples, _bound(rows))
            yield case | dict(zip(CURVE_COLUMNS, row, strict=True))


# --- estimates: a row a case and metric

CASE_COLUMNS = ["trials", "ok", "failed", "unavailable", "client_bound", "errors", "samples", "flags"]
ESTIMATE_COLUMNS = ["metric", "value", "low", "high", "confidence", "min", "max", "n", "trials", "client_bound"]


def _bound(rows: Iterable[dict[str, Any]]) -> int:
    """Count the good trials in which the client was the limit."""
    return sum(row["client_bound"] and row["status"] == "ok" for row in rows)


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
    }


def _estimate_rows(rows: Sequence[dict[str, Any]], times: ServiceTimes) -> Iterable[dict[str, Any]]:
    """The median of the trials; for a percentile, that of the merged histogram, with the spread of the trials' own."""
    case = {name: rows[0][name] for name in CASE}
    merged = dict(zip((metric.name for metric in QUANTILES), times.merged, strict=False))
    for metric in METRICS:
        values = [row[metric.name] for row in rows if not math.isnan(row[metric.name])]
        if metric.quantile is not None and len(values) < len(times.by_trial):
            values = []  # the range of only those trials that are long enough would mislead
        interval = median_interval(values) if values else Interval(math.nan, math.nan, math.nan, 0.0)
        value = interval.estimate
        if metric.quantile is not None:
            value = _told(merged.get(metric.name, math.nan), metric.quantile, times.samples)
        if math.isnan(value):
            continue
        yield case | {
            "metric": metric.name,
            "value": value,
            "low": interval.low,
            "high": interval.high,
            "confidence": interval.level,
            "min": min(values, default=math.nan),
            "max": max(values, default=math.nan),
            "n": len(values),
            "trials": sum(row["status"] == "ok" for row in rows),
            "client_bound": _bound(rows),
        }
