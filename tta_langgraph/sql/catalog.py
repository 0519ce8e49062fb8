"""What the database says about itself: tables, columns, keys, comments."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Dialect, inspect, text
from sqlalchemy.engine.interfaces import ReflectedColumn
from sqlalchemy.engine.reflection import Inspector, ObjectKind
from sqlalchemy.exc import SAWarning, SQLAlchemyError
from sqlalchemy.types import NullType


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column."""

    name: str
    """As the database spells it."""
    type: str = ""
    """As the database spells it, empty when it has none."""
    nullable: bool = True
    """Whether NULL is allowed."""
    comment: str | None = None
    """The comment stored with it."""

    @property
    def textual(self) -> bool:
        """Whether it may hold words (and so values worth showing)."""
        kind = self.type.upper()
        return not kind or any(word in kind for word in ("CHAR", "TEXT", "CLOB", "ENUM", "STRING", "BOOL", "SET("))


@dataclass(frozen=True, kw_only=True)
class ForeignKey:
    """Columns that refer to another table."""

    columns: tuple[str, ...]
    """Here."""
    table: str
    """The other table."""
    referred: tuple[str, ...]
    """There; empty when it is the primary key."""
    schema: str | None = None
    """The schema of the other table, where a statement has to name it; None where the table's name is enough."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table or view."""

    name: str
    """As the database spells it."""
    columns: tuple[Column, ...]
    """In the order of the table."""
    primary_key: tuple[str, ...] = ()
    """Its columns."""
    foreign_keys: tuple[ForeignKey, ...] = ()
    """References to other tables."""
    comment: str | None = None
    """The comment stored with it."""
    schema: str | None = None
    """Its schema, where a statement has to name it; None where the table's name is enough."""


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """The tables that may be read."""

    tables: tuple[Table, ...]
    """In alphabetical order."""
    dialect: str
    """sqlglot's name of the dialect."""
    by_name: Mapping[str, Table] = field(default_factory=dict, compare=False, repr=False)
    """By lower-case name."""


def table_names(connection: Connection, schema: str | None) -> list[str]:
    """Tables and views of the schema, without those in which SQLite's virtual tables keep their indexes."""
    if connection.dialect.name == "duckdb":
        rows = connection.execute(text(_DUCKDB_TABLES), {"schema": schema}).all()
        return [str(row[0]) for row in rows]
    inspector = inspect(connection)
    names = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
    if connection.dialect.name == "postgresql":
        names += inspector.get_materialized_view_names(schema)
    if connection.dialect.name == "sqlite":  # older ones than 3.37 list nothing
        listed = connection.exec_driver_sql("PRAGMA table_list").all()
        names = list(set(names) - {row[1] for row in listed if (row[0], row[2]) == (schema or "main", "shadow")})
    return sorted(set(names))


def qualifiers(connection: Connection, schema: str | None) -> frozenset[str]:
    """Lower-case names by which the names of these tables may be qualified: their schema and their database."""
    if connection.dialect.name == "sqlite":
        return frozenset({"main"})
    if connection.dialect.name == "duckdb":
        here = connection.execute(text("SELECT current_schema(), current_database()")).one()
        names = (schema or here[0], here[1])
    else:
        database = connection.engine.url.database if connection.dialect.name == "postgresql" else None
        names = (schema or inspect(connection).default_schema_name, database)
    return frozenset(str(name).lower() for name in names if name)


def beyond_default(connection: Connection, schema: str | None) -> str | None:
    """The schema, if a table's name alone does not reach its tables; None where it does."""
    if connection.dialect.name == "duckdb":
        here = connection.execute(text("SELECT current_schema()")).scalar()
    else:
        here = inspect(connection).default_schema_name
    return _beyond(schema, here)


def read_catalog(connection: Connection, names: Sequence[str], schema: str | None, dialect: str) -> Catalog:
    """Reads the structure of the tables, in a number of queries that does not grow with them where the engine can."""
    if connection.dialect.name == "duckdb":
        tables = _duckdb_tables(connection, names, schema)
    else:
        names = _without_partitions(connection, names, schema)
        tables = _reflected(inspect(connection), names, schema, connection.dialect)
    return Catalog(tables=tables, dialect=dialect, by_name={table.name.lower(): table for table in tables})


def _without_partitions(connection: Connection, names: Sequence[str], schema: str | None) -> Sequence[str]:
    """Leaves out the partitions of tables that are there themselves: hundreds of copies would hide all else."""
    if connection.dialect.name != "postgresql" or (getattr(connection.dialect, "server_version_info", None) or ()) < (
        10,
    ):
        return names
    here = schema or inspect(connection).default_schema_name
    parents: dict[str, str] = {
        str(row[0]): str(row[1]) for row in connection.execute(text(_PARTITIONS), {"schema": here})
    }
    there = set(names)
    return [name for name in names if parents.get(name) not in there]


def _reflected(inspector: Inspector, names: Sequence[str], schema: str | None, dialect: Dialect) -> tuple[Table, ...]:
    wanted: dict[str, Any] = {"schema": schema, "filter_names": list(names), "kind": ObjectKind.ANY}
    here = inspector.default_schema_name
    with warnings.catch_warnings():  # of types it does not know: a column is shown all the same
        warnings.simplefilter("ignore", SAWarning)
        try:
            columns = inspector.get_multi_columns(**wanted)
        except SQLAlchemyError:  # one broken view must not hide the tables
            columns = {(schema, name): _columns_of(inspector, name, schema) for name in names}
        keys = _quietly(inspector.get_multi_pk_constraint, inspector.get_pk_constraint, wanted)
        references = _quietly(inspector.get_multi_foreign_keys, inspector.get_foreign_keys, wanted)
        comments = _quietly(inspector.get_multi_table_comment, inspector.get_table_comment, wanted)
    tables = []
    for name in names:
        at = (schema, name)
        found = columns.get(at)
        if not found:
            continue
        tables.append(
            Table(
                name=name,
                columns=tuple(_column(column, dialect) for column in found),
                primary_key=tuple((keys.get(at) or {}).get("constrained_columns") or ()),
                foreign_keys=tuple(
                    ForeignKey(
                        columns=tuple(key["constrained_columns"]),
                        table=key["referred_table"],
                        referred=tuple(column for column in key["referred_columns"] if column),
                        schema=_beyond(key.get("referred_schema"), here),
                    )
                    for key in references.get(at) or ()
                ),
                comment=(comments.get(at) or {}).get("text") or None,
                schema=_beyond(schema, here),
            )
        )
    return tuple(tables)


def _columns_of(inspector: Inspector, name: str, schema: str | None) -> list[ReflectedColumn]:
    try:
        return inspector.get_columns(name, schema)
    except SQLAlchemyError:
        return []


def _quietly(every: Any, one: Any, wanted: dict[str, Any]) -> Mapping[tuple[str | None, str], Any]:
    """Keys and comments are welcome, not needed: some dialects have none, and one broken view takes only its own."""
    try:
        return dict(every(**wanted))
    except NotImplementedError:
        return {}
    except SQLAlchemyError:
        schema, found = wanted["schema"], {}
        for name in wanted["filter_names"]:
            with suppress(SQLAlchemyError):
                found[schema, name] = one(name, schema)
        return found


def _beyond(schema: str | None, here: str | None) -> str | None:
    """The schema, if statements have to name it to reach its tables."""
    return schema if schema and schema != here else None


def _column(found: ReflectedColumn, dialect: Dialect) -> Column:
    kind = found["type"]
    return Column(
        name=found["name"],
        type="" if isinstance(kind, NullType) else _spelled(kind, dialect),
        nullable=bool(found.get("nullable", True)),
        comment=found.get("comment") or None,
    )


def _spelled(kind: Any, dialect: Dialect) -> str:
    try:
        return _COLLATION.sub("", str(kind.compile(dialect=dialect)))
    except Exception:  # a type that the dialect reads but cannot write
        return type(kind).__name__.upper()


def _duckdb_tables(connection: Connection, names: Iterable[str], schema: str | None) -> tuple[Table, ...]:
    wanted = set(names)
    elsewhere = beyond_default(connection, schema)
    columns: dict[str, list[Column]] = {}
    for table, column, kind, nullable, comment in connection.execute(text(_DUCKDB_COLUMNS), {"schema": schema}).all():
        if table in wanted:
            columns.setdefault(table, []).append(
                Column(name=column, type=str(kind), nullable=bool(nullable), comment=comment or None)
            )
    keys: dict[str, tuple[str, ...]] = {}
    references: dict[str, list[ForeignKey]] = {}
    for table, kind, own, other, theirs in connection.execute(text(_DUCKDB_KEYS), {"schema": schema}).all():
        if kind == "PRIMARY KEY":
            keys[table] = tuple(own)
        elif other:
            key = ForeignKey(columns=tuple(own), table=str(other), referred=tuple(theirs or ()), schema=elsewhere)
            references.setdefault(table, []).append(key)
    told = connection.execute(text(_DUCKDB_COMMENTS), {"schema": schema}).all()
    comments: dict[str, str | None] = {str(row[0]): row[1] for row in told}
    return tuple(
        Table(
            name=name,
            columns=tuple(columns[name]),
            primary_key=keys.get(name, ()),
            foreign_keys=tuple(references.get(name, ())),
            comment=comments.get(name) or None,
            schema=elsewhere,
        )
        for name in sorted(wanted)
        if name in columns
    )


_COLLATION = re.compile(r" (?:CHARACTER SET|COLLATE) \S+")
_PARTITIONS = (
    "SELECT part.relname, whole.relname FROM pg_catalog.pg_inherits AS i "
    "JOIN pg_catalog.pg_class AS part ON part.oid = i.inhrelid "
    "JOIN pg_catalog.pg_class AS whole ON whole.oid = i.inhparent "
    "JOIN pg_catalog.pg_namespace AS n ON n.oid = part.relnamespace AND n.oid = whole.relnamespace "
    "WHERE part.relispartition AND n.nspname = :schema"
)
_DUCKDB_WHERE = (
    "WHERE NOT internal AND database_name = current_database() AND schema_name = coalesce(:schema, current_schema())"
)
_DUCKDB_TABLES = (
    f"SELECT table_name FROM duckdb_tables() {_DUCKDB_WHERE} UNION "
    f"SELECT view_name FROM duckdb_views() {_DUCKDB_WHERE} ORDER BY 1"
)
_DUCKDB_COLUMNS = (
    "SELECT table_name, column_name, data_type, is_nullable, comment FROM duckdb_columns() "
    f"{_DUCKDB_WHERE} ORDER BY table_name, column_index"
)
_DUCKDB_KEYS = (
    "SELECT table_name, constraint_type, constraint_column_names, referenced_table, referenced_column_names "
    "FROM duckdb_constraints() WHERE database_name = current_database() "
    "AND schema_name = coalesce(:schema, current_schema()) AND constraint_type IN ('PRIMARY KEY', 'FOREIGN KEY') "
    "ORDER BY table_name, constraint_index"
)
_DUCKDB_COMMENTS = (
    f"SELECT table_name, comment FROM duckdb_tables() {_DUCKDB_WHERE} UNION ALL "
    f"SELECT view_name, comment FROM duckdb_views() {_DUCKDB_WHERE}"
)
