"""What the user sees while trials run: on a terminal and where there is none."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console
from test_run import trial

from bench import progress
from bench.plan import START_S, expected_s, takes_s
from bench.progress import Clock, Lines, LiveDisplay, duration, for_console, outcome
from bench.record import Load, Look, Record, Server, Timing, Trial

SECOND_NS = 10**9


class Time:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(progress, "time", time)
    return time


def ended(one: Trial, completed: int = 50_000, cpu_ns: int = SECOND_NS // 2, **facts: Any) -> Record:
    load = Load(
        opened_ns=0,
        closed_ns=SECOND_NS,
        connections=one.connections,
        planned=completed,
        completed=completed,
        errors={},
        timed_out=0,
        unsent=0,
        in_flight=0,
        bytes_echoed=0,
        interval_ns=SECOND_NS,
        intervals=[completed],
        service_hdr="",
        cpu_user_ns=0,
        cpu_system_ns=0,
        worker_busy=[0.5],
    )
    server = Server(
        pid=1,
        implementation="CPython",
        version="3",
        gil=True,
        cpus=[0],
        opened_ns=0,
        closed_ns=SECOND_NS,
        metrics={"cpu_ns": cpu_ns},
        missing={},
        refused={},
    )
    timing = Timing(spawn_s=0.1, connect_s=0, warmup_s=0.2, window_s=1, teardown_s=0)
    return Record(
        **({"id": one.id, "trial": one, "status": "ok", "load": load, "server": server, "timing": timing} | facts)
    )


def terminal(width: int = 80, height: int = 40) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=width, height=height, color_system=None, _environ={}), out


def drawn(display: LiveDisplay) -> str:
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as captured:
        console.print(display.picture())
    return captured.get()


def planned(trials: Sequence[Trial]) -> dict[str, float]:
    return {one.id: takes_s(one) for one in trials}


TRIALS = [trial(name, connections) for name in ("epoll_lt", "thread_per_connection") for connections in (1, 128)]


def test_lines_where_there_is_no_terminal_and_a_display_where_there_is_one() -> None:
    assert isinstance(for_console(Console(file=io.StringIO()), TRIALS, planned(TRIALS)), Lines)
    console, _ = terminal()
    display = for_console(console, TRIALS, planned(TRIALS))
    display.close()
    assert isinstance(display, LiveDisplay)


def test_a_line_tells_place_trial_figures_and_time_left(time: Time) -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out, width=80), TRIALS, planned(TRIALS))
    lines.setting_starts([TRIALS[0]])
    time.now += 1.01
    lines.trial_ended(ended(TRIALS[0]))
    assert out.getvalue() == "[1/4] epoll_lt tcp x1 64 B #1  50,000 msg/s  10.00 us CPU/msg  3 s left\n"


def test_flags_and_failures_are_in_the_line() -> None:
    assert outcome(ended(TRIALS[0], flags=["client_bound"])).endswith("client_bound")
    assert outcome(ended(TRIALS[0], status="failed", reason="the server died")) == "failed: the server died"


def test_a_reason_with_square_brackets_is_shown_as_it_is() -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out, width=80), TRIALS, planned(TRIALS))
    lines.setting_starts([TRIALS[0]])
    lines.trial_ended(ended(TRIALS[0], status="failed", reason="[red]no[/red] [Errno 5]"))
    assert "failed: [red]no[/red] [Errno 5]" in out.getvalue()


def test_the_time_left_is_the_plan_s_for_those_to_come_and_how_much_longer_it_took_so_far(time: Time) -> None:
    clock = Clock(TRIALS, planned(TRIALS))  # 0.01 s of window in each
    for one in TRIALS[:2]:
        clock.start([one])
        time.now += 5.01
        clock.end_trial(one)
    assert clock.left_s == pytest.approx(2 * 5.01)
    for one in TRIALS[2:]:
        clock.start([one])
        clock.end_trial(one)
    assert clock.left_s == pytest.approx(0)


def test_trials_that_cannot_be_run_take_no_time(time: Time) -> None:
    clock = Clock(TRIALS, planned(TRIALS[:1]))
    for one in TRIALS[1:]:
        clock.start([one])
        clock.end_trial(one)
    assert clock.left_s == pytest.approx(takes_s(TRIALS[0]))


def test_before_the_first_trial_the_time_left_is_that_of_the_plan() -> None:
    many = [*TRIALS, trial("epoll_lt", 10_000)]
    assert Clock(many, planned(many)).left_s == pytest.approx(expected_s(many) - START_S)
    assert Clock(many, planned(many)).left_s > Clock(TRIALS, planned(TRIALS)).left_s + 2


def test_trials_on_several_machines_at_once_take_that_much_less_time(time: Time) -> None:
    clock = Clock(TRIALS, planned(TRIALS), machines=2)
    for one in TRIALS[:2]:
        clock.start([one])
    time.now += 5.01
    for one in TRIALS[:2]:
        clock.end_trial(one)
    assert clock.left_s == pytest.approx(5.01)


def test_a_line_of_a_cluster_tells_the_machine_and_what_became_of_a_host(time: Time) -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out, width=80), TRIALS, planned(TRIALS))
    lines.host("b", "measuring")
    lines.host("b", "it was lost", trouble=True)
    lines.setting_starts([TRIALS[0]])
    lines.trial_ended(ended(TRIALS[0], server_host="a"))
    told, line = out.getvalue().splitlines()
    assert told == "host b: it was lost"
    assert "10.00 us CPU/msg  on a  " in line


def test_the_display_shows_what_each_host_does_and_counts_those_for_which_there_is_no_room(time: Time) -> None:
    console, _ = terminal()
    display = LiveDisplay(console, TRIALS, planned(TRIALS))
    for number in range(11):
        display.host(f"h{number}", "connecting")
    display.host("h1", "measuring " + "long " * 40)
    display.host("h2", "it was lost", trouble=True)
    display.setting_starts([TRIALS[0]])
    picture = drawn(display)
    display.close()
    assert "h0   connecting" in picture and "h1   measuring" in picture and "host h2: it was lost" in picture
    assert "h8" not in picture and "and 3 more hosts" in picture
    assert max(map(len, picture.splitlines())) <= 80


def test_the_display_shows_the_trial_under_way_medians_and_the_time_left(time: Time) -> None:
    console, _ = terminal()
    display = LiveDisplay(console, TRIALS, planned(TRIALS))
    for completed in (10_000, 30_000, 1_234_567):
        display.setting_starts([TRIALS[0]])
        display.trial_ended(ended(TRIALS[0], completed))
    display.setting_starts([TRIALS[3]])
    picture = drawn(display)
    display.close()
    assert "3/4, " in picture and "left: thread_per_connection tcp x128 64 B #1" in picture
    assert "30,000" in picture and "1,234,567" not in picture
    assert "..." in picture
    assert max(map(len, picture.splitlines())) <= 80


def test_the_display_shows_the_last_failures(time: Time) -> None:
    console, _ = terminal()
    display = LiveDisplay(console, TRIALS, planned(TRIALS))
    for number in range(5):
        display.setting_starts([TRIALS[0]])
        display.trial_ended(ended(TRIALS[0], status="failed", reason=f"failure {number} " + "long " * 40))
    display.setting_starts([TRIALS[1]])
    picture = drawn(display)
    display.close()
    assert "failure 1" not in picture and "failure 2" in picture and "failure 4" in picture
    assert max(map(len, picture.splitlines())) <= 80


def test_many_axes_and_long_names_stay_within_80_columns(time: Time) -> None:
    trials = [trial("a_strategy_with_a_very_long_name_" * 3, connections) for connections in range(1, 40)]
    console, _ = terminal()
    display = LiveDisplay(console, trials, planned(trials))
    display.setting_starts([trials[0]])
    display.trial_ended(ended(trials[0], 123_456_789))
    display.setting_starts([trials[1]])
    picture = drawn(display)
    display.close()
    assert max(map(len, picture.splitlines())) <= 80
    assert "123,456,789" in picture


def test_nothing_is_drawn_between_the_start_of_a_trial_and_its_first_tick(time: Time) -> None:
    console, out = terminal()
    display = LiveDisplay(console, TRIALS, planned(TRIALS))
    display.setting_starts([TRIALS[0]])
    size = len(out.getvalue())
    display.trial_ended(ended(TRIALS[0]))
    assert len(out.getvalue()) == size
    display.tick()
    assert len(out.getvalue()) > size
    display.close()


def test_the_table_stays_when_the_display_is_closed(time: Time) -> None:
    console, _ = terminal()
    display = LiveDisplay(console, TRIALS, planned(TRIALS))
    display.setting_starts([TRIALS[0]])
    display.trial_ended(ended(TRIALS[0]))
    display.close()
    picture = drawn(display)
    assert "50,000" in picture and "left" not in picture and "..." not in picture


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (143, "2 min 23 s"),
        (3600, "1 h 00 min"),
        (90061, "25 h 01 min"),
    ],
)
def test_durations_are_told_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def look(**changes: Any) -> Look:
    return Look(**{"round": 6, "elapsed_s": 61.0, "decided": 14, "comparisons": 27, **changes})


def test_a_look_tells_how_much_is_decided_and_who_is_ahead() -> None:
    console, out = Console(file=io.StringIO(), width=200), io.StringIO()
    console.file = out
    lines = Lines(console, [], {}, budget_s=120.0)
    lines.looked(look(), "ahead by throughput at 1 connection: poll")
    assert out.getvalue() == (
        "After round 6, 1 min 01 s: 14 of 27 comparisons with the best are decided; "
        "ahead by throughput at 1 connection: poll.\n"
    )


def test_with_a_budget_a_line_tells_the_round_and_what_is_left_of_the_time(time: Time) -> None:
    out = io.StringIO()
    lines = Lines(Console(file=out, width=200), TRIALS, planned(TRIALS), budget_s=120.0)
    lines.round_starts(4, 30.0)
    lines.setting_starts(TRIALS[:1])
    time.now += 10
    lines.trial_ended(ended(TRIALS[0]))
    assert out.getvalue().startswith("[round 4] ")
    assert out.getvalue().endswith("1 min 20 s left\n")


def test_the_display_marks_all_that_take_turns_and_keeps_the_last_look() -> None:
    console, _ = terminal()
    together = [trial(name, 16) for name in ("epoll_lt", "poll", "select")]
    display = LiveDisplay(console, together, planned(together), budget_s=60.0)
    display.round_starts(2, 10.0)
    display.setting_starts(together)
    display.looked(look(), "")
    shown = drawn(display)
    assert "round 2, " in shown
    assert "3 strategies, tcp x16 64 B #1" in shown
    assert shown.count("...") == 3
    assert "14 of 27 comparisons with the best are decided" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
