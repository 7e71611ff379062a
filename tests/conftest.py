"""Where the outside programs are, and what happens when they are not there."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("no clock", deadline=None)
settings.load_profile("no clock")

WANTED = {
    "comfyui": "a real ComfyUI: set COMFYUI_PATH (and COMFYUI_PYTHON), or install one in ~/comfy/ComfyUI with a .venv",
    "chromium": "Chromium: set CHROMIUM, or install /usr/bin/chromium",
    "postgresql": "PostgreSQL's server programs (Debian: apt-get install postgresql)",
    "gpu": "an NVIDIA card, and a PyTorch for it",
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
    if what == "gpu":
        return shutil.which("nvidia-smi") is not None
    return postgresql_bin() is not None


def must_be_there(what: str) -> bool:
    """In CI on Linux the browser and the database are installed by .ci/run; ComfyUI where it was announced; a card nowhere."""
    if what == "comfyui":
        return "COMFYUI_PATH" in os.environ
    if what == "gpu":
        return False
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
def browser() -> Iterator[Any]:
    """Headless Chromium, one for the session: playwright cannot be started twice in a thread."""
    if not is_there("chromium") and not must_be_there("chromium"):
        pytest.skip(f"NOT RUN, needs {WANTED['chromium']}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def comfyui_command(base: Path, port: str) -> list[Any]:
    quick = ["--cpu", "--disable-api-nodes"]
    return [comfyui_python(), "main.py", *quick, "--port", port, "--base-directory", base]


def engine_command(base: Path, port: str) -> list[Any]:
    return [sys.executable, "-m", "promptmill", "engine", "--port", port, "--base-directory", base]


def fake_command(base: Path, port: str) -> list[Any]:
    module = "promptmill.driver.testing"
    model = "promptmill-demo.safetensors"
    return [sys.executable, "-m", module, "--port", port, "--output-dir", base / "output", "--model", model]


COMMANDS = {"real": comfyui_command, "engine": engine_command, "fake": fake_command}


class ServerProcess:
    """A server as a process of its own, with all that it reads and writes in a folder of ours."""

    def __init__(self, kind: str, base: Path, *options: str) -> None:
        self.base = base
        self.url = f"http://127.0.0.1:{free_port()}"
        self._kind = kind
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for folder in ("models/checkpoints", "custom_nodes", "input", "output"):
            (self.base / folder).mkdir(parents=True, exist_ok=True)
        port = self.url.rpartition(":")[2]
        with (self.base / f"server-{port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMANDS[self._kind](self.base, port), *self._options],
                cwd=comfyui_home() if self._kind == "real" else self.base,
                stdout=log,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        deadline = time.monotonic() + 180
        while not self._answers():
            assert self._process.poll() is None, f"the server ended: see {self.base}"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + "/prompt", timeout=5):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="module")
def start_server() -> Iterator[Callable[..., ServerProcess]]:
    """Start a server, ``start_server("real" | "engine" | "fake", base_folder, "--more", "options")``; killed with the module."""
    started: list[ServerProcess] = []

    def start(kind: str, base: Path, *options: str) -> ServerProcess:
        server = ServerProcess(kind, base, *options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="module")
def start_comfyui(start_server: Callable[..., ServerProcess]) -> Callable[..., ServerProcess]:
    """Start a real ComfyUI: ``start_comfyui(base_folder, "--more", "options")``."""
    return partial(start_server, "real")


@pytest.fixture(scope="session")
def in_comfyui(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Run a script with ComfyUI's Python, once for many cases: ``in_comfyui(script, cases, *arguments)``.

    It reads a JSON list on stdin and prints a line of JSON for each; they come back by the case's own JSON.
    """
    path = tmp_path_factory.mktemp("path")
    (path / "promptmill").symlink_to(Path(__file__).parents[1], target_is_directory=True)

    def run(script: Path, cases: Iterable[Any], *arguments: Any) -> dict[str, Any]:
        texts = list(dict.fromkeys(map(json.dumps, cases)))
        process = subprocess.run(
            [comfyui_python(), script, *arguments],
            input=f"[{','.join(texts)}]",
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=comfyui_home(),
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(path), str(comfyui_home())]),
                "OMP_NUM_THREADS": "1",
            },
        )
        return dict(zip(texts, map(json.loads, process.stdout.splitlines()), strict=True))

    return run


@pytest.fixture(scope="session")
def new_pack_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """New folders for a real ComfyUI: this repository as a node pack, and the demo checkpoint."""
    from promptmill.driver.engine.demo.export import export

    def new() -> Path:
        base = tmp_path_factory.mktemp("pack")
        export(base / "models" / "checkpoints")
        (base / "custom_nodes").mkdir()
        (base / "custom_nodes" / "promptmill").symlink_to(Path(__file__).parents[1], target_is_directory=True)
        return base

    return new


@pytest.fixture(scope="session")
def pack_base(new_pack_base: Callable[[], Path]) -> Path:
    return new_pack_base()


@pytest.fixture(scope="session")
def pack_server(pack_base: Path) -> Iterator[ServerProcess]:
    """A real ComfyUI with the node pack, one for the session."""
    server = ServerProcess("real", pack_base)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own; its programs refuse root, so root becomes nobody."""
    programs = postgresql_bin()
    assert programs is not None, "PostgreSQL's server programs should be here"
    folder = Path(tempfile.mkdtemp(prefix="promptmill-pg-"))
    options: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
        options |= {"user": "nobody", "env": {**os.environ, "HOME": str(folder)}}
    data = folder / "data"
    initdb = [programs / "initdb", "-D", data, "-A", "trust", "-U", "promptmill", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, **options)
    port = free_port()
    control = [programs / "pg_ctl", "-D", data, "-w"]
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    subprocess.run([*control, "-o", settings, "start"], check=True, **options)
    try:
        yield f"postgresql://promptmill@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, **options)
        shutil.rmtree(folder, ignore_errors=True)
