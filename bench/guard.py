"""A process that outlives a killed iobench for a moment, to end what it left running.

    python -I -S guard.py        reads "+PGID" and "-PGID" lines from stdin

Nothing can be done in a process that gets SIGKILL, so another one has to notice. Its standard input is a pipe that only
iobench holds the other end of; when that end closes, the process groups still on the list get SIGKILL. This covers
a server's children too, which PR_SET_PDEATHSIG (prctl(2)) does not: it is cleared in the child of a fork.

Standard library only, and run by its path: it must start in a few milliseconds.
"""

import os
import signal
import sys
from contextlib import suppress


def main() -> None:
    """Keep the list until the pipe closes, then end what is on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    running: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            running.add(group)
        else:
            running.discard(group)
    for group in running:
        with suppress(OSError):  # it ended by itself
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
