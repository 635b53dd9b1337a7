"""Git repositories for tests: made by a git that knows nothing of the one that the tests themselves may run in."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from spawn import ROOT

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")


def git(repository: Path, *arguments: str) -> str:
    """What git says. In a hook's environment (githooks(5)) it would work on the hook's repository."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(repository), *IDENTITY, *arguments], capture_output=True, text=True, check=True, env=env
    ).stdout.strip()


def with_servers(place: Path) -> Path:
    """A checkout with our servers in it, on a branch of its own, its first commit tagged."""
    shutil.copytree(ROOT / "servers", place / "servers", ignore=shutil.ignore_patterns("__pycache__"))
    (place / ".gitignore").write_text("results/\n__pycache__/\n")
    git(place, "init", "-q", "-b", "work")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "servers")
    git(place, "tag", "first")
    return place


def hook(repository: Path, name: str, *lines: str) -> None:
    """Let git run these lines of shell script at that point."""
    path = repository / ".git" / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
