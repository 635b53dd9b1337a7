"""A stand-in for `python -m clients --worker` that puts no load on anything; a script for the tests of the runner.

    fake_load.py [--fault KIND@CONNECTIONS] --worker --cpus 0

KIND says what goes wrong, in jobs of that many connections: see `FAULTS` and `at_start`. A job with a rate gets all of
its messages answered, after 1 ms up to LIMIT_HZ and after 100 ms beyond.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any, NoReturn

SECOND_NS = 10**9
LIMIT_HZ = 2345


def say(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


def hear() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        raise SystemExit(0)
    return dict(json.loads(line))


def die() -> NoReturn:
    print("fake load: out of luck", file=sys.stderr)
    raise SystemExit(9)


def hang() -> NoReturn:
    while True:
        time.sleep(3600)


def talk_nonsense() -> None:
    print("this is not JSON", flush=True)


FAULTS = {"die": die, "hang": hang, "nonsense": talk_nonsense}
RESULTS: dict[str, dict[str, Any]] = {
    "corrupt": {"errors": {"corrupt": 3, "reset": 0}},
    "timeouts": {"timed_out": 4},
    "silence": {"completed": 0},
    "busy": {"worker_busy": [0.3, 0.85]},
    "malformed": {"completed": "many"},
}


def serve(job: dict[str, Any], fault: str) -> None:
    name = job["job"]
    host, _, port = job["address"].removeprefix("tcp:").rpartition(":")
    with socket.create_connection((host, int(port))) as conn:
        refused = 2 if fault == "refused" else 0
        if fault == "fail":
            say("failed", job=name, reason="no connection could be opened")
            return
        say("connected", job=name, connections=job["connections"], refused=refused, connect_ns=1)
        if job.get("hold") and hear() != {"go": name}:
            say("failed", job=name, reason="it was called off before it had begun")
            return
        if fault == "wait_for_death":
            conn.recv(1)
            assert hear() == {"stop": name}
            say("failed", job=name, reason="all connections were lost")
            return
        if fault in FAULTS:
            FAULTS[fault]()
        opened = time.monotonic_ns()
        say("window_opened", job=name, monotonic_ns=opened)
        say("window_closed", job="of another trial", monotonic_ns=0)
        called_off = hear() if fault == "lingers" else None
        say("window_closed", job=name, monotonic_ns=opened + SECOND_NS)
        assert (called_off or hear()) == {"stop": name}
        say("result", job=name, load=load(job, opened) | RESULTS.get(fault, {}))


def answered(job: dict[str, Any]) -> dict[str, Any]:
    """What differs where there is a plan."""
    from hdrh.histogram import HdrHistogram  # noqa: PLC0415 - most jobs have none

    times, rate_hz = HdrHistogram(1, 100 * SECOND_NS, 3), job["rate_hz"]
    messages = int(rate_hz * job["duration_s"])
    times.record_value(SECOND_NS // (1000 if rate_hz <= LIMIT_HZ else 10), messages)
    return {"planned": messages, "completed": messages, "response_hdr": times.encode().decode(), "offered_hz": rate_hz}


def load(job: dict[str, Any], opened: int) -> dict[str, Any]:
    return whole(job, opened) | (answered(job) if job["rate_hz"] else {})


def whole(job: dict[str, Any], opened: int) -> dict[str, Any]:
    return {
        "opened_ns": opened,
        "closed_ns": opened + SECOND_NS,
        "connections": job["connections"],
        "planned": 1000,
        "completed": 1000,
        "errors": {},
        "timed_out": 0,
        "unsent": 0,
        "in_flight": 0,
        "bytes_echoed": 1000 * job["message_bytes"],
        "interval_ns": SECOND_NS,
        "intervals": [1000],
        "service_hdr": "",
        "cpu_user_ns": 1,
        "cpu_system_ns": 1,
        "worker_busy": [0.25],
    }


def main() -> None:
    fault, _, connections = (
        sys.argv[sys.argv.index("--fault") + 1].partition("@") if "--fault" in sys.argv else ("", "", "")
    )
    if fault == "dead_on_arrival":
        die()
    say("ready", pid=0)
    while True:
        job = hear()
        if "stop" not in job:
            serve(job, fault if str(job["connections"]) == connections else "")


if __name__ == "__main__":
    main()
