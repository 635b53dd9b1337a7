"""Tab completion, asked as bash, zsh and fish ask: by environment variables, the answer on standard output."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from spawn import ROOT, list_strategies
from synthetic import record, write_run

from bench import complete, lab
from bench.export import names as formats
from bench.lab.run import discover
from bench.sweep import names as sweeps

AS_ITSELF = "import sys; sys.argv[0] = 'iobench'; from bench.cli import main; main()"
SHELLS = ("bash", "zsh", "fish")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def asked(shell: str, line: str, cwd: Path) -> str:
    """What the program answers a shell in which this line has been typed, up to the cursor."""
    words = re.split(r" +", line)
    variables = {"_IOBENCH_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        variables |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    else:
        variables |= {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-c", AS_ITSELF],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment(**variables),
    )
    assert done.stderr == ""
    return done.stdout


def suggested(shell: str, line: str, cwd: Path) -> list[str]:
    """The suggestions alone, without the words on them."""
    answer = asked(shell, line, cwd)
    if shell == "zsh":
        return [
            found.replace(r"\\:", ":")
            for found in re.findall(r'^(?:_arguments .\*: :\(\()?"([^"]*)"', answer, re.MULTILINE)
        ]
    return [one.partition("\t")[0] for one in answer.splitlines() if one]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working directory with two runs, a folder that is none, and a sweep file."""
    for age, name in enumerate(("quick-2", "quick-1")):
        folder = write_run(tmp_path / "results" / name, [record()])
        os.utime(folder / "manifest.json", (1e9 - age, 1e9 - age))
    (tmp_path / "results" / "notes").mkdir()
    (tmp_path / "mine.toml").write_text("repeats = 1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_complete(here: Path, shell: str) -> None:
    assert suggested(shell, "iobench ex", here) == ["export"]
    assert "sweep" in suggested(shell, "iobench ", here)


@pytest.mark.parametrize("shell", SHELLS)
def test_sweeps_complete_by_name_and_by_file(here: Path, shell: str) -> None:
    assert suggested(shell, "iobench sweep ", here) == [*sweeps(), "mine.toml"]
    assert suggested(shell, "iobench plan mo", here) == ["models"]
    assert suggested(shell, "iobench plan mi", here) == ["mine.toml"]


@pytest.mark.parametrize("shell", SHELLS)
def test_strategies_complete(here: Path, shell: str) -> None:
    known = sorted(found["name"] for found in list_strategies())
    assert suggested(shell, "iobench serve ", here) == known
    assert suggested(shell, "iobench anatomy a", here)[0] == "all"
    assert suggested(shell, "iobench why epoll_lt po", here) == [name for name in known if name.startswith("po")]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_last_name_of_a_list_completes_and_none_comes_twice(here: Path, shell: str) -> None:
    assert suggested(shell, "iobench sweep --strategies epoll_lt,epoll_", here) == [
        "epoll_lt,epoll_et",
        "epoll_lt,epoll_oneshot_threads",
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_transports_and_the_beginnings_of_addresses_complete(here: Path, shell: str) -> None:
    assert suggested(shell, "iobench why --transport ", here) == ["tcp", "unix", "pipe"]
    assert suggested(shell, "iobench serve epoll_lt u", here) == ["unix:"]


@pytest.mark.parametrize("shell", SHELLS)
def test_runs_complete_by_name_the_newest_first(here: Path, shell: str) -> None:
    for command in ("report", "export", "compare quick-1", "sweep --resume", "history --add", "gate --base"):
        assert suggested(shell, f"iobench {command} ", here) == ["quick-2", "quick-1"], command


@pytest.mark.parametrize("shell", SHELLS)
def test_runs_complete_by_path_and_folders_on_the_way_end_with_a_slash(here: Path, shell: str) -> None:
    assert suggested(shell, "iobench report ./re", here) == ["./results/"]
    assert suggested(shell, "iobench report results/", here) == ["results/notes/", "results/quick-1", "results/quick-2"]


def test_runs_are_those_of_the_folder_of_results_that_was_named_before(here: Path) -> None:
    (here / "results").rename(here / "elsewhere")
    assert suggested("bash", "iobench report --results elsewhere ", here) == ["quick-2", "quick-1"]
    assert suggested("bash", "iobench report ", here) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_formats_and_experiments_complete(here: Path, shell: str) -> None:
    assert suggested(shell, "iobench export quick-1 --to ", here) == formats()
    assert suggested(shell, "iobench export quick-1 --to pa", here) == ["parquet"]
    assert suggested(shell, "iobench lab mode", here) == ["mode-switch"]


def test_experiments_are_those_that_the_lab_finds() -> None:
    assert complete.experiments("") == [found.experiment.name for found in discover(lab)]


def test_zsh_and_fish_are_told_what_a_suggestion_is(here: Path) -> None:
    assert "epoll_et\t" in asked("fish", "iobench serve epoll_e", here)
    assert re.search(r'"epoll_et":"\S', asked("zsh", "iobench serve epoll_e", here))
    assert re.search(r"^quick\t\S", asked("fish", "iobench sweep q", here))


@pytest.mark.parametrize("shell", SHELLS)
def test_where_there_is_nothing_to_suggest_nothing_goes_wrong(tmp_path: Path, shell: str) -> None:
    for line in ("iobench report ", "iobench report none/at/all/", "iobench export x --to zzz"):
        assert suggested(shell, line, tmp_path) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_a_shell_is_shown(tmp_path: Path, shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AS_ITSELF, "--show-completion", shell],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"),
    )
    assert done.returncode == 0, done.stderr
    assert f"_IOBENCH_COMPLETE=complete_{shell}" in done.stdout


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/iobench.sh"),
        ("zsh", ".zfunc/_iobench"),
        ("fish", ".config/fish/completions/iobench.fish"),
    ],
)
def test_it_is_installed_for_a_shell(tmp_path: Path, shell: str, file: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AS_ITSELF, "--install-completion", shell],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment(HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"),
    )
    assert done.returncode == 0, done.stderr
    assert f"_IOBENCH_COMPLETE=complete_{shell}" in (tmp_path / file).read_text()


def test_a_real_bash_completes_with_what_was_installed(here: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    program = here / "bin" / "iobench"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{AS_ITSELF}\n")
    program.chmod(0o755)
    script = """
    iobench --install-completion >/dev/null
    source "$HOME/.bashrc"
    COMP_WORDS=(iobench export quick-1 --to py); COMP_CWORD=4
    _iobench_completion iobench
    echo "${COMPREPLY[@]}"
    """
    path = f"{program.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=here,
        env=environment(HOME=str(here), PATH=path),
    )
    assert done.stdout.split() == ["pyperf", "pytest-benchmark"], done.stderr
