"""The CI examples of the documentation: they are what they claim, and their commands are run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from repositories import git
from spawn import ROOT

from bench.processes import environment

EXAMPLES = ROOT / "docs" / "ci"
INSTALL = "python -m pip install ."


def read(name: str) -> Any:
    # YAML 1.1 takes the key `on` for true, which is nothing to the runners.
    return yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))


def github_steps() -> list[dict[str, Any]]:
    return list(read("github.yml")["jobs"]["gate"]["steps"])


def commands(name: str) -> list[str]:
    if name == "github.yml":
        return [step["run"] for step in github_steps() if "run" in step]
    return list(read(name)["gate"]["script"])


def test_a_pull_request_triggers_it_with_the_whole_history() -> None:
    assert read("github.yml")[True] == "pull_request"
    (checkout,) = [step for step in github_steps() if step.get("uses", "").startswith("actions/checkout")]
    assert checkout["with"]["fetch-depth"] == 0
    gitlab = read("gitlab.yml")["gate"]
    assert gitlab["variables"]["GIT_DEPTH"] == "0"
    assert "merge_request_event" in gitlab["rules"][0]["if"]


def test_an_inconclusive_gate_is_a_warning_and_a_regression_fails() -> None:
    assert read("gitlab.yml")["gate"]["allow_failure"] == {"exit_codes": 3}
    (gate,) = [step["run"] for step in github_steps() if "iobench gate" in step.get("run", "")]
    for code, expected in ((0, 0), (1, 1), (2, 2), (3, 0)):
        said = subprocess.run(["bash", "-e", "-c", f"iobench() {{ return {code}; }}\n{gate}"], check=False)
        assert said.returncode == expected


def test_the_files_are_kept_whatever_the_verdict() -> None:
    (upload,) = [step for step in github_steps() if "upload-artifact" in step.get("uses", "")]
    assert upload["if"] == "always()"
    artifacts = read("gitlab.yml")["gate"]["artifacts"]
    assert artifacts["when"] == "always"
    assert artifacts["reports"]["junit"].startswith(artifacts["paths"][0])


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_its_commands_run_in_a_clone_with_two_branches(name: str, tmp_path: Path) -> None:
    """All but the installation, which the one that runs this test stands in for; the budget is cut by its variable."""
    clone = tmp_path / "clone"
    clone.mkdir()
    shutil.copytree(ROOT / "servers", clone / "servers", ignore=shutil.ignore_patterns("__pycache__"))
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "servers"]):
        git(clone, *arguments)
    git(clone, "update-ref", "refs/remotes/origin/main", "HEAD")
    there = tmp_path / "bin"
    there.mkdir()
    (there / "iobench").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m bench "$@" --no-calls\n')
    (there / "iobench").chmod(0o755)
    env = environment() | {"BASE": "origin/main", "BUDGET": "2s", "PATH": f"{there}:{os.environ['PATH']}"}
    env.pop("GITHUB_ACTIONS", None)
    run = commands(name)
    assert INSTALL in run
    (command,) = [command for command in run if command != INSTALL]
    said = subprocess.run(
        ["bash", "-e", "-c", command], cwd=clone, env=env, capture_output=True, text=True, timeout=110, check=False
    )
    assert said.returncode in ((0,) if name == "github.yml" else (0, 3)), said.stdout + said.stderr
    (folder,) = (clone / "results").glob("gate-*")
    assert (folder / "junit.xml").is_file()


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_the_documentation_leads_to_it(name: str) -> None:
    assert f"ci/{name}" in (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
