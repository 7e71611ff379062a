"""Dynamic prompts: in some text widgets the canvas draws one of ``{a|b}`` and strips comments."""

from __future__ import annotations

import re

COMMENT = re.compile(r"/\*.*?\*/|//[^\n\r\u2028\u2029]*", re.S)
ESCAPED = re.compile(r"\\([{}|])")


def draw(text: str) -> str:
    """What the canvas sends for ``text``, taking the first alternative of each group.

    The canvas takes one at random; a fixed choice keeps a resumed run on the same graph.
    """
    return _resolve(COMMENT.sub("", text))


def escape(text: str) -> str:
    """A widget text that draws back to ``text``, unless it has ``//``, ``/*`` or an escape of its own."""
    return re.sub(r"([{}|])", r"\\\1", text)


def _resolve(text: str) -> str:
    out = []
    position = 0
    while position < len(text):
        if text[position] == "\\":
            out.append(text[position : position + 2])
            position += 2
        elif text[position] == "{":
            first, position = _first(text, position + 1)
            out.append(_resolve(first))
        else:
            out.append(text[position])
            position += 1
    return ESCAPED.sub(r"\1", "".join(out))


def _first(text: str, start: int) -> tuple[str, int]:
    """The first alternative of the group that opens before ``start``, and the position behind the group."""
    depth, end, position = 0, None, start
    while position < len(text) and depth >= 0:
        char = text[position]
        if char == "\\":
            position += 1
        elif char in "{}":
            depth += 1 if char == "{" else -1
        elif char == "|" and depth == 0 and end is None:
            end = position
        position += 1
    return text[start : position - (depth < 0) if end is None else end], position
