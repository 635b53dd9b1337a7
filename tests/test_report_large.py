"""Reports of runs that are larger than a page: what is cut, where the rest is, and statistics that stay bounded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import analysed, record, write_default, write_run

import report
from bench import drawing, page, trust
from bench.analyse import analyse
from bench.clusters import two_groups
from bench.figures import bounded
from bench.record import read_run


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """These are about tables."""
    monkeypatch.setattr(drawing, "draw", lambda *_: [])


@pytest.fixture
def ten_rows_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_LISTED", 10)


@pytest.mark.usefixtures("ten_rows_at_most")
def test_tables_are_cut_and_the_whole_of_them_is_in_files_that_the_page_links_to(tmp_path: Path) -> None:
    folder = write_default(tmp_path / "run")
    html = report.write(folder).read_text(encoding="utf-8")
    analysis = analyse(read_run(folder))
    assert len(pd.read_csv(folder / "trials.csv")) == len(analysis.trials)
    assert len(pd.read_csv(folder / "cases.csv")) == len(analysis.estimates)
    assert 'href="trials.csv"' in html and 'href="cases.csv"' in html
    assert f"The first 10 of {len(analysis.cases)} cases" in html
    table = html.partition('aria-label="Table of every case"')[2].partition("</table>")[0]
    assert len(re.findall(r"<tr data-strategy", table)) == 10
    assert "Table of every trial" not in html


def test_a_page_that_has_room_for_everything_comes_without_such_files(tmp_path: Path) -> None:
    folder = write_default(tmp_path / "run")
    html = report.write(folder).read_text(encoding="utf-8")
    assert not list(folder.glob("*.csv"))
    assert not {"trials.csv", "cases.csv"} & {*re.findall(r"\w+\.csv", html)}


@pytest.mark.usefixtures("ten_rows_at_most")
def test_the_rows_of_the_files_are_the_same_each_time(tmp_path: Path) -> None:
    folder = write_default(tmp_path / "run")
    report.write(folder)
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    report.write(folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before


@pytest.fixture(scope="module")
def many_sizes() -> pd.DataFrame:
    """Throughputs at 15 message sizes, each at three numbers of connections."""
    records = [
        record(name, connections, message_bytes=2**size)
        for name in ("epoll_lt", "poll")
        for connections in (1, 16, 64)
        for size in range(15)
    ]
    analysis = analysed(*records)
    return analysis.estimates[analysis.estimates["metric"] == "rate_hz"]


def test_a_figure_has_a_panel_for_a_dozen_settings_and_says_how_many_there_are(many_sizes: pd.DataFrame) -> None:
    rows, note = bounded(many_sizes)
    assert sorted(rows["message_bytes"].unique()) == [2**size for size in range(12)]
    assert note == "The first 12 of 15 settings are drawn; the tables have all of them."
    few = many_sizes[many_sizes["message_bytes"] < 100]
    assert bounded(few)[0] is few and bounded(few)[1] == ""


def test_a_figure_with_a_panel_for_each_number_of_connections_has_two_dozen_of_whole_settings(
    many_sizes: pd.DataFrame,
) -> None:
    rows, note = bounded(many_sizes, each=("connections",))
    assert sorted(rows["message_bytes"].unique()) == [2**size for size in range(8)]
    assert sorted(rows["connections"].unique()) == [1, 16, 64]
    assert note == "The first 8 of 15 settings are drawn; the tables have all of them."


def test_a_setting_with_more_panels_than_a_figure_has_room_for_is_drawn_alone() -> None:
    records = [record("poll", count, message_bytes=size) for size in (64, 1024) for count in range(1, 31)]
    curves = analysed(*records).curves
    rows, note = bounded(curves, each=("connections",))
    assert set(rows["message_bytes"]) == {64}
    assert rows["connections"].nunique() == 30
    assert note == "The first of 2 settings is drawn; the tables have all of them."


def test_noise_is_told_of_thousands_of_repeats_from_a_part_of_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    one = record()
    trials = analyse(read_run(write_run(tmp_path / "run", [one, record(repeat=1)]))).trials
    many = pd.concat([trials] * 2000, ignore_index=True)
    many["rate_hz"] = 1e5 * rng.lognormal(0, 0.01, len(many))
    gaps = trust._gaps(many, "rate_hz")
    assert len(gaps) <= trust.MOST_PAIRED**2 / 2
    assert float(np.median(gaps)) == pytest.approx(0.0096, rel=0.1)  # of two normal logarithms with deviation 1 %


def test_two_groups_of_thousands_are_found() -> None:
    rng = np.random.default_rng(2)
    values = [*rng.uniform(6.4, 6.6, 3000), *rng.uniform(25.8, 26.2, 2000)]
    rng.shuffle(values)
    found = two_groups(values)
    assert found is not None
    assert (found.lows, found.highs) == (3000, 2000)
