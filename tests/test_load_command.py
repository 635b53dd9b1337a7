"""`python -m clients ADDRESS`: the load generator by itself, what it prints and with which code it exits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import peers
import pytest
from peers import peer

from clients import histogram
from clients.job import Job, Load
from clients.objective import client_bound
from clients.summary import describe, percentiles

WAIT_S = 60


def load(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "clients", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)


def quick(server: peers.Peer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return load(server.address, "-c", "4", "-s", str(server.message_bytes), "-d", "0.5", "--warmup", "0", *arguments)


@pytest.mark.parametrize("transport", ["tcp", "unix", "pipe"])
def test_a_good_server_gets_a_readable_summary_and_code_0(transport: str) -> None:
    with peer(transport) as server:
        done = quick(server)
    assert (done.returncode, done.stderr) == (0, "")
    for word in (server.address, "4 connections", "64 bytes", "messages/s", "MB/s", "p50", "max", "errors    none"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json_holds_the_whole_load_and_what_follows_from_it() -> None:
    with peer() as server:
        done = quick(server, "--json", "--seed", "7", "--timeout", "5")
    answer = json.loads(done.stdout)
    assert answer["job"]["seed"] == 7
    assert answer["load"]["completed"] > 0
    assert answer["messages_per_s"] == pytest.approx(answer["load"]["completed"] / answer["window_s"])
    assert answer["service_ns"]["min"] <= answer["service_ns"]["max"]
    assert answer["client_bound"] in (True, False)


@pytest.mark.parametrize(
    ("fault", "kind"), [(peers.flip_middle, "corrupt"), (peers.duplicate, "duplicated"), (peers.close, "closed")]
)
def test_a_faulty_server_is_named_by_its_fault_and_gets_code_1(fault: peers.Fault, kind: str) -> None:
    with peer(fault=fault) as server:
        done = quick(server)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"errors    {kind} 4" in done.stdout


def test_a_server_that_never_answers_gets_a_sentence_and_code_1() -> None:
    with peer(fault=peers.stall, at=0) as server:
        done = quick(server)
    assert (done.returncode, done.stderr) == (1, "")
    assert "errors    No message was completed." in done.stdout
    assert "4 of 4 connections had no echo in the window." in done.stdout
    assert "none" not in done.stdout
    assert "time to spare" not in done.stdout


def test_connections_that_are_never_answered_beside_others_that_are_get_a_sentence_and_code_1() -> None:
    with peer(fault=peers.stall, at=0, on=(1, 3)) as server:
        done = quick(server)
    assert (done.returncode, done.stderr) == (1, "")
    assert "errors    2 of 4 connections had no echo in the window." in done.stdout


def test_json_says_what_no_message_tells() -> None:
    with peer(fault=peers.stall, at=0, on=(1,)) as server:
        done = quick(server, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["failed"], answer["load"]["mute"]) == (1, 0, 1)
    assert answer["faults"] == ["1 of 4 connections had no echo in the window."]


def test_a_server_that_refuses_everybody_gets_code_1() -> None:
    with peer(fault=peers.close, at=0) as server:
        done = load(server.address, "-c", "4", "-d", "1", "--warmup", "60")
    assert done.returncode == 1
    assert "refused 4" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def refused(*arguments: str) -> str:
    done = load(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_an_address_where_nobody_listens_is_bad_input_with_the_next_command_to_type() -> None:
    with peers.nobody() as address:
        complaint = refused(address)
    assert "Connection refused" in complaint
    assert f"python -m servers epoll_lt {address}" in complaint


def test_a_text_that_is_no_address_is_bad_input() -> None:
    assert "expected tcp:HOST:PORT" in refused("localhost")


def test_a_host_that_does_not_exist_is_bad_input() -> None:
    assert "No connection could be opened" in refused("tcp:no-such-host.invalid:80")
    assert "an..impossible.name" in refused("tcp:an..impossible.name:80")


def test_values_out_of_range_are_bad_input() -> None:
    assert "connections" in refused("tcp:127.0.0.1:1", "-c", "0")
    assert "message_bytes" in refused("tcp:127.0.0.1:1", "-s", "-5")
    assert "invalid int value" in refused("tcp:127.0.0.1:1", "-c", "many")


def test_neither_an_address_nor_worker_is_bad_input() -> None:
    assert "name an address" in refused()


def test_cpus_that_do_not_exist_are_bad_input() -> None:
    assert "CPUs [5000]" in refused("--worker", "--cpus", "5000")
    assert "--cpus" in refused("--worker", "--cpus", "first")


def test_ctrl_c_ends_early_with_what_there_is() -> None:
    with peer() as server:
        command = [sys.executable, "-m", "clients", server.address, "-c", "2", "-d", "1000", "--warmup", "0"]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        server.wrongs = 1
        while server.echoed < 100 and running.poll() is None:
            os.sched_yield()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=WAIT_S)
    assert (running.returncode, err) == (0, "")
    assert "messages/s" in out


def a_load(samples: int, busy: float = 0.5) -> Load:
    counts = histogram.empty()
    counts[1000] = samples
    return Load(
        opened_ns=0,
        closed_ns=1_000_000_000,
        connections=1,
        planned=samples,
        completed=samples,
        errors={},
        timed_out=0,
        unsent=0,
        in_flight=0,
        bytes_echoed=samples,
        interval_ns=100_000_000,
        intervals=[samples],
        service_hdr=histogram.encode(counts),
        cpu_user_ns=1,
        cpu_system_ns=1,
        worker_busy=[busy],
    )


JOB = Job(address="tcp:127.0.0.1:1", connections=1, message_bytes=1, duration_s=1.0)


@pytest.mark.parametrize(("level", "needed"), [("p99", 726), ("p99.9", 7_289), ("p99.99", 72_928)])
def test_a_percentile_is_not_given_below_the_number_of_samples_that_it_needs(level: str, needed: int) -> None:
    assert percentiles(a_load(needed).service_hdr)[level] == 1000
    assert percentiles(a_load(needed - 1).service_hdr)[level] is None
    assert f"too few samples for {level}" in describe(JOB, a_load(needed - 1))


def test_a_run_without_a_single_echo_is_described_too() -> None:
    assert "0 messages/s" in describe(JOB, a_load(0))


def test_a_load_thread_that_had_no_time_left_is_named_the_bottleneck() -> None:
    assert not client_bound(a_load(10, busy=0.79))
    assert client_bound(a_load(10, busy=0.8))
    assert "The client was the bottleneck" in describe(JOB, a_load(10, busy=0.95))
    assert "time to spare" in describe(JOB, a_load(10, busy=0.2))


@pytest.mark.parametrize("ns", [1, 999, 1_000, 999_999, 1_000_000, 12_345_678, 999_999_999, 1_000_000_000_000])
def test_the_summary_fits_into_80_columns_whatever_the_figures(ns: int) -> None:
    many = a_load(10**9)
    many.errors.update(dict.fromkeys(("corrupt", "reset", "closed", "refused", "duplicated", "extra", "short"), 10**8))
    counts = histogram.empty()
    histogram.count_all(counts, np.full(100_000, ns))
    wide = Load(**{**many.__dict__, "service_hdr": histogram.encode(counts)})
    assert max(map(len, describe(JOB, wide).splitlines())) <= 80
    hardly = replace(wide, errors={}, completed=0, connections=1_000_000, mute=1_000_000)
    assert max(map(len, describe(JOB, hardly).splitlines())) <= 80
