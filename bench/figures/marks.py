"""From what is said of artists (`mark` and `label` in style.py) to attributes in the SVG of a page.

Matplotlib writes an artist as a group whose id is the artist's gid: there a mark arrives as JSON. A mark becomes
`<g class="mark" data-strategy="...">` with `data-says="..."` at each of its points, a label `<g class="label" ...>`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any


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

    return re.sub(r'^( *)<g class="(\d+)">\n(.*?)^\1</g>', spelled, svg, flags=re.DOTALL | re.MULTILINE)


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
