"""What a worker says of itself: its iobench, its machine, and which loopback it has. Nothing is started here."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bench.host import choose_cpus, describe, own_version
from bench.processes import HOME

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
NETWORK = Path("/proc/self/ns/net")
CODE = ("servers", "clients", "bench")


class About(NamedTuple):
    """A worker. `place` is equal for workers that have their loopback in common (network_namespaces(7))."""

    version: str
    code: str  # a fingerprint of the source files
    place: str
    facts: dict[str, Any]  # as in a manifest's `host`


def about() -> About:
    """Say it of this process's machine."""
    return About(own_version(), fingerprint(), place(), describe(choose_cpus()))


@cache
def fingerprint(home: Path = HOME) -> str:
    """Twelve hex digits, equal for equal source files: two checkouts may have one version and differ."""
    found = hashlib.sha256()
    for path in sorted(path for part in CODE for path in (home / part).rglob("*.py")):
        found.update(f"{path.relative_to(home)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()[:12]


def place() -> str:
    """The running kernel and the network namespace of this process; this process alone where that can't be read."""
    try:
        boot = BOOT_ID.read_text().strip()
        network = NETWORK.stat().st_ino
    except OSError:
        return f"{sys.platform}-{os.getpid()}"
    return hashlib.sha256(f"{boot} {network}".encode()).hexdigest()[:12]
