"""Ending a driver's wait for a server that does not answer, by closing the line under it; the connection is lost."""

from __future__ import annotations

import os
import socket
from typing import Any


def hang_up(raw: Any) -> None:
    """Shuts the socket of a driver's connection, where the driver shows it.

    Args:
        raw: the driver's own connection.
    """
    kept = getattr(raw, "_sock", None)  # pymysql's
    if isinstance(kept, socket.socket):
        kept.shutdown(socket.SHUT_RDWR)
    elif callable(number := getattr(raw, "fileno", None)):  # mysqlclient's, psycopg's
        with socket.socket(fileno=os.dup(number())) as twin:
            twin.shutdown(socket.SHUT_RDWR)
