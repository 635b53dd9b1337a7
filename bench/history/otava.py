"""A history in the form that Apache Otava reads: a CSV file for each case, and the tests that name them.

Otava wants a number in every column of every row, so that a run in which a metric is missing is left out of its case.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Sequence
from itertools import count
from pathlib import Path

from bench import one_step
from bench.errors import BadInputError
from bench.history.trend import Trend
from bench.rows import no_formula

ATTRIBUTES = ("commit", "run", "machine")


def write(folder: Path, trends: Sequence[Trend]) -> list[Path]:
    """Write otava.yaml and the CSV files; returns them, the first is otava.yaml. Raises BadInputError."""
    tests: dict[str, object] = {}
    files: dict[str, str] = {}
    by_case: dict[tuple[str, str], list[Trend]] = {}
    for trend in trends:
        by_case.setdefault((trend.machine, trend.case), []).append(trend)
    for (machine, case), own in by_case.items():
        name = _free(re.sub(r"[^A-Za-z0-9]+", "-", f"{machine} {case}").strip("-")[:200], tests)
        files[f"{name}.csv"] = _table(own)
        tests[name] = {
            "type": "csv",
            "file": str(folder / f"{name}.csv"),
            "time_column": "time",
            "attributes": list(ATTRIBUTES),
            "metrics": {
                trend.metric.name: {
                    "column": trend.metric.name,
                    "direction": 1 if trend.metric.higher_is_better else -1,
                    "scale": 1,
                }
                for trend in own
            },
            "csv_options": {"delimiter": ",", "quote_char": '"'},
        }
    # JSON is YAML, too.
    files = {"otava.yaml": json.dumps({"tests": tests}, indent=2) + "\n", **files}
    for name, text in files.items():
        try:
            folder.mkdir(exist_ok=True)
            one_step.write(folder / name, text.encode())
        except OSError as error:
            raise BadInputError(f"{folder / name} can't be written: {error.strerror}.", f"ls -ld {folder}") from None
    return [folder / name for name in files]


def _free(name: str, taken: Collection[str]) -> str:
    """A name that no other case has: different ones may look the same in so few letters."""
    return name if name not in taken else next(new for i in count(2) if (new := f"{name}-{i}") not in taken)


def _table(trends: Sequence[Trend]) -> str:
    values: dict[tuple[str, str, str, str], dict[str, float]] = {}  # in the order of the runs, as Otava goes by it
    for trend in trends:
        for entry, estimate in trend.points:
            row = (entry.created, entry.commit, entry.run, entry.machine)
            values.setdefault(row, {})[trend.metric.name] = estimate.value
    names = [trend.metric.name for trend in trends]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["time", *ATTRIBUTES, *names])
    for row, found in values.items():
        if len(found) == len(names):
            writer.writerow([*map(no_formula, row), *(repr(found[name]) for name in names)])
    return out.getvalue()
