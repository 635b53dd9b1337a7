"""What every claim is measured with: peers, a warm load generator, jobs, and a watch on the machine meanwhile.

No claim is known here. Peers are servers like any other (bench.server), jobs those of any run (bench.load).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from bench import validity
from bench.calibrate.watch import Disturbance, Reading, disturbances, take_reading
from bench.host import CpuLayout
from bench.load import Watch
from bench.load_pool import LoadPool
from bench.observation import observe
from bench.processes import Ending, Guard, how_it_ended
from bench.record import Load, Machine, Server, StrategyInfo, Trial
from bench.server import RunningServer, ServerFailedError, start_server, stop_server
from bench.trial import describe_server

TIMEOUT_S = 20.0  # for an echo: longer than any stall made here
PEERS_COMMAND = (sys.executable, "-m", "bench.calibrate.peers")


Job = dict[str, Any]  # fields of a job (clients.job)


class Seen(NamedTuple):
    """One job's result, from both sides, and what a record would say of it (bench.validity)."""

    load: Load
    server: Server
    limit: str
    flags: list[str]
    lower_bounds: list[str]


class Peer(NamedTuple):
    """A running peer, and what it saw, once it has ended (bench.calibrate.peers.Told)."""

    server: RunningServer
    told: dict[str, Any]


@dataclass
class Rig:
    """The processes of a calibration. `quick`: with fewer messages. `loads`: every result, and if it was recorded."""

    guard: Guard
    layout: CpuLayout
    pool: LoadPool
    two_for_load: Sequence[int]  # CPUs for two load workers, where there are as many beside the server's
    quick: bool
    loads: list[tuple[Load, bool]] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    maxima: dict[str, float] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def cpus(self) -> list[int]:
        """Those of both sides, for what is not timed."""
        return sorted({*self.layout.server, *self.layout.load})

    def choose(self, full: int, quick: int) -> int:
        """One number or the other."""
        return quick if self.quick else full

    @contextmanager
    def peer(self, name: str, transport: str = "tcp", **options: object) -> Iterator[Peer]:
        """Run a peer on the server's CPUs; at the end it has `told` what it saw. Raises ServerFailedError."""
        info = StrategyInfo(
            name=name,
            module="",
            summary="",
            model="",
            transports=[],
            concurrent=True,
            available=True,
            reason="",
            doc="",
        )
        with tempfile.TemporaryDirectory(prefix="iobench-") as folder:
            record = Path(folder) / "record.json"
            named = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
            command = [*PEERS_COMMAND, *named, f"--record={record}"]
            peer = Peer(start_server(info, transport, self.layout.server, self.guard, command), {})
            try:
                yield peer
            finally:
                ending = stop_server(peer.server)
            if record.exists():
                peer.told.update(json.loads(record.read_text()))
        if ending.exit_code != 0:
            raise ServerFailedError(f"the peer {name!r} ended badly, {how_it_ended(ending)}", ending)

    def drive(
        self,
        peer: Peer,
        *,
        opened: Callable[[], None] = lambda: None,
        closed: Callable[[], None] = lambda: None,
        cut_short: bool = False,
        cpus: Sequence[int] = (),
        **job: Any,
    ) -> Seen:
        """Give the load generator a job, with these callbacks at its steps. Raises LoadFailedError, Interrupted.

        `cut_short` ends the window after a second or so, and with it the load: nothing is sent after its end.
        """
        worker = self.pool.worker(cpus)
        line = {
            "job": f"calibrate-{next(self._numbers)}",
            "address": peer.server.address,
            "workload": "closed",
            "message_bytes": 64,
            "warmup_s": 0.0,
            "timeout_s": TIMEOUT_S,
            "seed": 1,
            **job,
        }
        readings: list[Reading] = []
        names = {worker.child.pid: "the load generator", peer.server.pid: "the peer"}
        ours, used_cpus = [os.getpid(), *names], sorted({*self.layout.server, *worker.cpus})

        def window_opened() -> None:
            readings.append(take_reading(ours, used_cpus))
            opened()

        def window_closed() -> None:
            readings.append(take_reading(ours, used_cpus))
            closed()

        def tick() -> None:
            if cut_short:
                worker.send({"stop": line["job"]})

        watch = Watch(opened=window_opened, closed=window_closed, tick=tick)
        measured, seen = observe(worker, line, peer.server, watch)
        self.loads.append((measured.load, not job.get("record_off", False)))
        self.disturbances += disturbances(readings[0], readings[1], names, len(used_cpus))
        server = describe_server(peer.server, seen, Ending(0, killed=False, stderr_tail=""))
        return judged(line, measured.load, server, seen.machine)


def judged(job: Job, load: Load, server: Server, machine: Machine | None) -> Seen:
    """Judge a result as that of a trial is."""
    trial = Trial(
        strategy="calibration",
        transport=job["address"].partition(":")[0],
        repeat=0,
        **{key: job[key] for key in ("connections", "message_bytes", "workload", "warmup_s", "duration_s", "seed")},
        cap=job.get("cap", 0),
    )
    limit = validity.bottleneck(load, server, machine)
    return Seen(load, server, limit, validity.flags(trial, load, limit), validity.lower_bounds(load))
