"""Given the folders, expect imports to point one way and the driver to start light."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("table", "quantization", "sampling", "nodes", "driver")
ALLOWED = {
    "errors": set(),
    "files": set(),
    "table": {"errors"},
    "quantization": {"errors", "files"},
    "sampling": {"errors", "table", "quantization"},
    "nodes": {"errors", "files", "table", "quantization", "sampling"},
    "driver": {"errors", "files", "table"},
    "driver.engine": {"errors", "quantization", "driver"},
    "driver.cli": {"errors", *PARTS, "driver.engine"},
}
HEAVY = (
    "torch",
    "comfy",
    "nodes",
    "pandas",
    "numpy",
    "sqlalchemy",
    "PIL",
    "jinja2",
    "requests",
    "comfy_cli",
    "alembic",
)


def room_of(module: tuple[str, ...]) -> str:
    two = ".".join(module[:2])
    return two if two in ALLOWED else module[0]


def modules() -> list[Path]:
    files = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
    return [*files, ROOT / "errors.py", ROOT / "files.py"]


def imports_of(path: Path) -> list[tuple[str, ...]]:
    """What a module imports from this package, as parts below the root."""
    here = path.relative_to(ROOT).with_suffix("").parts
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        assert not any(name.split(".")[0] == "promptmill" for name in names), f"{path}: import it relatively"
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level]
            whole = (*base, *(node.module.split(".") if node.module else ()))
            found += [whole] if node.module else [(*whole, alias.name) for alias in node.names]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    here = room_of(path.relative_to(ROOT).with_suffix("").parts)
    for module in imports_of(path):
        there = room_of(module)
        assert there == here or there in ALLOWED[here], f"{here} must not import {there} ({'.'.join(module)})"


def test_every_folder_of_code_is_in_the_rules() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders <= set(PARTS)


@pytest.mark.parametrize(
    "statement", ["import promptmill.driver", "import promptmill.driver.cli, promptmill.table"]
)
def test_starting_loads_nothing_heavy(statement: str) -> None:
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert {name.split(".")[0] for name in loaded} & set(HEAVY) == set()


def test_the_node_pack_asks_for_what_the_package_asks_for() -> None:
    """ComfyUI's managers install requirements.txt, pip installs what pyproject.toml says."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (dependencies,) = re.findall(r"^dependencies = (\[.*?\])$", project, re.MULTILINE | re.DOTALL)

    assert (ROOT / "requirements.txt").read_text(encoding="utf-8").split() == json.loads(dependencies)


def test_comfyui_finds_the_entry_point_without_loading_anything() -> None:
    code = "import promptmill, sys; print(promptmill.WEB_DIRECTORY, 'torch' in sys.modules, 'comfy_api' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.split() == ["./web", "False", "False"]
    assert not hasattr(__import__("promptmill"), "NODE_CLASS_MAPPINGS"), (
        "ComfyUI would not ask the entry point"
    )
