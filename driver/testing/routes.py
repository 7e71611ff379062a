"""The HTTP side of the fake: each route with ComfyUI's statuses and shapes."""

from __future__ import annotations

import json
import mimetypes
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .jobs import now
from .validation import problem, validate

if TYPE_CHECKING:
    from .incarnation import Incarnation

Json = dict[str, Any]


@dataclass
class Reply:
    """An HTTP answer; ``promise`` is a Content-Length that is not true."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/octet-stream"
    promise: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """An HTTP request; ``path`` is without the /api that may stand before every route."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    content_type: str
    prefixed: bool
    authorization: str = ""

    @property
    def json(self) -> Any:
        """The body as JSON; ComfyUI answers a plain 500 where it is none."""
        return json.loads(self.body)


Route = Callable[["Incarnation", Request, str], Reply]


def answer(server: Incarnation, request: Request) -> Reply:
    """Do what a request asks for."""
    for method, pattern, route in ROUTES:
        if method == request.method and (match := pattern.fullmatch(request.path)):
            if request.path.startswith("/jobs") and not (request.prefixed and server.fake.jobs_route):
                break
            try:
                return route(server, request, match[1] if match.groups() else "")
            except Exception:
                return _plain(500, "500 Internal Server Error\n\nServer got itself in trouble")
    return Reply(404) if request.method == "GET" else _plain(405, "405: Method Not Allowed")


def _plain(status: int, text: str) -> Reply:
    return Reply(status, text.encode(), "text/plain; charset=utf-8")


def _json(data: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(data).encode(), "application/json; charset=utf-8")


def queue_info(server: Incarnation) -> Json:
    """What GET /prompt and each status message say."""
    return {"exec_info": {"queue_remaining": server.jobs.remaining()}}


def _get_prompt(server: Incarnation, request: Request, _: str) -> Reply:
    return _json(queue_info(server))


def _post_prompt(server: Incarnation, request: Request, _: str) -> Reply:
    body = request.json
    if "prompt" not in body:
        return _refusal(problem("no_prompt", "No prompt provided", "No prompt provided"))
    prompt_id = None if server.fake.own_ids else body.get("prompt_id")
    if prompt_id is None:
        prompt_id = str(uuid.uuid4())
    elif not _canonical(prompt_id):
        details = (
            "prompt_id must be a UUID string in canonical lowercase hyphenated form; "
            "omit it to let the server generate one"
        )
        return _refusal(problem("invalid_prompt_id", "prompt_id must be a valid UUID", details))
    inputs = server.fake.input_dir
    verdict = validate(body["prompt"], server.fake.object_info, lambda name: (inputs / name).is_file())
    if verdict.error:
        return _refusal(verdict.error, verdict.node_errors)
    extra = {**body.get("extra_data", {}), "create_time": now()}
    if "client_id" in body:
        extra["client_id"] = body["client_id"]
    job = server.accept(prompt_id, body, extra, verdict.outputs)
    return _json({"prompt_id": prompt_id, "number": job.priority, "node_errors": verdict.node_errors})


def _refusal(error: Json, node_errors: Json | None = None) -> Reply:
    return _json({"error": error, "node_errors": node_errors or {}}, 400)


def _canonical(value: Any) -> bool:
    try:
        return bool(str(uuid.UUID(value)) == value)
    except (ValueError, AttributeError, TypeError):
        return False


def _get_queue(server: Incarnation, request: Request, _: str) -> Reply:
    running = [job.item() for job in list(server.jobs.running.values())]
    return _json({"queue_running": running, "queue_pending": [job.item() for job in server.jobs.waiting()]})


def _post_queue(server: Incarnation, request: Request, _: str) -> Reply:
    body = request.json
    if body.get("clear"):
        server.jobs.clear()
    for prompt_id in body.get("delete", ()):
        server.jobs.delete(prompt_id)
    return Reply()


def _get_history(server: Incarnation, request: Request, _: str) -> Reply:
    entries = list(server.jobs.history.items())
    if "max_items" in request.query:
        entries = entries[-int(request.query["max_items"]) :]
    return _json(dict(entries))


def _get_history_of(server: Incarnation, request: Request, prompt_id: str) -> Reply:
    entry = server.jobs.history.get(prompt_id)
    return _json({prompt_id: entry} if entry else {})


def _post_history(server: Incarnation, request: Request, _: str) -> Reply:
    body = request.json
    if body.get("clear"):
        server.jobs.history.clear()
    for prompt_id in body.get("delete", ()):
        server.jobs.history.pop(prompt_id, None)
    return Reply()


def _get_jobs(server: Incarnation, request: Request, _: str) -> Reply:
    wanted = [status for status in request.query.get("status", "").split(",") if status]
    jobs = [job for job in server.jobs.all() if not wanted or job["status"] in wanted]
    jobs.sort(key=lambda job: job["create_time"], reverse=request.query.get("sort_order", "desc") == "desc")
    total, offset = len(jobs), int(request.query.get("offset", 0))
    limit = int(request.query["limit"]) if "limit" in request.query else None
    page = jobs[offset:][:limit]
    more = offset + len(page) < total
    return _json(
        {"jobs": page, "pagination": {"offset": offset, "limit": limit, "total": total, "has_more": more}}
    )


def _get_job(server: Incarnation, request: Request, prompt_id: str) -> Reply:
    job = server.jobs.describe(prompt_id)
    return _json(job) if job else _json({"error": "Job not found"}, 404)


def _cancel_job(server: Incarnation, request: Request, prompt_id: str) -> Reply:
    return _json({"cancelled": server.jobs.interrupt(prompt_id) or server.jobs.delete(prompt_id)})


def _interrupt(server: Incarnation, request: Request, _: str) -> Reply:
    server.jobs.interrupt(request.json.get("prompt_id") if request.body else None)
    return Reply()


def _free(server: Incarnation, request: Request, _: str) -> Reply:
    if request.json.get("free_memory"):
        server.worker.cache.clear()
    return Reply()


def _view(server: Incarnation, request: Request, _: str) -> Reply:
    name, kind = request.query.get("filename"), request.query.get("type", "output")
    if name is None:
        return Reply(404)
    if not name or name.startswith("/") or ".." in name or kind not in server.folders:
        return Reply(400)
    root = server.folders[kind]
    folder = root / request.query.get("subfolder", "")
    if not _inside(root, folder):
        return Reply(403)
    try:
        data = (folder / os.path.basename(name)).read_bytes()  # noqa: PTH119 - as ComfyUI cuts it
    except OSError:
        return Reply(404)
    return Reply(200, data, mimetypes.guess_type(name)[0] or "application/octet-stream")


def _inside(root: Path, folder: Path) -> bool:
    return folder.resolve().is_relative_to(root.resolve())


def _upload(server: Incarnation, request: Request, __: str) -> Reply:
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
    if not _inside(root, folder / filename):
        return Reply(400)
    folder.mkdir(parents=True, exist_ok=True)
    stem, suffix = os.path.splitext(filename)  # noqa: PTH122 - a string, not a path
    name, number = filename, 1
    if form.get("overwrite") not in (b"true", b"1"):
        while (folder / name).exists() and (folder / name).read_bytes() != form["image"]:
            name, number = f"{stem} ({number}){suffix}", number + 1
    (folder / name).write_bytes(form["image"])
    return _json({"name": name, "subfolder": subfolder, "type": kind})


def _object_info(server: Incarnation, request: Request, name: str) -> Reply:
    classes = server.fake.object_info
    if "LoadImage" in classes:
        files = sorted(path.name for path in server.fake.input_dir.iterdir() if path.is_file())
        classes["LoadImage"]["input"]["required"]["image"][0] = files
    return _json({key: value for key, value in classes.items() if name in ("", key)})


def _system_stats(server: Incarnation, request: Request, _: str) -> Reply:
    memory = {key: 2**34 for key in ("vram_total", "vram_free", "torch_vram_total", "torch_vram_free")}
    system = {
        "os": "posix",
        "ram_total": 2**35,
        "ram_free": 2**34,
        "comfyui_version": server.fake.version,
        "python_version": "3.12.0",
        "pytorch_version": "2.9.0",
        "embedded_python": False,
        "argv": ["main.py"],
    }
    return _json({"system": system, "devices": [{"name": "fake", "type": "cuda", "index": 0, **memory}]})


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
    )
]
