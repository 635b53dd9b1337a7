"""From what is said of artists (`mark` and `label` in style.py) to attributes in the SVG of a page.

Matplotlib writes an artist as a group whose id is the artist's gid: there a mark arrives as JSON. A mark becomes
`<g class="mark" data-strategy="...">` with `data-says="..."` at each of its points, a label `<g class="label" ...>`.
A page about one strategy has the same figures, the others' marks pale.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_LINES = re.DOTALL | re.MULTILINE


def set_apart(svg: str) -> tuple[str, list[Any]]:
    """Take the marks out of an SVG and leave their numbers, so that its markup can be changed and no name with it."""
    marks: list[Any] = []

    def numbered(group: re.Match[str]) -> str:
        marks.append(json.loads(html.unescape(group[1][1:-1])))
        return f'<g class="{len(marks) - 1}">'

    return re.sub(r"""<g id=("[\[{][^"]*"|'[\[{][^']*')>""", numbered, svg), marks


def put_back(svg: str, marks: Sequence[Any]) -> str:
    """Write the marks as attributes of their groups and points.

    A group ends where a closing tag is indented as its opening one is.
    """

    def spelled(group: re.Match[str]) -> str:
        indent, number, body = group.groups()
        said = marks[int(number)]
        kind, strategy, says = ("label", said["names"], []) if isinstance(said, dict) else ("mark", said[0], said[1:])
        whose = f' data-strategy="{_attribute(strategy)}"' if strategy else ""
        return f'{indent}<g class="{kind}"{whose}>\n{_with_words(body, says)}{indent}</g>'

    return re.sub(r'^( *)<g class="(\d+)">\n(.*?)^\1</g>', spelled, svg, flags=_LINES)


@dataclass(frozen=True)
class Pieces:
    """The SVG of a page cut at its marks and labels, to be put together again for one strategy."""

    texts: tuple[str, ...]  # as they are
    pale: tuple[str, ...]  # as they are for another strategy: pale, without words
    whose: tuple[str, ...]  # the strategy of each, escaped; "" for what is nobody's
    strategies: frozenset[str]  # those with a mark


def cut(svg: str) -> Pieces:
    """Cut the SVG of a page (what `put_back` returned) into what belongs to one strategy and what to none."""
    texts, pale, whose = [], [], []
    marked = set()
    place = 0
    for group in re.finditer(r'^( *)<g class="(mark|label)" data-strategy="([^"]*)">\n.*?^\1</g>', svg, _LINES):
        before, text, kind = svg[place : group.start()], group[0], group[2]
        texts += [before, text]
        pale += [before, _pale(text, kind)]
        whose += ["", group[3]]
        if kind == "mark":
            marked.add(html.unescape(group[3]))
        place = group.end()
    rest = svg[place:]
    return Pieces((*texts, rest), (*pale, rest), (*whose, ""), frozenset(marked))


def of_one(pieces: Pieces, strategy: str) -> str:
    """Put the pieces together for one strategy: of the others, lines and bars stay, pale and silent."""
    own = _attribute(strategy)
    return "".join(
        text if whose in ("", own) else pale
        for text, pale, whose in zip(pieces.texts, pieces.pale, pieces.whose, strict=True)
    )


def _pale(group: str, kind: str) -> str:
    if kind == "mark" and "<use data-says" in group:  # points, of which others may use the outlines
        return "\n".join(re.findall(r"<defs>.*?</defs>", group, re.DOTALL))
    return re.sub(r' data-says="[^"]*"', "", group).replace(f'<g class="{kind}"', f'<g class="{kind} other"', 1)


def _with_words(body: str, says: Sequence[str]) -> str:
    """Let the markers of a group speak, or its shapes where it has none."""
    for element in ("<use", "<path d="):  # a path with an id is the outline of a marker
        first, *points = body.split(element)
        if points and len(points) == len(says):
            tag, space, attributes = element.partition(" ")
            told = (
                f'{tag} data-says="{_attribute(text)}"{space}{attributes}{point}'
                for text, point in zip(says, points, strict=True)
            )
            return first + "".join(told)
    return body


def _attribute(text: str) -> str:
    return html.escape(text).replace("\n", "&#10;")
