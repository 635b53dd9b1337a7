"""`iobench sweep --scheduler` as its users meet it: whole sweeps, a driver that is killed, bad input."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import msgspec
import psutil
import pytest
from company import BOTH
from dask.distributed import Client
from test_cli import assert_is_bad_input, begun, environment, iobench, the_run

from bench.cluster import connect
from bench.cluster.command import gather, without_budget
from bench.cluster.connect import Cluster, Member, local_cluster, one_server, open_cluster
from bench.commands.choice import Choice
from bench.errors import BadInputError
from bench.plan import FEWEST_ROUNDS
from bench.record import TRIALS_FILE, read_run
from bench.sweep import Sweep

SWEEP = """
description = "two strategies, in a moment"
strategies = ["epoll_lt", "thread_per_connection"]
connections = [2, 5]
repeats = 2
warmup_s = 0.05
duration_s = 0.5
"""
TRIALS = 8
PATIENCE_S = 100.0
SHORT_LEASES = {"DASK_DISTRIBUTED__SCHEDULER__LOCKS__LEASE_TIMEOUT": "2s"}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(SWEEP)
    return tmp_path


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster whose lock a killed driver loses soon."""
    with (
        dask.config.set({"distributed.scheduler.locks.lease-validation-interval": "500ms"}),
        local_cluster(one_server(3)) as found,
    ):
        yield found


@pytest.fixture
def machines() -> Iterator[str]:
    """Two workers that have server and load both at home."""
    with local_cluster({"m1": BOTH, "m2": BOTH}) as found:
        yield found


def test_a_sweep_on_a_cluster_of_this_machine_ends_in_a_report_that_names_the_hosts(here: Path) -> None:
    result = iobench("sweep", "tiny.toml", "--scheduler", "local:3", cwd=here)
    assert "note: the server runs on server, the load on load-1, load-2" in " ".join(result.stderr.split())
    run = read_run(the_run(here / "results"))
    assert [(host.name, host.roles) for host in run.manifest.hosts] == [
        ("server", ["server"]),
        ("load-1", ["load"]),
        ("load-2", ["load"]),
    ]
    assert len(run.records) == TRIALS
    for record in run.records:
        # On a machine that is busy otherwise, the load hosts may not start together: then the trial says so.
        assert record.status == "ok" or record.reason.startswith("all load hosts were at work"), record.reason
        assert record.load is not None and record.load.completed > 0
        assert record.load.planned == record.load.completed + record.load.in_flight
        assert sum(host.completed for host in record.load_hosts) == record.load.completed
        assert sum(host.connections for host in record.load_hosts) == record.trial.connections
        assert record.server is not None and record.server.metrics["cpu_ns"] > 0
        assert record.machine is not None and record.machine.server_idle_ns >= 0
    assert result.returncode == (1 if any(record.status == "failed" for record in run.records) else 0)
    report = Path(here, result.stdout.strip().splitlines()[-1])
    assert "Servers ran on" in report.read_text()


def test_with_one_server_a_budget_is_kept_in_rounds_of_whole_trials(here: Path) -> None:
    result = iobench("sweep", "tiny.toml", "--scheduler", "local:2", "--budget", "1s", cwd=here)
    assert result.returncode in (0, 1), result.stderr
    run = read_run(the_run(here / "results"))
    assert (run.manifest.sweep["budget_s"], run.manifest.sweep["trials_planned"]) == (1, len(run.records))
    assert {one.trial.repeat for one in run.records} == {*range(1, FEWEST_ROUNDS + 1)}
    assert {one.whole for one in run.records} == {"the load of several hosts can't be switched within milliseconds"}


def test_whole_machines_measure_settings_in_turns_so_many_rounds_in_place_of_a_budget(
    here: Path, machines: str
) -> None:
    (here / "timed.toml").write_text(SWEEP + "budget_s = 150\n")
    result = iobench("sweep", "timed.toml", "--scheduler", machines, cwd=here)
    assert result.returncode == 0, result.stderr
    told = " ".join(result.stderr.split())
    assert "note: a budget can't be kept on whole machines: 2 rounds (repeats) instead" in told
    run = read_run(the_run(here / "results"))
    assert (run.manifest.sweep["budget_s"], run.manifest.sweep["trials_planned"]) == (0, TRIALS)
    assert {(one.trial.repeat, one.server_host) for one in run.records} == {(1, "m1"), (2, "m2")}
    assert all(len(one.turns) > 1 and not one.whole for one in run.records)
    again = iobench("sweep", "timed.toml", "--resume", str(run.folder), "--scheduler", machines, cwd=here)
    assert again.returncode == 0, again.stderr
    assert f"{TRIALS} of {TRIALS} trials are done" in again.stderr
    refused = iobench("sweep", "timed.toml", "--scheduler", machines, "--budget", "3m", cwd=here)
    assert_is_bad_input(refused, "--budget can't be kept on whole machines", "iobench sweep timed.toml --scheduler")


@pytest.mark.timeout(300)
def test_a_driver_that_is_killed_leaves_nothing_behind_and_its_run_is_resumed_without_loss_or_doubles(
    here: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SHORT_LEASES.items():
        monkeypatch.setenv(name, value)
    results = here / "results"
    with begun("sweep", "tiny.toml", "--scheduler", address, cwd=here) as driver:
        wait_until(lambda: len(lines(results)) >= 2 or driver.poll() is not None)
        driver.kill()
    with Client(address) as client:
        workers = [psutil.Process(pid) for pid in client.run(os.getpid).values()]
    wait_until(lambda: not [one for worker in workers for one in started_by(worker)])
    before = lines(results)
    assert 2 <= len(before) < TRIALS
    folder = the_run(results)
    home = iobench("sweep", "--resume", str(folder), cwd=here)
    assert_is_bad_input(home, "was made on a cluster", "--scheduler")
    result = iobench("sweep", "--resume", str(folder), "--scheduler", address, cwd=here)
    assert result.returncode in (0, 1), result.stderr
    assert lines(results)[: len(before)] == before
    assert {*Counter(record.id for record in read_run(folder).records).values()} == {1}
    assert len(lines(results)) == TRIALS


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lines(results: Path) -> list[str]:
    return [line for path in results.glob(f"*/{TRIALS_FILE}") for line in path.read_text().splitlines(keepends=True)]


def started_by(worker: psutil.Process) -> list[str]:
    """What a worker has started for a sweep: the server, the load generator, the guard."""
    found = []
    for one in worker.children(recursive=True):
        try:
            told = " ".join(one.cmdline())
        except psutil.Error:
            continue
        found += [told] if any(name in told for name in ("servers", "clients", "guard.py")) else []
    return found


def test_a_run_that_was_made_on_one_machine_is_not_resumed_on_a_cluster(here: Path) -> None:
    assert iobench("sweep", "tiny.toml", "--strategies", "epoll_lt", cwd=here).returncode == 0
    folder = the_run(here / "results")
    result = iobench("sweep", "--resume", str(folder), "--scheduler", "local:2", cwd=here)
    assert_is_bad_input(result, "was made on one machine", "iobench sweep --resume")


@pytest.mark.parametrize(
    ("arguments", "what", "next_step"),
    [
        (["--bind", "0.0.0.0"], "--bind is for servers on a cluster", "--scheduler"),
        (["--scheduler", "local:3", "--bind", "eth0"], "--bind takes an IP address", "--bind 10.0.0.5"),
        (["--scheduler", "local:1"], "local:1 is too few", "local:2"),
        (["--scheduler", "nonsense://x"], "No scheduler can be reached at nonsense://x", "dask scheduler"),
    ],
)
def test_bad_options_are_refused_with_the_way_out(arguments: list[str], what: str, next_step: str, here: Path) -> None:
    assert_is_bad_input(iobench("sweep", "tiny.toml", *arguments, cwd=here), what, next_step)


def test_without_dask_the_extra_is_named(here: Path) -> None:
    hide = "import sys; from bench.commands import cluster; cluster.find_spec = lambda name: None\n"
    hide += "from bench.cli import main; sys.argv = ['iobench', 'sweep', '--scheduler', 'local:3']; main()"
    result = subprocess.run(
        [sys.executable, "-c", hide], cwd=here, env=environment(), capture_output=True, text=True, check=False
    )
    assert_is_bad_input(result, "A cluster needs Dask distributed", "pip install 'iobench[cluster]'")


def test_a_scheduler_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "CONNECT_S", 0.5)
    with (
        pytest.raises(BadInputError, match="No scheduler can be reached at tcp"),
        open_cluster("tcp://127.0.0.1:1"),
    ):
        pass


def test_a_budget_that_is_none_needs_no_refusal() -> None:
    nothing = Choice(None, None, None)
    plain = Sweep(name="quick", repeats=3)
    assert without_budget(plain, nothing._replace(budget="0"), "tcp://x:1") == plain
    assert without_budget(msgspec.structs.replace(plain, budget_s=150.0), nothing, "tcp://x:1") == plain
    with pytest.raises(BadInputError) as caught:
        timed = msgspec.structs.replace(plain, budget_s=180.0)
        without_budget(timed, nothing._replace(budget="3m"), "tcp://x:1")
    assert caught.value.next_step == "iobench sweep quick --scheduler tcp://x:1 has `repeats` rounds"


class Workers(Cluster):
    """A cluster of workers that offer so much, all of the right version."""

    def __init__(self, **offers: str) -> None:
        self.offers = offers

    def members(self) -> dict[str, Member]:
        return {name: Member(name, f"tcp://{name}:1", tuple(roles.split("+"))) for name, roles in self.offers.items()}

    def check(self, members: object) -> None: ...


def test_the_roles_of_the_workers_tell_which_kind_of_run_it_is() -> None:
    one = gather(Workers(x="load", s="server", y="load"))
    assert (list(one.members), one.whole) == (["s", "x", "y"], False)
    many = gather(Workers(a="server+load", b="server+load"))
    assert (list(many.members), many.whole) == (["a", "b"], True)


@pytest.mark.parametrize(
    ("offers", "what", "next_step"),
    [
        ({"a": "server+load", "b": "load"}, "a offer both server and load, b one of them", "docs/cluster.md"),
        ({"a": "server", "b": "server", "c": "load"}, "There is one server to a run, and a, b offer it", "'load=1'"),
        ({"a": "server"}, "No worker offers the resource load", "'load=1'"),
        ({"a": "load"}, "No worker offers the resource server", "'server=1'"),
        ({}, "No worker offers the resource server or load", "'server=1'"),
    ],
)
def test_workers_that_make_no_run_are_refused_with_the_way_out(
    offers: dict[str, str], what: str, next_step: str
) -> None:
    with pytest.raises(BadInputError, match=what) as caught:
        gather(Workers(**offers))
    assert next_step in caught.value.next_step
