"""Opens the connections of a job. What is sent on them, and when, is decided elsewhere."""

from __future__ import annotations

import errno
import resource
import socket
import time
from collections import Counter
from typing import NamedTuple

from clients.job import Job, JobError
from clients.table import Ends
from servers.transport import Address, dial, parse

# What connect(2) says when it is this machine that can open no more, not the server that takes no more.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)


class Connected(NamedTuple):
    """Open channels, connections that failed by kind, one reason for it, and the time it all took."""

    channels: list[Ends]
    failed: Counter[str]
    reason: str
    connect_ns: int


def connect(job: Job) -> Connected:
    """Open the job's connections, in `timeout_s` all together. Raises JobError if this machine can't open that many."""
    _raise_descriptor_limit()
    address = parse(job.address)
    channels: list[Ends] = []
    failed = Counter[str]()
    reason = ""
    start = time.monotonic()
    try:
        for _ in range(job.connections):
            try:
                channels.append(_open(address, start + job.timeout_s))
            except (OSError, ValueError) as error:  # ValueError: a host name that no resolver takes
                if isinstance(error, OSError) and error.errno in _EXHAUSTED:
                    raise JobError(_no_room(job, error)) from None
                failed["timed_out" if isinstance(error, TimeoutError) else "refused"] += 1
                reason = getattr(error, "strerror", None) or str(error)
                if not channels and isinstance(error, (ConnectionRefusedError, FileNotFoundError, socket.gaierror)):
                    failed["refused"] = job.connections  # nobody is there: asking again tells nothing new
                    break
    except BaseException:
        for channel in channels:
            channel.close()
        raise
    return Connected(channels, failed, reason, int((time.monotonic() - start) * 1e9))


def _open(address: Address, deadline_s: float) -> Ends:
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "not all connections were opened in time")
        try:
            return Ends(*dial(address, left_s))
        except BlockingIOError:
            # The backlog of a UNIX socket is full. connect(2) waits for room there only on a blocking socket, which has
            # no deadline; nothing tells when there is some.
            time.sleep(0.001)


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _no_room(job: Job, error: OSError) -> str:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return (
        f"{job.connections:,} connections can't be opened from here: {error.strerror} "
        f"(limits: {limit:,} descriptors, ulimit -Hn; local ports, net.ipv4.ip_local_port_range)"
    )
