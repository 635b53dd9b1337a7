"""How many descriptors a trial takes, and whether a process may have so many here (RLIMIT_NOFILE, getrlimit(2)).

What a server or a load generator does that finds none left is decided there.
"""

from __future__ import annotations

import resource
from collections.abc import Iterable, Sequence
from contextlib import suppress

from bench.record import Trial

# Beside those of the connections: standard streams, listener, status pipe, epoll, and what an interpreter holds open.
SPARE = 64


def needed(trial: Trial) -> int:
    """How many one process holds at most, server or load: a socket for each connection, or the ends of two pipes."""
    of_each = 2 if trial.transport == "pipe" else 1
    return (trial.connections + trial.silent) * of_each + SPARE


def raise_limit(trials: Iterable[Trial]) -> None:
    """Raise the soft limit to what the trials need, or to the hard limit where that is lower; it is never lowered.

    What is started from here on inherits it. A refusal (EPERM, setrlimit(2); a sandbox) is no error: who then lacks a
    descriptor tells of it, and few connections need none more.
    """
    wanted = max(map(needed, trials), default=0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        with suppress(OSError, ValueError):  # ValueError is what Python makes of EPERM
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def too_many(trials: Sequence[Trial]) -> str:
    """Say why the connections of all these trials can't be open at once in a load generator; nothing where they can."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = sum(needed(trial) for trial in trials)
    if hard == resource.RLIM_INFINITY or wanted <= hard:
        return ""
    return f"together they take {wanted:,} descriptors, and the hard limit is {hard:,} (ulimit -Hn)"


def shortage(trials: Iterable[Trial]) -> str:
    """Say how many trials need more than the hard limit, and the command that raises it; nothing where none does."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = [needed(trial) for trial in trials]
    beyond = [number for number in wanted if number > hard]
    if hard == resource.RLIM_INFINITY or not beyond:
        return ""
    most = max(beyond)
    return (
        f"{len(beyond)} of {len(wanted)} trials need more descriptors than the hard limit of {hard:,} (ulimit -Hn) and "
        f"will fail: up to {most:,}; to raise it for this shell: sudo prlimit --pid $$ --nofile={most}:{most}"
    )
