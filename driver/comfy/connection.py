"""HTTP to one server: what may be repeated is repeated a few quick times, and every failure gets its name."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import stamina
from requests.exceptions import ChunkedEncodingError
from urllib3.exceptions import NewConnectionError

from ...errors import ServerError
from .errors import Ambiguous, NotSent, ServerGone, ServerTrouble

CONNECT_SECONDS = 5.0
BUSY = frozenset({502, 503, 504})
JSON = {"Content-Type": "application/json"}

logging.getLogger("stamina").addHandler(logging.NullHandler())


class _Busy(requests.HTTPError):
    """502, 503 or 504: worth another try."""


class Connection:
    """Kept-alive connections to a server, one for each thread."""

    def __init__(self, url: str, timeout: float) -> None:
        self.url, self.login = split_login(normal_url(url))
        self._timeout = (min(timeout, CONNECT_SECONDS), timeout)
        self._loopback = urlsplit(self.url).hostname in {"localhost", "127.0.0.1", "::1"}
        self._local = threading.local()

    def get_json(self, path: str) -> dict[str, Any]:
        """GET a JSON object."""
        response = self.ask("GET", path)
        reply = parsed(response)
        if response.status_code != 200 or not isinstance(reply, dict):
            raise self.trouble(path, response)
        return reply

    def order(self, path: str, body: dict[str, Any]) -> None:
        """POST what does the same when it arrives twice, and is answered with nothing."""
        response = self.ask("POST", path, data=json.dumps(body), headers=JSON)
        if response.status_code != 200:
            raise self.trouble(path, response)

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send what may be repeated, up to three times."""
        tries = stamina.retry_context(
            on=(requests.ConnectionError, ChunkedEncodingError, _Busy),
            attempts=3,
            timeout=CONNECT_SECONDS,
            wait_initial=0.1,
            wait_max=0.5,
            wait_jitter=0.1,
        )
        try:
            for attempt in tries:
                with attempt:
                    response = self._send(method, path, **options)
                    if response.status_code in BUSY:
                        raise _Busy(response)
        except _Busy as error:
            raise ServerGone(
                f"a proxy answers for it: {gist(response)}",
                where=self.url,
                hint="is ComfyUI running behind it?",
            ) from error
        except requests.RequestException as error:
            raise self._gone(error, ServerGone) from error
        return response

    def post_once(self, path: str, body: dict[str, Any]) -> requests.Response:
        """
        POST what must not arrive twice.

        :raises NotSent: it certainly did not arrive.
        :raises Ambiguous: it may have arrived.
        """
        try:
            return self._send("POST", path, data=json.dumps(body), headers=JSON)
        except requests.RequestException as error:
            raise self._gone(error, NotSent if _never_sent(error) else Ambiguous) from error

    def trouble(self, path: str, response: requests.Response) -> ServerTrouble:
        """Name an answer that ComfyUI would not give."""
        hint = "is this really ComfyUI's address?"
        if response.status_code in (401, 403):
            hint = "the server, or a proxy before it, wants a login"
        elif response.is_redirect:
            hint = f"use --server {response.headers['Location']}"
        return ServerTrouble(
            f"{path} was not answered as by ComfyUI", where=self.url, value=gist(response), hint=hint
        )

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send once, on this thread's connection. A redirect would turn POST into GET, so none is followed."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = not self._loopback  # no proxy stands between us and this machine
            session.auth = self.login
        return session.request(
            method, self.url + path, timeout=self._timeout, allow_redirects=False, **options
        )

    def _gone(self, error: requests.RequestException, kind: type[ServerGone]) -> ServerGone:
        if isinstance(error, requests.Timeout):
            found = f"no answer in {self._timeout[0 if _never_sent(error) else 1]:g} s"
        else:
            found = _reason(error)
        return kind(
            where=self.url, value=found, hint="is ComfyUI running there? start it, or give another --server"
        )


def normal_url(url: str) -> str:
    """
    Add a missing scheme, drop a closing slash.

    :raises ServerError: no http(s) address.
    """
    text = url.strip()
    text = (text if "://" in text else f"http://{text}").rstrip("/")
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or above 65535
        good = False
    if not good or parts.query or parts.fragment or any(character.isspace() for character in text):
        raise ServerError(
            "not the address of a server", value=url.rpartition("@")[2], hint="--server http://127.0.0.1:8188"
        )
    return text


def split_login(url: str) -> tuple[str, tuple[str, str] | None]:
    """``http://name:password@host`` as the address that may be shown and stored, and the login that may not."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, None
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host).geturl(), (unquote(parts.username), unquote(parts.password or ""))


def parsed(response: requests.Response) -> Any:
    """The JSON of an answer, None where it is none."""
    try:
        return response.json()
    except requests.JSONDecodeError:
        return None


def gist(response: requests.Response) -> str:
    """An answer in one line."""
    lines = response.text[:500].strip().splitlines() or [""]
    return f"{response.status_code} {lines[0]}".strip()


def _reason(error: requests.RequestException) -> str:
    """The innermost cause: requests wraps urllib3, which wraps the operating system."""
    cause: Any = error
    while isinstance(inner := getattr(cause, "reason", None) or (cause.args and cause.args[-1]), Exception):
        cause = inner
    return str(cause)


def _never_sent(error: requests.RequestException) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)
