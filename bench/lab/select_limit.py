"""What select(2) can't watch, and what one wait costs as more descriptors are watched that have nothing to say.

select takes three bit masks of FD_SETSIZE bits: 1,024, fixed when the C library was compiled. A descriptor numbered
1,024 or more has no bit; in C, FD_SET of one writes beyond the mask, in Python it is a ValueError. It is the number
that counts, not how many are watched. poll(2) takes an array and has no such limit; epoll(7) keeps its list in the
kernel.

The cost is another matter. At every call the kernel asks each descriptor that select or poll are given, ready or not,
so a wait costs in proportion to all that are watched. epoll_wait takes what the ready list has: a wait costs in
proportion to what is ready.

Here one pipe is ready and the others, sockets that nobody writes to, are not. Each figure is the quickest of several
rounds, as a Python program has it: with the making of the lists that its select module is given and returns.
"""

from __future__ import annotations

import os
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from bench.lab.experiment import Chart, Experiment, Observation, at_least, at_most, same, told
from bench.lab.processes import pipe

FD_SETSIZE = 1024
IDLE = (10, 30, 100, 300, 1000, 3000, 10_000)
SPARE = 40  # descriptors that are open besides
ROUNDS, ROUND_S = 5, 0.002


def run() -> Iterator[Observation | Chart]:
    """Watch a descriptor on either side of the limit; then time waits with ever more idle ones."""
    with as_many_descriptors_as(max(IDLE) + SPARE) as allowed, pipe() as (reading, writing):
        os.write(writing, b"x")
        if allowed > FD_SETSIZE:
            yield from either_side_of_the_limit(reading)
        else:
            yield told("no more descriptors than FD_SETSIZE are allowed", allowed)
        numbers = [number for number in IDLE if number + SPARE <= allowed]
        if len(numbers) < len(IDLE):
            yield told("idle descriptors at most, for want of more", numbers[-1])
        lines = time_waits(reading, numbers)
        first, last = f"{numbers[0]}", f"{numbers[-1]:,}"
        for name, points in lines.items():
            (_, few), (most, many) = points[0], points[-1]
            if name == "epoll":
                yield at_most(f"epoll: a wait with {last} by one with {first}", many / few, 3, "x")
            else:
                yield at_least(f"{name}: a wait with {most:,} by one with {first}", many / few, 5, "x")
        yield Chart(
            title="One wait, as idle descriptors are added",
            x="idle descriptors",
            y="us a wait",
            lines=lines,
        )


def either_side_of_the_limit(reading: int) -> Iterator[Observation]:
    """Give the same pipe the last number that select can watch, and the first that it can't."""
    for number in (FD_SETSIZE - 1, FD_SETSIZE):
        os.dup2(reading, number, inheritable=False)
    try:
        within = select.select([FD_SETSIZE - 1], [], [], 0)[0]
        yield same(f"select of descriptor {FD_SETSIZE - 1}", "ready", "ready" if within else "not ready")
        try:
            beyond = "ready" if select.select([FD_SETSIZE], [], [], 0)[0] else "not ready"
        except ValueError:
            beyond = "ValueError"
        yield same(f"select of descriptor {FD_SETSIZE}", "ValueError", beyond)
        for name, watch in watchers(FD_SETSIZE, []).items():
            if name != "select":
                yield same(f"{name} of descriptor {FD_SETSIZE}", "ready", "ready" if watch() else "not ready")
    finally:
        os.close(FD_SETSIZE - 1)
        os.close(FD_SETSIZE)


def time_waits(ready: int, numbers: list[int]) -> dict[str, list[tuple[float, float]]]:
    """For each call the (idle descriptors, microseconds a wait), as far as the call can go."""
    lines: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        idle: list[int] = []
        for number in numbers:
            while len(idle) < number:
                idle.append(stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)).fileno())
            for name, watch in watchers(ready, idle).items():
                lines.setdefault(name, []).append((number, 1e6 * quickest_s(watch)))
    return lines


def watchers(ready: int, idle: list[int]) -> dict[str, Callable[[], object]]:
    """A function that waits for these descriptors with each of the calls that can watch them all."""
    found: dict[str, Callable[[], object]] = {}
    watched = [ready, *idle]
    if max(watched) < FD_SETSIZE:
        found["select"] = lambda: select.select(watched, [], [], 0)[0]
    interests: dict[str, Any] = {"poll": select.poll()}
    if hasattr(select, "epoll"):
        interests["epoll"] = select.epoll()
    for name, interest in interests.items():
        for fd in watched:
            interest.register(fd, select.POLLIN)  # the same number as EPOLLIN
        found[name] = partial(interest.poll, 0)
    return found


def quickest_s(watch: Callable[[], object]) -> float:
    """Seconds that a call takes, in the quickest of several rounds: what disturbs it makes it slower, never faster."""
    best = float("inf")
    for _ in range(ROUNDS):
        calls, began = 0, time.perf_counter()
        while (now := time.perf_counter()) < began + ROUND_S or not calls:
            watch()
            calls += 1
        best = min(best, (now - began) / calls)
    return best


@contextmanager
def as_many_descriptors_as(number: int) -> Iterator[int]:
    """Raise the soft limit as far as the hard one lets us; give what is allowed now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = number if hard == resource.RLIM_INFINITY else min(number, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    try:
        yield max(soft, allowed)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


EXPERIMENT = Experiment(
    name="select-limit",
    claim="select ends at descriptor 1,023; select and poll cost by what is watched, epoll does not",
    run=run,
)
