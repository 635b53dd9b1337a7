"""Paragraphs for the user: results to standard output, complaints to standard error, no line wider than 80 columns."""

from __future__ import annotations

import sys
import textwrap

WIDTH = 80
NO_BREAK = "\N{NO-BREAK SPACE}"  # a space at which no line ends


def say(text: str, indent: str = "") -> None:
    """Print one paragraph of results; `indent` stands before all lines but the first."""
    print(_wrapped(text, indent))


def complain(text: str) -> None:
    """Print one paragraph of anything else."""
    print(_wrapped(text), file=sys.stderr, flush=True)


def _wrapped(text: str, indent: str = "") -> str:
    lines = textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.replace(NO_BREAK, " ")
