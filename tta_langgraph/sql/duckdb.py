"""DuckDB: a connection of its own for each statement, a read-only transaction, and the interrupt."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from tta_langgraph.sql.backend import Backend, Fetched, StatementError, stopped
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.connect import Source
from tta_langgraph.sql.duckdb_functions import safe_functions
from tta_langgraph.sql.result import ErrorKind
from tta_langgraph.sql.rows import Limits, RowSink
from tta_langgraph.sql.stop import Stop


class DuckDBBackend(Backend):
    """Runs statements beside the user's connection: same database, own transaction.

    A database opened here by its URL is read-only, without access to files, extensions or Python variables, and with
    a locked configuration. On a user's engine those are settings of the whole process, which are not ours to
    change; there, every table a statement names must be one of the catalog, so that no file and no variable is read
    under a table's name, and only functions without side effects may be called.

    Args:
        source: where connections come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.safe_calls, self.safe_sources = source.reading(safe_functions)
        self._known: frozenset[str] = frozenset()

    def run(self, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        """See `Backend.run`."""
        try:
            return self._source.reading(lambda connection: self._run(connection, sql, verdict, stop, limits), stop)
        except SQLAlchemyError as error:  # there is no connection
            if stop.reason is not None:
                raise stopped(stop) from error
            raise StatementError("database", str(getattr(error, "orig", None) or error)) from error

    def _run(self, connection: Connection, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        raw: Any = connection.connection.driver_connection
        beside = raw.duplicate()
        try:
            with stop.watched(beside.interrupt):
                return self._fetch(beside, sql, verdict, stop, limits)
        except StatementError:
            raise
        except Exception as error:  # the driver's errors derive from Exception, and it is imported only by the user
            raise _explained(error, stop) from error
        finally:
            beside.close()

    def _fetch(self, beside: Any, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        if not self._source.owned:
            beside.execute("SET SESSION python_enable_replacements = false")
        beside.execute("BEGIN TRANSACTION READ ONLY")
        unknown = verdict.tables - self._known
        if unknown:
            self._known = frozenset(str(row[0]).lower() for row in beside.execute(_TABLES).fetchall())
            for name in sorted(unknown - self._known):
                raise StatementError("schema", f"Table with name {name} does not exist")
        described = [(str(row[0]), str(row[1])) for row in beside.execute(f"DESCRIBE {sql}").fetchall()]
        if stop.due():
            raise StatementError(stop.reason or "timeout", "stopped at the deadline")
        beside.execute(_cutting(sql, described, limits.max_cell_bytes))
        sink = RowSink(limits)
        while True:
            batch = beside.fetchmany(sink.wanted)
            if not batch or not all(sink.add(row) for row in batch):
                break
            if stop.due():
                raise StatementError(stop.reason or "timeout", "stopped at the deadline")
        return Fetched(tuple(name for name, _ in described), sink.rows, sink.truncated)


def _cutting(sql: str, columns: list[tuple[str, str]], cap: int) -> str:
    """The statement with long values cut inside the database: it hands out two thousand rows at a time."""
    if all(_whole(kind) for _, kind in columns):
        return sql
    shown = []
    for i, (_, kind) in enumerate(columns):
        if _whole(kind):
            shown.append(f"c{i}")
        elif kind == "BLOB":
            shown.append(f"c{i}[1:{cap + 1}]")
        else:
            shown.append(f"left(c{i}{'' if kind == 'VARCHAR' else '::VARCHAR'}, {cap + 1})")
    names = ", ".join(f"c{i}" for i in range(len(columns)))
    return f"SELECT {', '.join(shown)} FROM (\n{sql}\n) AS tta_q({names})"


def _whole(kind: str) -> bool:
    """Whether a column of that type is fetched as it is: it is of bounded size, and the driver has a value for it."""
    return bool(_BOUNDED.match(kind)) and (_PYTZ or not kind.endswith("WITH TIME ZONE"))


def _explained(error: Exception, stop: Stop) -> StatementError:
    text = str(error).strip()
    first = text.split("\n\n", 1)[0].split("\n", 1)[0]
    hint = _HINT.search(text)
    if stop.reason is not None and "interrupt" in text.lower():
        return StatementError(stop.reason, "stopped at the deadline" if stop.reason == "timeout" else "cancelled")
    name = type(error).__name__
    kind: ErrorKind = _KINDS.get(name, "database")
    if name == "BinderException" and not _NAMES.search(first):
        kind = "syntax"
    if kind == "refused":
        return StatementError(kind, f"not executed: {first}")
    return StatementError(kind, f"{first} {hint[0]}" if hint else first)


_TABLES = "SELECT table_name FROM duckdb_tables() UNION SELECT view_name FROM duckdb_views()"
_BOUNDED = re.compile(r"(?!.*\[)(?:U?\w*INT(?:EGER)?|BOOLEAN|FLOAT|DOUBLE|DECIMAL|DATE|TIME\w*|INTERVAL|UUID)\b", re.I)
_PYTZ = find_spec("pytz") is not None  # without it the driver has no moments in a time zone; they come as text
_KINDS: dict[str, ErrorKind] = {
    "CatalogException": "schema",
    "BinderException": "schema",
    "ParserException": "syntax",
    "PermissionException": "refused",
    "TransactionException": "refused",
}
_NAMES = re.compile(r"not found|does not exist|does not have|ambiguous|no function matches|unknown", re.I)
_HINT = re.compile(r"(?:Candidate bindings|Candidate tables|Did you mean)[^\n]*")
