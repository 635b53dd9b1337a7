"""The command line as its users meet it: real processes, real sweeps of a few short trials, all kinds of bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from spawn import WAIT_S, eventually

from bench.cli import WIDTH
from bench.record import TRIALS_FILE, read_run
from servers.transport import dial, parse

ROOT = Path(__file__).resolve().parent.parent
IOBENCH = [sys.executable, "-P", "-m", "bench"]  # -P: as from a script, the working directory is not searched
SWEEP = """
description = "two strategies, in a moment"
strategies = ["epoll_lt", "thread_per_connection"]
connections = [1, 4]
repeats = 2
warmup_s = 0.02
duration_s = 0.1
"""
TRIALS = 8
COMPILING_S = 100  # the load generator may have to be compiled first


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(WIDTH), **more}


def iobench(*arguments: str | Path, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*IOBENCH, *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=COMPILING_S,
        check=False,
    )


@contextmanager
def begun(*arguments: str | Path, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that is under way; killed, with whatever it started, where the test leaves it alive."""
    process = subprocess.Popen(
        [*IOBENCH, *map(str, arguments)],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_until(process: subprocess.Popen[str], beginning: str) -> None:
    """Read standard error up to a line that begins so."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(beginning):
            return
    raise AssertionError(f"it ended without a line that begins with {beginning!r}")


def the_run(results: Path) -> Path:
    (folder,) = results.iterdir()
    return folder


def families(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(some: list[psutil.Process]) -> Callable[[], bool]:
    return lambda: not [one for one in some if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def assert_is_bad_input(result: subprocess.CompletedProcess[str], what: str, next_step: str) -> None:
    """One paragraph, the next command to type, exit code 2, nothing else."""
    assert (result.returncode, result.stdout) == (2, "")
    *paragraph, last = result.stderr.splitlines()
    assert what in " ".join(paragraph), result.stderr
    assert paragraph[0].startswith("error: "), result.stderr
    assert last.startswith("next: ") and next_step in last
    assert "Traceback" not in result.stderr
    assert not [line for line in paragraph if len(line) > WIDTH and " " in line.removeprefix("error: ")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A whole sweep, and where it was run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(SWEEP)
    return folder, iobench("sweep", "tiny.toml", cwd=folder)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working directory with a sweep file in it."""
    (tmp_path / "tiny.toml").write_text(SWEEP)
    return tmp_path


def test_a_sweep_ends_by_printing_the_path_of_its_report(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, result = finished
    assert result.returncode == 0, result.stderr
    report = folder / result.stdout.splitlines()[-1]
    assert report.is_file() and report.name == "report.html"
    assert report.parent.parent == folder / "results"
    assert report.parent.name.startswith("tiny-")


def test_a_sweep_records_every_planned_trial_with_verified_echoes(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run = read_run(the_run(finished[0] / "results"))
    assert len(run.records) == TRIALS
    assert {(one.trial.strategy, one.trial.connections) for one in run.records} == {
        (strategy, connections) for strategy in ("epoll_lt", "thread_per_connection") for connections in (1, 4)
    }
    for record in run.records:
        assert (record.status, record.reason) == ("ok", "")
        load, server = record.load, record.server
        assert load is not None and server is not None
        assert load.completed > 0
        unfinished = sum(load.errors.values()) + load.timed_out + load.unsent + load.in_flight
        assert load.planned == load.completed + unfinished
        assert load.connections == record.trial.connections
        assert (server.exit_code, server.missing, server.refused) == (0, {}, {})
        assert server.metrics["cpu_ns"] > 0
        threads = 1 + record.trial.connections if record.trial.strategy == "thread_per_connection" else 1
        assert server.metrics["threads"] == threads


def test_server_and_load_run_on_different_cores_where_there_are_two(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    run = read_run(the_run(finished[0] / "results"))
    pinned = run.manifest.host["pinned"]
    if run.manifest.host["physical_cores"] == 1 or len(run.manifest.host["cpus_allowed"]) == 1:
        assert all("shared_core" in record.flags for record in run.records)
    else:
        assert not set(pinned["server"]) & set(pinned["load"])
    assert all(record.server is not None and record.server.cpus == pinned["server"] for record in run.records)


def test_a_manifest_says_what_was_run_and_where(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    manifest = json.loads((the_run(finished[0] / "results") / "manifest.json").read_text())
    assert manifest["sweep"]["name"] == "tiny"
    assert (manifest["sweep"]["seed"], manifest["sweep"]["message_bytes"]) == (1, [64])
    assert manifest["command"] == ["iobench", "sweep", "tiny.toml"]
    assert {one["name"] for one in manifest["strategies"]} == {"epoll_lt", "thread_per_connection"}
    assert {"kernel", "cpu_model", "clock_source", "governor", "limits", "sysctls", "git"} <= manifest["host"].keys()
    assert "iobench" in manifest["versions"]


def test_progress_is_a_line_for_each_trial_where_there_is_no_terminal(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    lines = [line for line in finished[1].stderr.splitlines() if line.startswith("[")]
    assert [line.split("]")[0] for line in lines] == [f"[{number}/{TRIALS}" for number in range(1, TRIALS + 1)]
    assert all("msg/s" in line and line.endswith(" left") for line in lines)
    assert "\x1b" not in finished[1].stderr + finished[1].stdout


def test_the_summary_says_how_much_of_the_time_was_not_measuring(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    summary = " ".join(finished[1].stdout.splitlines())
    assert f"{TRIALS} of {TRIALS} trials: {TRIALS} ok, 0 failed, 0 unavailable." in summary
    assert "% went into starting servers, connecting and ending." in summary


def test_resuming_a_finished_run_runs_nothing_and_writes_the_report_again(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = finished
    run = the_run(folder / "results")
    before = (run / TRIALS_FILE).read_bytes()
    (run / "report.html").unlink()
    result = iobench("sweep", "tiny.toml", "--resume", run, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert f"{TRIALS} of {TRIALS} trials are done, 0 missing" in result.stderr.replace("\n", " ")
    assert (run / "report.html").is_file()
    assert (run / TRIALS_FILE).read_bytes() == before


def test_a_report_can_be_made_again_by_path_and_by_name(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = finished
    run = the_run(folder / "results")
    for given in (run, run.name):
        (run / "report.html").unlink()
        result = iobench("report", given, cwd=folder)
        assert (result.returncode, folder / result.stdout.splitlines()[-1]) == (0, run / "report.html"), result.stderr
        assert (run / "report.html").is_file()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_ends_with_a_report_of_what_there_is_and_the_command_to_go_on(
    signum: int, code: int, here: Path
) -> None:
    with begun("sweep", "tiny.toml", cwd=here) as process:
        read_until(process, "[2/8]")
        started = families(process)
        process.send_signal(signum)
        out, err = process.communicate(timeout=COMPILING_S)
    assert process.returncode == code, err
    run = the_run(here / "results")
    assert out.splitlines()[-1] == str((run / "report.html").relative_to(here))
    assert f"iobench sweep --resume {run.relative_to(here)}" in err
    assert eventually(all_gone(started))
    records = read_run(run).records
    assert 2 <= len(records) < TRIALS
    assert all(record.status == "ok" for record in records)


def test_a_killed_sweep_leaves_no_process_behind(here: Path) -> None:
    with begun("sweep", "tiny.toml", cwd=here) as process:
        read_until(process, "[2/8]")
        started = families(process)
        process.kill()
        process.communicate(timeout=WAIT_S)
    assert len(started) >= 2  # the guard and the load generator; a server too, most of the time
    assert eventually(all_gone(started))
    assert len(read_run(the_run(here / "results")).records) >= 2


def test_a_resumed_sweep_runs_what_is_missing_and_warns_of_a_cut_last_line(here: Path) -> None:
    with begun("sweep", "tiny.toml", cwd=here) as process:
        read_until(process, "[3/8]")
        process.kill()
        process.communicate(timeout=WAIT_S)
    run = the_run(here / "results")
    lines = (run / TRIALS_FILE).read_bytes().splitlines(keepends=True)
    (run / TRIALS_FILE).write_bytes(b"".join(lines[:2]))
    kept = read_run(run).records
    (run / TRIALS_FILE).write_bytes(b"".join(lines[:2]) + lines[2][:100])

    result = iobench("sweep", "--resume", run, cwd=here)
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert "trials.jsonl:3 is left out: the line was cut off" in said
    assert f"2 of {TRIALS} trials are done, {TRIALS - 2} missing" in said
    with pytest.warns(UserWarning, match="trials.jsonl:3 is left out"):
        records = read_run(run).records
    assert records[:2] == kept
    assert len({record.id for record in records}) == len(records) == TRIALS
    assert [record.order for record in records] == list(range(1, TRIALS + 1))


@pytest.mark.parametrize("filters", ["", "error", "ignore"])
def test_what_is_left_out_of_a_run_is_told_in_plain_words_whatever_python_is_told_of_warnings(
    filters: str, finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    shutil.copytree(the_run(finished[0] / "results"), tmp_path / "spoilt")
    with (tmp_path / "spoilt" / TRIALS_FILE).open("ab") as file:
        file.write(b'{"id": "cut')
    result = iobench("report", "spoilt", cwd=tmp_path, PYTHONWARNINGS=filters)
    assert result.returncode == 0, result.stderr
    (line,) = result.stderr.splitlines()
    assert line == f"warning: spoilt/trials.jsonl:{TRIALS + 1} is left out: the line was cut off"


EVERY_WORKLOAD = """
strategies = ["epoll_lt", "iterative"]
connections = [4]
workloads = [
    {kind = "open", rate_hz = 2000, arrivals = "poisson"},
    {kind = "open", load = [0.2]},
    {kind = "idle", silent = 20},
    {kind = "stream", depth = 4},
    {kind = "slow", trickle_bytes = 64},
    "burst",
    "churn",
]
message_bytes = {sizes = [64, 1000], weights = [3, 1]}
repeats = 1
warmup_s = 0.02
duration_s = 0.2
"""


def test_every_workload_can_be_swept(tmp_path: Path) -> None:
    (tmp_path / "every.toml").write_text(EVERY_WORKLOAD)
    result = iobench("sweep", "every.toml", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    records = read_run(the_run(tmp_path / "results")).records
    found = {(one.trial.strategy, one.trial.connections, one.trial.workload): one for one in records}
    assert {key[1:] for key in found if key[0] == "iterative"} == {
        (1, kind) for kind in ("closed", "open", "stream", "slow", "burst")
    } | {(4, "churn")}
    closed, half = found["epoll_lt", 4, "closed"], next(one for one in records if one.trial.load_fraction)
    assert closed.order < half.order
    for record in records:
        load = record.load
        assert (record.status, record.reason) == ("ok", "") and load is not None
        unfinished = sum(load.errors.values()) + load.timed_out + load.unsent + load.in_flight
        assert load.planned == load.completed + unfinished
        assert bool(load.response_hdr) is bool(record.planned_hz)
        assert record.machine is not None and record.server is not None
        assert record.server.metrics["thread_demand_ns"] > 0


def test_a_search_ends_with_the_highest_rate_of_each_strategy_and_can_be_resumed(here: Path) -> None:
    result = iobench("sweep", "tiny.toml", "--strategies", "epoll_lt", "--slo", "p99<10s", cwd=here)
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert "epoll_lt tcp x1 64 B #1: holds p99<10s up to " in said
    run = the_run(here / "results")
    (first, second) = read_run(run).manifest.searches
    assert first.finished and second.finished and first.held_hz > 0
    before = (run / TRIALS_FILE).read_bytes()
    again = iobench("sweep", "--resume", run, cwd=here)
    assert again.returncode == 0, again.stderr
    assert "2 of 2 searches are done, 0 missing" in " ".join(again.stderr.split())
    assert (run / TRIALS_FILE).read_bytes() == before


def test_a_plan_of_a_search_shows_what_it_begins_with(here: Path) -> None:
    result = iobench("plan", "tiny.toml", "--slo", "p99 < 5 ms", cwd=here)
    said = " ".join(result.stdout.split())
    assert "4 searches for the highest Poisson rate that holds p99<5ms, " in said


def test_a_bad_objective_is_bad_input(here: Path) -> None:
    result = iobench("sweep", "tiny.toml", "--slo", "fast", cwd=here)
    assert_is_bad_input(result, "--slo 'fast': an objective is a percentile and its limit", "iobench sweep --slo")
    assert not (here / "results").exists()


def test_a_failed_trial_makes_the_exit_code_1_and_is_told_with_its_reason(here: Path) -> None:
    (here / "tiny.toml").write_text('strategies = ["select"]\nconnections = [1100]\nrepeats = 1\nduration_s = 0.05')
    soft, _ = resource_limit()
    if soft < 2500:
        pytest.skip(f"RLIMIT_NOFILE is {soft}: not enough descriptors to go beyond FD_SETSIZE")
    result = iobench("sweep", "tiny.toml", cwd=here)
    assert result.returncode == 1, result.stderr
    said = " ".join(result.stdout.split())
    assert "failed 1x: select tcp x1100 64 B" in said
    assert "of 1100 connections refused" in said
    (record,) = read_run(the_run(here / "results")).records
    assert record.load is not None and record.load.completed > 0


def resource_limit() -> tuple[int, int]:
    import resource  # noqa: PLC0415 - one test asks

    return resource.getrlimit(resource.RLIMIT_NOFILE)


def test_only_the_strategies_asked_for_are_run(here: Path) -> None:
    result = iobench("plan", "tiny.toml", "--strategies", "poll, iterative", "--trials", cwd=here)
    assert result.returncode == 0, result.stderr
    assert {line.split()[1] for line in result.stdout.splitlines()} == {"poll", "iterative"}


def test_a_plan_shows_trials_and_time_and_runs_nothing(here: Path) -> None:
    result = iobench("plan", cwd=here)
    assert result.returncode == 0, result.stderr
    said = " ".join(result.stdout.split())
    assert "Rounds of 25 trials until all is decided, 2 min 40 s at most" in said
    assert "3 settings in turns, up to 9 servers up at once" in said
    assert "iterative serves one connection at a time" in said
    assert [path.name for path in here.iterdir()] == ["tiny.toml"]


@pytest.mark.parametrize("command", [["list"], ["plan"], ["--help"], ["sweep", "--help"], ["serve", "--help"]])
def test_what_is_printed_fits_into_80_columns(command: list[str], here: Path) -> None:
    result = iobench(*command, cwd=here)
    assert result.returncode == 0
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= WIDTH


def test_the_list_shows_every_strategy_and_whether_it_can_run(here: Path) -> None:
    lines = iobench("list", cwd=here).stdout.splitlines()
    rows = {line.split()[0]: line for line in lines[1:]}
    assert {"iterative", "select", "epoll_et", "asyncio_streams"} <= rows.keys()
    assert "blocking" in rows["iterative"] and "yes" in rows["iterative"]


def test_help_and_version_do_not_import_what_is_heavy(here: Path) -> None:
    code = (
        "import sys, bench.cli\n"
        "sys.argv = ['iobench', '--version']\n"
        "try: bench.cli.main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'pandas', 'matplotlib', 'numba', 'scipy', 'rich', 'psutil'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=here, env=environment(), capture_output=True, text=True, timeout=WAIT_S, check=True
    )
    version, heavy = result.stdout.splitlines()
    assert version.startswith("iobench ")
    assert json.loads(heavy.replace("'", '"')) in ([], ["psutil"])


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("strategy", ["epoll_lt", "thread_per_connection", "asyncio_protocol"])
def test_serve_runs_a_server_that_echoes_until_sigterm_or_ctrl_c(strategy: str, signum: int, here: Path) -> None:
    with begun("serve", strategy, "tcp:127.0.0.1:0", cwd=here) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        channel = dial(parse(address), WAIT_S)
        os.write(channel.wfd, b"hello")
        assert os.read(channel.rfd, 64) == b"hello"
        channel.close()
        process.send_signal(signum)
        _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (0, "")


def test_serve_removes_its_socket_file(here: Path) -> None:
    with begun("serve", "poll", "unix:echo.sock", cwd=here) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert (here / "echo.sock").exists()
        process.terminate()
        process.communicate(timeout=WAIT_S)
    assert not (here / "echo.sock").exists()


def test_load_passes_everything_on(here: Path) -> None:
    result = iobench("load", "--help", cwd=here)
    assert result.returncode == 0
    assert "ADDRESS" in result.stdout.upper()
    assert "--connections" in result.stdout


BAD_INPUT = [
    (["sweep", "quik"], "There is no sweep 'quik' (did you mean 'quick'?)", "iobench plan quick"),
    (["sweep", "missing.toml"], "There is no sweep file missing.toml", "iobench plan"),
    (["sweep", "bad_key.toml"], "there is no key 'repeat' (did you mean 'repeats'?)", "bad_key.toml"),
    (["sweep", "bad_value.toml"], "bad_value.toml: repeats = 0 is not allowed", "bad_value.toml"),
    (["plan", "not.toml"], "not.toml is not TOML", "not.toml"),
    (["sweep", "--strategies", "epol_lt"], "There is no strategy 'epol_lt' (did you mean 'epoll_lt'?)", "iobench list"),
    (["sweep", "--strategies", ","], "--strategies names none", "iobench list"),
    (["sweep", "--resume", "nothing"], "There is no run folder nothing", "ls results"),
    (["sweep", "--resume", "no_run"], "no_run is not a run folder: it has no manifest.json", "iobench sweep"),
    (["sweep", "--resume", "spoilt"], "spoilt/manifest.json can't be read", "iobench sweep"),
    (["report", "nothing"], "There is no run folder nothing", "ls results"),
    (["report", "no_run"], "no_run is not a run folder: it has no manifest.json", "iobench sweep"),
    (["sweep", "--results", "tiny.toml"], "No run folder can be made in tiny.toml: File exists", "--results DIR"),
    (
        ["sweep", "--results", "new/here"],
        "No run folder can be made in new/here: No such file or directory",
        "--results",
    ),
    (
        ["gate", "--base", "HEAD", "--results", "tiny.toml"],
        "No run folder can be made in tiny.toml: File exists",
        "DIR",
    ),
    (["why", "epoll_lt", "--results", "tiny.toml"], "tiny.toml/why.json can't be written: File exists", "ls -ld"),
    (
        ["why", "epoll_lt", "--results", "new/here"],
        "new/here/why.json can't be written: No such file",
        "mkdir -p new/here",
    ),
    (["why", "epoll_lt", "--results", "spoilt"], "spoilt/why.json can't be read", "mv spoilt/why.json"),
    (["calibrate", "--results", "new/here"], "Nothing can be written to new/here: No such file", "iobench calibrate"),
    (["calibrate", "--results", "spoilt"], "spoilt/calibration.json can't be read", "mv spoilt/calibration.json"),
    (
        ["lab", "--all", "--results", "new/here"],
        "Nothing can be written to new/here: No such file",
        "iobench lab --all",
    ),
    (["lab", "--all", "--results", "spoilt"], "spoilt/lab.json can't be read", "mv spoilt/lab.json"),
    (
        ["sweep", "--results", "tiny.toml/here"],
        "No run folder can be made in tiny.toml/here: Not a directory",
        "--results",
    ),
    (["serve", "epol_lt", "tcp:127.0.0.1:0"], "There is no strategy 'epol_lt'", "iobench list"),
    (["serve", "epoll_lt", "127.0.0.1:0"], "'127.0.0.1:0' is not an address", "iobench serve epoll_lt tcp:"),
    (["serve", "epoll_lt", "tcp:192.0.2.1:80"], "Can't listen on tcp:192.0.2.1:80: ", "iobench serve epoll_lt tcp:"),
    (["serve", "epoll_lt", "unix:none/echo"], "Can't listen on unix:none/echo: No such file", "iobench serve epoll_lt"),
]


@pytest.mark.parametrize(("arguments", "what", "next_step"), BAD_INPUT, ids=[" ".join(case[0]) for case in BAD_INPUT])
def test_bad_input_is_answered_with_one_paragraph_and_the_next_command(
    arguments: list[str], what: str, next_step: str, here: Path
) -> None:
    (here / "bad_key.toml").write_text("repeat = 3")
    (here / "bad_value.toml").write_text("repeats = 0")
    (here / "not.toml").write_text("repeats is 3")
    (here / "no_run").mkdir()
    (here / "spoilt").mkdir()
    for name in ("manifest", "why", "calibration", "lab", "anatomy"):
        (here / "spoilt" / f"{name}.json").write_text("{")
    there = sorted(here.rglob("*"))
    assert_is_bad_input(iobench(*arguments, cwd=here), what, next_step)
    assert sorted(here.rglob("*")) == there


def test_results_without_permission_are_bad_input(here: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (here / "results").mkdir(mode=0o500)
    assert_is_bad_input(iobench("sweep", cwd=here), "No run folder can be made in results: Permission denied", "DIR")


def test_a_busy_port_is_bad_input(here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = iobench("serve", "epoll_lt", f"tcp:127.0.0.1:{port}", cwd=here)
    assert_is_bad_input(result, f"Can't listen on tcp:127.0.0.1:{port}: Address already in use", "takes a free port")


def test_a_run_is_not_resumed_with_another_sweep(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = finished
    run = the_run(folder / "results")
    (folder / "other").mkdir()
    (folder / "other" / "tiny.toml").write_text(SWEEP.replace("repeats = 2", "repeats = 3"))
    result = iobench("sweep", "other/tiny.toml", "--resume", run, cwd=folder)
    assert_is_bad_input(result, "was made with another sweep: repeats was 2, is 3", f"--resume {run}")


def test_a_run_of_another_machine_is_not_resumed(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    run = tmp_path / "moved"
    run.mkdir()
    manifest = json.loads((the_run(finished[0] / "results") / "manifest.json").read_text())
    manifest["host"]["cpu_model"] = "Another"
    (run / "manifest.json").write_text(json.dumps(manifest))
    result = iobench("sweep", "--resume", run, cwd=tmp_path)
    assert_is_bad_input(result, "its figures would not compare: cpu_model was Another", "makes a new run")


def test_a_folder_called_servers_in_the_working_directory_is_not_mistaken_for_ours(here: Path) -> None:
    (here / "servers").mkdir()
    (here / "servers" / "__init__.py").write_text("raise RuntimeError('the wrong servers')")
    result = iobench("list", cwd=here)
    assert result.returncode == 0, result.stderr
    assert "epoll_lt" in result.stdout
