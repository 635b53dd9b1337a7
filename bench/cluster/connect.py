"""The way to a cluster: its scheduler, the workers with their roles, and actors on them that are asked and heard.

What a worker may do is told by Dask's resources: `server` and `load`. One that offers both is a whole machine. What is
asked of a host is the affair of those who ask.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import dask
from dask.distributed import Client, Lock, Nanny, Scheduler, SpecCluster, wait

from bench.cluster.about import About, about, fingerprint
from bench.errors import BadInputError
from bench.events import raise_signals
from bench.host import own_version
from bench.say import complain

CONNECT_S = 10
WORKERS_S = 10.0  # that a cluster has to show its first worker
MAKE_S = 120.0  # that an actor has to be made
LOOK_S = 0.1  # between two looks at signals and lost hosts, while an answer is waited for
ASIDE_S = 60.0  # that another sweep has to leave the cluster
TICK_S = 1.0
SERVER, LOAD = "server", "load"
LOCAL = re.compile(r"local:(\d+)")


class HostLostError(Exception):
    """Workers have gone, or do not answer; the message says what became of them. `names` are theirs."""

    def __init__(self, names: Sequence[str], what: str) -> None:
        super().__init__(f"host{'s' if len(names) > 1 else ''} {', '.join(names)} {what}")
        self.names = list(names)


class Member(NamedTuple):
    """A worker as it is now: where Dask finds it, and what it offers."""

    name: str
    address: str
    roles: tuple[str, ...]

    @property
    def ip(self) -> str:
        """The host part of its address."""
        return self.address.partition("://")[2].rpartition(":")[0].strip("[]")


class Heard(NamedTuple):
    """An answer, and when it was asked for and came, by this process's CLOCK_MONOTONIC."""

    value: Any
    asked_ns: int
    heard_ns: int


@dataclass
class Remote:
    """An actor on a worker."""

    member: Member
    future: Any  # dask.distributed.Future; its status tells at once when the worker is lost
    actor: Any

    @property
    def name(self) -> str:
        """That of its worker."""
        return self.member.name

    @property
    def lost(self) -> bool:
        """Whether its worker has gone, and the actor with it."""
        return str(self.future.status) != "finished"


@dataclass
class Cluster:
    """A connection to a scheduler. `about` has what each worker said of itself, by name."""

    client: Client
    about: dict[str, About] = field(default_factory=dict)

    def members(self) -> dict[str, Member]:
        """The workers that there are now and that offer a role, by name. Raises BadInputError without a scheduler."""
        if self.client.status == "closed":
            raise BadInputError("The scheduler has gone. What there is of the run stays.", "iobench sweep --resume RUN")
        found: dict[str, dict[str, Any]] = self.client.scheduler_info(n_workers=-1)["workers"]
        named = {}
        for number, (address, facts) in enumerate(sorted(found.items()), 1):
            name = str(facts["name"])
            # Unnamed workers are called by their address, which is not for others to read.
            name = f"host-{number}" if "://" in name else name
            roles = tuple(role for role in (SERVER, LOAD) if (facts.get("resources") or {}).get(role, 0) > 0)
            if roles:
                named[name] = Member(name, address, roles)
        return dict(sorted(named.items()))

    def check(self, members: Collection[Member]) -> None:
        """Ask workers who they are.

        Raises BadInputError where one has another iobench than this process, HostLostError where one does not answer.
        """
        answers = self.client.run(about, workers=[one.address for one in members], on_error="return")
        wrong = []
        for one in members:
            said = answers.get(one.address)
            if said is None or isinstance(said, OSError):
                raise HostLostError([one.name], "was lost")
            if isinstance(said, About) and (said.version, said.code) == (own_version(), fingerprint()):
                self.about[one.name] = said
            elif isinstance(said, About):
                wrong.append(f"{one.name} has {_version(said.version, said.code)}")
            else:
                wrong.append(f"{one.name} has none that can run on a cluster ({type(said).__name__})")
        if wrong:
            raise BadInputError(
                f"Every worker must have the iobench that is run here, {_version(own_version(), fingerprint())}: "
                f"{'; '.join(wrong)}.",
                "install the same version there, and start these workers again",
            )

    def make(self, members: Mapping[str, Member], role: str, kind: type, *arguments: Any) -> dict[str, Remote]:
        """Make an actor on each of the workers. Raises HostLostError, Interrupted."""
        futures = {
            name: self.client.submit(
                kind, *arguments, actor=True, workers=[member.address], resources={role: 1}, pure=False
            )
            for name, member in members.items()
        }
        deadline = time.monotonic() + MAKE_S
        while late := [name for name, future in futures.items() if not future.done()]:
            raise_signals()
            if time.monotonic() > deadline:
                raise HostLostError(late, f"could not begin within {MAKE_S:g} s")
            with suppress(TimeoutError):
                wait(list(futures.values()), timeout=LOOK_S)
        for name, future in futures.items():
            if future.status != "finished":
                raise HostLostError([name], f"could not begin: {future.exception()}")
        return {name: Remote(members[name], future, future.result()) for name, future in futures.items()}

    def leave(self, remotes: Sequence[Remote]) -> None:
        """Let actors go: what they have started ends with them, on workers that are there."""
        with suppress(OSError, RuntimeError):  # the scheduler has gone, and lets go of them by itself
            self.client.cancel([one.future for one in remotes], force=True)

    def begin(self, remote: Remote, method: str, *arguments: Any) -> concurrent.futures.Future[Heard]:
        """Ask an actor something; the answer comes by and by. Raises HostLostError."""
        if remote.lost:
            raise HostLostError([remote.name], "was lost")
        asked_ns = time.monotonic_ns()
        try:
            answer = getattr(remote.actor, method)(*arguments)
        except RuntimeError:  # Dask's word for it, in the moment between the two looks
            raise HostLostError([remote.name], "was lost") from None

        async def heard() -> Heard:
            value = await answer
            return Heard(value, asked_ns, time.monotonic_ns())

        loop: Any = self.client.loop
        return asyncio.run_coroutine_threadsafe(heard(), loop.asyncio_loop)

    def ask(
        self,
        questions: Sequence[tuple[Remote, str, tuple[Any, ...]]],
        seconds: float,
        *,
        others: Sequence[Remote] = (),
        tick: Callable[[], None] | None = None,
    ) -> dict[str, Heard]:
        """Ask actors something at once and wait until all have answered: the answers by name.

        `tick` is called about once a second. Raises HostLostError where one of them, or of `others`, is lost or does
        not answer in time, and Interrupted.
        """
        asked = {remote.name: self.begin(remote, method, *arguments) for remote, method, arguments in questions}
        watched = [*(remote for remote, _, _ in questions), *others]
        deadline = time.monotonic() + seconds
        next_tick = time.monotonic() + TICK_S
        try:
            while True:
                _, open_ = concurrent.futures.wait(asked.values(), timeout=LOOK_S)
                raise_signals()
                if lost := [remote.name for remote in watched if remote.lost]:
                    raise HostLostError(lost, "was lost")
                if not open_:
                    return {name: answer_of(name, future) for name, future in asked.items()}
                if time.monotonic() > deadline:
                    silent = [name for name, future in asked.items() if not future.done()]
                    raise HostLostError(silent, f"did not answer within {seconds:g} s")
                if tick is not None and time.monotonic() > next_tick:
                    next_tick += TICK_S
                    tick()
        finally:
            for future in asked.values():
                future.cancel()


def answer_of(name: str, future: concurrent.futures.Future[Heard]) -> Heard:
    """An answer that has come. Raises HostLostError in its place, where the host could not give one."""
    try:
        return future.result()
    except Exception as error:  # OSError and KeyError, as a rule: whatever a connection or an actor that is gone raises
        raise HostLostError([name], f"was lost ({type(error).__name__}: {error})") from None


def _version(version: str, code: str) -> str:
    return f"{version} (code {code})"


@contextmanager
def open_cluster(where: str) -> Iterator[Cluster]:
    """Connect to a scheduler, or start workers on this machine (local:N), and keep other sweeps away meanwhile.

    TLS is taken from Dask's own configuration (distributed.comm.tls). Raises BadInputError.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what a user has to know of it is told by the progress
    match = LOCAL.fullmatch(where)
    if match and int(match[1]) < 2:
        raise BadInputError(f"{where} is too few: one worker runs the server, the others the load.", "local:2 or more")
    with (
        local_cluster(one_server(int(match[1]))) if match else nullcontext(where) as address,
        _connected(address) as client,
        _alone(client),
    ):
        yield Cluster(client)


def one_server(workers: int) -> dict[str, dict[str, float]]:
    """What so many workers offer, by name, where the first is for the server and the others for the load."""
    return {SERVER: {SERVER: 1.0}} | {f"{LOAD}-{number}": {LOAD: 1.0} for number in range(1, workers)}


@contextmanager
def local_cluster(offers: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Start a scheduler, and workers with these resources, as processes of this machine: the scheduler's address."""
    usual = {"host": "127.0.0.1", "nthreads": 1, "memory_limit": 0, "dashboard": False}
    usual |= {"silence_logs": logging.CRITICAL}
    # A worker that was lost is started again by its nanny, unless the cluster has meanwhile given up on it.
    patience = dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    with (
        patience,
        SpecCluster(
            scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard_address": ":0"}},
            workers={name: {"cls": Nanny, "options": usual | {"resources": offer}} for name, offer in offers.items()},
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield str(cluster.scheduler_address)


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        why = str(error).strip().splitlines()[0:1] or [type(error).__name__]
        raise BadInputError(
            f"No scheduler can be reached at {address}: {why[0]}",
            "dask scheduler --port 8786 starts one; iobench sweep --scheduler tcp://HOST:8786, or local:3",
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            raise BadInputError(
                f"The scheduler at {address} has no workers.",
                f"dask worker {address} --name NAME --nthreads 1 --resources 'server=1'",
            ) from None
        yield client


@contextmanager
def _alone(client: Client) -> Iterator[None]:
    """Hold the cluster for one sweep. A driver that was killed loses its hold after a while (Dask: lease-timeout)."""
    lock = Lock("iobench")
    deadline = time.monotonic() + ASIDE_S
    told = False
    while not lock.acquire(timeout=1):
        if not told:
            complain("Another sweep is using this cluster, or was killed a moment ago. Waiting for it.")
            told = True
        if time.monotonic() > deadline:
            raise BadInputError("Another sweep is using this cluster.", "wait for it; docs/cluster.md")
    try:
        yield
    finally:
        with suppress(OSError, RuntimeError):  # the scheduler has gone, and the lock with it
            lock.release()
