"""What a run does with servers and load generators that behave, and with those that don't. Both are fakes here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from spawn import eventually

from bench import load, processes, run, server
from bench.errors import BadInputError
from bench.events import Interrupted, signals_interrupt_waits, wait
from bench.host import CpuLayout
from bench.load import start_worker
from bench.plan import Plan
from bench.processes import Guard
from bench.progress import Progress
from bench.record import Look, Manifest, Record, StrategyInfo, Trial, read_run, write_manifest
from bench.run import Outcome, run_trials

HERE = Path(__file__).parent
FAKE_SERVER = [sys.executable, str(HERE / "fake_server.py")]
FAKE_LOAD = [sys.executable, str(HERE / "fake_load.py")]
CPU = min(os.sched_getaffinity(0))
LAYOUT = CpuLayout([CPU], [CPU], [CPU], shared=False)


class Silence(Progress):
    """Progress that nobody sees."""

    def note(self, text: str) -> None: ...
    def round_starts(self, number: int, elapsed_s: float) -> None: ...
    def looked(self, look: Look, leaders: str) -> None: ...
    def setting_starts(self, trials: Sequence[Trial]) -> None: ...
    def tick(self) -> None: ...
    def trial_ended(self, record: Record) -> None: ...
    def close(self) -> None: ...


class Interrupting(Silence):
    """Sends us a signal when the given number of settings have begun."""

    def __init__(self, after: int, signum: int) -> None:
        self.begun, self.after, self.signum = 0, after, signum

    def setting_starts(self, trials: Sequence[Trial]) -> None:
        self.begun += 1
        if self.begun == self.after:
            os.kill(os.getpid(), self.signum)


def info(name: str, available: bool = True, reason: str = "") -> StrategyInfo:
    return StrategyInfo(
        name=name,
        module=name,
        summary="",
        model="blocking",
        transports=["tcp"],
        concurrent=True,
        available=available,
        reason=reason,
        doc="",
    )


def trial(strategy: str, connections: int = 1, repeat: int = 1) -> Trial:
    return Trial(
        strategy=strategy,
        transport="tcp",
        connections=connections,
        message_bytes=64,
        workload="closed",
        warmup_s=0.0,
        duration_s=0.01,
        repeat=repeat,
        seed=1,
    )


def plan(*points: Trial, unavailable: str = "") -> Plan:
    infos = {one.strategy: info(one.strategy, one.strategy != unavailable, "no such kernel") for one in points}
    return Plan(list(points), infos, [])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After every test no process that it started is alive and no descriptor open."""
    before = psutil.Process().children(), descriptors("self")
    yield
    assert (psutil.Process().children(), descriptors("self")) == before


def descriptors(pid: int | str) -> list[str]:
    return sorted(path.name for path in Path(f"/proc/{pid}/fd").iterdir())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on what hangs after a moment."""
    monkeypatch.setattr(server, "READY_PATIENCE_S", 0.3)
    monkeypatch.setattr(server, "STOP_PATIENCE_S", 0.2)
    monkeypatch.setattr(server, "LAST_WORDS_PATIENCE_S", 0.1)
    monkeypatch.setattr(load, "MARGIN_S", 0.3)
    monkeypatch.setattr(load, "END_PATIENCE_S", 0.1)


def carry_out(planned: Plan, folder: Path, fault: str = "", progress: Progress | None = None) -> Outcome:
    command = [*FAKE_LOAD, "--fault", fault] if fault else FAKE_LOAD
    return run_trials(
        planned, folder, [], LAYOUT, progress or Silence(), server_command=FAKE_SERVER, worker_command=command
    )


def the_record(planned: Plan, folder: Path, fault: str = "") -> Record:
    carry_out(planned, folder, fault)
    (record,) = read_run(folder).records
    return record


def test_a_trial_becomes_a_record_with_load_server_and_timing(folder: Path) -> None:
    record = the_record(plan(trial("good", 4)), folder)
    assert (record.status, record.reason, record.order) == ("ok", "", 1)
    assert record.load is not None and record.load.completed == 200
    assert record.server is not None and record.timing is not None
    assert (record.server.implementation, record.server.version, record.server.gil) == ("Fake", "1.0", False)
    assert (record.server.exit_code, record.server.stderr_tail, record.server.missing) == (0, "", {})
    assert record.server.opened_ns < record.server.closed_ns
    assert record.server.metrics["descriptors"] >= 5 and record.server.metrics["threads"] == 1
    assert min(record.timing.spawn_s, record.timing.connect_s, record.timing.teardown_s) > 0


def test_records_are_written_in_the_order_of_the_plan_one_for_each_trial(folder: Path) -> None:
    points = [trial("good", connections, repeat) for repeat in (1, 2) for connections in (8, 2, 4)]
    outcome = carry_out(plan(*points), folder)
    records = read_run(folder).records
    assert [record.trial for record in records] == points
    assert [record.order for record in records] == [1, 2, 3, 4, 5, 6]
    assert (outcome.ok, outcome.failed, outcome.unavailable, outcome.interrupted) == (6, [], [], 0)
    assert 0 < outcome.overhead < 1


def test_what_is_done_is_not_run_again(folder: Path) -> None:
    points = [trial("good", connections) for connections in (1, 2, 3)]
    carry_out(plan(*points[:2]), folder)
    done = read_run(folder).records
    silence = Silence()
    run_trials(plan(*points), folder, done, LAYOUT, silence, server_command=FAKE_SERVER, worker_command=FAKE_LOAD)
    records = read_run(folder).records
    assert [record.trial for record in records] == points
    assert [record.order for record in records] == [1, 2, 3]


def test_an_unavailable_strategy_is_recorded_with_the_reason_and_not_run(folder: Path) -> None:
    record = the_record(plan(trial("dies_at_start"), unavailable="dies_at_start"), folder)
    assert (record.status, record.reason) == ("unavailable", "no such kernel")
    assert record.load is None and record.server is None


@pytest.mark.parametrize(
    ("strategy", "fault", "reason"),
    [
        ("dies_at_start", "", "the server ended at its start, exit code 1: fake server: no memory"),
        ("dies", "wait_for_death@5", "the server ended in mid-trial, exit code 7: fake server: segmentation fault"),
        ("ends_badly", "", "the server ended badly, exit code 3: nothing on standard error"),
        ("refuses", "", "2 of 5 connections refused (beyond FD_SETSIZE): it stops at 3"),
    ],
)
def test_a_misbehaving_server_fails_its_trial_with_the_reason(
    strategy: str, fault: str, reason: str, folder: Path
) -> None:
    outcome = carry_out(plan(trial(strategy, 5), trial("good", 6)), folder, fault)
    bad, good = read_run(folder).records
    assert (bad.status, bad.reason, good.status) == ("failed", reason, "ok")
    assert (outcome.ok, [(one.id, one.reason) for one in outcome.failed]) == (1, [(bad.id, reason)])


@pytest.mark.usefixtures("impatient")
def test_a_server_that_never_gets_ready_is_ended_and_its_trial_fails(folder: Path) -> None:
    record = the_record(plan(trial("never_ready")), folder)
    assert record.status == "failed"
    assert record.reason == "the server never said that it was ready: no answer within 0.3 s"


@pytest.mark.usefixtures("impatient")
def test_a_server_that_ignores_sigterm_is_killed_and_its_trial_fails_with_its_figures_kept(folder: Path) -> None:
    record = the_record(plan(trial("stubborn")), folder)
    assert record.reason == "the server did not stop within 0.2 s of SIGTERM and had to be killed"
    assert record.load is not None and record.load.completed == 200


@pytest.mark.usefixtures("impatient")
def test_a_server_that_missed_sigterm_on_its_way_into_a_call_is_told_again(folder: Path) -> None:
    record = the_record(plan(trial("misses_a_signal")), folder)
    assert (record.status, record.reason) == ("ok", "")


def test_children_of_a_server_are_counted_and_end_with_it(folder: Path) -> None:
    record = the_record(plan(trial("has_a_child")), folder)
    assert record.status == "ok"
    assert record.server is not None and record.server.metrics["processes"] == 2
    group = record.server.pid
    assert eventually(lambda: not [one for one in psutil.process_iter() if is_alive_in(group, one)])


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def is_alive_in(group: int, process: psutil.Process) -> bool:
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("fail", "no connection could be opened"),
        ("refused", "2 of 5 connections refused (the server gave no reason)"),
        ("corrupt", "errors: 3 corrupt"),
        ("timeouts", "4 messages timed out"),
        ("silence", "no message was completed"),
        ("die", "the load generator died, exit code 9: fake load: out of luck"),
        ("hang", "the load generator hangs: no 'window_opened' event within 0.3 s"),
        ("nonsense", "the load generator wrote b'this is not JSON', which is not JSON"),
        ("malformed", "the load generator is not understood: Expected `int`, got `str` - at `$.completed`"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_trouble_with_the_load_fails_the_trial_with_the_reason_and_the_run_goes_on(
    fault: str, reason: str, folder: Path
) -> None:
    planned = plan(trial("good", 4), trial("good", 5), trial("good", 6))
    outcome = carry_out(planned, folder, f"{fault}@5")
    before, bad, after = read_run(folder).records
    assert (bad.status, bad.reason) == ("failed", reason)
    assert (before.status, after.status) == ("ok", "ok")
    assert (outcome.ok, len(outcome.failed)) == (2, 1)


def test_a_busy_load_generator_makes_the_trial_client_bound(folder: Path) -> None:
    record = the_record(plan(trial("good", 5)), folder, "busy@5")
    assert (record.status, record.bottleneck) == ("ok", "client")
    assert "client_bound" in record.flags


def test_server_and_load_on_one_core_are_flagged(folder: Path) -> None:
    layout = LAYOUT._replace(shared=True)
    planned = plan(trial("good"))
    run_trials(planned, folder, [], layout, Silence(), server_command=FAKE_SERVER, worker_command=FAKE_LOAD)
    assert "shared_core" in read_run(folder).records[0].flags


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drops_the_trial_under_way_and_keeps_the_others(signum: int, folder: Path) -> None:
    points = [trial("good", connections) for connections in (1, 2, 3, 4)]
    outcome = carry_out(plan(*points), folder, progress=Interrupting(3, signum))
    assert outcome.interrupted == signum
    assert [record.trial for record in read_run(folder).records] == points[:2]


def test_a_load_generator_that_does_not_start_ends_the_run_with_what_it_wrote(folder: Path) -> None:
    with pytest.raises(
        BadInputError, match="can't be started: the load generator died, exit code 9: fake load: out of luck"
    ):
        carry_out(plan(trial("good")), folder, "dead_on_arrival@1")


def test_a_record_that_cannot_be_written_ends_the_run_with_the_way_to_go_on(folder: Path) -> None:
    (folder / "trials.jsonl").mkdir()
    with pytest.raises(BadInputError, match="can't be written: Is a directory") as caught:
        carry_out(plan(trial("good")), folder)
    assert f"--resume {folder}" in caught.value.next_step


def test_processes_are_pinned_to_their_cpus(folder: Path) -> None:
    guard = Guard()
    worker = start_worker([CPU], guard, FAKE_LOAD)
    child = server.start_server(info("good"), "tcp", [CPU], guard, FAKE_SERVER)
    try:
        assert os.sched_getaffinity(worker.child.pid) == {CPU} == os.sched_getaffinity(child.pid)
    finally:
        server.stop_server(child)
        load.end_worker(worker)
        guard.close()


def test_a_server_has_no_descriptors_but_its_own(folder: Path) -> None:
    guard = Guard()
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)  # as a shell may have left one
    child = server.start_server(info("good"), "tcp", [], guard, FAKE_SERVER)
    try:
        assert len(descriptors(child.pid)) == 5  # three standard streams, the listener, the status pipe
    finally:
        server.stop_server(child)
        os.close(reading)
        os.close(writing)
        guard.close()


def test_a_server_has_seen_a_client_come_and_go_before_it_is_measured() -> None:
    guard = Guard()
    ending = server.stop_server(server.start_server(info("tells_of_clients"), "tcp", [], guard, FAKE_SERVER))
    guard.close()
    assert ending.stderr_tail == "fake server: a client came and went"


def test_a_paused_process_gets_no_cpu_time_until_it_may_go_on() -> None:
    guard = Guard()
    child = processes.start([sys.executable, "-c", "while True: pass"], guard)
    used = psutil.Process(child.pid).cpu_times
    try:
        assert eventually(lambda: used().user > 0)
        processes.pause(child)
        assert eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
        stopped_at = used().user
        other = time.thread_time() + 0.05
        while time.thread_time() < other:
            pass  # time in which it would have run
        assert used().user == stopped_at
        processes.go_on(child)
        assert eventually(lambda: used().user > stopped_at)
    finally:
        processes.end(child, terminate=False, patience_s=0)
        guard.close()


def test_the_guard_ends_what_it_watches_when_its_pipe_closes() -> None:
    guard = Guard()
    sleeping = [sys.executable, "-c", "import time; time.sleep(3600)"]
    child = processes.start(sleeping, guard)
    with subprocess.Popen(sleeping, start_new_session=True) as stranger:  # has got the number of one that has ended
        guard.watch(stranger.pid)
        guard.forget(stranger.pid)
        guard.close()
        assert child.process.wait(10) == -signal.SIGKILL
        assert stranger.poll() is None
        stranger.kill()
    child.stderr.close()


def test_the_guard_ends_what_has_left_its_session_and_what_it_was_never_told_of() -> None:
    guard = Guard()
    escape = "import os, time; os.setsid() if os.fork() == 0 else print(flush=True); time.sleep(3600)"
    child = processes.start([sys.executable, "-c", escape], guard, piped=True)
    assert child.process.stdout is not None and child.process.stdout.read(1) == b"\n"
    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children()]
    guard.forget(child.pid)  # as if iobench had been killed before it could tell
    guard.close()
    assert len(family) == 2 and not [one for one in family if is_alive(one)]
    assert child.process.wait(10) == -signal.SIGKILL
    for file in (child.process.stdin, child.process.stdout, child.stderr):
        assert file is not None
        file.close()


def test_the_guard_removes_the_folders_that_it_made() -> None:
    guard = Guard()
    kept, removed = guard.make_folder(), guard.make_folder()
    (kept / "echo.sock").write_text("")
    guard.remove_folder(removed)
    assert kept.is_dir() and kept.stat().st_mode & 0o777 == 0o700 and not removed.exists()
    guard.close()
    assert not kept.exists()


def test_a_guard_that_was_stopped_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GUARD_PATIENCE_S", 0.1)
    guard = Guard()
    os.kill(guard._process.pid, signal.SIGSTOP)
    guard.close()
    assert guard._process.returncode == -signal.SIGKILL


def test_a_signal_between_two_waits_ends_the_next_one() -> None:
    with signals_interrupt_waits():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as caught:
            wait([], 5)
    assert caught.value.signum == signal.SIGTERM


def test_run_folders_made_in_the_same_second_are_different(tmp_path: Path) -> None:
    folders = {run.make_folder(tmp_path / "results", "quick") for _ in range(4)}
    assert len(folders) == 4
    assert all(one.is_dir() and one.name.startswith("quick-") for one in folders)
