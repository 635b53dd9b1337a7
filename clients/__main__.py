"""The load generator from the command line.

    python -m clients tcp:127.0.0.1:9000 -c 64 -s 64 -d 5     drive an echo server and print a summary
    python -m clients tcp:127.0.0.1:9000 --open 10000         the same in an open loop, at a planned rate
    python -m clients tcp:127.0.0.1:9000 --slo 'p99<5ms'      search for the highest rate that holds this
    python -m clients --worker                                serve jobs (clients.worker says how)

Exit codes: 0 fine; 1 echoes were wrong, lost or late, or connections failed or were never answered; 2 bad input; 130
interrupted before anything was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import textwrap
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from clients.job import Job, Load
    from clients.objective import Objective


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
    # The times of an open loop's messages are an array of which a part is ever touched. Numpy asks for huge pages
    # (madvise(2)), and then a first touch clears 2 MiB, in the midst of the load: 171 ms of them at 128 connections.
    os.environ.setdefault("NUMPY_MADVISE_HUGEPAGE", "0")
    if options.worker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Numba takes a good part of a second to import: only once signals are seen to.
        from clients.worker import work  # noqa: PLC0415

        work(options.cpus or ())
    return _load(options)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m clients",
        description="Drive an echo server, in a closed or an open loop, and verify every byte that comes back.",
    )
    parser.add_argument("address", nargs="?", help="tcp:HOST:PORT, unix:PATH or pipe:PATH")
    parser.add_argument("-c", "--connections", type=int, default=64, metavar="N", help="connections (64)")
    parser.add_argument("-s", "--size", type=int, default=64, metavar="BYTES", help="bytes in each message (64)")
    parser.add_argument("-d", "--duration", type=float, default=5.0, metavar="S", help="seconds measured (5)")
    parser.add_argument("--warmup", type=float, default=0.5, metavar="S", help="unrecorded seconds before that (0.5)")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds to wait for an echo (10)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what payload and plan are derived from (1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the summary")
    _add_workload_options(parser.add_argument_group("what is sent when"))
    files = parser.add_argument_group("files that the tools of HdrHistogram read")
    files.add_argument("--hlog", metavar="FILE", help="write a histogram of each interval")
    files.add_argument("--hgrm", metavar="FILE", help="write the percentiles of the whole window")
    process = parser.add_argument_group("the process")
    process.add_argument("--threads", type=int, default=1, metavar="N", help="load threads (1)")
    process.add_argument("--cpus", type=_cpus, metavar="N,N", help="run on these CPUs only, a thread on each if enough")
    process.add_argument("--worker", action="store_true", help="serve jobs from standard input")
    options = parser.parse_args(argv)
    if options.worker == bool(options.address):
        parser.error("name an address, or use --worker")
    if options.poisson and not (options.open or options.slo):
        parser.error("--poisson is about planned messages: it needs --open RATE")
    if options.slo and (options.hlog or options.hgrm):
        parser.error("--slo makes many windows: write --hlog or --hgrm in a run of its own")
    return options


def _add_workload_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--workload", metavar="NAME", help="closed, or open where there is a rate, or another (closed)")
    group.add_argument("--depth", type=int, default=1, metavar="N", help="outstanding on each connection (1)")
    group.add_argument("--open", type=float, default=0.0, metavar="RATE", help="messages a second, planned in advance")
    group.add_argument("--poisson", action="store_true", help="plan exponential gaps instead of constant ones")
    group.add_argument("--cap", type=int, default=0, metavar="N", help="outstanding in all in an open loop (no limit)")
    group.add_argument("--silent", type=int, default=0, metavar="N", help="idle: so many more that never send (0)")
    group.add_argument("--sizes", type=_sizes, default=[], metavar="SIZE:WEIGHT,...", help="draw sizes: 64:9,4096:1")
    group.add_argument("--ramp", type=float, default=0.0, metavar="S", help="open the connections over so long (0)")
    group.add_argument("--trickle", type=_trickle, default=(1, 100.0), metavar="BYTES@HZ", help="slow: pieces (1@100)")
    group.add_argument("--slo", metavar="OBJECTIVE", help="search for the highest rate that holds it, like 'p99<5ms'")


def _job_fields(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the command line says of the job."""
    rate_hz = options.open or float(bool(options.slo))  # a search has a plan, and says itself at which rate
    return {
        "address": options.address,
        "connections": options.connections,
        "message_bytes": options.size,
        "duration_s": options.duration,
        "warmup_s": options.warmup,
        "timeout_s": options.timeout,
        "seed": options.seed,
        "workload": options.workload or ("open" if rate_hz else "closed"),
        "depth": options.depth,
        "rate_hz": rate_hz,
        "arrivals": "poisson" if options.poisson else "constant",
        "cap": options.cap,
        "silent": options.silent,
        "sizes": options.sizes,
        "ramp_s": options.ramp,
        "trickle_bytes": options.trickle[0],
        "trickle_hz": options.trickle[1],
        "threads": options.threads,
    }


def _sizes(text: str) -> list[list[float]]:
    pairs = (part.partition(":") for part in text.split(","))
    return [[int(size), float(weight or 1)] for size, _, weight in pairs]


def _trickle(text: str) -> tuple[int, float]:
    size, _, rate = text.partition("@")
    return int(size), float(rate or 100)


def _cpus(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _refuse(what: str, next_step: str) -> NoReturn:
    print(textwrap.fill(what, 80) + f"\nTry: {next_step}", file=sys.stderr)
    raise SystemExit(2)


def _load(options: argparse.Namespace) -> int:
    from clients.compiled import why_not_kept  # noqa: PLC0415
    from clients.job import Job, JobError  # noqa: PLC0415
    from clients.session import warm_up_code  # noqa: PLC0415
    from clients.slo import read_objective  # noqa: PLC0415

    try:
        job = Job(**_job_fields(options))
        objective = read_objective(options.slo) if options.slo else None
    except JobError as error:
        _refuse(f"{error}.", "python -m clients --help")
    for name in filter(None, (options.hlog, options.hgrm)):
        if not os.access(name if Path(name).exists() else Path(name).parent, os.W_OK):
            _refuse(f"{name} can't be written.", f"ls -ld {Path(name).parent}")
    ended = _end_on_interrupt()
    warm_up_code(job.workload)
    if note := why_not_kept():
        print(textwrap.fill(f"note: {note}.", 80), file=sys.stderr)
    try:
        if objective:
            return _search(job, objective, options, ended)
        load = _run(job, options, ended)
    except JobError as error:
        print(textwrap.fill(f"{job.address}: {error}.", 80), file=sys.stderr)
        return 1
    return 130 if ended and not load.completed else _report(job, load, options)


def _run(job: Job, options: argparse.Namespace, ended: list[int]) -> Load:
    """Open the connections and run the job on them. Raises JobError, and SystemExit(2) if nobody is there."""
    from clients.job import JobError  # noqa: PLC0415
    from clients.opening import connect  # noqa: PLC0415
    from clients.session import run  # noqa: PLC0415

    try:
        connected = connect(job, ended=lambda: bool(ended))
    except JobError as error:
        _refuse(f"{error}.", "fewer connections: -c 64")
    if not connected.channels:
        _refuse(
            f"No connection could be opened to {job.address}: {connected.reason}.",
            f"python -m servers epoll_lt {job.address}    starts a server there, in another terminal",
        )
    return run(job, connected, ended=lambda: bool(ended), cpus=options.cpus or ())


def _report(job: Job, load: Load, options: argparse.Namespace) -> int:
    """Print the outcome and write the files asked for; returns the exit code."""
    from clients.export import interval_log, opened_s, percentile_table  # noqa: PLC0415
    from clients.summary import describe, failed, faults, figures  # noqa: PLC0415

    if options.json:
        print(json.dumps({"job": asdict(job), "load": asdict(load), **figures(load)}))
    else:
        print(describe(job, load))
    if options.hlog:
        _write(options.hlog, interval_log(load, opened_s(load)))
    if options.hgrm:
        _write(options.hgrm, percentile_table(load))
    return 1 if failed(load) or faults(load) else 0


def _write(name: str, text: str) -> None:
    try:
        Path(name).write_text(text, encoding="ascii")
    except OSError as error:
        _refuse(f"{name} can't be written: {error.strerror}.", f"ls -ld {Path(name).parent}")


def _search(job: Job, objective: Objective, options: argparse.Namespace, ended: list[int]) -> int:
    """Search for the highest rate that holds an objective, in windows of their own; returns the exit code."""
    from clients import slo  # noqa: PLC0415
    from clients.job import JobError  # noqa: PLC0415

    def show(text: str) -> None:
        if not options.json:
            print(text, flush=True)

    def run(at_rate: Job) -> Load:
        load = _run(at_rate, options, ended)
        if ended:
            raise JobError("interrupted before the search was over")
        return load

    def measure(rate_hz: float) -> slo.Step:
        at_rate = replace(job, rate_hz=rate_hz)
        step = slo.judged(at_rate, run(at_rate), objective)
        show(slo.line(step))
        return step

    show(f"{job.address}: the highest rate that holds {slo.in_words(objective)}\n{slo.head(objective)}")
    answer = slo.search(measure, options.open or slo.first_rate(run(slo.without_plan(job))))
    if options.json:
        steps = [{"rate_hz": step.rate_hz, **step.judgement._asdict()} for step in answer.steps]
        asked = {"level": slo.level(objective), "limit_ns": objective.limit_ns}
        found = {"holds_hz": answer.holds_hz, "fails_hz": answer.fails_hz, "unknown_hz": answer.unknown_hz}
        print(json.dumps({"job": asdict(job), "objective": asked, **found, "steps": steps}))
    else:
        print(textwrap.fill(slo.conclusion(answer, objective), 80))
    return 0 if answer.holds_hz else 1


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
