"""From what the user has (URL, path, engine, async engine) to connections that are ours to read with."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool, SingletonThreadPool, StaticPool

from tta_langgraph.addresses import shown
from tta_langgraph.errors import DatabaseError
from tta_langgraph.sql.bridge import Bridge
from tta_langgraph.sql.stop import Stop
from tta_langgraph.sql.waiting import connected

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where connections come from."""

    engine: Engine
    """The engine, or the sync face of an async one (for its dialect; connections come from `reading`)."""
    name: str
    """How the database is called in errors: the URL without its password."""
    owned: bool
    """Whether the engine was made here, and is closed here."""
    bridge: Bridge | None = None
    """The way to the user's async engine, if that is what was given."""

    @property
    def in_memory(self) -> bool:
        """Whether the database is a SQLite one that lives in its connection."""
        return isinstance(self.engine.pool, (StaticPool, SingletonThreadPool)) or in_memory(self.engine.url)

    def reading(self, work: Callable[[Connection], T], stop: Stop | None = None) -> T:
        """Calls `work` with a connection and gives the connection back, rolled back.

        Args:
            work: what to do with it; it blocks the caller, whatever the engine.
            stop: ends the wait for a connection, and for an async engine; the backend ends a statement of a sync one.
        """
        if self.bridge is not None:
            return self.bridge.reading(work, stop)
        with self.engine.connect() if stop is None else connected(self.engine, stop) as connection:
            return work(connection)

    def close(self) -> None:
        """Closes what was opened here."""
        if self.bridge is not None:
            self.bridge.close()
        if self.owned:
            self.engine.dispose()


def source_of(given: str | os.PathLike[str] | URL | Engine | AsyncEngine) -> Source:
    """Resolves what the user gave.

    Raises:
        DatabaseError: when it is none of these, names no driver we can load, or a SQLite file that is not there.
    """
    if isinstance(given, AsyncEngine):
        _existing(given.url)
        if given.url.get_backend_name() == "sqlite" and not in_memory(given.url):
            return Source(_engine(given.url), shown(given.url), owned=True)  # the file is all there is to share
        return Source(given.sync_engine, shown(given.url), owned=False, bridge=Bridge(given))
    if isinstance(given, Engine):
        _existing(given.url)
        return Source(given, shown(given.url), owned=False)
    if isinstance(given, (str, os.PathLike, URL)):
        url = _url(given)
        _existing(url)
        return Source(_engine(url), shown(url), owned=True)
    raise DatabaseError(
        f"a database is given by a URL, a path, an Engine or an AsyncEngine, this is a {type(given).__name__}",
        where="Database(...)",
        remedy="For example Database('sqlite:///shop.sqlite') or Database(create_engine(...))",
    )


def _url(given: str | os.PathLike[str] | URL) -> URL:
    if isinstance(given, URL):
        return given
    text = os.fspath(given)
    if "://" not in text:
        scheme = "duckdb" if Path(text).suffix in (".duckdb", ".ddb") else "sqlite"
        return URL.create(scheme, database=text)
    try:
        return make_url(text)
    except (ArgumentError, ValueError):  # whose text may hold a part of the password, taken for a port
        raise DatabaseError(
            "the database URL cannot be read",
            where="Database(...)",
            remedy="Write driver://user:password@host:port/database, for example postgresql+psycopg://me@localhost/shop;"
            " in a password, write @ / : ? as %40 %2F %3A %3F",
        ) from None


def _engine(url: URL) -> Engine:
    family = url.get_backend_name()
    try:
        if family == "sqlite" and not in_memory(url) and "uri" not in url.query:
            return create_engine(
                url.set(drivername="sqlite"), poolclass=QueuePool, max_overflow=-1, creator=_read_only_file(url)
            )
        if "async" in url.drivername or url.drivername.endswith(("aiosqlite", "aiomysql")):
            url = url.set(drivername=_SYNC_DRIVERS.get(url.drivername, url.drivername))
        return create_engine(url, pool_pre_ping=family not in ("sqlite", "duckdb"), **_options(url, family))
    except (ImportError, NoSuchModuleError, ArgumentError) as error:
        raise DatabaseError(
            f"no driver for {url.drivername}: {error}", where=shown(url), remedy="Install the driver, or name another"
        ) from error


def _options(url: URL, family: str) -> dict[str, Any]:
    if family == "duckdb":
        return {"poolclass": QueuePool, "connect_args": {"read_only": not in_memory(url), "config": dict(_DUCKDB)}}
    if family == "postgresql" and url.get_driver_name() in ("psycopg", "psycopg2"):
        # a server that stops answering is given up by the operating system, not waited for
        return {"connect_args": {"connect_timeout": 10, "tcp_user_timeout": 30_000, "keepalives_idle": 30}}
    if family in ("mysql", "mariadb") and url.get_driver_name() == "pymysql":
        return {"connect_args": {"connect_timeout": 10, "local_infile": False}}
    return {}


def _read_only_file(url: URL) -> Callable[[], sqlite3.Connection]:
    path = Path(str(url.database)).resolve()
    location = f"file:{quote(str(path))}?mode=ro"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(location, uri=True, check_same_thread=False, isolation_level=None)

    return connect


def _existing(url: URL) -> None:
    """A file that is not there must not be made by opening it."""
    if url.get_backend_name() not in ("sqlite", "duckdb") or in_memory(url) or "uri" in url.query:
        return
    path = Path(str(url.database))
    if path.suffix == "" and str(path).startswith("md:"):
        return
    if not path.is_file():
        raise DatabaseError(
            "there is no such database file" if not path.is_dir() else "this is a folder, not a database file",
            where=str(path),
            remedy="Check the path; it is read from the current folder unless it starts with a slash",
        )


def remedy_for(url: URL) -> str:
    """What helps where the database of this address cannot be read."""
    path = Path(str(url.database)).resolve()
    writable = os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    if url.get_backend_name() != "sqlite" or in_memory(url) or writable or not _write_ahead(path):
        return "Check the address, the credentials and that the server runs; a file must be a database of that kind"
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        return f"It keeps a write-ahead log, and its folder is read-only: copy it with {log.name} to a folder of yours"
    return (
        "It keeps a write-ahead log, and its folder is read-only: where nobody writes to it, open it as "
        f"sqlite:///file:{quote(str(path))}?immutable=1&uri=true"
    )


def _write_ahead(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == b"\x02\x02"
    except OSError:
        return False


def in_memory(url: URL) -> bool:
    """Whether the URL names a database that has no file."""
    database = url.database or ""
    return url.get_backend_name() in ("sqlite", "duckdb") and (
        database in ("", ":memory:") or database.startswith(":memory:") or url.query.get("mode") == "memory"
    )


def plainly(connection: Connection, sql: str) -> Any:
    """Runs a statement without parameters, so that a percent sign is one."""
    return connection.exec_driver_sql(sql, execution_options={"no_parameters": True})


_SYNC_DRIVERS = {
    "sqlite+aiosqlite": "sqlite",
    "postgresql+asyncpg": "postgresql+psycopg",
    "postgresql+psycopg_async": "postgresql+psycopg",
    "mysql+aiomysql": "mysql+pymysql",
    "mysql+asyncmy": "mysql+pymysql",
    "mariadb+aiomysql": "mariadb+pymysql",
    "mariadb+asyncmy": "mariadb+pymysql",
}
_DUCKDB = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "memory_limit": "512MB",
    "lock_configuration": "true",
}
