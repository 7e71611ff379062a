"""One life of the fake, from start to kill: its listener, its memory and its threads."""

from __future__ import annotations

import os
import socket
import socketserver
import threading
import uuid
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .jobs import Job, Jobs
from .routes import Reply, Request, answer, queue_info
from .rules import Proceed
from .sockets import Hub, accept_key, hang_up
from .worker import Worker

if TYPE_CHECKING:
    from .fake import FakeComfy


class Incarnation:
    """What a kill takes away."""

    def __init__(self, fake: FakeComfy, port: int) -> None:
        self.fake = fake
        self.folders: dict[str, Path] = {
            "output": fake.output_dir,
            "input": fake.input_dir,
            "temp": fake.temp_dir,
        }
        self.closed = threading.Event()
        self.hub = Hub(fake.rules)
        self.jobs = Jobs(lambda: self.hub.send("status", {"status": queue_info(self)}), fake.history_size)
        self.worker = Worker(
            self.jobs,
            self.hub,
            fake.rules,
            self.folders,
            lambda: fake.seconds_per_job,
            fake.image,
            fake.count_image,
        )
        self.listener = _Listener(("127.0.0.1", port), partial(_Handler, self))
        self.port: int = self.listener.server_address[1]
        threading.Thread(
            target=self.listener.serve_forever, args=(0.02,), name="fake http", daemon=True
        ).start()

    def accept(self, prompt_id: str, body: dict[str, Any], extra: dict[str, Any], targets: list[str]) -> Job:
        """Queue a valid prompt."""
        self.fake.note_post(prompt_id, body)
        return self.jobs.put(prompt_id, body["prompt"], extra, targets, body)

    def close(self) -> None:
        """End at once: nothing is answered, sent or painted any more."""
        self.closed.set()
        self.jobs.close()
        self.listener.shutdown()
        self.listener.server_close()
        self.listener.hang_up()
        self.hub.close()


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
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        request = Request(
            self.command,
            path.removeprefix("/api"),
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            self.rfile.read(int(self.headers.get("Content-Length") or 0)),
            self.headers.get("Content-Type", ""),
            prefixed=path.startswith("/api/"),
            authorization=self.headers.get("Authorization", ""),
        )
        if request.path == "/ws":
            proceed: Proceed = partial(self._websocket, request)
        else:
            proceed = partial(answer, self.life, request)
        reply = self.life.fake.rules.apply("request", request, proceed)
        if reply is None or self.life.closed.is_set():
            self.close_connection = True
        else:
            self._send(reply)

    do_POST = do_PUT = do_DELETE = do_GET

    def _send(self, reply: Reply) -> None:
        length = len(reply.body) if reply.promise is None else reply.promise
        self.close_connection = reply.promise is not None
        self.wfile.write(
            f"HTTP/1.1 {reply.status} {self.responses[reply.status][0]}\r\n"
            f"Content-Type: {reply.content_type}\r\n"
            f"Content-Length: {length}\r\n".encode()
            + b"".join(f"{name}: {value}\r\n".encode() for name, value in reply.headers.items())
            + b"\r\n"
            + reply.body
        )

    def _websocket(self, request: Request) -> None:
        key = accept_key(self.headers["Sec-WebSocket-Key"])
        self.wfile.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {key}\r\n\r\n".encode()
        )
        sid = request.query.get("clientId") or uuid.uuid4().hex
        status = {"status": queue_info(self.life)}
        self.life.hub.serve(self.connection, self.rfile.read1, sid, status)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep stderr for the test's own words."""
