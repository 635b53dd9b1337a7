"""What `iobench sweep --scheduler` does: see who is there and what for, plan, run, resume."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench import interpreters
from bench import run as runs
from bench.cluster.connect import LOAD, SERVER, Cluster, HostLostError, Member, open_cluster
from bench.cluster.hosts import Failed, Known, known_there
from bench.cluster.many import ManyMachines, deal_rounds
from bench.cluster.one_server import HOST_LOST, OneServer, WholeTrials, refuse_unreachable
from bench.commands.choice import Choice, choose_sweep, plan_of
from bench.commands.folders import find_run
from bench.commands.looking import look
from bench.commands.sweep import not_the_same, run_and_tell, sweep_resumed
from bench.errors import BadInputError
from bench.host import choose_cpus
from bench.lock import sole_writer
from bench.machines import differences
from bench.plan import Plan
from bench.progress import Progress
from bench.record import Host, Record, Run, StrategyInfo, read_run
from bench.say import complain
from bench.sweep import Sweep


class Company(NamedTuple):
    """The workers of a run, the server's first. `whole`: each of them is a machine that has server and load at home."""

    members: dict[str, Member]
    whole: bool


class Site(NamedTuple):
    """Where a run is made. `known` is what the workers that run servers can run, by name."""

    cluster: Cluster
    company: Company
    known: Mapping[str, Known]
    scheduler: str
    bind: str

    @property
    def hosts(self) -> list[Host]:
        """What the manifest has of the workers."""
        return [
            Host(name=name, roles=list(one.roles), facts=msgspec.to_builtins(self.cluster.about[name].facts))
            for name, one in self.company.members.items()
        ]


def sweep(choice: Choice, results: Path, scheduler: str, bind: str) -> int:
    """Run a sweep from its beginning; returns the exit code. Raises BadInputError."""
    asked = choose_sweep(choice)
    with _site(scheduler, bind, asked) as site:
        chosen = without_budget(asked, choice, scheduler) if site.company.whole else asked
        planned = _plan(chosen, site)
        folder = runs.start_run(results, chosen, planned, choose_cpus(), site.hosts)
        with sole_writer(folder):
            return _run(site, planned, folder, [])


def resume(run: str, choice: Choice, results: Path, scheduler: str, bind: str) -> int:
    """Run what is missing of an earlier run; returns the exit code.

    A failed trial counts as done; one that was unavailable because its host was gone does not. Raises BadInputError.
    """
    folder = find_run(run, results)
    with sole_writer(folder):
        earlier = read_run(folder)
        if not earlier.manifest.hosts:
            raise BadInputError(f"{folder} was made on one machine.", f"iobench sweep --resume {folder}")
        chosen = sweep_resumed(earlier, _as_made(earlier, choice))
        with _site(scheduler, bind, chosen) as site:
            _refuse_another_company(earlier, site.hosts)
            planned = _plan(chosen, site, earlier.manifest.strategies)
            changed = interpreters.changes(earlier.manifest.interpreters, list(planned.interpreters.values()))
            if changed:
                raise not_the_same(earlier, changed)
            return _run(site, planned, folder, [one for one in earlier.records if HOST_LOST not in one.flags])


def without_budget(asked: Sweep, choice: Choice, scheduler: str) -> Sweep:
    """The sweep as it is run on whole machines: so many rounds. Raises BadInputError where `--budget` asks for time.

    Each of them is at a round of its own, so that there is none after which all could look and stop.
    """
    if not asked.budget_s:
        return asked
    if choice.budget is not None:
        raise BadInputError(
            "--budget can't be kept on whole machines: each of them measures rounds of its own.",
            f"iobench sweep {choice.name_or_file or asked.name} --scheduler {scheduler} has `repeats` rounds",
        )
    complain(f"note: a budget can't be kept on whole machines: {asked.repeats} rounds (repeats) instead")
    return msgspec.structs.replace(asked, budget_s=0.0)


def _as_made(earlier: Run, choice: Choice) -> Choice:
    """What is asked for, where a sweep is named that was run without its budget."""
    whole = {SERVER, LOAD} <= {*earlier.manifest.hosts[0].roles}
    return choice._replace(budget="0") if whole and any(choice) and choice.budget is None else choice


@contextmanager
def _site(scheduler: str, bind: str, chosen: Sweep) -> Iterator[Site]:
    """Connect, and see that a run can be made there. Raises BadInputError."""
    with open_cluster(scheduler) as cluster:
        company = gather(cluster)
        if company.whole and bind:
            raise BadInputError(
                "--bind is for one server and its load hosts: whole machines use loopback only.", "leave --bind out"
            )
        if not company.whole:
            refuse_unreachable(cluster, list(company.members), bind)
        yield Site(cluster, company, _known(cluster, company, chosen), scheduler, bind)


def gather(cluster: Cluster) -> Company:
    """See who is there, and with which roles. Raises BadInputError where they make no run."""
    members = cluster.members()
    whole = {name: one for name, one in members.items() if {SERVER, LOAD} <= {*one.roles}}
    servers = {name: one for name, one in members.items() if one.roles == (SERVER,)}
    loads = {name: one for name, one in members.items() if one.roles == (LOAD,)}
    start = "dask worker ADDRESS --name NAME --nthreads 1 --resources"
    if whole and (servers or loads):
        raise BadInputError(
            f"{', '.join(whole)} offer both server and load, {', '.join([*servers, *loads])} one of them: a run is "
            "either of machines that are all alike, or of one server and its load hosts.",
            "start the workers again with the resources that are meant; docs/cluster.md",
        )
    if len(servers) > 1:
        raise BadInputError(f"There is one server to a run, and {', '.join(servers)} offer it.", f"{start} 'load=1'")
    missing = [role for role, there in ((SERVER, servers), (LOAD, loads)) if not there]
    if not whole and missing:
        raise BadInputError(f"No worker offers the resource {' or '.join(missing)}.", f"{start} '{missing[0]}=1'")
    company = Company(whole or {**servers, **loads}, bool(whole))
    try:
        cluster.check(list(company.members.values()))
    except HostLostError as error:
        raise BadInputError(f"The cluster can't be used: {error}.", "dask worker ... starts it again") from None
    return company


def _known(cluster: Cluster, company: Company, chosen: Sweep) -> dict[str, Known]:
    """What the workers that run servers can run, by name. Raises BadInputError."""
    asked = [one for one in company.members.values() if SERVER in one.roles]
    answers = cluster.client.run(known_there, chosen.python, workers=[one.address for one in asked])
    known = {}
    for one in asked:
        answer = answers[one.address]
        if isinstance(answer, Failed):
            raise BadInputError(f"{one.name}: {answer.reason}", "python -m servers --list, there")
        known[one.name] = answer
    return known


def _plan(chosen: Sweep, site: Site, before: Sequence[StrategyInfo] | None = None) -> Plan:
    """Plan a sweep by what the servers' workers can run: a strategy can, where one of them can run it."""
    first, *others = site.known.values()
    able = {info.name: info for one in others for info in one.strategies if info.available}
    strategies = [info if info.available else able.get(info.name, info) for info in first.strategies]
    return plan_of(chosen, before, known=strategies, asked=first.interpreters)


def _refuse_another_company(earlier: Run, now: Sequence[Host]) -> None:
    """Refuse to go on where a server would run on another machine, or load come from none that is like it was."""
    present = {host.name: host for host in now}
    then = earlier.manifest.hosts
    changed = [] if then[0].roles == now[0].roles else [f"{then[0].name} had the roles {then[0].roles}"]
    if then[0].roles == [SERVER] and then[0].name not in present:
        changed.append(f"the server's host was {then[0].name}, is {now[0].name}")
    for host in then:
        if host.name in present:
            differing = runs.unlike(host.facts, present[host.name].facts)
            changed += [f"{host.name}: {what}" for what in differing]
    if changed:
        raise not_the_same(earlier, changed)


def _run(site: Site, planned: Plan, folder: Path, done: list[Record]) -> int:
    go_on = f" --scheduler {shlex.quote(site.scheduler)}{f' --bind {site.bind}' if site.bind else ''}"
    if site.company.whole:
        return _run_on_many(site, planned, folder, done, go_on)
    names = list(site.company.members)
    crowded = max(Counter(site.cluster.about[name].place for name in names[1:]).values())
    notes = [f"the server runs on {names[0]}, the load on {', '.join(names[1:])}"]
    if crowded > 1:
        notes.append(f"{crowded} load hosts are on one machine and share its CPUs")

    def run(progress: Progress) -> runs.Outcome:
        whole = WholeTrials(*planned)
        one = OneServer(site.cluster, whole, site.bind, progress)
        return runs.run_on(one.stage, whole, folder, done, progress, look=lambda: look(folder))

    return run_and_tell(planned, folder, done, notes, run, go_on=go_on)


def _run_on_many(site: Site, planned: Plan, folder: Path, done: list[Record], go_on: str) -> int:
    names = list(site.company.members)
    busy = [name for name, trials in deal_rounds(planned, names, done).items() if trials]
    notes = [f"machine {what}" for what in differences(site.hosts)]
    notes.append(f"server and load together on {', '.join(busy)}, each with rounds of its own")
    if len(busy) < len(names):
        notes.append(f"{len(names) - len(busy)} of {len(names)} machines have no round to measure and stay idle")

    def run(progress: Progress) -> runs.Outcome:
        return ManyMachines(site.cluster, planned, site.known, progress).run(folder, done)

    return run_and_tell(planned, folder, done, notes, run, machines=max(1, len(busy)), go_on=go_on)
