"""The HTTP side: each route with ComfyUI's statuses and shapes."""

from __future__ import annotations

import logging
import mimetypes
import os
import re
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from .files import annotated, is_inside
from .http import LARGEST_BODY, Reply, Request, as_json, is_foreign, plain
from .jobs import Jobs, now
from .validation import Json, problem, validate
from .worker import Worker


class Server(Protocol):
    """What the routes need to know of a server."""

    missing_node_hint: str

    @property
    def jobs(self) -> Jobs:
        """Queue and history."""

    @property
    def worker(self) -> Worker:
        """Who runs them."""

    @property
    def folders(self) -> Mapping[str, Path]:
        """Where input, output and temp are."""

    def object_info(self) -> Json:
        """All node classes."""

    def system_stats(self) -> Json:
        """Versions and devices."""

    def free(self, unload_models: bool, free_memory: bool) -> None:
        """Let go of models, or of all that is remembered of earlier prompts."""


_log = logging.getLogger(__name__)
FEATURES = {"supports_preview_metadata": True, "max_upload_size": LARGEST_BODY}
Route = Callable[[Server, Request, str], Reply]


def answer(server: Server, request: Request) -> Reply:
    """Do what a request asks for."""
    try:
        if is_foreign(request.headers):
            return Reply(403)
        return Reply() if request.method == "OPTIONS" else _routed(server, request)
    except Exception:
        _log.info("%s %s", request.method, request.path, exc_info=True)
        return plain(500, "500 Internal Server Error\n\nServer got itself in trouble")


def _routed(server: Server, request: Request) -> Reply:
    wanted = "GET" if request.method == "HEAD" else request.method
    for method, pattern, route in ROUTES:
        if method == wanted and (match := pattern.fullmatch(request.path)):
            if request.path.startswith("/jobs") and not request.prefixed:
                break
            return route(server, request, match[1] if match.groups() else "")
    return Reply(404) if wanted == "GET" else plain(405, "405: Method Not Allowed")


def queue_info(server: Server) -> Json:
    """What GET /prompt and each status message say."""
    return {"exec_info": {"queue_remaining": server.jobs.remaining()}}


def _get_prompt(server: Server, request: Request, _: str) -> Reply:
    return as_json(queue_info(server))


def _post_prompt(server: Server, request: Request, _: str) -> Reply:
    body = request.json
    if "prompt" not in body:
        return _refusal(problem("no_prompt", "No prompt provided", "No prompt provided"))
    prompt_id = body.get("prompt_id")
    if prompt_id is None:
        prompt_id = str(uuid.uuid4())
    elif not _canonical(prompt_id):
        details = (
            "prompt_id must be a UUID string in canonical lowercase hyphenated form; "
            "omit it to let the server generate one"
        )
        return _refusal(problem("invalid_prompt_id", "prompt_id must be a valid UUID", details))
    verdict = validate(
        body["prompt"],
        server.object_info(),
        partial(_is_input_file, server),
        body.get("partial_execution_targets"),
        server.missing_node_hint,
    )
    if verdict.error:
        return _refusal(verdict.error, verdict.node_errors)
    extra = {**body.get("extra_data", {}), "create_time": now()}
    if "client_id" in body:
        extra["client_id"] = body["client_id"]
    job = server.jobs.put(prompt_id, body["prompt"], extra, verdict.outputs, body)
    return as_json({"prompt_id": prompt_id, "number": job.priority, "node_errors": verdict.node_errors})


def _is_input_file(server: Server, name: str) -> bool:
    try:
        return annotated(server.folders, name).is_file()
    except ValueError:
        return False


def _refusal(error: Json, node_errors: Json | None = None) -> Reply:
    return as_json({"error": error, "node_errors": node_errors or {}}, 400)


def _canonical(value: Any) -> bool:
    try:
        return bool(str(uuid.UUID(value)) == value)
    except (ValueError, AttributeError, TypeError):
        return False


def _get_queue(server: Server, request: Request, _: str) -> Reply:
    running = [job.item() for job in list(server.jobs.running.values())]
    return as_json({"queue_running": running, "queue_pending": [job.item() for job in server.jobs.waiting()]})


def _post_queue(server: Server, request: Request, _: str) -> Reply:
    body = request.json
    if body.get("clear"):
        server.jobs.clear()
    for prompt_id in body.get("delete", ()):
        server.jobs.delete(prompt_id)
    return Reply()


def _get_history(server: Server, request: Request, _: str) -> Reply:
    entries = list(server.jobs.history.items())
    if "max_items" in request.query:
        entries = entries[-int(request.query["max_items"]) :]
    return as_json(dict(entries))


def _get_history_of(server: Server, request: Request, prompt_id: str) -> Reply:
    entry = server.jobs.history.get(prompt_id)
    return as_json({prompt_id: entry} if entry else {})


def _post_history(server: Server, request: Request, _: str) -> Reply:
    body = request.json
    if body.get("clear"):
        server.jobs.history.clear()
    for prompt_id in body.get("delete", ()):
        server.jobs.history.pop(prompt_id, None)
    return Reply()


def _get_jobs(server: Server, request: Request, _: str) -> Reply:
    wanted = [status for status in request.query.get("status", "").split(",") if status]
    jobs = [job for job in server.jobs.all() if not wanted or job["status"] in wanted]
    jobs.sort(key=lambda job: job["create_time"], reverse=request.query.get("sort_order", "desc") == "desc")
    total, offset = len(jobs), int(request.query.get("offset", 0))
    limit = int(request.query["limit"]) if "limit" in request.query else None
    page = jobs[offset:][:limit]
    more = offset + len(page) < total
    return as_json(
        {"jobs": page, "pagination": {"offset": offset, "limit": limit, "total": total, "has_more": more}}
    )


def _get_job(server: Server, request: Request, prompt_id: str) -> Reply:
    job = server.jobs.describe(prompt_id)
    return as_json(job) if job else as_json({"error": "Job not found"}, 404)


def _cancel_job(server: Server, request: Request, prompt_id: str) -> Reply:
    return as_json({"cancelled": server.jobs.interrupt(prompt_id) or server.jobs.delete(prompt_id)})


def _interrupt(server: Server, request: Request, _: str) -> Reply:
    server.jobs.interrupt(request.json.get("prompt_id") if request.body else None)
    return Reply()


def _free(server: Server, request: Request, _: str) -> Reply:
    body = request.json
    server.free(bool(body.get("unload_models")), bool(body.get("free_memory")))
    return Reply()


def _view(server: Server, request: Request, _: str) -> Reply:
    name, kind = request.query.get("filename"), request.query.get("type", "output")
    if name is None:
        return Reply(404)
    if not name or name.startswith("/") or ".." in name or kind not in server.folders:
        return Reply(400)
    root = server.folders[kind]
    folder = root / request.query.get("subfolder", "")
    if not is_inside(root, folder):
        return Reply(403)
    try:
        data = (folder / os.path.basename(name)).read_bytes()  # noqa: PTH119 - as ComfyUI cuts it
    except OSError:
        return Reply(404)
    return Reply(200, data, mimetypes.guess_type(name)[0] or "application/octet-stream")


def _upload(server: Server, request: Request, __: str) -> Reply:
    boundary = re.search(r"boundary=([^;]+)", request.content_type)
    form: dict[str, bytes] = {}
    filename = ""
    for part in request.body.split(b"--" + boundary[1].strip('"').encode())[1:-1] if boundary else ():
        head, _, value = part.partition(b"\r\n\r\n")
        names = dict(re.findall(r'(\w+)="([^"]*)"', head.decode()))
        form[names["name"]] = value.removesuffix(b"\r\n")
        filename = names.get("filename", filename)
    if not filename:
        return Reply(400)
    kind, subfolder = form.get("type", b"input").decode(), form.get("subfolder", b"").decode()
    root = server.folders[kind]
    folder = root / subfolder
    if not is_inside(root, folder / filename):
        return Reply(400)
    folder.mkdir(parents=True, exist_ok=True)
    stem, suffix = os.path.splitext(filename)  # noqa: PTH122 - a string, not a path
    name, number = filename, 1
    if form.get("overwrite") not in (b"true", b"1"):
        while (folder / name).exists() and (folder / name).read_bytes() != form["image"]:
            name, number = f"{stem} ({number}){suffix}", number + 1
    (folder / name).write_bytes(form["image"])
    return as_json({"name": name, "subfolder": subfolder, "type": kind})


def _object_info(server: Server, request: Request, name: str) -> Reply:
    return as_json({key: value for key, value in server.object_info().items() if name in ("", key)})


def _system_stats(server: Server, request: Request, _: str) -> Reply:
    return as_json(server.system_stats())


def _features(server: Server, request: Request, _: str) -> Reply:
    return as_json(FEATURES)


ROUTES: list[tuple[str, re.Pattern[str], Route]] = [
    (method, re.compile(path), route)
    for method, path, route in (
        ("GET", "/jobs/([^/]+)", _get_job),
        ("GET", "/view", _view),
        ("POST", "/prompt", _post_prompt),
        ("GET", "/prompt", _get_prompt),
        ("GET", "/history/([^/]+)", _get_history_of),
        ("GET", "/history", _get_history),
        ("POST", "/history", _post_history),
        ("GET", "/queue", _get_queue),
        ("POST", "/queue", _post_queue),
        ("GET", "/jobs", _get_jobs),
        ("POST", "/jobs/([^/]+)/cancel", _cancel_job),
        ("POST", "/interrupt", _interrupt),
        ("POST", "/free", _free),
        ("POST", "/upload/image", _upload),
        ("GET", "/object_info", _object_info),
        ("GET", "/object_info/([^/]+)", _object_info),
        ("GET", "/system_stats", _system_stats),
        ("GET", "/features", _features),
    )
]
