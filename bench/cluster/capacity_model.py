"""How far a machine carries: what so many connections and messages need, and what is used up first. Pure arithmetic.

The constants are measured (capacity_measure.py) and stored in capacity.json beside this file. Taken to be linear in the
connections: descriptors, memory of server, load generator and kernel. The CPU time of a message grows by a fixed amount
for ten times as many connections.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

STORED = Path(__file__).with_name("capacity.json")
WITHIN = 0.15  # of what is measured, the model is to be
SERVER_BUSY, LOAD_BUSY = 0.95, 0.80  # of a CPU, as in bench.validity: beyond, the server or the client is the limit
# A message each way: Ethernet with preamble and gap, IPv4, TCP with time stamps. Bare acknowledgements ride along.
OVERHEAD_BYTES = 38 + 20 + 32


class Line(msgspec.Struct, frozen=True):
    """What grows evenly: `base` and so much more for each connection."""

    base: float
    each: float

    def at(self, connections: float) -> float:
        """The amount at so many connections."""
        return self.base + self.each * connections


class PerDecade(msgspec.Struct, frozen=True):
    """What grows by `each` for ten times as many connections, from `base` at 100."""

    base: float
    each: float

    def at(self, connections: float) -> float:
        """The amount at so many connections."""
        return self.base + self.each * math.log10(connections / 100)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a server and a load generator at so many connections, on one machine."""

    connections: int
    server_bytes: float  # resident set
    load_bytes: float
    kernel_bytes: float  # of both ends of all connections
    server_descriptors: float
    load_descriptors: float
    server_us: float  # CPU time of a message
    load_us: float


class Constants(msgspec.Struct, frozen=True, kw_only=True):
    """What the model is made of. Of the kernel's memory, half is each end's."""

    server_bytes: Line
    load_bytes: Line
    kernel_bytes: Line
    server_descriptors: Line
    load_descriptors: Line
    server_us: PerDecade
    load_us: PerDecade


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """capacity.json: where and of what it was measured, the constants, and measurements of later to check them by."""

    machine: str
    strategy: str
    message_bytes: int
    date: str
    constants: Constants
    checked: list[Taken]


class Host(NamedTuple):
    """A machine: what it has of each resource. `ports` are those to one address and port of a server."""

    cores: int
    memory_bytes: float
    descriptors: int  # of one process
    ports: int
    network_bits_s: float


class Demand(NamedTuple):
    """What is asked for."""

    connections: int
    messages_s: float
    message_bytes: int = 64


class Needs(NamedTuple):
    """What a demand takes. `server_first` and `load_first` name the resource that is used up first, on either side."""

    server_cpus: float
    server_bytes: float
    server_descriptors: float
    network_bits_s: float
    server_first: str
    server_share: float  # of that resource of one server host, with a process on one CPU
    load_hosts: int
    load_first: str
    load_bytes: float  # of each load host


def least_disturbed(taken: Sequence[Taken]) -> Taken:
    """What several measurements of one size tell together: of CPU times the least, of all else the median.

    Whatever else a machine does makes a message dearer, never cheaper; memory of the kernel's comes and goes both ways.
    """
    amounts = {name: [float(getattr(one, name)) for one in taken] for name in Constants.__struct_fields__}
    told = {name: min(found) if name.endswith("_us") else statistics.median(found) for name, found in amounts.items()}
    return Taken(connections=taken[0].connections, **told)


def fit(taken: Sequence[Taken]) -> Constants:
    """The constants that describe measurements best, by least squares of the relative errors."""

    def of(name: str, kind: type[Line] | type[PerDecade], x: Callable[[float], float]) -> Line | PerDecade:
        points = [(x(one.connections), float(getattr(one, name))) for one in taken]
        # y = base + each * x, weighted by 1/y: two normal equations.
        weights = [1 / max(y, 1e-9) ** 2 for _, y in points]
        s0 = sum(weights)
        s1 = sum(w * a for w, (a, _) in zip(weights, points, strict=True))
        s2 = sum(w * a * a for w, (a, _) in zip(weights, points, strict=True))
        t0 = sum(w * b for w, (_, b) in zip(weights, points, strict=True))
        t1 = sum(w * a * b for w, (a, b) in zip(weights, points, strict=True))
        determinant = s0 * s2 - s1 * s1
        return kind((s2 * t0 - s1 * t1) / determinant, (s0 * t1 - s1 * t0) / determinant)

    lines = {name: of(name, Line, float) for name in Constants.__struct_fields__ if not name.endswith("_us")}
    decades = {
        name: of(name, PerDecade, lambda n: math.log10(n / 100))
        for name in Constants.__struct_fields__
        if name.endswith("_us")
    }
    return Constants(**lines, **decades)  # type: ignore[arg-type]


class Difference(NamedTuple):
    """A figure that was measured, beside what the model says."""

    connections: int
    what: str
    measured: float
    model: float

    @property
    def share(self) -> float:
        """By which share of what was measured the model is off."""
        return self.model / self.measured - 1


def compare(constants: Constants, taken: Sequence[Taken]) -> list[Difference]:
    """Compare the model with measurements: memory of all parts together, descriptors, CPU time."""
    found = []
    for one in taken:
        n = one.connections
        memory = one.server_bytes + one.load_bytes + one.kernel_bytes
        model = constants.server_bytes.at(n) + constants.load_bytes.at(n) + constants.kernel_bytes.at(n)
        found.append(Difference(n, "memory", memory, model))
        for name in ("server_descriptors", "load_descriptors", "server_us", "load_us"):
            found.append(Difference(n, name, getattr(one, name), getattr(constants, name).at(n)))
    return found


def needs(constants: Constants, demand: Demand, host: Host) -> Needs:
    """What a demand takes of a server on one host, and how many load hosts like it."""
    n, rate = demand.connections, demand.messages_s
    bits_s = rate * (demand.message_bytes + OVERHEAD_BYTES) * 8
    server_cpus = rate * constants.server_us.at(n) / 1e6
    server_bytes = constants.server_bytes.at(n) + constants.kernel_bytes.at(n) / 2
    used = {
        "CPU": server_cpus / SERVER_BUSY,
        "memory": server_bytes / host.memory_bytes,
        "descriptors": constants.server_descriptors.at(n) / host.descriptors,
        "network": bits_s / host.network_bits_s,
    }
    server_first = max(used, key=lambda name: used[name])
    each_bytes = constants.load_bytes.each + constants.kernel_bytes.each / 2
    threads = max(1, host.cores - 1)  # one core is left to the kernel's interrupts and to Dask
    hosts = {
        "ports": n / host.ports,
        "descriptors": n / (host.descriptors - constants.load_descriptors.base),
        "memory": n * each_bytes / (host.memory_bytes - constants.load_bytes.base),
        "CPU": rate * constants.load_us.at(n) / 1e6 / LOAD_BUSY / threads,
        "network": bits_s / host.network_bits_s,
    }
    load_first = max(hosts, key=lambda name: hosts[name])
    load_hosts = max(1, math.ceil(hosts[load_first] - 1e-9))
    load_bytes = constants.load_bytes.base + n / load_hosts * each_bytes
    return Needs(
        server_cpus,
        server_bytes,
        constants.server_descriptors.at(n),
        bits_s,
        server_first,
        used[server_first],
        load_hosts,
        load_first,
        load_bytes,
    )


def read(path: Path = STORED) -> Stored:
    """Read what was measured."""
    return msgspec.json.decode(path.read_bytes(), type=Stored)


# --- the tables of docs/scale.md

HOST = Host(cores=8, memory_bytes=32 * 2**30, descriptors=1 << 20, ports=28_232, network_bits_s=10e9)
DEMANDS = (Demand(10**4, 10**4), Demand(10**5, 10**5), Demand(10**6, 10**5), Demand(10**4, 10**6))


def _power(value: float) -> str:
    return f"10^{round(math.log10(value))}"


def _bytes(value: float) -> str:
    return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def needs_table(stored: Stored, host: Host = HOST, demands: Sequence[Demand] = DEMANDS) -> str:
    """What each demand takes, as Markdown."""
    columns = [needs(stored.constants, demand, host) for demand in demands]
    titles = [f"{_power(one.connections)} connections, {_power(one.messages_s)} messages/s" for one in demands]
    rows: list[tuple[str, Callable[[Needs], str]]] = [
        ("server: descriptors", lambda it: f"{it.server_descriptors:,.0f}"),
        ("server: memory, the kernel's included", lambda it: _bytes(it.server_bytes)),
        ("server: CPUs", lambda it: f"{it.server_cpus:.2f}"),
        ("network, each way", lambda it: f"{it.network_bits_s / 1e6:,.0f} Mbit/s"),
        ("server: used up first", lambda it: f"{it.server_first}, {it.server_share:.0%}".replace("%", " %")),
        ("load hosts", lambda it: f"{it.load_hosts:,}"),
        ("load hosts: used up first", lambda it: it.load_first),
        ("memory of each load host", lambda it: _bytes(it.load_bytes)),
    ]
    lines = [f"| | {' | '.join(titles)} |", f"| --- |{' --- |' * len(titles)}"]
    lines += [f"| {what} | {' | '.join(map(tell, columns))} |" for what, tell in rows]
    return "\n".join(lines) + "\n"


def check_table(stored: Stored) -> str:
    """How far the model is from what was measured later, as Markdown."""
    found = compare(stored.constants, stored.checked)
    names: dict[str, tuple[str, Callable[[float], str]]] = {
        "memory": ("memory of server, load and kernel", lambda value: f"{value / 2**20:.0f} MiB"),
        "server_descriptors": ("descriptors of the server", lambda value: f"{value:,.0f}"),
        "load_descriptors": ("descriptors of the load generator", lambda value: f"{value:,.0f}"),
        "server_us": ("CPU of a message, server", lambda value: f"{value:.2f} µs"),
        "load_us": ("CPU of a message, load generator", lambda value: f"{value:.2f} µs"),
    }
    sizes = sorted({one.connections for one in found})
    lines = [f"| | {' | '.join(f'{size:,} connections' for size in sizes)} |", f"| --- |{' --- |' * len(sizes)}"]
    for what, (name, tell) in names.items():
        cells = [
            f"{tell(one.measured)}, model {tell(one.model)} ({100 * one.share:+.0f} %)"
            for one in sorted(found)
            if one.what == what
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def constants_table(stored: Stored) -> str:
    """The constants, as Markdown."""
    own = stored.constants
    rows = [
        ("memory of the server", f"{own.server_bytes.base / 2**20:.1f} MiB", f"{own.server_bytes.each:,.0f} B"),
        ("memory of the load generator", f"{own.load_bytes.base / 2**20:.1f} MiB", f"{own.load_bytes.each:,.0f} B"),
        ("memory of the kernel, each end", "", f"{own.kernel_bytes.each / 2:,.0f} B"),
        ("descriptors of the server", f"{own.server_descriptors.base:.0f}", f"{own.server_descriptors.each:.0f}"),
        ("descriptors of the load generator", f"{own.load_descriptors.base:.0f}", f"{own.load_descriptors.each:.0f}"),
    ]
    lines = ["| | fixed | for each connection |", "| --- | --- | --- |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", "| | at 100 connections | for ten times as many |", "| --- | --- | --- |"]
    lines += [
        f"| CPU of a message, {who} | {cost.base:.2f} µs | {cost.each:+.2f} µs |"
        for who, cost in (("server", own.server_us), ("load generator", own.load_us))
    ]
    return "\n".join(lines) + "\n"


TABLES = {"constants": constants_table, "check": check_table, "needs": needs_table}


def fill(text: str, stored: Stored) -> str:
    """Put the tables between their marks in a document: `<!-- NAME -->` before, and `<!-- end -->` after."""
    for name, table in TABLES.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if mark and end:
            text = f"{before}{mark}\n{table(stored)}\n{end}{after}"
    return text
