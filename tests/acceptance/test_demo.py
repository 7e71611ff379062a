"""The demo and the embedded engine, typed as a newcomer types it."""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from promptmill.driver.cli import _interrupt as interrupt
from promptmill.driver.cli import app, embedded

Promptmill = Callable[..., "subprocess.CompletedProcess[str]"]
Begin = Callable[..., "subprocess.Popen[str]"]
ROOT = Path(__file__).resolve().parents[2]
PRODUCTS = ROOT / "samples" / "products.csv"
DEMO = ROOT / "workflows" / "demo.json"


def lines_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").open(encoding="utf-8")]


def pixels(out: Path, line: dict[str, Any]) -> bytes:
    return Image.open(out / line["file"]).convert("RGB").tobytes()


def test_the_demo_makes_every_row_once(promptmill: Promptmill, tmp_path: Path) -> None:
    made = promptmill("demo")

    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("24 done; 24 made now")
    lines = lines_of(tmp_path / "output" / "demo")
    rows = list(csv.DictReader(PRODUCTS.open(encoding="utf-8")))
    assert {(line["id"], line["prompt"]) for line in lines} == {(row["sku"], row["prompt"]) for row in rows}
    assert len({line["sha256"] for line in lines}) == 24

    again = promptmill("demo")

    assert again.returncode == 0
    assert again.stdout.startswith("24 done; nothing was left to do")


def test_a_demo_that_was_killed_goes_on(promptmill: Promptmill, begin: Begin, tmp_path: Path) -> None:
    begin("demo").send_signal(signal.SIGKILL)
    process = begin("demo")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    before = {line.name: hashlib.sha256(line.read_bytes()).digest() for line in tmp_path.rglob("*.png")}

    finished = promptmill("demo")

    assert process.returncode == 130
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("24 done")
    after = {line.name: hashlib.sha256(line.read_bytes()).digest() for line in tmp_path.rglob("*.png")}
    assert 0 < len(before) < 24 == len(after)
    assert before.items() <= after.items(), "what was done stays as it was"


def test_an_embedded_engine_makes_what_another_engine_makes(
    promptmill: Promptmill,
    start_server: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["run", PRODUCTS, "-w", DEMO, "--limit", "3"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))

    inside = promptmill(*command, "--server", "embedded", "--out", "inside")
    outside = promptmill(
        *command, "--server", start_server("engine", tmp_path / "base").url, "--out", "outside"
    )

    assert (inside.returncode, outside.returncode) == (0, 0), inside.stderr + outside.stderr
    pairs = list(zip(lines_of(tmp_path / "inside"), lines_of(tmp_path / "outside"), strict=True))
    assert len(pairs) == 3
    for one, two in pairs:
        assert (one["file"], one["seed"]) == (two["file"], two["seed"])
        assert pixels(tmp_path / "inside", one) == pixels(tmp_path / "outside", two)
    assert not list(temporary.glob("promptmill-engine-*")), "nothing is left behind"


def test_a_workflow_for_comfyui_is_refused_before_it_starts(promptmill: Promptmill, tmp_path: Path) -> None:
    workflow = tmp_path / "custom.json"
    graph = json.loads((ROOT / "workflows" / "api" / "demo.json").read_text(encoding="utf-8"))
    graph["5"]["class_type"] = "SamplerCustomAdvanced"
    workflow.write_text(json.dumps(graph), encoding="utf-8")

    refused = promptmill("run", PRODUCTS, "-w", workflow, "--server", "embedded")

    assert refused.returncode == 2
    assert "SamplerCustomAdvanced" in refused.stderr
    assert not (tmp_path / "output").exists()


def test_words_the_checkpoint_does_not_know_fail_their_row_only(
    promptmill: Promptmill, tmp_path: Path
) -> None:
    table = tmp_path / "mixed.csv"
    table.write_text("id,prompt\n1,a red mug\n2,红色马克杯\n3,a blue hat\n", encoding="utf-8")

    ran = promptmill("run", table, "-w", DEMO, "--server", "embedded", "--retries", "0")

    assert ran.returncode == 1
    assert ran.stdout.startswith("2 done, 1 failed")
    failed = next(line for line in lines_of(tmp_path / "output" / "mixed") if line["id"] == "2")
    assert "红色马克杯" in failed["error"]


def test_an_interrupt_while_a_module_loads_waits_for_the_end_of_the_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Finder:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "promptmill_interrupted":
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("promptmill_interrupted")
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_its_packages_the_engine_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        app(["doctor", "--server", "embedded"])

    assert ended.value.code == 3
    assert "its extra engine" in capsys.readouterr().err
