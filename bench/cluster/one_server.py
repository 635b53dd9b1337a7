"""One server, many load hosts: the two roles of a trial, played on other machines, and what happens when one is lost.

Trials are measured whole, one after another, for turns of milliseconds can't be told to several load hosts. Those of a
setting follow each other in a round all the same, and are compared within it.

A load host that is lost in mid-trial fails that trial, and the run goes on with the others. Without the server's host
no trial can be run: they wait for it to come back. What a trial is, is in bench/trial.py; what runs on the workers, in
hosts.py.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bench.cluster.connect import LOAD, SERVER, Cluster, Heard, HostLostError, Member, Remote
from bench.cluster.hosts import OURS, Commands, Failed, LoadHost, ServerHost, Targets
from bench.cluster.split import (
    LEAST_OVERLAP,
    Window,
    merge_loads,
    merge_machines,
    overlap,
    split_job,
    window_of,
)
from bench.errors import BadInputError
from bench.events import raise_signals
from bench.load import MARGIN_S, WARM_PATIENCE_S, LoadFailedError, Measured, Watch, connect_patience_s, job
from bench.plan import Plan
from bench.progress import Progress
from bench.record import Load, Machine, Record, Trial
from bench.record import LoadHost as AboutLoadHost
from bench.run import WARMING_UP, Stage
from bench.server import LOOPBACK, READY_PATIENCE_S, ServerFailedError, stop_patience_s
from bench.settings import Setting
from bench.trial import Stopped, carry_out, connections_of, not_run

WORD_S = 10.0  # that the words to a host and back may take, beyond what it has to do
START_S = READY_PATIENCE_S + 30.0 + WORD_S  # a server that is not ours has 30 s
SERVER_PATIENCE_S = 60.0  # that the server's host has to come back
LOAD_PATIENCE_S = 10.0  # that a load host has to come back, once
LOOK_S = 0.2
MOST_LOSSES = 3  # of the server's host in one trial: then the trial is what kills it
WHY_WHOLE = "the load of several hosts can't be switched within milliseconds"
HOST_LOST = "host_lost"  # the flag of a trial that was not run since a host was gone: a resumed run runs it


class OneServer:
    """The stage of a run with its server on one worker and its load on others (bench.run.Stage).

    `bind` is where servers listen; "" is loopback, which load hosts on other machines can't reach.
    """

    def __init__(
        self, cluster: Cluster, plan: Plan, bind: str, progress: Progress, *, commands: Commands = OURS
    ) -> None:
        self._cluster, self._plan, self._progress, self._commands = cluster, plan, progress, commands
        self._threads = max((trial.threads for trial in plan.trials), default=1)
        members = cluster.members()
        self._server_name = next(name for name, one in members.items() if SERVER in one.roles)
        self._load_names = [name for name, one in members.items() if LOAD in one.roles]
        self._bind = bind or LOOPBACK
        self._server: Remote | None = None
        self._loads: dict[str, Remote] = {}
        self._missed: set[str] = set()  # load hosts that were waited for in vain
        self._given_up = False
        self._apart = apart(cluster, self._server_name, self._load_names)

    @property
    def stage(self) -> Stage:
        """What bench.run.run_on takes."""
        return Stage(self.begin, self.measure, self.end)

    # --- the hosts

    def begin(self) -> None:
        """Make the roles and warm up the load generators. Raises BadInputError, Interrupted."""
        self._progress.note(WARMING_UP)
        members = self._cluster.members()
        try:
            self._make_server(members[self._server_name])
            self._make_loads({name: members[name] for name in self._load_names})
        except KeyError as gone:
            raise BadInputError(f"Worker {gone.args[0]} has gone.", "dask worker ... starts it again") from None
        except (HostLostError, LoadFailedError) as error:
            raise BadInputError(f"The cluster can't be made ready: {error}.", "docs/cluster.md") from None
        self._progress.host(self._server_name, "waits")

    def end(self) -> None:
        """Let the roles go: what they have started on the workers ends with them."""
        self._cluster.leave([*([self._server] if self._server else []), *self._loads.values()])
        self._server = None
        self._loads.clear()

    def _make_server(self, member: Member) -> None:
        without_trials = self._plan._replace(trials=[])
        arguments = (without_trials, self._bind, self._reached_at(member), self._commands)
        self._server = self._cluster.make({member.name: member}, SERVER, ServerHost, *arguments)[member.name]

    def _reached_at(self, member: Member) -> str:
        return member.ip if self._bind in ("0.0.0.0", "::") else self._bind

    def _make_loads(self, members: dict[str, Member]) -> None:
        assert self._server is not None
        externals = [one.address for one in self._plan.externals.values() if one.address]
        hosts = {self._reached_at(self._server.member)} | ({LOOPBACK} if not self._apart else set())
        targets = Targets(tuple(sorted(hosts)), tuple(externals), local=not self._apart)
        made = self._cluster.make(members, LOAD, LoadHost, targets, self._threads, self._commands)
        for name in made:
            self._progress.host(name, "warms up")
        answers = self._cluster.ask([(one, "warm_up", ()) for one in made.values()], WARM_PATIENCE_S + WORD_S)
        for name, heard in answers.items():
            if isinstance(heard.value, Failed):
                raise LoadFailedError(f"load host {name}: {heard.value.reason}", fatal=True)
            self._progress.host(name, "waits")
        self._loads |= made

    def _has_server(self) -> bool:
        """Whether the server's host is there; it is waited for, unless that was in vain before."""
        deadline = time.monotonic() + (0 if self._given_up else SERVER_PATIENCE_S)
        while self._server is None or self._server.lost:
            self._server = None
            member = self._cluster.members().get(self._server_name)
            if member is not None and SERVER in member.roles:
                try:
                    self._cluster.check([member])
                    self._make_server(member)
                    self._progress.host(self._server_name, "is back", trouble=True)
                    break
                except HostLostError:
                    pass
            if time.monotonic() > deadline:
                self._given_up = True
                return False
            _pause()
        self._given_up = False
        return True

    def _gather_loads(self) -> list[Remote]:
        """The load hosts that are there, in order; those that were lost are waited for, once."""
        deadline = time.monotonic() + LOAD_PATIENCE_S
        while lost := [name for name in self._load_names if name not in self._loads or self._loads[name].lost]:
            members = self._cluster.members()
            for name in lost:
                self._loads.pop(name, None)
            back = {name: members[name] for name in lost if name in members and LOAD in members[name].roles}
            if back:
                try:
                    self._cluster.check(list(back.values()))
                    self._make_loads(back)
                    for name in back:
                        self._missed.discard(name)
                        self._progress.host(name, "is back", trouble=True)
                    continue
                except (HostLostError, LoadFailedError):
                    pass
            if set(lost) <= self._missed or time.monotonic() > deadline:
                for name in sorted({*lost} - self._missed):
                    self._progress.host(name, "is gone; the run goes on without it", trouble=True)
                self._missed |= set(lost)
                break
            _pause()
        return [self._loads[name] for name in self._load_names if name in self._loads]

    # --- trials

    def measure(self, setting: Setting, rates_hz: Mapping[str, float]) -> Iterator[Record]:
        """Measure a setting's trials one after another. Raises BadInputError, Interrupted."""
        for trial in setting.trials:
            record = self.attempt(trial, rates_hz[trial.id])
            record.whole = setting.whole
            yield record

    def attempt(self, trial: Trial, planned_hz: float) -> Record:
        """Run a trial, whatever becomes of it. Raises BadInputError, Interrupted."""
        if trial.transport != "tcp" and self._apart:
            return not_run(trial, "unavailable", f"{trial.transport} does not reach load hosts on other machines")
        for _ in range(MOST_LOSSES):
            if not self._has_server():
                return self._gone(trial, f"the server's host {self._server_name} was gone")
            hosts = self._gather_loads()
            if not hosts:
                return self._gone(trial, f"no load host was left of {', '.join(self._load_names)}")
            assert self._server is not None
            server = ServerThere(self._cluster, self._server)
            load = LoadThere(self._cluster, hosts, server, self._progress)
            try:
                record = carry_out(trial, server, load, planned_hz=planned_hz, tick=self._progress.tick)
            except HostLostError as error:
                self._progress.host(self._server_name, f"{error}; its trial waits", trouble=True)
                continue
            record.server_host = self._server_name
            if self._share_cpus(server, hosts, record):
                record.flags.append("shared_core")
            return record
        return not_run(trial, "failed", f"the server's host was lost {MOST_LOSSES} times in this trial")

    def _gone(self, trial: Trial, what: str) -> Record:
        """The record of a trial that a host is missing for.

        Raises BadInputError where there is a budget: it would buy thousands of such trials, which take no time.
        """
        reason = f"{what}, and did not come back in time"
        if self._plan.budget_s:
            raise BadInputError(
                f"{reason[:1].upper()}{reason[1:]}. What there is of the run stays.",
                "iobench sweep --resume RUN --scheduler ADDRESS, once it is there again",
            )
        record = not_run(trial, "unavailable", reason)
        record.flags.append(HOST_LOST)
        return record

    def _share_cpus(self, server: ServerThere, hosts: Sequence[Remote], record: Record) -> bool:
        """Whether the load runs on a CPU of the server's, as it may where both workers are on one machine."""
        about = self._cluster.about
        near = [one for one in hosts if about[one.name].place == about[self._server_name].place]
        return bool(near and record.machine and {*record.machine.load_cpus} & {*server.cpus})


class WholeTrials(Plan):
    """A plan whose trials are measured whole, one by one; what is missing of a setting is resumed trial by trial."""

    def settings(self, trials: Sequence[Trial]) -> list[Setting]:
        """Trials of this plan, in order, put together as they are measured, with the reason why they take no turns."""
        return [
            setting._replace(whole=WHY_WHOLE) if setting.in_turns else setting for setting in super().settings(trials)
        ]


def apart(cluster: Cluster, server: str, loads: Sequence[str]) -> list[str]:
    """The load hosts that don't have their loopback in common with the server's host."""
    return [name for name in loads if cluster.about[name].place != cluster.about[server].place]


def refuse_unreachable(cluster: Cluster, names: Sequence[str], bind: str) -> None:
    """Raise BadInputError where load would come from other machines and servers are not told where to listen for it.

    `names` has the server's host first.
    """
    distant = apart(cluster, names[0], names[1:])
    if distant and (not bind or ipaddress.ip_address(bind).is_loopback):
        raise BadInputError(
            f"Servers would listen on loopback of {names[0]} only, where load from {', '.join(distant)} can't reach "
            "them.",
            "iobench sweep ... --bind IP, an address of the server's machine in a network that you trust",
        )


def _pause() -> None:
    raise_signals()
    time.sleep(LOOK_S)


class ServerThere:
    """The server's role, on a worker. Each step raises HostLostError where that is lost."""

    def __init__(self, cluster: Cluster, remote: Remote) -> None:
        self._cluster, self.remote = cluster, remote
        self.address = ""
        self.cpus: list[int] = []
        self._connections = 0

    def start(self, trial: Trial) -> None:
        """Start it. Raises ServerFailedError, HostLostError, Interrupted."""
        self._connections = connections_of(trial)
        said = self._ask("start", START_S, trial)
        if isinstance(said, Failed):
            raise ServerFailedError(said.reason)
        self.address, self.cpus = said

    def connected(self) -> None:
        """Read what the kernel dropped while the connections were opened."""
        self._ask("connected", WORD_S)

    def opened(self) -> None:
        """Take the first reading."""
        self._ask("opened", WORD_S)

    def closed(self) -> None:
        """Take the second reading."""
        self._ask("closed", WORD_S)

    def alive(self) -> bool:
        """Whether the server has not ended."""
        return bool(self._ask("alive", WORD_S))

    def stop(self) -> Stopped:
        """End it."""
        stopped: Stopped = self._ask("stop", stop_patience_s(self._connections) + WORD_S)
        return stopped

    def _ask(self, method: str, seconds: float, *arguments: Any) -> Any:
        return self._cluster.ask([(self.remote, method, arguments)], seconds)[self.remote.name].value


class LoadThere:
    """The load's role, on several workers that start together."""

    def __init__(self, cluster: Cluster, hosts: Sequence[Remote], server: ServerThere, progress: Progress) -> None:
        self._cluster, self._hosts, self._server, self._progress = cluster, hosts, server, progress

    def measure(self, trial: Trial, planned_hz: float, watch: Watch) -> Measured:
        """Put the load on the server. Raises LoadFailedError, HostLostError of the server's host, Interrupted."""
        lines = split_job(job(trial, planned_hz, self._server.address), len(self._hosts))
        used = list(self._hosts[: len(lines)])
        try:
            return self._measure(trial, used, lines, watch)
        except BaseException:
            self._call_off(used)
            raise

    def _measure(self, trial: Trial, used: Sequence[Remote], lines: Sequence[dict[str, Any]], watch: Watch) -> Measured:
        def tick() -> None:
            watch.tick()
            if not self._server.alive():
                raise LoadFailedError("the server died", fatal=False)

        for one, line in zip(used, lines, strict=True):
            self._progress.host(one.name, f"opens {line['connections'] + line['silent']:,} connections")
        connected = self._all(used, "connect", connect_patience_s(lines[0]), [(line,) for line in lines])
        watch.connected()
        went = self._all(used, "go", trial.warmup_s + MARGIN_S)
        watch.opened()
        for one, line in zip(used, lines, strict=True):
            rate = f" at {line['rate_hz']:,.0f}/s" if line["rate_hz"] else ""
            self._progress.host(one.name, f"measures on {line['connections']:,} connections{rate}")
        self._all(used, "closed", trial.duration_s + MARGIN_S, tick=tick)
        watch.closed()
        results = self._all(used, "result", MARGIN_S)
        found: list[tuple[Load, Machine | None]] = [results[one.name].value for one in used]
        loads = [load for load, _ in found]
        for one, load in zip(used, loads, strict=True):
            self._progress.host(one.name, f"had {load.completed:,} echoes")
        windows = [_window(went[one.name], load) for one, load in zip(used, loads, strict=True)]
        share = overlap(windows)
        unopened: list[tuple[int, str]] = [connected[one.name].value for one in used]
        return Measured(
            merge_loads(loads),
            sum(refused for refused, _ in unopened),
            next((reason for _, reason in unopened if reason), ""),
            machine=merge_machines([machine for _, machine in found]),
            hosts=_tell(used, loads, windows),
            overlap=share,
            faults=_too_little(used, windows, share),
        )

    def _all(
        self,
        used: Sequence[Remote],
        method: str,
        seconds: float,
        arguments: Sequence[tuple[Any, ...]] = (),
        *,
        tick: Callable[[], None] | None = None,
    ) -> dict[str, Heard]:
        """Ask all load hosts at once: their answers. Raises LoadFailedError where one has none."""
        given = arguments or [()] * len(used)
        questions = [(one, method, each) for one, each in zip(used, given, strict=True)]
        try:
            answers = self._cluster.ask(questions, seconds + WORD_S, others=[self._server.remote], tick=tick)
        except HostLostError as error:
            if self._server.remote.name in error.names:
                raise
            raise LoadFailedError(f"load {error}", fatal=False) from None
        failed = [
            f"load host {name}: {heard.value.reason}"
            for name, heard in answers.items()
            if isinstance(heard.value, Failed)
        ]
        if failed:
            raise LoadFailedError("; ".join(failed), fatal=False)
        return answers

    def _call_off(self, used: Sequence[Remote]) -> None:
        """Have the others end their part early; what comes of it is not waited for."""
        for one in used:
            try:
                self._cluster.begin(one, "call_off")
            except HostLostError as error:
                self._progress.host(one.name, str(error), trouble=True)


def _window(went: Heard, load: Load) -> Window:
    return window_of(went.asked_ns, went.heard_ns, went.value, load.closed_ns - load.opened_ns)


def _tell(used: Sequence[Remote], loads: Sequence[Load], windows: Sequence[Window]) -> list[AboutLoadHost]:
    """What is recorded of each load host."""
    first_ns = min(window.opened_ns for window in windows)
    return [
        AboutLoadHost(
            name=one.name,
            connections=load.connections,
            completed=load.completed,
            offered_hz=load.offered_hz,
            start_ns=window.opened_ns - first_ns,
            uncertainty_ns=window.uncertainty_ns,
            window_ns=window.closed_ns - window.opened_ns,
            busy=max(load.worker_busy, default=0.0),
        )
        for one, load, window in zip(used, loads, windows, strict=True)
    ]


def _too_little(used: Sequence[Remote], windows: Sequence[Window], share: float) -> list[str]:
    """Say that the load of all hosts did not overlap for long enough; nothing where it did."""
    if share >= LEAST_OVERLAP:
        return []
    first_ns = min(window.opened_ns for window in windows)
    last, late_ns = max(
        ((one.name, window.opened_ns - first_ns) for one, window in zip(used, windows, strict=True)),
        key=lambda pair: pair[1],
    )
    return [
        f"all load hosts were at work for {math.floor(1000 * share) / 10:g} % of the window only, of which "
        f"{LEAST_OVERLAP:.0%} are needed: {last} began {late_ns / 1e6:.0f} ms after the first"
    ]
