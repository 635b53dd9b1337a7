"""No room on the disk, and a folder that can't be written to: what is there stays, and the run goes on later."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from synthetic import record, write_run
from test_cli import COMPILING_S, SWEEP, TRIALS, assert_is_bad_input, begun, iobench, read_until, the_run
from test_run import FAKE_LOAD, FAKE_SERVER, LAYOUT, Silence, plan, trial

import report
from bench.errors import BadInputError
from bench.record import TRIALS_FILE, Manifest, Record, read_run, write_manifest
from bench.run import Outcome, run_trials

POINTS = [trial("good", connections) for connections in range(1, 41)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    with mounted(tmp_path / "small", "size=512k,nr_inodes=64") as folder:
        yield folder


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", options, "iobench-test", str(folder)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("mount is not installed")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write into a file system."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


def a_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_manifest(folder, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    return folder


def go_on(run: Path) -> Outcome:
    done = read_run(run).records
    return run_trials(plan(*POINTS), run, done, LAYOUT, Silence(), server_command=FAKE_SERVER, worker_command=FAKE_LOAD)


def fill(folder: Path, but: int) -> Path:
    """Take all the room that is left on a file system, but for so many bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        left = os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize - but
        file.write(bytes(max(0, left)))
    return ballast


def test_on_a_full_disk_a_sweep_ends_with_what_there_is_and_goes_on_once_there_is_room(small_disk: Path) -> None:
    run = a_run(small_disk / "run")
    ballast = fill(small_disk, but=24 * 1024)
    with pytest.raises(BadInputError) as caught:
        go_on(run)
    assert str(caught.value) == f"{run / TRIALS_FILE} can't be written: No space left on device. What is in it stays."
    assert caught.value.next_step == f"make room, then: iobench sweep --resume {run}"
    kept = read_run(run)
    assert 0 < len(kept.records) < len(POINTS) and kept.notes == []
    ballast.unlink()
    go_on(run)
    records = read_run(run).records
    assert records[: len(kept.records)] == kept.records
    assert [one.trial for one in records] == POINTS
    assert {one.status for one in records} == {"ok"}


def test_a_report_that_finds_no_room_leaves_the_last_one_whole(small_disk: Path, tmp_path: Path) -> None:
    folder = write_run(small_disk / "run", [record("poll", 1)])
    (folder / "report.html").write_text("the last one")
    ballast = fill(small_disk, but=8192)
    with pytest.raises(BadInputError, match="can't be written: No space left on device"):
        report.write(folder)
    assert (folder / "report.html").read_text() == "the last one"
    ballast.unlink()
    shutil.move(folder, tmp_path / "run")  # to where there is room
    assert "<title>" in report.write(tmp_path / "run").read_text()


def test_a_run_that_can_not_be_written_to_is_not_begun(small_disk: Path) -> None:
    run = a_run(small_disk / "run")
    started: list[object] = []

    class Noting(Silence):
        def note(self, text: str) -> None:
            started.append(text)

    with read_only(small_disk), pytest.raises(BadInputError) as caught:
        run_trials(plan(*POINTS), run, [], LAYOUT, Noting(), server_command=FAKE_SERVER, worker_command=FAKE_LOAD)
    assert str(caught.value) == f"{run / TRIALS_FILE} can't be written: Read-only file system. What is in it stays."
    assert caught.value.next_step == f"ls -ld {run} shows who may write there; then: iobench sweep --resume {run}"
    assert started == []
    assert go_on(run).ok == len(POINTS)


def test_a_results_folder_that_is_read_only_is_bad_input_and_what_is_in_it_can_be_read(
    small_disk: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(SWEEP)
    run = write_run(small_disk / "run", [record("poll", 1)])
    with read_only(small_disk):
        made = iobench("sweep", "tiny.toml", "--results", small_disk / "new", cwd=tmp_path)
        assert_is_bad_input(made, f"No run folder can be made in {small_disk / 'new'}: Read-only", "--results DIR")
        assert_is_bad_input(iobench("report", run, cwd=tmp_path), "can't be written: Read-only file system", "ls -ld")
        exported = iobench("export", run, "--to", "hgrm", "--out", tmp_path / "out", cwd=tmp_path)
        assert exported.returncode == 0, exported.stderr
        assert len(read_run(run).records) == 1


@pytest.mark.timeout(300)
def test_a_sweep_that_reaches_its_limit_of_file_size_can_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SWEEP)
    with begun("sweep", "tiny.toml", cwd=tmp_path) as process:
        read_until(process, "[1/8]")
        run = the_run(tmp_path / "results")
        most = (run / TRIALS_FILE).stat().st_size + 200
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
        out, err = process.communicate(timeout=COMPILING_S)
    assert (process.returncode, out) == (2, ""), err
    said = " ".join(err.split())
    assert f"{TRIALS_FILE} can't be written: File too large. What is in it stays." in said
    assert f"next: make room, then: iobench sweep --resume {run.relative_to(tmp_path)}" in said
    assert "Traceback" not in err
    kept = read_run(run).records
    assert 1 <= len(kept) < TRIALS
    assert iobench("sweep", "--resume", run, cwd=tmp_path).returncode == 0
    records = read_run(run).records
    # A setting of which a record is missing is measured again as a whole.
    settings = Counter((record.trial.connections, record.trial.repeat) for record in kept)
    assert all(record in records for record in kept if settings[record.trial.connections, record.trial.repeat] == 2)
    assert trials_of(records) == sorted(set(trials_of(records))) and len(records) == TRIALS


def trials_of(records: list[Record]) -> list[int]:
    return [record.order for record in records]
