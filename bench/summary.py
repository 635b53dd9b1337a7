"""report.md, the report in short for a pull request: the verdict, one table, pictures beside it, the rest folded.

It is written for GitHub's Markdown and stays below what a comment there may hold. Names are between backticks, and all
other text is escaped. Nothing is computed but the text of table cells, and no file is written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from bench import answer, capacity, caveats, compare, tables, templating, trust, words
from bench import markdown as md
from bench.analyse import Analysis
from bench.anatomy import steps as echo
from bench.figures import Drawn
from bench.lab.experiment import read_findings, summed_up
from bench.load_curve import bends
from bench.why import words as why_words
from bench.why.files import understood

METRICS = ("rate_hz", "cpu_us", "switches", "p50_us", "p99_us", "p999_us")
LONGEST = 60_000  # characters; a comment on GitHub holds 65,536
MOST_ROWS = 40  # of the table
MOST_SAID = 30  # sentences of one kind
AT_ONCE = 2  # pictures that are not folded


def markdown(analysis: Analysis, figures: Sequence[Drawn]) -> str:
    """Render the summary. Where it grows too long, lists are cut, and say by how much."""
    for cut in (1, 2, 4, 8, 16):
        text = _render(analysis, figures, max(2, MOST_ROWS // cut), max(2, MOST_SAID // cut))
        if len(text) <= LONGEST:
            break
    return text


def _render(analysis: Analysis, figures: Sequence[Drawn], most_rows: int, most_said: int) -> str:
    def said(sentences: Sequence[str]) -> list[str]:
        more = len(sentences) - most_said
        return [*sentences[:most_said], *([f"{more:,} more are in report.html."] if more > 0 else [])]

    environment = templating.environment(autoescape=False)
    environment.filters |= {"escaped": md.escaped, "sentence": md.sentence, "cell": md.cell, "said": said}
    content = _content(analysis, figures) | {"most_rows": most_rows}
    return re.sub(r"\n{3,}", "\n\n", environment.get_template("report.md.j2").render(content).strip()) + "\n"


def _content(analysis: Analysis, figures: Sequence[Drawn]) -> dict[str, Any]:
    manifest, folder = analysis.run.manifest, analysis.run.folder.resolve().name
    found = bends(analysis.load_points[analysis.load_points["slo"] == ""])
    curves = [bend.curve for bend in found]
    claims = trust.calibrated(manifest.calibration)
    return {
        "title": str(manifest.sweep.get("name") or folder),
        "about": _about(analysis, folder),
        "unfinished": caveats.unfinished(manifest, len(analysis.trials), folder),
        "notes": [f"{note.replace(f'{analysis.run.folder}/', '')}." for note in analysis.run.notes],
        "comparison": compare.shown(analysis, MOST_ROWS),
        "opening": answer.opening(analysis.comparisons),
        "advice": [
            *capacity.search_headlines(manifest.searches),
            *capacity.bend_headlines(found),
            *answer.advice(analysis.comparisons),
        ],
        "nothing": caveats.nothing_to_compare(analysis.trials),
        "in_short": trust.in_short(analysis.trials, analysis.run.records, claims, manifest.host, analysis.comparisons),
        "conditions": caveats.conditions(analysis.trials),
        "columns": [heading for heading, _ in tables.case_columns(analysis, METRICS)],
        "rows": tables.case_rows(analysis, METRICS),
        "figures": figures,
        "at_once": AT_ONCE,
        "left_out": caveats.left_out(analysis.trials),
        "folded": {
            "The ranking in tiers, and how many times the best is better": [
                f"{where}, {metric}: {'; '.join(f'{tier}) {text}' for tier, text in enumerate(tiers, 1))}"
                for where, ranking in answer.rankings(analysis.comparisons)
                for metric, tiers in ranking
            ],
            "Latency over offered load": [
                *(capacity.search_sentence(search) for search in manifest.searches),
                *(f"{capacity.curve_title(bend.curve, curves)}: {capacity.bend_sentence(bend)}" for bend in found),
            ],
            "Why: what a message costs the kernel": _why(analysis),
            "What limits these figures": [
                *caveats.why_lines_stop(manifest.strategies, analysis.cases),
                *caveats.throttled(analysis.trials, manifest.host),
                *(f"The client was the limit: {text}" for text in caveats.client_bound(analysis.cases)),
                *(f"Two kinds of processes: {text}" for text in caveats.bimodal(analysis.trials)),
            ],
            "How far to trust this, in full": _trust(analysis, claims),
            "Anatomy of one echo, under strace": [
                f"{words.quoted(one.strategy)}: {echo.summed_up(one)}"
                for one in echo.read_anatomies(manifest.anatomy)
                if one.status == "ok"
            ],
            "The lab": [summed_up(findings)] if (findings := read_findings(manifest.lab)) else [],
        },
    }


def _about(analysis: Analysis, folder: str) -> str:
    strategies = words.counted(analysis.trials["strategy"].nunique(), "strategy", "strategies")
    good = int((analysis.trials["status"] == "ok").sum())
    trials = f"{words.counted(len(analysis.trials), 'trial')}, {good:,} of them good"
    return f"{folder} · {strategies} · {trials} · {analysis.run.manifest.created[:10]}"


def _why(analysis: Analysis) -> list[str]:
    counts = understood(analysis.run.manifest.why)
    remarks = [text for one in counts for text in why_words.remarks(one)]
    sources = why_words.sources(counts) if counts else []
    return [*(why_words.sentence(one) for one in counts), *remarks, *sources]


def _trust(analysis: Analysis, claims: Sequence[trust.Claimed]) -> list[str]:
    flags = [
        f"{one.flag.replace('_', ' ')} in {words.counted(one.trials, 'trial')}: {one.meaning}"
        for one in trust.flagged(analysis.trials)
    ]
    sentences = [
        trust.bottlenecks(analysis.trials),
        trust.noise(analysis.trials),
        trust.within_rounds(analysis.comparisons),
        trust.withheld(analysis.cases, analysis.estimates),
        trust.taken(analysis.run.records),
        trust.steal(analysis.run.records) if len(analysis.trials) else "",
        *trust.machine(analysis.run.manifest.host),
        *flags,
        trust.calibration_summary(claims),
        caveats.overhead(analysis.trials),
    ]
    return [sentence for sentence in sentences if sentence]
