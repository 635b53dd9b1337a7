"""Paragraphs for the user: results to standard output, complaints to standard error, no line wider than 80 columns."""

from __future__ import annotations

import re
import sys
import textwrap

WIDTH = 80
NO_BREAK = "\N{NO-BREAK SPACE}"  # a space at which no line ends
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but the end of a line and the tabulator


def say(text: str, indent: str = "") -> None:
    """Print one paragraph of results; `indent` stands before all lines but the first."""
    print("\n".join(lines(text, indent)))


def complain(text: str) -> None:
    """Print one paragraph of anything else."""
    print("\n".join(lines(text)), file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Text that does nothing to a terminal: control characters, in a name or a server's last words, are spelled out."""
    return CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def lines(text: str, indent: str = "") -> list[str]:
    """Give the lines of one paragraph; none where it is empty."""
    wrapped = textwrap.wrap(
        plain(text), WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(NO_BREAK, " ") for line in wrapped]
