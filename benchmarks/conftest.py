"""Prints a table of ratios at the end: times alone mean little on a shared machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

_ROWS = pytest.StashKey[list[str]]()

ReportRatio = Callable[[str, str, list[float], list[float]], None]


@pytest.fixture
def report_ratio(request: pytest.FixtureRequest, benchmark: object) -> ReportRatio:
    """Give a function to call with (what, against what, figures, figures): paired round by round, lower is better."""

    def report(what: str, against: str, ours: list[float], theirs: list[float]) -> None:
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        ratio = statistics.median(ratios)
        row = (
            f"{what} / {against}: median ratio {ratio:.3f} ({min(ratios):.3f} .. {max(ratios):.3f} in {len(ratios)} "
            f"rounds), medians {statistics.median(ours):.2f} and {statistics.median(theirs):.2f}"
        )
        request.config.stash.setdefault(_ROWS, []).append(row)
        benchmark.extra_info.update(ratio=ratio, ours=ours, theirs=theirs)  # type: ignore[attr-defined]

    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    rows = config.stash.get(_ROWS, [])
    if rows:
        terminalreporter.section("ratios, paired round by round")
        for row in rows:
            terminalreporter.write_line(row)
