"""The README: what it promises is there, what is there is in it, and what it says to type works."""

from __future__ import annotations

import html
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from spawn import ROOT, list_strategies
from typer.testing import CliRunner

from bench.cli import app
from bench.sweep import names
from bench.workloads import KINDS
from benchmarks import sample

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+\*?)` \| .* \| \[(\w+)\.py\]", README, re.MULTILINE)
MODELS = {
    "blocking": "blocking",
    "non-blocking": "nonblocking",
    "multiplexing": "multiplexing",
    "signal-driven": "signal",
    "completion": "completion",
    "coroutines": "coroutine",
    "callbacks": "coroutine",
    "the same four": "coroutine",
}
LISTED = re.findall(r"^\| `(iobench [^`]+)` \|", README, re.MULTILINE)  # of the table of commands
EXAMPLE = "one_buffer"
LIMIT_S = 110


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def lines_to_type() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line and not line.startswith("#")]


def after(marker: str) -> str:
    """The line to type below a marker."""
    return re.search(rf"<!-- {marker} -->\n```sh\n(.*)\n```", README)[1]  # type: ignore[index]


# What takes minutes, and what runs it all the same.
ELSEWHERE = {
    after("sweep line"): "a whole sweep: tests/test_cli.py runs a small one, and .ci/run makes such an environment",
    after("test line"): "runs this very file: .ci/run takes the line from the README and runs it",
}
OF_THE_EXAMPLE = [
    ".venv/bin/iobench list",
    f".venv/bin/python -m pytest tests/contract -k {EXAMPLE}",
    f".venv/bin/iobench sweep --strategies {EXAMPLE},iterative",
]


def run(*arguments: str, cwd: Path, home: Path = ROOT, limit_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(home), "COLUMNS": "80", "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=limit_s, check=False
    )


# --- the tables


def test_the_table_of_strategies_has_every_one_of_them_with_its_file_and_no_other() -> None:
    strategies = {found["name"]: found["module"] for found in list_strategies()}
    told = {
        name: module
        for pattern, module in ROWS
        for name in strategies
        if re.fullmatch(pattern.replace("*", r"\w+"), name)
    }
    assert told == strategies
    assert all(any(re.fullmatch(row.replace("*", r"\w+"), name) for name in strategies) for row, _ in ROWS)


def test_the_table_says_of_each_strategy_its_model_as_iobench_list_does_and_what_it_is_for(tmp_path: Path) -> None:
    said = run("-P", "-m", "bench", "list", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    listed = dict(re.findall(r"^(\w+) +(\w+) +\w.* (?:yes|no)\s*$", said.stdout, re.MULTILINE))
    assert listed.keys() == {found["name"] for found in list_strategies()}
    told = re.findall(r"^\| `(\w+\*?)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| \[", README, re.MULTILINE)
    assert len(told) == len(ROWS)
    for pattern, model, in_one_line, good_for in told:
        models = {listed[name] for name in listed if re.fullmatch(pattern.replace("*", r"\w+"), name)}
        assert models == {MODELS[model]}, pattern
        assert in_one_line.strip() and good_for.strip()


def test_every_command_is_told_of() -> None:
    commands = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert [name for name in commands if f"`iobench {name}" not in README] == []


@pytest.mark.parametrize("name", names())
def test_every_sweep_is_told_of(name: str) -> None:
    assert f"iobench sweep {name}" in README or name == "quick"


def test_every_workload_is_told_of_and_no_other() -> None:
    section = README[README.index("### Workloads") :].partition("\n### ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == set(KINDS)


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []


# --- what it says to type


def test_every_line_to_type_is_run_here_or_said_to_be_run_elsewhere() -> None:
    assert sorted(lines_to_type()) == sorted([*ELSEWHERE, *OF_THE_EXAMPLE])


@pytest.mark.parametrize("written", LISTED)
def test_every_command_of_the_table_exists_with_the_options_that_it_is_shown_with(written: str, tmp_path: Path) -> None:
    _, name, *rest = written.split()
    if name == "load":  # which has a process, and options, of its own
        said = run("-P", "-m", "bench", name, "--help", cwd=tmp_path)
        code, shown = said.returncode, said.stdout
    else:
        found = CliRunner(env={"COLUMNS": "200"}).invoke(app, [name, "--help"])
        code, shown = found.exit_code, found.output
    assert code == 0
    assert [option for option in re.findall(r"(?<= )--?[a-z-]+", f" {' '.join(rest)}") if option not in shown] == []


@pytest.mark.parametrize(
    "typed",
    [
        "iobench plan",
        "iobench plan everything",
        "iobench report sample",
        "iobench export sample --to hlog",
        "iobench history",
        "iobench lab",
    ],
)
def test_commands_that_measure_nothing_do_what_the_table_says_with_the_sample(typed: str, tmp_path: Path) -> None:
    shutil.copytree(sample.SAMPLE, tmp_path / "results" / "sample")
    said = run("-P", "-m", "bench", *shlex.split(typed)[1:], cwd=tmp_path)
    assert (said.returncode, "Traceback" in said.stderr) == (0, False), said.stderr
    assert said.stdout.strip()
    assert typed.split()[1] in {written.split()[1] for written in LISTED}


def test_the_sweep_file_that_is_shown_can_be_planned(tmp_path: Path) -> None:
    (shown,) = blocks("toml")
    (tmp_path / "shown.toml").write_text(shown, encoding="utf-8")
    said = run("-P", "-m", "bench", "plan", "shown.toml", cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "threads or epoll for many clients?" in said.stdout


# --- how to add a strategy


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree with the README's example in it."""
    home = tmp_path_factory.mktemp("extended")
    for name in ("bench", "clients", "servers", "tests"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "report.py"):
        shutil.copy(ROOT / name, home / name)
    (example,) = blocks("python")
    (home / "servers" / f"{EXAMPLE}.py").write_text(example, encoding="utf-8")
    return home


def test_the_strategy_of_the_example_is_listed(extended: Path) -> None:
    said = run("-m", "bench", "list", cwd=extended, home=extended)
    assert re.search(rf"^{EXAMPLE} +blocking +.* yes", said.stdout, re.MULTILINE), said.stdout + said.stderr


@pytest.mark.timeout(400)
def test_the_strategy_of_the_example_serves_as_the_contract_says(extended: Path) -> None:
    """On TCP alone: all three transports take three times as long."""
    (command,) = [line for line in OF_THE_EXAMPLE if "pytest" in line]
    arguments = [*shlex.split(command)[1:], "-q", "-p", "no:cacheprovider"]
    arguments[arguments.index(EXAMPLE)] += "-tcp"
    said = run(*arguments, cwd=extended, home=extended, limit_s=380)
    passed = re.search(r"(\d+) passed", said.stdout)
    assert said.returncode == 0, said.stdout + said.stderr
    assert passed
    assert int(passed[1]) >= 20


def test_the_strategy_of_the_example_can_be_swept_beside_another(extended: Path, tmp_path: Path) -> None:
    """The sweep is planned and not run: that it serves, the contract shows, and sweeps are run in test_cli.py."""
    (command,) = [line for line in OF_THE_EXAMPLE if " sweep " in line]
    _, _, *options = shlex.split(command)
    said = run("-m", "bench", "plan", *options, cwd=tmp_path, home=extended)
    assert said.returncode == 0, said.stderr
    for name in (EXAMPLE, "iterative"):
        assert re.search(rf"^{name} .* 1\s*$", said.stdout, re.MULTILINE), said.stdout


# --- the sample


def test_the_paragraph_below_the_pictures_is_the_answer_of_the_sample() -> None:
    assert sample.told(README) == sample.paragraph(sample.SAMPLE)
    assert len(sample.told(README)) > 200


def test_the_pictures_are_the_samples_and_its_report_shows_them_too() -> None:
    pictures = re.findall(r"!\[[^]]+\]\((results/sample/[\w-]+)\.svg\)", README)
    assert len(pictures) == 2
    page = (sample.SAMPLE / "report.html").read_text(encoding="utf-8")
    for picture in pictures:
        assert (ROOT / f"{picture}.svg").read_text(encoding="utf-8").startswith("<svg")
        assert f'id="figure-{Path(picture).name}"' in page


def test_the_report_of_the_sample_opens_with_the_same_answer() -> None:
    page = (sample.SAMPLE / "report.html").read_text(encoding="utf-8")
    plain = re.sub(r"<[^>]+>", "", re.sub(r"</?p\b[^>]*>", " ", page))
    text = " ".join(html.unescape(plain).split())  # which takes a no-break space for one, too
    assert re.sub(r"`", "", sample.told(README)) in text


def test_the_sample_is_a_whole_run_of_its_sweep_and_small() -> None:
    from bench.record import read_run  # noqa: PLC0415

    found = read_run(sample.SAMPLE)
    assert found.notes == []
    assert found.manifest.command == ["iobench", "sweep", sample.SWEEP]
    assert len(found.records) == found.manifest.sweep["trials_planned"]
    assert {record.status for record in found.records} == {"ok"}
    assert found.manifest.calibration is not None
    assert sum(path.stat().st_size for path in sample.SAMPLE.rglob("*")) < 9_000_000


def test_a_paragraph_takes_the_place_of_the_one_before_and_of_nothing_else() -> None:
    changed = sample.with_paragraph(README, "Use `this` \\1 one. " * 20)
    assert sample.told(changed) == ("Use `this` \\1 one. " * 20).strip()
    assert sample.with_paragraph(changed, sample.told(README)) == README
    with pytest.raises(ValueError, match="no block"):
        sample.told("nothing")
