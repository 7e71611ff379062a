"""The engine as one object: in a thread of this process, or blocking."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn

from ....errors import CheckpointError, OutputError, ServerError
from ...protocol import Jobs, catalogue
from ...protocol.files import input_images
from ...protocol.routes import queue_info
from ..models.load import load as load_checkpoint
from .app import application
from .checkpoints import Checkpoints, Load
from .sockets import SocketHub
from .worker import EngineWorker

SAMPLERS = ("euler", "euler_ancestral", "dpmpp_2m")
SCHEDULERS = ("simple", "normal", "sgm_uniform", "beta")
PROTOCOL = "0.33.0"
"""The ComfyUI whose protocol this is."""


class Engine:
    """
    A server in ComfyUI's protocol.

    It has ComfyUI's folders input, output, temp and models/checkpoints under ``base``. Use it as a context, or
    ``start`` and ``stop`` it, or let ``serve`` block.
    """

    missing_node_hint = (
        "This engine has only the core nodes: run this workflow on ComfyUI, --server http://HOST:8188"
    )

    def __init__(
        self,
        base: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        models: Sequence[Path] = (),
        device: str = "auto",
        precision: str = "auto",
        load: Load | None = None,
    ) -> None:
        """
        :param port: 0 takes a free one.
        :param models: more folders with .safetensors files and diffusers folders.
        :param device: "auto", "cpu", "cuda".
        :param precision: "auto", "fp32", "bf16", "fp8", "int8".
        :param load: loads a checkpoint in the place of ``promptmill.driver.engine.models.load``.
        :raises OutputError: the folders cannot be made.
        :raises CheckpointError: one of ``models`` does not hold checkpoints.
        """
        self._address = host, port
        self._device = device
        self._folders = {kind: base / kind for kind in ("input", "output", "temp")}
        own_models = base / "models" / "checkpoints"
        try:
            for folder in (*self._folders.values(), own_models):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the engine's folders: {error}", where=str(base)) from error
        for folder in models:
            if not folder.is_dir() or (folder / "model_index.json").exists():
                raise CheckpointError(
                    "not a folder that holds checkpoints",
                    where=str(folder),
                    hint="name the folder in which the diffusers folders are",
                )
        self._hub = SocketHub()
        self._jobs = Jobs(lambda: self._hub.send("status", {"status": queue_info(self)}))
        self._checkpoints = Checkpoints(
            [own_models, *models], load or partial(load_checkpoint, device=device, precision=precision)
        )
        self._worker = EngineWorker(self._jobs, self._hub, self._folders, self._checkpoints)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens, once it was started."""
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def jobs(self) -> Jobs:
        """Queue and history."""
        return self._jobs

    @property
    def worker(self) -> EngineWorker:
        """Who runs prompts."""
        return self._worker

    @property
    def folders(self) -> Mapping[str, Path]:
        """Where input, output and temp are."""
        return self._folders

    def object_info(self) -> dict[str, Any]:
        """All node classes, with the models and input files that are there now."""
        images = input_images(self._folders["input"])
        return catalogue.object_info(self._checkpoints.names(), SAMPLERS, SCHEDULERS, images)

    def system_stats(self) -> dict[str, Any]:
        """Versions and devices."""
        total, free = _memory()
        system = {
            "os": sys.platform,
            "ram_total": total,
            "ram_free": free,
            "comfyui_version": PROTOCOL,
            "python_version": sys.version,
            "pytorch_version": version("torch"),
            "embedded_python": False,
            "argv": ["promptmill", "engine"],
        }
        return {"system": system, "devices": [self._device_stats(total, free)]}

    def _device_stats(self, total: int, free: int) -> dict[str, Any]:
        about: dict[str, Any] = {"name": platform.processor() or "cpu", "type": "cpu", "index": None}
        if self._device != "cpu" and self._worker.ready.is_set():
            import torch

            if torch.cuda.is_available():
                free, total = torch.cuda.mem_get_info()
                about = {"name": torch.cuda.get_device_name(), "type": "cuda", "index": 0}
        memory = {"vram_total": total, "vram_free": free, "torch_vram_total": total, "torch_vram_free": free}
        return {**about, **memory}

    def free(self, unload_models: bool, free_memory: bool) -> None:
        """Let go of the model and of what earlier prompts made."""
        if unload_models or free_memory:
            self._worker.forget()

    def serve(self, ready: Callable[[str], None] = lambda url: None) -> None:
        """
        Serve until Ctrl-C or ``stop``.

        :param ready: called with the address when it listens.
        :raises ServerError: the address cannot be listened on.
        """
        listener = self._listen()
        ready(self.url)
        self._run(listener)

    def start(self) -> Engine:
        """
        Serve in a thread.

        :raises ServerError: the address cannot be listened on.
        """
        self._thread = threading.Thread(target=self._run, args=(self._listen(),), name="engine", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End; what runs stops after its step."""
        self._jobs.close()
        if self._server:
            self._server.should_exit = True
        if self._thread:
            self._thread.join()

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        try:
            listener = socket.create_server(self._address, family=family, backlog=128)
        except OSError as error:
            raise ServerError(
                f"cannot listen: {error.strerror}", where=self.url, hint="choose another --port or --listen"
            ) from error
        # asyncio sets it only on sockets that name their protocol: without it an answer takes 40 ms
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._address = listener.getsockname()[:2]
        for left in self._folders["temp"].iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        config = uvicorn.Config(
            application(self, self._hub),
            lifespan="off",
            log_level="warning",
            access_log=False,
            ws_ping_interval=None,  # ComfyUI keeps a websocket that is silent
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._worker.start()
        return listener

    def _run(self, listener: socket.socket) -> None:
        assert self._server
        try:
            self._server.run(sockets=[listener])
        finally:
            self._jobs.close()
            self._worker.join()

    def __enter__(self) -> Engine:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _memory() -> tuple[int, int]:
    """Bytes of main memory, all and free; 0 where the system does not tell."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError):
        return 0, 0
