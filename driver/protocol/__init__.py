"""ComfyUI's protocol from the server's side, without a transport: shared by FakeComfy and by the engine."""

from .graph import Graph, is_link, upstream
from .http import LARGEST_BODY, Reply, Request, is_foreign
from .jobs import Job, Jobs
from .routes import FEATURES, Server, answer, queue_info
from .sockets import flags_of, greeting
from .worker import Hub, Interrupted, Made, Worker

__all__ = [
    "FEATURES",
    "LARGEST_BODY",
    "Graph",
    "Hub",
    "Interrupted",
    "Job",
    "Jobs",
    "Made",
    "Reply",
    "Request",
    "Server",
    "Worker",
    "answer",
    "flags_of",
    "greeting",
    "is_foreign",
    "is_link",
    "queue_info",
    "upstream",
]
