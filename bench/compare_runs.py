"""Several runs put together as one: every strategy with its run's label, so that figures and tables tell them apart.

Pure: the runs are left as they are, and nothing is compared here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bench.record import Compared, Manifest, Record, Run, Trial

Renamed = Mapping[str, str]


def labelled(strategy: str, label: str) -> str:
    """What a strategy of a run is called beside those of other runs."""
    return f"{strategy} ({label})"


def unlabelled(name: str, labels: Iterable[str]) -> tuple[str, str]:
    """The strategy and the label that a name was made of. Raises ValueError where it has none of these labels."""
    for label in labels:
        if name.endswith(f" ({label})"):
            return name.removesuffix(f" ({label})"), label
    raise ValueError(name)


def merge(runs: Sequence[Run], labels: Sequence[str]) -> tuple[Manifest, list[Record]]:
    """Put runs together, in their order. `created` and `command` are left for who writes the manifest.

    Where every run names one interpreter, and not all the same, that is what they are compared by: it is then left out
    of the definitions, which would match nowhere otherwise.
    """
    pythons = [{record.trial.python for record in run.records} for run in runs]
    by_python = all(len(found) == 1 for found in pythons) and len(set.union(*pythons)) > 1
    compared = [_about(run, label, by_python) for run, label in zip(runs, labels, strict=True)]
    records: list[Record] = []
    searches = []
    for run, label in zip(runs, labels, strict=True):
        after = 1 + max((record.order for record in records), default=-1)
        new = [_labelled(record, label, by_python, after) for record in run.records]
        ids = {record.source: record.id for record in new}
        records += new
        for search in run.manifest.searches:
            start = _relabelled(search.start, label, by_python)
            steps = [ids[step] for step in search.steps if step in ids]
            searches.append(msgspec.structs.replace(search, start=start, steps=steps))
    manifests = [run.manifest for run in runs]
    manifest = Manifest(
        sweep={"name": f"{', '.join(labels[:-1])} and {labels[-1]}", "compared": list(labels)},
        strategies=[
            msgspec.structs.replace(info, name=labelled(info.name, label))
            for one, label in zip(manifests, labels, strict=True)
            for info in one.strategies
        ],
        host=side_by_side([one.host for one in manifests], labels),
        versions=side_by_side([one.versions for one in manifests], labels),
        created="",
        command=[],
        calibration=_calibration([one.calibration for one in manifests], labels),
        lab=manifests[0].lab if all(one.lab == manifests[0].lab for one in manifests) else None,
        why=_by_strategy([one.why for one in manifests], labels, "counts"),
        anatomy=_by_strategy([one.anatomy for one in manifests], labels, "anatomies"),
        searches=searches,
        interpreters=[] if by_python else list({it.name: it for one in manifests for it in one.interpreters}.values()),
        compared=compared,
    )
    return manifest, records


def _about(run: Run, label: str, by_python: bool) -> Compared:
    servers = [record.server for record in run.records if record.server is not None]
    found = {f"{it.implementation} {it.version}{'' if it.gil else ' without the GIL'}".strip() for it in servers}
    planned = run.manifest.sweep.get("trials_planned")
    return Compared(
        label=label,
        run=run.folder.resolve().name,
        created=run.manifest.created,
        sweep=str(run.manifest.sweep.get("name", "")),
        host=run.manifest.host,
        versions=run.manifest.versions,
        interpreters=sorted(found),
        python=run.records[0].trial.python if by_python else "",
        trials=len(run.records),
        trials_planned=planned if isinstance(planned, int) else 0,
    )


def _relabelled(trial: Trial, label: str, by_python: bool) -> Trial:
    python = "" if by_python else trial.python
    return msgspec.structs.replace(trial, strategy=labelled(trial.strategy, label), python=python)


def _labelled(record: Record, label: str, by_python: bool, after: int) -> Record:
    trial = _relabelled(record.trial, label, by_python)
    return msgspec.structs.replace(record, id=trial.id, trial=trial, source=record.id, order=record.order + after)


def side_by_side(facts: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    """Facts on which all agree as they are, the others each with its label."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in facts for name in one):
        values = [one.get(name) for one in facts]
        if all(value == values[0] for value in values):
            found[name] = values[0]
        elif all(isinstance(value, Mapping) for value in values):
            found[name] = dict(zip(labels, values, strict=True))
        else:
            found[name] = "; ".join(f"{label}: {value}" for label, value in zip(labels, values, strict=True))
    return found


def _calibration(found: Sequence[dict[str, Any] | None], labels: Sequence[str]) -> dict[str, Any] | None:
    """The one that all have, or the claims of each with its label; what holds of one machine only is left out."""
    if all(one == found[0] for one in found):
        return found[0]
    return {
        "findings": [
            finding | {"claim": labelled(str(finding.get("claim", "")), label)}
            for one, label in zip(found, labels, strict=True)
            for finding in _dicts((one or {}).get("findings"))
        ]
    }


def _by_strategy(found: Sequence[dict[str, Any] | None], labels: Sequence[str], key: str) -> dict[str, Any] | None:
    """What was counted or traced of each strategy, with its label; None where nothing was."""
    first = next((one for one in found if one), None)
    if first is None:
        return None
    entries = [
        entry | {"strategy": labelled(str(entry.get("strategy", "")), label)}
        for one, label in zip(found, labels, strict=True)
        for entry in _dicts((one or {}).get(key))
    ]
    return first | {key: entries}


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
