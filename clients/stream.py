"""Streams: long messages, several outstanding on each connection, so that bytes are always under way in both ways.

The figure is bytes a second, each of them verified. It counts bytes as they come back, not messages as they are
complete: with messages of some MiB a window would otherwise end on the fraction of one. The loop is the closed one,
which reads and writes up to 256 KiB at a time and lets long messages take turns.
"""

from __future__ import annotations

from collections.abc import Callable

from clients.closed import closed
from clients.table import Table


def stream(table: Table) -> Callable[[int], int]:
    """Return the function that keeps the connections of a table full until a time, and says why it came back."""
    table.in_parts = True
    return closed(table)
