"""What was counted, on disk: why.json in the folder of results, and in the manifest of a run.

A strategy that is counted again takes the place of its earlier counts, as long as the machine is the same. Where the
file can't be read nothing takes its place: it holds what somebody has counted.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from bench import one_step
from bench.errors import BadInputError
from bench.record import read_kept
from bench.why.counts import WHY_FILE, Counts, Why

SAME_HOST = ("kernel", "machine", "cpu_model", "interpreter")


def prepare(results: Path) -> None:
    """Make the folder, and find out whether `write` would do, before anything is counted. Raises BadInputError."""
    read(results)
    try:
        one_step.try_to_write(results / WHY_FILE, make_folder=True)
    except OSError as error:
        raise _unwritable(results, error) from None


def write(results: Path, why: Why) -> Path:
    """Write why.json in one step, with what was counted of other strategies before. Raises BadInputError."""
    path = results / WHY_FILE
    earlier = read(results)
    if earlier and all(earlier.host.get(fact) == why.host.get(fact) for fact in SAME_HOST):
        new = {_key(counts) for counts in why.counts}
        kept = [counts for counts in earlier.counts if _key(counts) not in new]
        why = msgspec.structs.replace(why, counts=sorted([*kept, *why.counts], key=_key))
    try:
        results.mkdir(exist_ok=True)
        one_step.write(path, msgspec.json.format(msgspec.json.encode(why), indent=2) + b"\n")
    except OSError as error:
        raise _unwritable(results, error) from None
    return path


def _unwritable(results: Path, error: OSError) -> BadInputError:
    return BadInputError(
        f"{results / WHY_FILE} can't be written: {error.strerror}.",
        one_step.remedy(error, results, "iobench why STRATEGY --results DIR, with one that can be"),
    )


def read(results: Path) -> Why | None:
    """What was counted last with this folder of results; None where nothing was. Raises BadInputError."""
    return read_kept(results / WHY_FILE, Why)


def of_strategies(why: Why | None, names: Collection[str], host: dict[str, Any]) -> dict[str, Any] | None:
    """The counts of some strategies, for a manifest; None where there are none from this machine."""
    if why is None or any(why.host.get(fact) != host.get(fact) for fact in SAME_HOST):
        return None
    counts = [one for one in why.counts if one.strategy in names]
    kept: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(why, counts=counts))
    return kept if counts else None


def understood(found: dict[str, Any] | None) -> list[Counts]:
    """The counts in a manifest; none where there are none, or where they can't be read (bench.caveats.unread)."""
    try:
        return msgspec.convert((found or {}).get("counts", []), list[Counts])
    except msgspec.ValidationError:
        return []


def _key(counts: Counts) -> tuple[str, str, str]:
    return counts.strategy, counts.transport, counts.python
