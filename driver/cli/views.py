"""The commands that only look."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import ServerError
from .app import command
from .options import DEFAULT_SERVERS, DatabaseOption, JsonOption, OutArgument, ServerOption
from .output import Output

if TYPE_CHECKING:
    from ...quantization.hardware import Device


@command
def inspect(
    workflow: Annotated[
        Path,
        typer.Argument(
            metavar="WORKFLOW", help="A workflow (.json), an image made by one (.png), or a recipe (.toml)."
        ),
    ],
    server: ServerOption = DEFAULT_SERVERS,
    json: JsonOption = False,
) -> int:
    """Show what can be bound in a workflow, under which addresses, and what is found by itself."""
    from ..comfy import ComfyClient
    from ..recipe import load_recipe
    from ..workflow import load_workflow

    output = Output(json=json)
    graph = load_workflow(load_recipe(workflow).workflow).graph(ComfyClient(server[0]).object_info())
    roles = {target: role for role, targets in graph.automatic().items() for target in targets}
    for info in graph.inputs():
        role = roles.get(info.target, "")
        output.result(
            f"{role or '-':10}  {info.addresses[0]} = {info.value!r}",
            {"role": role, "addresses": list(info.addresses), "class": info.class_type, "value": info.value},
        )
    for saver in graph.savers():
        output.result(
            f"{'saver':10}  #{saver.node_id} {saver.class_type}", {"role": "saver", "node": saver.node_id}
        )
    return 0


@command
def status(
    out: OutArgument,
    attempts: Annotated[bool, typer.Option("--attempts", help="List every attempt.")] = False,
    row: Annotated[
        str | None, typer.Option("--row", help="List the attempts of the row with this id.")
    ] = None,
    database: DatabaseOption = None,
    json: JsonOption = False,
) -> int:
    """Show how far a run is; it may be running."""
    from ..ledger import Ledger
    from ..output import existing_output
    from ..runner.summary import summary_of

    output = Output(json=json)
    folder = existing_output(out, database=database)
    ledger = Ledger(folder.ledger_url)
    counts = summary_of(ledger, folder.run_id)
    output.result(", ".join(f"{count} {state}" for state, count in counts.items()), counts)
    for attempt in ledger.attempts(folder.run_id, row) if attempts or row else ():
        output.result(
            "{created_at}  {row_id} v{variant} #{number}  {state}  {server}  {error}".format(**attempt),
            {key: _plain(value) for key, value in attempt.items()},
        )
    ledger.close()
    return 0


@command
def report(out: OutArgument, database: DatabaseOption = None, json: JsonOption = False) -> int:
    """Write manifest.csv, manifest.jsonl and index.html anew from the ledger; the run may be running."""
    from ..ledger import Ledger
    from ..output import existing_output
    from ..runner.summary import report_on

    folder = existing_output(out, database=database)
    ledger = Ledger(folder.ledger_url)
    report_on(ledger, folder)
    ledger.close()
    files = [str(out / name) for name in ("manifest.csv", "manifest.jsonl", "index.html")]
    Output(json=json).result("\n".join(files), {"files": files})
    return 0


@command
def doctor(server: ServerOption = DEFAULT_SERVERS, json: JsonOption = False) -> int:
    """Show servers, versions and devices, what suits them, and what to mend."""
    from ...quantization.hardware import device_of_server
    from ..comfy import ComfyClient

    output = Output(json=json)
    output.talk(f"Python {platform.python_version()} on {platform.platform()}")
    reached = 0
    for url in server:
        try:
            client = ComfyClient(url)
            stats, waiting = client.system_stats(), client.queue_remaining()
        except ServerError as error:
            output.result(str(error), {"server": url, **error.as_dict()})
            continue
        reached += 1
        system = stats["system"]
        devices = [_device(device) for device in stats["devices"]]
        kind = "promptmill's engine as ComfyUI" if system.get("argv", [])[:1] == ["promptmill"] else "ComfyUI"
        output.result(
            f"{url}: {kind} {system['comfyui_version']}, torch {system['pytorch_version']}, "
            f"{'; '.join(devices)}, {waiting} in the queue",
            {"server": url, "queue": waiting, **stats},
        )
        if kind == "ComfyUI":
            for device in stats["devices"]:
                _advise(url, device_of_server(device, system["pytorch_version"]), output)
    return 0 if reached == len(server) else ServerError.exit_code


def _device(device: dict[str, Any]) -> str:
    free, total = device["vram_free"] / 2**30, device["vram_total"] / 2**30
    return f"{device['name']} ({free:.1f} of {total:.1f} GiB free)"


def _advise(url: str, device: Device, output: Output) -> None:
    from ...quantization.hardware import FORMATS, advise, runs

    found = {name: runs(name, device) for name in FORMATS}
    advice = advise(device)
    lines = [f"  {device}", *(f"    {name}: {run.how} ({run.why})" for name, run in found.items())]
    size = f"{advice.memory / 1e9:.1f} GB with weights" + ("" if advice.fits else ", which are streamed")
    lines.append(
        f"    a model of 8 B: {advice.choice.format} ({advice.choice.why}); "
        f"rows_per_batch {advice.rows} at 1264 x 848 ({size})"
    )
    record = {name: run._asdict() for name, run in found.items()}
    model = {"format": advice.choice.format, "why": advice.choice.why, "rows_per_batch": advice.rows}
    output.result(
        "\n".join(lines),
        {
            "server": url,
            "device": device.name,
            **record,
            "model_8b": {**model, "fits": advice.fits, "bytes": advice.memory},
        },
    )


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str) else str(value)
