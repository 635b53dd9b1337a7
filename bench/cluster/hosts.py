"""What runs on the workers: the server's host, load hosts, and machines that measure settings. They are Dask actors.

An actor lives as long as the client that made it. When that has gone, killed or not, the scheduler lets go of the
actor, and with it goes all that it has started; when its worker dies, the guard sees to that. An exception does not
always survive the way to another process, so what a user is to read of goes back as a `Failed`.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from bench import descriptors, interpreters
from bench.catalogue import list_strategies
from bench.errors import BadInputError
from bench.events import ProtocolError, wait
from bench.host import choose_cpus
from bench.load import HeldJob, LoadFailedError
from bench.load_pool import LoadPool
from bench.plan import Plan
from bench.probes.machine import MachineProbe
from bench.processes import Guard, pinned
from bench.record import Interpreter, Load, Machine, Record, StrategyInfo, Trial
from bench.run import measure_at_home, start_for
from bench.server import RunningServer, ServerFailedError
from bench.settings import Setting
from bench.trial import ServerAtHome, Stopped
from servers.transport import Address, AddressError, parse


class Failed(NamedTuple):
    """In place of an answer: the reason why there is none."""

    reason: str


class Targets(NamedTuple):
    """What a sweep names as targets of its load: tcp on these hosts, these addresses; `local` is unix and pipe."""

    hosts: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    local: bool = False

    def have(self, address: str) -> bool:
        """Whether the sweep named this one."""
        try:
            parsed = parse(address)
        except AddressError:
            return False
        if address in self.addresses:
            return True
        return parsed.place in self.hosts if parsed.transport == "tcp" else self.local


class Known(NamedTuple):
    """The strategies of a worker, and the interpreters that were asked for."""

    strategies: list[StrategyInfo]
    interpreters: list[Interpreter]


def known_there(pythons: Sequence[str]) -> Known | Failed:
    """What the worker that runs this can run."""
    try:
        strategies, _ = list_strategies()
    except BadInputError as error:
        return Failed(str(error))
    return Known(strategies, interpreters.ask_all(pythons, strategies) if tuple(pythons) != ("",) else [])


class Commands(NamedTuple):
    """What stands in for `python -m servers` and `python -m clients`."""

    server: Sequence[str] = ()
    load: Sequence[str] = ()


OURS = Commands()


@dataclass
class _Started:
    """What has to be ended once an actor has gone: processes and their guard."""

    guard: Guard
    pool: LoadPool | None = None
    home: ServerAtHome | None = None

    def end(self) -> None:
        """End all of it."""
        if self.home is not None and self.home.running is not None:
            self.home.stop()
            self.home.running = None
        if self.pool is not None:
            self.pool.end()
        self.guard.close()


class LoadHost:
    """A load generator of a cluster, and a part of each trial's load. Its methods are called in their order.

    `threads` is the most load threads that a trial has.
    """

    def __init__(self, targets: Targets, threads: int, commands: Commands = OURS) -> None:
        self._targets = targets
        guard = Guard()
        self._pool = LoadPool(guard, choose_cpus(threads).load, commands.load)
        self._job: HeldJob | None = None
        self._name = ""
        self._probe: MachineProbe | None = None
        self._machine: Machine | None = None
        weakref.finalize(self, _Started(guard, self._pool).end)

    def warm_up(self) -> list[int] | Failed:
        """Start the load generator, and say on which CPUs it runs."""
        try:
            return self._pool.worker().cpus
        except LoadFailedError as error:
            return Failed(str(error))

    def connect(self, line: dict[str, Any]) -> tuple[int, str] | Failed:
        """Open a job's connections and hold them; how many could not be made, and one reason for it."""
        address = str(line["address"])
        if not self._targets.have(address):
            return Failed(f"it refuses {address}: the sweep did not name that as a target")
        try:
            self._leave_off()
            worker = self._pool.worker()
            self._name, self._job = str(line["job"]), HeldJob(worker, line)
            self._probe, self._machine = MachineProbe([], worker.cpus, worker.child.pid), None
            return self._job.connected()
        except LoadFailedError as error:
            return Failed(str(error))

    def go(self) -> int | Failed:
        """Begin; how many ns later the window opened."""
        told_ns = time.monotonic_ns()
        assert self._job is not None and self._probe is not None
        try:
            opened_ns = self._job.go()
        except LoadFailedError as error:
            return Failed(str(error))
        self._probe.start()
        return opened_ns - told_ns

    def closed(self) -> Failed | None:
        """Wait until the window has closed. The load stays on, so that the server's probes see it."""
        assert self._job is not None and self._probe is not None
        try:
            self._job.closed()
        except LoadFailedError as error:
            return Failed(str(error))
        self._machine = self._probe.stop()
        return None

    def result(self) -> tuple[Load, Machine | None] | Failed:
        """End the load: what came of it, and what became of the CPUs meanwhile."""
        assert self._job is not None
        job, self._job = self._job, None
        try:
            return job.result(), self._machine
        except LoadFailedError as error:
            return Failed(str(error))

    async def call_off(self) -> None:
        """Have the job under way end early, whatever method waits for it: this one runs beside them."""
        worker = self._pool.running
        if worker is not None and worker.child.process.stdin is not None:
            with suppress(OSError, ValueError):
                os.write(worker.child.process.stdin.fileno(), msgspec.json.encode({"stop": self._name}) + b"\n")

    def _leave_off(self) -> None:
        """End a job that was called off."""
        job, self._job = self._job, None
        if job is not None:
            job.call_off()


class ServerHost:
    """The server's side of each trial. `bind` is where servers listen, `reached_at` the host that clients dial.

    `plan` tells how a trial's server is started; it needs no trials.
    """

    def __init__(self, plan: Plan, bind: str, reached_at: str, commands: Commands = OURS) -> None:
        guard, layout = Guard(), choose_cpus()

        def start(trial: Trial) -> RunningServer:  # it must not hold the actor, which would never be let go
            return start_for(trial, plan, layout.server, guard, commands.server, host=bind)

        self._layout, self._reached_at = layout, reached_at
        self._home = ServerAtHome(start)
        weakref.finalize(self, _Started(guard, home=self._home).end)

    def start(self, trial: Trial) -> tuple[str, list[int]] | Failed:
        """Start a trial's server: where it can be reached, and on which CPUs it runs."""
        if self._home.running is not None:  # of a trial whose driver has lost its way
            self._home.stop()
        descriptors.raise_limit([trial])
        try:
            with pinned(self._layout.harness):
                self._home.start(trial)
        except ServerFailedError as error:
            return Failed(str(error))
        server = self._home.running
        assert server is not None
        return self._outward(server.address), server.cpus

    def connected(self) -> None:
        """All connections are open."""
        self._home.connected()

    def opened(self) -> None:
        """The window has opened."""
        self._home.opened()

    def closed(self) -> None:
        """The window has closed."""
        self._home.closed()

    def alive(self) -> bool:
        """Whether the server has not ended; what it says of itself is taken note of."""
        server = self._home.running
        with suppress(TimeoutError, ProtocolError):
            while server is not None and not server.ended:
                server.hear(wait([server.status], 0))
        return server is not None and not server.ended

    def stop(self) -> Stopped:
        """End the server."""
        self.alive()
        try:
            return self._home.stop()
        finally:
            self._home.running = None

    def _outward(self, address: str) -> str:
        parsed = parse(address)
        if parsed.transport != "tcp" or parsed.place not in ("0.0.0.0", "::"):
            return address
        return str(Address("tcp", self._reached_at, parsed.port))


class WholeMachine:
    """Measures settings with server and load both at home on this worker's machine."""

    def __init__(self, plan: Plan, threads: int, commands: Commands = OURS) -> None:
        self._plan, self._commands = plan, commands
        self._guard, self._layout = Guard(), choose_cpus(threads)
        self._pool = LoadPool(self._guard, self._layout.load, commands.load)
        weakref.finalize(self, _Started(self._guard, self._pool).end)

    def warm_up(self) -> Failed | None:
        """Start the load generator."""
        try:
            self._pool.worker()
        except LoadFailedError as error:
            return Failed(str(error))
        return None

    def run(self, setting: Setting, rates_hz: Mapping[str, float]) -> list[Record]:
        """Measure a setting with these rates, by the ids of its trials: a record of each, whatever becomes of it."""

        def start(trial: Trial) -> RunningServer:
            return start_for(trial, self._plan, self._layout.server, self._guard, self._commands.server)

        descriptors.raise_limit(setting.trials)
        with pinned(self._layout.harness):
            records = measure_at_home(
                setting, rates_hz, start, self._pool, shared_cpus=self._layout.shared, tick=lambda: None
            )
            return list(records)
