"""How far a run can be trusted: flags, noise, steal, the machine, the calibration; and what the markers mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from synthetic import analysed, load_sweep, record, server, sweep, unmeasured, write_run
from synthetic_calibration import calibration

from bench import markers, page, summary, trust
from bench.analyse import analyse
from bench.commands.folders import the_answer
from bench.record import Machine, Record, Turn, read_run


def on(steal_ms: float, load_steal_ms: float = 0.0, **changes: Any) -> Record:
    """A trial of a second from which so much CPU time was stolen."""
    seen = Machine(
        server_idle_ns=0,
        server_steal_ns=steal_ms * 1e6,
        load_cpus=[1],
        load_idle_ns=0,
        load_steal_ns=load_steal_ms * 1e6,
    )
    return record(machine=seen, **changes)


PAIR = (("a", 1.0), ("b", 0.7))


# --- flags


def test_flags_are_counted_over_the_good_trials_and_explained() -> None:
    found = {it.flag: it for it in trust.flagged(analysed(*load_sweep(repeats=2)).trials)}
    assert {name: it.trials for name, it in found.items()} == {
        "client_bound": 2,
        "lagging_schedule": 2,
        "unsteady": 2,
        "censored": 16,
    }
    assert found["lagging_schedule"].strategies == "`poll`"
    assert all(it.meaning.endswith(".") for it in found.values())


def test_a_flag_that_this_iobench_does_not_know_is_counted_too() -> None:
    (found,) = trust.flagged(analysed(record(flags=["cosmic_rays"])).trials)
    assert (found.flag, found.meaning) == ("cosmic_rays", "–")


def test_flags_of_failed_trials_do_not_count() -> None:
    failed = unmeasured("poll", 1, 0, "failed", "it died", flags=["unsteady"])
    assert trust.flagged(analysed(failed).trials) == []


def test_who_was_the_limit_is_counted() -> None:
    text = trust.bottlenecks(analysed(*sweep(repeats=1)).trials)
    assert text.startswith(
        "Of 25 good trials, in 14 the server's CPU was the limit, in 2 the client's and in 9 neither"
    )
    assert trust.bottlenecks(analysed().trials) == ""
    assert "limit is not known" in trust.bottlenecks(analysed(record(bottleneck="")).trials)


def test_percentiles_that_too_few_messages_can_tell_are_counted() -> None:
    analysis = analysed(record("a", rate_hz=700), record("b", rate_hz=5000), record("c", rate_hz=1e5))
    assert trust.withheld(analysis.cases, analysis.estimates) == (
        "Of 3 cases, too few messages were seen to tell p99 in 1 (it takes 726 messages), p99.9 in 2 (it takes 7,289 "
        "messages) and p99.99 in 2 (it takes 72,928 messages)."
    )
    enough = analysed(record(rate_hz=1e5))
    assert trust.withheld(enough.cases, enough.estimates) == ""


# --- noise


def test_noise_is_what_repeats_of_one_case_differ_by() -> None:
    records = [record("a", repeat=repeat, rate_hz=rate) for repeat, rate in enumerate((1000, 1010, 1100))]
    text = trust.noise(analysed(*records, record("b", rate_hz=5000)).trials)
    assert "in throughput by 8.91 % (9.89 %)" in text  # of 1.00, 8.91 and 10.0 %
    assert "in server CPU per message by 0 % (0 %)" in text


def test_what_a_machine_does_to_a_whole_round_is_no_noise_of_a_comparison() -> None:
    speeds = (1.0, 2.0, 1.5, 1.2)  # of the machine, in each round
    records = [
        record(name, repeat=at, rate_hz=1e5 * speed * own) for at, speed in enumerate(speeds) for name, own in PAIR
    ]
    analysis = analysed(*records)
    assert "in throughput by 41" in trust.noise(analysis.trials)
    said = trust.within_rounds(analysis.comparisons)
    assert "figure is off by 0 % in throughput" in said
    shown = dict(trust.in_short(analysis.trials, records, [], {}, analysis.comparisons))["Noise"]
    assert shown.startswith("Within a round, in which strategies are compared, a figure is off by 0 % in throughput")
    assert "two repeats of one case differ by 41" in shown


def test_without_two_strategies_nothing_is_said_of_rounds() -> None:
    assert trust.within_rounds(analysed(record(), record(repeat=1)).comparisons) == ""


def test_without_repeats_nothing_is_said_of_noise() -> None:
    assert trust.noise(analysed(record("a"), record("b")).trials) == ""


def test_different_cases_are_not_noise() -> None:
    records = [record("a", count, repeat, rate_hz=1000 * count) for count in (1, 16) for repeat in (0, 1)]
    assert "in throughput by 0 % (0 %)" in trust.noise(analysed(*records).trials)


# --- steal and machine


def test_time_that_the_hypervisor_took_is_told_with_the_worst_trial() -> None:
    records = [on(0), on(120, repeat=1), on(0, 30, repeat=2), on(2, repeat=3)]
    assert trust.steal(records) == (
        "A hypervisor took up to 12.0 % of the CPU time of a trial, and 1 % or more in 2 of 4 trials: those figures "
        "are of a slower machine than the others."
    )


def test_little_or_unknown_steal_is_told_as_such() -> None:
    assert trust.steal([on(0), on(9.9, repeat=1)]).startswith("A hypervisor took less than 1 %")
    assert "not recorded" in trust.steal([record()])


def turns(*disturbed: str) -> list[Turn]:
    return [Turn(opened_ns=0, closed_ns=1, completed=1, disturbed=why) for why in disturbed]


def test_what_others_took_is_counted_by_what_it_was() -> None:
    found = [
        record(turns=turns("", "others had a CPU that was waited for during 40 % of a window", "")),
        record(repeat=1, turns=turns("a CPU quota stopped it: used up before its time in 1 period", "", "")),
        record(repeat=2, flags=["throttled"]),
        record(repeat=3),
        unmeasured("poll", 1, 0, "failed", "it died", turns=turns("others")),
    ]
    assert trust.taken(found) == (
        "2 of 6 turns and 1 of 2 trials measured as a whole were disturbed and do not count (in 1 others had a CPU "
        "that was waited for and in 1 a CPU quota stopped it)."
    )


def test_where_nobody_took_anything_that_is_said_as_far_as_it_is_known() -> None:
    assert trust.taken([on(0)]) == "Nobody else took CPU time from it, as far as the kernel counts that."
    assert trust.taken([record()]) == "What others took of the CPUs meanwhile was not recorded."
    assert trust.taken([unmeasured("poll", 1, 0, "failed", "it died")]) == ""


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ({"cpu_model": "Example", "physical_cores": 1}, ["CPU: Example, 1 core."]),
        ({"virtualization": "kvm"}, ["A virtual machine (kvm): its host may do other work meanwhile."]),
        (
            {"governor": "performance, powersave"},
            ["The CPU frequency governor is powersave: clocks may vary."],
        ),
        (
            {"cpu_quota": 0.5},
            [
                "A CPU quota leaves 0.500 CPUs for harness, load and server together: where it is used up, all of them "
                "stand still."
            ],
        ),
        ({"cpu_quota": "none"}, []),
        ({"virtualization": "none", "governor": "performance", "cpu_model": "unknown"}, []),
        ({}, []),
    ],
)
def test_of_the_machine_that_is_told_which_figures_depend_on(host: dict[str, Any], said: list[str]) -> None:
    assert trust.machine(host) == said


# --- the interpreter lock


def free(strategy: str = "threads", cpus: Sequence[int] = (1,), **changes: Any) -> Record:
    """A trial on an interpreter without its lock."""
    seen = server(1e5, 8.0, 0.4, gil=False, version="3.14.0", cpus=list(cpus))
    return record(strategy, server=seen, **changes)


def test_that_servers_ran_without_the_interpreter_lock_on_one_cpu_is_said() -> None:
    assert trust.without_lock([free(), free(repeat=1)]) == (
        "All servers ran without the interpreter lock (GIL), on CPython 3.14.0. Each was pinned to one CPU, where "
        "threads run one at a time all the same: what a free-threaded build gains on several CPUs is not in these "
        "figures."
    )
    assert trust.without_lock([free(), record("epoll_lt")]).startswith("`threads` ran without the interpreter lock")


def test_on_several_cpus_a_free_threaded_build_shows_what_it_gains() -> None:
    said = "All servers ran without the interpreter lock (GIL), on CPython 3.14.0."
    assert trust.without_lock([free(cpus=(1, 2))]) == said


def test_of_servers_with_the_lock_and_of_trials_that_failed_nothing_is_said() -> None:
    assert trust.without_lock([record(), unmeasured("poll", 1, 0, "failed", "died"), free(status="failed")]) == ""
    assert "Interpreter lock" not in in_short(record())


def test_page_markdown_and_terminal_say_that_servers_ran_without_the_interpreter_lock(tmp_path: Path) -> None:
    records = [free(), record("epoll_lt")]
    said = "ran without the interpreter lock (GIL), on CPython 3.14.0."
    folder = write_run(tmp_path / "run", records)
    analysis = analyse(read_run(folder))
    assert said in in_short(*records)["Interpreter lock"]
    assert said in summary.markdown(analysis, []).replace("\\", "")
    assert said in page.html(page.content(analysis), [])
    shown = the_answer(folder)
    assert f"threads {said}" in " ".join(shown)
    assert max(map(len, shown)) <= 80


# --- calibration


def test_every_claim_has_what_was_expected_and_measured_and_a_verdict() -> None:
    stall, faults, lag = trust.calibrated(calibration())
    assert stall.checks == [("p99", "891 to 919 ms, by theory 905", "903 ms")]
    assert faults.checks == [("faults found", "1,000", "999"), ("false alarms", "0", "0")]
    assert lag.checks == [("p99", "at most 100 us", "240 us")]
    assert [it.verdict for it in (stall, faults, lag)] == ["passed", "failed", "inconclusive"]


def test_the_calibration_is_summed_up_with_the_claims_that_did_not_pass() -> None:
    assert trust.calibration_summary(trust.calibrated(calibration())) == (
        "The load generator proved 1 of 3 claims about itself on this machine; failed: echo faults; inconclusive: "
        "schedule lag."
    )


def test_without_a_calibration_it_is_said_how_to_make_one() -> None:
    assert "`iobench calibrate`" in trust.calibration_summary(trust.calibrated(None))


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"findings": None},
        {"findings": [3, None]},
        {"findings": [{}]},
        {"findings": [{"claim": "x", "checks": [{}, 3]}]},
        {"findings": [{"claim": "x", "checks": [{"value": None, "low": True, "high": "much"}]}]},
    ],
)
def test_a_calibration_of_another_form_breaks_nothing(odd: dict[str, Any]) -> None:
    assert isinstance(trust.calibration_summary(trust.calibrated(odd)), str)


# --- all of it in short


def in_short(*records: Record, host: dict[str, Any] | None = None, calibrated: bool = True) -> dict[str, str]:
    claims = trust.calibrated(calibration() if calibrated else None)
    analysis = analysed(*records)
    return dict(trust.in_short(analysis.trials, records, claims, host or {}, analysis.comparisons))


def test_the_answer_says_of_every_ground_for_trust_how_it_is() -> None:
    bound = {"bottleneck": "client", "flags": ["client_bound"]}
    records = [
        on(120, rate_hz=1000),
        on(0, repeat=1, rate_hz=1100, **bound),
        unmeasured("poll", 1, 0, "failed", "died"),
    ]
    host = {"cpu_model": "Example CPU", "physical_cores": 2, "virtualization": "kvm", "governor": "powersave"}
    assert in_short(*records, host=host) == {
        "Load generator": "Proved 1 of 3 claims about itself on this machine; failed: echo faults; inconclusive: "
        "schedule lag.",
        "Trials": "2 of 3 good, 1 of them with a flag; 1 failed or could not be run.",
        "Limit": "In 1 of 2 good trials the client, not the server, was the limit: there throughput is a lower bound.",
        "Noise": "Two repeats of one case differ by 10.0 % in throughput and 9.97 % in p99 latency (median of all "
        "pairs), by chance and the machine.",
        "Others": "Nobody else took CPU time from it, as far as the kernel counts that.",
        "Stolen time": "A hypervisor took up to 12.0 % of the CPU time of a trial, and 1 % or more in 1 of 2 trials: "
        "those figures are of a slower machine than the others.",
        "Machine": "Example CPU, 2 cores, a virtual machine (kvm), whose host may do other work meanwhile, frequency "
        "governor powersave: clocks may vary.",
    }


def test_what_is_not_known_is_named_as_such() -> None:
    assert in_short(record(bottleneck=""), calibrated=False) == {
        "Load generator": "Not calibrated on this machine; `iobench calibrate` does it in a few minutes.",
        "Trials": "1 of 1 good, none of them with a flag.",
        "Limit": "Whether server or client was the limit is not known.",
        "Noise": "Nothing was repeated: what is noise, and what a difference, can't be told.",
        "Others": "What others took of the CPUs meanwhile was not recorded.",
        "Stolen time": "How much CPU time a hypervisor took meanwhile was not recorded.",
        "Machine": "Nothing is known of it.",
    }


def test_of_a_run_without_a_good_trial_there_is_nothing_to_trust() -> None:
    assert in_short(unmeasured("poll", 1, 0, "failed", "it died")) == {}


# --- markers


def kinds(*records: Record) -> dict[str, str]:
    return dict(markers.markers(analysed(*records)))


def test_every_reason_for_a_hollow_marker_that_occurs_is_explained_and_counted() -> None:
    found = kinds(*load_sweep(repeats=2))
    assert list(found) == ["filled", "hollow", "arrow up"]
    for why in (
        "the client, not the server, was the limit, so that throughput is a lower bound (2 trials)",
        "sends lagged behind their plan (2 trials)",
        "throughput or response times drifted within the window (2 trials)",
        "messages were unfinished when the window closed, so that percentiles are lower bounds (16 trials)",
    ):
        assert why in found["hollow"]


def test_a_marker_that_does_not_occur_is_not_explained() -> None:
    assert list(kinds(record(), record(flags=["unsteady"], repeat=1))) == ["filled", "hollow"]
    assert kinds(record()) == {}  # all are alike
    assert kinds(unmeasured("poll", 1, 0, "failed", "it died")) == {}


def test_trials_without_a_value_are_counted_by_what_became_of_them() -> None:
    failed = [unmeasured("poll", 1, repeat, "failed", "it died") for repeat in range(2)]
    found = kinds(record(), *failed, unmeasured("sigio", 1, 0, "unavailable", "no signals"))
    assert found["failed"].startswith("2 trials, of which there is no value")
    assert found["unavailable"].startswith("1 trial, of which there is no value")


def test_every_flag_that_there_is_has_words_for_its_marker() -> None:
    assert markers.WHY_HOLLOW.keys() == trust.FLAGS.keys()
    assert "cosmic rays (1 trial)" in kinds(record(flags=["cosmic_rays"]))["hollow"]
