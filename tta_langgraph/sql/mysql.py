"""MySQL and MariaDB: a read-only session, the server's own time limit, and KILL QUERY from a second connection."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import Pool

from tta_langgraph.sql.backend import Backend, Fetched, StatementError
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.connect import Source, plainly
from tta_langgraph.sql.hanging_up import hang_up
from tta_langgraph.sql.mysql_functions import MYSQL_FUNCTIONS
from tta_langgraph.sql.mysql_rows import TooWideError, cutting, cutting_cap, fetch
from tta_langgraph.sql.mysql_session import Session, read_session
from tta_langgraph.sql.result import ErrorKind
from tta_langgraph.sql.rows import Limits
from tta_langgraph.sql.stop import Stop


class MySQLBackend(Backend):
    """Runs statements in read-only transactions of the user's engine.

    Rows stream. When the server announces that a row may be larger than what is held here (a `LONGTEXT`, a JSON
    document, `repeat`), the statement is run once more with its long columns cut on the server.

    Args:
        source: where connections come from.
    """

    safe_calls = MYSQL_FUNCTIONS

    def __init__(self, source: Source) -> None:
        self._source = source
        self._session: Session = source.reading(read_session)
        self._errors: type[Exception] = source.engine.dialect.dbapi.Error  # type: ignore[union-attr]
        self._aside = None if source.bridge is not None else source.engine.pool.recreate()
        self.grammar = self._session.grammar
        self.unsafe_calls = self._session.stored

    def run(self, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        """See `Backend.run`."""
        try:
            try:
                return self._source.reading(lambda c: self._run(c, sql, stop, limits), stop)
            except TooWideError as wide:
                names, narrow = wide.names, cutting_cap(limits, len(wide.names))
                text = cutting(sql, verdict, narrow, wide.long, maria=self._session.maria)
                fetched = self._source.reading(lambda c: self._run(c, text, stop, narrow, whole=False), stop)
                return Fetched(names, fetched.rows, fetched.truncated)
        except SQLAlchemyError as error:
            raise _explained(error, stop) from error
        except UnicodeError as error:  # a character that the connection's character set does not have
            raise StatementError("database", f"text cannot be encoded or decoded: {error}") from error

    def close(self) -> None:
        """Closes the connections that ended statements."""
        if self._aside is not None:
            self._aside.dispose()

    def _run(self, connection: Connection, sql: str, stop: Stop, limits: Limits, *, whole: bool = True) -> Fetched:
        kill = self._killer(connection)
        if self._source.bridge is not None:
            stop.politely = kill
            watched: Any = nullcontext()
        else:
            watched = stop.watched(kill, grace=_GRACE)
        with watched:
            return self._guarded(connection, sql, stop, limits, kill, whole)

    def _guarded(
        self, connection: Connection, sql: str, stop: Stop, limits: Limits, kill: Callable[[], None], whole: bool
    ) -> Fetched:
        clean = False
        try:
            plainly(connection, self._session.opening(stop.remaining, limits.max_rows + 1))
            plainly(connection, "START TRANSACTION READ ONLY")
            fetched, drained = fetch(connection, sql, limits, kill, whole=whole)
            clean = stop.reason is None and drained
            return fetched
        except self._errors as error:
            code = _code(error)
            clean = stop.reason is None and code > 0 and code // 1000 != _CLIENT_ERRORS
            raise _explained(error, stop) from error
        finally:
            if clean and not connection.invalidated:
                plainly(connection, "ROLLBACK")
                plainly(connection, self._session.closing)
            else:  # a kill may be on its way to this session, or rows that nobody wants
                connection.invalidate()

    def _killer(self, connection: Connection) -> Callable[[], None]:
        """Ends the running statement from a connection of another pool: the user's may have no second one to give."""
        raw: Any = connection.connection.driver_connection
        told = getattr(raw, "thread_id", None)
        number = int(told() if told is not None else plainly(connection, "SELECT CONNECTION_ID()").scalar())
        bridge, pool, calls = self._source.bridge, self._aside, itertools.count()

        def kill() -> None:
            nth = next(calls)
            text = f"KILL QUERY {number}" if nth < _POLITE_KILLS else f"KILL {number}"
            if nth == _POLITE_KILLS:  # a server that builds a huge value hears nothing, but nobody has to wait for it
                if bridge is not None:
                    bridge.hang_up(raw)
                else:
                    hang_up(raw)
            if bridge is not None:
                bridge.aside(text)
            else:  # a server that does not answer does not answer this either; a late one finds nobody to kill
                assert pool is not None
                killing = threading.Thread(target=_on, args=(pool, text), name="tta-sql-kill", daemon=True)
                killing.start()
                killing.join(_KILLING)

        return kill


def _on(pool: Pool, sql: str) -> None:
    """Runs a short statement on a connection of the pool; nobody waits for it."""
    with suppress(Exception):  # there may be no server any more
        other = pool.connect()
        try:
            cursor = other.cursor()
            cursor.execute(sql)
            cursor.close()
        finally:
            other.close()


def _code(error: Exception) -> int:
    """The server's number for it; the drivers have it first, 0 when there is none."""
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _explained(error: Exception, stop: Stop) -> StatementError:
    origin: Exception = getattr(error, "orig", None) or error
    code, message = _code(origin), str(origin.args[1]) if len(origin.args) > 1 else str(origin)
    if stop.reason is not None or code in _STOPPED_CODES:
        reason = stop.reason or "timeout"
        return StatementError(reason, "stopped at the deadline" if reason == "timeout" else "cancelled")
    kind: ErrorKind = _KINDS.get(code, "database")
    message = _MANUAL.sub("", message)
    return StatementError(kind, f"not executed: {message}" if kind == "refused" else message)


_GRACE = 0.1  # the server's own timeout comes first
_POLITE_KILLS = 2  # the third comes 0.15 seconds after the first
_KILLING = 0.25  # seconds for a server to take a kill, before the caller goes on
_CLIENT_ERRORS = 2  # 2000 to 2999: the driver's own, the connection is of no more use
_STOPPED_CODES = frozenset({1317, 1969, 3024, 1028, 1205})
_KINDS: dict[int, ErrorKind] = {
    **dict.fromkeys((1054, 1146, 1305, 1052, 1051, 1049, 1109, 1630, 1066), "schema"),
    **dict.fromkeys((1064, 1055, 1140, 1111, 1222, 1241, 1248, 1060, 1247, 1063, 1056, 1235, 1582), "syntax"),
    **dict.fromkeys((1792, 1142, 1143, 1227, 1290, 1044, 1045, 1370, 1044, 1836), "refused"),
}
_MANUAL = re.compile(r"; check the manual that corresponds to your \S+ server version for the right syntax to use")
