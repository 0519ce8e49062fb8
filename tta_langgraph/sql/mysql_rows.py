"""Rows of bounded size from MySQL: what the server announces, and how a statement is written so that it sends less.

A row arrives in one piece, and a value may be as long as the server's `max_allowed_packet` (64 MB by default) in each
of thousands of columns. A client-side limit would come after it has been received.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from typing import Any

from sqlalchemy import Connection

from tta_langgraph.sql.backend import Fetched, StatementError
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.rows import Limits, RowSink


class TooWideError(Exception):
    """A row of the statement may be larger than what is wanted here.

    Args:
        names: its columns.
        long: for each column whether it may be long.
    """

    def __init__(self, names: tuple[str, ...], long: list[bool]) -> None:
        self.names = names
        """Its columns."""
        self.long = long
        """For each column whether it may be long."""
        super().__init__(f"{len(names)} columns")


def fetch(
    connection: Connection, sql: str, limits: Limits, kill: Callable[[], None], *, whole: bool
) -> tuple[Fetched, bool]:
    """Streams the rows of a statement on the driver's own cursor: SQLAlchemy's result reads a first row unasked.

    Args:
        connection: an open one, in a transaction that only reads.
        sql: the statement.
        limits: how much is held.
        kill: ends the statement on the server.
        whole: whether a row that may be very large is refused.

    Returns:
        The rows, and whether the connection has been read to their end.

    Raises:
        TooWideError: when a row may be larger than `LARGEST_ROW`; no row has been read.
        StatementError: when it was no query.
    """
    cursor = _streaming(connection)
    cursor.execute(sql)
    described: Sequence[Sequence[Any]] = cursor.description or ()
    if not described:
        cursor.close()
        raise StatementError("refused", "not executed: the statement is not a query")
    drained = False
    try:
        announced = [row_bytes(column) for column in described]
        names = tuple(str(column[0]) for column in described)
        if whole and sum(announced) > LARGEST_ROW:
            raise TooWideError(names, [size > limits.max_cell_bytes for size in announced])
        sink, most = RowSink(limits), max(1, LARGEST_ROW // max(1, sum(announced)))
        while not drained:
            batch = cursor.fetchmany(min(sink.wanted, most))
            taken = sum(1 for _ in takewhile(sink.add, batch))
            if taken < len(batch):  # the server's own limit is one row more than is held
                drained = len(sink.rows) == limits.max_rows and cursor.fetchone() is None
                break
            drained = not batch
        return Fetched(names, sink.rows, sink.truncated), drained
    finally:
        if drained:
            cursor.close()
        else:
            _drop(cursor, kill)


def _streaming(connection: Connection) -> Any:
    """A cursor that leaves the rows on the server, where the driver has one."""
    dialect: Any = connection.dialect
    raw: Any = connection.connection
    if dialect.supports_server_side_cursors and hasattr(dialect, "_sscursor"):
        return raw.cursor(dialect._sscursor)  # how SQLAlchemy's MySQL dialects, sync and async, ask for it
    return raw.cursor()


def _drop(cursor: Any, kill: Callable[[], None]) -> None:
    """Leaves a result that nobody will read: the server may have gigabytes of it, and closing a cursor reads them.

    The connection has to be dropped after this.
    """
    with suppress(Exception):  # it may have ended by itself
        kill()
    held: Any = getattr(cursor, "_result", None)
    if getattr(held, "unbuffered_active", False):  # pymysql reads a result also when it is collected
        held.unbuffered_active = False


def row_bytes(column: Sequence[Any]) -> int:
    """The most bytes (or characters) of a column, from its DB-API description."""
    if column[1] not in _STRINGS:
        return 0
    return int(column[3]) if isinstance(column[3], int) else _UNKNOWN


def cutting_cap(limits: Limits, columns: int) -> Limits:
    """The same limits with a smaller cell where there are very many."""
    return replace(limits, max_cell_bytes=max(1, min(limits.max_cell_bytes, LARGEST_ROW // (4 * columns))))


def cutting(sql: str, verdict: Verdict, limits: Limits, long: Sequence[bool], *, maria: bool) -> str:
    """The statement with its long columns cut on the server.

    MariaDB forgets the order of a sub-query that has no limit, so it gets one; elsewhere that would only keep the
    server from merging the two and sending the first rows at once.
    """
    names = [f"c{i}" for i in range(len(long))]
    cut = limits.max_cell_bytes + 1
    shown = [f"left({name}, {cut})" if is_long else name for name, is_long in zip(names, long, strict=True)]
    limit = f"\nLIMIT {limits.max_rows + 1}" if maria and verdict.ordered and not verdict.limited else ""
    return f"WITH tta_q({', '.join(names)}) AS (\n{sql}{limit}\n) SELECT {', '.join(shown)} FROM tta_q"


_STRINGS = frozenset(
    {15, 245, 249, 250, 251, 252, 253, 254, 255}
)  # the protocol's types of text, blobs, JSON, geometry
_UNKNOWN = 1 << 32
LARGEST_ROW = 16_000_000
"""Bytes that one row may announce before its long columns are cut on the server."""
