"""A small HTTP/1.1 server on asyncio and h11 that tells its handler at once when the client leaves.

Web frameworks notice a lost client at the next write, if at all; a server whose log is the truth about
cancellation has to cancel the handler the moment the socket closes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

import h11

Headers = Iterable[tuple[str, str]]


class Exchange:
    """One request and the means to answer it."""

    def __init__(self, connection: Connection, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method = method
        """HTTP method."""
        self.path = path
        """Path without the query."""
        self.headers = headers
        """Request headers, names in lower case."""
        self.body = body
        """Request body."""
        self.responded = False
        """Whether a response was started."""
        self._connection = connection

    @property
    def client_gone(self) -> bool:
        """Whether the client closed the connection."""
        return self._connection.lost

    def json_body(self) -> dict[str, Any]:
        """Returns the body as a JSON object.

        Raises:
            ValueError: it is none.
        """
        value = json.loads(self.body)
        if not isinstance(value, dict):
            raise ValueError("the body is no JSON object")
        return value

    def respond(self, status: int, body: bytes, content_type: str, headers: Headers = ()) -> None:
        """Sends a whole response."""
        length = [("content-length", str(len(body)))]
        self._start(status, content_type, [*length, *headers])
        self._connection.send(h11.Data(data=body), h11.EndOfMessage())

    def respond_json(self, status: int, value: Any, headers: Headers = ()) -> None:
        """Sends a whole response in JSON."""
        self.respond(status, json.dumps(value).encode(), "application/json", headers)

    def start_events(self, status: int, headers: Headers = ()) -> None:
        """Starts a response of server-sent events."""
        self._start(status, "text/event-stream", [("transfer-encoding", "chunked"), *headers])

    def send_event(self, data: str) -> None:
        """Sends one server-sent event."""
        self._connection.send(h11.Data(data=f"data: {data}\n\n".encode()))

    def send_comment(self, text: str) -> None:
        """Sends a comment, which clients of server-sent events ignore."""
        self._connection.send(h11.Data(data=f": {text}\n\n".encode()))

    def start_json(self, status: int, headers: Headers = ()) -> None:
        """Starts a response in JSON that white space may precede."""
        self._start(status, "application/json", [("transfer-encoding", "chunked"), *headers])

    def send_space(self) -> None:
        """Sends white space, which parsers of JSON ignore."""
        self._connection.send(h11.Data(data=b" \n"))

    def end_json(self, value: Any) -> None:
        """Ends a response in JSON with its value."""
        self._connection.send(h11.Data(data=json.dumps(value).encode()), h11.EndOfMessage())

    def end_events(self) -> None:
        """Ends the response of server-sent events."""
        self._connection.send(h11.EndOfMessage())

    def abort(self) -> None:
        """Closes the socket without another byte, as a crashing server does."""
        self.responded = True
        self._connection.abort()

    def _start(self, status: int, content_type: str, headers: Headers) -> None:
        self.responded = True
        self._connection.send(h11.Response(status_code=status, headers=[("content-type", content_type), *headers]))


Handler = Callable[[Exchange], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client connection; runs the handler as a task and cancels it when the client leaves.

    Args:
        handler: answers the requests.
        connections: where it is listed while it is open.
        half_open: goes on writing to a client that has shut its half.
    """

    def __init__(self, handler: Handler, connections: set[Connection], *, half_open: bool = False) -> None:
        self.lost = False
        """Whether the connection is closed."""
        self._handler = handler
        self._connections = connections
        self._half_open = half_open
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._read()

    def eof_received(self) -> bool:
        return self._half_open

    def send(self, *events: h11.Event) -> None:
        """Sends response events; silently nothing once the client has left."""
        if self.lost:
            return
        data = b"".join(self._http.send(event) or b"" for event in events)
        self._transport.write(data)

    def abort(self) -> None:
        """Closes the socket at once."""
        self._transport.abort()

    async def stop(self) -> None:
        """Ends the connection and waits for its handler."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._transport.abort()

    def _read(self) -> None:
        try:
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Request):
                    self._request, self._body = event, bytearray()
                elif isinstance(event, h11.Data):
                    self._body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self._task = asyncio.get_running_loop().create_task(self._answer())
                elif isinstance(event, h11.ConnectionClosed):
                    break
        except h11.RemoteProtocolError:
            self.abort()

    async def _answer(self) -> None:
        assert self._request is not None
        headers = {name.decode(): value.decode("latin-1") for name, value in self._request.headers}
        path = self._request.target.decode("ascii").partition("?")[0]
        exchange = Exchange(self, self._request.method.decode("ascii"), path, headers, bytes(self._body))
        try:
            await self._handler(exchange)
        except asyncio.CancelledError:
            return
        except Exception as error:  # a mistake in a script must reach the test that wrote it, not hang it
            if exchange.responded:
                exchange.abort()
            else:
                exchange.respond_json(500, {"error": {"message": f"{type(error).__name__}: {error}"}})
        finally:
            self._task = None
        if self.lost:
            return
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._read()
        elif not self._transport.is_closing():
            self._transport.close()
