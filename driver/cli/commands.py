"""The commands that make images, and those that check whether they could."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ...errors import AddressError, TableError
from .app import command
from .embedded import EMBEDDED, MODELS, engine_class
from .options import (
    DEFAULT_SERVERS,
    BlankOption,
    DatabaseOption,
    DelimiterOption,
    EncodingOption,
    ForceOption,
    InFlightOption,
    JsonOption,
    LimitOption,
    NameOption,
    OutArgument,
    OutOption,
    RetriesOption,
    RowsOption,
    SeedOption,
    ServerOption,
    SetOption,
    TableArgument,
    TableOption,
    TimeoutOption,
    VariantsOption,
    WorkflowOption,
)
from .output import Output

if TYPE_CHECKING:
    from ..ledger import JobState
    from ..runner import Request, WorkerSettings

EXAMPLES = Path(__file__).resolve().parents[2]


@command
def run(
    table: TableArgument,
    workflow: WorkflowOption,
    server: ServerOption = DEFAULT_SERVERS,
    out: OutOption = None,
    name: NameOption = None,
    bindings: SetOption = [],  # noqa: B006
    variants: VariantsOption = None,
    seed: SeedOption = None,
    rows: RowsOption = None,
    limit: LimitOption = None,
    in_flight: InFlightOption = 2,
    timeout: TimeoutOption = 600.0,
    retries: RetriesOption = 2,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    allow_blank: BlankOption = None,
    database: DatabaseOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check, as `promptmill check`.")] = False,
) -> int:
    """Make the images of a table. Typed again after an interruption, the same command goes on."""
    from ..runner import Request, WorkerSettings

    request = Request(
        table=table,
        workflow=workflow,
        servers=tuple(server),
        name=name,
        bindings=parse_bindings(bindings),
        variants=variants,
        seed=seed,
        rows=rows,
        limit=limit,
        encoding=encoding,
        delimiter=delimiter,
        allow_blank=allow_blank,
    )
    if dry_run:
        return show_check(request, Output(json=json))
    settings = WorkerSettings(in_flight=in_flight, timeout=timeout, retries=retries)
    return show_run(request, settings, out, database, force, Output(json=json))


@command
def check(
    table: TableArgument,
    workflow: WorkflowOption,
    server: ServerOption = DEFAULT_SERVERS,
    name: NameOption = None,
    bindings: SetOption = [],  # noqa: B006
    variants: VariantsOption = None,
    seed: SeedOption = None,
    rows: RowsOption = None,
    limit: LimitOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    json: JsonOption = False,
) -> int:
    """Validate every row against every server and show the plan. Queues nothing, writes nothing."""
    from ..runner import Request

    request = Request(
        table,
        workflow,
        tuple(server),
        name,
        variants,
        seed,
        parse_bindings(bindings),
        None,
        rows,
        limit,
        encoding,
        delimiter,
    )
    return show_check(request, Output(json=json))


@command
def retry(
    out: OutArgument,
    server: ServerOption = DEFAULT_SERVERS,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only failed jobs, not quarantined or cancelled ones.")
    ] = False,
    table: TableOption = None,
    in_flight: InFlightOption = 2,
    timeout: TimeoutOption = 600.0,
    retries: RetriesOption = 2,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    database: DatabaseOption = None,
    json: JsonOption = False,
) -> int:
    """Try the jobs of a run again that ended without an image."""
    from ..ledger import JobState, Ledger
    from ..output import existing_output
    from ..recipe import RECIPE_FILE
    from ..runner import Request, WorkerSettings

    folder = existing_output(out, database=database)
    ledger = Ledger(folder.ledger_url)
    known = ledger.run(folder.run_id)
    ledger.close()
    if known is None:
        raise TableError("the run in this folder was never planned", value=str(out), hint="promptmill run")
    path = table or Path(known["table_path"])
    if not path.is_file():
        raise TableError("the run's table is not there any more", value=str(path), hint="--table FILE")
    again = {JobState.FAILED} if failed else {JobState.FAILED, JobState.QUARANTINED, JobState.CANCELLED}
    request = Request(path, out / RECIPE_FILE, tuple(server), encoding=encoding, delimiter=delimiter)
    settings = WorkerSettings(in_flight=in_flight, timeout=timeout, retries=retries)
    return show_run(request, settings, out, database, False, Output(json=json), frozenset(again))


@command
def demo(
    server: ServerOption = [EMBEDDED],  # noqa: B006
    out: Annotated[Path, typer.Option("--out", "--output-dir", help="The output folder.")] = Path(
        "output/demo"
    ),
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="DIR",
            help="Only write the demo checkpoint as one file for ComfyUI's models/checkpoints.",
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Make the pictures of the example table, without ComfyUI, from a small checkpoint that comes along."""
    from ..runner import Request, WorkerSettings

    output = Output(json=json)
    if export:
        engine_class()
        from ..engine.demo.export import export as export_checkpoint

        path = export_checkpoint(export)
        output.result(str(path), {"checkpoint": str(path)})
        return 0
    table, workflow = EXAMPLES / "samples" / "products.csv", EXAMPLES / "workflows" / "demo.json"
    request = Request(table, workflow, tuple(server), name="{style}/{sku}.png")
    return show_run(request, WorkerSettings(), out, None, False, output)


@command
def engine(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8189,
    listen: Annotated[str, typer.Option("--listen", help="The address to listen on.")] = "127.0.0.1",
    base: Annotated[
        Path,
        typer.Option(
            "--base-directory", help="Where its folders input, output, temp and models/checkpoints are."
        ),
    ] = Path("engine"),
    models: Annotated[
        list[Path],
        typer.Option(
            "--models", envvar=MODELS, help="A further folder with diffusers folders; repeat for several."
        ),
    ] = [],  # noqa: B006
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="Where torch computes.")
    ] = "auto",
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp8", "int8"],
        typer.Option("--precision", help="Of diffusers folders."),
    ] = "auto",
) -> int:
    """Serve ComfyUI's API without ComfyUI: the demo checkpoint and diffusers folders."""
    output = Output()
    server = engine_class()(base, host=listen, port=port, models=models, device=device, precision=precision)
    with suppress(KeyboardInterrupt):
        server.serve(lambda url: output.result(url, {"url": url}))
    return 0


def parse_bindings(texts: Sequence[str]) -> dict[str, str]:
    """``ADDRESS=TEMPLATE`` words as a mapping."""
    pairs = {}
    for text in texts:
        address, equals, template = text.partition("=")
        if not equals or not address.strip():
            raise AddressError(
                "a binding is ADDRESS=TEMPLATE", where="--set", value=text, hint="--set 'KSampler.cfg=7'"
            )
        pairs[address.strip()] = template
    return pairs


def show_run(
    request: Request,
    settings: WorkerSettings,
    out: Path | None,
    database: str | None,
    force: bool,
    output: Output,
    retry: frozenset[JobState] = frozenset(),
) -> int:
    """Run with a live view; print the result; return the exit code."""
    from ..runner import run as run_table
    from .live import LiveRun

    view = LiveRun(output)
    try:
        result = run_table(
            request,
            out=out,
            database=database,
            force=force,
            settings=settings,
            observer=view,
            retry=retry,
        )
    finally:
        view.end()
    counts = {state.value: count for state, count in result.counts.items() if count}
    told = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no jobs"
    if result.made == 0 and result.exit_code == 0:
        told += "; nothing was left to do"
    else:
        told += f"; {result.made} made now in {result.seconds:.1f} s"
    if result.interrupted:
        told += "; interrupted, the same command goes on"
    record = {
        "event": "end",
        "out": str(result.out),
        "made": result.made,
        "seconds": round(result.seconds, 3),
        "exit_code": result.exit_code,
        **counts,
    }
    output.result(f"{told}\n{result.out / 'index.html'}", record)
    if result.error is not None:
        output.error(result.error)
    return result.exit_code


def show_check(request: Request, output: Output) -> int:
    """Check a request and print its plan."""
    from itertools import islice

    from ...errors import Problems
    from ..runner import prepare

    prepared = prepare(request, output.talk)
    plan = prepared.plan
    bindings = {binding.address: binding.template for binding in plan.bindings} | plan.automatic()
    lines = [
        f"{prepared.jobs} jobs on {len(prepared.clients)} server(s), named {plan.pattern()}",
        "bindings:",
    ]
    lines += [f"  {address} = {template}" for address, template in bindings.items()]
    first = [name for job in islice(plan.resolved(Problems()), 3) for name in job.names]
    lines.append("first files: " + ", ".join(first))
    record = {
        "jobs": prepared.jobs,
        "servers": [client.url for client in prepared.clients],
        "left_out": prepared.left_out,
        "name": plan.pattern(),
        "bindings": bindings,
        "first_files": first,
    }
    output.result("\n".join(lines), record)
    return 0
