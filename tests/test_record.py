"""The files of a run: written so that nothing is lost, read back so that nothing is hidden."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BadInputError
from bench.record import (
    MANIFEST_FILE,
    SCHEMA,
    TRIALS_FILE,
    Manifest,
    Record,
    Run,
    Trial,
    append,
    read_run,
    write_manifest,
)

MANIFEST = Manifest(sweep={"name": "any"}, strategies=[], host={}, versions={}, created="", command=["iobench"])

trials = st.builds(
    Trial,
    strategy=st.text(min_size=1, max_size=20),
    transport=st.sampled_from(["tcp", "unix", "pipe"]),
    connections=st.integers(1, 10**6),
    message_bytes=st.integers(1, 10**8),
    workload=st.just("closed"),
    warmup_s=st.floats(0, 100),
    duration_s=st.floats(0.01, 100),
    repeat=st.integers(1, 100),
    seed=st.integers(0, 2**63 - 1),
)


def record(repeat: int = 1, **facts: Any) -> Record:
    trial = Trial(
        strategy="epoll",
        transport="tcp",
        connections=1,
        message_bytes=64,
        workload="closed",
        warmup_s=0.2,
        duration_s=0.8,
        repeat=repeat,
        seed=1,
    )
    return Record(id=trial.id, trial=trial, status="ok", **facts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path, MANIFEST)
    return tmp_path


def read_with_notes(folder: Path) -> Run:
    """Read a run that is not quite whole: whatever is left out is warned of, and noted in the same words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = read_run(folder)
    assert [str(one.message) for one in caught] == run.notes
    return run


@settings(deadline=None)
@given(trials)
def test_the_id_of_a_trial_depends_on_its_definition_alone(trial: Trial) -> None:
    again = msgspec.json.decode(msgspec.json.encode(trial), type=Trial)
    assert again.id == trial.id
    assert len(trial.id) == 16


@settings(deadline=None)
@given(trials, trials)
def test_different_trials_have_different_ids(one: Trial, other: Trial) -> None:
    assert (one.id == other.id) == (one == other)


def test_records_are_read_as_they_were_appended(folder: Path) -> None:
    records = [record(1, order=1), record(2, order=2, reason="so", flags=["client_bound"]), record(3, order=3)]
    for one in records:
        append(folder / TRIALS_FILE, one)
    run = read_run(folder)
    assert (run.records, run.notes, run.manifest) == (records, [], MANIFEST)


def test_a_run_without_trials_is_a_run(folder: Path) -> None:
    assert read_run(folder).records == []


@pytest.mark.parametrize("kept", [1, 40, -2, -1])
def test_a_cut_last_line_is_dropped_with_a_warning(kept: int, folder: Path) -> None:
    append(folder / TRIALS_FILE, record(1))
    whole = (folder / TRIALS_FILE).read_bytes()
    append(folder / TRIALS_FILE, record(2, reason="ä"))
    both = (folder / TRIALS_FILE).read_bytes()
    (folder / TRIALS_FILE).write_bytes(whole + both[len(whole) :][: kept if kept > 0 else kept - 1])
    run = read_with_notes(folder)
    assert run.records == [record(1)]
    assert len(run.notes) == 1 and run.notes[0].endswith(f"{TRIALS_FILE}:2 is left out: the line was cut off")


def test_a_record_appended_after_a_cut_line_is_not_spoilt_by_it(folder: Path) -> None:
    append(folder / TRIALS_FILE, record(1))
    whole = (folder / TRIALS_FILE).read_bytes()
    (folder / TRIALS_FILE).write_bytes(whole + whole[:33])
    append(folder / TRIALS_FILE, record(2))
    run = read_with_notes(folder)
    assert run.records == [record(1), record(2)]
    assert len(run.notes) == 1 and ":2 is left out" in run.notes[0]


def test_a_last_line_that_lacks_only_its_newline_is_whole(folder: Path) -> None:
    append(folder / TRIALS_FILE, record(1))
    path = folder / TRIALS_FILE
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert read_run(folder).records == [record(1)]
    append(path, record(2))
    assert read_run(folder).records == [record(1), record(2)]


@pytest.mark.parametrize("line", [b"garbage", b"[]", b'{"id": 1}', b"\xff\xfe", b'{"id": "x", "status": "ok"}'])
def test_a_line_that_is_no_record_is_left_out_with_a_warning_that_names_it(line: bytes, folder: Path) -> None:
    append(folder / TRIALS_FILE, record(1))
    with (folder / TRIALS_FILE).open("ab") as file:
        file.write(line + b"\n")
    append(folder / TRIALS_FILE, record(2))
    run = read_with_notes(folder)
    assert run.records == [record(1), record(2)]
    assert len(run.notes) == 1 and f"{TRIALS_FILE}:2 is left out" in run.notes[0]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_trials_jsonl_holds_it_can_be_read(content: bytes) -> None:
    import tempfile  # noqa: PLC0415 - tmp_path is not renewed for each example

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_manifest(folder, MANIFEST)
        (folder / TRIALS_FILE).write_bytes(content)
        assert read_with_notes(folder).records == []


def test_of_two_records_of_one_trial_the_later_counts(folder: Path) -> None:
    append(folder / TRIALS_FILE, record(1, reason="first"))
    append(folder / TRIALS_FILE, record(1, reason="second"))
    assert [one.reason for one in read_run(folder).records] == ["second"]


def test_a_record_of_a_newer_schema_is_left_out_with_a_warning(folder: Path) -> None:
    append(folder / TRIALS_FILE, record(1, schema=SCHEMA + 1))
    run = read_with_notes(folder)
    assert run.records == [] and "newer than this iobench knows" in run.notes[0]


def test_a_field_of_a_later_version_does_not_make_a_record_unreadable(folder: Path) -> None:
    line = msgspec.json.encode(msgspec.to_builtins(record(1)) | {"weather": "fair"})
    (folder / TRIALS_FILE).write_bytes(line + b"\n")
    assert read_run(folder).records == [record(1)]


def test_a_missing_folder_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="There is no run folder"):
        read_run(tmp_path / "nothing")


def test_a_folder_without_a_manifest_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=f"is not a run folder: it has no {MANIFEST_FILE}"):
        read_run(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"{}"])
def test_a_spoilt_manifest_is_bad_input(content: bytes, folder: Path) -> None:
    (folder / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(BadInputError, match=rf"{MANIFEST_FILE} can't be read"):
        read_run(folder)


def test_trials_that_cannot_be_read_are_bad_input(folder: Path) -> None:
    (folder / TRIALS_FILE).mkdir()
    with pytest.raises(BadInputError, match=rf"{TRIALS_FILE} can't be read: Is a directory"):
        read_run(folder)


def test_a_manifest_leaves_no_half_written_file_behind(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == [MANIFEST_FILE]
    assert (folder / MANIFEST_FILE).read_text().endswith("}\n")


def test_fields_with_defaults_leave_the_ids_of_older_runs_as_they_are() -> None:
    assert record().id == "f54176f0e455ae2e"
    assert msgspec.structs.replace(record().trial, depth=1, sizes=()).id == record().id


@pytest.mark.parametrize(
    "changed",
    [{"depth": 2}, {"planned_hz": 1.0}, {"load_fraction": 0.5}, {"silent": 1}, {"threads": 2}, {"slo": "p99<5ms"}],
)
def test_every_field_that_differs_from_its_default_changes_the_id(changed: dict[str, Any]) -> None:
    assert msgspec.structs.replace(record().trial, **changed).id != record().id
