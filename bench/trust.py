"""How far a run can be trusted: what flags its trials, how much repeats differ, what the machine did, the calibration.

Pure functions of the tables and comparisons that analyse.py makes, of the records and of the manifest, to plain rows
and sentences. Nothing is drawn or marked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.comparisons import Comparison
from bench.machines import differences
from bench.metrics import CASE, CPU, P99, PERCENTILES, RATE
from bench.record import Host, Record
from bench.rows import by_key
from bench.stats import samples_needed
from bench.validity import HARNESS, HYPERVISOR, NOT_COMPARED, OTHERS, QUOTA
from bench.words import counted, digits, joined, named, quoted

FLAGS = {
    "client_bound": "The load generator, not the server, was the limit: throughput is a lower bound, and latency has "
    "the client's own delay in it. CPU per message stays comparable.",
    "lagging_schedule": "Messages were sent later than planned because the load generator could not keep to its "
    "schedule. The delay counts in the response time, but it is the client's: the trial is not valid.",
    "unsteady": "Throughput or response times drifted within the window: one figure does not describe it.",
    "censored": "Messages were still waited for when the window closed. The percentiles that they reach into are lower "
    "bounds, shown with ≥.",
    "standstill": "For a part of the window no echo came, though each connection would have had ten and more in it at "
    "the rate of the rest: the server, or the machine, stood still. It is in the figures.",
    "syn_drops": "A queue of connections overflowed while they were being opened, and the kernel dropped handshakes: "
    "they are tried again a second later or more, and a client may believe in a connection that the server has not "
    "seen. A longer ramp_s or a higher net.core.somaxconn helps. The counters are those of the network namespace.",
    "disturbed": "Others had CPUs that server or load waited for, or the hypervisor took time, in most of its turns or "
    "for too much of its window. It is in no comparison, unless all trials of its case were disturbed.",
    "throttled": "A CPU quota (of a container or a unit) was used up, and server, load and harness stood still until "
    "its next period: these are figures of the quota. It is in no comparison.",
    "shared_core": "Server and load shared a core for want of another and took time from each other: compare with "
    "care, and take no absolute figure from here.",
    "too_few": f"Fewer than {samples_needed(0.99)} messages: not even p99 can be told.",
}
# What disturbed a turn, by how its reason begins.
DISTURBERS = {
    OTHERS: OTHERS,
    HYPERVISOR: "the hypervisor took time",
    QUOTA: QUOTA,
    HARNESS: HARNESS,
}
STEAL_NOTED = 0.01  # of a window
MOST_PAIRED = 400  # repeats of a case that are compared with each other


class Flagged(NamedTuple):
    """A flag, what it means, and the trials that have it."""

    flag: str
    meaning: str
    trials: int
    strategies: str


def flagged(trials: pd.DataFrame) -> list[Flagged]:
    """Count the good trials with each flag, in the order of FLAGS; flags that aren't known come last."""
    good = trials[trials["status"] == "ok"]
    who: dict[str, list[str]] = {}
    for flags, strategy in zip(good["flags"], good["strategy"], strict=True):
        for flag in filter(None, flags.split(", ")):
            who.setdefault(flag, []).append(strategy)
    ordered = [flag for flag in FLAGS if flag in who] + sorted(who.keys() - FLAGS)
    return [Flagged(flag, FLAGS.get(flag, "–"), len(who[flag]), named(sorted(set(who[flag])))) for flag in ordered]


def bottlenecks(trials: pd.DataFrame) -> str:
    """Say how often server or client was the limit; nothing where no trial succeeded."""
    good = trials[trials["status"] == "ok"]["bottleneck"]
    what = {
        "server": "the server's CPU was the limit",
        "client": "the client's",
        "latency": "neither was, and messages waited for each other's round trip or for their planned time",
        "": "the limit is not known",
    }
    counts = [(int((good == name).sum()), text) for name, text in what.items()]
    parts = [f"in {number:,} {text}" for number, text in counts if number]
    return f"Of {counted(len(good), 'good trial')}, {joined(parts)}." if parts else ""


def withheld(cases: pd.DataFrame, estimates: pd.DataFrame) -> str:
    """Say which percentiles are left out for want of messages; nothing where none is."""
    measured = int((cases["samples"] > 0).sum())
    parts = []
    for quantile, name in PERCENTILES:
        told = int((estimates["metric"] == f"{name.replace('.', '')}_us").sum())
        if told < measured:
            parts.append(f"{name} in {measured - told:,} (it takes {samples_needed(quantile):,} messages)")
    return f"Of {counted(measured, 'case')}, too few messages were seen to tell {joined(parts)}." if parts else ""


# --- noise: repeats differ in nothing, so what they differ by is chance and the machine


def noise(trials: pd.DataFrame) -> str:
    """Compare every two repeats of a case with each other, as an A/A run does; nothing where nothing was repeated."""
    parts = []
    for metric, name in ((RATE, "throughput"), (CPU, "server CPU per message"), (P99, "p99 latency")):
        gaps = _gaps(trials, metric.name)
        if len(gaps):
            middle, most = np.quantile(gaps, [0.5, 0.95])
            parts.append(f"in {name} by {_percent(middle)} ({_percent(most)})")
    if not parts:
        return ""
    return (
        "Two repeats of one case differ by chance, and because the machine does not stay the same: at the median of "
        f"all pairs (and in 95 % of them by less than), {joined(parts)}."
    )


def within_rounds(comparisons: Iterable[Comparison]) -> str:
    """Say how far the figure of one round is off within it; nothing where that is not known."""
    spreads = _spreads(comparisons)
    if not spreads:
        return ""
    told = joined([f"{_percent(spread)} in {title}" for title, spread in spreads.items()])
    return (
        "Strategies are compared within rounds, in which the machine is the same for all. There a strategy’s figure is "
        f"off by {told} (standard deviation of one round, at the median of the settings)."
    )


def _spreads(comparisons: Iterable[Comparison]) -> dict[str, float]:
    """The standard deviation of one round's logarithm by metric: the median of the settings in which it is known."""
    found: dict[str, list[float]] = {}
    for comparison in comparisons:
        if np.isfinite(comparison.spread):
            found.setdefault(comparison.metric.title, []).append(comparison.spread)
    return {title: float(np.median(spreads)) for title, spreads in found.items()}


def _gaps(trials: pd.DataFrame, metric: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """By what share the larger of two repeats is above the smaller, for all pairs of a case's repeats on a machine."""
    good = trials[(trials["status"] == "ok") & (trials[metric] > 0)]
    if metric == RATE.name:
        good = good[~good["planned"].astype(bool)]
    found = [_of_pairs(np.array(values)) for values in by_key(good, [*CASE, "host"], metric).values()]
    return np.concatenate(found) if found else np.array([])


def _of_pairs(values: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """By what share the larger is above the smaller; of many values, those at even distances."""
    values = values[:: -(-len(values) // MOST_PAIRED) or 1]
    one, other = np.triu_indices(len(values), 1)
    pairs = np.stack([values[one], values[other]])
    return np.asarray(pairs.max(axis=0) / pairs.min(axis=0) - 1)


def _percent(share: float) -> str:
    return f"{digits(round(100 * share, 2))} %"


# --- the machine


def taken(records: Iterable[Record]) -> str:
    """Say what others took of the run, as far as the kernel counts it; nothing where nothing was measured."""
    good = [record for record in records if record.status == "ok" and record.load is not None]
    turns = [turn for record in good for turn in record.turns]
    whole = [record for record in good if not record.turns]
    reasons = [turn.disturbed for turn in turns if turn.disturbed]
    lost = [record for record in whole if not {*NOT_COMPARED}.isdisjoint(record.flags)]
    if not good:
        return ""
    if not turns and all(record.machine is None for record in good):
        return "What others took of the CPUs meanwhile was not recorded."
    if not reasons and not lost:
        return "Nobody else took CPU time from it, as far as the kernel counts that."
    parts = [f"{len(reasons):,} of {counted(len(turns), 'turn')}"] if turns else []
    parts += [f"{len(lost):,} of {counted(len(whole), 'trial')} measured as a whole"] if whole else []
    kinds = [(words, sum(why.startswith(what) for why in reasons)) for what, words in DISTURBERS.items()]
    causes = joined([f"in {number:,} {words}" for words, number in kinds if number])
    return f"{joined(parts)} were disturbed and do not count{f' ({causes})' if causes else ''}."


def steal(records: Iterable[Record]) -> str:
    """Say how much CPU time the hypervisor took from the trials."""
    shares = sorted(share for record in records if (share := _stolen_share(record)) is not None)
    if not shares:
        return "How much CPU time a hypervisor took meanwhile was not recorded."
    if shares[-1] < STEAL_NOTED:
        return f"A hypervisor took less than 1 % of the CPU time in every one of {counted(len(shares), 'trial')}."
    more = sum(share >= STEAL_NOTED for share in shares)
    return (
        f"A hypervisor took up to {_percent(shares[-1])} of the CPU time of a trial, and 1 % or more in {more:,} of "
        f"{counted(len(shares), 'trial')}: those figures are of a slower machine than the others."
    )


def _stolen_share(record: Record) -> float | None:
    machine, load = record.machine, record.load
    if machine is None or load is None or record.status != "ok" or load.closed_ns <= load.opened_ns:
        return None
    server_cpus = max(1, len(record.server.cpus)) if record.server else 1
    of_one = max(machine.server_steal_ns / server_cpus, machine.load_steal_ns / max(1, len(machine.load_cpus)))
    return of_one / (load.closed_ns - load.opened_ns)


def without_lock(records: Iterable[Record]) -> str:
    """Say which servers ran without the interpreter lock, and whether that could show; nothing where none did."""
    servers = [(one.trial.strategy, one.server) for one in records if one.status == "ok" and one.server is not None]
    free = [(strategy, server) for strategy, server in servers if not server.gil]
    if not free:
        return ""
    who = "All servers" if len(free) == len(servers) else named(sorted({strategy for strategy, _ in free}))
    on = joined(sorted({f"{server.implementation} {server.version}" for _, server in free}))
    text = f"{who} ran without the interpreter lock (GIL), on {on}."
    if any(len(server.cpus) > 1 for _, server in free):
        return text
    return (
        f"{text} Each was pinned to one CPU, where threads run one at a time all the same: what a free-threaded build "
        "gains on several CPUs is not in these figures."
    )


def machine(host: Mapping[str, Any]) -> list[str]:
    """Say of the machine what figures depend on most."""
    sentences = []
    if cpu := _known(host, "cpu_model"):
        cores = host.get("physical_cores")
        sentences.append(f"CPU: {cpu}" + (f", {counted(cores, 'core')}." if isinstance(cores, int) else "."))
    if (kind := _known(host, "virtualization")) not in ("", "none"):
        sentences.append(f"A virtual machine ({kind}): its host may do other work meanwhile.")
    if quota := _quota(host):
        sentences.append(
            f"{quota} for harness, load and server together: where it is used up, all of them stand still."
        )
    if slow := _governors(host):
        sentences.append(f"The CPU frequency governor is {joined(slow)}: clocks may vary.")
    return sentences


def company(hosts: Sequence[Host]) -> list[str]:
    """Say which machines of a cluster a run was made on, and which of them are not like the others."""
    if not hosts:
        return []
    servers, loads = ([quoted(one.name) for one in hosts if role in one.roles] for role in ("server", "load"))
    alike = [one for one in hosts if "load" in one.roles]
    if servers == loads:
        sentences = [
            f"Rounds ran on {counted(len(hosts), 'machine')}: {joined(servers)}. A round stayed on one of them, "
            "and strategies are compared within a machine only."
        ]
    else:
        sentences = [f"Servers ran on {joined(servers)}, the load came from {joined(loads)}."]
    return sentences + [f"A machine differs: {what}." for what in differences(alike)]


def _known(host: Mapping[str, Any], name: str) -> str:
    value = host.get(name)
    return "" if value in (None, "", [], {}, "unknown") else str(value)


def _quota(host: Mapping[str, Any]) -> str:
    """What a CPU quota leaves; nothing where there is none, or that is not known."""
    cpus = host.get("cpu_quota")
    return f"A CPU quota leaves {digits(cpus)} CPUs" if isinstance(cpus, (int, float)) else ""


def _governors(host: Mapping[str, Any]) -> list[str]:
    """Those that don't keep the clock at its highest."""
    return sorted({*_known(host, "governor").split(", ")} - {"", "unknown", "performance"})


# --- all of it in short


def in_short(
    trials: pd.DataFrame,
    records: Sequence[Record],
    claims: Sequence[Claimed],
    host: Mapping[str, Any],
    comparisons: Iterable[Comparison],
) -> list[tuple[str, str]]:
    """Say how far the run can be trusted: what it is about, and a sentence, also where a fact is not known.

    Nothing where no trial succeeded.
    """
    good = trials[trials["status"] == "ok"]
    if good.empty:
        return []
    return [
        ("Load generator", _calibrated_in_short(claims)),
        ("Trials", _trials_in_short(trials, good)),
        ("Limit", _limit_in_short(good)),
        ("Noise", _noise_in_short(trials, comparisons)),
        ("Others", taken(records)),
        ("Stolen time", steal(records)),
        ("Machine", _machine_in_short(host)),
        *([("Interpreter lock", text)] if (text := without_lock(records)) else []),
    ]


def _calibrated_in_short(claims: Sequence[Claimed]) -> str:
    if not claims:
        return "Not calibrated on this machine; `iobench calibrate` does it in a few minutes."
    return f"Proved {_proved(claims)}."


def _trials_in_short(trials: pd.DataFrame, good: pd.DataFrame) -> str:
    flags, bad = int((good["flags"] != "").sum()), len(trials) - len(good)
    text = f"{len(good):,} of {len(trials):,} good, {f'{flags:,}' if flags else 'none'} of them with a flag"
    return f"{text}; {bad:,} failed or could not be run." if bad else f"{text}."


def _limit_in_short(good: pd.DataFrame) -> str:
    bound = int(good["client_bound"].sum())
    if bound:
        return (
            f"In {bound:,} of {counted(len(good), 'good trial')} the client, not the server, was the limit: there "
            "throughput is a lower bound."
        )
    if (good["bottleneck"] == "").all():
        return "Whether server or client was the limit is not known."
    return "In no good trial was the client the limit."


def _noise_in_short(trials: pd.DataFrame, comparisons: Iterable[Comparison]) -> str:
    """How far one round is off within it, and the median of what repeats differ by."""
    names = {RATE.name: "throughput", P99.name: "p99 latency"}
    gaps = {name: found for metric, name in names.items() if len(found := _gaps(trials, metric))}
    if not gaps:
        return "Nothing was repeated: what is noise, and what a difference, can't be told."
    middle = joined([f"{_percent(np.median(of))} in {name}" for name, of in gaps.items()])
    apart = f"two repeats of one case differ by {middle} (median of all pairs)"
    spreads = [f"{_percent(spread)} in {title}" for title, spread in _spreads(comparisons).items()]
    if not spreads:
        return f"{apart[0].upper()}{apart[1:]}, by chance and the machine."
    return (
        f"Within a round, in which strategies are compared, a figure is off by {joined(spreads)} (standard deviation); "
        f"{apart}, by chance and the machine."
    )


def _machine_in_short(host: Mapping[str, Any]) -> str:
    cores, cpu = host.get("physical_cores"), _known(host, "cpu_model")
    kind = _known(host, "virtualization")
    parts = [cpu] if cpu else []
    parts += [counted(cores, "core")] if isinstance(cores, int) else []
    parts += [f"a virtual machine ({kind}), whose host may do other work meanwhile"] if kind not in ("", "none") else []
    parts += [f"{quota[0].lower()}{quota[1:]}"] if (quota := _quota(host)) else []
    parts += [f"frequency governor {joined(slow)}: clocks may vary"] if (slow := _governors(host)) else []
    if not parts:
        return "Nothing is known of it."
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


# --- the calibration


class Claimed(NamedTuple):
    """A row of the calibration's table; `checks` are (what, expected, measured) in words."""

    claim: str
    says: str
    checks: list[tuple[str, str, str]]
    verdict: str
    reason: str


def calibrated(calibration: Mapping[str, Any] | None) -> list[Claimed]:
    """Give a row for each claim of a calibration.json; none where there is none."""
    found = (calibration or {}).get("findings")
    findings = [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []
    return [
        Claimed(
            str(one.get("claim", "")),
            str(one.get("says", "")),
            [(str(check.get("what", "")), _expected(check), _measured(check)) for check in _checks(one)],
            str(one.get("verdict", "")),
            str(one.get("reason", "")),
        )
        for one in findings
    ]


def _checks(finding: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    checks = finding.get("checks")
    return [check for check in checks if isinstance(check, Mapping)] if isinstance(checks, list) else []


def _expected(check: Mapping[str, Any]) -> str:
    low, high, target = (_number(check.get(name)) for name in ("low", "high", "target"))
    unit = f" {check['unit']}" if check.get("unit") else ""
    if low == high:
        return f"{low}{unit}" if low else "–"
    if low and high:
        return f"{low} to {high}{unit}" + (f", by theory {target}" if target else "")
    return f"at least {low}{unit}" if low else f"at most {high}{unit}"


def _measured(check: Mapping[str, Any]) -> str:
    value = _number(check.get("value"))
    return f"{value} {check.get('unit') or ''}".strip() if value else "not measured"


def _number(value: Any) -> str:
    return digits(float(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def calibration_summary(rows: Sequence[Claimed]) -> str:
    """Say how the calibration went, or how to make one."""
    if not rows:
        return (
            "The load generator was not calibrated on this machine before this run. `iobench calibrate` does it in a "
            "few minutes, and later runs show the result."
        )
    return f"The load generator proved {_proved(rows)}."


def _proved(rows: Sequence[Claimed]) -> str:
    """Say how many claims held, and which did not; one that the machine was too disturbed for has not."""
    wrong = {verdict: [row.claim for row in rows if row.verdict == verdict] for verdict in ("failed", "inconclusive")}
    passed = sum(row.verdict == "passed" for row in rows)
    text = f"{passed} of {counted(len(rows), 'claim')} about itself on this machine"
    return text + "".join(f"; {verdict}: {joined(names)}" for verdict, names in wrong.items() if names)
