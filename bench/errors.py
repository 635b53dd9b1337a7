"""The one exception that a user is meant to read."""

from __future__ import annotations


class BadInputError(Exception):
    """What was wrong and where, in one paragraph; `next_step` is the command or the change to try.

    The command line prints it without a traceback and exits with 2.
    """

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what)
        self.next_step = next_step
