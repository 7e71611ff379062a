"""File names that mean the same file, or no file at all, on no system."""

from __future__ import annotations

import re
import unicodedata

from ..errors import FileNameError

PART_CAP = 255
"""The most bytes (UTF-8) between two slashes: what Linux, macOS and Windows file systems take."""

PATH_CAP = 512
"""The most bytes (UTF-8) of a whole name: half of macOS's 1,024, the rest is for the output folder."""

_FORBIDDEN = re.compile('[\x00-\x1f\x7f-\x9f\ud800-\udfff\\\\:?*"<>|]')
_RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL
)


def check_name(name: str) -> str:
    """
    A relative file path with ``/`` between folders that every operating system takes, in NFC. The verdict is the
    same on all of them.

    :raises FileNameError: it could leave the output folder, or some system refuses or changes it.
    """
    name = unicodedata.normalize("NFC", name)
    if not name:
        raise FileNameError("the file name is empty", value=name, hint="fill the columns it is made from")
    if found := _FORBIDDEN.search(name):
        raise FileNameError(
            f"a file name cannot contain {found.group()!r} on every system",
            value=name,
            hint='replace it in the table; a / makes a folder, and none of \\ : ? * " < > | works everywhere',
        )
    if len(name.encode()) > PATH_CAP:
        raise FileNameError(
            f"the file name has {len(name.encode())} bytes; at most {PATH_CAP} fit",
            value=name,
            hint="shorten it",
        )
    for part in name.split("/"):
        if fault := _part_fault(part):
            message, hint = fault
            raise FileNameError(message, value=name, hint=hint)
    return name


def name_key(name: str) -> str:
    """What two names share when they are the same file on some system: NFC and letter case folded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _part_fault(part: str) -> tuple[str, str] | None:
    """What is wrong, and what to do."""
    if not part:
        return (
            "a folder name is empty, or the path is absolute",
            "fill the columns it is made from; start without /",
        )
    if part in (".", ".."):
        return f"{part!r} is no folder name; a name stays inside the output folder", "delete it"
    if part[0] == " " or part[-1] in " .":
        return (
            "a part starts with a space, or ends with a space or a dot",
            "delete these characters in the table",
        )
    if _RESERVED.fullmatch(part):
        return f"{part!r} is a device on Windows", "put something in front of it"
    if len(part.encode()) > PART_CAP:
        return (
            f"a part has {len(part.encode())} bytes; at most {PART_CAP} fit",
            "shorten it, as in {prompt:.40}",
        )
    return None
