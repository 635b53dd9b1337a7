"""A calibration made up for the tests of the report: of the very types that `iobench calibrate` writes."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.calibrate.claim import Check, Finding, Verdict
from bench.calibrate.report import Calibration


def calibration() -> dict[str, Any]:
    """What calibration.json holds, cut down to three claims: one passed, one failed, one inconclusive."""
    stall = Check(what="p99", value=903.2, unit="ms", target=905, low=891.4, high=918.6)
    faults = Check(what="faults found", value=999, target=1000, low=1000, high=1000, timed=False)
    alarms = Check(what="false alarms", value=0, target=0, low=0, high=0, timed=False)
    lag = Check(what="p99", value=240.0, unit="us", high=100)
    findings = [
        finding("stall", "a server that stands still is seen in the response times", "passed", "", stall),
        finding("echo faults", "every fault is found and named", "failed", "faults found out of range", faults, alarms),
        finding(
            "schedule lag",
            "messages are sent when they are due",
            "inconclusive",
            "p99 out of range, and 12 % of the CPU time was stolen",
            lag,
        ),
    ]
    written = Calibration(
        created="2025-01-02T02:00:00Z",
        quick=True,
        verdict="failed",
        took_s=4.5,
        maxima_hz={"tcp": 250_000.0},
        findings=findings,
        host={},
        versions={},
        command=[],
    )
    return dict(msgspec.json.decode(msgspec.json.encode(written)))


def finding(claim: str, says: str, verdict: Verdict, reason: str, *checks: Check) -> Finding:
    return Finding(
        claim=claim,
        says=says,
        verdict=verdict,
        reason=reason,
        checks=list(checks),
        figures={},
        notes=[],
        disturbances=[],
        attempts=1,
        took_s=1.5,
    )
