"""Which values a server accepts for an input: compiled once, then run for every row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ...errors import ValueRefused
from .schema import Spec, Target

if TYPE_CHECKING:
    from .graph import Graph

Check = Callable[[Any], Any]

INTEGER = re.compile(r"[ \t\r\n]*[+-]?[0-9]{1,40}[ \t\r\n]*")
DECIMAL = re.compile(r"[ \t\r\n]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?[ \t\r\n]*")
BOOLEANS = {"true": True, "1": True, "是": True, "false": False, "0": False, "否": False}
MODEL_FILE = re.compile(r"\.(safetensors|sft|ckpt|pth?|bin|gguf)$", re.I)
UPLOADS = ("image_upload", "video_upload", "audio_upload", "file_upload")


def checker(graph: Graph, target: Target) -> Check:
    """A function from a table's text (or a number) to the value the server accepts for ``target``.

    It raises ValueRefused with the value found and what would be right. An input of a class that the
    server does not have passes anything: that is one of ``graph.check()``'s errors.
    """
    spec = graph.specs(target.node_id).get(target.input)
    return compile_check(spec, str(target)) if spec else lambda value: value


def compile_check(spec: Spec, where: str) -> Check:
    """The same for an input's declaration; ``where`` opens each message."""
    if spec.type == "INT":
        return _integer(spec, where)
    if spec.type == "FLOAT":
        return _decimal(spec, where)
    if spec.type == "BOOLEAN":
        return _boolean(where)
    choices = spec.choices
    if choices is not None:
        return _choice(choices, where, is_upload=any(spec.options.get(name) for name in UPLOADS))
    return _text


def _integer(spec: Spec, where: str) -> Check:
    low, high = _range(spec)
    right = f"is not {_between('a whole number', low, high)}"

    def check(value: Any) -> int:
        if isinstance(value, str):
            if not INTEGER.fullmatch(value):
                raise _refused(right, where, value, "write digits only, such as 30")
            number = int(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            number = value
        else:
            raise _refused(right, where, value, "write digits only, such as 30")
        if not low <= number <= high:
            raise _refused(right, where, value, f"write {low if number < low else high}, or change the node")
        return number

    return check


def _decimal(spec: Spec, where: str) -> Check:
    low, high = _range(spec)
    right = f"is not {_between('a number', low, high)}"

    def check(value: Any) -> float:
        if isinstance(value, str) and not DECIMAL.fullmatch(value):
            raise _refused(right, where, value, "write a number with a point, such as 4.5")
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise _refused(right, where, value, "write a number with a point, such as 4.5")
        number = float(value)
        if not low <= number <= high:
            raise _refused(right, where, value, f"write {low if number < low else high}, or change the node")
        return number

    return check


def _boolean(where: str) -> Check:
    def check(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        found = BOOLEANS.get(str(value).strip().lower())
        if found is None:
            raise _refused("is not true or false", where, value, "write true or false (also 1 0 是 否)")
        return found

    return check


def _choice(choices: list[Any], where: str, *, is_upload: bool) -> Check:
    known = {str(choice): choice for choice in choices}

    def check(value: Any) -> Any:
        text = str(value)
        if text in known:
            return known[text]
        if is_upload and ("/" in text or text.endswith("]")):  # listed is only the input folder's top level
            return text
        raise not_listed(text, known, where)

    return check


def not_listed(text: str, known: Iterable[str], where: str) -> ValueRefused:
    """The error for a model, file or choice that the server does not offer."""
    names = list(known)
    lower = {name.lower(): name for name in names}
    close = [lower[name] for name in get_close_matches(text.lower(), lower, n=3, cutoff=0.6)]
    noun = "a model file" if MODEL_FILE.search(text) else "one of the choices"
    shown = ", ".join(names[:8]) + (f", ... ({len(names)} in all)" if len(names) > 8 else "")
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return _refused(f"is not {noun} on the server", where, text, f"{hint}available: {shown or 'none'}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _range(spec: Spec) -> tuple[float, float]:
    return spec.options.get("min", -math.inf), spec.options.get("max", math.inf)


def _between(noun: str, low: float, high: float) -> str:
    if low == -math.inf and high == math.inf:
        return noun
    return f"{noun} from {low} to {high}"


def _refused(message: str, where: str, value: Any, hint: str) -> ValueRefused:
    return ValueRefused(message, where=where, value=value, hint=hint)
