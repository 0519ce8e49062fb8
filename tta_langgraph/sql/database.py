"""A database that a model may ask, and can do nothing else to."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Literal

from sqlalchemy import URL, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from tta_langgraph.errors import DatabaseError
from tta_langgraph.sql.backend import Backend, StatementError
from tta_langgraph.sql.catalog import Catalog, beyond_default, qualifiers, read_catalog, table_names
from tta_langgraph.sql.checks import Policy, Verdict, check
from tta_langgraph.sql.connect import Source, remedy_for, source_of
from tta_langgraph.sql.engines import backend_for
from tta_langgraph.sql.near import near_values
from tta_langgraph.sql.policy import DIALECTS
from tta_langgraph.sql.prompt import SchemaPrompt
from tta_langgraph.sql.result import ExecutionResult
from tta_langgraph.sql.rows import Limits
from tta_langgraph.sql.stop import Stop


class Database:
    """Runs what a model wrote, reading only, and describes the schema for its prompt.

    Three walls, each enough by itself for what it can see: the statement's tree (one query, no writing word or
    function anywhere), the engine (a read-only connection or transaction, an authorizer), and limits (deadline in the
    database, rows, bytes, size of one value). Safe to share between threads and event loops.

    Args:
        engine_or_url: a SQLAlchemy URL, a path to a SQLite or DuckDB file, an Engine or an AsyncEngine.
        max_rows: most rows of a result.
        max_bytes: most bytes of a result, all cells together.
        max_cell_bytes: most bytes of one cell; longer ones are cut and the result says `truncated`.
        max_value_bytes: longest string or blob that SQLite may build or read on the way to the result.
        timeout: seconds for a statement that is given none.
        include_tables: names or patterns (`sales_*`) of the tables that may be seen and read; None for all.
        exclude_tables: names or patterns of tables that may be neither seen nor read.
        schema: the schema of the tables (PostgreSQL, DuckDB; on MySQL another database); None for the connection's
            default. The prompt then names tables with it, and so must statements.
        value_samples: whether the schema prompt shows values from the tables.
        mask: whether values that look like secrets, e-mail addresses or phone numbers are masked in the prompt.
        allow_functions: functions to let through although the checks do not know them, or know them as harmful.

    Raises:
        DatabaseError: when the database cannot be reached, is not there, or holds no table that may be read. A file
            that does not exist is not created.

    Example:
        ```python
        with Database("sqlite:///shop.sqlite", max_rows=100) as db:
            result = db.execute("SELECT name FROM customer WHERE city = 'Oslo'", timeout=2.0)
            print(result.rows if result.ok else result.error)
        ```
    """

    def __init__(
        self,
        engine_or_url: str | os.PathLike[str] | URL | Engine | AsyncEngine,
        *,
        max_rows: int = 1_000,
        max_bytes: int = 1_000_000,
        max_cell_bytes: int = 65_536,
        max_value_bytes: int = 1_000_000,
        timeout: float = 30.0,
        include_tables: Iterable[str] | None = None,
        exclude_tables: Iterable[str] | None = None,
        schema: str | None = None,
        value_samples: bool = True,
        mask: bool = False,
        allow_functions: Iterable[str] = (),
    ) -> None:
        limits = {"max_rows": max_rows, "max_bytes": max_bytes, "max_cell_bytes": max_cell_bytes}
        for name, value in {**limits, "max_value_bytes": max_value_bytes, "timeout": timeout}.items():
            if not value > 0:
                raise ValueError(f"Database({name}={value!r}): use a positive number")
        self._limits = Limits(**limits, max_value_bytes=max_value_bytes)
        self._timeout = timeout
        self._schema = schema
        self._value_samples = value_samples
        self.mask = mask
        """Whether values that look private are masked wherever a model reads them."""
        self._source = source_of(engine_or_url)
        self.dialect: str = DIALECTS.get(self._source.engine.dialect.name, self._source.engine.dialect.name)
        """sqlglot's name of the dialect: `sqlite`, `postgres`, `mysql`, `duckdb`, ..."""
        self._lock = threading.Lock()
        self._catalog: Catalog | None = None
        self._prompt: SchemaPrompt | None = None
        self._workers: ThreadPoolExecutor | None = None
        self._backend: Backend | None = None
        try:
            every = self._source.reading(lambda connection: table_names(connection, schema))
            self.tables: tuple[str, ...] = _chosen(every, include_tables, exclude_tables, self._source)
            """Tables and views that may be read, in alphabetical order."""
            filtered = include_tables is not None or exclude_tables is not None
            hidden = frozenset(name.lower() for name in every) - frozenset(name.lower() for name in self.tables)
            self._backend = backend_for(self._source, hidden if filtered else frozenset())
            self._policy = Policy(
                dialect=self.dialect,
                only_tables=frozenset(name.lower() for name in self.tables) if filtered else None,
                without_tables=hidden if filtered else frozenset(),
                only_schemas=self._source.reading(lambda c: qualifiers(c, schema)) if filtered else frozenset(),
                only_qualified=filtered and self._source.reading(lambda c: beyond_default(c, schema)) is not None,
                grammar=self._backend.grammar,
                safe_calls=self._backend.safe_calls,
                safe_sources=self._backend.safe_sources,
                unsafe_calls=self._backend.unsafe_calls,
                unsafe_fields=self._backend.unsafe_fields,
                allow_calls=frozenset(name.lower() for name in allow_functions),
                max_growth=max_value_bytes,
            )
        except DatabaseError:
            self.close()
            raise
        except (SQLAlchemyError, StatementError, OSError) as error:
            self.close()
            raise _unreachable(error, self._source) from error

    def execute(self, sql: str, timeout: float | None = None) -> ExecutionResult:
        """Runs one statement, reading only.

        Args:
            sql: what the model wrote.
            timeout: seconds until the statement is cancelled in the database; None for the database's default.

        Returns:
            Rows or one short error; never raises for what a model wrote.
        """
        return self._run(sql, Stop(self._timeout if timeout is None else timeout))

    async def aexecute(self, sql: str, timeout: float | None = None) -> ExecutionResult:
        """The twin of `execute` for event loops; cancelling the task cancels the statement in the database."""
        stop = Stop(self._timeout if timeout is None else timeout)
        work = asyncio.get_running_loop().run_in_executor(self._pool(), self._run, sql, stop)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.cancel()
            await asyncio.wait([work])  # the connection goes back clean before the caller goes on
            raise

    def schema_prompt(
        self,
        question: str | None = None,
        *,
        max_tokens: int = 1_500,
        count_tokens: Callable[[str], int] | None = None,
        style: Literal["ddl", "compact"] = "ddl",
        sample_rows: int = 3,
    ) -> str:
        """The schema as a model reads it, in at most `max_tokens`.

        Byte-identical for every question as long as the whole schema fits, so that a prefix cache serves it. When it
        does not fit, the tables most relevant to the question come first and the others are named.

        Args:
            question: chooses the tables when not all fit.
            max_tokens: the cap, in tokens.
            count_tokens: how the model counts; None estimates on the safe side.
            style: `ddl` (CREATE TABLE) or `compact` (one line per table).
            sample_rows: rows shown per table, given up first when tokens are short.

        Returns:
            The text; at least one line for each table that is shown.

        Raises:
            DatabaseError: when the schema can no longer be read.
        """
        with self._lock:
            if self._prompt is None:
                self._prompt = SchemaPrompt(self._read_catalog(), self._values, mask=self.mask)
            prompt = self._prompt
        return prompt.render(
            question, max_tokens=max_tokens, count_tokens=count_tokens, style=style, sample_rows=sample_rows
        )

    @property
    def catalog(self) -> Catalog:
        """Tables, columns, keys and comments, read once.

        Raises:
            DatabaseError: when they cannot be read.
        """
        with self._lock:
            return self._read_catalog()

    def near_values(self, table: str, column: str, wanted: str) -> list[str]:
        """Text that a column holds and that is close to what was looked for, closest first; for feedback.

        Args:
            table: a table that may be read.
            column: one of its columns.
            wanted: what a statement compared it with.

        Returns:
            At most a handful of values from the first rows; empty when samples are off or the column is not there.
        """
        known = self.catalog.by_name.get(table.lower())
        if known is None or not self._value_samples:
            return []
        return near_values(known, column, wanted, self.dialect, self._values)

    def close(self) -> None:
        """Gives back what was opened here; the user's engine stays as it is."""
        if self._workers is not None:
            self._workers.shutdown(wait=True)
        if self._backend is not None:
            self._backend.close()
        self._source.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self._source.name!r}, {len(self.tables)} tables)"

    def _run(self, sql: str, stop: Stop) -> ExecutionResult:
        started = time.monotonic()
        verdict = check(sql, self._policy) if isinstance(sql, str) else _NOT_TEXT
        if verdict.error is not None:
            spent = time.monotonic() - started
            return ExecutionResult(sql=str(sql), seconds=spent, error=verdict.error, error_kind=verdict.kind)
        assert self._backend is not None
        try:
            fetched = self._backend.run(verdict.statement, verdict, stop, self._limits)
        except StatementError as error:
            return ExecutionResult(
                sql=sql,
                seconds=time.monotonic() - started,
                error=one_line(error.what),
                error_kind=error.kind,
                ordered=verdict.ordered,
            )
        return ExecutionResult(
            sql=sql,
            columns=fetched.columns,
            rows=tuple(fetched.rows),
            seconds=time.monotonic() - started,
            truncated=fetched.truncated,
            ordered=verdict.ordered,
        )

    def _values(self, sql: str) -> list[tuple[object, ...]]:
        """Rows of one of our own statements, for samples; empty when the table does not give them in time."""
        if not self._value_samples or self._backend is None:
            return []
        try:
            return self._backend.run(sql, Verdict(), Stop(_SAMPLE_SECONDS), _SAMPLE_LIMITS).rows
        except StatementError:
            return []

    def _read_catalog(self) -> Catalog:
        if self._catalog is None:
            try:
                self._catalog = self._source.reading(
                    lambda connection: read_catalog(connection, self.tables, self._schema, self.dialect)
                )
            except SQLAlchemyError as error:
                raise _unreachable(error, self._source) from error
        return self._catalog

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._workers is None:
                self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="tta-sql")
            return self._workers


def one_line(text: str) -> str:
    """An engine's message without its line breaks, cut to what a reader takes in."""
    line = " ".join(text.split())
    return line if len(line) <= _ERROR_CHARS else line[: _ERROR_CHARS - 3] + "..."


def _chosen(
    every: Iterable[str], include: Iterable[str] | None, exclude: Iterable[str] | None, source: Source
) -> tuple[str, ...]:
    every = sorted(every)
    wanted = None if include is None else [pattern.lower() for pattern in include]
    unwanted = [pattern.lower() for pattern in exclude or ()]
    for pattern in wanted or ():
        if not any(fnmatchcase(name.lower(), pattern) for name in every):
            raise DatabaseError(
                f"include_tables names {pattern!r}, which is not there",
                where=source.name,
                remedy=f"Tables here: {', '.join(every[:10]) or 'none'}",
            )
    chosen = tuple(
        name
        for name in every
        if (wanted is None or any(fnmatchcase(name.lower(), pattern) for pattern in wanted))
        and not any(fnmatchcase(name.lower(), pattern) for pattern in unwanted)
    )
    if not chosen:
        raise DatabaseError(
            "the database has no table to read" if not every else "the filters leave no table to read",
            where=source.name,
            remedy="Check the path and the schema, and that tables were loaded"
            if not every
            else "Loosen include_tables or exclude_tables",
        )
    return chosen


def _unreachable(error: Exception, source: Source) -> DatabaseError:
    cause = getattr(error, "orig", None) or error
    return DatabaseError(
        f"the database cannot be read: {one_line(str(cause))}",
        where=source.name,
        remedy=remedy_for(source.engine.url),
    )


_NOT_TEXT = Verdict(error="not executed: the statement is not text", kind="refused")
_SAMPLE_SECONDS = 2.0
_SAMPLE_LIMITS = Limits(max_rows=200, max_bytes=200_000, max_cell_bytes=2_000, max_value_bytes=10_000_000)
_ERROR_CHARS = 300
_WORKERS = 16
