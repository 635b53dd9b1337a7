"""Goes on with runs, each in a child of its own that is killed after a while, as `iobench sweep --resume` does.

It imports everything once, and a child is forked in a moment. Lines of JSON come in and go out:

    -> {"run": "/tmp/results/tiny", "plan": "trials", "seconds": 0.1}
    {"killed": true}

The strategies and the load are fakes (fake_server.py, fake_load.py), and no report is written; all else is as it is.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from test_run import FAKE_LOAD, FAKE_SERVER, Silence, info, plan, trial

from bench import interpreters, run
from bench.commands import sweep as command
from bench.commands.choice import Choice
from bench.plan import Plan

# Trials that are good, that fail, that can't be run, and one whose server has a child that is deaf to SIGTERM.
TRIALS = plan(
    trial("good", 1),
    trial("ends_badly", 2),
    trial("gone", 3),
    trial("has_a_child", 4),
    trial("good", 5),
    unavailable="gone",
)
SEARCH = Plan([trial("good", 1)], {"good": info("good")}, [], "p99<5ms")
PLANS = {"trials": TRIALS, "search": SEARCH}


def main() -> None:
    for heavy in ("hdrh.histogram", "bench.histograms", "bench.stats"):
        import_module(heavy)  # once, instead of in each child
    for line in sys.stdin:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            go_on(Path(asked["run"]), PLANS[asked["plan"]])
        ended = os.pidfd_open(pid)
        select.select([ended], [], [], asked["seconds"])
        os.close(ended)
        os.kill(pid, signal.SIGKILL)  # it has not been reaped, so the number is still its own
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"killed": os.WIFSIGNALED(status), "code": os.waitstatus_to_exitcode(status)}), flush=True)


def go_on(folder: Path, planned: Plan) -> None:
    """Resume a run and leave the process; what it says goes into a file beside the run's folder."""
    os.setsid()
    said = os.open(folder.with_suffix(".said"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for fd in (1, 2):
        os.dup2(said, fd)
    stand_in(planned)
    code = 70
    try:
        code = command.resume(str(folder), Choice(None, None, None, None, None), folder.parent)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def stand_in(planned: Plan) -> None:
    """Put the fakes in the place of what takes long."""
    fakes = {"server_command": FAKE_SERVER, "worker_command": FAKE_LOAD}
    replaced: Sequence[tuple[Any, str, Any]] = (
        (command, "plan_of", lambda *_: planned),
        (command, "for_console", lambda *_: Silence()),
        (command, "write_report", lambda folder: folder / "report.html"),
        (run, "differences", lambda *_: []),
        (run, "run_trials", partial(run.run_trials, **fakes)),
        (interpreters, "changes", lambda *_: []),
    )
    for where, name, what in replaced:
        setattr(where, name, what)


if __name__ == "__main__":
    main()
