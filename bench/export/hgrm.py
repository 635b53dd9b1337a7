"""HdrHistogram's percentile distributions: a folder with a file for each case, of all its repeats together.

Values are milliseconds, response times where sends were planned, else service times; where they were, the service times
are in a file beside. Plotters of HdrHistogram draw several such files into one chart.
"""

from __future__ import annotations

import io
import re
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import msgspec

from bench.errors import BadInputError
from bench.export import with_times
from bench.histograms import added, decode
from bench.record import Record, Run, Trial

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

summary = "HdrHistogram percentiles: a file for each case"
default = "hgrm"

NS_PER_MS = 1e6
TICKS = 5  # points for each halving of the distance to 100 %, as other writers have it


def render(run: Run) -> dict[str, bytes]:
    """Give the files, named after the strategy and what else differs within the run. Raises BadInputError."""
    cases: dict[Trial, list[Record]] = {}
    for record in with_times(run):
        cases.setdefault(msgspec.structs.replace(record.trial, repeat=0, seed=0), []).append(record)
    differing = _differing(list(cases))
    files: dict[str, bytes] = {}
    for trial, records in cases.items():
        for kind, texts in _kinds(records).items():
            hist = _sum(texts)
            if hist is None:
                continue
            stem = f"{_name(trial, differing)}{'' if kind == 'latency' else f'-{kind}'}"
            written = io.BytesIO()
            hist.output_percentile_distribution(written, NS_PER_MS, TICKS)
            files[_free(stem, files)] = written.getvalue()
    if not files:
        raise BadInputError(f"No histogram of {run.folder} can be read.", f"iobench report {run.folder}")
    return files


def _differing(trials: Sequence[Trial]) -> list[str]:
    names = [name for name in Trial.__struct_fields__ if name != "strategy"]
    return [name for name in names if len({getattr(trial, name) for trial in trials}) > 1]


def _name(trial: Trial, differing: Sequence[str]) -> str:
    """Strategy and setting, in letters that any file system takes."""
    values = [(name, getattr(trial, name)) for name in differing]
    parts = [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in values]
    return re.sub(r"[^\w.=-]+", "_", "-".join([trial.strategy, *parts]), flags=re.ASCII)[:200]


def _free(stem: str, taken: Container[str]) -> str:
    """A file that this export does not have yet: different names may look the same in so few letters."""
    name, number = f"{stem}.hgrm", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}.hgrm"
    return name


def _kinds(records: list[Record]) -> dict[str, list[str]]:
    loads = [record.load for record in records if record.load]
    kinds = {"latency": [load.response_hdr or load.service_hdr for load in loads]}
    if any(load.response_hdr for load in loads):
        kinds["service"] = [load.service_hdr for load in loads]
    return kinds


def _sum(texts: Sequence[str]) -> HdrHistogram | None:
    found = [hist for hist in map(decode, texts) if hist is not None]
    return added(found) if found else None
