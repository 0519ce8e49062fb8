"""SQLite: a read-only connection, an authorizer that knows four words, and an interrupt at the deadline."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.pool import Pool
from sqlalchemy.util import await_only

from tta_langgraph.sql.backend import Backend, Fetched, StatementError, stopped
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.connect import Source
from tta_langgraph.sql.memory import Watch
from tta_langgraph.sql.result import ErrorKind
from tta_langgraph.sql.rows import Limits, RowSink
from tta_langgraph.sql.stop import Stop


class SQLiteBackend(Backend):
    """Runs statements on connections of its own, or on the one connection of a database in memory.

    Args:
        pool: where connections come from.
        private: whether the pool belongs to this backend; if so, connections are hardened once, when they open.
            Otherwise (a database in memory lives in its connection) they are hardened for each statement and put
            back as they were.
        refused: says whether a table may not be read by a statement (lower-case name).
    """

    def __init__(self, pool: Pool, *, private: bool, refused: Callable[[str], bool]) -> None:
        self._pool = pool
        self._private = private
        self._refused = refused
        self._widest: int | None = None
        self._busy = None if private else threading.Lock()
        if private:
            event.listen(self._pool, "connect", _open)

    def run(self, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        """See `Backend.run`."""
        with _turn(self._busy, stop):
            while True:
                try:
                    return self._once(sql, verdict, stop, limits)
                except StatementError as error:
                    if not (self._private and _locked(error.__cause__)):
                        raise
                    time.sleep(min(_LOOK, stop.remaining))
                    if stop.due():
                        raise stopped(stop) if stop.reason == "cancelled" else error from error.__cause__

    def _once(self, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        try:
            fairy = self._pool.connect()
        except Exception as error:
            raise StatementError("database", f"no connection: {error}") from error
        try:
            raw = fairy.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            if self._widest is None:
                self._widest = widest_table(raw)
            with nullcontext() if self._private else hardened(raw):
                return run_on(raw, sql, verdict, stop, limits, refused=self._refused, widest=self._widest)
        except sqlite3.Error as error:  # not from the statement: the connection itself is in trouble
            fairy.invalidate()
            raise StatementError("database", str(error)) from error
        finally:
            fairy.close()

    def close(self) -> None:
        """Closes the connections, if they are ours."""
        if self._private:
            self._pool.dispose()


class BridgedSQLiteBackend(Backend):
    """Runs statements on the one connection of a database in memory that an async engine holds.

    Args:
        source: a source with a bridge.
        refused: says whether a table may not be read by a statement (lower-case name).
    """

    def __init__(self, source: Source, *, refused: Callable[[str], bool]) -> None:
        self._source = source
        self._refused = refused
        self._busy = threading.Lock()

    def run(self, sql: str, verdict: Verdict, stop: Stop, limits: Limits) -> Fetched:
        """See `Backend.run`."""

        def on_thread(raw: sqlite3.Connection) -> Fetched:
            with hardened(raw):
                return run_on(raw, sql, verdict, stop, limits, refused=self._refused, widest=widest_table(raw))

        def work(connection: Connection) -> Fetched:
            driver: Any = connection.connection.driver_connection  # calls belong on the driver's own thread
            fetched: Fetched = await_only(driver._execute(on_thread, driver._conn))
            return fetched

        with _turn(self._busy, stop):
            return self._source.reading(work)


@contextmanager
def _turn(lock: threading.Lock | None, stop: Stop) -> Iterator[None]:
    """Waits for the one connection there is, no longer than the statement may last."""
    if lock is None:
        yield
        return
    if not stop.acquire(lock):
        raise stopped(stop)
    try:
        yield
    finally:
        lock.release()


def run_on(
    raw: sqlite3.Connection,
    sql: str,
    verdict: Verdict,
    stop: Stop,
    limits: Limits,
    *,
    refused: Callable[[str], bool],
    widest: int,
) -> Fetched:
    """Runs a statement on a hardened connection; the thread that may use the connection calls it."""
    raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _value_cap(verdict, limits, widest))
    watch = Watch(_MOST_GROWTH) if verdict.calls & _ACCUMULATING else None
    if watch is None:
        raw.set_progress_handler(stop.due, _STEPS)
    else:
        raw.set_progress_handler(lambda: watch.look() or stop.due(), _FEW_STEPS)
    raw.set_authorizer(_authorizer(refused, verdict.defined, stop))
    try:
        with stop.watched(raw.interrupt):
            try:
                return _fetch(raw, sql, limits)
            except sqlite3.OperationalError as error:
                if "Could not decode" not in str(error):
                    raise
            raw.text_factory = _lenient  # bytes that are not UTF-8 are data, not an error
            try:
                return _fetch(raw, sql, limits)
            finally:
                raw.text_factory = str
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        if watch is not None and watch.full and stop.reason is None:
            raise StatementError(
                "database", f"a value grew too big (at most {limits.max_value_bytes} bytes)"
            ) from error
        raise _explained(error, stop, limits) from error
    finally:
        raw.set_progress_handler(None, 0)
        raw.set_authorizer(None)


def harden(raw: sqlite3.Connection) -> None:
    """Makes a connection refuse to write, and bounds what one statement may ask of it."""
    tables = raw.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%'").fetchall()
    for (name,) in [*_TABLE_FUNCTIONS, *tables]:  # they prepare more than reading on first use, which is this one
        try:
            raw.execute(f'SELECT 1 FROM "{name.replace(chr(34), chr(34) * 2)}" LIMIT 0')
        except sqlite3.Error:
            continue
    raw.execute("PRAGMA query_only=ON")
    for limit, value in _LIMITS.items():
        raw.setlimit(limit, min(value, raw.getlimit(limit)))


def widest_table(raw: sqlite3.Connection) -> int:
    """Columns of the widest table or view; what a star can at most stand for."""
    try:
        return int(raw.execute(_WIDEST).fetchone()[0] or 1)
    except sqlite3.Error:  # a view that no longer fits its tables
        return 100


def _open(raw: Any, _record: object) -> None:
    raw.isolation_level = None
    raw.execute("PRAGMA busy_timeout=0")  # SQLite's own wait for a writer hears no deadline: `run` waits instead
    harden(raw)


def _locked(error: BaseException | None) -> bool:
    """Whether another connection holds the file for itself, for now."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


@contextmanager
def hardened(raw: sqlite3.Connection) -> Iterator[None]:
    """The same for one statement, on a connection that is not ours."""
    before = {limit: raw.getlimit(limit) for limit in (*_LIMITS, sqlite3.SQLITE_LIMIT_LENGTH)}
    query_only = raw.execute("PRAGMA query_only").fetchone()[0]
    text, rows = raw.text_factory, raw.row_factory
    try:
        harden(raw)
        raw.text_factory, raw.row_factory = str, None
        yield
    finally:
        raw.execute(f"PRAGMA query_only={int(query_only)}")
        raw.text_factory, raw.row_factory = text, rows
        for limit, value in before.items():
            raw.setlimit(limit, value)


def _fetch(raw: sqlite3.Connection, sql: str, limits: Limits) -> Fetched:
    cursor = raw.cursor()
    try:
        cursor.execute(sql)
        if cursor.description is None:
            raise StatementError("refused", "not executed: the statement is not a query")
        sink = RowSink(limits)
        for row in cursor:
            if not sink.add(row):
                break
        return Fetched(tuple(d[0] for d in cursor.description), sink.rows, sink.truncated)
    finally:
        cursor.close()


def _authorizer(refused: Callable[[str], bool], defined: frozenset[str], stop: Stop) -> Callable[..., int]:
    """Lets reading pass. Also the clock while a statement is being prepared, where the progress handler is silent.

    Args:
        refused: says whether a table may not be read (lower-case name).
        defined: the statement's common table expressions. SQLite names them as the source of what they read, as it
            names a view, but only a view has rights of its own.
        stop: when to end.
    """

    def authorize(action: int, first: str | None, second: str | None, _db: str | None, source: str | None) -> int:
        if action == sqlite3.SQLITE_READ:
            own = source is None or source.lower() in defined
            if own and first is not None and refused(first.lower()):
                return sqlite3.SQLITE_DENY
        elif action == sqlite3.SQLITE_FUNCTION:
            if (second or "").lower() in _NEVER:
                return sqlite3.SQLITE_DENY
        elif action == sqlite3.SQLITE_PRAGMA:  # full-text search asks whether another connection has written
            if first != "data_version" or second is not None:
                return sqlite3.SQLITE_DENY
        elif action not in _READING:
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_DENY if stop.due() else sqlite3.SQLITE_OK

    return authorize


def _value_cap(verdict: Verdict, limits: Limits, widest: int) -> int:
    """The longest value of a row, so that the widest row the statement can make stays within bounds."""
    width = verdict.width + verdict.stars * max(widest, verdict.width)
    cap = min(limits.max_value_bytes, _MAX_ROW_BYTES // width)
    if verdict.calls & _QUADRATIC:  # they hear no interrupt, so what they are given has to be short
        cap = min(cap, _QUADRATIC_CAP)
    return max(_SMALLEST_CAP, cap)


def _explained(error: BaseException, stop: Stop, limits: Limits) -> StatementError:
    text = str(error).strip() or type(error).__name__
    lower = text.lower()
    if stop.reason is not None and ("interrupted" in lower or _DENIED.search(lower)):
        return StatementError(stop.reason, "stopped at the deadline" if stop.reason == "timeout" else "cancelled")
    for kind, pattern in _KINDS.items():
        if pattern.search(lower):
            return StatementError(kind, f"not executed: {text}" if kind == "refused" else text)
    if "too big" in lower or isinstance(error, MemoryError):
        text = f"a value or a row grew too big ({text}; at most {limits.max_value_bytes} bytes per value)"
    return StatementError("database", text)


def _lenient(value: bytes) -> Any:
    return value.decode("utf-8", "replace")


_WIDEST = (
    "SELECT max(n) FROM (SELECT count(*) AS n FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c "
    "WHERE m.type IN ('table', 'view') GROUP BY m.name)"
)
_LOOK = 0.02  # seconds between two looks at a locked file
_STEPS = 1_000_000  # the watchdog interrupts; this is for the case that its thread gets no turn
_FEW_STEPS = 500
_ACCUMULATING = frozenset({"json_group_array", "json_group_object", "jsonb_group_array", "jsonb_group_object"})
_MOST_GROWTH = 256_000_000
_QUADRATIC = frozenset({"instr", "replace", "trim", "ltrim", "rtrim"})
_QUADRATIC_CAP = 131_072
_MAX_ROW_BYTES = 64_000_000
_SMALLEST_CAP = 65_536
_NEVER = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})
_TABLE_FUNCTIONS = (("json_each",), ("json_tree",))
_RECURSIVE = 33  # sqlite3.SQLITE_RECURSIVE, which has no name before Python 3.12's documentation
_READING = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, _RECURSIVE})
_LIMITS = {
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 1,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1_000,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 2_000_000,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 200,
}
_DENIED = re.compile(r"not authorized|authorization denied|prohibited")
_KINDS: dict[ErrorKind, re.Pattern[str]] = {
    "schema": re.compile(
        r"no such (column|table|function|collation|window|module)|ambiguous column|wrong number of arguments|"
        r"has no column|misuse of (aggregate|window)|no tables specified"
    ),
    "refused": re.compile(rf"{_DENIED.pattern}|readonly database|one statement at a time|read-only"),
    "syntax": re.compile(
        r"syntax error|incomplete input|unrecognized token|parser stack overflow|do not have the same number|"
        r"should come|term out of range|sub-select returns|row value misused|expression tree is too large|"
        r"embedded null|surrogates not allowed|too many terms|no query solution|clause is required|join using"
    ),
}
