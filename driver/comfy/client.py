"""One ComfyUI server over HTTP: submit once, look up, fetch, cancel."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ServerError
from .answers import ImageRef, JobState, Lookup, QueueState, finished
from .connection import Connection, gist, parsed
from .errors import Ambiguous, ImageMissing, Rejected, ServerTrouble

WAITING = {"pending": JobState.PENDING, "in_progress": JobState.RUNNING}


class ComfyClient:
    """
    A ComfyUI server. Threads may share one client.

    Every method raises ServerGone when the server cannot be reached and ServerTrouble when it answers
    something else than ComfyUI would.
    """

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        """
        :param url: ``http://127.0.0.1:8188``; the scheme may be left out, a path stays.
        :param timeout: seconds to wait for an answer.
        :raises ServerError: the url is not one.
        """
        self._http = Connection(url, timeout)
        self.url = self._http.url
        """The address, without the name and password that may have stood in it."""
        self.login = self._http.login

    def system_stats(self) -> dict[str, Any]:
        """The server's versions and devices."""
        return self._http.get_json("/system_stats")

    def object_info(self) -> dict[str, Any]:
        """All node classes with their inputs."""
        return self._http.get_json("/object_info")

    def queue_remaining(self) -> int:
        """How many prompts wait or run, everybody's: the cheapest sign of life."""
        info = self._http.get_json("/prompt")
        try:
            return int(info["exec_info"]["queue_remaining"])
        except (KeyError, TypeError) as error:
            raise self._strange("/prompt", info) from error

    def queue(self) -> QueueState:
        """The ids in the queue. The server copies every waiting graph for it: seconds on a full one."""
        queue = self._http.get_json("/queue")
        try:
            running, pending = (
                frozenset(str(item[1]) for item in queue[key]) for key in ("queue_running", "queue_pending")
            )
        except (KeyError, TypeError, IndexError) as error:
            raise self._strange("/queue", queue) from error
        return QueueState(running, pending)

    def submit(
        self,
        prompt_id: str,
        api: dict[str, Any],
        *,
        client_id: str | None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Queue a graph under an id of ours, once.

        :param prompt_id: a UUID in canonical lowercase form.
        :param api: the graph in API format.
        :param client_id: who hears of it: ``EventStream.client_id``.
        :param extra: what savers embed in their files: ``workflow``, the UI graph, and more.
        :raises Rejected: not accepted, or only without some of its outputs; then it was cancelled.
        :raises NotSent: it certainly did not arrive.
        :raises Ambiguous: it may have arrived; look it up.
        :raises ServerTrouble: not queued, and not for what it holds; or the server is too old for ids of ours.
        """
        body: dict[str, Any] = {"prompt": api, "prompt_id": prompt_id}
        if client_id:
            body["client_id"] = client_id
        # a null here would make /api/jobs answer 500 to everyone
        if pnginfo := {name: content for name, content in (extra or {}).items() if content}:
            body["extra_data"] = {"extra_pnginfo": pnginfo}
        response = self._http.post_once("/prompt", body)
        reply = parsed(response)
        if response.status_code in (400, 413):
            raise Rejected(self.url, reply if isinstance(reply, dict) else {"error": gist(response)})
        if 300 <= response.status_code < 500:
            raise self._http.trouble("/prompt", response)
        if response.status_code != 200 or not isinstance(reply, dict) or "prompt_id" not in reply:
            raise Ambiguous(
                "POST /prompt was not answered as by ComfyUI", where=self.url, value=gist(response)
            )
        if not reply.get("node_errors") and reply["prompt_id"] == prompt_id:
            return
        with contextlib.suppress(ServerError):
            self.cancel(str(reply["prompt_id"]))
        if reply.get("node_errors"):
            raise Rejected(self.url, reply)
        raise ServerTrouble(
            "this ComfyUI gives prompts ids of its own, so a lost answer could make an image twice",
            where=self.url,
            hint="update ComfyUI",
        )

    def lookup(self, prompt_id: str) -> Lookup:
        """What became of a prompt: the answer that decides."""
        response = self._http.ask("GET", f"/api/jobs/{prompt_id}")
        reply = parsed(response)
        if response.status_code == 404 and isinstance(reply, dict):
            return Lookup(JobState.UNKNOWN)
        if response.status_code in (404, 405, 500):  # no such route, or a prompt that breaks it
            return self._lookup_in_parts(prompt_id)
        if response.status_code != 200 or not isinstance(reply, dict) or "status" not in reply:
            raise self._http.trouble("/api/jobs", response)
        if reply["status"] in WAITING:
            return Lookup(WAITING[reply["status"]])
        return finished(reply.get("outputs", {}), reply.get("execution_status"))

    def _lookup_in_parts(self, prompt_id: str) -> Lookup:
        """History, queue, then history again for what ended in between."""
        entry = self._history(prompt_id)
        if entry is None:
            queue = self.queue()
            if prompt_id in queue.running:
                return Lookup(JobState.RUNNING)
            if prompt_id in queue.pending:
                return Lookup(JobState.PENDING)
            entry = self._history(prompt_id)
        return finished(entry.get("outputs", {}), entry.get("status")) if entry else Lookup(JobState.UNKNOWN)

    def _history(self, prompt_id: str) -> dict[str, Any] | None:
        return self._http.get_json(f"/history/{prompt_id}").get(prompt_id)

    def fetch(self, image: ImageRef) -> bytes:
        """
        Get the bytes as they were saved.

        :raises ImageMissing: the server has no such file.
        """
        query = {"filename": image.filename, "subfolder": image.subfolder, "type": image.type}
        response = self._http.ask("GET", "/view", params=query, headers={"Accept-Encoding": "identity"})
        place = f"{self.url} {image.type}/{image.subfolder}/{image.filename}"
        if response.status_code == 404:
            raise ImageMissing(where=place)
        if response.status_code != 200:
            raise self._http.trouble("/view", response)
        promised = int(response.headers.get("Content-Length", len(response.content)))
        if len(response.content) < promised:
            message = f"the image broke off: {promised} bytes were promised"
            raise ServerTrouble(message, where=place, value=len(response.content))
        if response.content[:64].lstrip().startswith(b"<"):
            raise ServerTrouble(
                "a web page came instead of the image", where=place, value=response.content[:60]
            )
        return response.content

    def cancel(self, prompt_id: str) -> None:
        """Take a prompt out of the queue, or interrupt it if it is the one that runs. No-op otherwise."""
        self._http.order("/queue", {"delete": [prompt_id]})
        if self.lookup(prompt_id).state is not JobState.RUNNING:
            return
        response = self._http.ask("POST", f"/api/jobs/{prompt_id}/cancel")
        if response.status_code in (404, 405):
            self._http.order("/interrupt", {"prompt_id": prompt_id})
        elif response.status_code != 200:
            raise self._http.trouble("/api/jobs/.../cancel", response)

    def free(self) -> None:
        """Unload the models and empty the caches before the next prompt."""
        self._http.order("/free", {"unload_models": True, "free_memory": True})

    def upload_image(self, path: Path, *, subfolder: str = "", overwrite: bool = False) -> str:
        """Put a file into the server's input folder; return the name LoadImage knows it by, which may be new."""
        form = {"subfolder": subfolder, "overwrite": str(overwrite).lower(), "type": "input"}
        files = {"image": (path.name, path.read_bytes())}
        response = self._http.ask("POST", "/upload/image", data=form, files=files)
        reply = parsed(response)
        if response.status_code != 200 or not isinstance(reply, dict) or "name" not in reply:
            raise self._http.trouble("/upload/image", response)
        return "/".join(part for part in (reply.get("subfolder"), reply["name"]) if part)

    def _strange(self, path: str, reply: object) -> ServerTrouble:
        return ServerTrouble(f"{path} was not answered as by ComfyUI", where=self.url, value=reply)
