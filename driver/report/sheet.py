"""The contact sheet: one page that shows every image of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from ...table import Entry
from .replacing import replacing

FIELDS = (
    "id", "row", "variant", "index", "file", "prompt", "negative", "seed", "width", "height", "server",
    "seconds", "attempts", "status", "error", "thumbnail",
)  # fmt: skip


def write_contact_sheet(
    out: Path, title: str, entries: Iterable[Entry], summary: Mapping[str, str | int]
) -> None:
    """Write ``out/index.html``: page, style, script and data in one file, images by relative links.

    ``summary`` is shown in the header as label and value; the page itself counts states and images.

    :raises OutputError: the page cannot be replaced. An error leaves the old page as it was.
    """
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    page = environment.get_template("sheet.html").generate(
        title=title, summary=summary, fields=FIELDS, rows=map(_row, entries)
    )
    with (
        replacing(out / "index.html") as part,
        part.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.writelines(page)


def _row(entry: Entry) -> list[object]:
    values = [getattr(entry, name) for name in FIELDS]
    if entry.seed is not None:
        values[FIELDS.index("seed")] = str(entry.seed)  # JavaScript's numbers end at 2^53
    return values
