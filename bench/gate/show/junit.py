"""The gate as a JUnit file, which most CI systems show.

A regression is a failure. An inconclusive result is an error: the test could not be carried out to its end. Viewers
tell the two apart, and neither counts as passed; a skipped one would, in most of them.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from bench.figures.style import NO_XML
from bench.gate.model import Gate
from bench.gate.show import words


def render(gate: Gate) -> bytes:
    """Give the file: a test suite, a test case for each case and metric."""
    rows = words.rows(gate)
    failures = sum(row.verdict == "regressed" for row in rows)
    errors = sum(row.verdict == "inconclusive" for row in rows)
    silent = gate.verdict != "ok" and not failures and not errors  # such as an interrupted gate: never green
    suite = ET.Element(
        "testsuite",
        name=_clean(f"iobench gate {gate.sweep}"),
        tests=str(len(rows) + silent),
        failures=str(failures),
        errors=str(errors + silent),
        skipped=str(sum(row.verdict == "too noisy" for row in rows)),
        time=f"{gate.wall_s:.3f}",
        timestamp=_clean(gate.created),
    )
    each_s = gate.wall_s / max(1, len(rows))
    for row in rows:
        case = ET.SubElement(
            suite, "testcase", classname=_clean(row.case), name=_clean(row.metric), time=f"{each_s:.3f}"
        )
        kind = {"regressed": "failure", "inconclusive": "error", "too noisy": "skipped"}.get(row.verdict)
        if kind:
            said = _clean(f"{row.base} -> {row.head}, worse by {row.change} ({row.interval}): {row.why}")
            ET.SubElement(case, kind, message=_clean(row.why)).text = said
    if silent:
        case = ET.SubElement(suite, "testcase", classname="iobench", name="gate", time="0")
        ET.SubElement(case, "error", message=_clean(" ".join([words.headline(gate), *gate.notes])))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    out: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return out + b"\n"


def _clean(text: str) -> str:
    """Without characters that XML 1.0 has no way to write."""
    return NO_XML.sub("", text.replace("\r", " "))
