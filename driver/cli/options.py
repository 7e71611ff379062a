"""The arguments and options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TableArgument = Annotated[
    Path,
    typer.Argument(metavar="TABLE", help="csv, tsv, txt, json, jsonl, xlsx or parquet; a row per image."),
]
OutArgument = Annotated[Path, typer.Argument(metavar="OUT", help="The output folder of a run.")]
WorkflowOption = Annotated[
    Path,
    typer.Option(
        "--workflow",
        "-w",
        help="A workflow saved from ComfyUI (.json), an image made by one (.png), or a recipe (.toml).",
    ),
]
ServerOption = Annotated[
    list[str],
    typer.Option(
        "--server",
        envvar="PROMPTMILL_SERVER",
        help="A ComfyUI server, or 'embedded' for one without ComfyUI; repeat for several.",
    ),
]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="ADDRESS=TEMPLATE", help="Fill an input, e.g. 'KSampler.cfg=7'; repeat."),
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", metavar="PATTERN", help="File name pattern, e.g. '{style}/{sku}_v{variant}.png'."),
]
VariantsOption = Annotated[int | None, typer.Option("--variants", min=1, help="Images for each row.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Base of the seeds of rows that give none.")]
RowsOption = Annotated[str | None, typer.Option("--rows", help="Only these rows, e.g. 1-20,35.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N selected rows.")]
EncodingOption = Annotated[
    str | None, typer.Option("--encoding", help="The table's encoding, when it is not found by itself.")
]
DelimiterOption = Annotated[
    str | None, typer.Option("--delimiter", help="The column delimiter, when it is not found by itself.")
]
BlankOption = Annotated[
    bool | None, typer.Option("--allow-blank", help="Accept images of one single colour.", show_default=False)
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "--output-dir", help="The output folder; default output/<table name>."),
]
InFlightOption = Annotated[int, typer.Option("--in-flight", min=1, help="Jobs on each server at a time.")]
TimeoutOption = Annotated[
    float,
    typer.Option("--timeout", min=0.1, help="Seconds without progress before a job or server is given up."),
]
RetriesOption = Annotated[
    int, typer.Option("--retries", min=0, help="How often a failed job is tried again.")
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="PROMPTMILL_DATABASE",
        help="The ledger's URL; default ledger.sqlite in the folder.",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Go on in a folder of another run; nothing is overwritten.")
]
TableOption = Annotated[
    Path | None,
    typer.Option("--table", help="The table, when it is not where it was."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
DEFAULT_SERVERS = ["http://127.0.0.1:8188"]
