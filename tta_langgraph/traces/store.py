"""The trace store: episodes and pools in SQLite or PostgreSQL, written by any number of processes at once."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from tta_langgraph.addresses import shown
from tta_langgraph.errors import TraceError
from tta_langgraph.sqlite_files import share
from tta_langgraph.traces import tables
from tta_langgraph.traces.codec import SCHEMA, check_schema, from_json, to_json
from tta_langgraph.traces.manifest import Manifest
from tta_langgraph.traces.model import Pool, Trace
from tta_langgraph.traces.questions import sides_of

_Entry = tuple[sa.Table, Mapping[str, Any]]


class TraceStore:
    """Traces, pools and manifests in one database. One transaction per episode: a crash loses the one in flight.

    Writing a trace or a pool again under its id replaces it. Safe for threads; processes each open their own.

    Args:
        target: a file (SQLite), a SQLAlchemy URL, or an engine of yours.
        create: make the tables if they are missing; False refuses an empty database instead.

    Raises:
        TraceError: the database cannot be opened, or was written in a form that this release does not read.

    Example:
        ```python
        with TraceStore("traces.sqlite") as store:
            store.add(Trace.of(state, strategy="policy"))
            for trace in store.traces(strategy="policy"):
                ...
        ```
    """

    def __init__(self, target: str | Path | sa.Engine, *, create: bool = True) -> None:
        self._owned = not isinstance(target, sa.Engine)
        self._engine = target if isinstance(target, sa.Engine) else _engine(target, create)
        self.where: str = shown(self._engine.url)
        """The database's address, without its password."""
        try:
            self._prepare(create)
        except BaseException:
            self.close()
            raise

    def add(self, trace: Trace, manifest: Manifest | None = None) -> None:
        """Stores one episode, with the manifest it refers to, in one transaction.

        Raises:
            TraceError: the database refused it, or the trace has no id.
        """
        self._write([(tables.traces, self._trace_row(trace))], manifest)

    def add_pool(
        self, pool: Pool, *, recording: str = "", trace: Trace | None = None, manifest: Manifest | None = None
    ) -> None:
        """Stores everything recorded for one question under the name of its recording, in one transaction.

        Args:
            pool: the attempts.
            recording: the name of the recording.
            trace: the episode of the recording itself, stored with it.
            manifest: the manifest they refer to.

        Raises:
            TraceError: the database refused it.
        """
        row = {
            "recording": recording,
            "question_id": pool.question_id,
            "db_id": pool.db_id,
            "split": pool.split,
            "manifest_id": pool.manifest_id,
            "attempts": len(pool.attempts),
            "tokens": pool.spent.tokens,
            "started": pool.started,
            "body": to_json(pool),
        }
        entries: list[_Entry] = [(tables.pools, row)]
        if trace is not None:
            entries.append((tables.traces, self._trace_row(trace)))
        self._write(entries, manifest)

    def add_manifest(self, manifest: Manifest) -> str:
        """Stores a manifest once and returns its id."""
        self._write([], manifest)
        return manifest.id

    def traces(
        self, *, strategy: str | None = None, db_id: str | None = None, since: float | None = None
    ) -> Iterator[Trace]:
        """The stored episodes, oldest first, read a few hundred at a time.

        Args:
            strategy: only those of this strategy.
            db_id: only those on this database.
            since: only those started at or after this Unix time (seconds).

        Raises:
            TraceError: a row cannot be read.
        """
        table = tables.traces
        query = sa.select(table.c.id, table.c.body).order_by(table.c.started, table.c.id)
        if strategy is not None:
            query = query.where(table.c.strategy == strategy)
        if db_id is not None:
            query = query.where(table.c.db_id == db_id)
        if since is not None:
            query = query.where(table.c.started >= since)
        for key, body in self._rows(query):
            yield from_json(Trace, body, where=f"{self.where}, trace {key}")

    def trace(self, key: str) -> Trace:
        """The episode with this id.

        Raises:
            TraceError: there is none, or it cannot be read.
        """
        query = sa.select(tables.traces.c.body).where(tables.traces.c.id == key)
        for (body,) in self._rows(query):
            return from_json(Trace, body, where=f"{self.where}, trace {key}")
        raise TraceError(f"there is no trace {key!r}", where=self.where)

    def pools(self, recording: str | None = None, *, split: str | None = None) -> Iterator[Pool]:
        """The stored pools in the order in which they were recorded, read a few hundred at a time.

        Args:
            recording: only those of this recording.
            split: only `fit` or `test`.

        Raises:
            TraceError: a row cannot be read.
        """
        table = tables.pools
        query = sa.select(table.c.question_id, table.c.body).order_by(table.c.started, table.c.question_id)
        if recording is not None:
            query = query.where(table.c.recording == recording)
        if split is not None:
            query = query.where(table.c.split == split)
        for key, body in self._rows(query):
            yield from_json(Pool, body, where=f"{self.where}, pool {key}")

    def recorded(self, recording: str = "") -> set[str]:
        """Ids of the questions that a recording holds already: what a resumed one skips."""
        table = tables.pools
        query = sa.select(table.c.question_id).where(table.c.recording == recording)
        return {key for (key,) in self._rows(query)}

    def sides(self, recording: str | None = None) -> dict[str, str]:
        """The side (`fit` or `test`) of each database that was recorded with one.

        Raises:
            TraceError: a database was recorded for both.
        """
        table = tables.pools
        query = sa.select(table.c.db_id, table.c.split).distinct().order_by(table.c.db_id, table.c.split)
        if recording is not None:
            query = query.where(table.c.recording == recording)
        return sides_of(((str(name), str(side)) for name, side in self._rows(query)), where=self.where)

    def holds(self, question_id: str, recording: str = "") -> bool:
        """Whether a recording has this question by now."""
        table = tables.pools
        query = sa.select(table.c.question_id).where(table.c.recording == recording, table.c.question_id == question_id)
        return next(iter(self._rows(query)), None) is not None

    def backends(self, recording: str | None = None) -> dict[str, str]:
        """The manifest's id of each recorded question."""
        table = tables.pools
        query = sa.select(table.c.question_id, table.c.manifest_id).order_by(table.c.question_id)
        if recording is not None:
            query = query.where(table.c.recording == recording)
        return {str(key): str(manifest) for key, manifest in self._rows(query)}

    def recordings(self) -> dict[str, int]:
        """The names of the recordings with their numbers of pools."""
        table = tables.pools
        query = sa.select(table.c.recording, sa.func.count()).group_by(table.c.recording).order_by(table.c.recording)
        return {str(name): int(count) for name, count in self._rows(query)}

    def count(self) -> int:
        """How many episodes are stored."""
        return next(int(count) for (count,) in self._rows(sa.select(sa.func.count()).select_from(tables.traces)))

    def manifest(self, key: str) -> Manifest:
        """The manifest with this id.

        Raises:
            TraceError: there is none, or it cannot be read.
        """
        query = sa.select(tables.manifests.c.body).where(tables.manifests.c.id == key)
        for (body,) in self._rows(query):
            return from_json(Manifest, body, where=f"{self.where}, manifest {key}")
        raise TraceError(f"there is no manifest {key!r}", where=self.where)

    def manifests(self) -> dict[str, Manifest]:
        """All manifests by id."""
        query = sa.select(tables.manifests.c.id, tables.manifests.c.body).order_by(tables.manifests.c.id)
        rows = self._rows(query)
        return {key: from_json(Manifest, body, where=f"{self.where}, manifest {key}") for key, body in rows}

    def close(self) -> None:
        """Closes the connections, unless the engine was handed in."""
        if self._owned:
            self._engine.dispose()

    def __enter__(self) -> TraceStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, create: bool) -> None:
        version = self._version()
        if version is None:
            if not create:
                raise TraceError("there is no trace store here", where=self.where, remedy="Record into it first")
            self._create()
            version = self._version()
        check_schema(int(version) if version and version.isdigit() else version, where=self.where)

    def _version(self) -> str | None:
        """The form in which the store was written; None if it was not made yet, or is being made right now."""
        with self._guard("opened"):
            if not sa.inspect(self._engine).has_table(tables.meta.name):
                return None
        query = sa.select(tables.meta.c.value).where(tables.meta.c.name == "schema")
        return next((str(value) for (value,) in self._rows(query)), None)

    def _create(self) -> None:
        """Several processes may come at once: each makes what is missing, the version last."""
        with self._guard("created"):
            for attempt in range(_ATTEMPTS):
                try:
                    with self._engine.begin() as connection:
                        for table in tables.metadata.sorted_tables:
                            connection.execute(CreateTable(table, if_not_exists=True))
                            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                                connection.execute(CreateIndex(index, if_not_exists=True))
                        connection.execute(self._upsert(tables.meta, {"name": "schema", "value": str(SCHEMA)}))
                    return
                except (OperationalError, ProgrammingError, IntegrityError):
                    # PostgreSQL's IF NOT EXISTS does not see what another transaction is about to commit.
                    if attempt == _ATTEMPTS - 1:
                        raise
                    time.sleep(0.1 * (attempt + 1))

    def _trace_row(self, trace: Trace) -> dict[str, Any]:
        if not trace.id:
            raise TraceError("a trace needs an id", where=self.where, remedy="Give the episode's id")
        return {
            "id": trace.id,
            "question_id": trace.question_id,
            "db_id": trace.db_id,
            "strategy": trace.strategy,
            "manifest_id": trace.manifest_id,
            "correct": trace.correct,
            "tokens": trace.tokens,
            "seconds": trace.seconds,
            "usd": trace.usage.usd,
            "started": trace.started,
            "stop_reason": trace.stop_reason[:255],
            "body": to_json(trace),
        }

    def _write(self, entries: Iterable[_Entry], manifest: Manifest | None) -> None:
        with self._guard("written"), self._engine.begin() as connection:
            if manifest is not None:
                row = {"id": manifest.id, "body": to_json(manifest)}
                connection.execute(self._upsert(tables.manifests, row))
            for entry in entries:
                connection.execute(self._upsert(*entry))

    def _upsert(self, table: sa.Table, row: Mapping[str, Any]) -> sa.Insert:
        keys = [column.name for column in table.primary_key]
        rest = {name: value for name, value in row.items() if name not in keys}
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        insert: sa.Insert = dialect.insert(table).values(**row).on_conflict_do_update(index_elements=keys, set_=rest)
        return insert

    def _rows(self, query: sa.Select[Any]) -> Iterator[tuple[Any, ...]]:
        with self._guard("read"), self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=500).execute(query):
                yield tuple(row)

    @contextmanager
    def _guard(self, done: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
            first = cause.strip().splitlines()[0] if cause.strip() else type(error).__name__
            raise TraceError(
                f"the trace store could not be {done}: {first}",
                where=self.where,
                remedy="Check the address, the rights and the space left",
            ) from error


def _engine(target: str | Path, create: bool) -> sa.Engine:
    """A path becomes a SQLite file; SQLite gets write-ahead logging and a waiting writer."""
    text = str(target)
    url = text if isinstance(target, str) and re.match(r"^[a-z][a-z0-9+_]*://", text) else f"sqlite:///{text}"
    try:
        address = sa.make_url(url)
    except (SQLAlchemyError, ValueError):  # whose text may hold a part of the password, taken for a port
        raise TraceError(
            "the address cannot be read",
            where="trace store",
            remedy="Write postgresql+psycopg://user:password@host:port/database; "
            "in a password, write @ / : ? as %40 %2F %3A %3F",
        ) from None
    try:
        engine = sa.create_engine(address)
    except (SQLAlchemyError, ImportError) as error:
        raise TraceError(
            f"no such store: {error}", where="trace store", remedy="Give the name of a SQLite file or a SQLAlchemy URL"
        ) from None
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise TraceError(
            f"{engine.dialect.name} is not supported", where="trace store", remedy="Use SQLite or PostgreSQL"
        )
    if engine.dialect.name == "sqlite":
        file = engine.url.database
        if file and Path(file).is_dir():
            raise TraceError("this is a folder, not a trace store", where=file, remedy="Give the name of a file")
        if not create and file and file != ":memory:" and not Path(file).exists():
            raise TraceError("there is no trace store here", where=file, remedy="Record into it first")
        sa.event.listen(engine, "connect", lambda connection, _record: share(connection))
    return engine


_ATTEMPTS = 5
