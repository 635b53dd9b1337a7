"""What stands in the way of trusting a run, in sentences."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic import analysed, manifest, record, server, unmeasured

from bench import caveats


def test_the_line_of_a_strategy_that_serves_one_connection_at_a_time_is_explained() -> None:
    analysis = analysed(record("iterative", 1), record("poll", 1), record("poll", 16))
    assert caveats.why_lines_stop(analysis.run.manifest.strategies, analysis.cases) == [
        "`iterative` serves one connection at a time: it was measured at 1 connection only, and its line stops there."
    ]


def test_nothing_is_explained_where_no_line_stops() -> None:
    analysis = analysed(record("iterative", 1), record("poll", 1))
    assert caveats.why_lines_stop(analysis.run.manifest.strategies, analysis.cases) == []


def test_failed_and_unavailable_trials_are_listed_with_reason_and_number() -> None:
    analysis = analysed(
        unmeasured("select", 1024, 0, "failed", "more than FD_SETSIZE"),
        unmeasured("select", 2048, 0, "failed", "more than FD_SETSIZE"),
        unmeasured("uring", 1, 0, "unavailable", "no io_uring here."),
        record("poll"),
    )
    assert caveats.left_out(analysis.trials) == [
        "`select`: 2 trials failed at 1,024 and 2,048 connections: more than FD_SETSIZE.",
        "`uring`: 1 trial unavailable at 1 connection: no io_uring here.",
    ]


def test_a_strategy_that_takes_no_more_connections_is_told_with_the_number_and_the_reason() -> None:
    full = server(1000, 10, 0.5, refused={"beyond FD_SETSIZE": 8981})
    at_first = record("select", 10_000, 0, status="failed", stops_at=1018, server=full)
    later = record("select", 10_000, 1, status="failed", stops_at=1019, server=full)
    idle = record("select", 1, 0, workload="idle", silent=9999, status="failed", stops_at=1019, server=full)
    assert caveats.stops([at_first, later, idle, record("poll", 10_000)]) == [
        "`select` stops at 1,019 connections: beyond FD_SETSIZE."
    ]
    pipes = record("select", 10_000, transport="pipe", status="failed", stops_at=509, server=full)
    assert caveats.stops([later, pipes]) == [
        "`select` stops at 509 connections (pipe, closed loop): beyond FD_SETSIZE.",
        "`select` stops at 1,019 connections (tcp, closed loop): beyond FD_SETSIZE.",
    ]


def test_client_bound_cases_are_listed_with_their_number() -> None:
    analysis = analysed(
        record("poll", 16, 0, bottleneck="client"), record("poll", 16, 1), record("poll", 1, bottleneck="client")
    )
    assert caveats.client_bound(analysis.cases) == [
        "`poll`: 1 connection (1 of 1 trials) and 16 connections (1 of 2 trials)."
    ]


def test_a_figure_that_could_not_be_read_is_said_to_be_missing_with_the_reason() -> None:
    blind = server(1000, 10, 0.5, missing={"descriptors": "permission denied"})
    assert caveats.missing([record("poll", server=blind), record("select", server=blind), record("epoll_lt")]) == [
        "descriptors could not be read of `poll` and `select`: permission denied."
    ]


def test_an_unfinished_run_says_how_much_is_missing_and_how_to_go_on() -> None:
    about = manifest(["poll"], sweep={"trials_planned": 125})
    assert caveats.unfinished(about, 87, "quick-1") == (
        "This run is unfinished: 87 of 125 trials are recorded. `iobench sweep --resume quick-1` runs the others."
    )


@pytest.mark.parametrize("sweep", [{}, {"trials_planned": 87}, {"trials_planned": "many"}])
def test_a_run_that_is_complete_or_of_unknown_size_is_not_called_unfinished(sweep: dict[str, Any]) -> None:
    assert caveats.unfinished(manifest(["poll"], sweep=sweep), 87, "quick-1") == ""


def test_the_share_of_time_that_was_not_measuring_is_told() -> None:
    trials = analysed(*(record(repeat=index) for index in range(10))).trials
    assert caveats.overhead(trials) == (
        "Of 12.9 s of trials, 78 % was measured, 16 % was warm-up and 7 % was neither: spawning 0.6 s, "
        "connecting 0.1 s, tear-down 0.2 s."
    )
    assert caveats.overhead(trials[:0]) == ""


def test_what_all_trials_have_in_common_is_said_once() -> None:
    trials = analysed(record(connections=1), record(connections=16)).trials
    assert (
        caveats.conditions(trials)
        == "All trials: tcp, 64 bytes, closed loop, 0.2 s of warm-up, 1 s measured, 1 repeat."
    )


def test_a_run_without_a_success_says_that_there_is_nothing_to_compare() -> None:
    assert "No trial of this run was recorded" in caveats.nothing_to_compare(analysed().trials)
    failed = analysed(unmeasured("poll", 1, 0, "failed", "it died"))
    assert "No trial of this run succeeded" in caveats.nothing_to_compare(failed.trials)
    assert caveats.nothing_to_compare(analysed(record()).trials) == ""


def test_a_cpu_quota_is_named_as_what_limited_the_trials_that_it_stopped() -> None:
    trials = analysed(record("poll", 16, 0, flags=["throttled"]), record("poll", 16, 1), record("epoll_lt")).trials
    (said,) = caveats.throttled(trials, {"cpu_quota": 1.5})
    assert said.startswith(
        "A quota of 1.50 CPUs was used up in 1 of 3 good trials (`poll`): it, and no server, was the"
    )
    assert caveats.throttled(trials, {})[0].startswith("A CPU quota was used up in 1 of 3")
    assert caveats.throttled(analysed(record("poll")).trials, {"cpu_quota": 1.5}) == []
    assert caveats.throttled(analysed().trials, {"cpu_quota": 1.5}) == []
