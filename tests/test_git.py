"""What is asked of git, and what it is kept from: hooks, filters, other repositories than the one that is meant."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from repositories import git, hook, with_servers
from spawn import ROOT

from bench.git import RefusedError, changed, checkout, commit_of, is_checkout, write_out

ANOTHER_OWNER = "GIT_TEST_ASSUME_DIFFERENT_OWNER"  # git's own, for its tests of safe.directory


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of a folder with a program, a link and a name that is no ASCII; the first is tagged."""
    place = tmp_path / "repository"
    (place / "part").mkdir(parents=True)
    (place / "part" / "program").write_text("#!/bin/sh\n")
    (place / "part" / "program").chmod(0o755)
    (place / "part" / "link").symlink_to("program")
    (place / "part" / "n\N{LATIN SMALL LETTER E WITH ACUTE} w").write_bytes(b"\r\n\0\xff")
    (place / "other").write_text("1")
    git(place, "init", "-q")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "first")
    git(place, "tag", "first")
    (place / "part" / "program").write_text("#!/bin/sh\nfalse\n")
    git(place, "commit", "-qam", "second")
    return place


@pytest.fixture
def of_another_user(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ANOTHER_OWNER, "1")
    for settings in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):  # where the folder may be called safe
        monkeypatch.setenv(settings, "/dev/null")
    return repository


def test_a_folder_of_a_commit_is_written_out_as_it_was_and_nothing_else(repository: Path, tmp_path: Path) -> None:
    into = tmp_path / "into"
    write_out(repository, commit_of(repository, "first"), "part", into)
    assert sorted(path.name for path in into.iterdir()) == ["part"]
    part = into / "part"
    assert sorted(path.name for path in part.iterdir()) == ["link", "n\N{LATIN SMALL LETTER E WITH ACUTE} w", "program"]
    assert (part / "program").read_text() == "#!/bin/sh\n"
    assert (part / "program").stat().st_mode & 0o111 == 0o111
    assert (part / "link").readlink() == Path("program")
    assert (part / "n\N{LATIN SMALL LETTER E WITH ACUTE} w").read_bytes() == b"\r\n\0\xff"


def test_what_the_environment_says_of_another_repository_is_not_gone_by(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = with_servers(tmp_path / "other")
    index = other / ".git" / "index"
    before = index.read_bytes()
    for name, value in {"GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": index}.items():
        monkeypatch.setenv(name, str(value))
    assert checkout(repository / "part") == repository.resolve()
    assert commit_of(repository, "first") == git(repository, "rev-parse", "first")
    assert not changed(repository)
    write_out(repository, commit_of(repository), "part", tmp_path / "into")
    assert (tmp_path / "into" / "part" / "program").exists()
    assert index.read_bytes() == before


def test_all_variables_that_git_calls_those_of_a_repository_are_known_but_for_settings() -> None:
    from bench.git import OF_A_REPOSITORY  # noqa: PLC0415

    listed = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True)
    assert set(listed.stdout.split()) - OF_A_REPOSITORY == {"GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS"}


def test_no_filter_and_no_hook_of_the_repository_runs(repository: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    run = f"echo run >> {shlex.quote(str(trace))}; exit 1"
    git(repository, "config", "core.fsmonitor", str(repository / ".git" / "hooks" / "monitor"))
    for name in ("post-checkout", "post-index-change", "monitor"):
        hook(repository, name, run)
    for command in ("clean", "smudge"):
        git(repository, "config", f"filter.broken.{command}", run)
    git(repository, "config", "filter.broken.required", "true")
    (repository / ".git" / "info" / "attributes").write_text("* filter=broken\n")
    os.utime(repository / "part" / "program", (1e9, 1e9))  # so that git has to look into it
    assert not changed(repository)
    write_out(repository, commit_of(repository), "part", tmp_path / "into")
    assert not trace.exists()


def test_a_status_leaves_the_index_alone(repository: Path) -> None:
    index = repository / ".git" / "index"
    os.utime(repository / "part" / "program", (1e9, 1e9))  # so that git has to look into it, and would note what it saw
    before = index.read_bytes()
    assert not changed(repository)
    assert index.read_bytes() == before


def test_changes_are_told_by_the_paths_asked_for(repository: Path) -> None:
    (repository / "other").write_text("2")
    assert changed(repository)
    assert not changed(repository, "--", "part")


def test_a_checkout_of_another_user_is_refused_with_what_git_says_and_what_is_to_be_typed(
    of_another_user: Path,
) -> None:
    for ask in (checkout, is_checkout, commit_of, changed):
        with pytest.raises(RefusedError, match="dubious ownership") as refused:
            ask(of_another_user)  # type: ignore[operator]
        assert refused.value.next_step == f"git config --global --add safe.directory {of_another_user}"
        assert str(of_another_user) not in refused.value.reason


def test_a_setting_that_calls_the_folder_safe_is_heard_though_it_comes_by_the_environment(
    of_another_user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert checkout(of_another_user) == of_another_user.resolve()


def test_a_folder_in_no_checkout_and_one_that_only_lies_in_one_are_told_apart(repository: Path, tmp_path: Path) -> None:
    assert checkout(tmp_path) is None
    assert not is_checkout(tmp_path)
    assert is_checkout(repository)
    assert not is_checkout(repository / "part")


def test_a_revision_that_there_is_not_is_none_and_a_broken_repository_is_an_error(repository: Path) -> None:
    assert commit_of(repository, "nowhere") == ""
    assert commit_of(repository, "--upload-pack=x") == ""
    (repository / ".git" / "HEAD").write_text("nonsense\n")
    with pytest.raises(RefusedError, match="not a git repository"):
        commit_of(repository)


def test_without_git_it_is_said_that_there_is_none(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RefusedError, match="no git on PATH"):
        checkout(repository)


def test_an_object_that_is_not_there_is_told(repository: Path, tmp_path: Path) -> None:
    blob = git(repository, "rev-parse", "HEAD:part/program")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(RefusedError, match="missing"):
        write_out(repository, commit_of(repository), "part", tmp_path / "into")


def test_git_is_started_in_one_place_alone() -> None:
    starting = [path for path in (ROOT / "bench").rglob("*.py") if '["git"' in path.read_text(encoding="utf-8")]
    assert starting == [ROOT / "bench" / "git.py"]


def test_a_gate_in_a_hook_leaves_the_commit_that_is_under_way_as_it_is(tmp_path: Path) -> None:
    place = with_servers(tmp_path / "repository")
    (place / "servers" / "added.py").write_text("")
    git(place, "add", "-A")
    git(place, "commit", "-qm", "one more")
    script = tmp_path / "in_the_hook.py"
    script.write_text(
        "import os\nfrom pathlib import Path\nfrom bench.gate.sides import Asked, find_tree, sources\n"
        "assert 'GIT_INDEX_FILE' in os.environ\ntree = find_tree(Path.cwd(), 'first')\n"
        "with sources(Asked('first'), Asked(), tree) as (base, head):\n"
        f"    assert base.side.commit == {git(place, 'rev-parse', 'first')!r}\n    assert head.side.dirty\n"
    )
    hook(
        place,
        "pre-commit",
        f"PYTHONPATH={shlex.quote(str(ROOT))} {shlex.quote(sys.executable)} {shlex.quote(str(script))}",
    )
    (place / "servers" / "added.py").write_text("# changed\n")
    git(place, "commit", "-qam", "changed")
    assert git(place, "diff", "--name-only", "HEAD~1") == "servers/added.py"
    assert git(place, "status", "--porcelain") == ""
    assert len(git(place, "worktree", "list").splitlines()) == 1
