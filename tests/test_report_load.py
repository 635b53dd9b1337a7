"""The page and the summary of runs with planned sends, searches, flags and a calibration."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import load_sweep, manifest, open_record, record, searched, workloads, write_run
from synthetic_calibration import calibration
from test_report import Page

import report
from bench.record import Record

NAMES = ["asyncio_streams", "epoll_lt", "poll", "thread_per_connection"]


def page_of(folder: Path) -> Page:
    return Page(report.write(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def load_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    about = manifest(NAMES, sweep={"name": "load"}, calibration=calibration())
    folder = write_run(tmp_path_factory.mktemp("results") / "load", load_sweep(), about)
    report.write(folder)
    return folder


@pytest.fixture(scope="module")
def page(load_run: Path) -> Page:
    return Page((load_run / "report.html").read_text(encoding="utf-8"))


def test_the_answer_says_first_who_keeps_up_with_most(page: Page) -> None:
    answer = "Highest rate that was kept up with 16 connections: epoll_lt with 109,000 messages/s, p99 317 µs"
    assert answer in page.words


def test_each_strategys_curve_is_told_in_a_sentence(page: Page) -> None:
    for name in NAMES:
        assert f"{name} keeps up with " in page.words


def test_every_point_of_the_curves_is_in_a_table_with_lower_bounds_and_doubts_marked(page: Page) -> None:
    assert "Each of the 32 points" in page.words
    assert "client bound; censored" in page.words
    assert "≥ 43,100 38,400" not in page.words  # a limit that unfinished messages leave open is not made up
    assert "≥ 43,100 from 38,400" in page.words


def test_the_figure_of_latency_over_load_is_there_and_that_of_throughput_is_not(load_run: Path) -> None:
    assert (load_run / "load.svg").exists()
    assert (load_run / "load.png").exists()
    assert not (load_run / "throughput.svg").exists()


def test_service_time_and_lag_stand_beside_the_latency(page: Page) -> None:
    headings = {attributes.get("title") for attributes in page.all("button")}
    assert {"p99 latency", "p99 service time, from the actual send"} <= headings
    assert "p99 schedule lag, from the planned to the actual send" in headings
    assert "p99 response time, from the planned send" not in headings  # it is the latency


def test_flags_are_counted_and_explained(page: Page) -> None:
    trust = page.words[page.words.index("Flags flag trials what it means") :]
    assert "client bound 2 The load generator, not the server, was the limit" in trust
    assert "censored 16 Messages were still waited for when the window closed" in trust


def test_the_calibration_is_shown_claim_by_claim(page: Page) -> None:
    assert "The load generator proved 1 of 3 claims about itself on this machine; failed: echo faults" in page.words
    assert "p99 891 to 919 ms, by theory 905 903 ms passed" in page.words
    assert "faults found 1,000 999 failed" in page.words


def test_without_a_calibration_the_page_says_how_to_make_one(tmp_path: Path) -> None:
    found = page_of(write_run(tmp_path / "run", [record()]))
    assert "iobench calibrate does it in a few minutes" in found.words


def test_percentiles_have_their_intervals_in_a_table_of_their_own(page: Page) -> None:
    start = page.words.index("Percentiles with their 95 % intervals")
    table = page.words[start : page.words.index("How far to trust this", start)]
    for kind in ("response", "service", "lag"):
        assert f" {kind} " in table


def test_the_summary_for_a_pull_request_has_the_load_too(load_run: Path) -> None:
    text = (load_run / "report.md").read_text(encoding="utf-8")
    assert text.index("Highest rate that was kept up with") < text.index("| strategy")
    assert "`poll` keeps up with 93,600 messages/s" in text
    assert "![Latency as the offered load rises](load.png)" in text


# --- searches


def test_what_a_search_found_comes_first_and_is_told_for_each_strategy(tmp_path: Path) -> None:
    records, searches = searched()
    about = manifest(["epoll_lt", "poll"], searches=searches)
    folder = write_run(tmp_path / "slo", [record("epoll_lt"), record("poll"), *records], about)
    found = page_of(folder)
    first = found.words.index("Highest rate that holds p99 < 5 ms 16 connections: epoll_lt with 98,400 messages/s")
    assert first < found.words.index("Most messages per second")
    assert "poll held p99 < 5 ms up to 85,300 messages/s and missed it at 93,600 messages/s" in found.words
    assert "`poll` held p99 &lt; 5 ms up to" in (folder / "report.md").read_text(encoding="utf-8")


def test_a_search_without_an_answer_has_a_page(tmp_path: Path) -> None:
    _, searches = searched()
    about = manifest(["epoll_lt", "poll"], searches=searches)
    assert "poll held" in page_of(write_run(tmp_path / "slo", [], about)).words


# --- other workloads


def test_every_workload_has_its_figures_in_one_page(tmp_path: Path) -> None:
    found = page_of(write_run(tmp_path / "run", workloads()))
    headings = {attributes.get("title") for attributes in found.all("button")}
    assert {"megabytes echoed per second", "p99 time to connect", "messages per server CPU-second"} <= headings
    for setting in (
        "churn workload",
        "2,000 silent connections",
        "stream workload, depth 8",
        "40,000 messages/s planned",
    ):
        assert setting in found.words, setting


def test_a_single_planned_rate_is_no_curve(tmp_path: Path) -> None:
    found = page_of(write_run(tmp_path / "run", [open_record("poll", 1000, 5000)]))
    assert "Latency over offered load" not in found.words
    assert len([attributes for attributes in found.all("figure") if attributes["id"] == "figure-load"]) == 0


@pytest.mark.parametrize(
    "records",
    [
        [open_record("poll", rate, 1e5, flags=("client_bound", "unsteady")) for rate in (1000, 2000)],
        [open_record("poll", rate, 100) for rate in (50, 80, 200)],
        [open_record(f"s{index:02d}", rate, 1e5) for index in range(40) for rate in (1e4, 5e4)],
        [
            open_record("poll", rate, 1e5, connections=count, transport=transport, cap=cap)
            for rate in (1e4, 5e4)
            for count in (1, 16)
            for transport in ("tcp", "unix")
            for cap in (0, 64)
        ],
    ],
    ids=["nothing to trust", "too few for p99", "forty strategies", "many settings"],
)
def test_any_open_loop_has_a_report(tmp_path: Path, records: list[Record]) -> None:
    found = page_of(write_run(tmp_path / "run", records))
    assert found.all("figure")
