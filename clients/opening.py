"""Opens the connections of a job. What is sent on them, and when, is decided elsewhere."""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from clients.job import Job, JobError
from clients.table import Ends
from servers.transport import Address, dial, parse

# What connect(2) says when it is this machine that can open no more, not the server that takes no more.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)

_LOOK_S = 0.05  # between two looks at `ended` while a ramp goes on
# Each address has 28,232 local ports (net.ipv4.ip_local_port_range). connect(2) tries every other one first; once these
# are taken, it looks through all of them for each further connection, which takes it longer and longer.
_PORTS_EACH = 10_000
_MORE_SOURCES = 250  # loopback addresses to come from, besides the one that the kernel chooses
_IP_BIND_ADDRESS_NO_PORT = 24  # <linux/in.h>; Python has no name for it before 3.12
# A TCP server's queue of connections that it has not accepted yet: how many may wait there, and after how many new ones
# that is looked up. A SYN that finds the queue full is dropped, and tried again by the kernel a second later.
_QUEUED_MOST = 1024
_LOOK_EVERY = 128
_MANY = 16  # connections: with fewer, a server under load accepts the rest in passing
_SPARE = 64  # descriptors beside those of connections and load threads, such as a resolver's
_PIPE_ENDS = 3  # of each connection: two pipes, and the socket that they come over
_STALLED_S = 1.0  # a server that accepts none for so long won't accept the rest


class Connected(NamedTuple):
    """Open channels, connections that failed by kind, one reason for it, the time it took; channels that won't send."""

    channels: list[Ends]
    failed: Counter[str]
    reason: str
    connect_ns: int
    silent: Sequence[Ends] = ()


def connect(job: Job, ended: Callable[[], bool] = lambda: False) -> Connected:
    """Open the job's connections, evenly over `ramp_s`, all of them in `connect_s` beyond that.

    A TCP server on this machine that accepts more slowly is waited for: its queue must not overflow, and of many
    connections none is still in it at the end, where it would cost the server no memory yet. Churn opens its
    own, all the time: for it one is opened and closed again, to see who is there. `ended` is asked now and then whether
    to leave it at those opened so far. Raises JobError if this machine can't open that many.
    """
    refused = _make_room(job)
    most_queued = min(_QUEUED_MOST, max(1, _longest_queue() // 2))
    start = time.monotonic()
    deadline = start + job.ramp_s + (job.connect_s or job.timeout_s)
    address = parse(job.address)
    wanted = 1 if job.workload == "churn" else job.connections + job.silent
    channels: list[Ends] = []
    failed = Counter[str]()
    reason = ""
    sources = [""]
    try:
        for number in range(wanted):
            if not _await_turn(start + job.ramp_s * number / wanted, ended):
                break
            if number and number % _PORTS_EACH == 0:
                _move_on(address, sources)
            if number and number % min(_LOOK_EVERY, most_queued) == 0:
                _await_acceptance(address, most_queued, deadline, ended)
            try:
                channels.append(_open(address, deadline, sources))
            except (OSError, ValueError) as error:  # ValueError: a host name that no resolver takes
                if isinstance(error, OSError) and error.errno in _EXHAUSTED:
                    raise JobError(_no_room(wanted, error, refused)) from None
                failed["timed_out" if isinstance(error, TimeoutError) else "refused"] += 1
                reason = getattr(error, "strerror", None) or str(error)
                if not channels and isinstance(error, (ConnectionRefusedError, FileNotFoundError, socket.gaierror)):
                    failed["refused"] = wanted  # nobody is there: asking again tells nothing new
                    break
    except BaseException:
        for channel in channels:
            channel.close()
        raise
    took_ns = int((time.monotonic() - start) * 1e9)
    if len(channels) >= _MANY:
        _await_empty_queue(address, deadline, ended)
    if job.workload == "churn":
        return Connected(_slots(job, channels), failed, reason, took_ns)
    return Connected(channels[: job.connections], failed, reason, took_ns, channels[job.connections :])


def _slots(job: Job, probe: list[Ends]) -> list[Ends]:
    """Close the connection that showed who is there; return places for those to come, none if there was nobody."""
    for channel in probe:
        channel.close()
    return [Ends(-1, -1)] * job.connections if probe else []


def _await_turn(due_s: float, ended: Callable[[], bool]) -> bool:
    """Wait until a connection is to be opened; False where none is to be any more."""
    while (left_s := due_s - time.monotonic()) > 0:
        if ended():
            return False
        time.sleep(min(left_s, _LOOK_S))
    return True


def _await_acceptance(address: Address, most: int, deadline_s: float, ended: Callable[[], bool]) -> None:
    """Wait until no more than so many are in the queue of a server, where that can be seen."""
    if not _shows_its_queue(address):
        return
    while queued(address.port) > most and time.monotonic() < deadline_s and not ended():
        time.sleep(0.001)


def _await_empty_queue(address: Address, deadline_s: float, ended: Callable[[], bool]) -> None:
    """Wait until a server has accepted all that it will: its queue is empty, or has not grown shorter for a while."""
    if not _shows_its_queue(address):
        return
    least, since = queued(address.port), time.monotonic()
    while least and (now := time.monotonic()) < min(deadline_s, since + _STALLED_S) and not ended():
        time.sleep(0.001)
        waiting = queued(address.port)
        if waiting < least:
            least, since = waiting, now


def _shows_its_queue(address: Address) -> bool:
    """Whether it is a TCP server on this machine."""
    return address.transport == "tcp" and (address.place == "::1" or _ip_of(address).startswith("127."))


def _longest_queue() -> int:
    """The most that listen(2) allows any queue here."""
    try:
        return int(Path("/proc/sys/net/core/somaxconn").read_bytes())
    except (OSError, ValueError):
        return 2 * _QUEUED_MOST


def queued(port: int) -> int:
    """How many connections wait for accept(2) on a TCP port of this machine; 0 where that can't be told.

    In /proc/net/tcp the receive queue of a listener (state 0A) is that number. Listeners come first, so that a file of
    ten thousand connections is not read to its end.
    """
    found, local = 0, b":%04X" % port
    for name in ("tcp", "tcp6"):
        with suppress(OSError), Path("/proc/net", name).open("rb", buffering=4096) as rows:
            next(rows, None)  # the heading
            for row in rows:
                fields = row.split()
                if fields[3] != b"0A":
                    break
                if fields[1].endswith(local):
                    found += int(fields[4].partition(b":")[2], 16)
    return found


def _open(address: Address, deadline_s: float, sources: list[str]) -> Ends:
    """Open a connection, from the last of the source addresses; one with no port left gets a successor if it can."""
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "not all connections were opened in time")
        try:
            return Ends(*dial(address, left_s)) if sources[-1] == "" else _dial_from(sources[-1], address, left_s)
        except BlockingIOError:
            # The backlog of a UNIX socket is full. connect(2) waits for room there only on a blocking socket, which has
            # no deadline; nothing tells when there is some.
            time.sleep(0.001)
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL or not _move_on(address, sources):
                raise


def _move_on(address: Address, sources: list[str]) -> bool:
    """Go on from another source address, which has ports of its own; False where there is none.

    All of 127.0.0.0/8 is this machine.
    """
    if address.transport != "tcp" or len(sources) > _MORE_SOURCES or not _ip_of(address).startswith("127."):
        return False
    sources.append(f"127.0.0.{1 + len(sources)}")
    return True


def _ip_of(address: Address) -> str:
    try:
        found = socket.getaddrinfo(address.place, address.port, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror:
        return ""
    return str(found[0][4][0])


def _dial_from(source: str, address: Address, timeout_s: float) -> Ends:
    """Connect from a source address, IPv4. Raises OSError."""
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)  # connect(2) finds a port, not bind(2)
        sock.bind((source, 0))
        sock.settimeout(timeout_s)
        sock.connect((_ip_of(address), address.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(None)
        fd = sock.detach()
    return Ends(fd, fd)


def _make_room(job: Job) -> str:
    """Raise the soft limit of descriptors where this job needs it; returns why that failed, "" where all is well.

    A process may be forbidden to (EPERM, setrlimit(2); a seccomp filter), and what it has may do all the same.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = _PIPE_ENDS if job.address.startswith("pipe:") else 1
    needed = _open_now() + (job.connections + job.silent) * each + job.threads + _SPARE
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft == resource.RLIM_INFINITY or allowed <= soft:
        return ""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    except (OSError, ValueError) as error:  # ValueError is what Python makes of EPERM
        return f"raising the limit of {soft:,} descriptors was refused: {getattr(error, 'strerror', None) or error}"
    return ""


def _open_now() -> int:
    """How many descriptors this process has: other jobs may be open in it."""
    with suppress(OSError):
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of ten thousand, no paths are wanted
    return 0


def _no_room(wanted: int, error: OSError, refused: str) -> str:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limits = refused or f"limits: {soft:,} descriptors, ulimit -Hn; local ports, net.ipv4.ip_local_port_range"
    return f"{wanted:,} connections can't be opened from here: {error.strerror} ({limits})"
