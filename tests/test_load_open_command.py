"""`python -m clients` in an open loop, with several messages outstanding, several threads, files, and a search."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import peers
import pytest
from driving import drive
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from peers import peer

from clients import histogram
from clients.job import Job, Load
from clients.summary import describe

WAIT_S = 60


def load(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "clients", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)


def quick(server: peers.Peer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return load(server.address, "-c", "4", "-s", str(server.message_bytes), "-d", "0.2", "--warmup", "0", *arguments)


def test_an_open_loop_gets_response_and_service_times_lag_and_both_rates() -> None:
    with peer() as server:
        done = quick(server, "--open", "1000", "--poisson", "--cap", "50")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    for words in (
        "open loop, poisson arrivals, at most 50 outstanding, 4 connections",
        "response time, from the planned send",
        "service time, from the write",
        "lag, from the planned send to the write",
        "errors none",
        "epoll_",
    ):
        assert words in text
    assert re.search(r"rate +[\d,]+ messages/s of [\d,]+ planned, ", done.stdout)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_closed_loop_speaks_of_no_plan() -> None:
    with peer() as server:
        done = quick(server, "--depth", "3", "--threads", "2")
    assert done.returncode == 0
    assert "3 messages outstanding on each connection" in " ".join(done.stdout.split())
    assert "2 threads" in " ".join(done.stdout.split())
    for word in ("planned", "lag", "response"):
        assert word not in done.stdout


def test_json_holds_all_three_times_of_an_open_loop() -> None:
    with peer() as server:
        answer = json.loads(quick(server, "--open", "2000", "--json").stdout)
    assert answer["job"]["workload"] == "open"
    assert answer["load"]["offered_hz"] == pytest.approx(2000, rel=0.02)
    for name in ("service_ns", "response_ns", "lag_ns"):
        assert answer[name]["min"] <= answer[name]["max"]


def test_hlog_and_hgrm_are_written(tmp_path: Path) -> None:
    hlog, hgrm = tmp_path / "x.hlog", tmp_path / "x.hgrm"
    with peer() as server:
        answer = json.loads(quick(server, "--open", "2000", "--json", "--hlog", str(hlog), "--hgrm", str(hgrm)).stdout)
    total = HdrHistogram(1, histogram.HIGHEST_NS, 3)
    reader = HistogramLogReader(str(hlog), total)
    while reader.add_next_interval_histogram() is not None:
        pass
    reader.close()
    assert histogram.encode(histogram.from_hdr(total)) == answer["load"]["response_hdr"]
    assert f"TotalCount     = {answer['load']['completed']:>12.3f}" in hgrm.read_text()


def test_a_file_that_cannot_be_written_is_bad_input() -> None:
    with peer() as server:
        done = quick(server, "--hgrm", "/nowhere/x.hgrm")
    assert done.returncode == 2
    assert done.stderr == "/nowhere/x.hgrm can't be written.\nTry: ls -ld /nowhere\n"


def test_a_search_prints_each_step_and_the_answer_with_its_bracket() -> None:
    """A limit of 100 s holds at any rate that a peer can do nearly all of in the window."""
    with peer() as server:
        done = quick(server, "--slo", "p50<100s", "--open", "4000000")
    lines, said = done.stdout.splitlines(), " ".join(done.stdout.split())
    assert "the highest rate that holds p50 < 100 s" in lines[0]
    assert "messages/s" in lines[1]
    assert lines[2].split()[0] == lines[3].split()[0] == "4,000,000"  # what did not hold is tried again
    assert all("missed" in line or "unknown: the client" in line for line in lines[2:4])
    if done.returncode == 0:
        assert any(line.endswith("held") for line in lines)
        assert "and no longer at" in said or "the client was too slow" in said
    else:  # on a machine without a moment's rest
        assert done.returncode == 1
        assert "No rate was found that " in said
    assert max(map(len, lines)) <= 80


def test_a_search_begins_near_what_a_closed_loop_comes_to() -> None:
    with peer() as server:
        done = quick(server, "--slo", "p50<1us", "--json")
    answer = json.loads(done.stdout)
    first = answer["steps"][0]
    assert first["rate_hz"] > 50  # half of what a peer in Python does, some thousands
    assert {"verdict", "value_ns", "reason"} <= first.keys()
    assert answer["objective"] == {"level": "p50", "limit_ns": 1000}


def test_a_search_at_a_server_that_never_answers_says_so() -> None:
    with peer(fault=peers.stall, at=0) as server:
        done = quick(server, "--slo", "p99<5ms")
    assert done.returncode == 1
    assert "no message was completed" in " ".join(done.stderr.split())


def test_a_search_in_json_holds_the_steps() -> None:
    with peer(fault=peers.close, at=0) as server:
        done = quick(server, "--slo", "p99<1us", "--json")
    assert done.returncode == 1
    if done.stdout:  # else every connection was lost before the first window opened
        answer = json.loads(done.stdout)
        assert answer["objective"] == {"level": "p99", "limit_ns": 1000}
        assert {step["verdict"] for step in answer["steps"]} == {"missed"}


def refused(*arguments: str) -> str:
    done = load(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_what_makes_no_sense_is_bad_input() -> None:
    somewhere = "tcp:127.0.0.1:1"
    assert "is no objective" in refused(somewhere, "--slo", "fast")
    assert "write --hlog or --hgrm in a run of its own" in refused(somewhere, "--slo", "p99<5ms", "--hlog", "x")
    assert "--poisson is about planned messages" in refused(somewhere, "--poisson")
    assert "cap means nothing to workload 'closed'" in refused(somewhere, "--cap", "5")
    assert "depth means nothing to workload 'open'" in refused(somewhere, "--open", "5", "--depth", "2")
    assert "rate_hz must be between" in refused(somewhere, "--open", "-5")
    assert "there can't be more threads than connections" in refused(somewhere, "-c", "2", "--threads", "3")
    assert "workload 'sideways' is not known" in refused(somewhere, "--workload", "sideways")


JOB = Job(address="tcp:127.0.0.1:1", connections=1, message_bytes=1, duration_s=1.0, workload="open", rate_hz=1000.0)


@pytest.fixture(scope="module")
def a_load() -> Load:
    with peer("tcp", 64) as server:
        return drive(server, "open", rate_hz=500.0, duration_s=0.05)


def times(ns: int, number: int = 1000) -> str:
    counts = histogram.empty()
    histogram.count_all(counts, np.full(number, ns))
    return histogram.encode(counts)


def test_a_schedule_that_was_not_kept_is_told(a_load: Load) -> None:
    late = replace(a_load, lag_hdr=times(2_000_000), response_hdr=times(5_000_000))
    assert "It sent late, by 2 ms at p99" in describe(JOB, late)
    assert "sent late" not in describe(JOB, replace(late, lag_hdr=times(90_000)))
    assert "sent late" not in describe(JOB, replace(late, response_hdr=times(50_000_000)))


def test_waiting_under_a_cap_is_not_called_late(a_load: Load) -> None:
    late = replace(a_load, lag_hdr=times(2_000_000), response_hdr=times(5_000_000))
    assert "sent late" not in describe(replace(JOB, cap=3), late)


@pytest.mark.parametrize("ns", [1, 999_999, 12_345_678, 999_999_999, 1_000_000_000_000])
def test_the_summary_of_an_open_loop_fits_into_80_columns_whatever_the_figures(a_load: Load, ns: int) -> None:
    many = 10**12
    text = times(ns, 100_000)
    wide = replace(
        a_load,
        planned=many,
        completed=many,
        unsent=many,
        in_flight=many,
        bytes_echoed=many,
        rounds=many,
        connects=many,
        threads=1000,
        offered_hz=1e9,
        worker_busy=[1.0] * 1000,
        errors=dict.fromkeys(("corrupt", "reset", "closed", "refused", "duplicated", "extra"), many),
        service_hdr=text,
        response_hdr=text,
        lag_hdr=text,
        connect_hdr=text,
    )
    job = replace(JOB, arrivals="poisson", cap=10**8, connections=10**6, message_bytes=1 << 30)
    assert max(map(len, describe(job, wide).splitlines())) <= 80
