"""Claims about what is recorded: the histogram's error, merging, and the intervals of percentiles.

They depend on no clock: nothing that the machine does excuses them. Values go through the load generator's own code, in
a process of its own (clients.recorder), and come back as it writes them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.calibrate import hdr
from bench.calibrate.claim import Check, Claim, Outcome, at_most, check, exactly
from bench.calibrate.recorder import record, record_all
from bench.calibrate.rig import Rig
from bench.histograms import decode, quantiles_us
from bench.stats import quantile_ranks

VALUES = 100_000
QUANTILES = (0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)
REPLICATIONS = 2_000
SAMPLES = 2_000


def measure_error(rig: Rig) -> Outcome:
    """Record times from a microsecond to a minute and compare with their order statistics."""
    random = np.random.default_rng(9)
    values = np.exp(random.uniform(np.log(1e3), np.log(6e10), VALUES)).astype(np.int64)
    return Outcome(error_checks(values, record(values)), {"values": float(VALUES)}, [])


def error_checks(values_ns: NDArray[np.int64], text: str) -> list[Check]:
    """No percentile is more than 0.1 % off, none is lost, and the text survives being read and written."""
    ordered = np.sort(values_ns)
    ranks = np.maximum(1, np.ceil(np.array(QUANTILES) * len(ordered) - 1e-9)).astype(int)
    exact = ordered[ranks - 1]
    histogram = decode(text)
    worst: float | None = None
    again = None
    if histogram is not None:
        told = quantiles_us(histogram, QUANTILES) * 1e3
        worst = float(np.max(np.abs(told / exact - 1))) * 100
        again = histogram.encode().decode("ascii")
    return [
        at_most("largest error of a percentile", worst, 0.1, "%", timed=False),
        exactly("values recorded", hdr.recorded(text), len(values_ns)),
        exactly("round trips that change a byte", int(again != text), 0),
    ]


def measure_merging(rig: Rig) -> Outcome:
    """Record 9,000 times of 1 ms in one worker and 1,000 of 100 ms in another, and add them up."""
    texts = record_all([np.full(9_000, 1_000_000), np.full(1_000, 100_000_000)], rig.cpus)
    return Outcome(merging_checks(texts), {}, [])


def merging_checks(texts: list[str]) -> list[Check]:
    """p50 is 1 ms and p99 is 100 ms; an average of percentiles would be 50.5 and 50.5."""
    total = hdr.merge(texts)
    p50, p90, p99 = (None, None, None) if total is None else (float(x) for x in quantiles_us(total, (0.5, 0.9, 0.99)))
    told = {"p50": (p50, 1.0), "p90": (p90, 1.0), "p99": (p99, 100.0)}
    return [
        _to_a_bucket(f"two workers: {name}", None if value is None else value / 1e3, target)
        for name, (value, target) in told.items()
    ]


def _to_a_bucket(what: str, value: float | None, target: float) -> Check:
    return check(what, value, "ms", timed=False, target=target, low=0.999 * target, high=1.001 * target)


def measure_intervals(rig: Rig) -> Outcome:
    """Draw many samples of a known distribution and count how often the intervals contain the true percentile."""
    checks = [coverage_check(q, coverage(q, SAMPLES, REPLICATIONS)) for q in (0.5, 0.9, 0.99)]
    return Outcome(checks, {"replications": float(REPLICATIONS), "samples": float(SAMPLES)}, [])


def coverage(q: float, samples: int, replications: int, seed: int = 11) -> float:
    """How often, in percent, the 95 % interval of a percentile contains the true one, of any distribution."""
    lower, upper = (int(ranks[0]) for ranks in quantile_ranks(samples, np.array([q])))
    drawn = np.random.default_rng(seed).exponential(1.0, (replications, samples))
    drawn.sort(axis=1)
    true = -np.log1p(-q)
    inside = (drawn[:, lower - 1] <= true) & (true <= drawn[:, upper - 1])
    return float(inside.mean()) * 100


def coverage_check(q: float, percent: float) -> Check:
    """Accept 93 to 98: an interval between whole ranks can't be of 95 % exactly, and 2,000 trials have an SD of 0.5."""
    return check(f"p{q * 100:g} in its 95 % interval", percent, "%", timed=False, low=93, high=98)


HISTOGRAM = Claim(
    "histogram",
    "A percentile is within 0.1 % of the exact order statistic, and a histogram survives being written and read.",
    measure_error,
)
MERGING = Claim(
    "merging", "Workers are merged by adding their histograms, not by averaging percentiles.", measure_merging
)
INTERVALS = Claim(
    "intervals",
    "The 95 % interval of a percentile contains the true one 95 times in 100.",
    measure_intervals,
)
