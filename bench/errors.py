"""The one exception that a user is meant to read, and what it may suggest."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class BadInputError(Exception):
    """What was wrong and where, in one paragraph; `next_step` is the command or the change to try.

    The command line prints it without a traceback and exits with 2.
    """

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what)
        self.next_step = next_step


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause for an error message, empty where nothing is near."""
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def shown(value: object, longest: int = 200) -> str:
    """A value as it was given, for an error message: cut where it is too long to be read."""
    try:
        text = repr(value)
    except ValueError:  # of a whole number: sys.set_int_max_str_digits
        return "a number of thousands of digits"
    return text if len(text) <= longest else f"{text[:longest]}…"
