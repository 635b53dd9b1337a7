"""Measures what the capacity model is made of, and checks it against later measurements.

    python -m bench.cluster.capacity_measure            check the stored constants on this machine
    python -m bench.cluster.capacity_measure --write    measure anew, check, store, and fill docs/scale.md

Exit code 1 where the model is off by more than 15 % anywhere. Takes about two minutes; the machine should be idle.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from bench.catalogue import list_strategies
from bench.cluster.capacity_model import (
    STORED,
    WITHIN,
    Constants,
    Stored,
    Taken,
    compare,
    fill,
    fit,
    least_disturbed,
    read,
)
from bench.host import CpuLayout, choose_cpus, cpu_model
from bench.load import Watch, job
from bench.load_pool import LoadPool
from bench.observation import observe
from bench.processes import HOME, Guard, pinned
from bench.record import Load, Trial
from bench.server import start_server, stop_server

STRATEGY = "epoll_lt"
MESSAGE_BYTES = 64
SIZES = (100, 1000, 10_000)
ROUNDS = 5
WARMUP_S, WINDOW_S = 0.5, 2.0
MEMINFO, SOCKSTAT = Path("/proc/meminfo"), Path("/proc/net/sockstat")
DOC = HOME / "docs/scale.md"


def kernel_bytes() -> float:
    """Memory of the kernel that connections take: its slabs, and what lies in socket buffers."""
    slab = next(line.split()[1] for line in MEMINFO.read_text().splitlines() if line.startswith("Slab:"))
    tcp = next(line.split() for line in SOCKSTAT.read_text().splitlines() if line.startswith("TCP:"))
    pages = int(tcp[tcp.index("mem") + 1])
    return float(int(slab) * 1024 + pages * 4096)


def take(connections: int, layout: CpuLayout, guard: Guard, pool: LoadPool) -> Taken:
    """Measure a fresh server under a closed loop with so many connections. Raises what `observe` does."""
    info = next(one for one in list_strategies()[0] if one.name == STRATEGY)
    trial = Trial(
        strategy=STRATEGY,
        transport="tcp",
        connections=connections,
        message_bytes=MESSAGE_BYTES,
        workload="closed",
        warmup_s=WARMUP_S,
        duration_s=WINDOW_S,
        repeat=1,
        seed=1,
    )
    worker = pool.worker()
    before, about_load = kernel_bytes(), psutil.Process(worker.child.pid)
    server = start_server(info, "tcp", layout.server, guard)
    held: dict[str, float] = {}

    def closed() -> None:
        held["kernel"] = kernel_bytes() - before
        held["load_bytes"] = about_load.memory_info().rss
        held["load_descriptors"] = about_load.num_fds()

    try:
        measured, seen = observe(worker, job(trial, 0.0, server.address), server, Watch(closed=closed))
    finally:
        stop_server(server)
    return _taken(connections, measured.load, {**seen.metrics, **held}, seen.closed_ns - seen.opened_ns)


def _taken(connections: int, load: Load, seen: dict[str, float], server_window_ns: int) -> Taken:
    per_ns = load.completed / (load.closed_ns - load.opened_ns)
    return Taken(
        connections=connections,
        server_bytes=seen["rss_bytes"],
        load_bytes=seen["load_bytes"],
        kernel_bytes=max(1.0, seen["kernel"]),
        server_descriptors=seen["descriptors"],
        load_descriptors=seen["load_descriptors"],
        server_us=seen["cpu_ns"] / server_window_ns / per_ns / 1e3,
        load_us=(load.cpu_user_ns + load.cpu_system_ns) / load.completed / 1e3,
    )


def take_all(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> list[Taken]:
    """Measure at each size, the least first, so many times round.

    Each round has a load generator of its own: memory that was had once is seldom given back.
    """
    layout, guard = choose_cpus(), Guard()
    found: list[list[Taken]] = []
    try:
        with pinned(layout.harness):
            for _ in range(rounds):
                pool = LoadPool(guard, layout.load)
                try:
                    found.append([take(size, layout, guard, pool) for size in sorted(sizes)])
                finally:
                    pool.end()
            return [least_disturbed(same) for same in zip(*found, strict=True)]
    finally:
        guard.close()


def tell(constants: Constants, taken: Sequence[Taken]) -> bool:
    """Print how far the model is off; whether it is near enough everywhere."""
    near = True
    print(f"{'connections':>11}  {'what':<18}  {'measured':>14}  {'model':>14}  {'off by':>7}")
    for one in compare(constants, taken):
        far = abs(one.share) > WITHIN
        near &= not far
        print(
            f"{one.connections:>11,}  {one.what:<18}  {one.measured:>14,.2f}  {one.model:>14,.2f}  {one.share:>+7.1%}"
            f"{'  too far' if far else ''}"
        )
    return near


def main() -> int:
    """Check, or measure anew; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.cluster.capacity_measure", description="Check the model.")
    parser.add_argument("--write", action="store_true", help="measure constants anew and store them")
    write = parser.parse_args().write
    if not write:
        return 0 if tell(read().constants, take_all()) else 1
    constants = fit(take_all())
    stored = Stored(
        machine=cpu_model(),
        strategy=STRATEGY,
        message_bytes=MESSAGE_BYTES,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        constants=constants,
        checked=take_all(),
    )
    STORED.write_bytes(msgspec.json.format(msgspec.json.encode(stored), indent=2) + b"\n")
    DOC.write_text(fill(DOC.read_text(), stored))
    return 0 if tell(stored.constants, stored.checked) else 1


if __name__ == "__main__":
    sys.exit(main())
