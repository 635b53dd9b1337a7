"""Servers and load generators that fail in mid-trial, in real sweeps: each trial says what became of it, and the next
one runs as if nothing had happened.

What a run makes of fakes that misbehave in other ways is in test_run.py.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from leftovers import leaving_nothing
from test_run import Silence, plan

from bench.host import choose_cpus
from bench.record import Manifest, Record, Trial, read_run, write_manifest
from bench.run import run_trials

HERE = Path(__file__).parent
FAULTY_SERVER = [sys.executable, str(HERE / "faulty_server.py")]
FAULTY_LOAD = [sys.executable, str(HERE / "faulty_load.py")]
WINDOW_S = 1.2
# What two clients of a server that dies meet depends on what was on its way: an end of file, or a reset.
MET = r"(; errors: 1 closed, 1 reset)?"
# That many connections of each, and what its record must say.
FAULTS = {
    "killed": (2, rf"the server ended in mid-trial, killed by signal 9: nothing on standard error{MET}"),
    "stopped": (
        2,
        r"a signal had stopped the server, so that it did nothing, and it had to be killed; "
        r"no echo came in the last 1\.\d s of the window",
    ),
    "deadlocked": (
        2,
        r"the server did not stop within 2 s of SIGTERM and had to be killed; "
        r"no echo came in the last 1\.\d s of the window",
    ),
    # Its connections are closed a moment before it has ended: SIGTERM may still find it, and be too late to matter.
    "crashes": (
        2,
        r"the server ended (in mid-trial, exit code 1|badly, exit code 1|badly, killed by signal 15): "
        rf"ValueError: a bug in mid-trial{MET}",
    ),
    "exits_at_start": (2, r"the server ended at its start, exit code 1: no configuration was found"),
    "closes_at_random": (8, r"errors: 8 closed"),
    "few_descriptors": (40, r"\d+ of 40 connections refused \(EMFILE: Too many open files .*\): it stops at \d+"),
    "little_memory": (64, r"\d+ of 64 connections refused \(can't start new thread: .*\): it stops at \d+"),
}


def one(strategy: str, connections: int, repeat: int = 1, duration_s: float = WINDOW_S) -> Trial:
    return Trial(
        strategy=strategy,
        transport="tcp",
        connections=connections,
        message_bytes=64,
        workload="closed",
        warmup_s=0.0,
        duration_s=duration_s,
        repeat=repeat,
        seed=1,
    )


def swept(folder: Path, trials: Sequence[Trial], worker_command: Sequence[str] = ()) -> list[Record]:
    """Run a sweep of them and return its records, with nothing left behind."""
    run = folder / "run"
    with leaving_nothing(folder):
        run.mkdir()
        write_manifest(run, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
        run_trials(
            plan(*trials),
            run,
            [],
            choose_cpus(1),
            Silence(),
            server_command=FAULTY_SERVER,
            worker_command=worker_command,
        )
    return read_run(run).records


@pytest.fixture(scope="module")
def after_servers(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """A sweep in which every other server fails."""
    trials = []
    for number, (fault, (connections, _)) in enumerate(FAULTS.items(), 1):
        trials += [one(fault, connections), one("good", 4, number, duration_s=0.1)]
    return swept(tmp_path_factory.mktemp("servers"), trials)


@pytest.mark.timeout(300)  # the load generator may have to be compiled first
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_fails_is_a_failed_trial_with_the_true_reason_and_the_next_one_runs(
    fault: str, after_servers: list[Record]
) -> None:
    at = 2 * list(FAULTS).index(fault)
    bad, after = after_servers[at], after_servers[at + 1]
    assert (bad.trial.strategy, bad.status) == (fault, "failed")
    assert re.fullmatch(FAULTS[fault][1], bad.reason), bad.reason
    assert (after.trial.strategy, after.status, after.reason) == ("good", "ok", "")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["few_descriptors", "little_memory"])
def test_a_server_at_a_limit_serves_those_it_has_room_for(fault: str, after_servers: list[Record]) -> None:
    record = after_servers[2 * list(FAULTS).index(fault)]
    assert record.load is not None and record.server is not None
    assert 0 < sum(record.server.refused.values()) < record.trial.connections
    assert record.load.completed > 0
    assert record.server.exit_code == 0


@pytest.fixture(scope="module")
def after_clients(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """A sweep in which the load generator is killed once, and stopped once."""
    trials = [one("good", connections, duration_s=0.1) for connections in (1, 2, 3, 4, 5)]
    signals = f"{int(signal.SIGKILL)}@2,{int(signal.SIGSTOP)}@4"
    return swept(tmp_path_factory.mktemp("clients"), trials, [*FAULTY_LOAD, signals])


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (1, r"the load generator died, killed by signal 9: nothing on standard error"),
        (3, r"the load generator hangs: no 'window_closed' event within 5\.1 s, a signal has stopped it"),
    ],
    ids=["killed", "stopped"],
)
def test_a_load_generator_that_fails_or_hangs_fails_its_trial_alone_and_is_replaced(
    at: int, reason: str, after_clients: list[Record]
) -> None:
    assert [record.status for record in after_clients] == ["ok", "failed", "ok", "failed", "ok"]
    assert re.fullmatch(reason, after_clients[at].reason), after_clients[at].reason
    server = after_clients[at].server
    assert server is not None and server.exit_code == 0


@pytest.mark.timeout(300)
def test_a_trial_that_hangs_is_ended_at_its_limit_and_keeps_how_long_it_took(after_clients: list[Record]) -> None:
    hung = after_clients[3]
    assert hung.timing is not None
    assert hung.timing.window_s == 0.0  # it never closed
    assert hung.timing.teardown_s > 5.1
