"""The load generator from the command line.

    python -m clients tcp:127.0.0.1:9000 -c 64 -s 64 -d 5    drive an echo server and print a summary
    python -m clients --worker                               serve jobs (clients.worker says how)

Exit codes: 0 fine; 1 echoes were wrong, lost or late, or connections failed; 2 bad input; 130 interrupted before
anything was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import textwrap
from dataclasses import asdict
from typing import NoReturn


def main(argv: list[str]) -> int:
    """Read the command line and obey it; returns the exit code."""
    options = _options(argv)
    if options.cpus:
        try:
            os.sched_setaffinity(0, options.cpus)
        except OSError as error:
            _refuse(
                f"Can't run on CPUs {sorted(options.cpus)}: {error.strerror}.",
                "nproc and taskset -p $$ show which there are",
            )
    # A second thread, even an idle one of numpy's linear algebra, makes each system call dearer: the kernel then counts
    # references to the descriptor (fdget), and libc keeps book for pthread_cancel.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if options.worker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Numba takes a good part of a second to import: only once signals are seen to.
        from clients.worker import work  # noqa: PLC0415

        work()
    return _load(options)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m clients",
        description="Drive an echo server in a closed loop and verify every byte that comes back.",
    )
    parser.add_argument("address", nargs="?", help="tcp:HOST:PORT, unix:PATH or pipe:PATH")
    parser.add_argument("-c", "--connections", type=int, default=64, metavar="N", help="connections (64)")
    parser.add_argument("-s", "--size", type=int, default=64, metavar="BYTES", help="bytes in each message (64)")
    parser.add_argument("-d", "--duration", type=float, default=5.0, metavar="S", help="seconds measured (5)")
    parser.add_argument("--warmup", type=float, default=0.5, metavar="S", help="unrecorded seconds before that (0.5)")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds to wait for an echo (10)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what the payload is derived from (1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the summary")
    parser.add_argument("--worker", action="store_true", help="serve jobs from standard input")
    parser.add_argument("--cpus", type=_cpus, metavar="N,N", help="run on these CPUs only")
    options = parser.parse_args(argv)
    if options.worker == bool(options.address):
        parser.error("name an address, or use --worker")
    return options


def _cpus(text: str) -> set[int]:
    return {int(part) for part in text.split(",")}


def _refuse(what: str, next_step: str) -> NoReturn:
    print(textwrap.fill(what, 80) + f"\nTry: {next_step}", file=sys.stderr)
    raise SystemExit(2)


def _load(options: argparse.Namespace) -> int:
    from clients.job import Job, JobError  # noqa: PLC0415
    from clients.opening import connect  # noqa: PLC0415
    from clients.session import run, warm_up_code  # noqa: PLC0415
    from clients.summary import describe, failed, figures  # noqa: PLC0415

    try:
        job = Job(
            address=options.address,
            connections=options.connections,
            message_bytes=options.size,
            duration_s=options.duration,
            warmup_s=options.warmup,
            timeout_s=options.timeout,
            seed=options.seed,
        )
    except JobError as error:
        _refuse(f"{error}.", "python -m clients --help")
    ended = _end_on_interrupt()
    try:
        warm_up_code()
        connected = connect(job)
    except JobError as error:
        _refuse(f"{error}.", "fewer connections: -c 64")
    if not connected.channels:
        _refuse(
            f"No connection could be opened to {job.address}: {connected.reason}.",
            f"python -m servers epoll_lt {job.address}    starts a server there, in another terminal",
        )
    try:
        load = run(job, connected, ended=lambda: bool(ended))
    except JobError as error:
        print(textwrap.fill(f"{job.address}: {error}.", 80), file=sys.stderr)
        return 1
    if ended and not load.completed:
        return 130
    if options.json:
        print(json.dumps({"job": asdict(job), "load": asdict(load), **figures(load)}))
    else:
        print(describe(job, load))
    return 1 if failed(load) else 0


def _end_on_interrupt() -> list[int]:
    """Return a list that the first Ctrl-C puts something in; a second one raises KeyboardInterrupt as usual."""
    ended: list[int] = []

    def end(signum: int, frame: object) -> None:
        ended.append(signum)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, end)
    return ended


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
