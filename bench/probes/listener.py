"""Whose the socket is that listens at a server's address: one of the processes that were started for it, or not.

Sockets are found in /proc/net/tcp, tcp6 and unix (proc_net_tcp(5), proc_net_unix(5)), who holds one by the links in
/proc/PID/fd. Nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from servers.transport import Address

PROC = Path("/proc")
TCP_LISTENS = "0A"  # TCP_LISTEN of include/net/tcp_states.h
UNIX_LISTENS = 1 << 16  # __SO_ACCEPTCON of include/uapi/linux/net.h, among a socket's flags


def why_elsewhere(address: Address, family: Sequence[int]) -> str:
    """Why none of these processes is the server at an address; "" where one is, or that can't be found out."""
    try:
        sockets = listening(address)
        if any(sockets & _held_by(pid) for pid in family):
            return ""
    except OSError:  # of a process of another user, or there is no /proc
        return ""
    return f"the server at {address} is {_holder(address)}, and none of the processes that were started"


def listening(address: Address) -> set[str]:
    """The inodes of all sockets that listen at a port or path, in this network namespace. Raises OSError."""
    if address.transport != "tcp":
        rows = [line.split(None, 7) for line in (PROC / "net/unix").read_text(errors="surrogateescape").splitlines()]
        return {row[6] for row in rows[1:] if row[7:] == [address.place] and int(row[3], 16) & UNIX_LISTENS}
    found = set()
    for name in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # a kernel without IPv6
            rows = [line.split() for line in (PROC / "net" / name).read_text().splitlines()]
            of_port = f":{address.port:04X}"
            found |= {row[9] for row in rows[1:] if row[1].endswith(of_port) and row[3] == TCP_LISTENS}
    return found


def _held_by(pid: int) -> set[str]:
    """The inodes of a process's sockets, none if it has gone. Raises OSError."""
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for fd in (PROC / str(pid) / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed just now
                kind, _, inode = str(fd.readlink()).partition(":")
                if kind == "socket":
                    found.add(inode.strip("[]"))
    return found


def _holder(address: Address) -> str:
    """Who listens there, as far as that can be seen."""
    tcp = address.transport == "tcp"
    with suppress(psutil.Error, OSError):
        for one in psutil.net_connections("tcp" if tcp else "unix"):
            place = getattr(one.laddr, "port", one.laddr)  # the address of a UNIX socket is its path
            listens = not tcp or one.status == psutil.CONN_LISTEN
            if one.pid and listens and place == (address.port if tcp else address.place):
                return f"process {one.pid} ({psutil.Process(one.pid).name()})"
    return "another process, which can't be seen from here"
