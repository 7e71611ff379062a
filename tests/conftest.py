"""Where the outside programs are, and what happens when they are not there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

WANTED = {
    "comfyui": "a real ComfyUI: set COMFYUI_PATH (and COMFYUI_PYTHON), or install one in ~/comfy/ComfyUI with a .venv",
    "chromium": "Chromium: set CHROMIUM, or install /usr/bin/chromium",
    "postgresql": "PostgreSQL's server programs (Debian: apt-get install postgresql)",
}


def comfyui_home() -> Path:
    return Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")


def comfyui_python() -> Path:
    own = comfyui_home() / ".venv" / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    return Path(os.environ.get("COMFYUI_PYTHON") or own)


def chromium_path() -> Path:
    return Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))


def postgresql_bin() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def is_there(what: str) -> bool:
    if what == "comfyui":
        return (comfyui_home() / "main.py").is_file() and comfyui_python().is_file()
    if what == "chromium":
        return chromium_path().is_file()
    return postgresql_bin() is not None


def must_be_there(what: str) -> bool:
    """In CI on Linux the browser and the database are installed by .ci/run; ComfyUI where it was announced."""
    if what == "comfyui":
        return "COMFYUI_PATH" in os.environ
    return bool(os.environ.get("CI")) and sys.platform == "linux"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak-seeds", type=int, default=200, help="seeds of the long fault-injection suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for what, name in WANTED.items():
        if is_there(what):
            continue
        for item in items:
            if item.get_closest_marker(what) and not must_be_there(what):
                item.add_marker(pytest.mark.skip(reason=f"NOT RUN, needs {name}"))


@pytest.fixture(scope="session")
def chromium_executable() -> Path:
    return chromium_path()
