"""Claim: the generator keeps to its plan, and says so when it did not."""

from __future__ import annotations

from bench.calibrate import hdr
from bench.calibrate.claim import Check, Claim, Outcome, at_least, at_most, exactly
from bench.calibrate.freeze import freezing
from bench.calibrate.rig import Job, Rig, Seen
from bench.calibrate.stall import rate_of
from bench.record import Load

BELOW_HALF = 0.4
CONNECTIONS = 16
STOPPED_S = 0.5


def measure(rig: Rig) -> Outcome:
    """Run at 40 % of the measured maximum; then stop the load generator for half a second."""
    with rig.peer("echo") as peer:
        maximum = rate_of(rig.drive(peer, connections=CONNECTIONS, duration_s=0.5, warmup_s=0.1).load)
        plan: Job = {
            "workload": "open",
            "arrivals": "poisson",
            "rate_hz": BELOW_HALF * maximum,
            "connections": CONNECTIONS,
            "warmup_s": 0.2,
        }
        steady = rig.drive(peer, duration_s=float(rig.choose(5, 2)), **plan)
        with freezing(rig.pool.worker().child.pid, 0.5, STOPPED_S) as freeze:
            stopped = rig.drive(peer, opened=freeze.begin, duration_s=1.5, **plan)
    figures = {"maximum_hz": maximum, "rate_hz": BELOW_HALF * maximum, "stopped_s": freeze.lasted_s}
    return Outcome([*steady_checks(steady.load), *stopped_checks(stopped, freeze.lasted_s)], figures, [])


def steady_checks(load: Load) -> list[Check]:
    """Messages leave within 100 us of their time, 99 in 100."""
    return [at_most("schedule lag p99", hdr.quantile(load.lag_hdr, 0.99, hdr.US), 100.0, "us")]


def stopped_checks(seen: Seen, stopped_s: float) -> list[Check]:
    """The stop is in the lag and in the response times; it is blamed on the load generator, not on the server."""
    load, least = seen.load, 0.9 * stopped_s * 1e3
    return [
        at_least("stopped: longest lag", hdr.longest(load.lag_hdr), least, "ms"),
        at_least("stopped: longest response", hdr.longest(load.response_hdr), least, "ms"),
        exactly('stopped: flagged "lagging_schedule"', int("lagging_schedule" in seen.flags), 1),
        exactly('stopped: judged "server"', int(seen.limit == "server"), 0),
    ]


CLAIM = Claim(
    "schedule lag",
    "Messages leave when they are due; where the load generator was held up, that is seen and blamed on it.",
    measure,
)
