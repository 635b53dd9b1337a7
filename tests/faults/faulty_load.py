"""The load generator, which gets a signal in mid-trial; a script that is run in place of `python -m clients`.

    faulty_load.py SIGNUM@CONNECTIONS,... --worker --cpus 0

The signal comes as soon as the window has opened, in jobs of that many connections.
"""

from __future__ import annotations

import os
import sys

from clients import worker
from clients.__main__ import main


def get_signals(listed: str) -> None:
    """Have ourselves sent each signal in its job."""
    pairs = [pair.partition("@") for pair in listed.split(",")]
    signals = {int(connections): int(signum) for signum, _, connections in pairs}
    right, connected = worker.say, [0]

    def say(event: str, **facts: object) -> None:
        right(event, **facts)
        if event == "connected":
            connected[0] = int(str(facts["connections"]))
        if event == "window_opened" and connected[0] in signals:
            os.kill(os.getpid(), signals[connected[0]])

    worker.say = say


if __name__ == "__main__":
    get_signals(sys.argv.pop(1))
    sys.exit(main(sys.argv[1:]))
