"""Memory per connection: what a server's own pages grow by, whatever its processes share."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from driving import strategy
from echo_client import Client
from synthetic import manifest, record, server

from bench.analyse import analyse
from bench.probes import memory
from bench.probes.memory import MemoryProbe
from bench.record import Record, Run

MIB = 1 << 20


FAMILY = """
import mmap, os, sys

def touched():
    pages = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.write(b"x" * (32 << 20))
    return pages

pages = touched()
print("alone", flush=True)
os.read(0, 1)
if os.fork() == 0:
    more = touched() if sys.argv[1] == "more" else None
    print("two", flush=True)
os.read(0, 1)
"""


def grown_by_a_fork(what: str) -> float:
    """MiB that a process of 32 MiB grows by, children included, when it forks one that touches as much, or nothing."""
    probe = MemoryProbe()
    command = [sys.executable, "-c", FAMILY, what]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"alone\n"
        probe.start([process.pid])
        process.stdin.write(b"!")
        assert process.stdout.readline() == b"two\n"
        found = probe.stop()
        process.stdin.close()
    assert found["anon_start_bytes"] > 32 * MIB
    return (found["anon_bytes"] - found["anon_start_bytes"]) / MIB


def test_a_page_that_a_fork_shares_counts_once_in_all() -> None:
    assert grown_by_a_fork("nothing") < 8


def test_memory_of_a_child_counts_too() -> None:
    assert 31 < grown_by_a_fork("more") < 40


def test_connections_cost_a_server_of_threads_more_memory_than_one_of_epoll() -> None:
    grown = {}
    for name in ("epoll_lt", "thread_per_connection"):
        with strategy(name, "tcp") as running:
            probe = MemoryProbe()
            probe.start([running.process.pid])
            clients = [Client(running.address) for _ in range(100)]
            assert all(client.echo(b"hello") == b"hello" for client in clients)
            found = probe.stop()
            for client in clients:
                client.close()
        grown[name] = found["anon_bytes"] - found["anon_start_bytes"]
    assert grown["thread_per_connection"] > 2 * grown["epoll_lt"]


def test_without_a_process_of_ours_there_is_nothing_to_read() -> None:
    probe = MemoryProbe()
    probe.start([])
    assert probe.stop() == {} and probe.missing == {}


def test_a_kernel_that_does_not_tell_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path)
    for pid in ("self", str(os.getpid())):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "smaps_rollup").write_text("Rss: 1 kB\nPss: 1 kB\n")
    assert MemoryProbe().unavailable() == "the kernel tells no Pss_Anon in /proc/PID/smaps_rollup"
    probe = MemoryProbe()
    probe.start([os.getpid()])
    assert probe.stop() == {}
    assert set(probe.missing) == {"anon_start_bytes", "anon_bytes"}


def kib_per_connection(one: Record) -> float:
    trials = analyse(Run(folder=Path("run"), manifest=manifest(["poll"]), records=[one])).trials
    return float(trials["connection_kib"].iloc[0])


def test_growth_is_shared_out_to_all_connections_silent_ones_too() -> None:
    metrics = {"cpu_ns": 1e9, "anon_start_bytes": 5 * MIB, "anon_bytes": 15 * MIB}
    seen = server(1000, 10, 0.5, metrics=metrics)
    assert kib_per_connection(record("poll", 1, workload="idle", silent=999, server=seen)) == 10 * 1024 / 1000
    assert kib_per_connection(record("poll", 10_000, server=seen)) == 10 * 1024 / 10_000


def test_among_few_connections_nothing_is_shared_out() -> None:
    assert math.isnan(kib_per_connection(record("poll", 16)))
