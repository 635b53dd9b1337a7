"""A process that outlives a killed iobench for a moment, to end and remove what it left.

    python -I -S guard.py MARK       reads "+group 4711" and "+folder /tmp/any" from stdin, and the same with "-"

Nothing can be done in a process that gets SIGKILL, so another one has to notice. Its standard input is a pipe that only
iobench holds the other end of; when that end closes, what is still on the list goes: process groups get SIGKILL, and
folders are removed. This covers a server's children too, which PR_SET_PDEATHSIG (prctl(2)) does not: it is cleared in
the child of a fork.

So does every process with MARK in its environment: one that took a session of its own, or was started in the very
moment of the kill, when nobody had told its number yet. A child that has been forked and has not called exec still
holds a copy of the pipe; when the pipe has closed, all of them have the environment that they were given.

Standard library only, and run by its path: it must start in a few milliseconds.
"""

import os
import signal
import sys
import time
from contextlib import suppress

NAME = b"IOBENCH_GUARD="
MOST_ROUNDS = 1000
PAUSE_S = 0.001


def main() -> None:
    """Keep the list until the pipe closes, then end what is on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    left: set[str] = set()
    for line in sys.stdin:
        if line[0] == "+":
            left.add(line[1:-1])
        else:
            left.discard(line[1:-1])
    kinds = [one.partition(" ") for one in left]
    for group in (int(what) for kind, _, what in kinds if kind == "group"):
        with suppress(OSError):  # it ended by itself
            os.killpg(group, signal.SIGKILL)
    for _ in range(MOST_ROUNDS if os.access("/proc", os.R_OK) else 0):  # one may be forking while it is read
        if not kill_marked(NAME + sys.argv[1].encode()):
            break
        time.sleep(PAUSE_S)
    for folder in (what for kind, _, what in kinds if kind == "folder"):
        remove(folder)


def kill_marked(mark: bytes) -> int:
    """Kill all processes with this in their environment; returns how many there were."""
    found = 0
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):  # noqa: PTH208 - pathlib takes long to import
        with suppress(OSError):  # it has ended, or belongs to somebody else
            fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY)
            with os.fdopen(fd, "rb") as file:
                marked = mark in file.read().split(b"\0")
            if marked:
                found += 1
                os.kill(pid, signal.SIGKILL)
    return found


def remove(folder: str) -> None:
    """Remove a folder with all that is in it."""
    from shutil import rmtree  # noqa: PLC0415 - dear to import, and seldom needed

    rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
