"""Requests and replies without a transport, and whom the server refuses."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

LARGEST_BODY = 100 * 1024 * 1024


@dataclass
class Reply:
    """An HTTP answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """
    An HTTP request.

    ``path`` is without the /api that may stand before every route; the names of ``headers`` are in lower case.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    prefixed: bool

    @classmethod
    def read(cls, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
        """Take a request line apart."""
        parts = urlsplit(target)
        path = unquote(parts.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return cls(method, path.removeprefix("/api"), query, headers, body, path.startswith("/api/"))

    @property
    def json(self) -> Any:
        """The body as JSON; ComfyUI answers a plain 500 where it is none."""
        return json.loads(self.body)

    @property
    def content_type(self) -> str:
        """What the body is said to be."""
        return self.headers.get("content-type", "")

    @property
    def authorization(self) -> str:
        """The login, if one came along."""
        return self.headers.get("authorization", "")


def plain(status: int, text: str) -> Reply:
    """Answer with a text."""
    return Reply(status, text.encode(), "text/plain; charset=utf-8")


def as_json(data: Any, status: int = 200) -> Reply:
    """Answer with JSON."""
    return Reply(status, json.dumps(data).encode(), "application/json; charset=utf-8")


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Tell whether another website sent this through a browser: such requests are refused with 403."""
    if headers.get("sec-fetch-site") == "cross-site":
        return True
    if not (headers.get("host") and headers.get("origin")):
        return False
    host, origin = urlsplit("//" + headers["host"].lower()), urlsplit(headers["origin"].lower())
    both_ports = host.port is not None and origin.port is not None
    ours, theirs = (it.netloc if both_ports else it.hostname for it in (host, origin))
    return bool(theirs) and ours != theirs and _is_loopback(host.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)
