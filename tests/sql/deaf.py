"""A proxy before a database server that stops forwarding: a server that accepts, and never answers."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from sqlalchemy import URL, make_url


class Deaf:
    """Forwards until `deaf` is set, and swallows what comes after that.

    Args:
        url: the server's SQLAlchemy URL.
        driver: the driver to reach it with, for example `mysql+aiomysql`.
    """

    def __init__(self, url: str, driver: str) -> None:
        given = make_url(url)
        host, default = given.query.get("host", given.host), 5432 if given.get_backend_name() == "postgresql" else 3306
        port = given.port or default
        folder = str(host or "")
        path = given.query.get("unix_socket") or (f"{folder}/.s.PGSQL.{port}" if folder.startswith("/") else None)
        self._to: tuple[str, int] | str = str(path) if path else (folder or "127.0.0.1", port)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._kept: list[socket.socket] = []
        self.deaf = False
        """Whether nothing is forwarded any more."""
        self.url: URL = given.set(drivername=driver, host="127.0.0.1", port=self._door.getsockname()[1], query={})
        """How the proxy is reached."""
        threading.Thread(target=self._serve, daemon=True).start()

    def restart(self) -> None:
        """Ends all connections, as a server does that starts again, and forwards the next ones."""
        kept, self._kept = self._kept, []
        for each in kept:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.deaf = False

    def close(self) -> None:
        """Closes all connections."""
        for each in (self._door, *self._kept):
            each.close()

    def _serve(self) -> None:
        while True:
            with suppress(OSError):
                client, _ = self._door.accept()
                self._kept.append(client)
                if not self.deaf:
                    server = socket.socket(socket.AF_UNIX if isinstance(self._to, str) else socket.AF_INET)
                    server.connect(self._to)
                    self._kept.append(server)
                    for pair in ((client, server), (server, client)):
                        threading.Thread(target=self._pump, args=pair, daemon=True).start()
                continue
            return

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if not self.deaf:
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)
