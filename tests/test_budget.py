"""A run with a budget: rounds until all is decided or the time is up, looks on the way, and going on with one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from test_settings import known

from bench import budget
from bench.budget import LOOKS, Budget, Standing, spent_s
from bench.plan import FEWEST_ROUNDS, Plan, make_plan, takes_s
from bench.progress import Progress
from bench.record import Look, Manifest, Record, Timing, Trial, read_manifest, write_manifest
from bench.settings import Setting, setting_of
from bench.sweep import from_values


class Time:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Heard(Progress):
    """What a run tells of itself."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.looks: list[Look] = []

    def note(self, text: str) -> None: ...
    def round_starts(self, number: int, elapsed_s: float) -> None:
        self.rounds.append(number)

    def looked(self, look: Look, leaders: str) -> None:
        self.looks.append(look)

    def setting_starts(self, trials: Iterable[Trial]) -> None: ...
    def tick(self) -> None: ...
    def trial_ended(self, record: Record) -> None: ...
    def close(self) -> None: ...


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(budget, "time", made)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path, Manifest(sweep={}, strategies=[], host={}, versions={}, created="", command=[]))
    return tmp_path


def planned(budget_s: float, **values: Any) -> Plan:
    fields = {"strategies": ["a", "b"], "connections": [1, 8], "budget_s": budget_s, "duration_s": 0.5, "warmup_s": 0}
    return make_plan(from_values("b", fields | values, "b"), known("a", "b"))


def record(trial: Trial) -> Record:
    timing = Timing(spawn_s=0.0, connect_s=0.0, warmup_s=0.0, window_s=takes_s(trial), teardown_s=0.0)
    return Record(id=trial.id, trial=trial, status="ok", timing=timing)


def go_through(
    made: Budget, records: dict[str, Record], time: Time, heard: Heard, each: Callable[[Setting], None] = lambda _: None
) -> list[Setting]:
    """Measure all that comes, in a time that is exactly as planned."""
    settings = []
    for setting in made.upcoming(records, heard):
        settings.append(setting)
        time.now += sum(map(takes_s, setting.trials))
        records.update({trial.id: record(trial) for trial in setting.trials})
        each(setting)
    return settings


def nothing_decided() -> Standing:
    open_settings = [{**setting_of(trial)} for trial in planned(1.0).cases]
    return Standing(0, 4, open_settings)


def round_s(plan: Plan) -> float:
    return sum(map(takes_s, plan.round(1)))


def test_rounds_go_on_until_there_is_no_time_for_another(time: Time, folder: Path) -> None:
    plan = planned(20.0)
    heard, records = Heard(), dict[str, Record]()
    go_through(Budget(plan, folder, nothing_decided, 0.0), records, time, heard)
    assert len(records) == len(plan.cases) * int(20.0 // round_s(plan))
    assert heard.rounds[-1] == int(20.0 // round_s(plan))
    assert time.now - 100.0 <= 20.0


def test_a_few_rounds_are_run_however_small_the_budget(time: Time, folder: Path) -> None:
    heard, records = Heard(), dict[str, Record]()
    plan = planned(0.001)
    go_through(Budget(plan, folder, nothing_decided, 0.0), records, time, heard)
    assert heard.rounds == list(range(1, FEWEST_ROUNDS + 1))
    assert {one.id for one in plan.trials} == set(records)


def test_the_records_are_looked_at_in_equal_steps_of_the_budget_but_for_the_last_look(time: Time, folder: Path) -> None:
    heard = Heard()
    plan = planned(30.0)
    go_through(Budget(plan, folder, nothing_decided, 0.0), {}, time, heard)
    assert len(heard.looks) == LOOKS - 1
    for number, look in enumerate(heard.looks, start=1):
        assert 30.0 * number / LOOKS <= look.elapsed_s < 30.0 * number / LOOKS + round_s(plan)
    assert read_manifest(folder).looks == heard.looks


def test_a_setting_that_is_decided_stops_and_its_time_goes_to_the_others(time: Time, folder: Path) -> None:
    plan = planned(30.0)
    left = [{**setting_of(trial)} for trial in plan.cases if trial.connections == 8]
    heard, records = Heard(), dict[str, Record]()
    settings = go_through(Budget(plan, folder, lambda: Standing(2, 4, left), 0.0), records, time, heard)
    closed_after = heard.looks[0].round
    assert [one["connections"] for one in heard.looks[0].closed] == [1]
    rounds_of = {
        number: [setting.trials[0].repeat for setting in settings if setting.trials[0].connections == number]
        for number in (1, 8)
    }
    assert rounds_of[1] == list(range(1, closed_after + 1))
    assert len(rounds_of[8]) > 30.0 // round_s(plan)


def test_the_run_ends_as_soon_as_all_is_decided(time: Time, folder: Path) -> None:
    heard = Heard()
    go_through(Budget(planned(30.0), folder, lambda: Standing(4, 4, []), 0.0), {}, time, heard)
    assert len(heard.looks) == 1
    assert time.now - 100.0 < 30.0 / LOOKS + 3


def test_a_closed_loop_whose_rate_others_go_by_goes_on_with_them(time: Time, folder: Path) -> None:
    plan = planned(40.0, connections=[1], workloads=["closed", {"kind": "open", "load": [0.5]}])
    left = [{**setting_of(trial)} for trial in plan.cases if trial.load_fraction]
    settings = go_through(Budget(plan, folder, lambda: Standing(2, 4, left), 0.0), {}, time, Heard())
    counts = [sum(bool(one.trials[0].load_fraction) is fraction for one in settings) for fraction in (True, False)]
    assert counts[0] == counts[1]


def test_a_run_that_is_gone_on_with_has_what_is_left_of_its_budget_and_stops_nothing_twice(
    time: Time, folder: Path
) -> None:
    plan = planned(30.0)
    left = [{**setting_of(trial)} for trial in plan.cases if trial.connections == 8]
    records: dict[str, Record] = {}

    class KilledError(Exception):
        pass

    def until_18_s(_: Setting) -> None:
        if time.now > 118.0:
            raise KilledError

    with pytest.raises(KilledError):
        go_through(Budget(plan, folder, lambda: Standing(2, 4, left), 0.0), records, time, Heard(), until_18_s)
    before = set(records)
    time.now += 1000.0
    resumed_at = time.now
    heard = Heard()
    spent = spent_s(records.values())
    settings = go_through(Budget(plan, folder, lambda: Standing(2, 4, left), spent), records, time, heard)
    assert spent == pytest.approx(18.0, abs=2.0)
    assert time.now - resumed_at == pytest.approx(30.0 - spent, abs=2.0)
    assert {setting.trials[0].connections for setting in settings} == {8}
    assert not before & {trial.id for setting in settings for trial in setting.trials}
    assert len(heard.looks) == LOOKS - 2


def test_the_same_rounds_come_again_in_the_same_order(time: Time, folder: Path) -> None:
    orders = []
    for _ in range(2):
        settings = go_through(Budget(planned(5.0), folder, nothing_decided, 0.0), {}, time, Heard())
        orders.append([trial.id for setting in settings for trial in setting.trials])
    assert orders[0] == orders[1] != []
