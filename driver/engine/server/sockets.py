"""All websockets. Each has a queue of its own, so that one that never reads holds up nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket

MOST_UNREAD = 1000

PREVIEW, PREVIEW_WITH_METADATA = 1, 4
JPEG = 1


@dataclass(eq=False)
class Connection:
    """One open websocket and what it is still to hear."""

    sid: str
    flags: dict[str, Any] = field(default_factory=dict)
    _unread: asyncio.Queue[str | bytes] = field(default_factory=lambda: asyncio.Queue(MOST_UNREAD))
    _overflow: bool = False

    def put(self, frame: str | bytes) -> None:
        """Send this later; a client that has not read so many frames is let go."""
        try:
            self._unread.put_nowait(frame)
        except asyncio.QueueFull:
            self._overflow = True

    async def send_all(self, socket: WebSocket) -> None:
        """Send until the client is gone or was let go."""
        while not self._overflow:
            frame = await self._unread.get()
            await (socket.send_text(frame) if isinstance(frame, str) else socket.send_bytes(frame))


class SocketHub:
    """Websockets by client id; may be told from any thread what to send."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: list[Connection] = []

    def add(self, connection: Connection) -> None:
        """Let a connection hear what is sent from now on."""
        self._loop = asyncio.get_running_loop()
        self._open.append(connection)

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        self._open.remove(connection)

    def listener(self, sid: str | None) -> Connection | None:
        """The newest connection of a client."""
        return next((it for it in reversed(self._open) if it.sid == sid), None)

    def send(self, kind: str, data: dict[str, Any], sid: str | None = None) -> None:
        """Queue a message for one client, or for all."""
        if self._open:
            self._queue(json.dumps({"type": kind, "data": data}), sid)

    def send_preview(self, jpeg: bytes, sid: str) -> None:
        """Queue a preview."""
        self._queue(struct.pack(">II", PREVIEW, JPEG) + jpeg, sid)

    def send_preview_with_metadata(self, jpeg: bytes, metadata: dict[str, Any], sid: str) -> None:
        """Queue a preview that says which node it is of."""
        text = json.dumps({**metadata, "image_type": "image/jpeg"}).encode()
        self._queue(struct.pack(">II", PREVIEW_WITH_METADATA, len(text)) + text + jpeg, sid)

    def _queue(self, frame: str | bytes, sid: str | None) -> None:
        assert self._loop
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody hears anything any more
            self._loop.call_soon_threadsafe(self._deliver, frame, sid)

    def _deliver(self, frame: str | bytes, sid: str | None) -> None:
        chosen = self._open if sid is None else [self.listener(sid)]
        for connection in chosen:
            if connection:
                connection.put(frame)
