"""Templates such as ``{style}/{sku}_v{variant}.png``: format syntax, but names and format specs only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from ..errors import TemplateError
from .columns import clean

Filled = Callable[[Mapping[str, str], Mapping[str, object]], str]

_SPEC = re.compile(
    r"(?P<align>[^{}]?[<>=^])?(?P<sign>[-+ ])?#?(?P<zero>0)?\d{0,3}(?P<group>[,_])?(\.\d{1,3})?(?P<type>[bdoxXeEfFgGs%])?"
)


@dataclass(frozen=True, slots=True)
class _Part:
    """A name in braces and the text before it; at the end there may be text alone."""

    literal: str
    name: str | None
    spec: str
    convert: Callable[[str], object]


class Template:
    """
    Text with ``{name}`` or ``{name:spec}`` in it; ``{{`` and ``}}`` are braces.

    There is no attribute access, indexing or conversion: a dot or bracket is part of the column's name.
    """

    def __init__(self, text: str) -> None:
        """:raises TemplateError: a brace is open, a name is missing, or a spec is not allowed."""
        self.text = text
        try:
            parsed = list(Formatter().parse(text))
        except ValueError as error:
            raise TemplateError(
                str(error), value=text, hint="write {{ or }} for a brace in the text"
            ) from None
        self._parts = [
            _Part(literal, None, "", str) if name is None else _named(literal, name, spec or "", conversion)
            for literal, name, spec, conversion in parsed
        ]
        self.names: tuple[str, ...] = tuple(dict.fromkeys(part.name for part in self._parts if part.name))

    def compile(
        self, table_columns: Iterable[str], known: Mapping[str, str], extra: Iterable[str] = ()
    ) -> Filled:
        """
        Bind the names. One of ``extra`` comes first, then a column, then a canonical name; a column that is known
        under the name of an extra (种子 for ``seed``) gives the extra, which is the value in effect.

        :return: called as ``f(fields, extra_values)``; raises TemplateError where a value does not fit its spec.
        :raises TemplateError: an unknown name, or one that is both an extra and a column of another meaning.
        """
        columns, extras = set(table_columns), set(extra)
        meanings = {column: name for name, column in known.items()}
        keys: list[tuple[_Part, bool, str]] = []
        for part in self._parts:
            name = part.name or ""
            meaning = meanings.get(name, name)
            if meaning in extras:
                if name in columns and name not in meanings:
                    raise TemplateError(
                        "this name is both a column and one of promptmill's own",
                        where=self.text,
                        value=name,
                        hint=f"rename the column; promptmill's own are {', '.join(sorted(extras))}",
                    )
                keys.append((part, True, meaning))
            elif part.name is None or name in columns:
                keys.append((part, False, name))
            elif name in known:
                keys.append((part, False, known[name]))
            else:
                raise self._unknown(name, columns | set(known) | extras)

        def fill(fields: Mapping[str, str], extra_values: Mapping[str, object]) -> str:
            text = ""
            for part, own, key in keys:
                text += part.literal
                if part.name is not None:
                    text += self._format(extra_values[key] if own else fields[key], part)
            return text

        return fill

    def _format(self, value: Any, part: _Part) -> str:
        try:
            return format(part.convert(value) if isinstance(value, str) else value, part.spec)
        except (ValueError, OverflowError):
            raise TemplateError(
                f"this value does not fit {{{part.name}:{part.spec}}}",
                where=self.text,
                value=value,
                hint=f"{{{part.name}}} takes any text",
            ) from None

    def _unknown(self, name: str, names: set[str]) -> TemplateError:
        from difflib import get_close_matches

        near = get_close_matches(name, names, n=1)
        guess = f"did you mean {{{near[0]}}}? " if near else ""
        return TemplateError(
            "no column or value has this name",
            where=self.text,
            value=name,
            hint=f"{guess}there are: {', '.join(sorted(names))}",
        )


def _named(literal: str, name: str, spec: str, conversion: str | None) -> _Part:
    if not clean(name):
        raise TemplateError("a name is missing between the braces", value="{}", hint="{sku}, {row:05}")
    if conversion is not None:
        raise TemplateError(
            "conversions are not allowed", value=f"{{{name}!{conversion}}}", hint=f"{{{name}}}"
        )
    if found := _SPEC.fullmatch(spec):
        convert = _converter(found)
        try:
            format(convert("0"), spec)
        except ValueError:
            pass
        else:
            return _Part(literal, clean(name), spec, convert)
    raise TemplateError(
        "this format spec is not allowed",
        value=f"{{{name}:{spec}}}",
        hint="{row:05}, {cfg:.1f}, {prompt:.40}",
    )


def _converter(spec: re.Match[str]) -> Callable[[str], object]:
    """A zero in front of the width, a sign, or a type of numbers wants a number."""
    if spec["type"] and spec["type"] in "eEfFgG%":
        return float
    if spec["type"] == "s":
        return str
    aligned_as_number = spec["align"] and spec["align"][-1] == "="
    numeric = spec["type"] or spec["zero"] or spec["sign"] or spec["group"] or aligned_as_number
    return _whole if numeric else str


def _whole(text: str) -> int:
    if not re.fullmatch(r"[ \t\r\n]*[+-]?[0-9]{1,1000}[ \t\r\n]*", text):
        raise ValueError(text)
    return int(text)
