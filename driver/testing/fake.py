"""FakeComfy: a ComfyUI that behaves, until told otherwise."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ..protocol import Graph, Request
from . import catalogue
from .faults import WhenMessage, WhenPrompt, WhenRequest
from .images import Paint
from .incarnation import Incarnation
from .rules import Match, Rules, text_of
from .sockets import Frame


@dataclass(frozen=True, slots=True)
class Post:
    """A prompt that was accepted, with the whole body of its POST."""

    prompt_id: str
    graph: Graph
    body: dict[str, Any]


class FakeComfy:
    """
    A ComfyUI server in this process, on a real socket of the loopback interface.

    ``posts`` are the prompts it accepted, ``images_made`` counts the files it saved as outputs; both, and the
    rules, outlive a restart. The rules are given with the ``on_...`` methods.
    """

    def __init__(
        self,
        port: int = 0,
        *,
        object_info: dict[str, Any] | None = None,
        output_dir: Path | None = None,
        seconds_per_job: float = 0.0,
        image: Paint | None = None,
        version: str = "0.33.0",
        jobs_route: bool = True,
        own_ids: bool = False,
        history_size: int = 10_000,
    ) -> None:
        """
        :param port: 0 takes a free one, and keeps it over restarts.
        :param object_info: the node classes; ``promptmill.driver.testing.object_info()`` with changes.
        :param output_dir: where outputs go; a folder of its own, removed at the end, when omitted.
        :param seconds_per_job: how long a prompt runs.
        :param image: ``image(graph, width, height, index)`` paints instead of the noise.
        :param version: what /system_stats tells.
        :param jobs_route: False for a server from before /api/jobs.
        :param own_ids: True for a server that ignores the client's prompt_id.
        :param history_size: entries kept before the oldest is forgotten.
        """
        self._scratch = Path(tempfile.mkdtemp(prefix="fakecomfy-"))
        self.output_dir = output_dir or self._scratch / "output"
        self.input_dir = self._scratch / "input"
        self.temp_dir = self._scratch / "temp"
        self._make_folders()
        self.object_info = catalogue.object_info() if object_info is None else object_info
        self.seconds_per_job = seconds_per_job
        self.image = image
        self.version = version
        self.jobs_route = jobs_route
        self.own_ids = own_ids
        self.history_size = history_size
        self.rules = Rules()
        self.posts: list[Post] = []
        self.images_made = 0
        self._port = port
        self._life: Incarnation | None = None

    @property
    def url(self) -> str:
        """The server's address, also while it is dead."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def life(self) -> Incarnation:
        """What a kill would take: queue, history, sockets."""
        assert self._life, "the fake is not running"
        return self._life

    def start(self) -> FakeComfy:
        """Begin to listen."""
        self._life = Incarnation(self, self._port)
        self._port = self._life.port
        return self

    def stop(self) -> None:
        """End, and remove the folders it made itself."""
        self.kill()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def kill(self) -> None:
        """Die as from SIGKILL: connections are refused; queue, history and cache are lost, files stay."""
        life, self._life = self._life, None
        if life:
            life.close()

    def restart(self, keep_files: bool = True, keep_history: bool = False) -> None:
        """Kill it if need be, and start it again on the same port."""
        history = self._life.jobs.history if keep_history and self._life else {}
        self.kill()
        if not keep_files:
            shutil.rmtree(self.output_dir)
            self._make_folders()
        self.start()
        self.life.jobs.history.update(history)

    def on_request(self, match: Match = None, times: int | None = None) -> WhenRequest:
        """Every HTTP request; a text must be in its path, a function is given the Request."""
        return WhenRequest(self, "request", _matcher(match, lambda request: request.path), times)

    def on_post(self, match: Match = None, times: int | None = None) -> WhenRequest:
        """POST /prompt; a text must be in the graph's strings, a function is given the graph."""
        return self._on_route("POST", "/prompt", _matcher(match, text_of), _graph, times)

    def on_view(self, match: Match = None, times: int | None = None) -> WhenRequest:
        """GET /view; a text must be in the file's name, a function is given the name."""
        return self._on_route(
            "GET", "/view", _matcher(match, str), lambda it: it.query.get("filename", ""), times
        )

    def on_prompt(self, match: Match = None, times: int | None = None) -> WhenPrompt:
        """A prompt whose turn it is; a text must be in the graph's strings, a function is given the graph."""
        matches = _matcher(match, text_of)
        return WhenPrompt(self, "prompt", lambda job: matches(job.graph), times)

    def on_message(self, match: Match = None, times: int | None = None) -> WhenMessage:
        """A websocket message; a text must be its type, a function is given the Message."""
        return WhenMessage(
            self,
            "message",
            (lambda it: it.type == match) if isinstance(match, str) else _matcher(match, str),
            times,
        )

    def behave(self) -> None:
        """Forget all the rules."""
        self.rules.clear()

    def say(self, *frames: Frame) -> None:
        """Send these over every websocket now: a dict as JSON, a str as text, bytes as binary."""
        for frame in frames:
            self.life.hub.say(frame)

    def reset_websockets(self) -> None:
        """Cut all websockets."""
        self.life.hub.cut()

    def silence_websockets(self, pong: bool = False) -> None:
        """Send nothing more over the websockets open now; without ``pong`` their pings are not answered either."""
        for connection in list(self.life.hub.connections):
            connection.muted, connection.deaf = True, not pong

    def forget_history(self) -> None:
        """Lose what was done; the files stay."""
        self.life.jobs.history.clear()

    def forget_queue(self) -> None:
        """Lose what waits."""
        self.life.jobs.clear()

    def wait_until_idle(self, timeout: float = 10.0) -> None:
        """
        Wait until nothing waits or runs.

        :raises TimeoutError: something still does.
        """
        end = time.monotonic() + timeout
        while self._life and self._life.jobs.remaining():
            if time.monotonic() > end:
                raise TimeoutError(f"{self._life.jobs.remaining()} prompts are still queued")
            time.sleep(0.005)

    def wait_for_end(self) -> None:
        """Wait until the server dies."""
        self.life.closed.wait()

    def note_post(self, prompt_id: str, body: dict[str, Any]) -> None:
        """Keep a prompt that was accepted."""
        self.posts.append(Post(prompt_id, body["prompt"], body))

    def count_image(self) -> None:
        """Count a file that was saved as an output."""
        self.images_made += 1

    def _make_folders(self) -> None:
        for folder in (self.output_dir, self.input_dir, self.temp_dir):
            folder.mkdir(parents=True, exist_ok=True)

    def _on_route(
        self,
        method: str,
        path: str,
        matches: Callable[[Any], object],
        subject: Callable[[Request], Any],
        times: int | None,
    ) -> WhenRequest:
        def request_matches(request: Request) -> object:
            return (request.method, request.path) == (method, path) and matches(subject(request))

        return WhenRequest(self, "request", request_matches, times)

    def __enter__(self) -> FakeComfy:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _graph(request: Request) -> Graph:
    graph: Graph = request.json["prompt"]
    return graph


def _matcher(match: Match, text: Callable[[Any], str]) -> Callable[[Any], object]:
    if match is None:
        return lambda subject: True
    if callable(match):
        return match
    return lambda subject: match in text(subject)
