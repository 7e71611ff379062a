"""Prompt Table: a file or pasted text as jobs, with their prompts, seeds and file names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..errors import FileNameError, PromptmillError, TableError
from ..table import Jobs, Selection, Table, open_table, pasted_table
from .folders import list_tables, output_folder, table_path
from .sockets import CATEGORY, PromptTableValue, TableSocket

AUTOMATIC = "auto"
ENCODINGS = [AUTOMATIC, "utf-8", "gb18030", "big5", "shift_jis", "euc_kr", "utf-16-le", "cp1252"]
NO_FILE = "(pasted text)"
"""What the list of files offers where there is none, and where the text is the table."""


class PromptTable(io.ComfyNode):
    """See the module's docstring."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The face of the node."""
        return io.Schema(
            node_id="PromptmillPromptTable",
            display_name="Prompt Table",
            category=CATEGORY,
            description="A table of prompts: csv, tsv, txt, json, jsonl, xlsx or parquet from the input folder, or pasted text. "
            "Each row becomes an image with its own prompt, seed and file name.",
            search_aliases=[
                "csv",
                "excel",
                "xlsx",
                "prompt list",
                "load prompts",
                "batch prompts",
                "提示词表",
                "表格",
            ],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=[*list_tables(), NO_FILE],
                    tooltip="A table in ComfyUI's input folder. Drop a file onto the node to add one.",
                ),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    tooltip="Used instead of a file when the file is (pasted text): one prompt a line, or csv with a header, or json. "
                    "It stays in the workflow and in every image: for many rows choose a file.",
                ),
                io.String.Input(
                    "prompt",
                    default="{prompt}",
                    multiline=True,
                    tooltip="The prompt of each row. {column} stands for a cell: {prompt}, {style}.",
                ),
                io.String.Input(
                    "negative",
                    default="",
                    multiline=True,
                    tooltip="The negative prompt of rows that have none of their own.",
                ),
                io.String.Input(
                    "file_name",
                    default="",
                    tooltip="Pattern of the file names: {sku}_{index}.png, {style}/{id}.png. Blank: the table's own names, else "
                    "{id}_{variant}.png.",
                ),
                io.String.Input(
                    "folder",
                    default="",
                    tooltip="Folder below ComfyUI's output folder; each table needs its own. Blank: the file's name, or pasted.",
                ),
                io.Int.Input(
                    "variants",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="Images of each row, each with its own seed.",
                ),
                io.Int.Input(
                    "base_seed",
                    default=0,
                    min=0,
                    max=2**53 - 1,
                    control_after_generate=False,
                    tooltip="Rows without a seed get one from this, their id and the variant: other rows never change it.",
                ),
                io.String.Input("rows", default="", tooltip="Only these rows: 1-20,35. Blank: all."),
                io.String.Input(
                    "filter",
                    default="",
                    multiline=True,
                    advanced=True,
                    tooltip="Only rows that meet all of these, one a line: style = watercolor, sku = MUG-*, note != ",
                ),
                io.Combo.Input(
                    "encoding",
                    options=ENCODINGS,
                    advanced=True,
                    tooltip="How the file's text is encoded. auto: byte order mark, UTF-8, then GB18030 (Excel in China).",
                ),
            ],
            outputs=[
                TableSocket.Output("table", display_name="table", tooltip="The checked table."),
                io.Int.Output("count", display_name="count", tooltip="How many images it asks for."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        """Naming ``file`` turns off "Value not in list", which does not say what to do."""
        try:
            if file != NO_FILE:
                table_path(file)
        except PromptmillError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str, text: Any = None, **inputs: Any) -> Any:
        """The file's time and size: an edited table is read again, and pasted text that somebody cleared away."""
        if file == NO_FILE and not (isinstance(text, str) and text.strip()):
            return None
        found = (pasted(text) if file == NO_FILE else table_path(file)).stat()
        return found.st_mtime_ns, found.st_size

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        """Read and check the whole table."""
        value = read_table(**inputs)
        return io.NodeOutput(value, value.count)


def read_table(
    *,
    file: str,
    text: str,
    prompt: str,
    negative: str,
    file_name: str,
    folder: str,
    variants: int,
    base_seed: int,
    rows: str,
    filter: str,
    encoding: str,
) -> PromptTableValue:
    """
    The node's inputs as a checked table.

    :raises PromptmillError: whatever is wrong with the file, its rows, the templates or the names.
    """
    table = open_input(file, text, encoding)
    jobs = Jobs(
        table,
        prompt=prompt,
        negative=negative,
        name=file_name.strip() or None,
        seed=base_seed,
        variants=variants,
        selection=Selection.parse(rows) if rows.strip() else None,
        conditions=filter,
    )
    count = jobs.check()
    where = folder.strip() or table.path.stem
    try:
        output_folder(where)
    except FileNameError as error:
        error.where = "folder"
        error.hint = "type the name of a folder into the node, such as mugs/spring"
        raise
    return PromptTableValue(jobs, count, where)


def open_input(file: str, text: str, encoding: str) -> Table:
    """:raises TableError: no file and no text, or the table cannot be read."""
    if file != NO_FILE:
        return open_table(table_path(file), encoding=None if encoding == AUTOMATIC else encoding)
    if not text.strip():
        raise TableError(
            "there is no table yet",
            where="Prompt Table",
            hint="drop a file onto the node, or paste one prompt a line into its text",
        )
    return open_table(pasted(text))


def pasted(text: str) -> Path:
    """The file of a pasted text."""
    return pasted_table(text, Path(folder_paths.get_temp_directory(), "promptmill"))
