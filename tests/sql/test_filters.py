"""What the filters leave out is not read under any other name, and files are not read under a table's."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_setup import fill
from sqlalchemy import create_engine, text

from tta_langgraph.sql import Database
from tta_langgraph.sql.backend import StatementError
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.stop import Stop

SECRET = {2014, 2015}
"""Years that only the hidden table holds."""
HIDING = (
    "WITH concert AS (SELECT * FROM concert) SELECT year FROM concert",
    "WITH a AS (SELECT * FROM concert), concert AS (SELECT 1 AS year) SELECT year FROM a",
    "WITH RECURSIVE a AS (SELECT year FROM concert), concert AS (SELECT 1 AS year) SELECT year FROM a",
    "WITH RECURSIVE concert AS (SELECT * FROM concert) SELECT year FROM concert",
    "WITH RECURSIVE concert AS (SELECT year FROM concert UNION ALL SELECT 1 WHERE 1 = 0) SELECT year FROM concert",
    "WITH RECURSIVE concert AS (SELECT 2014 AS year INTERSECT SELECT year FROM concert) SELECT year FROM concert",
    "SELECT * FROM (WITH concert AS (SELECT year FROM concert) SELECT year FROM concert) AS q",
    "(WITH concert AS (SELECT 1 AS year) SELECT year FROM concert) UNION SELECT year FROM concert",
    'WITH "Concert" AS (SELECT 1 AS year) SELECT year FROM concert',
    "WITH Concert AS (SELECT 1 AS year) SELECT year FROM concert",
    "SELECT year FROM tta_elsewhere.singer",
    "SELECT year FROM hidden.tta_elsewhere.singer",
)
ALLOWED = (
    "WITH old AS (SELECT * FROM singer WHERE age > 40) SELECT name FROM old",
    "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 3) SELECT max(x) FROM n",
    "WITH a AS (SELECT * FROM singer), b AS (SELECT * FROM a) SELECT count(*) FROM a JOIN b ON a.id = b.id",
    "SELECT count(*) FROM (WITH a AS (SELECT * FROM singer) SELECT * FROM a UNION ALL SELECT * FROM a) AS q",
    "WITH a AS (SELECT 1 AS x) SELECT x FROM a UNION SELECT age FROM singer WHERE age > (SELECT max(x) FROM a)",
)


@pytest.fixture(params=["sqlite", "postgres", "mysql", "duckdb", "duckdb-engine"])
def filtered(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database whose table `concert`, and the other schema's `singer`, are filtered out."""
    family: str = request.param
    if family.startswith("duckdb"):
        pytest.importorskip("duckdb_engine")
        url = f"duckdb:///{tmp_path}/s.duckdb"
    else:
        url = f"sqlite:///{tmp_path}/s.sqlite" if family == "sqlite" else request.getfixturevalue(f"{family}_url")
    engine = create_engine(url)
    fill(engine)
    if family != "sqlite":
        with engine.begin() as connection:
            connection.execute(text("CREATE SCHEMA tta_elsewhere"))
            connection.execute(text("CREATE TABLE tta_elsewhere.singer (id int, year int)"))
            connection.execute(text("INSERT INTO tta_elsewhere.singer VALUES (1, 2014)"))
    if family == "duckdb":
        engine.dispose()
    with Database(engine if family == "duckdb-engine" else url, exclude_tables=["concert"]) as database:
        yield database
    if family != "sqlite":
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE tta_elsewhere.singer"))
            connection.execute(text("DROP SCHEMA tta_elsewhere"))
    engine.dispose()


def test_a_hidden_table_is_not_read_under_the_name_of_a_common_table_expression(filtered: Database) -> None:
    for sql in HIDING:
        result = filtered.execute(sql)
        assert not SECRET & {cell for row in result.rows for cell in row}, (sql, result)


def test_common_table_expressions_are_no_tables_to_be_filtered(filtered: Database) -> None:
    for sql in ALLOWED:
        result = filtered.execute(sql)
        assert result.ok, (sql, result.error)
        assert result.rows, sql


def test_a_name_may_be_qualified_by_the_schema_that_is_filtered(filtered: Database) -> None:
    schema = {"sqlite": "main", "postgres": "public", "duckdb": "main"}.get(filtered.dialect)
    schema = schema or filtered._source.engine.url.database
    assert filtered.execute(f"SELECT count(*) FROM {schema}.singer").rows == ((3,),)


def test_the_catalog_of_the_server_is_not_read_under_the_name_of_a_common_table_expression(postgres_url: str) -> None:
    fill(create_engine(postgres_url))
    with Database(postgres_url) as database:
        result = database.execute("WITH pg_authid AS (SELECT * FROM pg_authid) SELECT rolname FROM pg_authid")
        assert result.error_kind == "refused"


def test_duckdbs_macros_read_no_table_by_a_name_that_they_are_given(tmp_path: Path) -> None:
    pytest.importorskip("duckdb_engine")
    (tmp_path / "secret.csv").write_text("year\n2014\n")
    engine = create_engine(f"duckdb:///{tmp_path}/s.duckdb")
    fill(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE MACRO any_of(t) AS TABLE SELECT * FROM query_table(t)"))
        connection.execute(text("CREATE MACRO all_of(t) AS TABLE SELECT * FROM any_of(t)"))
        connection.execute(text("CREATE MACRO older(n) AS TABLE SELECT name FROM singer WHERE age > n"))
        connection.execute(text("CREATE MACRO twice(x) AS 2 * x"))
    with Database(engine, exclude_tables=["concert"]) as database:
        for read in ("concert", f"'{tmp_path}/secret.csv'"):
            for sql in (
                f"SELECT * FROM histogram_values({read}, year)",
                f"SELECT * FROM histogram({read}, year)",
                f"SELECT h.* FROM singer, LATERAL histogram({read}, year) AS h",
                f"FROM any_of({read})",
                f"FROM all_of({read})",
            ):
                result = database.execute(sql)
                assert result.error_kind == "refused", (sql, result.rows)
        assert database.execute("SELECT name FROM older(40)").rows == (("Ann",),)
        assert database.execute("SELECT twice(age) FROM singer WHERE id = 1").rows == ((82,),)


def test_a_file_is_not_read_under_the_name_of_a_common_table_expression(tmp_path: Path) -> None:
    pytest.importorskip("duckdb_engine")
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    engine = create_engine(f"duckdb:///{tmp_path}/s.duckdb")
    fill(engine)
    name = f"{tmp_path}/secret.csv"
    with Database(engine) as database:
        for body in (f'SELECT * FROM "{name}"', f"SELECT * FROM '{name}'"):
            result = database.execute(f'WITH "{name}" AS ({body}) SELECT * FROM "{name}"')
            assert not result.ok, result.rows


@pytest.fixture
def searchable(tmp_path: Path) -> Path:
    """A SQLite file with two tables for full-text search and one with a secret."""
    path = tmp_path / "search.sqlite"
    connection = sqlite3.connect(path)
    try:
        for name, words in (("open_notes", "hello world"), ("closed_notes", "hunter2")):
            connection.execute(f"CREATE VIRTUAL TABLE {name} USING fts5(body)")
            connection.execute(f"INSERT INTO {name} VALUES (?)", (words,))
    except sqlite3.OperationalError as error:
        pytest.skip(f"this SQLite has no full-text search: {error}")
    connection.execute("CREATE TABLE account (password TEXT)")
    connection.execute("INSERT INTO account VALUES ('hunter2')")
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize("filters", [{"exclude_tables": ["account", "closed_*"]}, {"include_tables": ["open_notes"]}])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'hunter2' IN account",
        "WITH a AS (SELECT 'hunter2' IN account) SELECT * FROM a",
        "WITH a AS (SELECT 1 WHERE 'hunter2' IN main.account) SELECT * FROM a",
        "WITH a AS (SELECT 'hunter2' IN 'account') SELECT * FROM a",
        "WITH a AS (SELECT 'hunter2' IN closed_notes('hunter2')) SELECT * FROM a",
        "WITH a AS (SELECT 'hunter2' IN main.closed_notes('hunter2')) SELECT * FROM a",
        "WITH a AS (SELECT * FROM closed_notes('hunter2')) SELECT * FROM a",
        "SELECT * FROM closed_notes_content",
        "WITH a AS (SELECT (1, 2, 3, 4, 5) IN sqlite_master) SELECT * FROM a",
    ],
)
def test_sqlite_reads_no_hidden_table_after_in_nor_as_a_function(
    searchable: Path, filters: dict[str, list[str]], sql: str
) -> None:
    with Database(searchable, **filters) as database:  # type: ignore[arg-type]
        assert database.execute(sql).error_kind == "refused", sql


def test_sqlites_authorizer_refuses_what_a_common_table_expression_reads(searchable: Path) -> None:
    """The second wall, told no more than the names of the statement's expressions."""
    with Database(searchable, exclude_tables=["account"]) as database:
        assert database._backend is not None
        for sql in ("SELECT password FROM account", "WITH a AS (SELECT * FROM account) SELECT * FROM a"):
            with pytest.raises(StatementError, match="prohibited"):
                database._backend.run(sql, Verdict(defined=frozenset({"a"})), Stop(5), database._limits)


def test_a_value_may_be_looked_for_in_a_common_table_expression_or_a_table(searchable: Path) -> None:
    with Database(searchable, exclude_tables=["account"]) as database:
        assert database.execute("WITH a AS (SELECT 1) SELECT 1 IN a, 2 IN a").rows == ((1, 0),)
        assert database.execute("SELECT 'hello world' IN open_notes").rows == ((1,),)


def test_full_text_search_reads_and_its_own_tables_are_not_shown(searchable: Path) -> None:
    with Database(searchable, include_tables=["open_notes"]) as database:
        assert database.tables == ("open_notes",)
        for sql in (
            "SELECT body FROM open_notes WHERE open_notes MATCH 'hello' ORDER BY rank",
            "SELECT highlight(open_notes, 0, '', '') FROM open_notes('world')",
        ):
            assert database.execute(sql).rows == (("hello world",),), sql
    with Database(searchable) as database:
        assert database.tables == ("account", "closed_notes", "open_notes")
        assert database.execute("SELECT count(*) FROM closed_notes WHERE body MATCH 'hunter2'").rows == ((1,),)
