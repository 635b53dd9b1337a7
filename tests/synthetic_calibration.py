"""A calibration.json made up for the tests of the report."""

from __future__ import annotations

from typing import Any


def calibration() -> dict[str, Any]:
    """What `iobench calibrate` writes, cut down to three claims: one passed, one failed, one inconclusive."""

    def finding(claim: str, says: str, verdict: str, reason: str, *checks: dict[str, Any]) -> dict[str, Any]:
        about: dict[str, Any] = {"figures": {}, "notes": [], "disturbances": [], "attempts": 1, "took_s": 1.5}
        return {"claim": claim, "says": says, "verdict": verdict, "reason": reason, "checks": list(checks), **about}

    return {
        "schema": 1,
        "created": "2025-01-02T02:00:00Z",
        "quick": True,
        "maxima_hz": {"tcp": 250_000.0},
        "claims": [
            finding(
                "stall",
                "a server that stands still is seen in the response times",
                "passed",
                "",
                {
                    "what": "p99",
                    "value": 903.2,
                    "unit": "ms",
                    "target": 905,
                    "low": 891.4,
                    "high": 918.6,
                    "timed": True,
                },
            ),
            finding(
                "echo faults",
                "every fault is found and named",
                "failed",
                "faults found out of range",
                {"what": "faults found", "value": 999, "unit": "", "target": 1000, "low": 1000, "high": 1000},
                {"what": "false alarms", "value": 0, "unit": "", "target": 0, "low": 0, "high": 0},
            ),
            finding(
                "schedule lag",
                "messages are sent when they are due",
                "inconclusive",
                "p99 out of range, and 12 % of the CPU time was stolen",
                {"what": "p99", "value": 240.0, "unit": "us", "target": None, "low": None, "high": 100},
            ),
        ],
    }
