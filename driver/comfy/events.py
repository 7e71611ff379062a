"""The websocket: hints that something changed, never the truth. Whoever misses one still finds it by polling."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import websocket

from .answers import ExecutionError, ImageRef, images_of
from .connection import normal_url

FIRST_BACKOFF = 0.2
LONGEST_BACKOFF = 10.0
REMEMBERED = 1000


class EventKind(Enum):
    """What happened; each member tells what ``Event.data`` holds, None where it tells nothing."""

    CONNECTED = "connected"
    """The server knows this connection: ``client_id`` may be given to submit."""
    DISCONNECTED = "disconnected"
    """What is sent from now on to the connection's prompts is lost."""
    QUEUE = "queue"
    """The queue changed; data is how many prompts wait or run, everybody's (int)."""
    STARTED = "started"
    """The prompt is being executed."""
    PROGRESS = "progress"
    """A node was entered or went a step further; data is a Progress."""
    EXECUTED = "executed"
    """A node gave outputs; data is its images (tuple of ImageRef). History does not have them yet."""
    FAILED = "failed"
    """A node raised; data is an ExecutionError. The prompt may still end well (ExecutionBlocker)."""
    INTERRUPTED = "interrupted"
    """Someone cancelled the prompt while it ran."""
    FINISHED = "finished"
    """The prompt ended, well or not, and is in history now: time to look it up."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a node is: ``value`` of ``max`` steps."""

    value: float
    max: float
    node: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something a server told. See EventKind for ``data``."""

    kind: EventKind
    prompt_id: str | None = None
    data: Progress | tuple[ImageRef, ...] | ExecutionError | int | None = None


ONCE = frozenset(
    {EventKind.STARTED, EventKind.EXECUTED, EventKind.FAILED, EventKind.INTERRUPTED, EventKind.FINISHED}
)


class EventStream:
    """
    One websocket to one server, read in a thread of its own and opened again whenever it breaks.

    Every connection has a fresh client id: a server that still closes the old one would take a reused id with
    it, and the new connection would hear nothing. ``counters`` counts what was received and what was dropped:
    events, binary, garbage, unknown, foreign, duplicate, connections, timeouts.
    """

    def __init__(
        self,
        url: str,
        on_event: Callable[[Event], None],
        *,
        ours: Callable[[str], bool] = lambda prompt_id: True,
        ping_every: float = 15.0,
        login: tuple[str, str] | None = None,
    ) -> None:
        """
        :param url: the server's address, as for ComfyClient.
        :param on_event: called in the stream's thread: put the event into a queue and return. One slow reader
            holds up ComfyUI's messages to everybody.
        :param ours: tells which prompts to hear of; just as quick.
        :param ping_every: after so many seconds without a word a ping is sent, and after as many again without
            an answer the connection is given up.
        :param login: name and password for HTTP basic authentication.
        """
        self._url = "ws" + normal_url(url).removeprefix("http") + "/ws?clientId="
        self._headers = [_basic_authorization(*login)] if login else []
        self._on_event = on_event
        self._ours = ours
        self._ping_every = ping_every
        self._socket: websocket.WebSocket | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"events of {url}", daemon=True)
        self._seen: dict[str, None] = {}
        self._connected = threading.Event()
        self.client_id: str | None = None
        self.counters: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to connect and to listen."""
        self._thread.start()

    def wait(self, timeout: float) -> bool:
        """Wait until it was connected for the first time; whether it was within so many seconds."""
        return self._connected.wait(timeout)

    def stop(self) -> None:
        """Close the connection and wait for the thread, which may be amid connecting."""
        self._stopped.set()
        self.reconnect()
        self._thread.join(self._ping_every)

    def reconnect(self) -> None:
        """Give up a connection that hears nothing though polling saw a prompt end."""
        if self._socket:
            self._socket.abort()

    def _run(self) -> None:
        backoff = FIRST_BACKOFF
        while not self._stopped.is_set():
            with contextlib.suppress(OSError, websocket.WebSocketException):
                self._listen(uuid.uuid4().hex)
            if self.client_id:
                backoff = FIRST_BACKOFF
                self.client_id = None
                self._on_event(Event(EventKind.DISCONNECTED))
            self._stopped.wait(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    def _listen(self, client_id: str) -> None:
        self._socket = websocket.create_connection(
            self._url + client_id,
            timeout=self._ping_every,
            header=self._headers,
            suppress_origin=True,
            skip_utf8_validation=True,
        )
        asked = False
        try:
            while not self._stopped.is_set():
                try:
                    opcode, frame = self._socket.recv_data_frame(control_frame=True)
                    asked = False
                except websocket.WebSocketTimeoutException:
                    if asked:
                        self.counters["timeouts"] += 1
                        return
                    self._socket.ping()
                    asked = True
                    continue
                if opcode == websocket.ABNF.OPCODE_CLOSE:
                    return
                if opcode == websocket.ABNF.OPCODE_TEXT:
                    self._hear(frame.data, client_id)
                elif opcode == websocket.ABNF.OPCODE_BINARY:
                    self.counters["binary"] += 1
        finally:
            self._socket.shutdown()

    def _hear(self, text: bytes, client_id: str) -> None:
        try:
            message = json.loads(text)
            kind, data = message["type"], message["data"]
            if kind == "status" and data.get("sid") == client_id:
                self.client_id = client_id
                self._connected.set()
                self.counters["connections"] += 1
                self._on_event(Event(EventKind.CONNECTED))
            if kind in UNUSED:
                return
            if kind not in READERS:
                self.counters["unknown"] += 1
                return
            event = READERS[kind](data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.counters["garbage"] += 1
            return
        if event.prompt_id is not None and not self._ours(event.prompt_id):
            self.counters["foreign"] += 1
            return
        if event.kind in ONCE:
            key = f"{event.kind} {event.prompt_id} {data.get('node')} {data.get('node_id')}"
            if key in self._seen:
                self.counters["duplicate"] += 1
                return
            self._seen[key] = None
            if len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]
        self.counters["events"] += 1
        self._on_event(event)


def _basic_authorization(name: str, password: str) -> str:
    """The header of RFC 7617."""
    return "Authorization: Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _queue(data: dict[str, Any]) -> Event:
    return Event(EventKind.QUEUE, None, int(data["status"]["exec_info"]["queue_remaining"]))


def _started(data: dict[str, Any]) -> Event:
    return Event(EventKind.STARTED, str(data["prompt_id"]))


def _executing(data: dict[str, Any]) -> Event:
    if data["node"] is None:
        return Event(EventKind.FINISHED, str(data["prompt_id"]))
    return Event(EventKind.PROGRESS, str(data["prompt_id"]), Progress(0, 1, str(data["node"])))


def _progress(data: dict[str, Any]) -> Event:
    step = Progress(float(data["value"]), float(data["max"]), str(data["node"]))
    return Event(EventKind.PROGRESS, str(data["prompt_id"]), step)


def _executed(data: dict[str, Any]) -> Event:
    return Event(
        EventKind.EXECUTED, str(data["prompt_id"]), tuple(images_of(str(data["node"]), data["output"]))
    )


def _failed(data: dict[str, Any]) -> Event:
    return Event(EventKind.FAILED, str(data["prompt_id"]), ExecutionError.parse(data))


def _interrupted(data: dict[str, Any]) -> Event:
    return Event(EventKind.INTERRUPTED, str(data["prompt_id"]))


READERS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "status": _queue,
    "execution_start": _started,
    "executing": _executing,
    "progress": _progress,
    "executed": _executed,
    "execution_error": _failed,
    "execution_interrupted": _interrupted,
}

# execution_success is sent before history is written; progress_state repeats progress, and is sent to everyone
# for prompts without a client.
UNUSED = frozenset(
    {"execution_success", "execution_cached", "progress_state", "progress_text", "feature_flags"}
)
