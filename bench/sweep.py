"""Sweep files: what to measure, as TOML. Read, checked key by key, and completed with the defaults.

Which trials follow from a sweep is decided in plan.py.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from bench.errors import BadInputError

SWEEPS = Path(__file__).with_name("sweeps")
DEFAULT = "quick"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Transport = Literal["tcp", "unix", "pipe"]
Connections = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
MessageBytes = Annotated[int, msgspec.Meta(ge=1, le=64 * 1024 * 1024)]
Workload = Literal["closed"]


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The axes of a sweep, each a tuple, and how each point of them is measured. `name` comes from the file's name."""

    name: str
    description: str = ""
    strategies: tuple[Name, ...] | Literal["all"] = "all"
    transports: tuple[Transport, ...] = ("tcp",)
    connections: tuple[Connections, ...] = (1, 16, 128)
    message_bytes: tuple[MessageBytes, ...] = (64,)
    workload: tuple[Workload, ...] = ("closed",)
    repeats: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 5
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] = 1
    warmup_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.2
    duration_s: Annotated[float, msgspec.Meta(ge=0.01, le=86400)] = 0.8


AXES = ("strategies", "transports", "connections", "message_bytes", "workload")

ALLOWED = {
    "description": "one line of text",
    "strategies": '"all", or names as `iobench list` shows them, such as ["epoll_lt", "asyncio_streams"]',
    "transports": 'one or several of "tcp", "unix", "pipe"',
    "connections": "whole numbers from 1 to 1000000, such as [1, 16, 128]",
    "message_bytes": "whole numbers from 1 to 67108864 (64 MiB), such as [64, 4096]",
    "workload": '"closed"',
    "repeats": "a whole number from 1 to 10000",
    "seed": "a whole number from 0 to 2^62 - 1",
    "warmup_s": "seconds from 0 to 3600, such as 0.2",
    "duration_s": "seconds from 0.01 to 86400, such as 0.8",
}


def load_sweep(name_or_file: str) -> Sweep:
    """Read one of the sweeps that come with iobench, by name, or a file. Raises BadInputError."""
    path = find(name_or_file)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is not TOML: {error}.", f"correct {path}, then: iobench plan {path}") from None
    except OSError as error:
        raise BadInputError(f"{path} can't be read: {error.strerror}.", f"ls -l {path}") from None
    return from_values(path.stem, values, str(path))


def find(name_or_file: str) -> Path:
    """The file of a sweep. Raises BadInputError where there is none."""
    is_file = name_or_file.endswith(".toml") or "/" in name_or_file
    path = Path(name_or_file) if is_file else SWEEPS / f"{name_or_file}.toml"
    if path.is_file():
        return path
    if is_file:
        raise BadInputError(f"There is no sweep file {path}.", "iobench plan quick shows what a sweep does")
    known = names()
    hint = did_you_mean(name_or_file, known)
    nearest = (get_close_matches(name_or_file, known) or [DEFAULT])[0]
    raise BadInputError(
        f"There is no sweep {name_or_file!r}{hint}; there are: {', '.join(known)}, or a path of a TOML file.",
        f"iobench plan {nearest}",
    )


def names() -> list[str]:
    """The sweeps that come with iobench."""
    return sorted(path.stem for path in SWEEPS.glob("*.toml"))


def from_values(name: str, values: dict[str, Any], where: str) -> Sweep:
    """Make a sweep of keys and values; `where` is named in complaints. A single value stands for a list of one.

    Raises BadInputError for a key that there isn't, a value that is not allowed, or an axis that is empty.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(Sweep) if field.name != "name"}
    checked: dict[str, Any] = {}
    for key, given in values.items():
        if key not in types:
            raise BadInputError(
                f"{where}: there is no key {key!r}{did_you_mean(key, types)}; allowed are: {', '.join(types)}.",
                f"correct {where}, then: iobench plan {where}",
            )
        value = given
        if key in AXES and not isinstance(given, list) and not (key == "strategies" and given == "all"):
            value = [given]
        try:
            checked[key] = msgspec.convert(value, types[key])
            fits = value != [] and (key not in AXES or value == "all" or len({*map(str, value)}) == len(value))
        except (msgspec.ValidationError, OverflowError):
            fits = False
        if not fits:
            allowed = ALLOWED[key] + (", each once" if key in AXES else "")
            raise BadInputError(
                f"{where}: {key} = {given!r} is not allowed; allowed: {allowed}.",
                f"correct {where}, then: iobench plan {where}",
            )
    return Sweep(name=name, **checked)


def with_strategies(sweep: Sweep, listed: str) -> Sweep:
    """The same sweep for the strategies in a comma-separated list. Raises BadInputError for an empty one."""
    chosen = list(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    if not chosen:
        raise BadInputError("--strategies names none.", "iobench list shows the names")
    return msgspec.structs.replace(sweep, strategies=tuple(chosen))


def did_you_mean(name: str, known: Collection[str] | Sequence[str]) -> str:
    """A clause for an error message, empty where nothing is near."""
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
