"""What `Database` promises around the statement: limits, deadlines, the user's engine, clear errors."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hostile_setup import fill
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from tta_langgraph.errors import DatabaseError
from tta_langgraph.sql import Database, extract_sql

ENDLESS = "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT count(*) FROM a"


def test_a_missing_file_is_an_error_and_is_not_created(tmp_path: Path) -> None:
    path = tmp_path / "absent.sqlite"
    for given in (f"sqlite:///{path}", path, str(path), create_engine(f"sqlite:///{path}")):
        with pytest.raises(DatabaseError, match="no such database file"):
            Database(given)
    assert not path.exists()


def test_an_empty_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.sqlite"
    sqlite3.connect(path).execute("VACUUM").connection.close()
    with pytest.raises(DatabaseError, match="no table"):
        Database(path)


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    path.write_text("these are notes, and more than enough of them to be taken for a header " * 20)
    with pytest.raises(DatabaseError, match="not a database"):
        Database(path)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://me:hunter2@127.0.0.1:1/shop",
        "postgresql+psycopg://me@127.0.0.1:1/shop?password=hunter2&sslpassword=hunter2",
        "postgresql+psycopg://me:hunter2/:@127.0.0.1:1/shop?",
        "postgresql+psycopg://me:hunter2@host:hunter2/shop",
        "postgresql+psycopg://host:hunter2@host/shop",
        "postgresql+psycopg://host:hunter2",
    ],
    ids=["before-the-host", "parameter", "unescaped", "no-port", "no-host", "a-port"],
)
def test_a_server_that_does_not_answer_is_an_error_without_the_password(address: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(DatabaseError) as caught:
        Database(address)
    assert "hunter2" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("given", [42, None, "nonsense://x/y", "postgresql+nodriver://x/y"])
def test_what_is_no_database_is_named(given: object) -> None:
    with pytest.raises(DatabaseError):
        Database(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["max_rows", "max_bytes", "max_cell_bytes", "max_value_bytes", "timeout"])
def test_a_limit_of_nothing_is_refused(sqlite_path: Path, option: str) -> None:
    with pytest.raises(ValueError, match=option):
        Database(sqlite_path, **{option: 0})  # type: ignore[arg-type]


def test_execute_never_raises_for_what_a_model_wrote(sqlite_path: Path) -> None:
    with Database(sqlite_path) as database:
        for sql in (None, 7, b"SELECT 1", ["SELECT 1"], "", "\0", "\ud800", "SELECT '\ud800'", "(" * 10**6):
            result = database.execute(sql)  # type: ignore[arg-type]
            assert not result.ok
            assert result.error


@pytest.mark.parametrize(
    "sql", ["SELECT name FROM singer WHERE", "SELECT name FROM singer WHERE age >", "SELECT f(x y"]
)
def test_an_unfinished_statement_is_called_so_without_the_parsers_own_names(sqlite_path: Path, sql: str) -> None:
    with Database(sqlite_path) as database:
        result = database.execute(sql)
        assert result.error_kind == "syntax"
        assert "class" not in str(result.error)
        assert "incomplete" in str(result.error) or "Expecting" in str(result.error)


def test_rows_are_cut_at_the_limit_and_the_result_says_so(sqlite_path: Path) -> None:
    with Database(sqlite_path, max_rows=10) as database:
        assert database.execute("SELECT x FROM number WHERE x < 10").truncated is False
        cut = database.execute("SELECT x FROM number")
        assert (cut.n_rows, cut.truncated) == (10, True)
        assert str(cut.key).startswith("cut10:")


def test_bytes_are_cut_at_the_limit(sqlite_path: Path) -> None:
    with Database(sqlite_path, max_bytes=10_000) as database:
        result = database.execute("SELECT hex(zeroblob(500)) FROM number")
        assert result.truncated
        assert 0 < sum(len(row[0]) for row in result.rows) <= 10_000


def test_a_long_cell_is_cut(sqlite_path: Path) -> None:
    with Database(sqlite_path, max_cell_bytes=100) as database:
        result = database.execute("SELECT hex(zeroblob(500)), zeroblob(500), 1")
        assert [len(result.rows[0][0]), len(result.rows[0][1]), result.rows[0][2]] == [100, 100, 1]
        assert result.truncated


def test_a_deadline_stops_the_statement_and_the_next_one_runs(sqlite_path: Path) -> None:
    with Database(sqlite_path) as database:
        late = database.execute(ENDLESS, timeout=0.2)
        assert late.error_kind == "timeout"
        assert database.execute("SELECT count(*) FROM singer", timeout=5).rows == ((3,),)


def test_a_deadline_that_is_over_stops_at_once(sqlite_path: Path) -> None:
    with Database(sqlite_path) as database:
        assert database.execute(ENDLESS, timeout=0).error_kind == "timeout"


def test_text_that_is_not_utf8_is_data(sqlite_path: Path) -> None:
    with Database(sqlite_path) as database:
        result = database.execute("SELECT CAST(x'41ff42' AS text)")
        assert result.rows == (("A\ufffdB",),)
        assert database.execute("SELECT 'é'").rows == (("é",),)


def test_excluded_tables_can_be_neither_seen_nor_read(sqlite_path: Path) -> None:
    with Database(sqlite_path, exclude_tables=["con*"]) as database:
        assert database.tables == ("number", "singer")
        assert "concert" not in database.schema_prompt()
        for sql in (
            "SELECT * FROM concert",
            'SELECT * FROM "CONCERT"',
            "SELECT * FROM singer WHERE id IN (SELECT singer_id FROM concert)",
            "WITH concert AS (SELECT 1) SELECT (SELECT count(*) FROM main.concert) FROM concert",
            "SELECT * FROM concert WHERE (WITH concert AS (SELECT 1) SELECT 1)",
            "SELECT sql FROM sqlite_master",
        ):
            assert database.execute(sql).error_kind == "refused", sql
        assert database.execute("WITH concert AS (SELECT 7 AS x) SELECT x FROM concert").rows == ((7,),)


def test_a_filter_that_names_no_table_is_an_error(sqlite_path: Path) -> None:
    with pytest.raises(DatabaseError, match="singers"):
        Database(sqlite_path, include_tables=["singers"])
    with pytest.raises(DatabaseError, match="leave no table"):
        Database(sqlite_path, exclude_tables=["*"])


def test_the_users_engine_can_still_write(sqlite_path: Path) -> None:
    engine = create_engine(f"sqlite:///{sqlite_path}")
    with Database(engine) as database:
        assert database.execute("SELECT 1").ok
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO number VALUES (5000)"))
        assert database.execute("SELECT max(x) FROM number").rows == ((5000,),)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM number"))


def test_a_database_in_memory_is_shared_and_left_writable() -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    fill(engine)
    with Database(engine) as database:
        assert database.execute("SELECT count(*) FROM singer").rows == ((3,),)
        assert database.execute("SELECT count(*) FROM no_table").error_kind == "schema"
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM singer"))
        assert database.execute("SELECT count(*) FROM singer").rows == ((0,),)


def test_functions_and_collations_of_the_users_engine_work(sqlite_path: Path) -> None:
    engine = create_engine(f"sqlite:///{sqlite_path}")

    @event.listens_for(engine, "connect")
    def add(raw: sqlite3.Connection, _: object) -> None:
        raw.create_function("shout", 1, lambda value: str(value).upper() + "!")

    with Database(engine) as database:
        assert database.execute("SELECT shout(name) FROM singer WHERE id = 1").rows == (("ANN!",),)


def test_many_threads_share_one_database(sqlite_path: Path) -> None:
    with Database(sqlite_path) as database:
        results: list[object] = []

        def work() -> None:
            for i in range(20):
                results.append(database.execute(f"SELECT count(*) + {i} - {i} FROM singer").rows)
                results.append(database.execute("SELECT missing FROM singer").error_kind)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results.count(((3,),)) == 160
    assert results.count("schema") == 160


async def test_async_execution_leaves_the_loop_free(sqlite_path: Path) -> None:
    with Database(sqlite_path) as database:
        ticks = 0
        task = asyncio.create_task(database.aexecute(ENDLESS, timeout=0.5))
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.01)
        assert (await task).error_kind == "timeout"
        assert ticks > 5


async def test_cancelling_the_task_cancels_the_statement(sqlite_path: Path) -> None:
    with Database(sqlite_path) as database:
        started = time.monotonic()
        task = asyncio.create_task(database.aexecute(ENDLESS, timeout=120))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 60
        assert (await database.aexecute("SELECT count(*) FROM singer")).rows == ((3,),)


@pytest.mark.parametrize("where", ["file", "memory"])
def test_an_async_engine_serves_sync_and_async_callers_and_several_loops(sqlite_path: Path, where: str) -> None:
    pytest.importorskip("aiosqlite")
    pytest.importorskip("greenlet")
    engine = create_async_engine(f"sqlite+aiosqlite:///{sqlite_path}" if where == "file" else "sqlite+aiosqlite://")

    async def prepare() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE IF NOT EXISTS singer (id int)"))
            await connection.execute(text("DELETE FROM singer"))
            await connection.execute(text("INSERT INTO singer (id) VALUES (1), (2)"))

    asyncio.run(prepare())
    with Database(engine) as database:
        for _ in range(2):
            assert asyncio.run(database.aexecute("SELECT count(*) FROM singer")).rows == ((2,),)
        assert database.execute("SELECT count(*) FROM singer").rows == ((2,),)
        assert database.execute(ENDLESS, timeout=0.2).error_kind == "timeout"
        assert database.execute("DELETE FROM singer").error_kind == "refused"
        assert "singer" in database.schema_prompt()
    asyncio.run(engine.dispose())


def test_an_engine_we_do_not_know_runs_in_the_stricter_mode(sqlite_path: Path) -> None:
    class Strange(SQLiteDialect_pysqlite):
        name = "strange"
        supports_statement_cache = True

    registry.impls["strange"] = lambda: Strange
    engine: Engine = create_engine(f"strange:///{sqlite_path}")
    with Database(engine, max_rows=100) as database:
        assert database.dialect == "strange"
        assert database.execute("SELECT name, count(*), upper(name) FROM singer GROUP BY 1").n_rows == 3
        assert database.execute("SELECT x FROM number").truncated
        assert database.execute("SELECT hex(name) FROM singer").error_kind == "refused"
        assert database.execute("DELETE FROM singer").error_kind == "refused"
        assert database.execute(ENDLESS, timeout=0.3).error_kind == "timeout"
        assert database.execute("SELECT count(*) FROM singer", timeout=5).rows == ((3,),)
    with Database(engine, allow_functions=["hex"]) as database:
        assert database.execute("SELECT hex(name) FROM singer").ok


def test_a_reply_goes_from_text_to_rows(sqlite_path: Path) -> None:
    sql = extract_sql("Of course:\n```sql\nSELECT name FROM singer ORDER BY age LIMIT 1;\n```")
    assert sql is not None
    with Database(sqlite_path) as database:
        result = database.execute(sql)
    assert (result.rows, result.ordered, result.columns) == ((("Bob",),), True, ("name",))


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that nobody may write to, root neither: for the test, root is somebody else."""
    folder = Path(tempfile.mkdtemp(dir="/tmp" if Path("/tmp").is_dir() else None))
    with closing(sqlite3.connect(folder / "a b.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE pet (name text)")
        connection.execute("INSERT INTO pet VALUES ('Rex')")
        connection.commit()
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="folders cannot be made read-only here")
def test_a_file_with_a_write_ahead_log_in_a_read_only_folder_is_opened_by_what_the_error_says(
    read_only_folder: Path,
) -> None:
    path = read_only_folder / "a b.sqlite"
    with pytest.raises(DatabaseError, match="write-ahead log, and its folder is read-only") as caught:
        Database(path)
    address = re.search(r"sqlite:///\S+", caught.value.remedy)
    assert address
    with Database(address[0].rstrip(".")) as database:
        assert database.execute("SELECT name FROM pet").rows == (("Rex",),)
