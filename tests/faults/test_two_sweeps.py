"""Two sweeps into one folder at once: the second is refused, and told who holds it and what to do."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_cli import COMPILING_S, SWEEP, TRIALS, assert_is_bad_input, begun, environment, iobench, read_until
from test_run import FAKE_LOAD, FAKE_SERVER, LAYOUT, Silence, plan, trial

from bench import lock
from bench.errors import BadInputError
from bench.lock import sole_writer
from bench.record import Manifest, Trial, read_run, write_manifest
from bench.run import run_trials

HOLD = "import sys; from pathlib import Path; from bench.lock import sole_writer\n"
HOLD += "with sole_writer(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)
    folder = tmp_path / "run"
    folder.mkdir()
    write_manifest(folder, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    return folder


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds the lock."""
    argv = [sys.executable, "-c", HOLD, str(folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=environment(), stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process
        process.kill()


def test_a_second_writer_is_told_who_the_first_is_and_what_to_type(folder: Path) -> None:
    with held(folder) as first, pytest.raises(BadInputError) as caught, sole_writer(folder):
        pass
    assert str(caught.value) == f"{folder} is being written to by another iobench, process {first.pid}."
    assert caught.value.next_step == f"wait for it, or kill {first.pid}; then: iobench sweep --resume {folder}"


def test_the_lock_ends_with_its_holder_even_where_that_is_killed(folder: Path) -> None:
    with held(folder) as first:
        first.kill()
        first.wait()
        with sole_writer(folder):
            pass


def test_the_lock_can_be_taken_again_in_the_same_process(folder: Path) -> None:
    for _ in range(2):
        with sole_writer(folder):
            pass
    with sole_writer(folder), pytest.raises(BadInputError, match=f"process {os.getpid()}"), sole_writer(folder):
        pass


def test_servers_and_load_generators_do_not_inherit_the_lock(folder: Path) -> None:
    inode = folder.stat().st_ino
    opened: list[int] = []

    class Reading(Silence):
        def setting_starts(self, trials: Sequence[Trial]) -> None:
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    if int(process.joinpath("stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                        opened.extend(path.stat().st_ino for path in process.joinpath("fd").iterdir())
                except OSError:
                    continue

    with sole_writer(folder):
        run_trials(
            plan(trial("good")), folder, [], LAYOUT, Reading(), server_command=FAKE_SERVER, worker_command=FAKE_LOAD
        )
    assert opened and inode not in opened


def test_resuming_a_run_that_is_under_way_is_bad_input_and_disturbs_nothing(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SWEEP)
    with begun("sweep", "tiny.toml", cwd=tmp_path) as first:
        read_until(first, "[1/8]")
        (run,) = (tmp_path / "results").iterdir()
        for _ in range(2):
            refused = iobench("sweep", "--resume", run, cwd=tmp_path)
            assert_is_bad_input(refused, f"another iobench, process {first.pid}.", f"iobench sweep --resume {run}")
        _, said = first.communicate(timeout=COMPILING_S)
    assert first.returncode == 0, said
    records = read_run(run).records
    assert [record.order for record in records] == list(range(1, TRIALS + 1))
    assert all(record.status == "ok" for record in records)


def test_where_the_file_system_knows_no_locks_a_sweep_goes_on_with_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError(lock.NO_LOCKS[0], "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="can't be locked here: let no other sweep write into it"), sole_writer(folder):
        pass


def test_a_folder_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="can't be opened: No such file or directory"), sole_writer(tmp_path / "no"):
        pass
