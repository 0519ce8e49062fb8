"""Async engines hold the same promises: the same answers, deadlines in the database, nothing left running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

import hostile_mysql
import hostile_postgres
import pytest
from hostile_common import RESOURCES
from hostile_setup import fill, fingerprint
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tta_langgraph.sql import Database, execution_feedback
from tta_langgraph.sql.backend import StatementError
from tta_langgraph.sql.checks import Verdict
from tta_langgraph.sql.stop import Stop

DRIVERS = ["postgres+asyncpg", "postgres+psycopg", "mysql+aiomysql", "mysql+asyncmy"]
ENDLESS = {
    "postgres": "SELECT count(*) FROM generate_series(1, 100000000000)",
    "mysql": "SELECT count(*) FROM number a, number b, number c, number d WHERE a.x + b.x + c.x + d.x > -1",
}
CORPUS = {"postgres": hostile_postgres.CORPUS, "mysql": hostile_mysql.CORPUS}
RUNNING = {
    "postgres": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() "
    "AND query LIKE 'FETCH FORWARD%'",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE info LIKE '%FROM number a%' "
    "AND id <> connection_id()",
}


@dataclass
class Served:
    """An async engine, and a plain one to look at the same database from outside."""

    family: str
    engine: AsyncEngine
    outside: Engine

    def running(self) -> int:
        """Statements of ours that the server still works on."""
        with self.outside.connect() as connection:
            return int(connection.execute(text(RUNNING[self.family])).scalar() or 0)


@pytest.fixture(params=DRIVERS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    family, _, driver = request.param.partition("+")
    pytest.importorskip(driver)
    url = str(request.getfixturevalue(f"{family}_url"))
    outside = create_engine(url)
    fill(outside)
    engine = create_async_engine(url.replace("+psycopg", f"+{driver}").replace("+pymysql", f"+{driver}"))
    yield Served(family, engine, outside)
    outside.dispose()


def test_sync_and_async_callers_in_several_loops_get_the_same_rows(served: Served) -> None:
    with Database(served.engine) as database:
        for _ in range(2):
            assert asyncio.run(database.aexecute("SELECT count(*) FROM singer")).rows == ((3,),)
        for sql, rows in {
            "SELECT name FROM singer WHERE id = 1": (("Ann",),),
            "SELECT id, id FROM singer WHERE id = 1": ((1, 1),),
            "SELECT name FROM singer WHERE name LIKE '%nn%' -- '": (("Ann",),),
        }.items():
            for _ in range(7):  # often enough for a driver to keep a prepared statement
                assert database.execute(sql).rows == rows
        missing = database.execute("SELECT nme FROM singer")
        assert missing.error_kind == "schema"
        assert "Did you mean name in singer" in execution_feedback(missing, database)
        assert "singer" in database.schema_prompt()


async def test_many_tasks_share_one_database(served: Served) -> None:
    with Database(served.engine) as database:
        wanted = [f"SELECT count(*) + {i} FROM singer" for i in range(20)]
        results = await asyncio.gather(*(database.aexecute(sql, timeout=60) for sql in wanted))
    assert [result.rows for result in results] == [((3 + i,),) for i in range(20)]


def test_a_deadline_ends_the_statement_on_the_server(served: Served) -> None:
    with Database(served.engine) as database:
        late = database.execute(ENDLESS[served.family], timeout=0.4)
        assert (late.error_kind, late.error) == ("timeout", "stopped at the deadline")
        assert database.execute("SELECT count(*) FROM singer", timeout=10).rows == ((3,),)
    assert served.running() == 0


async def test_cancelling_a_task_ends_its_statement_on_the_server_long_before_the_deadline(served: Served) -> None:
    with Database(served.engine) as database:
        started = time.monotonic()
        task = asyncio.create_task(database.aexecute(ENDLESS[served.family], timeout=200))
        while (
            not served.running() and time.monotonic() - started < 60
        ):  # nothing but the server knows when it has begun
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while served.running() and time.monotonic() - started < 60:
            await asyncio.sleep(0.05)
        assert served.running() == 0
        assert time.monotonic() - started < 60
        assert (await database.aexecute("SELECT count(*) FROM singer", timeout=10)).rows == ((3,),)


def test_long_cells_and_many_rows_are_cut(served: Served) -> None:
    with Database(served.engine, max_cell_bytes=100, max_rows=50) as database:
        long = database.execute("SELECT repeat(name, 90000 + age), 1 FROM singer ORDER BY id DESC", timeout=20)
        assert [row[0][:4] for row in long.rows] == ["CemC", "BobB", "AnnA"]
        assert [len(row[0]) for row in long.rows] == [100, 100, 100]
        many = database.execute("SELECT a.x FROM number a, number b, number c LIMIT 100000000", timeout=20)
        assert (many.n_rows, many.truncated) == (50, True)
    assert served.running() == 0


def test_nothing_of_the_corpus_but_reading_is_executed(served: Served) -> None:
    """A sample of the corpus through all walls, and its writes through the server's alone."""
    corpus = CORPUS[served.family]
    before = fingerprint(served.outside)
    with Database(served.engine) as database:
        backend = database._backend
        assert backend is not None
        for name, statements in corpus.items():
            for sql in statements[:: 5 if name not in RESOURCES else 3]:
                result = database.execute(sql.replace("{dir}", "/nonexistent"), timeout=0.5)
                assert name in RESOURCES or name == "quotes" or result.error, sql  # a quote may make one string of it
                assert len(result.error or "") <= 300
                assert result.seconds < 15, sql[:100]
        for name in ("write", "tree"):
            for sql in corpus[name]:
                try:
                    backend.run(sql, Verdict(), Stop(0.5), database._limits)
                except StatementError:
                    continue
        assert database.execute("SELECT count(*) FROM singer", timeout=10).rows == ((3,),)
    assert fingerprint(served.outside) == before
