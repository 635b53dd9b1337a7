"""The command `iobench lab`: find the experiments, run each in a process of its own, judge, tell.

What is printed is in show.py.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

import bench.lab
from bench import host, one_step
from bench.errors import BadInputError, did_you_mean
from bench.events import Interrupted, ProtocolError, Stream, signals_interrupt_waits, wait
from bench.lab import show
from bench.lab.experiment import Chart, Experiment, Finding, Lab, Observation, summed_up
from bench.processes import Guard, end, how_it_ended, start
from bench.record import read_kept
from bench.say import complain, say
from bench.trial import utc_now

LIMIT_S = 60.0
NEWEST = "lab.json"


class Found(NamedTuple):
    """An experiment and the module that it was found in."""

    experiment: Experiment
    module: ModuleType


def lab(
    name: str | None = None, everything: bool = False, results: Path | None = None, package: ModuleType = bench.lab
) -> int:
    """List the experiments, or run one or all of them; returns the exit code. Raises BadInputError."""
    if name is not None and everything:
        raise BadInputError(f"Either --all or {name}.", f"iobench lab {name}")
    if results is not None and not everything:
        raise BadInputError("--results is for all experiments together.", f"iobench lab --all --results {results}")
    found = discover(package)
    if name is None and not everything:
        show.listing([(one.experiment, one.experiment.unavailable()) for one in found])
        return 0
    chosen = found if everything else [choose(found, name or "")]
    if results is not None:
        make_folder(results)
    created, began = utc_now(), time.monotonic()
    guard = Guard()
    findings = []
    try:
        with signals_interrupt_waits():
            for number, one in enumerate(chosen, 1):
                if results is not None:
                    complain(f"[{number}/{len(chosen)}] {one.experiment.name}")
                findings.append(examine(one, guard))
                if results is None:
                    show.finding(findings[-1], one.module, at_length=not everything)
    except Interrupted as interruption:
        complain("Interrupted; nothing is written." if results else "Interrupted.")
        return 128 + interruption.signum
    finally:
        guard.close()
    if results is not None:
        written = write(results, _described(created, round(time.monotonic() - began, 1), findings))
        for one, finding in zip(chosen, findings, strict=True):  # what was found is written before it is told
            show.finding(finding, one.module, at_length=False)
        say(summed_up(findings))
        print(written)
    elif everything:
        say(summed_up(findings))
    return 1 if any(finding.status == "failed" for finding in findings) else 0


def _described(created: str, took_s: float, findings: list[Finding]) -> Lab:
    return Lab(
        created=created,
        took_s=took_s,
        findings=findings,
        host=host.describe(host.choose_cpus()),
        versions=host.versions(),
        command=host.command(),
    )


def discover(package: ModuleType = bench.lab) -> list[Found]:
    """Find every module of the package that has an EXPERIMENT, by name; complain of those that can't be imported."""
    found = []
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if info.name.endswith(".__main__"):
            continue
        try:
            module = importlib.import_module(info.name)
        except ImportError as error:
            complain(f"warning: {info.name} can't be imported: {error}")
            continue
        if isinstance(getattr(module, "EXPERIMENT", None), Experiment):
            found.append(Found(module.EXPERIMENT, module))
    return sorted(found, key=lambda one: one.experiment.name)


def choose(found: Sequence[Found], name: str) -> Found:
    """The experiment of this name. Raises BadInputError."""
    by_name = {one.experiment.name: one for one in found}
    if name not in by_name:
        raise BadInputError(
            f"There is no experiment {name}{did_you_mean(name, by_name)}.", "iobench lab shows what there is"
        )
    return by_name[name]


def examine(found: Found, guard: Guard, limit_s: float = LIMIT_S) -> Finding:
    """Run an experiment in a process of its own, ended after `limit_s` at the latest. Raises Interrupted."""
    experiment = found.experiment
    about: dict[str, Any] = {"name": experiment.name, "claim": experiment.claim}
    if why_not := experiment.unavailable():
        return Finding(**about, status="unavailable", reason=why_not)
    began = time.monotonic()
    observations: list[Observation] = []
    charts: list[Chart] = []
    trouble: list[str] = []
    process = start([sys.executable, "-m", "bench.lab", found.module.__name__], guard, piped=True)
    finished = False
    try:
        assert process.process.stdout is not None
        stream = Stream(process.process.stdout.fileno(), "the experiment")
        while fields := wait([stream], max(0.0, began + limit_s - time.monotonic())).fields:
            if "observation" in fields:
                observations.append(msgspec.convert(fields["observation"], Observation))
            elif "chart" in fields:
                charts.append(msgspec.convert(fields["chart"], Chart))
            elif "error" in fields:
                trouble.append(fields["error"])
            elif "left" in fields:
                finished = True
                trouble += [f"it left {what} behind" for what in fields["left"]]
    except TimeoutError:
        trouble.append(f"it did not end within {limit_s:g} s")
    except ProtocolError as error:
        trouble.append(str(error))
    finally:
        ending = end(process, terminate=False, patience_s=1.0 if finished else 0.0)
    if not finished and not trouble:
        trouble.append(how_it_ended(ending))
    not_so = sum(observation.holds is False for observation in observations)
    if not_so:
        trouble.insert(0, f"observations that do not hold: {not_so} of {len(observations)}")
    return Finding(
        **about,
        status="failed" if trouble else "ok",
        reason="; ".join(trouble),
        observations=observations,
        charts=charts,
        took_s=round(time.monotonic() - began, 2),
    )


def make_folder(results: Path) -> None:
    """Make the results folder, before anything is run. Raises BadInputError, also for a file that can't be read."""
    read_kept(results / NEWEST, dict[str, Any])
    try:
        one_step.try_to_write(results / NEWEST, make_folder=True)
    except OSError as error:
        raise _unwritable(results, error) from None


def write(results: Path, what: Lab) -> Path:
    """Write lab.json in one step, in place of an earlier one. Raises BadInputError."""
    path = results / NEWEST
    try:
        one_step.write(path, msgspec.json.format(msgspec.json.encode(what), indent=2) + b"\n")
    except OSError as error:
        raise _unwritable(results, error) from None
    return path


def _unwritable(results: Path, error: OSError) -> BadInputError:
    return BadInputError(
        f"Nothing can be written to {results}: {error.strerror}.",
        "iobench lab --all --results DIR, with a DIR that you may write to",
    )
