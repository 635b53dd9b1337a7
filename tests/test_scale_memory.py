"""Memory per connection: what a server's own pages grow by, whatever its processes share."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from driving import strategy
from echo_client import Client
from synthetic import manifest, record, server

from bench.analyse import analyse
from bench.probes import memory
from bench.probes.memory import MemoryProbe, anonymous_bytes
from bench.record import Record, Run

MIB = 1 << 20


def in_a_child(work: Callable[[], object]) -> tuple[int, int]:
    """Fork a child that has done its work and waits; its pid, and the descriptor whose closing ends it."""
    done, doing = os.pipe()
    waiting, ending = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ending)
        kept = work()
        os.write(doing, b"!")
        os.read(waiting, 1)
        os._exit(kept is None)
    os.close(doing)
    os.close(waiting)
    assert os.read(done, 1) == b"!"
    os.close(done)
    return pid, ending


def touched(size: int) -> mmap.mmap:
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.write(b"x" * size)
    return pages


def test_memory_that_was_touched_counts() -> None:
    before = anonymous_bytes("self")
    pages = touched(32 * MIB)
    assert 31 * MIB < anonymous_bytes("self") - before < 40 * MIB
    pages.close()


def test_a_page_that_a_fork_shares_counts_once_in_all() -> None:
    pages = touched(32 * MIB)
    probe = MemoryProbe()
    probe.start([os.getpid()])
    pid, ending = in_a_child(lambda: None)
    found = probe.stop()
    os.close(ending)
    os.waitpid(pid, 0)
    pages.close()
    assert found["anon_bytes"] - found["anon_start_bytes"] < 16 * MIB  # not another 32


def test_memory_of_a_child_counts_too() -> None:
    probe = MemoryProbe()
    probe.start([os.getpid()])
    pid, ending = in_a_child(lambda: touched(32 * MIB))
    found = probe.stop()
    os.close(ending)
    os.waitpid(pid, 0)
    assert found["anon_bytes"] - found["anon_start_bytes"] > 31 * MIB


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
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "smaps_rollup").write_text("Rss: 1 kB\nPss: 1 kB\n")
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
