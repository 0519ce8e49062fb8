"""The database every hostile statement is aimed at, and its fingerprint."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, text

TABLES = (
    "CREATE TABLE singer (id int PRIMARY KEY, name varchar(40), country varchar(40), age int)",
    "CREATE TABLE concert (id int PRIMARY KEY, singer_id int REFERENCES singer(id), year int)",
    "CREATE TABLE number (x int)",
    "INSERT INTO singer VALUES (1, 'Ann', 'France', 41), (2, 'Bob', 'Norway', 29), (3, 'Cem', 'Turkey', 35)",
    "INSERT INTO concert VALUES (1, 1, 2014), (2, 1, 2015), (3, 2, 2015)",
    "INSERT INTO number VALUES " + ", ".join(f"({i})" for i in range(1_000)),
)
POSTGRES = (
    "CREATE FUNCTION eve_delete() RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM singer; RETURN 1; END'",
    "CREATE FUNCTION eve_definer() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT 1::bigint'",
)
MYSQL = (
    "CREATE FUNCTION eve_delete() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN DELETE FROM singer; RETURN 1; END",
)

MYSQL_STATE = (
    "CHECKSUM TABLE singer, concert, number EXTENDED",
    "SELECT * FROM mysql.user ORDER BY user, host",
    "SHOW GLOBAL VARIABLES WHERE variable_name NOT REGEXP 'gtid|timestamp|binlog_pos'",
    "SELECT event_name FROM information_schema.events UNION ALL SELECT trigger_name FROM information_schema.triggers "
    "UNION ALL SELECT plugin_name FROM information_schema.plugins ORDER BY 1",
)


def fill(engine: Engine) -> None:
    """Creates the tables afresh, and functions that a stranger would like to call."""
    extra = {"postgresql": POSTGRES, "mysql": MYSQL, "mariadb": MYSQL}.get(engine.dialect.name, ())
    gone = [f"DROP TABLE IF EXISTS {name}" for name in ("concert", "number", "singer")]
    gone += [f"DROP FUNCTION IF EXISTS {name}" for name in ("eve_delete", "eve_definer") if extra]
    with engine.begin() as connection:
        for statement in (*gone, *TABLES, *extra):
            connection.execute(text(statement))


def fingerprint(engine: Engine) -> str:
    """A hash of all that the database holds: the bytes of its file, or names and rows where there is none."""
    database = engine.url.database
    if engine.dialect.name in ("sqlite", "duckdb") and database and Path(database).is_file():
        return hashlib.sha256(Path(database).read_bytes()).hexdigest()
    with engine.connect() as connection:
        parts = [str(_objects(connection))]
        if connection.dialect.name in ("mysql", "mariadb"):
            parts += [str(connection.execute(text(query)).all()) for query in MYSQL_STATE]
        for table in ("singer", "concert", "number"):
            parts.append(str(sorted(map(tuple, connection.execute(text(f"SELECT * FROM {table}"))))))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _objects(connection: Connection) -> list[object]:
    query = {
        "postgresql": "SELECT relname, relkind FROM pg_class WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace "
        "WHERE nspname LIKE 'pg_toast%') UNION ALL SELECT proname, 'f' FROM pg_proc UNION ALL SELECT rolname, 'r' FROM "
        "pg_roles UNION ALL SELECT datname, 'd' FROM pg_database UNION ALL SELECT extname, 'e' FROM pg_extension "
        "UNION ALL SELECT nspname, 'n' FROM pg_namespace UNION ALL SELECT oid::text, 'l' FROM pg_largeobject_metadata",
        "sqlite": "SELECT name, sql FROM sqlite_master",
        "duckdb": "SELECT table_name, sql FROM duckdb_tables()",
    }.get(
        connection.dialect.name,
        "SELECT concat(table_schema, '.', table_name), table_rows * 0 FROM information_schema.tables WHERE "
        "table_schema NOT IN ('performance_schema', 'sys') AND (table_schema = database() OR table_schema NOT LIKE "
        "'tta_tests%') UNION ALL SELECT routine_name, 0 FROM "
        "information_schema.routines UNION ALL SELECT user, 0 FROM mysql.user",
    )
    return sorted(map(str, connection.execute(text(query))))


def sqlite_engine(path: Path) -> Engine:
    """A filled SQLite file."""
    engine = create_engine(f"sqlite:///{path}")
    fill(engine)
    return engine
