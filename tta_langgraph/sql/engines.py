"""Which backend serves which engine."""

from __future__ import annotations

from sqlalchemy import Engine

from tta_langgraph.sql.backend import Backend
from tta_langgraph.sql.connect import Source
from tta_langgraph.sql.duckdb import DuckDBBackend
from tta_langgraph.sql.fallback import FallbackBackend
from tta_langgraph.sql.mysql import MySQLBackend
from tta_langgraph.sql.postgres import PostgresBackend
from tta_langgraph.sql.sqlite import BridgedSQLiteBackend, SQLiteBackend


def backend_for(source: Source, hidden: frozenset[str]) -> Backend:
    """The backend of the source's engine family.

    Args:
        source: where connections come from.
        hidden: lower-case names of tables that may not be read.
    """
    name = source.engine.dialect.name
    if name == "sqlite":
        return _sqlite(source, hidden)
    if name == "postgresql":
        return PostgresBackend(source)
    if name in ("mysql", "mariadb"):
        return MySQLBackend(source)
    if name == "duckdb":
        return DuckDBBackend(source)
    return FallbackBackend(source)


def _sqlite(source: Source, hidden: frozenset[str]) -> Backend:
    secret = hidden | _SQLITE_SCHEMA if hidden else hidden
    if source.bridge is not None:
        return BridgedSQLiteBackend(source, refused=secret.__contains__)
    private = not source.in_memory
    engine: Engine = source.engine
    pool = engine.pool.recreate() if private else engine.pool  # every connection of it is hardened when it opens
    return SQLiteBackend(pool, private=private, refused=secret.__contains__)


_SQLITE_SCHEMA = frozenset({"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"})
