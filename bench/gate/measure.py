"""Measure one pair: a fresh server process of base and one of head, the same load on each, one after the other.

Within a process throughput varies by a few per cent, from process to process by far more: the process is the unit, so
windows are short and processes many. What was disturbed meanwhile is told by the kernel's own accounts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import msgspec
import psutil

from bench import validity
from bench.gate.model import CPU, MEMORY, P50, P99, THROUGHPUT, Case, Pair, Sample
from bench.gate.sides import Source
from bench.histograms import decode, quantiles_us
from bench.host import CpuLayout
from bench.load import LoadFailedError, LoadWorker, Measured, Watch, end_worker, measure, start_worker
from bench.probes.machine import MachineProbe
from bench.probes.process import ProcessProbe, with_children
from bench.probes.unwatched import Unwatched
from bench.processes import Ending, Guard
from bench.record import Load, Machine, Server, Trial
from bench.server import RunningServer, ServerFailedError, stop_server
from bench.trial import describe_server, load_faults, server_faults

# Long enough for a thousand messages of the slowest strategies, short enough for thirty pairs in a minute.
WARM_UP_S = 0.05
FULL_LOAD_S = 0.25
FIXED_RATE_S = 0.2
# Of what base can do. A queue that a standstill of the machine leaves behind is gone the sooner the less is offered: at
# half load twice as many messages suffer as come meanwhile.
OFFERED_SHARE = 0.25
MOST_WAIT = 0.10
MOST_STEAL = 0.01
FEWEST_CONNECTIONS = 8  # for memory per connection: below, a page more or less is all that would be seen


@dataclass
class Rig:
    """What pairs are measured with; the load generator is started anew where it broke down."""

    guard: Guard
    layout: CpuLayout
    worker_command: Sequence[str] = ()
    _worker: LoadWorker | None = None

    def worker(self) -> LoadWorker:
        """A load generator that is warm. Raises LoadFailedError, Interrupted."""
        if self._worker and not self._worker.usable:
            self.end()
        if self._worker is None:
            self._worker = start_worker(self.layout.load, self.guard, self.worker_command)
        return self._worker

    def end(self) -> None:
        """End it, if it runs."""
        worker, self._worker = self._worker, None
        if worker:
            end_worker(worker)


class _Window(msgspec.Struct):
    """What the probes and the load saw of one window."""

    load: Load
    server: Server
    machine: Machine | None


def measure_pair(
    rig: Rig,
    case: Case,
    base: Source,
    head: Source,
    *,
    first: Literal["base", "head"],
    offered_hz: float,
    number: int,
    attempt: int,
) -> Pair:
    """Measure both sides. Raises Interrupted; all else that goes wrong is in the pair."""
    order = [base, head] if first == "base" else [head, base]
    by_role = {source.side.role: measure_side(rig, case.trial, source, offered_hz) for source in order}
    pair = Pair(
        case=case.name,
        round=number,
        attempt=attempt,
        first=first,
        offered_hz=offered_hz,
        base=by_role["base"],
        head=by_role["head"],
    )
    pair.disturbed = disturbance(pair)
    return pair


def disturbance(pair: Pair) -> str:
    """Why a pair doesn't count; "" where it does."""
    wait = max(pair.base.wait, pair.head.wait)
    steal = max(pair.base.steal, pair.head.steal)
    if wait > MOST_WAIT:
        return f"others had a CPU that was waited for during {100 * wait:.0f} % of a window"
    if steal > MOST_STEAL:
        return f"the hypervisor took {100 * steal:.0f} % of a window"
    return ""


def measure_side(rig: Rig, trial: Trial, source: Source, offered_hz: float) -> Sample:
    """Measure one fresh server process: at full load, then, with `offered_hz`, at that rate. Raises Interrupted."""
    try:
        worker = rig.worker()
        server = source.start(trial, rig.layout.server, rig.guard)
    except (ServerFailedError, LoadFailedError) as error:
        return Sample(metrics={}, failed=str(error))
    source.side.interpreter = f"{server.implementation} {server.version}".strip()
    died, trouble, sample = False, "", Sample(metrics={})
    full = fixed = None
    faults: list[str] = []
    try:
        at_start = _rss_bytes(server)
        full, more = _drive(worker, trial, server, 0.0)
        faults += more
        if offered_hz and not faults:
            fixed, more = _drive(worker, at_rate(trial), server, offered_hz)
            faults += more
        died = server.ended
    except LoadFailedError as error:
        died, trouble = server.ended, str(error)
    finally:
        ending = stop_server(server)
    died = died or ending.unasked
    faults = [*server_faults(server, ending, died), *([trouble] if trouble and not died else []), *faults]
    if faults or full is None:
        sample.failed = "; ".join(dict.fromkeys(faults)) or "nothing was measured"
        return sample
    return _sample(trial, full, fixed, at_start)


def at_rate(trial: Trial) -> Trial:
    """The same point under messages at planned times, evenly spaced."""
    return msgspec.structs.replace(trial, workload="open", arrivals="constant", depth=1, duration_s=FIXED_RATE_S)


def _drive(worker: LoadWorker, trial: Trial, server: RunningServer, rate_hz: float) -> tuple[_Window | None, list[str]]:
    """Put a load on the server; what came of it, and what was wrong with it. Raises LoadFailedError, Interrupted."""
    probe = ProcessProbe() if server.child else Unwatched()
    machine = MachineProbe(server.cpus, worker.cpus, worker.child.pid)
    seen: list[tuple[dict[str, float], Machine | None]] = []

    def opened() -> None:
        machine.start()
        probe.start([server.pid])

    def closed() -> None:
        found = machine.stop()
        seen.append((probe.stop(), found))

    measured: Measured = measure(worker, trial, rate_hz, server, Watch(_nothing, opened, closed, _nothing))
    faults = load_faults(trial, measured, server.refused, "")
    metrics, found = seen[0]
    if "cpu_ns" not in metrics:
        return None, [*faults, probe.missing.get("cpu_ns", "the server's CPU time can't be read")]
    about = describe_server(server, probe, metrics, Ending(0, killed=False, stderr_tail=""))
    return _Window(measured.load, about, found), faults


def _sample(trial: Trial, full: _Window, fixed: _Window | None, at_start_bytes: float) -> Sample:
    load, server = full.load, full.server
    window_s = (load.closed_ns - load.opened_ns) / 1e9
    rate_hz = load.completed / window_s
    probed_s = (server.closed_ns - server.opened_ns) / 1e9
    metrics = {
        THROUGHPUT.name: rate_hz,
        CPU.name: server.metrics["cpu_ns"] / probed_s / rate_hz / 1e3,
    }
    if trial.connections >= FEWEST_CONNECTIONS and at_start_bytes and "rss_bytes" in server.metrics:
        metrics[MEMORY.name] = (server.metrics["rss_bytes"] - at_start_bytes) / trial.connections
    hdr = fixed.load.response_hdr if fixed else ""
    hist = decode(hdr)
    if hist is not None:
        metrics[P50.name], metrics[P99.name] = quantiles_us(hist, (0.5, 0.99)).tolist()
    windows = [full, *([fixed] if fixed else [])]
    return Sample(
        metrics=metrics,
        response_hdr=hdr if hist is not None else "",
        wait=max(waited_for_others(one.load, one.server, one.machine) for one in windows),
        steal=max(stolen(one.server, one.machine) for one in windows),
        client_bound=validity.bottleneck(load, server, full.machine) == "client",
    )


def waited_for_others(load: Load, server: Server, machine: Machine | None) -> float:
    """The share of the window for which server or load, whichever is worse, waited for a CPU that somebody else had.

    Threads of one server wait for each other, too, and that is the strategy's own affair: the wait for others is at
    most what the busiest thread ran or waited, less all that ran of the server; with one thread that is its wait. Nor
    can it be longer than others ran: than the CPUs were neither idle, nor stolen, nor ours.
    """
    if machine is None:
        return 0.0
    window_ns = max(1, server.closed_ns - server.opened_ns)
    server_ns, load_ns = server.metrics["cpu_ns"], float(load.cpu_user_ns + load.cpu_system_ns)
    both = bool({*server.cpus} & {*machine.load_cpus})

    def share(cpus: Sequence[int], idle_ns: float, steal_ns: float, own_ns: float, waited_ns: float) -> float:
        others_ns = max(1, len(cpus)) * window_ns - idle_ns - steal_ns - own_ns
        return max(0.0, min(others_ns, waited_ns)) / window_ns

    waited_ns = server.metrics.get("thread_demand_ns", 0.0) - server_ns
    ours, theirs = server_ns + both * load_ns, load_ns + both * server_ns
    return max(
        share(server.cpus, machine.server_idle_ns, machine.server_steal_ns, ours, waited_ns),
        share(machine.load_cpus, machine.load_idle_ns, machine.load_steal_ns, theirs, machine.load_wait_ns or 0.0),
    )


def stolen(server: Server, machine: Machine | None) -> float:
    """The share of the window that the hypervisor took from the CPUs of either side, as far as the kernel knows."""
    if machine is None:
        return 0.0
    return max(machine.server_steal_ns, machine.load_steal_ns) / max(1, server.closed_ns - server.opened_ns)


def _rss_bytes(server: RunningServer) -> float:
    total = 0
    for pid in with_children([server.pid]) if server.child else []:
        with suppress(psutil.Error):
            total += psutil.Process(pid).memory_info().rss
    return float(total)


def timed(take: Callable[[], Pair]) -> tuple[Pair, float]:
    """A pair, and the seconds that it took."""
    began = time.monotonic()
    return take(), time.monotonic() - began


def _nothing() -> None:
    pass
