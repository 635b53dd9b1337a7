"""Probes: each watches the server's processes from outside, over one window. One file a source of figures.

A probe says why it can't run here (`unavailable`), is started when the window opens and stopped when it closes. What
it could not read is in `missing`, with the reason: a figure is never silently left out. Nothing is derived from the
figures here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Probe(Protocol):
    """What every probe offers."""

    missing: dict[str, str]  # metric -> why it could not be read

    def unavailable(self) -> str | None:
        """The reason why this probe can't run on this machine, or None."""

    def start(self, pids: Sequence[int]) -> None:
        """The window opens: take the first reading of these processes and their children."""

    def stop(self) -> dict[str, float]:
        """The window closes: take the second reading and return {metric: value}."""
