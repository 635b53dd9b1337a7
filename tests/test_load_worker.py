"""The warm load process: jobs in, events out, and how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peers
import pytest
from peers import peer

from bench.events import readable
from clients.worker import Inbox

WAIT_S = 60


class Worker:
    """A load process on two pipes."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-W", "error", "-m", "clients", "--worker", *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )

    def tell(self, line: dict[str, Any] | str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((line if isinstance(line, str) else json.dumps(line)) + "\n")

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.complaints()
        return dict(json.loads(line))

    def complaints(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def end(self) -> int:
        """Close its standard input, which ends it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None  # communicate() would flush it
        return self.process.wait(WAIT_S)


@contextmanager
def worker(*arguments: str) -> Iterator[Worker]:
    running = Worker(*arguments)
    try:
        ready = running.hear()
        assert ready == {"event": "ready", "pid": running.process.pid, "note": ""}
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


@pytest.fixture(scope="module")
def warm() -> Iterator[Worker]:
    """One worker for all the tests that leave it alive."""
    with worker() as running:
        yield running
        assert running.end() == 0
        assert running.complaints() == ""


def job(name: str, server: peers.Peer, **options: Any) -> dict[str, Any]:
    defaults = {"workload": "closed", "connections": 4, "message_bytes": 64, "warmup_s": 0.0, "duration_s": 0.1}
    return {"job": name, "address": server.address, **defaults, **options}


def test_a_job_is_answered_by_its_events_in_order(warm: Worker) -> None:
    with peer() as server:
        warm.tell(job("one", server, seed=5, timeout_s=5))
        connected, opened, closed = (warm.hear() for _ in range(3))
        warm.tell({"stop": "one"})
        result = warm.hear()
    assert {key: connected[key] for key in ("event", "job", "connections", "refused")} == {
        "event": "connected",
        "job": "one",
        "connections": 4,
        "refused": 0,
    }
    assert connected["connect_ns"] > 0
    assert (opened["event"], closed["event"], result["event"]) == ("window_opened", "window_closed", "result")
    assert {event["job"] for event in (connected, opened, closed, result)} == {"one"}
    assert result["load"]["opened_ns"] == opened["monotonic_ns"]
    assert result["load"]["closed_ns"] == closed["monotonic_ns"]
    assert result["load"]["completed"] > 0
    assert result["load"]["errors"] == {}


def after_each(running: Worker, jobs: int, duration_s: float, look: Callable[[Path], int]) -> list[int]:
    """Let a worker serve short jobs; look at its place in /proc after each."""
    seen = []
    with peer() as server:
        for number in range(jobs):
            running.tell(job(str(number), server, duration_s=duration_s))
            running.tell({"stop": str(number)})
            while running.hear()["event"] != "result":
                pass
            seen.append(look(Path(f"/proc/{running.process.pid}")))
    return seen


def test_one_worker_serves_job_after_job_and_leaves_no_descriptor_behind(warm: Worker) -> None:
    counts = after_each(warm, 5, 0.02, lambda proc: len(list((proc / "fd").iterdir())))
    assert len(set(counts)) == 1


def test_job_after_job_takes_no_more_memory_than_the_first_ones() -> None:
    def held_kib(proc: Path) -> int:
        return int((proc / "status").read_text().partition("RssAnon:")[2].split()[0])

    with worker() as running:
        held = after_each(running, 60, 0.005, held_kib)
    assert max(held) - min(held) < 6 * 1024  # half a mebibyte a job, if it waited for the collector's own time


def test_a_stop_ends_the_window_early(warm: Worker) -> None:
    with peer() as server:
        warm.tell(job("long", server, duration_s=1000))
        assert [warm.hear()["event"] for _ in range(2)] == ["connected", "window_opened"]
        warm.tell({"stop": "long"})
        assert [warm.hear()["event"] for _ in range(2)] == ["window_closed", "result"]


def test_without_a_stop_the_load_ends_by_itself(warm: Worker) -> None:
    with peer() as server:
        warm.tell(job("alone", server))
        events = [warm.hear()["event"] for _ in range(4)]
    assert events == ["connected", "window_opened", "window_closed", "result"]


def test_a_stop_that_comes_late_or_names_another_job_harms_nothing(warm: Worker) -> None:
    with peer() as server:
        warm.tell({"stop": "over long ago"})
        warm.tell(job("next", server))
        warm.tell({"stop": "somebody else"})
        events = [warm.hear()["event"] for _ in range(4)]
    assert events == ["connected", "window_opened", "window_closed", "result"]


def test_a_job_sent_during_another_waits_for_its_turn(warm: Worker) -> None:
    with peer() as server:
        warm.tell(job("first", server))
        warm.tell(job("second", server))
        warm.tell({"stop": "first"})
        warm.tell({"stop": "second"})
        heard = [warm.hear() for _ in range(8)]
    assert [event["job"] for event in heard] == ["first"] * 4 + ["second"] * 4


def test_a_held_job_waits_with_its_connections_open_until_it_may_go(warm: Worker) -> None:
    with peer() as server:
        warm.tell(job("held", server, hold=True))
        assert warm.hear()["event"] == "connected"
        warm.tell({"go": "somebody else"})
        assert warm.process.stdout is not None
        assert not readable(warm.process.stdout.fileno(), 0.2)
        warm.tell({"go": "held"})
        events = [warm.hear() for _ in range(3)]
    assert [event["event"] for event in events] == ["window_opened", "window_closed", "result"]
    assert events[-1]["load"]["completed"] > 0


@pytest.mark.parametrize("workload", ["closed", "churn"])
def test_a_held_job_that_is_called_off_is_answered_by_a_reason_and_leaves_nothing_open(
    warm: Worker, workload: str
) -> None:
    with peer() as server:
        warm.tell(job("off", server, hold=True, workload=workload))
        assert warm.hear()["event"] == "connected"
        warm.tell({"stop": "off"})
        answer = warm.hear()
        assert (answer["event"], answer["reason"]) == ("failed", "it was called off before it had begun")
        warm.tell(job("next", server))
        assert [warm.hear()["event"] for _ in range(4)][-1] == "result"


def test_a_job_that_cannot_be_run_is_answered_by_a_reason(warm: Worker) -> None:
    with peers.nobody() as address:
        warm.tell({"job": "x", "address": address, "connections": 2, "message_bytes": 1, "duration_s": 1})
        answer = warm.hear()
    assert (answer["event"], answer["job"]) == ("failed", "x")
    assert "Connection refused" in answer["reason"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("not json", "not JSON"),
        ("[1]", "not a JSON object"),
        ({"job": "y"}, "missing"),
        ({"job": "y", "address": "nowhere", "connections": 1, "message_bytes": 1, "duration_s": 1}, "not an address"),
        ({"job": "y", "surprise": 1}, "unknown key 'surprise'"),
    ],
)
def test_a_line_that_is_no_job_is_answered_by_a_reason(
    warm: Worker, line: dict[str, Any] | str, complaint: str
) -> None:
    warm.tell(line)
    answer = warm.hear()
    assert answer["event"] == "failed"
    assert complaint in answer["reason"]


def test_a_job_whose_connections_all_fail_in_the_warm_up_is_answered_by_a_reason(warm: Worker) -> None:
    with peer(fault=peers.close, at=0) as server:
        warm.tell(job("refused", server, warmup_s=100))
        assert warm.hear()["event"] == "connected"
        answer = warm.hear()
    assert answer["event"] == "failed"
    assert "refused 4" in answer["reason"]


def test_a_job_whose_connections_all_fail_in_the_window_ends_early_with_a_result(warm: Worker) -> None:
    with peer(fault=peers.flip_middle) as server:
        warm.tell(job("wrong", server, duration_s=1000))
        events = [warm.hear() for _ in range(4)]
    assert events[-1]["event"] == "result"
    assert events[-1]["load"]["errors"] == {"corrupt": 4}


def test_end_of_file_ends_the_worker_between_jobs() -> None:
    with worker() as running:
        assert running.end() == 0
        assert running.complaints() == ""


@pytest.mark.parametrize("events_heard", [1, 2, 3])
def test_end_of_file_ends_the_worker_in_mid_job(events_heard: int) -> None:
    with peer() as server, worker() as running:
        running.tell(job("cut", server, duration_s=0.2 if events_heard == 3 else 1000))
        for _ in range(events_heard):
            running.hear()
        assert running.end() == 0
        assert running.complaints() == ""


@pytest.mark.parametrize("in_job", [False, True])
def test_sigterm_ends_the_worker_without_a_traceback(in_job: bool) -> None:
    with peer() as server, worker() as running:
        if in_job:
            running.tell(job("cut", server, duration_s=1000))
            running.hear()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(WAIT_S) == 0
        assert running.complaints() == ""


def test_a_worker_hears_on_a_descriptor_that_select_could_not_watch() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reading, writing = os.pipe()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048) if hard < 0 else min(max(soft, 2048), hard), hard))
        high = fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, 1500)
    except OSError as error:
        pytest.skip(f"no descriptor beyond 1,024 is allowed here: {error}")
    try:
        inbox = Inbox(high)
        assert not inbox.told_to_stop("x")
        os.write(writing, b'{"go": "x"}\n{"stop": "x"}\n')
        assert inbox.told_to_stop("x")
        assert not inbox.await_go("x")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in (reading, writing, high):
            os.close(fd)


def test_sigint_is_left_to_the_runner() -> None:
    with peer() as server, worker() as running:
        running.tell(job("on", server, duration_s=1000))
        running.hear()
        running.process.send_signal(signal.SIGINT)
        assert running.hear()["event"] == "window_opened"
        running.process.send_signal(signal.SIGINT)
        running.tell({"stop": "on"})
        assert [running.hear()["event"] for _ in range(2)] == ["window_closed", "result"]
        assert running.end() == 0


def test_a_worker_whose_listener_has_gone_ends_quietly() -> None:
    with peer() as server, worker() as running:
        assert running.process.stdout is not None
        running.process.stdout.close()
        running.tell(job("unheard", server))
        assert running.process.wait(WAIT_S) == 0
        assert running.complaints() == ""
        running.process.stdout = None


def test_a_worker_runs_on_the_cpus_that_it_is_given() -> None:
    cpu = min(os.sched_getaffinity(0))
    with worker("--cpus", str(cpu)) as running:
        assert os.sched_getaffinity(running.process.pid) == {cpu}
