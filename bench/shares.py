"""Shares as a user types them: 5% or 0.05. From 1 on a number must have its %: 5 may be meant as 5 % or as fivefold."""

from __future__ import annotations

import re

SHARE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(%?)", re.ASCII)


def read_share(text: str) -> float | None:
    """Read "5%" or "0.05"; None where it is neither. 100 % and more can be written as a percentage alone."""
    match = SHARE.fullmatch(text.strip())
    if match is None:
        return None
    number = float(match[1])
    if match[2]:
        return number / 100
    return number if number < 1 else None


def spelled(text: str) -> str:
    """Both spellings, for an error message: of the number that was typed without its %, else of 5 %."""
    match = SHARE.fullmatch(text.strip())
    percent = float(match[1]) if match and not match[2] and 1 <= float(match[1]) < 100 else 5.0
    return f"{percent:g}% or {percent / 100:g}"
