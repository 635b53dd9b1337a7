"""What the process probe reads, checked against what the test does or what the kernel says elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from spawn import eventually

from bench.probes import process
from bench.probes.process import ProcessProbe, children, process_cpu_ns, thread_switches, thread_turns, with_children

# Does what each line on its standard input says, and answers each with a line.
PUPPET = """
import os, sys, threading, time
for line in sys.stdin:
    word = line.strip()
    if word == "burn":
        until = time.process_time() + 0.05
        while time.process_time() < until: pass
    elif word == "sleep":  # a nap that is over before it began is no switch, so fewer are asked for
        for _ in range(50): time.sleep(0.0001)
    elif word == "thread":
        event = threading.Event()
        threading.Thread(target=event.wait, daemon=True).start()
    elif word == "short thread":
        gate = threading.Event()
        short = threading.Thread(target=gate.wait)
        short.start()
    elif word == "end it":
        gate.set()
        short.join()
    elif word == "fork" and os.fork() == 0:
        time.sleep(3600)
    elif word == "open":
        kept = [os.dup(0) for _ in range(7)]
    print("done", flush=True)
"""


class Puppet:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def do(self, word: str) -> None:
        self.begin(word)
        self.finish()

    def begin(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "done\n"


@contextmanager
def puppets(number: int = 1) -> Iterator[list[Puppet]]:
    started = [
        subprocess.Popen([sys.executable, "-c", PUPPET], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(number)
    ]
    try:
        yield [Puppet(one) for one in started]
    finally:
        for one in started:
            for child in psutil.Process(one.pid).children() if one.poll() is None else []:
                child.kill()
            one.kill()
            with one:
                pass


@pytest.fixture
def puppet() -> Iterator[Puppet]:
    with puppets() as (one,):
        one.do("nothing")  # it has started
        yield one


@pytest.fixture
def probe(puppet: Puppet) -> ProcessProbe:
    probe = ProcessProbe()
    assert probe.unavailable() is None
    probe.start([puppet.pid])
    return probe


def test_cpu_time_is_what_the_process_used_between_start_and_stop(puppet: Puppet, probe: ProcessProbe) -> None:
    puppet.do("burn")
    metrics = probe.stop()
    assert 50e6 <= metrics["cpu_ns"] <= probe.closed_ns - probe.opened_ns
    assert probe.missing == {}


def test_user_and_system_time_are_a_split_of_it_in_clock_ticks(puppet: Puppet, probe: ProcessProbe) -> None:
    puppet.do("burn")
    metrics = probe.stop()
    tick_ns = 1e9 / os.sysconf("SC_CLK_TCK")
    assert abs(metrics["cpu_user_ns"] + metrics["cpu_system_ns"] - metrics["cpu_ns"]) <= 4 * tick_ns


def test_the_process_cpu_clock_is_the_one_that_the_process_reads_itself() -> None:
    before = time.process_time_ns()
    read = process_cpu_ns(os.getpid())
    assert before <= read <= time.process_time_ns()


def test_the_clock_of_a_process_that_has_gone_is_missing_with_the_reason() -> None:
    with puppets() as (puppet,):
        puppet.do("nothing")
        probe = ProcessProbe()
        probe.start([puppet.pid])
    metrics = probe.stop()
    assert metrics["processes"] == 0
    with pytest.raises(OSError):
        process_cpu_ns(puppet.pid)


def test_context_switches_of_all_threads_are_counted(puppet: Puppet, probe: ProcessProbe) -> None:
    puppet.do("sleep")
    first = probe.stop()["switches_voluntary"]
    assert first >= 25
    probe.start([puppet.pid])
    puppet.do("thread")
    assert probe.stop()["threads"] == 2


def test_switches_of_threads_beside_the_main_one_count() -> None:
    naps = 40
    done = threading.Event()
    go_on = threading.Event()

    def nap() -> None:
        for _ in range(naps):
            time.sleep(0.0001)
        done.set()
        go_on.wait()

    thread = threading.Thread(target=nap)
    thread.start()
    done.wait()
    switches = thread_switches(os.getpid())
    go_on.set()
    thread.join()
    assert thread.native_id is not None
    assert switches[thread.native_id].voluntary >= naps / 2


def test_switches_are_missing_where_a_thread_ended_and_took_them_along(puppet: Puppet) -> None:
    puppet.do("short thread")
    probe = ProcessProbe()
    probe.start([puppet.pid])
    puppet.do("end it")
    metrics = probe.stop()
    assert "switches_voluntary" not in metrics
    assert probe.missing["switches_involuntary"] == process.THREADS_ENDED


def waits_on_one_cpu(some: list[Puppet]) -> dict[str, float]:
    """Both want 50 ms of the same CPU at the same time, or nearly so."""
    probe = ProcessProbe()
    probe.start([one.pid for one in some])
    for one in some:
        one.begin("burn")
    for one in some:
        one.finish()
    metrics = probe.stop()
    assert metrics["thread_demand_ns"] <= 1.05 * (probe.closed_ns - probe.opened_ns)
    return metrics


def test_two_that_share_a_cpu_wait_for_one_another() -> None:
    cpu = min(os.sched_getaffinity(0))
    with puppets(2) as some:
        for one in some:
            os.sched_setaffinity(one.pid, {cpu})
            one.do("nothing")
        tries = [waits_on_one_cpu(some) for _ in range(5)]
    assert (
        max(metrics["runqueue_wait_ns"] for metrics in tries) >= 20e6
    )  # one of them may be done before the other begins
    assert max(metrics["thread_demand_ns"] for metrics in tries) >= 70e6


def test_the_demand_is_that_of_the_busiest_thread_of_all_processes() -> None:
    with puppets(2) as some:
        for one in some:
            one.do("nothing")
        probe = ProcessProbe()
        probe.start([one.pid for one in some])
        for one in some:
            one.do("burn")
        metrics = probe.stop()
    assert 50e6 <= metrics["thread_demand_ns"] <= metrics["cpu_ns"] + metrics["runqueue_wait_ns"]


def test_a_kernel_that_keeps_no_account_of_waits_is_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = tmp_path / "7" / "task" / "7"
    task.mkdir(parents=True)
    (task / "schedstat").write_text("0 0 0\n")
    monkeypatch.setattr(process, "PROC", tmp_path)
    with pytest.raises(ValueError, match="the kernel keeps no run-queue wait"):
        thread_turns(7)
    (task / "schedstat").write_text("5 8 1\n")
    assert thread_turns(7) == {7: (5, 8)}


def test_children_are_counted_with_their_parent(puppet: Puppet, probe: ProcessProbe) -> None:
    alone = probe.stop()
    probe.start([puppet.pid])
    puppet.do("fork")
    both = probe.stop()
    assert (alone["processes"], both["processes"]) == (1, 2)
    assert both["threads"] == 2
    assert both["descriptors"] == 2 * alone["descriptors"]


def test_several_processes_are_added_up() -> None:
    with puppets(3) as some:
        for one in some:
            one.do("nothing")
        probe = ProcessProbe()
        probe.start([one.pid for one in some])
        for one in some:
            one.do("burn")
        metrics = probe.stop()
    assert metrics["cpu_ns"] >= 150e6
    assert metrics["processes"] == 3


def test_threads_descriptors_and_memory_are_as_the_kernel_says(puppet: Puppet, probe: ProcessProbe) -> None:
    before = probe.stop()["descriptors"]
    probe.start([puppet.pid])
    puppet.do("open")
    metrics = probe.stop()
    assert metrics["descriptors"] == before + 7
    assert metrics["rss_bytes"] == psutil.Process(puppet.pid).memory_info().rss
    assert metrics["rss_peak_bytes"] >= metrics["rss_bytes"] > 0


def test_children_are_found_where_the_kernel_does_not_list_them(
    puppet: Puppet, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    puppet.do("fork")
    with_the_list = children(puppet.pid)
    monkeypatch.setattr(process, "PROC", tmp_path)
    assert children(puppet.pid) == with_the_list != []


def test_without_proc_switches_come_from_psutil_and_the_peak_is_missing(
    puppet: Puppet, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr(process, "PROC", tmp_path)
    probe = ProcessProbe()
    probe.start([puppet.pid])
    puppet.do("sleep")
    metrics = probe.stop()
    assert metrics["switches_voluntary"] >= 25
    assert "rss_peak_bytes" in probe.missing


def test_a_process_that_has_gone_has_no_family() -> None:
    with puppets() as (puppet,):
        puppet.do("nothing")
    assert eventually(lambda: with_children([puppet.pid]) == [])
    assert children(puppet.pid) == []
