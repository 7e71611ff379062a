"""The server's side of the websocket. Framing is websocket-client's own; only the handshake is ours."""

from __future__ import annotations

import base64
import hashlib
import json
import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from websocket import ABNF, WebSocketException, frame_buffer

from ..protocol import FEATURES, flags_of
from .rules import Proceed, Rules

Frame = dict[str, Any] | str | bytes
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


@dataclass
class Message:
    """What the server is about to send: to one client, or to all where ``sid`` is None."""

    type: str
    data: dict[str, Any]
    sid: str | None
    hub: FakeHub


@dataclass(eq=False)
class Connection:
    """One open websocket. Muted: nothing is sent to it. Deaf: its pings are not answered either."""

    sock: socket.socket
    muted: bool = False
    deaf: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, frame: Frame) -> None:
        """Send json, text or binary; a dead peer is found by the reader."""
        if self.muted:
            return
        if isinstance(frame, dict):
            frame = json.dumps(frame)
        data = frame.encode() if isinstance(frame, str) else frame
        self.send_frame(ABNF.OPCODE_TEXT if isinstance(frame, str) else ABNF.OPCODE_BINARY, data)

    def send_frame(self, opcode: int, data: bytes) -> None:
        """Send one unmasked frame, as servers do."""
        with self.lock:
            try:
                self.sock.sendall(ABNF(1, 0, 0, 0, opcode, 0, data).format())
            except OSError:
                self.hang_up()

    def hang_up(self) -> None:
        """Cut the connection without a word."""
        hang_up(self.sock)


class FakeHub:
    """
    All websockets by client id.

    Messages go through one thread that waits for each reader, so one that never reads freezes them all; and a
    connection that closes takes its client id with it, also from one opened later: both as in ComfyUI.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._by_sid: dict[str, Connection] = {}
        self.connections: set[Connection] = set()
        self.held: list[Proceed] = []
        threading.Thread(target=self._publish, name="fake websocket", daemon=True).start()

    def hears(self, sid: str | None) -> bool:
        """Tell whether a message would reach anyone."""
        return sid in self._by_sid if sid else bool(self._by_sid)

    def send(self, kind: str, data: dict[str, Any], sid: str | None = None) -> None:
        """Queue a message for one client, or for all."""
        if self.hears(sid):
            self._outbox.put(Message(kind, data, sid, self))

    def say(self, frame: Frame, sid: str | None = None) -> None:
        """Send anything right now."""
        targets = (
            list(self._by_sid.values()) if sid is None else [self._by_sid[sid]] if sid in self._by_sid else []
        )
        for connection in targets:
            connection.send(frame)

    def serve(
        self,
        sock: socket.socket,
        read: Callable[[int], bytes],
        sid: str,
        greeting: list[tuple[str, dict[str, Any]]],
    ) -> None:
        """Keep one connection until it closes."""
        connection = Connection(sock)
        self._by_sid[sid] = connection
        self.connections.add(connection)
        frames = frame_buffer(partial(_some, read), True)
        try:
            for kind, data in greeting:
                self._deliver(Message(kind, data, sid, self))
            while (frame := frames.recv_frame()).opcode != ABNF.OPCODE_CLOSE:
                if frame.opcode == ABNF.OPCODE_TEXT and flags_of(frame.data.decode()) is not None:
                    self._deliver(Message("feature_flags", FEATURES, sid, self))
                if frame.opcode == ABNF.OPCODE_PING and not connection.deaf:
                    connection.send_frame(ABNF.OPCODE_PONG, frame.data)
            connection.send_frame(ABNF.OPCODE_CLOSE, frame.data)
        except (OSError, WebSocketException):
            pass
        finally:
            self.connections.discard(connection)
            self._by_sid.pop(sid, None)

    def close(self) -> None:
        """Cut all connections and end the thread."""
        self.cut()
        self._outbox.put(None)

    def cut(self) -> None:
        """Cut all connections."""
        for connection in list(self.connections):
            connection.hang_up()

    def _publish(self) -> None:
        while (message := self._outbox.get()) is not None:
            held, self.held = self.held, []
            self._deliver(message)
            for proceed in held:
                proceed()

    def _deliver(self, message: Message) -> None:
        frame = {"type": message.type, "data": message.data}
        self._rules.apply("message", message, lambda: self.say(frame, message.sid))


def accept_key(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455, section 4.2.2)."""
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


def hang_up(sock: socket.socket) -> None:
    """Shut a socket in both directions, which wakes whoever waits for it."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        sock.close()


def _some(read: Callable[[int], bytes], size: int) -> bytes:
    data = read(size)
    if not data:
        raise ConnectionError("closed")
    return data
