"""MySQL and MariaDB: a read-only transaction, the server's own time limit, and KILL QUERY from a second connection."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from tta_langgraph.sql.backend import Backend, Fetched, StatementError
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.connect import Source
from tta_langgraph.sql.result import ErrorKind
from tta_langgraph.sql.rows import Limits, RowSink
from tta_langgraph.sql.stop import Stop

log = logging.getLogger(__name__)


class MySQLBackend(Backend):
    """Runs statements in read-only transactions of the user's engine.

    The largest value the server builds is its `max_allowed_packet` (16 to 64 MB by default); a client cannot lower
    it for one session, so that is the bound for one cell while it is received.

    Args:
        source: where connections come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._settings = source.reading(_dialect_settings)

    def run(self, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        """See `Backend.run`."""
        try:
            return self._source.reading(lambda c: self._run(c, sql, stop, limits), stop)
        except SQLAlchemyError as error:
            raise _explained(error, stop) from error

    def _run(self, connection: Connection, sql: str, stop: Stop, limits: Limits) -> Fetched:
        if self._source.bridge is not None:
            return self._guarded(connection, sql, stop, limits)
        with stop.watched(_killer(connection, self._source.engine), grace=_GRACE):
            return self._guarded(connection, sql, stop, limits)

    def _guarded(self, connection: Connection, sql: str, stop: Stop, limits: Limits) -> Fetched:
        clean = False
        try:
            _plainly(connection, self._settings(stop.remaining, limits.max_rows + 1))
            _plainly(connection, "START TRANSACTION READ ONLY")
            fetched, drained = _fetch(connection, sql, limits)
            clean = stop.reason is None and drained
            return fetched
        except SQLAlchemyError as error:
            clean = stop.reason is None and not getattr(error, "connection_invalidated", False)
            raise
        finally:
            if clean and not connection.invalidated:
                _plainly(connection, "ROLLBACK")
                _plainly(connection, self._settings(0.0, None))
                connection.rollback()
            else:  # a kill may be on its way to this session, or rows that nobody wants
                connection.invalidate()


def _fetch(connection: Connection, sql: str, limits: Limits) -> tuple[Fetched, bool]:
    """The rows, and whether the connection has been read to their end."""
    options = {"no_parameters": True, "stream_results": True, "max_row_buffer": 32}
    result = connection.exec_driver_sql(sql, execution_options=options)
    if not result.returns_rows:
        raise StatementError("refused", "not executed: the statement is not a query")
    sink = RowSink(limits)
    columns = tuple(result.keys())
    drained = True
    for row in result:
        if not sink.add(tuple(row)):
            drained = len(sink.rows) == limits.max_rows and result.fetchone() is None
            break
    if drained:
        result.close()
    return Fetched(columns, sink.rows, sink.truncated), drained


def _dialect_settings(connection: Connection) -> Callable[[float, int | None], str]:
    """How this server is told its time limit and its row limit; zero and None put the defaults back."""
    maria = "mariadb" in str(_plainly(connection, "SELECT VERSION()").scalar()).lower()

    def settings(seconds: float, rows: int | None) -> str:
        limit = "DEFAULT" if rows is None else str(rows)
        if maria:
            time = f"max_statement_time = {f'{seconds:.3f}' if seconds else 'DEFAULT'}"
        else:
            time = f"max_execution_time = {max(1, int(seconds * 1000)) if seconds else 'DEFAULT'}"
        # the transaction alone is not enough: statements that commit it implicitly would run after it
        reading = f"{'tx_read_only' if maria else 'transaction_read_only'} = {'DEFAULT' if rows is None else 'ON'}"
        return f"SET SESSION {time}, SESSION sql_select_limit = {limit}, SESSION {reading}"

    return settings


def _killer(connection: Connection, engine: Engine) -> Callable[[], None]:
    raw: Any = connection.connection.driver_connection
    number = raw.thread_id() if hasattr(raw, "thread_id") else _plainly(connection, "SELECT CONNECTION_ID()").scalar()

    def kill() -> None:
        with engine.connect() as other:
            _plainly(other, f"KILL QUERY {int(number)}")

    return kill


def _plainly(connection: Connection, sql: str) -> Any:
    return connection.exec_driver_sql(sql, execution_options={"no_parameters": True})


def _explained(error: SQLAlchemyError, stop: Stop) -> StatementError:
    origin = getattr(error, "orig", None) or error
    arguments: tuple[object, ...] = getattr(origin, "args", ())
    code = arguments[0] if arguments and isinstance(arguments[0], int) else 0
    message = str(arguments[1]) if len(arguments) > 1 else str(origin)
    if stop.reason is not None or code in _STOPPED_CODES:
        reason = stop.reason or "timeout"
        return StatementError(reason, "stopped at the deadline" if reason == "timeout" else "cancelled")
    kind: ErrorKind = _KINDS.get(code, "database")
    message = _MANUAL.sub("", message)
    return StatementError(kind, f"not executed: {message}" if kind == "refused" else message)


_GRACE = 0.25  # the server's own timeout comes first
_STOPPED_CODES = frozenset({1317, 1969, 3024, 1028, 1205})
_KINDS: dict[int, ErrorKind] = {
    **dict.fromkeys((1054, 1146, 1305, 1052, 1051, 1049, 1109, 1630, 1066), "schema"),
    **dict.fromkeys((1064, 1055, 1140, 1111, 1222, 1241, 1248, 1060, 1247, 1063, 1056, 1235, 1582), "syntax"),
    **dict.fromkeys((1792, 1142, 1143, 1227, 1290, 1044, 1045, 1370, 1044, 1836), "refused"),
}
_MANUAL = re.compile(r"; check the manual that corresponds to your \S+ server version for the right syntax to use")
