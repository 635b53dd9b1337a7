"""Text for GitHub's Markdown that neither Markdown nor HTML takes for its own."""

from __future__ import annotations

import re

_CODE = re.compile(r"(`[^`]+`)")


def escaped(text: str) -> str:
    """Text as it is, on one line."""
    text = " ".join(text.split())
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, entity)
    for character in "\\`*_[]|":
        text = text.replace(character, f"\\{character}")
    return text


def sentence(text: str) -> str:
    """Text with names between backticks, which become code; all else as it is."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part if at % 2 else _kept(part) for at, part in enumerate(parts))


def cell(text: str) -> str:
    """A sentence as a cell of a table, where a bar ends the cell, also within code."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(part.replace("|", "\\|") if at % 2 else _kept(part) for at, part in enumerate(parts))


def _kept(part: str) -> str:
    """Escaped, with the spaces at its ends."""
    inner = part.strip()
    start = part[: len(part) - len(part.lstrip())]
    end = part[len(part.rstrip()) :] if inner else ""
    return f"{start}{escaped(inner)}{end}"
