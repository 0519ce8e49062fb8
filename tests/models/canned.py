"""A real HTTP server for protocols that the scripted one does not speak: says what its handler makes of a request."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Canned(BaseHTTPRequestHandler):
    """Reads a request's JSON body, and answers with a text."""

    protocol_version = "HTTP/1.1"

    def body(self) -> dict[str, Any]:
        """What was asked."""
        found: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        return found

    def answer(self, status: int, kind: str, text: str, **headers: str) -> None:
        """Says so."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextlib.contextmanager
def serving(kind: type[Canned], **fields: Any) -> Iterator[Any]:
    """A handler class of its own with these fields, and its address as `url`, while its server runs."""
    handler: Any = type("Server", (kind,), fields)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        handler.url = f"http://127.0.0.1:{server.server_port}"
        yield handler
    finally:
        server.shutdown()
        server.server_close()
