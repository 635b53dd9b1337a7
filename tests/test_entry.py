"""What stands between the shell and every command: errors are no verdicts, output outlasts its readers, odd places."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import typer
from spawn import ROOT, WAIT_S
from typer.main import get_command

import report
from bench import processes
from bench.cli import app
from bench.commands import servers
from bench.entry import DEBUG
from bench.errors import BadInputError
from bench.events import Interrupted
from bench.processes import Guard

IOBENCH = [sys.executable, "-P", "-m", "bench"]
# A command that says much, finds something out, and ends with the exit code for that.
A_VERDICT = """
import sys, typer
from bench.commands import servers
from rich.console import Console
def list_(python):
    print("word " * 20_000)
    Console().print("word " * 20_000)
    print("said", file=sys.stderr)
    raise typer.Exit(3)
servers.list_ = list_
sys.argv = ["iobench", "list"]
from bench.cli import main
main()
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **more}


def iobench(*arguments: str | bytes | Path, cwd: str | bytes | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*IOBENCH, *arguments],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


# --- errors


def ends_with(*arguments: str) -> object:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as ended:
        get_command(app)(list(arguments), prog_name="iobench")
    return ended.value.code


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files; and no --debug of another test, nor of this one later."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(DEBUG, "")
    return tmp_path


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `iobench list` raise this."""

    def list_(python: str | None) -> None:
        raise error

    monkeypatch.setattr(servers, "list_", list_)


NO_VERDICTS = [
    KeyError("cpu_ns"),
    MemoryError(),
    RecursionError("maximum recursion depth exceeded"),
    UnicodeEncodeError("ascii", "µ", 0, 1, "ordinal not in range(128)"),
    BrokenPipeError(32, "Broken pipe"),  # of a pipe to a process of ours: Typer would end with 1
    EOFError(),  # as would it here
    FileNotFoundError(2, "No such file or directory", "there"),
    RuntimeError("it broke in two"),
]


@pytest.mark.parametrize("error", NO_VERDICTS, ids=[type(one).__name__ for one in NO_VERDICTS])
def test_an_error_that_nobody_foresaw_is_a_sentence_with_a_code_that_is_no_verdict(
    error: Exception, kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, error)
    assert ends_with("list") == 2
    out, err = capsys.readouterr()
    *paragraph, last = err.splitlines()
    said = " ".join(paragraph)
    assert out == ""
    assert said.startswith("error: iobench itself failed, which says nothing of what is measured: ")
    assert type(error).__name__ in said
    assert last.startswith("next: report it")
    assert "Traceback" not in err
    (file,) = kept.glob("iobench-error-*.txt")
    assert str(file) in said
    assert "Traceback (most recent call last)" in file.read_text(encoding="utf-8")


def test_the_traceback_is_printed_where_that_is_asked_for(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, KeyError("cpu_ns"))
    assert ends_with("--debug", "list") == 2
    assert "Traceback (most recent call last)" in capsys.readouterr().err
    assert list(kept.iterdir()) == []


def test_the_traceback_is_printed_where_no_file_can_be_written(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(kept / "none"))
    raising(monkeypatch, KeyError("cpu_ns"))
    assert ends_with("list") == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "The traceback is above." in err


def test_bad_input_is_told_without_a_traceback_anywhere(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, BadInputError("It is too large.", "iobench list --smaller"))
    assert ends_with("list") == 2
    assert capsys.readouterr().err == "error: It is too large.\nnext: iobench list --smaller\n"
    assert list(kept.iterdir()) == []


@pytest.mark.parametrize(("signum", "code"), [(2, 130), (15, 143)])
def test_a_signal_that_no_command_sees_to_ends_it_as_a_signal_does(
    signum: int, code: int, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(monkeypatch, Interrupted(signum))
    assert ends_with("list") == code
    assert list(kept.iterdir()) == []


def test_a_verdict_keeps_its_code_and_bad_usage_the_words_of_typer(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, typer.Exit(3))
    assert ends_with("list") == 3
    assert ends_with("list", "--no-such-option") == 2
    assert "No such option" in capsys.readouterr().err
    assert ends_with("no-such-command") == 2
    assert list(kept.iterdir()) == []


def test_the_script_that_makes_reports_ends_as_the_commands_do(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(*_: object, **__: object) -> None:
        raise KeyError("cpu_ns")

    monkeypatch.setattr(report, "write", write)
    assert report.main([str(kept)]) == 2
    assert "iobench itself failed" in capsys.readouterr().err


def test_an_error_in_the_load_generator_of_a_command_is_no_verdict_either(tmp_path: Path) -> None:
    """Its exit code 1 says that echoes were wrong."""
    code = "import clients.job; del clients.job.JobError; from bench.cli import main; main()"
    command = [sys.executable, "-P", "-c", code, "load", "tcp:127.0.0.1:1"]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "error: iobench itself failed" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(list(tmp_path.glob("iobench-error-*.txt"))) == 1


# --- output


def test_what_an_encoding_can_not_show_is_spelled_out(tmp_path: Path) -> None:
    (tmp_path / "any.toml").write_text('description = "à deux µs"\nstrategies = ["poll"]', encoding="utf-8")
    ended = iobench("plan", "any.toml", cwd=tmp_path, PYTHONIOENCODING="ascii:strict")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0] == "any: \\xe0 deux \\xb5s"


@pytest.mark.parametrize("gone", ["stdout", "stderr", "both"])
def test_a_reader_that_goes_away_ends_the_printing_and_changes_no_exit_code(gone: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stdout = subprocess.PIPE if gone == "stderr" else writing
    stderr = subprocess.PIPE if gone == "stdout" else writing
    command = [sys.executable, "-P", "-c", A_VERDICT]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=stdout, stderr=stderr, text=True) as process:
        os.close(writing)
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 3
    assert (out or "word").startswith("word")
    assert (err or "said\n") == "said\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full (full(4))")
def test_a_full_disk_ends_the_printing_with_a_warning_and_changes_no_exit_code(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        ended = subprocess.run(
            [sys.executable, "-P", "-c", A_VERDICT],
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
    assert ended.returncode == 3
    assert "warning: what is printed here is lost: No space left on device" in ended.stderr


# --- places

ODD = b"caf\xe9"  # Latin-1


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", ODD + b".toml"),
        ("sweep", b"--results", ODD),
        ("calibrate", b"--results=" + ODD),
        ("gate", b"--base", b"HEAD", b"--results", ODD),
        ("report", ODD),
        ("load", b"unix:" + ODD),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_argument_that_is_not_utf_8_is_refused_before_anything_is_done(
    arguments: tuple[str | bytes, ...], tmp_path: Path
) -> None:
    ended = iobench(*arguments, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert " ".join(ended.stderr.split()).startswith("error: An argument is not UTF-8: b'")
    assert "caf\\xe9" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_utf_8_is_refused_and_help_is_not(tmp_path: Path) -> None:
    here = os.fsencode(tmp_path) + b"/" + ODD
    os.mkdir(here)  # noqa: PTH102 - pathlib has no bytes
    ended = iobench("sweep", cwd=here)
    assert ended.returncode == 2
    assert " ".join(ended.stderr.split()).startswith("error: The folder that this is run in is not UTF-8: b'")
    assert os.listdir(here) == []  # noqa: PTH208
    assert iobench("--help", cwd=here).returncode == 0


def test_a_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = 'rmdir "$PWD" && exec "$@"'
    ended = subprocess.run(
        ["sh", "-c", command, "sh", *IOBENCH, "plan"],
        cwd=tmp_path / "gone",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: The folder that this is run in is gone: No such file or directory.")


def test_without_a_folder_for_temporary_files_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def gettempdir() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(processes.tempfile, "gettempdir", gettempdir)
    with pytest.raises(BadInputError, match="No usable temporary directory found") as told:
        Guard()
    assert "TMPDIR=DIR" in told.value.next_step
