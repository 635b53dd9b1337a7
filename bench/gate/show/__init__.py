"""What a gate shows: terminal, Markdown, JUnit, annotations of a workflow, and a page with its figures.

Everything is made from a Gate alone; gate.json is written by who measured it. Nothing is measured or judged here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from bench import one_step
from bench.errors import BadInputError
from bench.gate.model import GATE_FILE, SCHEMA, Gate
from bench.gate.show import junit, markdown, page, terminal, workflow
from bench.record import UNREADABLE

GITHUB = "GITHUB_ACTIONS"
STEP_SUMMARY = "GITHUB_STEP_SUMMARY"


def read(folder: Path) -> Gate:
    """Read a gate's folder. Raises BadInputError where it is none, or of another schema."""
    path = folder / GATE_FILE
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Gate)
    except OSError as error:
        raise BadInputError(f"{path} can't be read: {error.strerror}.", "iobench gate --base main") from None
    except UNREADABLE as error:
        raise BadInputError(f"{path} is not what a gate writes: {error}.", "iobench gate --base main") from None
    if found.schema != SCHEMA:
        raise BadInputError(
            f"{path} has schema {found.schema}, and this iobench reads {SCHEMA}.", "iobench gate --base main"
        )
    return found


def write(folder: Path, gate: Gate) -> list[Path]:
    """Write the page, its figures, the Markdown and the JUnit file; the page comes first. Raises BadInputError."""
    html, figures = page.render(gate)
    files = {
        "report.html": html.encode(),
        "gate.md": markdown.render(gate).encode(),
        "junit.xml": junit.render(gate),
        **figures,
    }
    for name, content in files.items():
        try:
            one_step.write(folder / name, content)
        except OSError as error:
            raise BadInputError(
                f"{folder / name} can't be written: {error.strerror}.", f"iobench report {folder} makes it again"
            ) from None
    return [folder / name for name in files]


def tell(gate: Gate) -> None:
    """Print the result; within a GitHub workflow also its annotations, and the Markdown into the step's summary."""
    terminal.show(gate)
    if os.environ.get(GITHUB) == "true":
        print("\n".join(workflow.render(gate)), flush=True)
    summary = os.environ.get(STEP_SUMMARY)
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown.render(gate))
        except OSError as error:
            print(f"warning: the step summary can't be written: {error.strerror}", file=sys.stderr)
