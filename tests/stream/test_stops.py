"""Given a run that stops in its middle, expect all that was made in its place, and the next run to make only the rest."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.comfyui

SMALL = {"width": 64, "height": 64, "steps": 1, "cfg": 1.0}


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline, "it should have happened by now"
        time.sleep(0.005)


def times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}


def expect_only_the_rest(before: dict[str, int], out: Path, count: int) -> None:
    after = times(out)
    assert len(after) == count
    assert before.items() <= after.items(), "an image was made again"


def test_cancelled_at_row_50_of_100(
    comfy: Any,
    sample_table: Callable[..., Any],
    many_rows: Callable[..., Any],
    true_manifest: Callable[..., Any],
) -> None:
    comfy.write_table("cancelled.csv", many_rows(100))
    out, graph = comfy.output / "cancelled", sample_table("cancelled.csv", **{**SMALL, "steps": 4})

    prompt_id = comfy.queue(graph)
    until(lambda: len(times(out)) >= 50)
    comfy.interrupt()
    messages = dict(comfy.result(prompt_id)["status"]["messages"])

    assert "execution_interrupted" in messages
    before = times(out)
    assert 50 <= len(before) < 100
    assert len(true_manifest(out)) == len(before)

    comfy.run(graph)

    expect_only_the_rest(before, out, 100)
    true_manifest(out)


def test_done_rows_ask_for_no_models(
    comfy: Any, sample_table: Callable[..., Any], many_rows: Callable[..., Any]
) -> None:
    comfy.write_table("done.csv", many_rows(3))
    graph = sample_table("done.csv", **SMALL)
    comfy.run(graph)
    before = times(comfy.output / "done")

    graph["1"] = {"class_type": "PromptmillTestNoModels", "inputs": {}}
    outputs = comfy.run(graph)

    assert [image["filename"] for image in outputs["3"]["images"]] == [f"r00{row}_1.png" for row in range(3)]
    expect_only_the_rest(before, comfy.output / "done", 3)


def test_a_line_that_a_crash_left_out_is_added(
    comfy: Any,
    sample_table: Callable[..., Any],
    many_rows: Callable[..., Any],
    true_manifest: Callable[..., Any],
) -> None:
    comfy.write_table("left_out.csv", many_rows(3))
    out, graph = comfy.output / "left_out", sample_table("left_out.csv", **SMALL)
    comfy.run(graph)
    lines = (out / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (out / "manifest.jsonl").write_bytes(lines[0] + lines[1][:30])

    comfy.run(graph)

    assert len(true_manifest(out)) == 3


@pytest.fixture
def own_server(start_comfyui: Callable[..., Any], base: Path) -> Iterator[Callable[..., Any]]:
    """Start another ComfyUI on the same folders, to be killed."""
    started: list[Any] = []

    def start(*options: str) -> Any:
        started.append(start_comfyui(base, "--database-url", "sqlite:///:memory:", *options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


def test_killed_at_random_rows(
    own_server: Callable[..., Any],
    connect: Callable[..., Any],
    sample_table: Callable[..., Any],
    many_rows: Callable[..., Any],
    true_manifest: Callable[..., Any],
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    server = own_server()
    comfy = connect(server)
    comfy.write_table("killed.csv", many_rows(90))
    out, graph = comfy.output / "killed", sample_table("killed.csv", **SMALL)
    before: dict[str, int] = {}

    for _ in range(3):
        wanted = min(len(before) + rng.randrange(1, 25), 90)
        comfy.queue(graph)
        until(lambda wanted=wanted: len(times(out)) >= wanted)  # type: ignore[misc]
        time.sleep(rng.random() / 20)
        server.kill()
        assert before.items() <= times(out).items(), "an image was made again"
        before = times(out)
        server.start()
    comfy.run(graph)

    expect_only_the_rest(before, out, 90)
    true_manifest(out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own with room for a few images."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("NOT RUN, needs root on Linux to mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "promptmill-test", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("NOT RUN, needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_stops_the_run_readably(
    own_server: Callable[..., Any],
    connect: Callable[..., Any],
    sample_table: Callable[..., Any],
    many_rows: Callable[..., Any],
    true_manifest: Callable[..., Any],
    small_disk: Path,
) -> None:
    comfy = connect(own_server("--output-directory", str(small_disk)))
    comfy.write_table("full.csv", many_rows(40))
    out, graph = small_disk / "full", sample_table("full.csv", **SMALL)

    result = comfy.result(comfy.queue(graph))

    message = dict(result["status"]["messages"])["execution_error"]["exception_message"]
    assert "the image could not be saved (found 'No space left on device')" in message
    assert "hint: make room" in message
    before = times(out)
    assert 0 < len(before) < 40

    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    comfy.run(graph)

    expect_only_the_rest(before, out, 40)
    true_manifest(out)
