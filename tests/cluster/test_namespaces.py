"""Hosts that are apart: network namespaces joined by veth pairs, one for the server, three for load.

Each load host has a link of its own to the server's. The server's address, SERVER_IP, lies on its loopback device, and
the load hosts reach it over their links. All of it is made here, and removed again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from test_cli import IOBENCH, assert_is_bad_input, environment, the_run

from bench.record import read_run

SERVER_IP = "10.213.0.1"
SCHEDULER = f"tcp://{SERVER_IP}:8786"
LOADS = ["load-1", "load-2", "load-3"]
COMMAND_S = 100
SWEEP = """
strategies = ["epoll_lt", "thread_per_connection"]
connections = [8]
repeats = 1
warmup_s = 0.1
duration_s = 0.6
"""
WAIT = f"from dask.distributed import Client; Client({SCHEDULER!r}).wait_for_workers({len(LOADS) + 1}, timeout=60)"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=30)


def namespace(host: str) -> str:
    return f"iobench-{os.getpid()}-{host}"


def inside(host: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", namespace(host), *command]


@contextmanager
def made(host: str) -> Iterator[None]:
    """A network namespace with a loopback device; whatever is in it goes with it."""
    ip("netns", "add", namespace(host))
    try:
        ip("-n", namespace(host), "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "delete", namespace(host))


def join(number: int, host: str) -> None:
    """Lay a cable from a load host to the server's: 10.213.N.1 there, 10.213.N.2 here."""
    there, here = f"iob{number}", "eth0"
    ends = ["link", "add", there, "netns", namespace("server"), "type", "veth"]
    ip(*ends, "peer", "name", here, "netns", namespace(host))
    for where, device, last in (("server", there, 1), (host, here, 2)):
        ip("-n", namespace(where), "address", "add", f"10.213.{number}.{last}/24", "dev", device)
        ip("-n", namespace(where), "link", "set", device, "up")
    ip("-n", namespace(host), "route", "add", SERVER_IP, "via", f"10.213.{number}.1")


@contextmanager
def running(host: str, *command: str) -> Iterator[None]:
    """A Dask process in a namespace, ended with the test."""
    argv = inside(host, sys.executable, "-m", *command)
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def worker(host: str, address: str, role: str) -> Sequence[str]:
    options = ["--name", host, "--nthreads", "1", "--resources", f"{role}=1", "--host", address, "--no-dashboard"]
    return ["distributed.cli.dask_worker", SCHEDULER, *options, "--memory-limit", "0", "--no-nanny"]


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """The hosts, with a scheduler on the server's and a worker on each."""
    with ExitStack() as stack:
        try:
            stack.enter_context(made("server"))
        except (OSError, subprocess.CalledProcessError) as error:
            said = str(getattr(error, "stderr", "") or error).strip()
            pytest.skip(f"no network namespace can be made here: {said}")
        ip("-n", namespace("server"), "address", "add", f"{SERVER_IP}/32", "dev", "lo")
        for number, host in enumerate(LOADS, 1):
            stack.enter_context(made(host))
            join(number, host)
        scheduler = ["distributed.cli.dask_scheduler", "--host", SERVER_IP, "--port", "8786", "--no-dashboard"]
        stack.enter_context(running("server", *scheduler))
        stack.enter_context(running("server", *worker("server", SERVER_IP, "server")))
        for number, host in enumerate(LOADS, 1):
            stack.enter_context(running(host, *worker(host, f"10.213.{number}.2", "load")))
        subprocess.run(inside("server", sys.executable, "-c", WAIT), check=True, timeout=COMMAND_S)
        yield


def sweep(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (here / "tiny.toml").write_text(SWEEP)
    argv = inside("server", *IOBENCH, "sweep", "tiny.toml", "--scheduler", SCHEDULER, *arguments)
    return subprocess.run(
        argv, cwd=here, env=environment(), capture_output=True, text=True, timeout=COMMAND_S, check=False
    )


@pytest.mark.usefixtures("network")
def test_three_hosts_put_their_load_on_a_fourth_over_the_network(tmp_path: Path) -> None:
    result = sweep(tmp_path, "--bind", SERVER_IP)
    records = read_run(the_run(tmp_path / "results")).records
    assert len(records) == 2, result.stderr
    for record in records:
        # On a machine that is busy otherwise, the load hosts may not start together: then the trial says so.
        assert record.status == "ok" or record.reason.startswith("all load hosts were at work"), record.reason
        assert [(host.name, host.connections) for host in record.load_hosts] == [
            ("load-1", 3),
            ("load-2", 3),
            ("load-3", 2),
        ]
        assert all(host.completed > 0 for host in record.load_hosts)


@pytest.mark.usefixtures("network")
def test_without_being_told_to_servers_listen_where_no_other_host_can_reach_them(tmp_path: Path) -> None:
    result = sweep(tmp_path)
    assert_is_bad_input(result, "where load from load-1, load-2, load-3 can't reach them", "--bind IP")
    assert not (tmp_path / "results").exists()
