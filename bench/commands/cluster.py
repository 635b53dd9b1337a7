"""`iobench sweep --scheduler`: a sweep on a Dask cluster. Without the extra `cluster` it says how to get it."""

from __future__ import annotations

import ipaddress
from importlib.util import find_spec
from pathlib import Path

from bench.commands.choice import Choice
from bench.errors import BadInputError


def on_cluster(choice: Choice, results: Path, scheduler: str | None, bind: str | None, resume: str | None) -> int:
    """Run or resume a sweep on a cluster; returns the exit code. Raises BadInputError."""
    if scheduler is None:
        raise BadInputError(
            "--bind is for servers on a cluster: on one machine, they listen on loopback only.",
            "iobench sweep --scheduler tcp://HOST:8786 --bind IP, or leave --bind out",
        )
    if bind is not None:
        try:
            ipaddress.ip_address(bind)
        except ValueError:
            raise BadInputError(
                f"--bind takes an IP address of the server's machine, not {bind!r}.",
                "--bind 10.0.0.5, or --bind 0.0.0.0 for all of its addresses",
            ) from None
    if find_spec("distributed") is None:
        raise BadInputError(
            "A cluster needs Dask distributed, which is not installed here.", "pip install 'iobench[cluster]'"
        )
    from bench.cluster import command  # noqa: PLC0415 - Dask takes a second to import

    if resume is not None:
        return command.resume(resume, choice, results, scheduler, bind or "")
    return command.sweep(choice, results, scheduler, bind or "")
