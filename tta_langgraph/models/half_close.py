"""Tells a server that its client leaves, while what it has sent already can still be read.

A client that closes its connection drops what is still on the way and in its socket. One that shuts only its own half
has told the server as much, and goes on reading up to the server's own end of the connection: then all that it ever
sent is here, however late it is read.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any


class Line:
    """The connection of one streamed answer; known once the answer has begun."""

    def __init__(self) -> None:
        self.half_closed = False
        """The server was told that its client leaves."""
        self.drained = False
        """All that the server sent was read."""
        self._response: Any = None
        self._leaving = False

    @property
    def begun(self) -> bool:
        """Whether the answer has begun, so that its connection is known."""
        return self._response is not None

    def leave(self) -> None:
        """Tells the server that its client leaves, now or as soon as its answer begins."""
        self._leaving = True
        self._half_close()

    def answered(self, response: Any) -> None:
        """Takes in the response, when its headers are here."""
        self._response = response
        if self._leaving:
            self._half_close()

    def _half_close(self) -> None:
        response = self._response
        # Only the connection of an answer that is still open is this call's own; HTTP/2 shares it even then.
        if response is None or response.is_closed or response.http_version != "HTTP/1.1":
            return
        stream = response.extensions.get("network_stream")
        transport = None if stream is None else stream.get_extra_info("socket")
        if transport is None:
            return
        # Not every event loop lets its sockets be shut; a copy of one shuts the connection just as well.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(transport.fileno())) as copy:
            copy.shutdown(socket.SHUT_WR)
            self.half_closed = True

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Follows the answer's body, as an extension `trace` of httpcore."""
        match event:
            case "http11.receive_response_body.complete":
                self.drained = True
            case "http11.receive_response_body.failed":
                # An end of the connection before that of the body. Where a connection is reset instead, the system
                # throws away what has not been read.
                self.drained = type(info["exception"]).__name__ == "RemoteProtocolError"
            case "http11.response_closed.started" if self.half_closed:
                # Its answer may have ended as usual all the same, and nobody can send on this connection any more.
                await self._response.extensions["network_stream"].aclose()


LINE: ContextVar[Line | None] = ContextVar("line", default=None)
"""Where the request of the running task is to show its connection."""


def show_lines(model: Any) -> None:
    """Has the HTTP client of an OpenAI model show the connections of its streams to those who ask; nothing for others.

    Args:
        model: a chat model.
    """
    client = getattr(getattr(model, "root_async_client", None), "_client", None)
    hooks = getattr(client, "event_hooks", None)
    if isinstance(hooks, dict) and _requested not in hooks["request"]:
        hooks["request"].append(_requested)
        hooks["response"].append(_responded)


async def _requested(request: Any) -> None:
    if (line := LINE.get()) is not None:
        request.extensions.setdefault("trace", line.trace)


async def _responded(response: Any) -> None:
    line = LINE.get()
    if line is not None and response.request.extensions.get("trace") == line.trace:
        line.answered(response)
