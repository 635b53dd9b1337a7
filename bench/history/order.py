"""In which order the runs of a history stand: by ancestry of their commits where git knows it, else by time.

A run of an older commit may be made later. By time, it would look as if the newest commit had changed everything back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from bench import git
from bench.history.store import Entry, made
from bench.words import counted

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # SHA-1 and SHA-256; what else stands in a file is not handed to git


def ancestry(entries: Iterable[Entry], places: Iterable[Path]) -> dict[str, int]:
    """Number the commits of runs, ancestors first, as the checkout of `places` that knows most of them has them.

    A commit that git doesn't know is left out, all of them where git fails: it is no error, since there is the time.
    """
    commits = sorted(_ids(entries))
    if len(commits) < 2:
        return {}
    found = (
        {commit: rank for rank, commit in enumerate(_ancestors(place, commits)) if commit in commits}
        for place in places
    )
    return max(found, key=len, default={})


def in_order(entries: Iterable[Entry], ranks: Mapping[str, int]) -> list[Entry]:
    """Sort runs by their commits' ranks; those of one commit, uncommitted changes last, by time.

    Where a rank is missing, a run keeps the place that its time gives it.
    """
    ordered = sorted(entries, key=made)
    known = [place for place, entry in enumerate(ordered) if entry.commit in ranks]
    by_rank = sorted((ordered[place] for place in known), key=lambda entry: (ranks[entry.commit], entry.dirty))
    for place, entry in zip(known, by_rank, strict=True):
        ordered[place] = entry
    return ordered


def unordered(entries: Iterable[Entry], ranks: Collection[str]) -> str:
    """A remark where runs are in order of time alone, since git doesn't know their commits; "" where it knows all."""
    commits = _ids(entries)
    missing = len(commits - set(ranks))
    if len(commits) < 2 or not missing:
        return ""
    return (
        f"Git doesn't know {missing} of {counted(len(commits), 'commit')} here, so their runs are in order of time. "
        "In a shallow clone, git fetch --unshallow gets them."
    )


def _ids(entries: Iterable[Entry]) -> set[str]:
    return {entry.commit for entry in entries if COMMIT.fullmatch(entry.commit)}


def _ancestors(place: Path, commits: Sequence[str]) -> list[str]:
    """These commits and all before them, parents first and else by date; none where git fails (git-rev-list(1))."""
    listing = ("rev-list", "--date-order", "--reverse", "--ignore-missing", "--stdin")
    try:
        listed = git.ask(place, *listing, given="\n".join(commits).encode(), fetch=False)
    except git.RefusedError:
        return []
    return listed.out.decode().split() if listed.code == 0 else []
