"""Claim: a stall of the server shows in the response times of all the messages that were due meanwhile.

A generator that stops sending while the server is stopped, or that stamps messages when it gets round to them, would
miss nearly all of it (coordinated omission).
"""

from __future__ import annotations

from bench.calibrate import hdr
from bench.calibrate.claim import Check, Claim, Outcome, around, at_most
from bench.calibrate.formulas import Stall
from bench.calibrate.freeze import freezing
from bench.calibrate.rig import Rig
from bench.record import Load

RATE_HZ = 1000.0
SERVICE_US = 50.0  # of the peer: it drains its queue at 20,000 a second, so that k is 0.95
CONNECTIONS = 1  # with several, the peer drains one after the other, which is not the order of arrival
CAP = 16
SERVICE_MS = 5.0  # "near the baseline", when the stall is 1,000 ms
QUANTILES = {"p95": 0.95, "p99": 0.99, "p99.9": 0.999}


def measure(rig: Rig) -> Outcome:
    """Stop the peer once in a run: with a cap on outstanding messages, and without one as well in the full run."""
    run_s, stalled_s = (3.0, 0.3) if rig.quick else (10.0, 1.0)
    figures: dict[str, float] = {}
    checks: list[Check] = []
    with rig.peer("fifo", mean_us=SERVICE_US) as peer:
        full = rig.drive(peer, connections=CONNECTIONS, depth=CAP, duration_s=0.5).load
        capacity = rate_of(full)
        figures["drain_hz"] = capacity
        for cap in (0, CAP)[rig.quick :]:
            with freezing(peer.server.pid, run_s / 4, stalled_s) as freeze:
                seen = rig.drive(
                    peer,
                    opened=freeze.begin,
                    workload="open",
                    rate_hz=RATE_HZ,
                    cap=cap,
                    connections=CONNECTIONS,
                    duration_s=run_s,
                    warmup_s=0.2,
                )
            window_s = (seen.load.closed_ns - seen.load.opened_ns) / 1e9
            stall = Stall(freeze.lasted_s, window_s, RATE_HZ, capacity)
            name = "capped" if cap else "uncapped"
            figures |= {f"{name}_stalled_s": stall.stalled, f"{name}_run_s": stall.run}
            checks += checks_of(seen.load, stall, capped=bool(cap))
    return Outcome(checks, figures, [])


def rate_of(load: Load) -> float:
    """Completions per second."""
    return load.completed * 1e9 / max(1, load.closed_ns - load.opened_ns)


def checks_of(load: Load, stall: Stall, capped: bool) -> list[Check]:
    """Compare the response times with the formula, within 10 ms or 1.5 %, and the service times with the baseline."""
    kind = "capped" if capped else "uncapped"
    checks = []
    for name, q in QUANTILES.items():
        target = stall.quantile(q) * 1e3
        measured = hdr.quantile(load.response_hdr, q)
        checks.append(around(f"{kind} response {name}", measured, target, max(10.0, 0.015 * target), "ms"))
    baseline = hdr.quantile(load.response_hdr, 0.5)
    target = stall.mean() * 1e3 + baseline
    checks.append(
        around(f"{kind} response mean", hdr.mean(load.response_hdr), target, max(2.0, 0.05 * target), "ms"),
    )
    if capped:
        # At most CAP messages were in the server's hands when it was stopped: too few to move the p99 of the service.
        checks.append(at_most("capped service p99", hdr.quantile(load.service_hdr, 0.99), baseline + SERVICE_MS, "ms"))
    return checks


CLAIM = Claim(
    "stall",
    "A stall of the server shows in the response time of every message that was due meanwhile, as the formula says.",
    measure,
)
