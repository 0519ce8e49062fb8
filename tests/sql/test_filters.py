"""What the filters leave out is not read under any other name, and files are not read under a table's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_setup import fill
from sqlalchemy import create_engine, text

from tta_langgraph.sql import Database

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
