"""Which limit a thread or a process has met that can't be started.

clone(2) and fork(2) say EAGAIN or ENOMEM and leave it at that, and there are half a dozen limits behind these two. Each
is looked up when that has happened, and those that have been reached are named. No strategy belongs in this file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import Any, Iterator, NamedTuple, Optional

resource: Any = None
with suppress(ImportError):  # not every build of an interpreter has it, and no echo needs it
    resource = import_module("resource")

MIB = 1 << 20


class Limit(NamedTuple):
    """One limit: its name, what is in use of it, how much there is, and what one more start takes at once."""

    name: str
    used: int
    most: int
    step: int


@lru_cache(maxsize=4)
def why_no_more(error: str) -> str:
    """Return the error with the limits that have been reached, or just the error where none of them seems to be.

    Looked up once for each error: a server that has met a limit refuses thousands for the same reason.
    """
    reached = [limit.name for limit in limits() if limit.used + limit.step >= limit.most]
    return f"{error}: {', '.join(reached)}" if reached else error


def limits() -> Iterator[Limit]:
    """Look up every limit that this system tells of."""
    for find in (_of_the_user, _of_the_groups, _of_the_system, _of_this_process):
        with suppress(OSError, ValueError, IndexError, KeyError):
            yield from find()


def soft_limit(name: str) -> Optional[int]:
    """This process's own limit, RLIMIT_something of getrlimit(2); None where there is none, or no module to ask."""
    if resource is None:
        return None
    most: int = resource.getrlimit(getattr(resource, name))[0]
    return None if most == resource.RLIM_INFINITY else most


def _of_the_user() -> Iterator[Limit]:
    """RLIMIT_NPROC counts the threads of the real user, and does not bind root (getrlimit(2))."""
    most = soft_limit("RLIMIT_NPROC")
    if most is None or os.geteuid() == 0:
        return
    uid, used = os.getuid(), 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it has just ended
            if os.stat(f"/proc/{name}").st_uid == uid:
                used += len(os.listdir(f"/proc/{name}/task"))
    yield Limit("RLIMIT_NPROC (ulimit -u)", used, most, 2)


def _of_the_groups() -> Iterator[Limit]:
    """pids.max of our control group and of those above it, in version 1 and 2 (cgroups(7))."""
    with open("/proc/self/cgroup") as lines:
        groups = [line.rstrip("\n").split(":", 2) for line in lines]
    for _, controllers, own in groups:
        root = "/sys/fs/cgroup/pids" if "pids" in controllers.split(",") else "/sys/fs/cgroup"
        if controllers and not root.endswith("pids"):
            continue
        path = own
        while path not in ("", "/"):
            with suppress(OSError, ValueError):  # "max" is no number
                yield Limit("pids.max", _number(f"{root}{path}/pids.current"), _number(f"{root}{path}/pids.max"), 2)
            path = os.path.dirname(path)


def _of_the_system() -> Iterator[Limit]:
    """All threads of the machine: the fourth field of /proc/loadavg is "running/all" (proc_loadavg(5))."""
    with open("/proc/loadavg") as line:
        tasks = int(line.read().split()[3].partition("/")[2])
    yield Limit("kernel.threads-max", tasks, _number("/proc/sys/kernel/threads-max"), 2)
    # Numbers below 300 are not given out a second time, and those of threads that are ending are still taken.
    yield Limit("kernel.pid_max", tasks, _number("/proc/sys/kernel/pid_max"), 400)
    with open("/proc/meminfo") as lines:
        memory = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    yield Limit("memory", memory["MemTotal"] - memory["MemAvailable"], memory["MemTotal"], memory["MemTotal"] // 50)


def _of_this_process() -> Iterator[Limit]:
    """A thread's stack is a mapping, and the page before it that guards it is another (mmap(2), vm.max_map_count)."""
    with open("/proc/self/maps") as lines:
        mappings = sum(1 for _ in lines)
    yield Limit("vm.max_map_count", mappings, _number("/proc/sys/vm/max_map_count"), 3)
    most = soft_limit("RLIMIT_AS")
    if most is not None:
        with open("/proc/self/statm") as line:
            used = int(line.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        yield Limit("RLIMIT_AS (ulimit -v)", used, most, 16 * MIB)


def _number(path: str) -> int:
    with open(path) as file:
        return int(file.read())
