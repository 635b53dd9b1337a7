"""What the tests of the cluster have in common: workers of this machine, and a progress that pulls triggers."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from test_run import Silence

from bench.cluster.connect import Cluster, HostLostError, local_cluster, open_cluster
from bench.cluster.hosts import Commands

TESTS = Path(__file__).parent.parent
FAKES = Commands(
    [sys.executable, str(TESTS / "fake_server.py")],
    [sys.executable, str(TESTS / "fake_load.py")],
)
BOTH = {"server": 1.0, "load": 1.0}


def lingering(connections: int) -> Commands:
    """Fakes whose windows stay open, in jobs of so many connections, until they are called off."""
    return FAKES._replace(load=[*FAKES.load, "--fault", f"lingers@{connections}"])


@contextmanager
def company(offers: Mapping[str, Mapping[str, float]]) -> Iterator[Cluster]:
    """A cluster of this machine, whose workers have said who they are."""
    with local_cluster(offers) as address, open_cluster(address) as cluster:
        cluster.client.wait_for_workers(len(offers), timeout=60)
        cluster.check(list(cluster.members().values()))
        yield cluster


def complete(cluster: Cluster, number: int) -> None:
    """Wait until all workers are there again, and have said who they are."""
    deadline = time.monotonic() + 90
    while True:
        cluster.client.wait_for_workers(number, timeout=60)
        try:
            return cluster.check(list(cluster.members().values()))
        except HostLostError:  # it was killed a moment ago, and the scheduler has not noticed yet
            assert time.monotonic() < deadline


def pid_of(cluster: Cluster, name: str) -> int:
    """The process of a worker."""
    address = cluster.members()[name].address
    return int(cluster.client.run(os.getpid, workers=[address])[address])


def left_running(cluster: Cluster) -> list[psutil.Process]:
    """The processes that workers have started and that have not ended."""
    found = []
    for name in cluster.members():
        worker = psutil.Process(pid_of(cluster, name))
        found += [one for one in worker.children(recursive=True) if not _of_python(one)]
    return found


def _of_python(process: psutil.Process) -> bool:
    """Whether it is multiprocessing's own, which lives as long as the worker, or has ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE or "multiprocessing" in " ".join(process.cmdline())
    except psutil.Error:
        return True


class Triggers(Silence):
    """Does something, once, as soon as a host is said to do what begins with these words."""

    def __init__(self, triggers: Mapping[tuple[str, str], Callable[[], None]]) -> None:
        self.triggers = dict(triggers)
        self.told: list[tuple[str, str]] = []

    def host(self, name: str, doing: str, trouble: bool = False) -> None:
        self.told.append((name, doing))
        for (whose, words), action in list(self.triggers.items()):
            if whose == name and doing.startswith(words):
                del self.triggers[whose, words]
                action()


def killing(cluster: Cluster, name: str) -> Callable[[], None]:
    """Kill a worker, whose nanny starts another one."""
    pid = pid_of(cluster, name)
    return lambda: os.kill(pid, signal.SIGKILL)
