"""A stand-in for `python -m clients --worker` that puts no load on anything; a script for the tests of the runner.

    fake_load.py [--fault KIND@WHERE] --worker --cpus 0

KIND says what goes wrong, in jobs of so many connections as WHERE says, or of the trial with this id: see `serve`,
`window` and RESULTS. A job with a rate gets all of its messages answered, after 1 ms up to LIMIT_HZ and after 100 ms
beyond. Any number of jobs in turns are there at once, as in clients/worker.py; what goes wrong in a window also does in
a turn.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

SECOND_NS = 10**9
MESSAGE_NS = 10**6  # there is one of them, all through a window
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


class Held(NamedTuple):
    """A job in turns, with its connection; `opened` is when each of its turns did."""

    job: dict[str, Any]
    fault: str
    conn: socket.socket
    opened: list[int]


HELD: dict[str, Held] = {}


def window_ns(job: dict[str, Any]) -> int:
    """How long a window is said to be, which is over at once: a second where several start together.

    Elsewhere no longer than the readings of a server may be late.
    """
    return SECOND_NS if job.get("hold") else SECOND_NS // 5


def dial(address: str) -> socket.socket | None:
    host, _, port = address.removeprefix("tcp:").rpartition(":")
    with suppress(ConnectionRefusedError):  # of a server that has died
        return socket.create_connection((host, int(port)))
    return None


def serve(job: dict[str, Any], fault: str) -> None:
    name = job["job"]
    conn = None if fault == "fail" else dial(job["address"])
    if conn is None:
        say("failed", job=name, reason="no connection could be opened")
        return
    refused = 2 if fault == "refused" else 0
    say("connected", job=name, connections=job["connections"], refused=refused, connect_ns=1)
    if job.get("turns"):
        HELD[name] = Held(job, fault, conn, [])
        return
    with conn:
        if job.get("hold") and hear() != {"go": name}:
            say("failed", job=name, reason="it was called off before it had begun")
            return
        opened = window(job, fault, conn)
        if opened is not None:
            say("result", job=name, load=load(job, fault, [opened]))


def window(job: dict[str, Any], fault: str, conn: socket.socket) -> int | None:
    """Have a window until the stop: when it opened; None where there was none."""
    name = job["job"]
    opened = enter_window(name, fault, conn)
    if opened is None:
        return None
    say("window_opened", job=name, monotonic_ns=opened)
    say("window_closed", job="of another trial", monotonic_ns=0)
    called_off = hear() if fault == "lingers" else None
    say("window_closed", job=name, monotonic_ns=opened + window_ns(job))
    assert (called_off or hear()) == {"stop": name}
    return opened


def enter_window(name: str, fault: str, conn: socket.socket) -> int | None:
    if fault == "wait_for_death":
        conn.recv(1)
        assert hear() == {"stop": name}
        say("failed", job=name, reason="all connections were lost")
        return None
    if fault in FAULTS:
        FAULTS[fault]()
    return time.monotonic_ns()


def take_turn(name: str) -> None:
    if name not in HELD:
        say("failed", job=name, reason="there is no such job in turns")
        return
    held = HELD[name]
    opened = enter_window(name, held.fault, held.conn)
    if opened is None:
        HELD.pop(name).conn.close()
        return
    held.opened.append(opened)
    say("turned", job="of another trial")
    say(
        "turned",
        job=name,
        opened_ns=opened,
        closed_ns=opened + window_ns(held.job),
        completed=window_ns(held.job) // MESSAGE_NS,
        in_all=window_ns(held.job) // MESSAGE_NS,
        cpu_ns=2,
        clocks_ns=[5, 8],
    )


def end(name: str, kept: list[int]) -> None:
    held = HELD.pop(name, None)
    if held is None or not kept:
        say("failed", job=name, reason="there is no such job in turns, or none of them counts")
        return
    held.conn.close()
    say("result", job=name, load=load(held.job, held.fault, [held.opened[number] for number in kept]))


def answered(job: dict[str, Any]) -> dict[str, Any]:
    """What differs where there is a plan."""
    from hdrh.histogram import HdrHistogram  # noqa: PLC0415 - most jobs have none

    times, rate_hz = HdrHistogram(1, 100 * SECOND_NS, 3), job["rate_hz"]
    messages = int(rate_hz * job["duration_s"])
    times.record_value(SECOND_NS // (1000 if rate_hz <= LIMIT_HZ else 10), messages)
    return {"planned": messages, "completed": messages, "response_hdr": times.encode().decode(), "offered_hz": rate_hz}


def load(job: dict[str, Any], fault: str, opened: list[int]) -> dict[str, Any]:
    """The result of a job whose windows opened then: as if they had been one."""
    return whole(job, opened) | (answered(job) if job["rate_hz"] else {}) | RESULTS.get(fault, {})


def whole(job: dict[str, Any], opened: list[int]) -> dict[str, Any]:
    length_ns = window_ns(job)
    completed = length_ns // MESSAGE_NS * len(opened)
    return {
        "opened_ns": opened[0],
        "closed_ns": opened[0] + length_ns * len(opened),
        "connections": job["connections"],
        "planned": completed,
        "completed": completed,
        "errors": {},
        "timed_out": 0,
        "unsent": 0,
        "in_flight": 0,
        "bytes_echoed": completed * job["message_bytes"],
        "interval_ns": length_ns,
        "intervals": [length_ns // MESSAGE_NS] * len(opened),
        "service_hdr": "",
        "cpu_user_ns": 1,
        "cpu_system_ns": 1,
        "worker_busy": [0.25],
    }


def main() -> None:
    fault, _, where = sys.argv[sys.argv.index("--fault") + 1].partition("@") if "--fault" in sys.argv else ("", "", "")
    if fault == "dead_on_arrival":
        die()
    say("ready", pid=0)
    while True:
        line = hear()
        if "turn" in line:
            take_turn(line["turn"])
        elif "end" in line:
            end(line["end"], line["kept"])
        elif "stop" not in line:
            serve(line, fault if where in (str(line["connections"]), line["job"].partition("-")[0]) else "")


if __name__ == "__main__":
    main()
