"""The command `iobench anatomy`: the echo of each strategy asked for, on the terminal, as a figure and as a file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench import host, one_step
from bench.anatomy import show
from bench.anatomy.steps import Anatomies, Anatomy
from bench.anatomy.take import Tracer, find_tracer, take
from bench.catalogue import list_strategies
from bench.errors import BadInputError
from bench.events import Interrupted, signals_interrupt_waits
from bench.plan import choose
from bench.processes import Guard
from bench.record import StrategyInfo, read_kept
from bench.say import complain
from bench.sweep import Sweep
from bench.trial import utc_now
from servers.transport import TRANSPORTS

NEWEST = "anatomy.json"


def anatomy(names: Sequence[str], transport: str, svg: Path | None = None, results: Path | None = None) -> int:
    """Take and print one echo of each; returns the exit code, 1 where one failed. Raises BadInputError."""
    if transport not in TRANSPORTS:
        raise BadInputError(f"There is no transport {transport}.", f"--transport takes {', '.join(TRANSPORTS)}")
    known, complaints = list_strategies()
    for complaint in complaints:
        complain(f"warning: {complaint}")
    everything = list(names) == ["all"]
    wanted: Literal["all"] | tuple[str, ...] = "all" if everything else tuple(dict.fromkeys(names))
    chosen = choose(Sweep(name="anatomy", strategies=wanted), known)
    if not everything:
        for info in chosen:
            if reason := why_not(info, transport):
                raise BadInputError(f"{info.name} has no anatomy here: {reason}.", "iobench list shows what can run")
    tracer = find_tracer()
    if svg is not None:
        _try_to_write(svg)
    if results is not None:
        read_kept(results / NEWEST, dict[str, Any])
        _try_to_write(results / NEWEST, make_folder=True)
    created, began = utc_now(), time.monotonic()
    try:
        found = _take_all(chosen, transport, tracer, told_at_once=svg is None and results is None)
    except Interrupted as interruption:
        complain("Interrupted; nothing is written.")
        return 128 + interruption.signum
    written = []
    if results is not None:
        facts: dict[str, Any] = {
            "host": host.describe(host.choose_cpus()),
            "versions": host.versions(),
            "command": host.command(),
        }
        took_s = round(time.monotonic() - began, 1)
        what = Anatomies(created=created, took_s=took_s, tracer=tracer.version, anatomies=found, **facts)
        _write(results / NEWEST, msgspec.json.format(msgspec.json.encode(what), indent=2) + b"\n")
        written.append(results / NEWEST)
    if svg is not None:
        _write(svg, drawn(found))
        written.append(svg)
    if written:  # what was found is written before it is told
        _tell(found)
    show.legend(tracer.version)
    for path in written:
        print(path)
    return 1 if any(one.status == "failed" for one in found) else 0


def _take_all(chosen: Sequence[StrategyInfo], transport: str, tracer: Tracer, *, told_at_once: bool) -> list[Anatomy]:
    """One after the other; each is printed, or its name, as soon as it is there. Raises Interrupted."""
    layout, guard = host.choose_cpus(), Guard()
    found = []
    try:
        with signals_interrupt_waits():
            for number, info in enumerate(chosen, 1):
                if not told_at_once:
                    complain(f"[{number}/{len(chosen)}] {info.name}")
                if reason := why_not(info, transport):
                    one = Anatomy(
                        strategy=info.name, transport=transport, message_bytes=0, status="unavailable", reason=reason
                    )
                else:
                    one = take(info, transport, tracer, layout, guard)
                found.append(one)
                if told_at_once:
                    _tell([one])
    finally:
        guard.close()
    return found


def _tell(found: Sequence[Anatomy]) -> None:
    for one in found:
        show.anatomy(one)
        print(flush=True)


def why_not(info: StrategyInfo, transport: str) -> str:
    """Say why a strategy can't be taken apart here; nothing where it can."""
    if not info.available:
        return info.reason
    return "" if transport in info.transports else f"it does not serve {transport}"


def drawn(found: Sequence[Anatomy]) -> bytes:
    """Draw the figure of these anatomies, as SVG."""
    from functools import partial  # noqa: PLC0415

    from bench.figures import anatomy as figure  # noqa: PLC0415 - matplotlib is slow to import
    from bench.figures.style import picture  # noqa: PLC0415

    return picture(partial(figure.draw_all, found), "anatomy").svg.encode()


def _try_to_write(path: Path, *, make_folder: bool = False) -> None:
    """Find out whether it could be written, before anything is run. Raises BadInputError."""
    try:
        one_step.try_to_write(path, make_folder=make_folder)
    except OSError as error:
        raise _unwritable(path, error) from None


def _write(path: Path, content: bytes) -> None:
    """Write it in one step. Raises BadInputError."""
    try:
        one_step.write(path, content)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> BadInputError:
    then = "iobench anatomy STRATEGY"
    return BadInputError(f"{path} can't be written: {error.strerror}.", one_step.remedy(error, path.parent, then))
