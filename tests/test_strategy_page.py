"""The page of a single strategy: its place, its figures among the pale others, its docstring, its calls, its trials."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import STRATEGIES, analysed, comparison, manifest, record, sweep, unmeasured, why, write_run

import report
from bench import strategy_page
from bench.anatomy.steps import Anatomy, Step
from bench.figures import pictures, throughput
from bench.figures.marks import cut, of_one
from bench.figures.style import looks, picture
from bench.strategy_page import Shared, file_name, links, pages, places

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x>',
    "../../etc/passwd",
    "a/b",
    "x" * 200,
    "two\nlines",
    "Poll",
    "…",
]
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Text, tags and headings of a page; fails where tags don't match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]


def page(folder: Path, name: str) -> Page:
    return Page((folder / "strategies" / file_name(name)).read_text(encoding="utf-8"))


# --- the files


def test_every_strategy_of_the_run_has_a_page_and_the_report_links_to_it(default_run: Path) -> None:
    wanted = {f"{name}.html" for name in (*STRATEGIES, "io_uring")}
    assert {path.name for path in (default_run / "strategies").iterdir()} == wanted
    html = (default_run / "report.html").read_text(encoding="utf-8")
    assert {f"strategies/{name}" for name in wanted} == set(re.findall(r'href="(strategies/[^"]+)"', html))


@given(st.text(min_size=1))
def test_a_file_name_is_safe_whatever_the_name(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9_][a-z0-9._-]*\.html", file_name(name))
    assert len(file_name(name)) < 100


@given(st.lists(st.text("ab.-_/ A…", min_size=1, max_size=6), min_size=2, unique=True))
def test_two_strategies_never_share_a_file_even_where_case_counts_for_nothing(names: list[str]) -> None:
    assert len({file_name(name).lower() for name in names}) == len(names)


def test_an_ordinary_name_is_kept() -> None:
    assert file_name("epoll_lt") == "epoll_lt.html"


def test_hostile_names_and_docstrings_are_text(tmp_path: Path) -> None:
    doc = "</pre><script>alert(2)</script>"
    about = manifest(HOSTILE)
    about.strategies = [msgspec.structs.replace(info, doc=doc, summary=doc) for info in about.strategies]
    folder = write_run(tmp_path / "run", [record(name, count) for name in HOSTILE for count in (1, 16)], about)
    report.write(folder)
    assert len(list((folder / "strategies").iterdir())) == len(HOSTILE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    for name in HOSTILE:
        found = page(folder, name)
        assert len([tag for tag, _ in found.tags if tag == "script"]) == 2  # the page's own
        assert not [tag for tag, _ in found.tags if tag == "img"]
        assert doc in found.text


# --- what it says


def test_it_says_by_each_metric_what_was_measured_and_how_it_came_out_against_the_best(default_run: Path) -> None:
    words = page(default_run, "epoll_et").words
    assert re.search(r"Throughput: [\d,]+ messages/s at 1 connection – iterative is 1\.\d+ times \(1\.\d+ to", words)
    assert re.search(r"Server CPU per message: .+ at 128 connections – equal within 5 % with epoll_lt", words)


def test_of_the_best_it_is_said_who_is_equal_and_who_is_not_told_apart() -> None:
    found = comparison({"a": 101_500.0, "b": 101_000.0, "c": 98_000.0, "d": 50_000.0}, limits=1.04)
    assert places([found], "a") == [
        "Throughput: 102,000 messages/s at 16 connections – equal within 5 % with `b`; not decided against `c`: at "
        "most 7.7 % apart, and about 7 more rounds would tell."
    ]
    assert places([found], "d") == [
        "Throughput: 50,000 messages/s at 16 connections – `a` is 2.03 times (1.95 to 2.11) as good."
    ]


def test_of_several_interpreters_each_has_its_place() -> None:
    found = comparison({"a": 100.0, "a on pypy3": 200.0})
    ranking = tuple(one._replace(strategy="a", python=one.name[5:]) for one in found.ranking)
    (said,) = places([replace(found, ranking=ranking)], "a")
    assert "200 messages/s at 16 connections, on pypy3 – shown better than the other" in said
    assert "100 messages/s at 16 connections – `a on pypy3` is 2.00 times" in said


def test_of_many_comparisons_it_is_counted_how_they_came_out() -> None:
    better = [comparison({"a": 2e4, "b": 1e4}, connections=2**at) for at in range(7)]
    others = [
        comparison({"a": 1.01, "b": 1.0}, message_bytes=1),
        comparison({"a": 1.04, "b": 1.0}, limits=1.05, message_bytes=2),
        comparison({"a": 1.0}, message_bytes=3),
    ]
    assert places([*better, *others], "a") == [
        "Throughput: of 9 comparisons shown better than all others in 7, equal within 5 % with the best in 1 and not "
        "decided in 1."
    ]
    assert places([*better, *others[:2]], "b")[0].endswith(
        "equal within 5 % with the best in 1, behind it in 7 and not decided in 1."
    )


def test_a_strategy_without_a_result_has_a_page_that_says_what_happened(default_run: Path) -> None:
    words = page(default_run, "io_uring").words
    assert "It has no result that can be compared." in words
    assert "unavailable at 16 connections: kernel.io_uring_disabled is 2" in words
    assert "How io_uring works." in words


def test_it_shows_the_docstring_the_cases_and_the_trials_of_this_strategy_alone(default_run: Path) -> None:
    found = page(default_run, "poll")
    assert "How poll works." in found.words
    ids = {record.trial.id for record in sweep() if record.trial.strategy == "poll"}
    others = {record.trial.id for record in sweep()} - ids
    table = found.words[found.words.rindex("Trials") :]
    assert all(id_ in table for id_ in ids)
    assert not any(id_ in found.words for id_ in others)


def test_of_very_many_trials_the_first_are_listed_and_the_page_says_where_all_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategy_page, "MOST_LISTED", 2)
    folder = write_run(tmp_path / "run", [record("a", 1, repeat) for repeat in range(3)])
    report.write(folder)
    assert "The first 2 of 3; all of them are in trials.jsonl." in page(folder, "a").words


def test_headings_descend_and_ids_are_unique_and_links_lead_somewhere(default_run: Path) -> None:
    found = page(default_run, "epoll_lt")
    levels = [int(tag[1]) for tag, _ in found.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = found.ids()
    assert len(ids) == len(set(ids))
    for tag, attributes in found.tags:
        target = attributes.get("href") or ""
        assert "//" not in target, (tag, target)
        if target.startswith("#"):
            assert target[1:] in ids
        elif target not in ("", "data:,"):
            assert (default_run / "strategies" / target).resolve().exists()


def test_system_calls_and_the_anatomy_are_those_of_the_strategy(tmp_path: Path) -> None:
    step = {"who": "main", "arguments": "5<socket>", "at_us": 1.0, "took_us": 2.0}
    steps = [Step(name="read", result="64", **step), Step(name="write", result="64", **step)]
    taken = [
        Anatomy(strategy="poll", transport="tcp", message_bytes=64, woke_us=1.0, end_us=9.0, steps=steps),
        Anatomy(strategy="select", transport="tcp", message_bytes=64, status="failed", reason="it died"),
    ]
    about = manifest(["poll", "select"], anatomy={"anatomies": msgspec.to_builtins(taken)}, why=why("poll"))
    folder = write_run(tmp_path / "run", [record("poll"), record("select")], about)
    report.write(folder)
    poll, select = page(folder, "poll").words, page(folder, "select").words
    assert "poll makes" in poll and "system calls for a message" in poll
    assert "read(5<socket>) = 64" in poll
    assert "system calls for a message" not in select
    assert "Its anatomy on tcp is failed: it died" in select


# --- its figures


def test_it_has_every_figure_in_which_the_strategy_is_drawn(default_run: Path) -> None:
    def shown(name: str) -> set[str]:
        return {it.removeprefix("figure-") for it in page(default_run, name).ids() if it.startswith("figure-")}

    drawn = {path.stem for path in default_run.glob("*.svg")}
    assert shown("epoll_lt") == drawn
    assert shown("io_uring") == {"throughput", "heat", "response", "cpu", "switches", "order"}


def test_its_own_marks_speak_and_those_of_the_others_are_pale_and_silent() -> None:
    records = [record(name, count, repeat) for name in ("one", "other") for count in (1, 16) for repeat in range(2)]
    for shown in pictures(analysed(*records)):
        whole, own = shown.picture.inline, of_one(cut(shown.picture.inline), "one")
        groups = re.findall(r'<g class="(mark|label)( other)?" data-strategy="(\w+)">', own)
        assert {name for _, pale, name in groups if not pale} <= {"one"}, shown.name
        assert {name for _, pale, name in groups if pale} <= {"other"}
        assert not [says for says in re.findall(r'data-says="([^"]*)"', own) if says.startswith("other")]
        mine = [says for says in re.findall(r'data-says="([^"]*)"', whole) if says.startswith("one")]
        assert [says for says in re.findall(r'data-says="([^"]*)"', own) if says.startswith("one")] == mine


def test_no_outline_is_lost_that_a_marker_uses() -> None:
    for shown in pictures(analysed(*sweep(repeats=2))):
        for name in ("epoll_lt", "select"):
            own = of_one(cut(shown.picture.inline), name)
            assert set(re.findall(r'xlink:href="#([^"]+)"', own)) <= set(re.findall(r' id="([^"]+)"', own))


def test_marks_are_found_whatever_the_name() -> None:
    analysis = analysed(*(record(name, count) for name in HOSTILE for count in (1, 16)))
    drawn = picture(partial(throughput.draw, throughput.rows(analysis), looks(HOSTILE)), "throughput")
    pieces = cut(drawn.inline)
    assert pieces.strategies == set(HOSTILE)
    for name in HOSTILE:
        own = of_one(pieces, name)
        assert own.count("data-says") == 2  # of its two points
        assert escape(name.split("\n", maxsplit=1)[0][:3]) in own


def test_pages_are_made_for_the_strategies_of_the_run_alone() -> None:
    analysis = analysed(record("a"), unmeasured("b", 1, 0, "failed", "it died"))
    assert [path for path, _ in pages(Shared(analysis), [])] == list(links(analysis).values())
    assert list(links(analysis)) == ["a", "b"]
