"""report.md: what a pull request shows, read as GitHub's Markdown is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from synthetic import load_sweep, manifest, record, searched, sweep, unmeasured, why, write_run

from bench import markdown as md
from bench.analyse import analyse
from bench.record import Record, read_run
from bench.summary import markdown

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a|b`c`", "*bold* _it_ [x](y)", "two\nlines"]
GITHUB_TAKES = 65_536  # characters of a comment
READER = MarkdownIt("commonmark", {"html": True}).enable("table")


def summary_of(folder: Path) -> str:
    """The summary of a run whose figures are not drawn."""
    return markdown(analyse(read_run(folder)), [])


@pytest.fixture(scope="module")
def text(default_run: Path) -> str:
    return (default_run / "report.md").read_text(encoding="utf-8")


def test_the_verdict_comes_first_then_one_table_then_the_pictures(text: str) -> None:
    assert text.index("No strategy is shown") < text.index("For throughput") < text.index("| strategy")
    assert text.index("| strategy") < text.index("![Every strategy by the best]")
    html = READER.render(text)
    assert html.count("<table>") == 1
    assert html.index("<strong>No strategy is shown") < html.index("<table>") < html.index("<img ")


def test_pictures_are_those_beside_it_by_relative_links_and_all_but_two_are_folded(
    default_run: Path, text: str
) -> None:
    html = READER.render(text)
    names = re.findall(r'<img src="([^"]+)"', html)
    assert len(names) == len(set(names)) >= 4
    assert all((default_run / name).is_file() for name in names)
    assert {name.removesuffix(".png") for name in names} == {path.stem for path in default_run.glob("*.svg")}
    assert html.index("<details>") > html.index(names[1])
    assert html.index(names[2]) > html.index("<details>")


def test_what_is_folded_is_closed_again_and_read_as_markdown(text: str) -> None:
    html = READER.render(text)
    assert html.count("<details>") == html.count("</details>") >= 3
    folded = html.partition("<summary>The ranking in tiers")[2].partition("</details>")[0]
    assert folded.count("<li>") == 9
    assert re.search(r"16 connections, throughput: 1\) <code>epoll_\wt</code> 12\d,000 messages/s", folded)
    assert re.search(r"; 2\) <code>poll</code> 10\d,000 messages/s: 1\.\d+ times \(1\.\d+ to 1\.\d+\)", folded)
    assert "; 3) <code>thread_per_connection</code>" in folded


def test_every_case_has_a_row_with_as_many_cells_as_there_are_headings(text: str) -> None:
    html = READER.render(text)
    table = html.partition("<table>")[2].partition("</table>")[0]
    headings = len(re.findall(r"<th[ >]", table))
    rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.DOTALL)
    assert len(rows) == 9 * 3 - 2 + 1  # iterative once; io_uring
    assert {row.count("<td") for row in rows} == {headings}


def test_failures_are_told_openly_with_their_reasons(text: str) -> None:
    assert text.index("Failed or unavailable:") < text.index("The ranking in tiers")
    assert "`iterative`: 1 trial failed at 1 connection: the server died with SIGSEGV." in text


def test_how_far_it_can_be_trusted_is_said_before_the_table(text: str) -> None:
    assert text.index("- Load generator: Not calibrated") < text.index("| strategy")


def test_nothing_is_spaced_out_and_the_last_line_ends(text: str) -> None:
    assert "\n\n\n" not in text
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_names_and_reasons_are_text_whatever_they_contain(tmp_path: Path) -> None:
    records = [record(name, count) for name in HOSTILE for count in (1, 16)]
    records += [unmeasured(name, 128, 0, "failed", "</details><script>*x*</script> a|b `c") for name in HOSTILE]
    about = manifest(HOSTILE, sweep={"name": HOSTILE[0]})
    html = READER.render(summary_of(write_run(tmp_path / "run", records, about)))
    assert "<script" not in html and "onerror" not in re.sub(r"<code>.*?</code>", "", html)
    assert html.count("<details>") == html.count("</details>")
    assert "<em>" not in html and "<a " not in html
    table = html.partition("<table>")[2].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    assert len({row.count("<td") + row.count("<th") for row in rows}) == 1
    assert "a|b'c'" in table


def many(strategies: int) -> list[Record]:
    return [
        record(f"strategy_{index:02d}_" + "x" * 80, count, repeat, rate_hz=1000.0 * (index + 1))
        for index in range(strategies)
        for count in (1, 16, 128)
        for repeat in range(2)
    ]


def test_it_fits_a_comment_however_much_was_measured_and_says_what_is_left_out(tmp_path: Path) -> None:
    records = many(60)
    records += [
        unmeasured(f"dead_{index}", 1, 0, "failed", f"reason {index} " + "y" * 500, order=900) for index in range(60)
    ]
    text = summary_of(write_run(tmp_path / "run", records))
    assert len(text) < GITHUB_TAKES
    assert "cases; all of them are in report.html" in text
    assert re.search(r"\d+ more are in report\\?\.html", text)
    assert READER.render(text).count("<table>") == 1


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([], "No trial of this run was recorded"),
        ([unmeasured("poll", 1, 0, "failed", "it died")], "it died"),
        ([record()], "the only one"),
        (load_sweep(repeats=1), "Latency over offered load"),
    ],
    ids=["none", "only failures", "one trial", "open loop"],
)
def test_any_run_has_one(tmp_path: Path, records: list[Record], says: str) -> None:
    text = summary_of(write_run(tmp_path / "run", records))
    assert text.startswith("## iobench: quick\n")
    assert says in text


def test_an_answer_that_was_searched_for_comes_first(tmp_path: Path) -> None:
    records, searches = searched()
    about = manifest(["epoll_lt", "poll"], searches=searches)
    text = summary_of(write_run(tmp_path / "run", records, about))
    assert text.index("Highest rate that holds p99 &lt; 5 ms") < text.index("| strategy")


def test_counts_of_why_are_folded_in(tmp_path: Path) -> None:
    about = manifest(["epoll_lt"], why=why("epoll_lt"))
    text = summary_of(write_run(tmp_path / "run", sweep(repeats=1)[:6], about))
    assert "<summary>Why: what a message costs the kernel</summary>" in text


def test_an_unfinished_run_is_called_so_before_anything_else(tmp_path: Path) -> None:
    about = manifest(["epoll_lt"], sweep={"name": "quick", "trials_planned": 99})
    text = summary_of(write_run(tmp_path / "run", [record()], about))
    assert text.index("> [!WARNING]\n> This run is unfinished: 1 of 99 trials") < text.index("For throughput")


# --- escaping


@pytest.mark.parametrize("text", ["a*b*c", "_x_", "a|b", "`", "<b>", "&amp;", "[a](b)", "\\*", "# no", "two\n\nlines"])
def test_escaped_text_is_read_as_it_was_written(text: str) -> None:
    html = READER.render(f"x {md.escaped(text)}")
    shown = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert html == f"<p>x {shown}</p>\n"


def test_a_sentence_keeps_its_names_as_code_and_nothing_else_as_markup() -> None:
    html = READER.render(md.sentence("`a_<b>` beats *all* of `c|d`, but for `"))
    assert html == "<p><code>a_&lt;b&gt;</code> beats *all* of <code>c|d</code>, but for `</p>\n"


def test_a_bar_ends_no_cell_also_within_code() -> None:
    html = READER.render(f"| x | y |\n| --- | --- |\n| {md.cell('`a|b` c|d')} | 2 |\n")
    assert "<td><code>a|b</code> c|d</td>\n<td>2</td>" in html
