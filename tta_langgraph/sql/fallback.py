"""Any other engine: the strict list of functions, a transaction that is always rolled back, and the limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from tta_langgraph.sql.backend import Backend, Fetched, StatementError
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.connect import Source
from tta_langgraph.sql.rows import Limits, RowSink
from tta_langgraph.sql.stop import Stop


class FallbackBackend(Backend):
    """Runs statements in a transaction that is rolled back, on an engine we know nothing else about.

    The tree check is stricter here (only functions known to be harmless). At the deadline the driver's own cancel is
    called if it has one (`cancel` or `interrupt`), otherwise the connection is dropped.

    Args:
        source: where connections come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    def run(self, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        """See `Backend.run`."""
        try:
            return self._source.reading(lambda connection: _run(connection, sql, stop, limits), stop)
        except SQLAlchemyError as error:
            if stop.reason is not None:
                raise StatementError(stop.reason, "stopped at the deadline") from error
            raise StatementError("database", str(getattr(error, "orig", None) or error)) from error


def _run(connection: Connection, sql: str, stop: Stop, limits: Limits) -> Fetched:
    clean = False
    try:
        with stop.watched(_canceller(connection)):
            fetched = _fetch(connection, sql, stop, limits)
        clean = stop.reason is None
        return fetched
    finally:
        if clean:
            connection.rollback()
        else:
            connection.invalidate()


def _fetch(connection: Connection, sql: str, stop: Stop, limits: Limits) -> Fetched:
    options = {"no_parameters": True, "stream_results": True}
    result = connection.exec_driver_sql(sql, execution_options=options)
    if not result.returns_rows:
        raise StatementError("refused", "not executed: the statement is not a query")
    sink = RowSink(limits)
    columns = tuple(result.keys())
    while not stop.due():
        batch = result.fetchmany(sink.wanted)
        if not batch or not all(sink.add(tuple(row)) for row in batch):
            break
    if stop.reason is not None:
        raise StatementError(stop.reason, "stopped at the deadline")
    result.close()
    return Fetched(columns, sink.rows, sink.truncated)


def _canceller(connection: Connection) -> Callable[[], None]:
    """The driver's own way to end a statement, whatever it calls it; else the connection is dropped."""
    raw: Any = connection.connection.driver_connection
    for name in ("cancel", "interrupt", "close"):
        found = getattr(raw, name, None)
        if callable(found):
            return lambda: found() and None
    return connection.invalidate
