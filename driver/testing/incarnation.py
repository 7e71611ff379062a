"""One life of the fake, from start to kill: its listener, its memory and its threads."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
import uuid
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..protocol import Graph, Job, Jobs, Reply, Request, answer, greeting, is_foreign
from ..protocol.files import input_images
from ..protocol.routes import queue_info
from .rules import Proceed
from .sockets import FakeHub, accept_key, hang_up
from .worker import FakeWorker

if TYPE_CHECKING:
    from .fake import FakeComfy


class Incarnation:
    """What a kill takes away."""

    missing_node_hint = ""

    def __init__(self, fake: FakeComfy, port: int) -> None:
        self.fake = fake
        self.folders: dict[str, Path] = {
            "output": fake.output_dir,
            "input": fake.input_dir,
            "temp": fake.temp_dir,
        }
        self.closed = threading.Event()
        self.hub = FakeHub(fake.rules)
        self.jobs = _Jobs(self)
        self.worker = FakeWorker(
            self.jobs,
            self.hub,
            fake.rules,
            self.folders,
            lambda: fake.seconds_per_job,
            fake.image,
            fake.count_image,
        )
        self.worker.start()
        self.listener = _Listener(("127.0.0.1", port), partial(_Handler, self))
        self.port: int = self.listener.server_address[1]
        threading.Thread(
            target=self.listener.serve_forever, args=(0.02,), name="fake http", daemon=True
        ).start()

    def object_info(self) -> dict[str, Any]:
        """All node classes."""
        classes = self.fake.object_info
        if "LoadImage" in classes:
            classes["LoadImage"]["input"]["required"]["image"][0] = input_images(self.fake.input_dir)
        return classes

    def system_stats(self) -> dict[str, Any]:
        """Versions and devices."""
        memory = {key: 2**34 for key in ("vram_total", "vram_free", "torch_vram_total", "torch_vram_free")}
        system = {
            "os": "posix",
            "ram_total": 2**35,
            "ram_free": 2**34,
            "comfyui_version": self.fake.version,
            "python_version": "3.12.0",
            "pytorch_version": "2.9.0",
            "embedded_python": False,
            "argv": ["main.py"],
        }
        return {"system": system, "devices": [{"name": "fake", "type": "cuda", "index": 0, **memory}]}

    def free(self, unload_models: bool, free_memory: bool) -> None:
        """Forget what earlier prompts made."""
        if free_memory:
            self.worker.cache.clear()

    def answer(self, request: Request) -> Reply:
        """Do what a request asks for, as the server that this one plays."""
        if request.path.startswith("/jobs") and not self.fake.jobs_route:
            return Reply(404)
        if self.fake.own_ids and (request.method, request.path) == ("POST", "/prompt"):
            request.body = json.dumps({**request.json, "prompt_id": None}).encode()
        return answer(self, request)

    def close(self) -> None:
        """End at once: nothing is answered, sent or painted any more."""
        self.closed.set()
        self.jobs.close()
        self.listener.shutdown()
        self.listener.server_close()
        self.listener.hang_up()
        self.hub.close()


class _Jobs(Jobs):
    def __init__(self, life: Incarnation) -> None:
        self._note = life.fake.note_post
        super().__init__(
            lambda: life.hub.send("status", {"status": queue_info(life)}), life.fake.history_size
        )

    def put(
        self, prompt_id: str, graph: Graph, extra: dict[str, Any], targets: list[str], body: dict[str, Any]
    ) -> Job:
        """Queue a prompt, and keep its whole POST."""
        self._note(prompt_id, body)
        return super().put(prompt_id, graph, extra, targets, body)


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = os.name != "nt"  # there it would let two servers share the port

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are part of the game."""

    def hang_up(self) -> None:
        """Cut all connections."""
        for request in list(self._open):
            hang_up(request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, server_life: Incarnation, *arguments: Any) -> None:
        self.life = server_life
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer a request, or turn it into a websocket."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length") or 0))
        request = Request.read(self.command, self.path, headers, body)
        if request.path == "/ws" and not is_foreign(headers):
            proceed: Proceed = partial(self._websocket, request)
        else:
            proceed = partial(self.life.answer, request)
        reply = self.life.fake.rules.apply("request", request, proceed)
        if reply is None or self.life.closed.is_set():
            self.close_connection = True
        else:
            self._send(reply)

    do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_GET

    def _send(self, reply: Reply) -> None:
        length = str(len(reply.body))
        headers = {"Content-Type": reply.content_type, "Content-Length": length, **reply.headers}
        self.close_connection = headers["Content-Length"] != length
        self.wfile.write(
            f"HTTP/1.1 {reply.status} {self.responses[reply.status][0]}\r\n".encode()
            + b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
            + b"\r\n"
            + (b"" if self.command == "HEAD" else reply.body)
        )

    def _websocket(self, request: Request) -> None:
        key = accept_key(self.headers["Sec-WebSocket-Key"])
        self.wfile.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {key}\r\n\r\n".encode()
        )
        sid = request.query.get("clientId") or uuid.uuid4().hex
        self.life.hub.serve(self.connection, self.rfile.read1, sid, greeting(self.life, sid))

    def log_message(self, format: str, *args: Any) -> None:
        """Keep stderr for the test's own words."""
