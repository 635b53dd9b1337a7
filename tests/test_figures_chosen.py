"""Trials and a baseline that somebody chooses: what is drawn of them, and how a wrong choice is answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import analysed, histogram, load, record, unmeasured, write_default, write_run
from typer.testing import CliRunner

import report
from bench.cli import app
from bench.errors import BadInputError
from bench.figures import chosen, pictures
from bench.figures.chosen import Chosen, choose
from bench.figures.style import HOLLOW, PAPER, looks
from bench.record import Record


def with_intervals(*counts: int, **changes: object) -> Record:
    return record(load=load(sum(counts), 16, intervals=list(counts)), **changes)


# --- what is drawn


def test_each_interval_is_a_step_as_long_as_it_and_as_high_as_its_rate() -> None:
    trial = with_intervals(*([100] * 9), 200)
    rows = chosen.rows([trial.id])(analysed(trial))
    (axes,) = chosen.draw(rows, looks(["epoll_lt"])).axes
    steps, _, points = axes.get_lines()
    assert list(steps.get_ydata()) == pytest.approx([1000] * 9 + [2000, 2000])
    assert list(steps.get_xdata()) == pytest.approx([at / 10 for at in range(11)])
    assert list(points.get_ydata()) == pytest.approx([1000] * 9 + [2000])
    assert axes.get_ylim()[0] == 0


def test_an_interval_that_the_window_cut_short_counts_by_its_length() -> None:
    cut = record(load=load(1050, 16, intervals=[100] * 10 + [50], closed_ns=6_050_000_000))
    rows = chosen.rows([cut.id])(analysed(cut))
    assert list(rows["rate_hz"]) == pytest.approx([1000] * 11)


def test_each_chosen_trial_has_a_panel_that_names_it_in_the_order_asked_for() -> None:
    first, second = record("a"), record("b", 128, repeat=3)
    rows = chosen.rows([second.id, first.id])(analysed(first, second))
    figure = chosen.draw(rows, looks("ab"))
    titles = [" ".join(axes.get_title().split()) for axes in figure.axes]
    assert titles == [f"b, tcp, 128 x 64 B, repeat 3: {second.id}", f"a, tcp, 16 x 64 B, repeat 0: {first.id}"]


def test_a_trial_with_a_flag_is_hollow_and_explained() -> None:
    drifted = with_intervals(*range(100, 200, 10), flags=["unsteady"])
    figure = chosen.draw(chosen.rows([drifted.id])(analysed(drifted)), looks(["epoll_lt"]))
    assert figure.axes[0].get_lines()[-1].get_markerfacecolor() == PAPER
    assert f"hollow: {HOLLOW['unsteady']}" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_point_tells_the_percentiles_of_its_interval_where_they_are_recorded() -> None:
    trial = record(load=load(1000, 16, interval_hdrs=[histogram(1e6, 100)] * 10))
    rows = chosen.rows([trial.id])(analysed(trial))
    assert rows["p50_us"].between(990, 1010).all()
    assert "p50 994 µs, p99 2.19 ms" in chosen._says(rows.to_dict("records")[0], 1000.0)
    assert chosen.rows([record().id])(analysed(record()))["p50_us"].isna().all()


def test_the_message_tells_the_lowest_and_the_highest_interval() -> None:
    trial = with_intervals(*([100] * 9), 200)
    said = chosen.message(chosen.rows([trial.id])(analysed(trial)))
    assert said == f"`epoll_lt` ({trial.id}) from 1,000 to 2,000 messages/s over 10 intervals."


def test_the_figure_is_there_only_where_a_trial_was_chosen() -> None:
    trial = record()
    analysis = analysed(trial)
    assert "chosen" not in [one.name for one in pictures(analysis)]
    assert "chosen" in [one.name for one in pictures(analysis, Chosen(trials=(trial.id,)))]


def test_the_baseline_that_was_chosen_is_in_figure_and_message() -> None:
    analysis = analysed(*(record(name, repeat=at) for name in "abc" for at in range(2)))
    (drawn,) = [one for one in pictures(analysis, Chosen(baseline="c")) if one.name == "ratios"]
    assert "times as good as c" in drawn.picture.svg
    assert drawn.message.startswith("By `c`, throughput: ")
    assert drawn.title == "Every strategy by c"


# --- choosing


def test_the_beginning_of_an_id_will_do_and_a_trial_chosen_twice_is_drawn_once() -> None:
    trial = record()
    assert choose(analysed(trial), trials=[trial.id[:6], trial.id, trial.id[:4].upper()]) == Chosen("", (trial.id,))


def test_a_wrong_id_is_answered_with_those_near_it() -> None:
    trial = record("poll")
    wrong = trial.id[:12] + "".join("0" if digit != "0" else "1" for digit in trial.id[12:])
    with pytest.raises(BadInputError, match=f"No trial is '{wrong}'. Near: {trial.id} is poll, tcp, 16 x 64 B") as told:
        choose(analysed(trial), trials=[wrong])
    assert "report.html" in told.value.next_step


def test_an_id_that_is_like_no_other_is_said_to_be_none() -> None:
    with pytest.raises(BadInputError, match=r"^No trial is 'x'\.$"):
        choose(analysed(record()), trials=["x"])
    with pytest.raises(BadInputError, match=r"^No trial is ''\.$"):
        choose(analysed(record()), trials=[""])


def test_the_beginning_of_several_ids_is_answered_with_them() -> None:
    records = [record(repeat=at) for at in range(40)]
    shared = next(digit for digit in "0123456789abcdef" if sum(it.id.startswith(digit) for it in records) > 1)
    count = sum(it.id.startswith(shared) for it in records)
    with pytest.raises(BadInputError, match=f"'{shared}' is that of {count} trials. Near: {shared}"):
        choose(analysed(*records), trials=[shared])


def test_a_trial_that_failed_or_has_no_intervals_is_answered_with_the_reason() -> None:
    bad = unmeasured("poll", 1, 0, "failed", "it died")
    with pytest.raises(BadInputError, match="it is failed, it died"):
        choose(analysed(bad), trials=[bad.id])
    blind = record(load=load(1000, 16, intervals=[]))
    with pytest.raises(BadInputError, match="without intervals"):
        choose(analysed(blind), trials=[blind.id])


def test_a_wrong_baseline_is_answered_with_the_one_that_was_meant_and_all_there_are() -> None:
    with pytest.raises(BadInputError, match=r"'epol_lt' is not in this run \(did you mean 'epoll_lt'\?\)") as told:
        choose(analysed(record(), record("poll")), baseline="epol_lt")
    assert told.value.next_step == "--baseline with one of: epoll_lt, poll"
    with pytest.raises(BadInputError, match="'poll' has no good trial"):
        choose(analysed(record(), unmeasured("poll", 1, 0, "failed", "it died")), baseline="poll")


# --- the command


def test_the_command_takes_a_baseline_and_several_trials(tmp_path: Path) -> None:
    folder = write_default(tmp_path / "run")
    ids = [record("epoll_lt", 16, repeat).id for repeat in (0, 1, 2)]
    arguments = ["report", str(folder), "--baseline", "poll", "--trial", ids[0], "--trial", f"{ids[1]},{ids[2]}"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    svg = (folder / "chosen.svg").read_text(encoding="utf-8")
    assert all(id_ in svg for id_ in ids)
    assert "times as good as poll" in (folder / "ratios.svg").read_text(encoding="utf-8")


def test_the_script_takes_the_same_and_tells_a_wrong_id_with_the_next_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", [record()])
    assert report.main([str(folder), "--trial", "x"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "No trial is 'x'."
    assert not (folder / "report.html").exists()
    assert report.main([str(folder), "--trial", record().id]) == 0


def test_a_gate_has_neither(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text("{}")
    with pytest.raises(BadInputError, match="is a gate"):
        report.write(tmp_path, baseline="poll")
