"""Sweep files: what to measure, as TOML. Read, checked key by key, and completed with the defaults.

Which trials follow from a sweep is decided in plan.py.
"""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from bench.errors import BadInputError, did_you_mean, shown
from bench.external import BadExternalError, External, read_externals, target
from bench.record import read_at_most
from bench.shares import read_share, spelled
from bench.workloads import KINDS, Closed, Depth, NotAllowedError, Workload, read_workload
from clients.objective import BadObjectiveError, read_objective

SWEEPS = Path(__file__).with_name("sweeps")
DEFAULT = "quick"
MOST_BYTES = 1 << 20  # of a file
TOO_DEEP = "has tables or lists within each other that are too many to be followed"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Transport = Literal["tcp", "unix", "pipe"]
Connections = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
MessageBytes = Annotated[int, msgspec.Meta(ge=1, le=64 * 1024 * 1024)]
Weight = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Python = Annotated[str, msgspec.Meta(max_length=4096, pattern=r"^[^\x00]*$")]


class Mix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Messages of several sizes, each drawn as often as its weight says."""

    sizes: Annotated[tuple[MessageBytes, ...], msgspec.Meta(min_length=1, max_length=1000)]
    weights: tuple[Weight, ...]

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.weights) or len(set(self.sizes)) < len(self.sizes):
            raise ValueError("a weight for each size, and each size once")

    @property
    def mean_bytes(self) -> int:
        """The mean size of a message, rounded."""
        total = sum(size * weight for size, weight in zip(self.sizes, self.weights, strict=True))
        return max(1, round(total / sum(self.weights)))


USUAL_LOAD: tuple[Workload, ...] = (Closed(),)


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The axes of a sweep, each a tuple, and how each point of them is measured. `name` comes from the file's name."""

    name: str
    description: str = ""
    strategies: tuple[Name, ...] | Literal["all"] = "all"
    external: tuple[External, ...] = ()  # servers that are not ours
    python: tuple[Python, ...] = ("",)  # interpreters to run the strategies on; "" is the one that runs iobench
    transports: tuple[Transport, ...] = ("tcp",)
    connections: tuple[Connections, ...] = (1, 16, 128)
    message_bytes: tuple[MessageBytes | Mix, ...] = (64,)
    workloads: tuple[Workload, ...] = USUAL_LOAD
    depth: tuple[Depth, ...] = (1,)  # of closed and stream, where they name none of their own
    threads: tuple[Threads, ...] = (1,)  # of the load generator
    ramp_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0
    repeats: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 5
    seed: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] = 1
    warmup_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.2
    duration_s: Annotated[float, msgspec.Meta(ge=0.01, le=86400)] = 0.8
    slo: str = ""  # an objective: the highest Poisson rate that holds it is searched for
    # So long at most, in place of `repeats` rounds: until each comparison is decided. 0 is no budget.
    budget_s: Annotated[float, msgspec.Meta(ge=0, le=30 * 86400)] = 0.0
    within: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.05  # two that differ by less are called equal


TYPES = {field.name: field.type for field in msgspec.structs.fields(Sweep) if field.name != "name"}
AXES = ("strategies", "python", "transports", "connections", "message_bytes", "workloads", "depth", "threads")
ALSO = {"workload": "workloads"}  # another spelling of a key

ALLOWED = {
    "description": "one line of text",
    "strategies": '"all", or names as `iobench list` shows them, such as ["epoll_lt", "asyncio_streams"]',
    "external": "tables, [[external]], each with a name and a command or an address",
    "python": 'commands or paths of Python interpreters, such as ["python3.13", "pypy3"]; "" is the one of iobench',
    "transports": 'one or several of "tcp", "unix", "pipe"',
    "connections": "whole numbers from 1 to 1000000, such as [1, 16, 128]",
    "message_bytes": "whole numbers from 1 to 67108864 (64 MiB), such as [64, 4096], or sizes with a weight for each, "
    "such as {sizes = [64, 4096], weights = [9, 1]}",
    "workloads": ", ".join(f'"{kind}"' for kind in KINDS) + ', or tables such as {kind = "open", rate_hz = [1000]}',
    "depth": "whole numbers from 1 to 1024, such as [1, 4]",
    "threads": "whole numbers from 1 to 1024, such as [1, 2]",
    "ramp_s": "seconds from 0 to 3600, such as 0.5",
    "repeats": "a whole number from 1 to 10000",
    "seed": "a whole number from 0 to 2^62 - 1",
    "warmup_s": "seconds from 0 to 3600, such as 0.2",
    "duration_s": "seconds from 0.01 to 86400, such as 0.8",
    "budget_s": "seconds from 0 (no budget: so many repeats) to 2592000, such as 150",
    "within": "a share above 0 and below 1, such as 0.05 for 5 %",
    "slo": 'a percentile of the response time and its limit, such as "p99<5ms"',
}


def load_sweep(name_or_file: str) -> Sweep:
    """Read one of the sweeps that come with iobench, by name, or a file. Raises BadInputError."""
    path = find(name_or_file)
    correct = f"correct {path}, then: iobench plan {path}"
    try:
        values = tomllib.loads(read_at_most(path, MOST_BYTES).decode())
    except ValueError as error:  # TOML's own, those of UTF-8, and of a number with thousands of digits
        raise BadInputError(f"{path} is not TOML: {error}.", correct) from None
    except OSError as error:
        raise BadInputError(f"{path} can't be read: {error.strerror}.", f"ls -l {path}") from None
    except RecursionError:
        raise BadInputError(f"{path} {TOO_DEEP}.", correct) from None
    try:
        return from_values(path.stem, values, str(path), path.parent)
    except RecursionError:
        raise BadInputError(f"{path} {TOO_DEEP}.", correct) from None


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


def from_values(name: str, values: dict[str, Any], where: str, folder: Path | None = None) -> Sweep:
    """Make a sweep of keys and values; `where` is named in complaints. A single value stands for a list of one.

    Commands of external servers are run from the `folder` of the file; what is recorded of a sweep says it already.

    Raises BadInputError for a key that there isn't, a value that is not allowed, or an axis that is empty.
    """
    checked: dict[str, Any] = {}
    for key, given in values.items():
        field = ALSO.get(key, key)
        if field not in TYPES:
            known = f"{did_you_mean(key, TYPES)}; allowed are: {', '.join(TYPES)}"
            raise _complaint(where, f"there is no key {shown(key)}{known}")
        if field in checked:
            both = " and ".join(other for other in values if ALSO.get(other, other) == field)
            raise _complaint(where, f"{both} are two names of one key")
        try:
            checked[field] = read_externals(given, folder) if field == "external" else _read(field, given)
        except (NotAllowedError, BadExternalError) as error:
            raise _complaint(where, f"{key}: {error}") from None
        except (ValueError, OverflowError):  # msgspec.ValidationError is a ValueError
            allowed = ALLOWED[field] + (", each once" if field in AXES else "")
            raise _complaint(where, f"{key} = {shown(given)} is not allowed; allowed: {allowed}") from None
    if checked.get("slo") and checked.get("workloads", USUAL_LOAD) != USUAL_LOAD:
        raise _complaint(where, "a sweep with slo searches with a Poisson load of its own: leave workloads out")
    if not (checked.get("external") or checked.get("strategies", "all")):
        raise _complaint(where, f"strategies = [] is not allowed; allowed: {ALLOWED['strategies']}, each once")
    return Sweep(name=name, **checked)


def _read(key: str, given: Any) -> Any:
    """Convert the value of a key. Raises NotAllowedError, ValueError or OverflowError."""
    if key == "slo":
        return read_objective(given).text if given != "" else ""
    if key not in AXES or (key == "strategies" and given == "all"):
        return msgspec.convert(given, TYPES[key])
    listed = given if isinstance(given, list) else [given]
    axis = tuple(map(read_workload, listed)) if key == "workloads" else msgspec.convert(listed, TYPES[key])
    if (not axis and key != "strategies") or len(set(map(str, axis))) < len(axis):
        raise ValueError
    return axis


def _complaint(where: str, what: str) -> BadInputError:
    return BadInputError(f"{where}: {what}.", f"correct {where}, then: iobench plan {where}")


def with_strategies(sweep: Sweep, listed: str) -> Sweep:
    """The same sweep for the strategies, and servers that are not ours, in a comma-separated list.

    Raises BadInputError for an empty one.
    """
    chosen = list(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    if not chosen:
        raise BadInputError("--strategies names none.", "iobench list shows the names")
    external = tuple(one for one in sweep.external if one.name in chosen)
    ours = tuple(name for name in chosen if name not in {one.name for one in external})
    return msgspec.structs.replace(sweep, strategies=ours, external=external)


def with_python(sweep: Sweep, listed: str) -> Sweep:
    """The same sweep on the interpreters in a comma-separated list. Raises BadInputError for an empty one."""
    chosen = tuple(dict.fromkeys(name.strip() for name in listed.split(",") if name.strip()))
    if not chosen:
        raise BadInputError("--python names none.", "iobench list --python python3 shows what one can run")
    return msgspec.structs.replace(sweep, python=chosen)


def with_target(sweep: Sweep, address: str) -> Sweep:
    """The sweep's load for a server that is already running, and for no other. Raises BadInputError for no address."""
    try:
        server = target(address)
    except BadExternalError as error:
        raise BadInputError(f"{error}.", "iobench sweep --target tcp:127.0.0.1:9000") from None
    transports = tuple(msgspec.convert([server.transport], TYPES["transports"]))
    return msgspec.structs.replace(sweep, strategies=(), external=(server,), python=("",), transports=transports)


def with_budget(sweep: Sweep, budget: str) -> Sweep:
    """The same sweep with so much time, such as "3m", "90s", "1h" or "90"; "0" is none, and so many repeats.

    Raises BadInputError where that is no time.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)?", budget.strip())
    seconds = float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2] or "s"] if match else -1.0
    try:
        budget_s = msgspec.convert(seconds, TYPES["budget_s"])
    except msgspec.ValidationError:
        raise BadInputError(f"--budget {budget!r} is no time.", "iobench sweep --budget 3m") from None
    return msgspec.structs.replace(sweep, budget_s=budget_s)


def with_within(sweep: Sweep, within: str) -> Sweep:
    """The same sweep with another share within which two are called equal, such as "5%" or "0.05".

    Raises BadInputError where that is none.
    """
    try:
        share = msgspec.convert(read_share(within), TYPES["within"])
    except msgspec.ValidationError:
        why = f"--within {within!r} is not a share above 0 and below 1, such as {spelled(within)}."
        raise BadInputError(why, "iobench sweep --within 5%") from None
    return msgspec.structs.replace(sweep, within=share)


def with_slo(sweep: Sweep, slo: str) -> Sweep:
    """The sweep's strategies and axes, to be searched once each for the highest rate that holds an objective.

    Raises BadInputError where the objective can't be read.
    """
    try:
        objective = read_objective(slo)
    except BadObjectiveError as error:
        raise BadInputError(f"--slo {slo!r}: {error}.", "iobench sweep --slo 'p99<5ms'") from None
    once = sweep.repeats if sweep.slo else 1
    return msgspec.structs.replace(
        sweep, slo=objective.text, workloads=USUAL_LOAD, depth=(1,), repeats=once, budget_s=0.0
    )
