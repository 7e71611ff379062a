"""The main job, typed as a user types it: on the fake, on the engine, on a real ComfyUI."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

Promptmill = Callable[..., subprocess.CompletedProcess[str]]
Begin = Callable[..., "subprocess.Popen[str]"]
ROOT = Path(__file__).resolve().parents[2]
OTHER = ROOT / "workflows" / "text_to_image.json"
DEMO = ROOT / "workflows" / "demo.json"
SMALL = [
    "--set=EmptySD3LatentImage.width=64",
    "--set=EmptySD3LatentImage.height=64",
    "--set=KSampler.steps=2",
]


def manifest(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").open(encoding="utf-8")]


def audit(out: Path, expected: int) -> list[dict[str, Any]]:
    lines = manifest(out)
    assert [line["status"] for line in lines] == ["done"] * expected
    assert len({line["file"] for line in lines}) == expected
    for line in lines:
        data = (out / line["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == line["sha256"]
        Image.open(out / line["file"]).load()
    assert (out / "index.html").is_file()
    return lines


def same_picture(one: Path, two: Path) -> bool:
    return (
        ImageChops.difference(Image.open(one).convert("RGB"), Image.open(two).convert("RGB")).getbbox()
        is None
    )


def test_a_gbk_table_through_a_canvas_workflow(promptmill: Promptmill, server: Any, products: Path) -> None:
    command = ["run", products, "-w", DEMO, "--server", server.url, *SMALL]
    command += ["--name", "{style}/{sku}_v{variant}.png", "--variants", "2"]

    ran = promptmill(*command)

    assert ran.returncode == 0, ran.stderr
    assert "12 done" in ran.stdout
    assert "GB18030" in ran.stderr
    out = products.parent / "output" / "products"
    lines = audit(out, 12)
    assert (out / "摄影棚" / "P001_v2.png").is_file()
    picture = Image.open(out / "生活" / "P002_v1.png")
    prompt = json.loads(picture.text["prompt"])
    canvas = json.loads(picture.text["workflow"])
    texts = [node["widgets_values"][0] for node in canvas["nodes"] if node["type"] == "CLIPTextEncode"]
    assert any(node["inputs"].get("text") == "a product photo of a blue chair" for node in prompt.values())
    assert "a product photo of a blue chair" in texts, "the canvas shows this row's prompt"
    seed = next(line["seed"] for line in lines if line["file"] == "生活/P002_v1.png")
    sampler = next(node for node in canvas["nodes"] if node["type"] == "KSampler")
    assert sampler["widgets_values"][:2] == [seed, "fixed"]

    again = promptmill(*command)

    assert again.returncode == 0
    assert "nothing was left to do" in again.stdout


def test_a_finished_image_as_the_workflow_gives_the_same_image(
    promptmill: Promptmill, server: Any, products: Path
) -> None:
    first = promptmill(
        "run", products, "-w", DEMO, "--server", server.url, *SMALL, "--limit", 2, "--out", "first"
    )
    assert first.returncode == 0, first.stderr
    out = products.parent
    made = out / "first" / "P001_1.png"
    line = next(line for line in manifest(out / "first") if line["id"] == "P001")
    table = out / "one.csv"
    table.write_text(f'sku,prompt,seed\nP001,"{line["prompt"]}",{line["seed"]}\n', encoding="utf-8")

    again = promptmill("run", table, "-w", made, "--server", server.url, "--out", "second")

    assert again.returncode == 0, again.stderr
    assert same_picture(made, out / "second" / "P001_1.png")
    assert not same_picture(made, out / "first" / "P002_1.png")


def test_two_servers_on_one_output_folder(
    promptmill: Promptmill, server: Any, another_server: Any, tmp_path: Path
) -> None:
    """Fault 21."""
    table = tmp_path / "rows.csv"
    table.write_text("sku,prompt\n" + "".join(f"R{n},a red mug\n" for n in range(1, 21)), encoding="utf-8")

    ran = promptmill(
        "run",
        table,
        "-w",
        DEMO,
        "--server",
        server.url,
        "--server",
        another_server.url,
        *SMALL,
        "--out",
        "both",
    )

    assert ran.returncode == 0, ran.stderr
    lines = audit(tmp_path / "both", 20)
    assert {line["server"] for line in lines} == {server.url, another_server.url}
    assert len({line["sha256"] for line in lines}) == 20


def test_ctrl_c_cancels_and_the_same_command_goes_on(
    server: Any, promptmill: Promptmill, begin: Begin, products: Path
) -> None:
    arguments = [
        "run",
        products,
        "-w",
        DEMO,
        "--server",
        server.url,
        *SMALL,
        "--set=KSampler.steps=40",
        "--variants",
        "3",
    ]
    process = begin(*arguments)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    from promptmill.driver.comfy import ComfyClient

    assert ComfyClient(server.url).queue_remaining() == 0, "nothing of ours is left on the server"
    again = promptmill(*arguments)
    assert again.returncode == 0, again.stderr
    audit(products.parent / "output" / "products", 18)


def test_the_server_is_killed_and_comes_back(another_server: Any, begin: Begin, products: Path) -> None:
    """Fault 10."""
    arguments = [
        "run",
        products,
        "-w",
        DEMO,
        "--server",
        another_server.url,
        *SMALL,
        "--set=KSampler.steps=10",
        "--variants",
        "2",
    ]
    process = begin(*arguments)
    another_server.kill()
    time.sleep(1)
    another_server.start()
    output, errors = process.communicate(timeout=200)

    assert process.returncode == 0, output + errors
    audit(products.parent / "output" / "products", 12)


@pytest.mark.comfyui
def test_a_node_that_ends_the_worker_thread(
    start_comfyui: Callable[..., Any], base: Path, promptmill: Promptmill, tmp_path: Path
) -> None:
    """Fault 12, on a real server: HTTP goes on, the queue never moves; the run stops with the reason."""
    own = start_comfyui(base, "--database-url", "sqlite:///:memory:")
    graph = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "PromptmillTestDeadly", "inputs": {"images": ["1", 0], "deadly": False}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
    }
    workflow = tmp_path / "deadly.json"
    workflow.write_text(json.dumps(graph), encoding="utf-8")
    table = tmp_path / "rows.csv"
    table.write_text(
        "id,EmptyImage.color,PromptmillTestDeadly.deadly\n1,1,false\n2,2,true\n3,3,false\n", encoding="utf-8"
    )
    command = ["run", table, "-w", workflow, "--server", own.url, "--allow-blank"]

    ran = promptmill(*command, "--timeout", "3")

    assert ran.returncode == 3, ran.stdout + ran.stderr
    assert "does not react" in ran.stderr or "does not move" in ran.stderr
    own.kill()
    table.write_text(
        "id,EmptyImage.color,PromptmillTestDeadly.deadly\n1,1,false\n2,2,false\n3,3,false\n", encoding="utf-8"
    )
    own.start()
    again = promptmill(*command)
    assert again.returncode == 0, again.stderr
    audit(tmp_path / "output" / "rows", 3)
    own.kill()


def test_inspect_check_and_doctor_tell_the_truth(
    promptmill: Promptmill, kind: str, server: Any, products: Path
) -> None:
    inspected = promptmill("inspect", DEMO, "--server", server.url, "--json")
    checked = promptmill("check", products, "-w", DEMO, "--server", server.url, *SMALL, "--json")
    wrong = promptmill("check", products, "-w", OTHER, "--server", server.url)
    doctor = promptmill("doctor", "--server", server.url)

    roles = {json.loads(line)["role"] for line in inspected.stdout.splitlines()}
    assert {"prompt", "negative", "seed", "width", "height", "steps", "cfg", "saver"} <= roles
    assert json.loads(checked.stdout)["jobs"] == 6
    assert wrong.returncode == 2
    assert "promptmill-demo.safetensors" in wrong.stderr, "what the server has is listed"
    assert "ComfyUI 0.33" in doctor.stdout
    assert ("promptmill's engine" in doctor.stdout) == (kind == "engine")
