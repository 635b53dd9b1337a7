"""`iobench why` as a command: what it refuses and writes, and what becomes of a report. The counting is made up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from synthetic import manifest, record, why, write_run

from bench import host
from bench.catalogue import list_strategies
from bench.commands import why as asked
from bench.errors import BadInputError
from bench.load import LoadFailedError
from bench.plan import make_plan
from bench.record import StrategyInfo, read_manifest
from bench.run import start_run
from bench.sweep import Sweep
from bench.why import command, files
from bench.why.counts import Counts, Point, Why


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Nothing is started; what would have been counted is noted."""
    asked: list[tuple[str, str, str]] = []

    @contextmanager
    def benched() -> Iterator[None]:
        yield None

    def count_strategy(bench: None, info: StrategyInfo, transport: str, *, python: str, tell: Any) -> Counts:
        asked.append((info.name, transport, python))
        if info.name == "select":
            reasons = [Point(burst=1, reason="the server never said that it was ready")]
            return Counts(strategy="select", transport="tcp", message_bytes=64, created="", points=reasons)
        return msgspec.structs.replace(msgspec.convert(why(info.name), Why).counts[0], transport=transport)

    monkeypatch.setattr(command, "benched", benched)
    monkeypatch.setattr(command, "count_strategy", count_strategy)
    return asked


def test_tables_and_sentences_are_printed_and_the_file_is_written(
    made_up: list[tuple[str, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked.why(["epoll_lt", "poll", "epoll_lt"], "unix", "", None, tmp_path) == 0
    assert made_up == [("epoll_lt", "unix", ""), ("poll", "unix", "")]
    out = capsys.readouterr().out
    assert "epoll_lt on unix makes 2.02 system calls" in " ".join(out.split())
    assert out.endswith(f"{tmp_path / 'why.json'}\n")
    assert max(map(len, out.splitlines()[:-1])) <= 80
    written = files.read(tmp_path)
    assert written is not None
    assert [counts.strategy for counts in written.counts] == ["epoll_lt", "poll"]


def test_with_a_run_its_strategies_are_counted_and_its_report_shows_them(
    made_up: list[tuple[str, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = manifest(["epoll_lt", "poll", "somebody_else"])
    folder = write_run(tmp_path / "run", [record("epoll_lt"), record("poll"), record("somebody_else")], about)
    assert asked.why([], "tcp", "", str(folder), tmp_path) == 0
    assert [name for name, *_ in made_up] == ["epoll_lt", "poll"]
    assert [counts.strategy for counts in files.understood(read_manifest(folder).why)] == ["epoll_lt", "poll"]
    assert 'id="why"' in (folder / "report.html").read_text(encoding="utf-8")
    assert capsys.readouterr().out.endswith(f"{folder / 'report.html'}\n")


def test_a_strategy_that_could_not_be_counted_makes_the_exit_code_1(
    made_up: list[tuple[str, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked.why(["select"], "tcp", "", None, tmp_path) == 1
    assert "never said that it was ready" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("names", "transport", "python", "run", "what"),
    [
        ([], "tcp", "", None, "Name a strategy"),
        (["epol_lt"], "tcp", "", None, "did you mean 'epoll_lt'"),
        (["epoll_lt"], "tpc", "", None, "does not serve 'tpc'"),
        (["epoll_lt"], "tcp", "no-such-python", None, "there is no no-such-python on PATH"),
        (["epoll_lt"], "tcp", "", "no-such-run", "There is no run folder no-such-run"),
    ],
)
def test_bad_input_is_told_with_a_next_step_before_anything_is_counted(
    made_up: list[tuple[str, str, str]],
    tmp_path: Path,
    names: list[str],
    transport: str,
    python: str,
    run: str | None,
    what: str,
) -> None:
    with pytest.raises(BadInputError, match=what) as caught:
        asked.why(names, transport, python, run, tmp_path)
    assert caught.value.next_step
    assert made_up == []


def test_a_load_generator_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @contextmanager
    def benched() -> Iterator[None]:
        raise LoadFailedError("it died", fatal=True)
        yield None

    monkeypatch.setattr(command, "benched", benched)
    with pytest.raises(BadInputError, match="can't be started: it died"):
        asked.why(["epoll_lt"], "tcp", "", None, tmp_path)


def test_a_new_run_takes_what_was_counted_of_its_strategies_into_its_manifest(tmp_path: Path) -> None:
    layout = host.choose_cpus()
    sweep = Sweep(name="one", strategies=("epoll_lt",))
    plan = make_plan(sweep, list_strategies()[0])
    assert read_manifest(start_run(tmp_path, sweep, plan, layout)).why is None
    counted = msgspec.structs.replace(msgspec.convert(why("epoll_lt", "poll"), Why), host=host.describe(layout))
    files.write(tmp_path, counted)
    found = files.understood(read_manifest(start_run(tmp_path, sweep, plan, layout)).why)
    assert [counts.strategy for counts in found] == ["epoll_lt"]


def test_what_was_counted_is_written_before_it_is_told(
    made_up: list[tuple[str, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tell(_: object) -> None:
        raise UnicodeEncodeError("ascii", "µ", 0, 1, "ordinal not in range(128)")

    monkeypatch.setattr(command, "tell", tell)
    folder = write_run(tmp_path / "run", [record("poll")], manifest(["poll"]))
    with pytest.raises(UnicodeEncodeError):
        asked.why([], "tcp", "", str(folder), tmp_path)
    written = files.read(tmp_path)
    assert written is not None
    assert [counts.strategy for counts in written.counts] == ["poll"]
    assert [counts.strategy for counts in files.understood(read_manifest(folder).why)] == ["poll"]


UNREADABLE = ["", "{", '{"counts": 1}', '{"counts": [], "host": {}, "versions": {}, "command": 3}']


@pytest.mark.parametrize("text", UNREADABLE)
def test_counts_that_can_not_be_read_are_not_overwritten_and_nothing_is_counted(
    made_up: list[tuple[str, str, str]], tmp_path: Path, text: str
) -> None:
    (tmp_path / "why.json").write_text(text)
    with pytest.raises(BadInputError, match=r"why\.json can't be read") as told:
        asked.why(["poll"], "tcp", "", None, tmp_path)
    assert told.value.next_step.startswith(f"mv {tmp_path / 'why.json'} ")
    assert made_up == []
    assert (tmp_path / "why.json").read_text() == text


def test_a_run_that_can_not_be_written_to_is_refused_before_anything_is_counted(
    made_up: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    folder = write_run(tmp_path / "run", [record("poll")], manifest(["poll"]))
    (folder / "manifest.json.part").mkdir()  # what is written in one step is written there first
    with pytest.raises(BadInputError, match=r"manifest\.json can't be written: Is a directory"):
        asked.why([], "tcp", "", str(folder), tmp_path)
    assert made_up == []


def test_a_new_run_goes_without_counts_that_can_not_be_read_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "why.json").write_text("{")
    sweep = Sweep(name="one", strategies=("epoll_lt",))
    plan = make_plan(sweep, list_strategies()[0])
    with pytest.warns(UserWarning, match=r"why\.json can't be read: .*; the run goes without it"):
        folder = start_run(tmp_path, sweep, plan, host.choose_cpus())
    assert read_manifest(folder).why is None
