"""What only a server can show: PostgreSQL, MySQL and DuckDB at work, sync and async."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_setup import fill
from sqlalchemy import Engine, create_engine, text

from tta_langgraph.sql import Database, execution_feedback, same_result

ENDLESS = {
    "postgres": "SELECT count(*) FROM generate_series(1, 100000000000)",
    "mysql": "SELECT count(*) FROM number a, number b, number c, number d WHERE a.x + b.x + c.x + d.x > -1",
    "duckdb": "SELECT count(*) FROM range(100000000) a, range(100000000) b",
}
RUNNING = {
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() "
    "AND query LIKE 'FETCH FORWARD%'",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%FROM number a%' "
    "AND id <> connection_id()",
}


def running(family: str, engine: Engine) -> int:
    """Statements of ours that the server still works on; 0 where there is no server."""
    if family not in RUNNING:
        return 0
    with engine.connect() as connection:
        return int(connection.execute(text(RUNNING[family])).scalar() or 0)


@pytest.fixture(params=list(ENDLESS))
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Engine]]:
    family: str = request.param
    if family == "duckdb":
        pytest.importorskip("duckdb_engine")
        engine = create_engine(f"duckdb:///{tmp_path}/s.duckdb")
    else:
        engine = create_engine(request.getfixturevalue(f"{family}_url"))
    fill(engine)
    yield family, engine
    engine.dispose()


def test_the_deadline_is_kept_in_the_database_and_the_connection_is_good_again(served: tuple[str, Engine]) -> None:
    family, engine = served
    with Database(engine) as database:
        assert database.execute(ENDLESS[family], timeout=0.4).error_kind == "timeout"
        assert database.execute("SELECT count(*) FROM singer", timeout=10).rows == ((3,),)
    with engine.begin() as connection:  # and the user's own connections still write
        connection.execute(text("INSERT INTO number VALUES (5000)"))
        assert connection.execute(text("SELECT max(x) FROM number")).scalar() == 5000


async def test_a_cancelled_task_leaves_no_statement_running(served: tuple[str, Engine]) -> None:
    family, engine = served
    with Database(engine) as database:
        task = asyncio.create_task(database.aexecute(ENDLESS[family], timeout=120))
        started = time.monotonic()
        while family in RUNNING and not running(family, engine) and time.monotonic() - started < 60:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await database.aexecute("SELECT count(*) FROM singer", timeout=10)).rows == ((3,),)
        assert running(family, engine) == 0


def test_a_percent_sign_is_a_percent_sign(served: tuple[str, Engine]) -> None:
    _, engine = served
    with Database(engine) as database:
        assert database.execute("SELECT name FROM singer WHERE name LIKE '%nn%'").rows == (("Ann",),)
        assert database.execute("SELECT 7 % 4, '100%s'").rows == ((3, "100%s"),)


def test_long_cells_are_cut(served: tuple[str, Engine]) -> None:
    _, engine = served
    with Database(engine, max_cell_bytes=100) as database:
        result = database.execute("SELECT repeat('x', 90000), 1 FROM singer")
        assert [len(row[0]) for row in result.rows] == [100, 100, 100]
        assert result.truncated


def test_repeated_column_names_and_a_trailing_comment_are_no_trouble(served: tuple[str, Engine]) -> None:
    family, engine = served
    with Database(engine) as database:
        result = database.execute("SELECT id, id FROM singer ORDER BY id -- twice\n;")
        assert result.rows == ((1, 1), (2, 2), (3, 3)), family
        assert result.ordered


def test_errors_carry_what_the_model_needs(served: tuple[str, Engine]) -> None:
    _, engine = served
    with Database(engine) as database:
        missing = database.execute("SELECT nme FROM singer")
        assert missing.error_kind == "schema"
        assert "Did you mean name in singer" in execution_feedback(missing, database)
        assert database.execute("SELECT * FROM singr").error_kind == "schema"
        assert database.execute("SELECT country, count(*) FROM singer WHERE").error_kind == "syntax"


def test_the_schema_is_told_with_keys_and_values(served: tuple[str, Engine]) -> None:
    family, engine = served
    with Database(engine) as database:
        prompt = database.schema_prompt()
        assert "REFERENCES singer(id)" in prompt or family == "mysql"  # MyISAM and old servers drop inline references
        assert "'France'" in prompt
        assert prompt == database.schema_prompt("another question")


def test_the_same_question_has_the_same_answer_on_every_engine(served: tuple[str, Engine], sqlite_path: Path) -> None:
    _, engine = served
    with Database(engine) as there, Database(sqlite_path) as here:
        for sql in (
            "SELECT name, age FROM singer ORDER BY age",
            "SELECT country, count(*), sum(age) FROM singer GROUP BY country",
            "SELECT round(avg(x), 2) FROM number",
            "SELECT name FROM singer WHERE age > 100",
        ):
            a, b = there.execute(sql), here.execute(sql)
            assert same_result(a, b), sql
            assert a.key == b.key, sql


def test_dates_that_python_does_not_have_come_as_text(postgres_url: str) -> None:
    fill(create_engine(postgres_url))
    with Database(postgres_url) as database:
        result = database.execute("SELECT 'infinity'::date, '10000-01-01'::timestamp, '2020-01-02'::date, 7")
        assert result.rows == (("infinity", "10000-01-01 00:00:00", "2020-01-02", 7),)
        assert database.execute("SELECT '24:00'::time, '24:00+02'::timetz").rows == (("24:00:00", "24:00:00+02"),)


def test_an_engine_in_autocommit_mode_is_held_to_reading_too(postgres_url: str) -> None:
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    fill(engine)
    with Database(engine) as database:
        assert database.execute("SELECT count(*) FROM singer").rows == ((3,),)
        assert database.execute("SELECT eve_delete()").error_kind == "refused"
        assert database.execute("SELECT count(*) FROM singer").rows == ((3,),)


def test_a_function_that_writes_is_stopped_by_the_server_when_it_is_let_through(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    fill(engine)
    with Database(engine, allow_functions=["eve_delete"]) as database:
        result = database.execute("SELECT eve_delete()")
        assert result.error_kind == "refused"
        assert "read-only" in str(result.error)
        assert database.execute("SELECT count(*) FROM singer").rows == ((3,),)


def test_functions_that_write_are_refused_also_where_they_look_like_columns_or_aggregates(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    fill(engine)
    raising = "LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''EVE WAS HERE''; END'"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE FUNCTION eve_row(singer) RETURNS text VOLATILE {raising}"))
        connection.execute(text(f"CREATE FUNCTION eve_end(int) RETURNS int VOLATILE {raising}"))
        connection.execute(text("CREATE AGGREGATE eve_sum(int) (sfunc = int4pl, stype = int, finalfunc = eve_end)"))
        connection.execute(text("CREATE AGGREGATE good_sum(int) (sfunc = int4pl, stype = int, initcond = '0')"))
        connection.execute(text("CREATE FUNCTION shout(singer) RETURNS text STABLE LANGUAGE sql AS 'SELECT $1.name'"))
    try:
        with Database(engine) as database:
            for sql in (
                "SELECT s.eve_row FROM singer s",
                'SELECT (s)."eve_row" FROM singer s',
                "SELECT singer.EVE_ROW FROM singer",
                "SELECT eve_sum(age) FROM singer",
                "SELECT eve_sum(age) OVER () FROM singer",
            ):
                assert database.execute(sql).error_kind == "refused", sql
            assert database.execute("SELECT s.shout FROM singer s WHERE s.id = 1").rows == (("Ann",),)
            assert database.execute("SELECT good_sum(age), sum(age) FROM singer").rows == ((105, 105),)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION eve_row; DROP FUNCTION eve_end CASCADE; DROP FUNCTION shout"))
            connection.execute(text("DROP AGGREGATE good_sum(int)"))
