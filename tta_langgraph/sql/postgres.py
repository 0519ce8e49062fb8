"""PostgreSQL: a read-only transaction with the server's own timeouts, and a cursor that sends no cell in full.

The statement is first described as a sub-query that returns nothing, through the extended protocol, where the server
itself refuses a second statement. Its columns are then read through a cursor that cuts long values on the server: a
client-side limit would come after the value has been received.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tta_langgraph.sql.backend import Backend, Fetched, StatementError
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.connect import Source, plainly
from tta_langgraph.sql.hanging_up import hang_up
from tta_langgraph.sql.result import ErrorKind
from tta_langgraph.sql.rows import Limits, RowSink
from tta_langgraph.sql.stop import Stop


class PostgresBackend(Backend):
    """Runs statements in read-only transactions of the user's engine.

    Args:
        source: where connections come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        rows = source.reading(lambda connection: connection.execute(text(_FUNCTIONS)).all())
        self.safe_calls = frozenset(str(name).lower() for name, safe, _ in rows if safe) | _GRAMMAR
        self.unsafe_calls = frozenset(str(name).lower() for name, safe, _ in rows if not safe) - _GRAMMAR
        self.unsafe_fields = frozenset(str(name).lower() for name, safe, of_row in rows if of_row and not safe)

    def run(self, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        """See `Backend.run`."""
        try:
            try:
                return self._reading(sql, stop, limits, _BOUNDED)
            except SQLAlchemyError as error:
                if not _BEYOND_PYTHON.search(str(error)):
                    raise
            return self._reading(
                sql, stop, limits, _BOUNDED - _DATES
            )  # infinity, the year 10000 and 24:00 come as text
        except SQLAlchemyError as error:
            raise _explained(error, stop) from error

    def _reading(self, sql: str, stop: Stop, limits: Limits, plain: frozenset[int]) -> Fetched:
        watch = self._source.bridge is None
        return self._source.reading(lambda c: _run(c, sql, stop, limits, plain, watch=watch), stop)


def _run(
    connection: Connection, sql: str, stop: Stop, limits: Limits, plain: frozenset[int], *, watch: bool
) -> Fetched:
    connection = connection.execution_options(isolation_level="READ COMMITTED")  # also if the engine is AUTOCOMMIT
    if not watch:
        return _guarded(connection, sql, stop, limits, plain)
    with stop.watched(_canceller(connection), grace=_GRACE):
        return _guarded(connection, sql, stop, limits, plain)


def _guarded(connection: Connection, sql: str, stop: Stop, limits: Limits, plain: frozenset[int]) -> Fetched:
    clean = False
    try:
        fetched = _fetch(connection, sql, stop, limits, plain)
        clean = stop.reason is None
        return fetched
    except DBAPIError as error:
        clean = stop.reason is None and _state(error)[:2] not in _CONNECTION_LOST
        raise
    finally:
        if clean:
            connection.rollback()
        else:  # a cancel may still be on its way to this session
            connection.invalidate()


def _fetch(connection: Connection, sql: str, stop: Stop, limits: Limits, plain: frozenset[int]) -> Fetched:
    dialect = connection.dialect
    millis = max(1, int(stop.remaining * 1000))
    connection.exec_driver_sql(_SETTINGS.format(millis=millis))
    numbered = dialect.paramstyle.startswith("numeric")
    described = _DESCRIBE.format(sql=sql if numbered else sql.replace("%", "%%"), zero="$1" if numbered else "%s")
    shape = connection.exec_driver_sql(described, (0,))
    description: Any = shape.cursor.description if shape.cursor is not None else ()
    columns = [(str(column[0]), int(column[1] or 0)) for column in description]
    shape.close()
    if not columns:
        return Fetched((), [], False)
    names = ", ".join(f"c{i}" for i in range(len(columns)))
    shown = ", ".join(_shown(i, kind, limits.max_cell_bytes, plain) for i, (_, kind) in enumerate(columns))
    cursor = f"tta_{next(_numbers)}"  # never twice: drivers keep the plan, and with it the types, of a text they know
    plainly(connection, _DECLARE.format(cursor=cursor, shown=shown, sql=sql, names=names))
    sink = RowSink(limits)
    while not stop.due():
        wanted = sink.wanted
        batch = plainly(connection, f"FETCH FORWARD {wanted} FROM {cursor}").fetchall()
        if not all(sink.add(tuple(row)) for row in batch) or len(batch) < wanted:
            break
        left = max(1, int(stop.remaining * 1000))
        if left < millis // 2:
            millis = left
            plainly(connection, f"SET LOCAL statement_timeout = {millis}")
    if stop.reason is not None:
        raise StatementError(stop.reason, _STOPPED[stop.reason])
    return Fetched(tuple(name for name, _ in columns), sink.rows, sink.truncated)


def _shown(i: int, kind: int, cap: int, plain: frozenset[int]) -> str:
    """A column as it is fetched: of bounded size as it is, text and bytes cut, anything else as cut text."""
    if kind in plain:
        return f"c{i}"
    if kind == _BYTES:
        return f"substring(c{i} from 1 for {cap + 1})"
    return f"left(c{i}, {cap + 1})" if kind in _TEXT else f"left(c{i}::text, {cap + 1})"


def _canceller(connection: Connection) -> Callable[[], None]:
    """Asks the server to end the statement; the third time, nobody waits for its answer any longer."""
    raw: Any = connection.connection.driver_connection
    safe, plain = _polite_cancels(raw)
    calls = itertools.count()

    def cancel() -> None:
        nth = next(calls)
        if nth == _POLITE_CANCELS:
            hang_up(raw)
        elif nth < _POLITE_CANCELS and safe is not None:
            safe(timeout=_CANCELLING)
        elif nth < _POLITE_CANCELS and plain is not None:  # it takes no limit of time
            threading.Thread(target=plain, name="tta-sql-cancel", daemon=True).start()

    return cancel


def _polite_cancels(raw: Any) -> tuple[Callable[..., None] | None, Callable[[], None] | None]:
    """A driver's cancel that takes a limit of time, or else one that takes none, for a thread of its own.

    Neither for psycopg's compiled form before libpq 17: until the server answers, it lets no thread of this process
    run. There the server ends the statement by its own `statement_timeout`, and the line is closed here.
    """
    safe, plain = getattr(raw, "cancel_safe", None), getattr(raw, "cancel", None)
    if type(raw).__module__.partition(".")[0] != "psycopg":
        return safe, plain
    import psycopg

    capabilities = getattr(psycopg, "capabilities", None)  # from psycopg 3.2 on
    if capabilities is not None and capabilities.has_cancel_safe():
        return safe, plain
    return None, plain if psycopg.pq.__impl__ == "python" else None


def _explained(error: SQLAlchemyError, stop: Stop) -> StatementError:
    state = _state(error)
    if stop.reason is not None or state in ("57014", "55P03"):
        reason = stop.reason or "timeout"
        return StatementError(reason, _STOPPED[reason])
    message = _message(error)
    kind: ErrorKind = _KINDS.get(state) or _KINDS.get(state[:2]) or "database"
    return StatementError(kind, f"not executed: {message}" if kind == "refused" else message)


def _state(error: SQLAlchemyError) -> str:
    origin = getattr(error, "orig", None)
    return str(getattr(origin, "sqlstate", None) or getattr(origin, "pgcode", None) or "")


def _message(error: SQLAlchemyError) -> str:
    origin = getattr(error, "orig", None) or error
    text = _CLASS.sub("", str(origin)).strip()
    first = text.split("\n", 1)[0].replace("tta_q.", "").strip()
    hint = _HINT.search(text)
    return f"{first}. {hint['hint']}" if hint and "type cast" not in hint["hint"] else first


_numbers = itertools.count(1)
_SETTINGS = (
    "SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', '{millis}ms', true), "
    "set_config('lock_timeout', '{millis}ms', true), set_config('standard_conforming_strings', 'on', true), "
    "set_config('idle_in_transaction_session_timeout', '60s', true)"
)
_DESCRIBE = "SELECT * FROM (\n{sql}\n) AS tta_q LIMIT {zero}"
_DECLARE = "DECLARE {cursor} NO SCROLL CURSOR FOR SELECT {shown} FROM (\n{sql}\n) AS tta_q({names})"
_FUNCTIONS = """
SELECT p.proname,
    bool_and((p.provolatile <> 'v' AND (n.nspname = 'pg_catalog' OR NOT p.prosecdef AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_aggregate AS a JOIN pg_catalog.pg_proc AS part
            ON part.oid IN (a.aggtransfn, a.aggfinalfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
        WHERE a.aggfnoid = p.oid AND (part.provolatile = 'v' OR part.prosecdef))))
    OR (n.nspname = 'pg_catalog'
    AND p.proname IN ('random', 'clock_timestamp', 'timeofday', 'gen_random_uuid', 'random_normal'))),
    bool_or(p.pronargs = 1 AND t.typtype = 'c')
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_type AS t ON t.oid = p.proargtypes[0]
WHERE NOT 'internal'::regtype = ANY (p.proargtypes) GROUP BY p.proname
"""
"""Name, whether it only computes (an aggregate: by its parts), and whether it takes one row, and so may be written
`row.name`."""
_GRAMMAR = frozenset(
    {"row", "array", "grouping", "xmlelement", "xmlforest", "xmlconcat", "xmlparse", "xmlserialize", "xmlpi", "xmlroot"}
    | {"overlay", "position", "treat", "normalize", "json_object", "json_array", "json_value", "json_query"}
    | {"json_exists", "json_table", "json_scalar", "json_serialize", "json_arrayagg", "json_objectagg", "xmltable"}
)
"""Written like calls, but grammar: they are not in the catalog."""
_STOPPED = {"timeout": "stopped at the deadline", "cancelled": "cancelled"}
_GRACE = 0.25  # the server's own timeout comes first
_CANCELLING = 0.3
_POLITE_CANCELS = 2
_CONNECTION_LOST = frozenset({"", "08", "57"})
_TEXT = frozenset({25, 1042, 1043, 19})
_BYTES = 17
_BOUNDED = frozenset({16, 20, 21, 23, 26, 700, 701, 1700, 1082, 1083, 1114, 1184, 1266, 1186, 2950, 790, 869, 650})
_DATES = frozenset({1082, 1083, 1114, 1184, 1266})
_BEYOND_PYTHON = re.compile(r"(?:date|timestamp)\w* too (?:large|small)|can't parse time")
_KINDS: dict[str, ErrorKind] = {
    **dict.fromkeys(("42P01", "42703", "42883", "42702", "42725", "42P02", "42712", "3F000", "42704"), "schema"),
    **dict.fromkeys(("25006", "42501", "25001"), "refused"),
    "42": "syntax",
}
_CLASS = re.compile(r"^<class '[^']+'>: ")
_HINT = re.compile(r"HINT:\s+(?P<hint>[^\n]+)")
