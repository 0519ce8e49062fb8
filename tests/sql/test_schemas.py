"""Tables outside of the connection's own schema: shown as a statement has to name them, and filtered there only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from tta_langgraph.sql import Database, execution_feedback

TABLES = (
    'CREATE SCHEMA "Sales Dept"',
    'CREATE TABLE "Sales Dept"."Order" (id int PRIMARY KEY, city varchar(20))',
    """INSERT INTO "Sales Dept"."Order" VALUES (1, 'Oslo')""",
    'CREATE TABLE "Order" (id int, secret int)',
    'INSERT INTO "Order" VALUES (7, 2014)',
)
GONE = ("DROP TABLE IF EXISTS delivery", 'DROP TABLE IF EXISTS "Order"', 'DROP SCHEMA IF EXISTS "Sales Dept" CASCADE')


@pytest.fixture(params=["postgres", "duckdb"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database with a table `Order` in a schema of its own, and another one of that name in the usual schema."""
    if request.param == "duckdb":
        pytest.importorskip("duckdb_engine")
    url = f"duckdb:///{tmp_path}/s.duckdb" if request.param == "duckdb" else request.getfixturevalue("postgres_url")
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in (*GONE, *TABLES):
            connection.execute(text(statement))
    yield engine
    with engine.begin() as connection:
        for statement in GONE:
            connection.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize("style", ["ddl", "compact"])
def test_a_table_is_called_in_the_prompt_as_it_can_be_read(engine: Engine, style: str) -> None:
    with Database(engine, schema="Sales Dept") as database:
        prompt = database.schema_prompt(style=style)
        assert '"Sales Dept"."Order"' in prompt
        assert "'Oslo'" in prompt  # the samples are of this table, not of the one with its name next door
        assert "2014" not in prompt
        assert database.execute('SELECT city FROM "Sales Dept"."Order"').rows == (("Oslo",),)


def test_feedback_names_the_schema_and_reads_the_values_there(engine: Engine) -> None:
    with Database(engine, schema="Sales Dept") as database:
        missing = database.execute('SELECT * FROM "Sales Dept"."Ordr"')
        assert '"Sales Dept"."Order"' in execution_feedback(missing, database)
        nothing = database.execute("""SELECT id FROM "Sales Dept"."Order" WHERE city = 'oslo'""")
        assert "it holds 'Oslo'" in execution_feedback(nothing, database)


def test_a_filter_on_one_schema_does_not_open_a_table_of_that_name_in_another(engine: Engine) -> None:
    with Database(engine, schema="Sales Dept", include_tables=["order"]) as database:
        other = database.execute('SELECT secret FROM "Order"')
        assert other.error == "not executed: the table Order is not available without its schema"
        assert database.execute('WITH o AS (SELECT city FROM "Sales Dept"."Order") SELECT * FROM o').rows == (
            ("Oslo",),
        )


def test_the_usual_schema_may_be_named_and_stays_unwritten(engine: Engine) -> None:
    usual = "main" if engine.dialect.name == "duckdb" else "public"
    with Database(engine, schema=usual, include_tables=["order"]) as database:
        assert 'CREATE TABLE "Order" (' in database.schema_prompt()
        assert database.execute('SELECT secret FROM "Order"').rows == ((2014,),)


def test_a_reference_into_another_schema_says_which(postgres_url: str, engine: Engine) -> None:
    if engine.dialect.name != "postgresql":
        pytest.skip("only there a foreign key may leave its schema")
    with engine.begin() as connection:
        connection.execute(text('CREATE TABLE delivery (order_id int REFERENCES "Sales Dept"."Order")'))
    with Database(engine) as database:
        assert 'REFERENCES "Sales Dept"."Order"(id)' in database.schema_prompt()
        assert '-> "Sales Dept"."Order".id' in database.schema_prompt(style="compact")


def test_a_partitioned_table_is_told_once_and_its_parts_can_be_read(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS sale"))
        connection.execute(text("CREATE TABLE sale (city text, month int) PARTITION BY LIST (month)"))
        for month in range(1, 13):
            connection.execute(text(f"CREATE TABLE sale_{month:02} PARTITION OF sale FOR VALUES IN ({month})"))
        connection.execute(text("INSERT INTO sale VALUES ('Oslo', 3)"))
    with Database(engine, include_tables=["sale*"]) as database:
        prompt = database.schema_prompt()
        assert "CREATE TABLE sale (" in prompt
        assert "sale_03" not in prompt
        assert database.execute("SELECT city FROM sale_03").rows == (("Oslo",),)
    with Database(engine, include_tables=["sale_03"]) as alone:
        assert "CREATE TABLE sale_03 (" in alone.schema_prompt()
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE sale"))
    engine.dispose()
