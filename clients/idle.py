"""Idle connections: some are under load, and beside them stand many on which nobody says a word.

What a server pays for connections merely being there is the difference to the same load without them. The active ones
are a closed loop, or an open one where there is a rate; the silent ones are checked at every boundary (clients.silent).
"""

from __future__ import annotations

from collections.abc import Callable

from clients.closed import closed
from clients.open_loop import open_loop
from clients.table import Table


def idle(table: Table) -> Callable[[int], int]:
    """Return the function that runs the load on the active connections of a table."""
    return open_loop(table) if table.planned else closed(table)
