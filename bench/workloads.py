"""The workloads of a sweep: which kinds there are, what each of them takes, and the trials' fields that follow.

In a sweep file a workload is a name, "closed", or a table, {kind = "open", rate_hz = [1000, 5000]}; a list in such a
table is an axis. The values are checked here; what puts the load on a server is in clients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Annotated, Any, Literal

import msgspec

from bench.errors import did_you_mean, shown
from bench.record import Trial

Depth = Annotated[int, msgspec.Meta(ge=1, le=1024)]
RateHz = Annotated[float, msgspec.Meta(gt=0, le=1e8)]
Fraction = Annotated[float, msgspec.Meta(gt=0, le=10)]  # 90 would be meant as a percentage
Arrivals = Literal["constant", "poisson"]
Cap = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
Silent = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
TrickleBytes = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
TrickleHz = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class Closed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="closed"):
    """Each connection sends its next message when an earlier one has come back. No depth: that of the sweep."""

    depth: tuple[Depth, ...] = ()


class Open(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="open"):
    """Messages are sent at planned times: so many a second, or as fractions of the closed loop's throughput."""

    rate_hz: tuple[RateHz, ...] = ()
    load: tuple[Fraction, ...] = ()
    arrivals: tuple[Arrivals, ...] = ("constant",)
    cap: tuple[Cap, ...] = (0,)


class Burst(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="burst"):
    """One message on every connection, and the next ones when all echoes have come back."""


class Churn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="churn"):
    """Connect, one echo, close, and again."""


class Idle(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="idle"):
    """Silent connections beside active ones, which run a closed loop or, with a rate, an open one.

    Either so many `silent` ones beside each number of connections of the sweep; or so many connections in `total`, of
    which so many are `active`, whatever the sweep's numbers of connections.
    """

    silent: tuple[Silent, ...] = ()
    active: tuple[Silent, ...] = ()
    total: tuple[Silent, ...] = ()
    rate_hz: tuple[RateHz, ...] = ()
    arrivals: tuple[Arrivals, ...] = ("constant",)


class Stream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="stream"):
    """Bulk: several messages outstanding on each connection; bytes a second are what counts."""

    depth: tuple[Depth, ...] = ()


class Slow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="slow"):
    """Peers that write and read only so many bytes so many times a second."""

    trickle_bytes: tuple[TrickleBytes, ...] = (1,)
    trickle_hz: tuple[TrickleHz, ...] = (100.0,)


Workload = Closed | Open | Burst | Churn | Idle | Stream | Slow
KINDS: dict[str, type[msgspec.Struct]] = {
    "closed": Closed,
    "open": Open,
    "burst": Burst,
    "churn": Churn,
    "idle": Idle,
    "stream": Stream,
    "slow": Slow,
}

ALLOWED = {
    "depth": "whole numbers from 1 to 1024, such as [1, 4]",
    "rate_hz": "messages a second above 0 and up to 100000000, such as [1000, 5000]",
    "load": "fractions of the closed loop's throughput above 0 and up to 10, such as [0.5, 0.9] for 50 % and 90 %",
    "arrivals": 'one or both of "constant", "poisson"',
    "cap": "whole numbers from 0 (no cap) to 1000000000",
    "silent": "whole numbers from 1 to 1000000, such as [100, 1000]",
    "active": "whole numbers from 1 to 1000000, such as [1, 100]",
    "total": "whole numbers from 1 to 1000000, such as [100, 1000, 10000]",
    "trickle_bytes": "whole numbers from 1 to 1048576",
    "trickle_hz": "times a second above 0 and up to 1000000, such as 100",
}


class NotAllowedError(Exception):
    """A workload is not as it may be; the message says what is and what is allowed."""


def read_workload(given: object) -> Workload:
    """Make a workload of what a sweep file holds: a name, or a table. Raises NotAllowedError."""
    values: Mapping[str, Any] = given if isinstance(given, dict) else {"kind": given}
    kinds = ", ".join(f'"{name}"' for name in KINDS)
    if "kind" not in values:
        raise NotAllowedError(f"{shown(given)} has no kind; there are: {kinds}")
    kind = values["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        hint = did_you_mean(kind, KINDS) if isinstance(kind, str) else ""
        raise NotAllowedError(
            f'{shown(kind)} is not allowed{hint}; allowed: {kinds}, or a table such as {{kind = "burst"}}'
        )
    keys = {field.name: field.type for field in msgspec.structs.fields(KINDS[kind])}
    checked = {key: _axis(kind, key, value, keys) for key, value in values.items() if key != "kind"}
    if kind == "open" and not ("rate_hz" in checked or "load" in checked):
        raise NotAllowedError("open needs a rate_hz, such as [1000, 5000], or a load, such as [0.1, 0.5, 0.9]")
    if kind == "idle":
        _check_idle(checked)
    return msgspec.convert({"kind": kind, **checked}, Workload)  # type: ignore[no-any-return]


def _check_idle(given: Mapping[str, Any]) -> None:
    if "silent" not in given and not ("active" in given and "total" in given):
        raise NotAllowedError(
            "idle needs silent, the number of connections that never send, such as [100, 1000], or active and total, "
            "such as active = [1, 100], total = [100, 1000]"
        )
    if "silent" in given and ("active" in given or "total" in given):
        raise NotAllowedError("idle takes silent, or active and total, not both")
    if given.get("total") and max(given["active"]) > min(given["total"]):
        raise NotAllowedError("idle can't have more connections active than in total")
    if "arrivals" in given and "rate_hz" not in given:
        raise NotAllowedError("idle without a rate_hz is a closed loop and has no arrivals")


def _axis(kind: str, key: str, value: object, keys: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of one key, a single one standing for a list of one."""
    if key not in keys:
        takes = f"it takes {', '.join(keys)}" if keys else "it takes nothing but its kind"
        raise NotAllowedError(f"there is no key {shown(key)} in {kind}{did_you_mean(key, keys)}; {takes}")
    listed = value if isinstance(value, list) else [value]
    try:
        axis: tuple[Any, ...] = msgspec.convert(listed, keys[key])
    except (msgspec.ValidationError, OverflowError):
        axis = ()
    if not axis or len(set(axis)) < len(axis):
        raise NotAllowedError(f"{key} = {shown(value)} of {kind} is not allowed; allowed: {ALLOWED[key]}, each once")
    return axis


def points(workload: Workload, depth: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The fields of Trial that differ from point to point of a workload, one dict for each; `depth` is the sweep's.

    A workload that has its own numbers of connections has them among these.
    """
    kind = next(name for name, struct in KINDS.items() if isinstance(workload, struct))
    axes = msgspec.structs.asdict(workload)
    if "depth" in axes:
        axes["depth"] = axes["depth"] or tuple(depth)
    crowds = list(product(axes.pop("active", ()), axes.pop("total", ())))
    if crowds:
        axes["silent"] = (0,)  # in its place, below
    rates = [{"planned_hz": value} for value in axes.pop("rate_hz", ())]
    rates += [{"load_fraction": value} for value in axes.pop("load", ())]
    for rate in rates or [{}]:
        for values in product(*axes.values()):
            fields = {"workload": kind, **rate, **dict(zip(axes, values, strict=True))}
            for active, total in crowds:
                yield fields | {"connections": active, "silent": total - active}
            if not crowds:
                yield fields


def count_points(workload: Workload, depth: Sequence[int]) -> int:
    """How many `points` gives, without giving them."""
    axes = msgspec.structs.asdict(workload)
    if "depth" in axes:
        axes["depth"] = axes["depth"] or depth
    crowds = len(axes.pop("active", ())) * len(axes.pop("total", ()))
    if crowds:
        del axes["silent"]
    rates = len(axes.pop("rate_hz", ())) + len(axes.pop("load", ()))
    return max(1, rates) * max(1, crowds) * math.prod(map(len, axes.values()))


def describe(trial: Trial) -> str:
    """A trial's workload in a few words, such as "open 5,000/s poisson"; only what is unusual is said."""
    words = [trial.workload]
    if trial.planned_hz:
        words.append(f"{trial.planned_hz:,.0f}/s" if trial.planned_hz >= 100 else f"{trial.planned_hz:g}/s")
    if trial.load_fraction:
        words.append(f"{trial.load_fraction:.4g} of closed")
    unusual = {
        "arrivals": trial.arrivals,
        "depth": f"depth {trial.depth}",
        "cap": f"cap {trial.cap}",
        "silent": f"beside {trial.silent:,} silent",
        "trickle_bytes": f"{trial.trickle_bytes} B a time",
        "trickle_hz": f"{trial.trickle_hz:g} times/s",
        "threads": f"{trial.threads} load threads",
        "ramp_s": f"ramp {trial.ramp_s:g} s",
        "slo": trial.slo,
    }
    usual = {field.name: field.default for field in msgspec.structs.fields(Trial)}
    return " ".join([*words, *(text for name, text in unusual.items() if getattr(trial, name) != usual[name])])
