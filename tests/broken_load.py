"""The load generator, broken on purpose; a script for the tests of the calibration.

    broken_load.py KIND --worker --cpus 0

KIND says what is wrong with it: see `RESULTS`, which change what it tells, and `ACTS`, which change what it does.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from clients import histogram, session, worker
from clients.__main__ import main
from clients.job import Load
from clients.session import Session
from clients.table import Table


def forgets_unsent(load: Load) -> Load:
    return replace(load, planned=load.planned - load.unsent, unsent=0)


def drops_samples(load: Load) -> Load:
    counts = histogram.decode(load.service_hdr)
    counts[np.flatnonzero(counts)[:1]] -= 1
    return replace(load, service_hdr=histogram.encode(counts))


def tidies_up(load: Load) -> Load:
    return replace(load, planned=load.planned - load.in_flight, in_flight=0)


def omits_waiting(load: Load) -> Load:
    return replace(load, response_hdr=load.service_hdr) if load.response_hdr else load


def lets_faults_through(load: Load) -> Load:
    missed = sum(load.errors.values())
    return replace(load, errors={}, planned=load.planned - missed)


def calls_all_corrupt(load: Load) -> Load:
    return replace(load, errors={"corrupt": sum(load.errors.values())}) if load.errors else load


RESULTS: dict[str, Callable[[Load], Load]] = {
    "nothing": lambda load: load,
    "forgets_unsent": forgets_unsent,
    "drops_samples": drops_samples,
    "tidies_up": tidies_up,
    "omits_waiting": omits_waiting,
    "lets_faults_through": lets_faults_through,
    "calls_all_corrupt": calls_all_corrupt,
}


def ticks() -> None:
    """Look at the plan once in a millisecond only."""
    right = session.WORKLOADS["open"]

    def ticking(table: Table) -> Callable[[int], int]:
        advance = right(table)

        def advance_at_ticks(until_ns: int) -> int:
            outcome = 0
            while (now_ns := time.monotonic_ns()) < until_ns:
                time.sleep((1_000_000 - now_ns % 1_000_000) / 1e9)
                outcome = advance(min(until_ns, time.monotonic_ns() + 20_000))
            return outcome

        return advance_at_ticks

    session.WORKLOADS["open"] = ticking


def dies() -> None:
    """End as soon as a window opens."""
    right = worker.say

    def say(event: str, **facts: object) -> None:
        right(event, **facts)
        if event == "window_opened":
            os._exit(9)

    worker.say = say


ACTS: dict[str, Callable[[], None]] = {"ticks": ticks, "dies": dies}


def break_it(kind: str) -> None:
    if kind in ACTS:
        ACTS[kind]()
        return
    right, change = Session.finish, RESULTS[kind]
    Session.finish = lambda *given: change(right(*given))  # type: ignore[method-assign]


if __name__ == "__main__":
    break_it(sys.argv.pop(1))
    sys.exit(main(sys.argv[1:]))
