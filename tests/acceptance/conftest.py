"""A real ComfyUI with a tiny random checkpoint and a node that ends its worker thread."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

DEADLY_NODE = """
class PromptmillTestDeadly:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "deadly": ("BOOLEAN", {"default": False})}}
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "tests"
    def run(self, images, deadly):
        if deadly:
            raise SystemExit("worker thread")
        return (images,)
NODE_CLASS_MAPPINGS = {"PromptmillTestDeadly": PromptmillTestDeadly}
"""


@pytest.fixture(scope="session")
def comfy_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("comfyui")
    (base / "models" / "checkpoints").mkdir(parents=True)
    (base / "custom_nodes").mkdir()
    checkpoint = base / "models" / "checkpoints" / "tiny.safetensors"
    subprocess.run([sys.executable, HERE / "tiny_checkpoint.py", checkpoint], check=True)
    (base / "custom_nodes" / "deadly.py").write_text(DEADLY_NODE, encoding="utf-8")
    return base


@pytest.fixture(scope="session")
def comfy(start_comfyui: Callable[..., Any], comfy_base: Path) -> Any:
    return start_comfyui(comfy_base)


@pytest.fixture(scope="session")
def second_comfy(start_comfyui: Callable[..., Any], comfy_base: Path) -> Any:
    """Another server on the same output folder."""
    return start_comfyui(comfy_base, "--database-url", "sqlite:///:memory:")


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """A table as Excel in China saves it: GBK, Chinese names, CRLF."""
    path = tmp_path / "products.csv"
    with path.open("w", newline="", encoding="gbk") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "name", "style", "prompt"])
        for number, name in enumerate(
            ["红色马克杯", "蓝色椅子", "绿色台灯", "黄色背包", "白色茶壶", "黑色运动鞋"], start=1
        ):
            style = "摄影棚" if number % 2 else "生活"
            writer.writerow([f"P{number:03}", name, style, f"a product photo of item {number}, {name}"])
    return path


@pytest.fixture
def promptmill(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line as a user has it: a process of its own, in a folder of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "promptmill", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)

    return run


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The same in the background, returned when its first image is there; ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "promptmill", *map(str, arguments)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        assert any(line.startswith("done") for line in process.stderr)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
