"""A calibration from the rig to the file: verdicts, disturbances, stops, the table, and claims of the real thing."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from spawn import ROOT, WAIT_S, eventually

from bench import host
from bench.calibrate import books, faults, histograms, report, run, yardstick
from bench.calibrate.claim import Check, Claim, Finding, Outcome, around, at_least, at_most, check, exactly, judge
from bench.calibrate.freeze import freezing
from bench.calibrate.peers import FAULTS, SERVICES
from bench.calibrate.rig import Rig
from bench.calibrate.watch import Disturbance, Reading, disturbances, read_cpus, worst
from bench.calibrate.yardstick import gaps_vary, note_uneven, spread_us
from bench.errors import BadInputError
from bench.load import LoadFailedError
from bench.load_pool import LoadPool
from bench.processes import Guard
from bench.server import ServerFailedError
from clients.payload import bases, message

GOOD = at_most("good", 1, 2)
TIMED = at_most("timed", 3, 2)
EXACT = exactly("exact", 3, 2)


# --- verdicts


def test_a_claim_passes_if_all_its_figures_are_in_range() -> None:
    assert judge([GOOD, exactly("same", 2, 2)], []) == ("passed", "")
    assert judge([GOOD], ["other processes took 50 %"]) == ("passed", "")


def test_a_figure_out_of_range_fails_the_claim() -> None:
    assert judge([GOOD, TIMED], []) == ("failed", "timed out of range")


def test_a_disturbance_excuses_a_figure_that_depends_on_time_and_no_other() -> None:
    verdict, reason = judge([TIMED], ["another process"])
    assert verdict == "inconclusive"
    assert reason == "timed out of range, and another process"
    assert judge([EXACT], ["another process"])[0] == "failed"
    assert judge([TIMED, EXACT], ["another process"])[0] == "failed"


def test_nothing_measured_is_no_pass() -> None:
    assert judge([], [])[0] == "failed"
    assert not at_most("missing", None, 2).holds
    assert not at_least("not a number", math.nan, 0).holds


def test_limits_belong_to_the_range() -> None:
    assert around("", 3.0, 2.0, 1.0).holds
    assert around("", 1.0, 2.0, 1.0).holds
    assert not around("", 3.1, 2.0, 1.0).holds
    assert at_least("", 2, 2).holds


def claim(*outcomes: Outcome | Exception, disturbed: bool = False, name: str = "a claim") -> tuple[Claim, list[int]]:
    """A claim that comes to these outcomes, one after the other, and the list of its measurements."""
    measured: list[int] = []

    def measure(rig: Rig) -> Outcome:
        outcome = outcomes[len(measured)]
        measured.append(1)
        if disturbed:
            rig.disturbances.append(Disturbance("other processes took {} of the CPUs in use", 0.5))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Claim(name, "it holds", measure), measured


def outcome(*checks: Check) -> Outcome:
    return Outcome(list(checks), {"n": 1.0}, [])


@pytest.fixture
def no_rig() -> Iterator[Rig]:
    """A rig for claims that start nothing."""
    guard = Guard()
    yield Rig(guard, host.CpuLayout([0], [0], [0], shared=False), LoadPool(guard, [0]), [], False)
    guard.close()


def test_a_disturbed_claim_is_measured_once_more(no_rig: Rig) -> None:
    better, measured = claim(outcome(TIMED), outcome(GOOD), disturbed=True)
    finding = run.examine(better, no_rig)
    assert (finding.verdict, finding.attempts, len(measured)) == ("passed", 2, 2)

    worse, measured = claim(outcome(TIMED), outcome(TIMED), outcome(GOOD), disturbed=True)
    finding = run.examine(worse, no_rig)
    assert (finding.verdict, finding.attempts, len(measured)) == ("inconclusive", 2, 2)
    assert finding.disturbances == ["other processes took 50% of the CPUs in use"]


def test_a_quick_calibration_measures_a_disturbed_claim_only_once(no_rig: Rig) -> None:
    no_rig.quick = True
    disturbed, measured = claim(outcome(TIMED), outcome(GOOD), disturbed=True)
    finding = run.examine(disturbed, no_rig)
    assert (finding.verdict, finding.attempts, len(measured)) == ("inconclusive", 1, 1)


def test_a_claim_that_fails_on_a_quiet_machine_is_not_measured_again(no_rig: Rig) -> None:
    finding = run.examine(claim(outcome(TIMED))[0], no_rig)
    assert (finding.verdict, finding.attempts) == ("failed", 1)


def test_one_core_for_both_sides_is_a_disturbance(no_rig: Rig) -> None:
    no_rig.layout = no_rig.layout._replace(shared=True)
    finding = run.examine(claim(outcome(TIMED), outcome(TIMED))[0], no_rig)
    assert finding.verdict == "inconclusive"
    assert "share one core" in finding.reason


def test_a_load_generator_without_a_result_fails_and_a_peer_that_is_missing_does_not_tell(no_rig: Rig) -> None:
    dead = LoadFailedError("it died", fatal=True)
    finding = run.examine(claim(dead, dead)[0], no_rig)
    assert (finding.verdict, finding.reason, finding.attempts) == ("failed", "it died", 2)
    assert run.examine(claim(dead, outcome(GOOD))[0], no_rig).verdict == "passed"
    missing = ServerFailedError("no peer")
    finding = run.examine(claim(missing, missing)[0], no_rig)
    assert (finding.verdict, finding.reason) == ("inconclusive", "it could not be measured: no peer")


def test_the_books_are_balanced_after_all_other_claims_and_shown_in_their_place(
    no_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def named(name: str) -> Claim:
        def measure(rig: Rig) -> Outcome:
            order.append(name)
            return outcome(GOOD)

        return Claim(name, "", measure)

    last = named("conservation")
    monkeypatch.setattr(books, "CONSERVATION", last)
    findings = run.examine_all([named("one"), last, named("two")], no_rig, lambda line: None)
    assert order == ["one", "two", "conservation"]
    assert [finding.claim for finding in findings] == ["one", "conservation", "two"]


def test_there_are_twelve_claims_in_the_order_of_their_numbers() -> None:
    assert [one.name for one in run.CLAIMS] == [
        "stall",
        "known service",
        "arrivals",
        "schedule lag",
        "head-room",
        "echo faults",
        "conservation",
        "censoring",
        "histogram",
        "merging",
        "intervals",
        "self-cost",
    ]


# --- disturbances

SECOND = 10**9


def reading(**changes: object) -> Reading:
    values = {"at_ns": 0, "busy_ns": 0, "stolen_ns": 0, "used_ns": {1: 0}, "waited_ns": {1: 0}}
    return Reading(**values | changes)  # type: ignore[arg-type]


def told(after: Reading) -> list[str]:
    return [str(one) for one in disturbances(reading(), after, {1: "the peer"}, cpus=2)]


def test_a_quiet_machine_has_no_disturbances() -> None:
    assert told(reading(at_ns=SECOND, busy_ns=1_050_000_000, used_ns={1: SECOND}, waited_ns={1: 10**6})) == []


def test_stolen_time_foreign_processes_and_waiting_are_told_with_their_share() -> None:
    assert told(reading(at_ns=SECOND, stolen_ns=100_000_000)) == ["the hypervisor stole 5.0% of the CPU time"]
    assert told(reading(at_ns=SECOND, busy_ns=SECOND, used_ns={1: SECOND // 2})) == [
        "other processes took 25% of the CPUs in use"
    ]
    assert told(reading(at_ns=SECOND, waited_ns={1: 20_000_000, 2: SECOND})) == [
        "the peer waited 2.0% of the time for a CPU"
    ]


def test_a_yardstick_that_varies_more_than_is_allowed_is_told(no_rig: Rig) -> None:
    note_uneven(no_rig, "a plain round trip varies by 49 us (p99 - p50)", 49.0, 50.0)
    assert no_rig.disturbances == []
    note_uneven(no_rig, "a plain round trip varies by 81 us (p99 - p50)", 81.4, 50.0)
    assert [str(one) for one in no_rig.disturbances] == ["a plain round trip varies by 81 us (p99 - p50)"]


def test_the_gaps_of_a_plain_timer_are_as_long_as_asked_for_but_for_what_the_machine_adds(
    no_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SteadyClock(late_ns=0)
    monkeypatch.setattr(yardstick, "time", clock)
    assert gaps_vary(no_rig, 100) < 0.01
    clock.late_ns = 2_000_000
    assert gaps_vary(no_rig, 100) > 0.1


class SteadyClock:
    """A clock that a reading advances by a microsecond, and whose thirtieth sleep ends too late."""

    def __init__(self, late_ns: int) -> None:
        self.now_ns, self.late_ns, self.sleeps = 0, late_ns, 0

    def monotonic_ns(self) -> int:
        self.now_ns += 1000
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        self.now_ns += int(seconds * 1e9) + (self.late_ns if self.sleeps % 30 == 0 else 0)


def test_the_worst_of_each_kind_is_kept() -> None:
    found = worst([Disturbance("a {}", 0.1), Disturbance("b {}", 0.2), Disturbance("a {}", 0.3)])
    assert [str(one) for one in found] == ["a 30%", "b 20%"]


def test_processes_and_stolen_time_are_read_for_the_cpus_in_use(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 9 9 9 9 4 0 0\ncpu1 10 20 30 9 9 9 9 40 0 0\nctxt 5\n")
    tick = SECOND // os.sysconf("SC_CLK_TCK")
    assert read_cpus([0], stat) == (6 * tick, 4 * tick)
    assert read_cpus([0, 1], stat) == (66 * tick, 44 * tick)
    assert read_cpus([0], tmp_path / "missing") == (0, 0)


# --- stops


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as process:
        yield process
        process.kill()


def state(process: subprocess.Popen[bytes]) -> str:
    return psutil.Process(process.pid).status()


def test_a_process_is_stopped_and_continued_and_the_time_is_told(sleeper: subprocess.Popen[bytes]) -> None:
    with freezing(sleeper.pid, 0.0, 0.05) as freeze:
        freeze.begin()
        assert eventually(lambda: freeze.continued_ns > 0)
    assert state(sleeper) != psutil.STATUS_STOPPED
    assert freeze.lasted_s >= 0.05


def test_a_process_is_continued_when_the_run_is_given_up(sleeper: subprocess.Popen[bytes]) -> None:
    with freezing(sleeper.pid, 0.0, 1000.0) as freeze:
        freeze.begin()
        assert eventually(lambda: state(sleeper) == psutil.STATUS_STOPPED)
    assert state(sleeper) != psutil.STATUS_STOPPED


def test_a_stop_that_was_never_begun_does_nothing(sleeper: subprocess.Popen[bytes]) -> None:
    with freezing(sleeper.pid, 0.0, 0.0) as freeze:
        pass
    assert freeze.stopped_ns == 0


# --- peers


def test_the_times_that_messages_carry_are_exponential() -> None:
    service_ns = SERVICES["exponential"](1e6)
    base = int(bases(1, 1)[0])
    times = sorted(service_ns(message(base, number, 0, 64)) for number in range(4_000))
    assert sum(times) / len(times) == pytest.approx(1e6, rel=0.06)
    assert times[len(times) // 2] == pytest.approx(1e6 * math.log(2), rel=0.06)
    assert SERVICES["constant"](7.0)(b"whatever") == 7.0


def test_every_fault_changes_what_comes_back_but_for_fragments() -> None:
    import random  # noqa: PLC0415

    one, two = bytes(range(64)), bytes(range(64, 128))
    for name, spoil in FAULTS.items():
        for seed in range(200):
            assert (b"".join(spoil(one, two, random.Random(seed))) != one + two) == (name != "fragment"), name


# --- the table and the file


def finding(**changes: object) -> Finding:
    values = {
        "claim": "stall",
        "says": "it shows",
        "verdict": "passed",
        "reason": "",
        "checks": [around("p99", 905.2, 905.0, 13.575, "ms")],
        "figures": {"stalled_s": 1.0},
        "notes": [],
        "disturbances": [],
        "attempts": 1,
        "took_s": 1.0,
    }
    return Finding(**values | changes)  # type: ignore[arg-type]


def test_the_accepted_range_is_told_as_it_is() -> None:
    assert report.expected(around("", 0, 905.0, 13.575, "ms")) == "905 ± 14 ms"
    assert report.expected(at_most("", 0, 100, "us")) == "≤ 100 us"
    assert report.expected(at_least("", 0, 1_000_000)) == "≥ 1,000,000"
    assert report.expected(exactly("", 0, 250)) == "250"
    assert report.expected(check("", 0, "%", low=93, high=98)) == "93 .. 98%"
    assert report.measured(exactly("", None, 1)) == "nothing"
    assert report.measured(at_most("", 1.23456, 2, "ms")) == "1.235 ms"


def test_the_table_keeps_within_eighty_columns() -> None:
    long = around("a figure with quite a long name to be told", 123_456.789, 123_456.789, 1_000.0, "/s")
    findings = [finding(), finding(claim="known service", verdict="inconclusive", checks=[long] * 3)]
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    report.show(findings, console)
    console.file.close()
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["claim", "expected", "measured", "verdict"]
    assert any("stall" in line and "passed" in line for line in lines)


def test_whatever_did_not_pass_is_explained_and_so_is_what_passed_in_spite_of_a_disturbance() -> None:
    told = report.remarks(
        [
            finding(),
            finding(claim="arrivals", verdict="inconclusive", reason="gaps out of range, and noise", attempts=2),
            finding(claim="merging", disturbances=["noise"], notes=["fewer than usual"]),
        ]
    )
    assert told == [
        "arrivals: inconclusive (measured twice): gaps out of range, and noise.",
        "merging: passed, although noise.",
        "merging: fewer than usual.",
    ]


def test_one_failed_claim_fails_the_calibration() -> None:
    inconclusive, failed = finding(verdict="inconclusive"), finding(verdict="failed")
    assert report.overall([finding(), inconclusive]) == "inconclusive"
    assert report.overall([finding(), failed, inconclusive]) == "failed"
    assert report.summary([finding(), finding(), failed]) == "2 passed, 1 failed, 0 inconclusive"


def test_it_is_said_how_many_claims_are_proved_and_which_are_not() -> None:
    inconclusive = [finding(claim=name, verdict="inconclusive") for name in ("lag", "arrivals")]
    assert report.conclusion([finding(), finding()]) == "On this machine 2 of 2 claims are proved."
    assert report.conclusion([finding(), *inconclusive, finding(claim="books", verdict="failed")]) == (
        "On this machine 1 of 4 claims are proved; not true: books; neither proved nor refuted: lag, arrivals."
    )


def test_a_calibration_that_could_not_show_a_claim_has_an_exit_code_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_still = [claim(outcome(TIMED), outcome(TIMED), disturbed=True, name=name)[0] for name in ("lag", "stall")]
    assert run.calibrate(True, tmp_path, [claim(outcome(GOOD))[0], *open_still]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "On this machine 1 of 3 claims are proved; neither proved nor refuted: lag, stall." in said
    assert json.loads((tmp_path / "calibration.json").read_text())["verdict"] == "inconclusive"


def test_what_was_measured_is_written_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(run, "_tell", tell)
    with pytest.raises(MemoryError):
        run.calibrate(True, tmp_path, [claim(outcome(GOOD))[0]])
    assert json.loads((tmp_path / "calibration.json").read_text())["verdict"] == "passed"


def test_a_calibration_that_can_not_be_read_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text("{")
    one, measured = claim(outcome(GOOD))
    with pytest.raises(BadInputError, match=r"calibration\.json can't be read"):
        run.calibrate(True, tmp_path, [one])
    assert measured == []
    assert (tmp_path / "calibration.json").read_text() == "{"


def test_a_folder_that_cannot_be_written_to_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match="Nothing can be written to"):
        report.make_folder(tmp_path / "file")


def test_a_calibration_is_written_under_its_time_and_as_the_newest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    assert run.calibrate(True, results, [claim(outcome(GOOD))[0]]) == 0
    assert run.calibrate(True, results, [claim(outcome(EXACT))[0]]) == 1
    out = capsys.readouterr().out
    written = Path(out.splitlines()[-1])
    newest = json.loads((results / "calibration.json").read_text())
    assert json.loads(written.read_text()) == newest
    assert newest["schema"] == 1
    assert newest["verdict"] == newest["findings"][0]["verdict"] == "failed"
    assert newest["findings"][0]["checks"][0] == {
        "what": "exact",
        "value": 3.0,
        "unit": "",
        "target": 2.0,
        "low": 2.0,
        "high": 2.0,
        "timed": False,
    }
    assert newest["quick"] is True
    assert newest["host"]["cpu_model"]
    assert not list(results.glob("*.part"))
    assert max(map(len, out.splitlines())) <= 80 or str(tmp_path) in out.splitlines()[-1]


# --- the real thing


@pytest.fixture(scope="module")
def real() -> Iterator[Rig]:
    guard, layout = Guard(), host.choose_cpus()
    pool = LoadPool(guard, layout.load)
    yield Rig(guard, layout, pool, [], True)
    pool.end()
    guard.close()


@pytest.mark.parametrize(
    "one", [faults.CLAIM, books.CONSERVATION, books.CENSORING, histograms.HISTOGRAM, histograms.MERGING]
)
def test_claims_that_depend_on_no_clock_hold_on_any_machine(
    one: Claim, real: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "ATTEMPTS", 1)
    monkeypatch.setattr(faults, "AT_ONCE", 50)
    found = run.examine(one, real)
    assert [check for check in found.checks if not check.timed and not check.holds] == []
    assert found.verdict in ("passed", "inconclusive"), found.reason
    assert found.checks


def test_a_plain_round_trip_needs_no_load_generator() -> None:
    guard, layout = Guard(), host.choose_cpus()
    rig = Rig(guard, layout, LoadPool(guard, layout.load, ["no such program"]), [], True)
    assert spread_us(rig) > 0
    guard.close()


def test_peers_leave_no_process_and_no_file_behind(real: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with real.peer("echo") as peer:
        assert list(tmp_path.iterdir())
        pid = peer.server.pid
        assert peer.told == {}
    assert not psutil.pid_exists(pid)
    assert not list(tmp_path.iterdir())
    assert peer.told["received"] == 0


def test_an_interrupted_calibration_ends_at_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "bench", "calibrate", "--quick", "--results", str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "[1/12]" not in (line := process.stderr.readline()):
            assert line, "it ended before the first claim"
        assert eventually(lambda: len(psutil.Process(process.pid).children()) >= 2)
        started = psutil.Process(process.pid).children(recursive=True)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert time.monotonic() - began < WAIT_S
    assert "Interrupted; nothing is written." in err
    assert eventually(lambda: not any(one.is_running() for one in started))
    assert list(tmp_path.iterdir()) == []


def test_a_bad_results_folder_is_told_with_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    argv = [sys.executable, "-m", "bench", "calibrate", "--quick", "--results", str(tmp_path / "file")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 2
    assert "Nothing can be written to" in done.stderr
    assert "Traceback" not in done.stderr
