"""Runs at the edges of what a report has to show, and one that has everything; made up, like those of synthetic.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from synthetic import (
    STRATEGIES,
    burst_load,
    churn_load,
    load,
    manifest,
    open_load,
    record,
    server,
    stream_load,
    sweep,
    unmeasured,
    why,
    write_run,
)
from synthetic_calibration import calibration

from bench.anatomy.steps import Anatomy, Step
from bench.lab.experiment import Chart, Finding, Observation
from bench.record import Manifest, Record

LONG = (
    "a_strategy_whose_author_told_the_whole_story_of_its_making_in_its_name_and_then_some",
    "x" * 200,  # no place to break it
    "with spaces, as an external server may be called, and with many of them",
    "short",
)


@dataclass(frozen=True)
class Subset:
    """A run: its records, and what its manifest has besides the usual."""

    records: Callable[[], list[Record]]
    about: Callable[[list[str]], Manifest] = manifest

    def write(self, folder: Path) -> Path:
        """Write the run's folder."""
        records = self.records()
        names = sorted({found.trial.strategy for found in records})
        return write_run(folder, records, self.about(names))


def _one_strategy() -> list[Record]:
    return [found for found in sweep(repeats=4) if found.trial.strategy == "epoll_lt"]


def _only_failures() -> list[Record]:
    died = "the server died with SIGSEGV"
    records = [unmeasured("poll", count, 0, "failed", died, order=at) for at, count in enumerate((1, 16))]
    records.append(unmeasured("io_uring", 16, 0, "unavailable", "kernel.io_uring_disabled is 2", order=2))
    seen = server(1000, 10, 0.5, stderr_tail="Traceback (most recent call last):\n  ZeroDivisionError", exit_code=1)
    failed = unmeasured("select", 16, 0, "failed", "it ended with exit code 1", order=3)
    return [*records, msgspec.structs.replace(failed, server=seen)]


def _forty_strategies() -> list[Record]:
    """Each as fast as the one before and 3 % more; no two repeats alike."""
    return [
        record(
            f"strategy_{number:02d}",
            count,
            repeat,
            10_000 * 1.03**number * (1 + 0.004 * repeat) * (3 if count > 1 else 1),
            cpu_us=40 / 1.03**number * (1 + 0.002 * repeat),
            order=40 * 2 * repeat + 2 * number + (count > 1),
        )
        for repeat in range(4)
        for number in range(40)
        for count in (1, 16)
    ]


def _long_names() -> list[Record]:
    return [
        record(name, count, repeat, 20_000 * (at + 1) * (1 + 0.01 * repeat), order=8 * repeat + 2 * at + (count > 1))
        for repeat in range(4)
        for at, name in enumerate(LONG)
        for count in (1, 16)
    ]


def _several_of_everything() -> list[Record]:
    """Sizes, transports, interpreters and workloads at once, twice each."""
    records: list[Record] = []
    for repeat in range(2):
        for name, speed in (("epoll_lt", 1.0), ("thread_per_connection", 0.7)):
            pace = speed * (1 + 0.01 * repeat)
            for transport in ("tcp", "unix"):
                for python in ("", "pypy3.10"):
                    where = {"transport": transport, "python": python}
                    rate_hz = 60_000 * pace * (1.3 if transport == "unix" else 1) * (1.6 if python else 1)
                    for size in (64, 4096):
                        for count in (1, 16):
                            at = rate_hz / (2 if count == 1 else 1) / (1.2 if size > 64 else 1)
                            records.append(record(name, count, repeat, at, message_bytes=size, **where))
                    loads = {
                        "churn": (churn_load(rate_hz / 7), {}),
                        "burst": (burst_load(rate_hz), {}),
                        "stream": (stream_load(rate_hz / 60), {"depth": 8, "message_bytes": 65536}),
                        "open": (open_load(rate_hz / 2, rate_hz), {"planned_hz": rate_hz / 2}),
                        "idle": (load(rate_hz / 2, 16), {"silent": 2000}),
                    }
                    records += [
                        record(name, 16, repeat, it.completed, load=it, workload=workload, **where, **more)
                        for workload, (it, more) in loads.items()
                    ]
    return [msgspec.structs.replace(found, order=at) for at, found in enumerate(records)]


SUBSETS = {
    "one strategy": Subset(_one_strategy),
    "one trial": Subset(lambda: [record()]),
    "only failures": Subset(_only_failures),
    "forty strategies": Subset(_forty_strategies),
    "long names": Subset(_long_names),
    "several of everything": Subset(_several_of_everything),
}


# --- everything that a default sweep's page can have


def _default_with_doubts() -> list[Record]:
    """The default sweep; a trial of it failed, a strategy was unavailable, two trials were unsteady."""
    records = sweep()
    first = next(at for at, found in enumerate(records) if found.trial.strategy == "iterative")
    records[first] = unmeasured("iterative", 1, 0, "failed", "the server died with SIGSEGV", order=first)
    for at in (first + 1, first + 5):
        records[at] = msgspec.structs.replace(records[at], flags=[*records[at].flags, "unsteady"])
    return [*records, unmeasured("io_uring", 16, 0, "unavailable", "kernel.io_uring_disabled is 2", order=200)]


def _about_all(names: list[str]) -> Manifest:
    made = {"created": "2025-01-02T02:30:00Z", "host": {"system": "Linux", "kernel": "6.1.0"}}
    host = {"cpu_model": "Example CPU at 3 GHz", "physical_cores": 2, "virtualization": "kvm", "kernel": "6.1.0"}
    return manifest(
        names,
        host=host,
        calibration=calibration(),
        why=why(*(name for name in names if name in STRATEGIES)),
        lab=made | {"findings": msgspec.to_builtins([_finding()])},
        anatomy=made | {"anatomies": msgspec.to_builtins([_echo(name) for name in ("epoll_lt", "poll")])},
    )


def _finding() -> Finding:
    """What an experiment of the lab finds: epoll costs the same however many descriptors are watched, select more."""
    flat = [(float(watched), 1.2) for watched in (10, 100, 1000)]
    rising = [(float(watched), 0.05 * watched) for watched in (10, 100, 1000)]
    return Finding(
        name="interest-list",
        claim="epoll's wait does not depend on how many descriptors are watched",
        status="ok",
        observations=[Observation(what="watch 1,000 instead of 10", expected="≤ 2", observed="1", holds=True)],
        charts=[Chart(title="Cost of an event", x="descriptors", y="µs", lines={"epoll": flat, "select": rising})],
    )


def _echo(name: str) -> Anatomy:
    """Three calls of one echo."""
    calls = (("epoll_wait", "4, [...], 64, -1", "1", 0.0), ("read", "5, ..., 65536", "64", 30.0))
    steps = [
        Step(who="main thread", name=call, arguments=told, result=result, at_us=at, took_us=12.0)
        for call, told, result, at in (*calls, ("write", "5, ..., 64", "64", 61.0))
    ]
    return Anatomy(strategy=name, transport="tcp", message_bytes=64, received_us=75.0, end_us=90.0, steps=steps)


EVERYTHING = Subset(_default_with_doubts, _about_all)
