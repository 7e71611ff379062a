"""Three servers with the demo checkpoint: the fake, the engine, a real ComfyUI."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from promptmill.driver.engine.demo.export import export

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


KINDS = ["fake", "engine", pytest.param("real", marks=pytest.mark.comfyui)]
ALONE = ["--database-url", "sqlite:///:memory:"]
"""What a second ComfyUI on the same folders needs."""


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders for servers: the demo checkpoint as it is exported for ComfyUI, and the deadly node."""
    base = tmp_path_factory.mktemp("servers")
    export(base / "models" / "checkpoints")
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "deadly.py").write_text(DEADLY_NODE, encoding="utf-8")
    return base


@pytest.fixture(scope="session", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def server(kind: str, start_server: Callable[..., Any], base: Path) -> Any:
    return start_server(kind, base)


@pytest.fixture(scope="module")
def another_server(kind: str, start_server: Callable[..., Any], base: Path) -> Any:
    """A server of the same kind on the same folders; who kills it starts it again."""
    return start_server(kind, base, *(ALONE if kind == "real" else []))


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """A table as Excel in China saves it: GBK, Chinese names, CRLF."""
    path = tmp_path / "products.csv"
    with path.open("w", newline="", encoding="gbk") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "name", "style", "prompt"])
        for number, name in enumerate(
            [
                "红色马克杯 red mug",
                "蓝色椅子 blue chair",
                "绿色台灯 green lamp",
                "黄色背包 yellow backpack",
                "白色茶壶 white teapot",
                "黑色运动鞋 black sneaker",
            ],
            start=1,
        ):
            style = "摄影棚" if number % 2 else "生活"
            chinese, english = name.split(maxsplit=1)
            writer.writerow([f"P{number:03}", chinese, style, f"a product photo of a {english}"])
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
