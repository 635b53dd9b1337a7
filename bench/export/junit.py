"""JUnit's XML, which most CI systems show: a test case for each trial, and what it measured as its properties.

A trial that failed is a failure with its reason and the end of what the server wrote to standard error; one that could
not be run here is skipped.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from bench.export._rows import UNITLESS, tidy
from bench.figures.style import NO_XML
from bench.record import Record, Run
from bench.rows import dicts
from bench.words import case_title

summary = "JUnit's XML: a test case for each trial"
default = "junit.xml"

Properties = list[tuple[str, str]]


def render(run: Run) -> bytes:
    """Give the file: a suite, whatever became of the trials."""
    records = sorted(run.records, key=lambda record: (record.order, record.id))
    seconds = [_seconds(record) for record in records]
    suite = ET.Element(
        "testsuite",
        name=_clean(f"iobench {run.manifest.sweep.get('name', '')}".strip()),
        tests=str(len(records)),
        failures=str(sum(record.status == "failed" for record in records)),
        errors="0",
        skipped=str(sum(record.status == "unavailable" for record in records)),
        time=f"{sum(seconds):.3f}",
        timestamp=_clean(run.manifest.created),
    )
    properties = _properties(run)
    for record, took_s in zip(records, seconds, strict=True):
        name = f"repeat {record.trial.repeat} ({record.id})"
        case = ET.SubElement(
            suite, "testcase", classname=_clean(case_title(record.trial)), name=_clean(name), time=f"{took_s:.3f}"
        )
        _fill(case, record, properties.get(record.id, []))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    out: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return out + b"\n"


def _fill(case: ET.Element, record: Record, properties: Properties) -> None:
    if properties:
        all_of_them = ET.SubElement(case, "properties")
        for name, value in properties:
            ET.SubElement(all_of_them, "property", name=name, value=_clean(value))
    if record.status == "failed":
        ET.SubElement(case, "failure", message=_clean(record.reason), type="failed").text = _clean(record.reason)
        if record.server and record.server.stderr_tail:
            ET.SubElement(case, "system-err").text = _clean(record.server.stderr_tail)
    elif record.status == "unavailable":
        ET.SubElement(case, "skipped", message=_clean(record.reason))


def _properties(run: Run) -> dict[str, Properties]:
    """By trial, each metric with its unit, and what flags it has."""
    found: dict[str, Properties] = {}
    if not any(record.status == "ok" for record in run.records):
        return found
    for row in dicts(tidy(run)):
        unit = "" if row["unit"] == UNITLESS else f" {row['unit']}"
        found.setdefault(row["trial"], []).append((str(row["metric"]), f"{row['value']:.6g}{unit}"))
    for record in run.records:
        if record.id in found and record.flags:
            found[record.id].append(("flags", ", ".join(record.flags)))
    return found


def _seconds(record: Record) -> float:
    timing = record.timing
    parts = (timing.spawn_s, timing.connect_s, timing.warmup_s, timing.window_s, timing.teardown_s) if timing else ()
    return sum(parts)


def _clean(text: str) -> str:
    """Without characters that XML 1.0 has no way to write."""
    return NO_XML.sub("", text.replace("\r", ""))
