"""The workloads besides the closed and the open loop on the command line, and in the warm worker."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from peers import Peer, peer

WAIT_S = 60


def load(server: Peer, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "clients", server.address, "-c", "3", "--warmup", "0", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)


CASES: list[tuple[list[str], list[str]]] = [
    (["--workload", "burst"], ["bursts", "rounds"]),
    (["--workload", "churn"], ["churn", "connections opened", "connect time", "from the connect to the last byte"]),
    (["--workload", "idle", "--silent", "5"], ["idle connections", "5 silent ones", "3 connections"]),
    (["--workload", "idle", "--silent", "5", "--open", "500"], ["5 silent ones", "response time"]),
    (["--workload", "stream", "--depth", "4"], ["stream", "4 messages outstanding", "MB/s"]),
    (["--workload", "slow", "--trickle", "16@500"], ["slow peers", "16 at once, 500 times a second", "bytes/s"]),
    (["--ramp", "0.1"], ["closed loop", "opened over 0.1 s"]),
]


@pytest.mark.parametrize("transport", ["tcp", "unix", "pipe"])
@pytest.mark.parametrize(("arguments", "words"), CASES, ids=lambda value: " ".join(value) if value[0][0] == "-" else "")
def test_a_workload_is_named_on_the_command_line_and_described(
    transport: str, arguments: list[str], words: list[str]
) -> None:
    with peer(transport) as server:
        done = load(server, "-d", "0.3", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    shown = " ".join(done.stdout.split())
    for word in [*words, "errors none"]:
        assert word in shown
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_sizes_are_given_with_their_weights() -> None:
    with peer("tcp", 1) as server:
        done = load(server, "-d", "0.2", "--sizes", "10:3,20", "--json")
    answer = json.loads(done.stdout)
    assert answer["job"]["sizes"] == [[10, 3.0], [20, 1.0]]
    assert 10 * answer["load"]["completed"] <= answer["load"]["bytes_echoed"] <= 20 * answer["load"]["completed"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--workload", "nonsense"], "'nonsense' is not known"),
        (["--silent", "3"], "silent means nothing to workload 'closed'"),
        (["--sizes", "0:1"], "bytes in sizes"),
        (["--sizes", "many"], "--sizes"),
        (["--trickle", "fast"], "--trickle"),
        (["--workload", "slow", "--trickle", "0@5"], "trickle_bytes"),
        (["--ramp", "-1"], "ramp_s"),
    ],
)
def test_options_that_make_no_sense_are_bad_input(arguments: list[str], complaint: str) -> None:
    with peer() as server:
        done = load(server, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def events_of(server: Peer, job: dict[str, Any], stop_at: str) -> list[dict[str, Any]]:
    """Give a worker one job, and a stop as soon as an event has come."""
    command = [sys.executable, "-W", "error", "-m", "clients", "--worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        events: list[dict[str, Any]] = []
        while not events or events[-1]["event"] not in ("result", "failed"):
            events.append(json.loads(worker.stdout.readline()))
            if events[-1]["event"] == "ready":
                worker.stdin.write(json.dumps({"job": "a", "address": server.address, **job}) + "\n")
            if events[-1]["event"] == stop_at:
                worker.stdin.write(json.dumps({"stop": "a"}) + "\n")
        worker.stdin.close()
        assert worker.wait(WAIT_S) == 0
    return events


def test_a_stop_ends_a_ramp() -> None:
    with peer() as server:
        job = {"connections": 100, "message_bytes": 64, "duration_s": 1000, "ramp_s": 1e6}
        events = events_of(server, job, "ready")
    assert [event["event"] for event in events] == ["ready", "connected", "window_opened", "window_closed", "result"]
    assert events[1]["connections"] < 100


@pytest.mark.parametrize(
    "job",
    [
        {"workload": "burst"},
        {"workload": "churn"},
        {"workload": "idle", "silent": 4},
        {"workload": "stream", "depth": 2},
        {"workload": "slow", "trickle_bytes": 16, "trickle_hz": 500},
        {"sizes": [[64, 1]]},
    ],
    ids=lambda job: str(job.get("workload", "sizes")),
)
def test_a_worker_serves_every_workload_until_it_is_told_to_stop(job: dict[str, Any]) -> None:
    with peer() as server:
        events = events_of(server, {"connections": 2, "message_bytes": 64, "duration_s": 0.2, **job}, "window_closed")
    result = events[-1]["load"]
    assert result["completed"] > 0
    assert result["errors"] == {}
