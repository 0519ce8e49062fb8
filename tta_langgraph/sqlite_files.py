"""SQLite files that several processes write at once: trace stores and shared pools."""

from __future__ import annotations

import sqlite3
import time

BUSY_SECONDS = 60.0
"""How long a writer waits for another one, in seconds."""
_PAUSE = 0.02


def share(connection: sqlite3.Connection) -> None:
    """Prepares a new connection: write-ahead logging, and writers that wait for each other.

    Args:
        connection: a connection of the standard library's driver, outside of a transaction.

    Raises:
        sqlite3.OperationalError: the file cannot be used, or stayed locked for `BUSY_SECONDS`.
    """
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            # The first to come turns the file over; those beside it are refused at once, whatever the timeout says.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
    connection.execute("PRAGMA synchronous = NORMAL")
