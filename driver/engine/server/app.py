"""The transport: starlette carries requests and websockets to the protocol."""

from __future__ import annotations

import asyncio
import uuid

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from ...protocol import FEATURES, LARGEST_BODY, Request, Server, answer, flags_of, greeting, is_foreign
from ...protocol.http import plain
from .sockets import Connection, SocketHub

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def application(server: Server, hub: SocketHub) -> Starlette:
    """An ASGI application for a server."""

    async def http(request: HttpRequest) -> Response:
        body = bytearray()
        size = 0
        async for chunk in request.stream():  # to its end, or the client would not read the refusal
            size += len(chunk)
            if size <= LARGEST_BODY:
                body += chunk
        if size > LARGEST_BODY:
            reply = plain(413, f"Maximum request body size {LARGEST_BODY} exceeded.")
        else:
            target = request.scope["raw_path"].decode() + "?" + request.url.query
            asked = Request.read(request.method, target, request.headers, bytes(body))
            reply = await run_in_threadpool(answer, server, asked)
        return Response(reply.body, reply.status, {"Content-Type": reply.content_type, **reply.headers})

    async def websocket(socket: WebSocket) -> None:
        if await run_in_threadpool(is_foreign, socket.headers):
            await socket.close()
            return
        await socket.accept()
        connection = Connection(socket.query_params.get("clientId") or uuid.uuid4().hex)
        hub.add(connection)
        for kind, data in greeting(server, connection.sid):
            hub.send(kind, data, connection.sid)
        tasks = [asyncio.create_task(_listen(socket, connection, hub))]
        tasks.append(asyncio.create_task(connection.send_all(socket)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hub.remove(connection)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return Starlette(
        routes=[
            WebSocketRoute("/ws", websocket),
            WebSocketRoute("/api/ws", websocket),
            Route("/{path:path}", http, methods=METHODS),
        ]
    )


async def _listen(socket: WebSocket, connection: Connection, hub: SocketHub) -> None:
    """Read until the client goes; only its first message can mean something."""
    first = True
    while (message := await socket.receive())["type"] == "websocket.receive":
        if first and (flags := flags_of(message.get("text") or "")) is not None:
            connection.flags = flags
            hub.send("feature_flags", FEATURES, connection.sid)
        first = False
