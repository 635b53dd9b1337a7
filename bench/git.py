"""Git, asked about one checkout: nothing of the repository is run or written, and what git itself says is told.

Within a hook the environment says which repository and which index git is at work on (githooks(5)), and whoever starts
git there works on these, whatever folder it names. Hooks, filters and the file system monitor are programs that
settings name, and none of them runs. What is needed of a revision is read from the objects themselves, so that the
user's index, worktrees and locks are left alone. Every git of ours is started here, by `ask`.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.errors import BadInputError

PATIENCE_S = 60.0
# What `git rev-parse --local-env-vars` lists, and what receive-pack adds. But for settings (GIT_CONFIG_COUNT,
# GIT_CONFIG_PARAMETERS): git leaves them to its own submodules too, and safe.directory may be one of them.
OF_A_REPOSITORY = frozenset(
    f"GIT_{name}"
    for name in (
        *("DIR", "WORK_TREE", "IMPLICIT_WORK_TREE", "COMMON_DIR", "PREFIX", "INTERNAL_SUPER_PREFIX", "NAMESPACE"),
        *("INDEX_FILE", "OBJECT_DIRECTORY", "ALTERNATE_OBJECT_DIRECTORIES", "QUARANTINE_PATH", "ATTR_SOURCE"),
        *("CONFIG", "GRAFT_FILE", "SHALLOW_FILE", "NO_REPLACE_OBJECTS", "REPLACE_REF_BASE"),
    )
)
# A status refreshes the index where it may, and holds its lock meanwhile: a commit that is under way would fail.
ALWAYS = ("--no-optional-locks", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
LINK, PROGRAM = b"120000", b"100755"  # modes of a tree's entries


class RefusedError(BadInputError):
    """Git can't or won't answer; `reason` is what it says, without the names of folders."""

    def __init__(self, what: str, next_step: str, reason: str) -> None:
        super().__init__(what, next_step)
        self.reason = reason


class Answer(NamedTuple):
    """How git ended, and what it wrote on standard output and on standard error."""

    code: int
    out: bytes
    said: str


class Entry(NamedTuple):
    """A file or a link of a commit: what it is, the object that holds it, and its path."""

    mode: bytes
    id: bytes
    name: str


def ask(folder: Path, *arguments: str, given: bytes = b"", fetch: bool = True) -> Answer:
    """Run git in a folder, with this on its standard input. Raises RefusedError where it can't be run.

    In a partial clone, git gets what isn't there from the network, unless it is not to `fetch`.
    """
    kept = {name: value for name, value in os.environ.items() if name not in OF_A_REPOSITORY}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *ALWAYS, *arguments],
            input=given,
            capture_output=True,
            timeout=PATIENCE_S,
            env={**kept, "LC_ALL": "C", **({} if fetch else {"GIT_NO_LAZY_FETCH": "1"})},  # its words are looked at
            check=False,
        )
    except FileNotFoundError:
        raise RefusedError("There is no git on PATH.", "git --version", "there is no git on PATH") from None
    except OSError as error:
        reason = f"git can't be run: {error.strerror}"
        raise RefusedError(f"{reason}.", "git --version", reason) from None
    except subprocess.TimeoutExpired:
        reason = f"git {arguments[0]} gives no answer within {PATIENCE_S:g} s"
        raise RefusedError(f"{reason} in {folder}.", _status(folder), reason) from None
    return Answer(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


def told(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    """What git writes on standard output. Raises RefusedError, in git's own words."""
    answer = ask(folder, *arguments, given=given)
    if answer.code != 0:
        raise _refused(folder, arguments, answer)
    return answer.out


def checkout(folder: Path) -> Path | None:
    """The top of the checkout that a folder lies in, None where it lies in none. Raises RefusedError.

    Whether there is one is seen by a `.git`: git ends with the same code where there is none and where it refuses one.
    """
    here = folder.resolve()
    if not any(os.path.lexists(place / ".git") for place in (here, *here.parents)):
        return None
    return Path(_line(told(folder, "rev-parse", "--show-toplevel")))


def is_checkout(folder: Path) -> bool:
    """Whether a folder is itself the top of a checkout, and does not only lie in one. Raises RefusedError."""
    return os.path.lexists(folder / ".git") and checkout(folder) == folder.resolve()


def commit_of(folder: Path, revision: str = "HEAD") -> str:
    """The full id of a revision's commit, "" where there is no such revision. Raises RefusedError."""
    arguments = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    answer = ask(folder, *arguments)
    if answer.code == 1:
        return ""
    if answer.code != 0:
        raise _refused(folder, arguments, answer)
    return _line(answer.out)


def changed(folder: Path, *options: str) -> bool:
    """Whether something is not committed; options and paths as git-status(1) takes them. Raises RefusedError."""
    return bool(told(folder, *_no_filters(folder), "status", "--porcelain", *options))


def write_out(folder: Path, commit: str, part: str, into: Path) -> None:
    """Write a folder of a commit into another one, byte by byte as the objects have it. Raises RefusedError, OSError.

    A checkout would run filters and hooks, and need an index. Submodules are left out, as a worktree leaves them empty.
    """
    entries = _entries(folder, commit, part)
    for entry, content in zip(entries, _contents(folder, [entry.id for entry in entries]), strict=True):
        place = into / entry.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.mode == LINK:
            place.symlink_to(os.fsdecode(content))
        else:
            place.write_bytes(content)
            place.chmod(0o755 if entry.mode == PROGRAM else 0o644)


def _entries(folder: Path, commit: str, part: str) -> list[Entry]:
    """What a commit has in a folder: "MODE KIND ID", a tabulator, a path, and a zero byte for each (git-ls-tree(1))."""
    found = []
    for line in filter(None, told(folder, "ls-tree", "-r", "-z", "--full-tree", commit, "--", part).split(b"\0")):
        about, _, name = line.partition(b"\t")
        mode, kind, one = about.split()
        if kind == b"blob":
            found.append(Entry(mode, one, os.fsdecode(name)))
    return found


def _contents(folder: Path, ids: Sequence[bytes]) -> Iterator[bytes]:
    """The contents of objects: for each "ID blob SIZE", what it holds, and the end of a line (git-cat-file(1))."""
    arguments = ("cat-file", "--batch")
    answer = ask(folder, *arguments, given=b"".join(one + b"\n" for one in ids))
    stream = io.BytesIO(answer.out)
    for _ in ids:
        header = stream.readline().split()
        if answer.code != 0 or len(header) != 3:  # "ID missing", as in a clone that has only a part of the objects
            raise _refused(folder, arguments, answer._replace(said=answer.said or b" ".join(header).decode()))
        yield stream.read(int(header[2]))
        stream.read(1)


def _no_filters(folder: Path) -> list[str]:
    """Options that switch off all filters of gitattributes(5) that are set up: an empty command is none."""
    keys = r"^filter\..*\.(clean|smudge|process|required)$"
    answer = ask(folder, "config", "--null", "--name-only", "--get-regexp", keys)
    names = sorted({os.fsdecode(name) for name in answer.out.split(b"\0") if name})
    return [word for name in names for word in ("-c", f"{name}={'false' if name.endswith('.required') else ''}")]


def _refused(folder: Path, arguments: Sequence[str], answer: Answer) -> RefusedError:
    """What git said, and what it says is to be typed, where it does: for a checkout of another user's it does."""
    lines = [line.strip() for line in answer.said.splitlines() if line.strip()] or [f"exit code {answer.code}"]
    said = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1]).rstrip(".")
    advice = next((line for line in lines if line.startswith("git config ")), _status(folder))
    command = next(word for word in arguments if not word.startswith("-") and "=" not in word)
    return RefusedError(f"git {command} in {folder}: {said}.", advice, re.sub(r"'[^']*'|/\S+", "...", said))


def _status(folder: Path) -> str:
    return f"git -C {shlex.quote(str(folder))} status"


def _line(out: bytes) -> str:
    """A line that may be a path, and so in any encoding."""
    return os.fsdecode(out.removesuffix(b"\n"))
