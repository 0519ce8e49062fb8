"""A deadline holds for waiting too: for a server that never answers, a pool that is used up, a busy connection."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from deaf import Deaf
from hostile_setup import fill
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from tta_langgraph.sql import Database, ExecutionResult

DRIVERS = ("mysql+pymysql", "mysql+aiomysql", "mysql+asyncmy", "postgresql+psycopg", "postgresql+asyncpg")
ENDLESS = "SELECT count(*) FROM number a, number b, number c, number d WHERE a.x + b.x + c.x + d.x > -1"
PATIENCE = 60.0  # seconds for what would otherwise wait as long as the system does


@pytest.fixture(params=DRIVERS)
def proxied(request: pytest.FixtureRequest) -> Iterator[tuple[Deaf, Any]]:
    """A proxy, and an engine with one connection that goes through it."""
    driver: str = request.param
    pytest.importorskip(driver.partition("+")[2])
    url = request.getfixturevalue("mysql_url" if driver.startswith("mysql") else "postgres_url")
    fill(create_engine(url))
    proxy = Deaf(url, driver)
    make = create_engine if driver.endswith(("pymysql", "psycopg")) else create_async_engine
    yield proxy, make(proxy.url, pool_size=1, max_overflow=0)
    proxy.close()


def patiently(database: Database, sql: str, timeout: float) -> ExecutionResult:
    """The result, or a failed test where nothing comes."""
    results: list[ExecutionResult] = []
    asking = threading.Thread(target=lambda: results.append(database.execute(sql, timeout=timeout)), daemon=True)
    asking.start()
    asking.join(PATIENCE)
    assert results, f"no end after {PATIENCE} seconds: {sql}"
    return results[0]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_cancel_that_waits_for_the_server_is_not_waited_for(
    compiled: bool, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg's does before libpq 17; in its compiled form no thread of the process runs meanwhile."""
    psycopg = pytest.importorskip("psycopg")
    called = threading.Event()

    def waits(*_: object, **__: object) -> None:
        called.set()
        threading.Event().wait()

    monkeypatch.setattr(psycopg.capabilities, "has_cancel_safe", lambda: False)
    monkeypatch.setattr(psycopg.pq, "__impl__", "binary" if compiled else "python")
    monkeypatch.setattr(psycopg.Connection, "cancel", waits)
    monkeypatch.setattr(psycopg.Connection, "cancel_safe", waits)
    fill(create_engine(postgres_url))
    proxy = Deaf(postgres_url, "postgresql+psycopg")
    with Database(create_engine(proxy.url)) as database:
        threading.Timer(0.3, lambda: setattr(proxy, "deaf", True)).start()
        assert patiently(database, ENDLESS, 0.8).error_kind == "timeout"
    assert called.is_set() is not compiled
    proxy.close()


def test_a_server_that_stops_answering_is_not_waited_for(proxied: tuple[Deaf, Any]) -> None:
    proxy, engine = proxied
    with Database(engine) as database:
        first = database.execute("SELECT count(*) FROM singer", timeout=10)
        assert first.rows == ((3,),), first.error
        falls_silent = threading.Timer(0.3, lambda: setattr(proxy, "deaf", True))
        falls_silent.start()
        assert patiently(database, ENDLESS, 0.8).error_kind == "timeout"
        falls_silent.join()
        assert patiently(database, "SELECT 1", 0.4).error_kind == "timeout"  # it would not even let us in
        proxy.restart()
        assert patiently(database, "SELECT count(*) FROM singer", 10).rows == ((3,),)


@pytest.mark.parametrize("family", ["postgres", "mysql", "duckdb"])
def test_a_pool_that_is_used_up_is_not_waited_for(family: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if family == "duckdb":
        pytest.importorskip("duckdb_engine")
    url = f"duckdb:///{tmp_path}/s.duckdb" if family == "duckdb" else request.getfixturevalue(f"{family}_url")
    engine = create_engine(url, pool_size=1, max_overflow=0)
    fill(engine)
    with Database(engine) as database:
        with engine.connect():
            assert database.execute("SELECT count(*) FROM singer", timeout=0.3).error_kind == "timeout"
        result = database.execute("SELECT count(*) FROM singer", timeout=10)
        assert result.rows == ((3,),), result.error  # what came too late went back


@pytest.mark.parametrize("family", ["sqlite", "sqlite+aiosqlite"])
def test_the_one_connection_of_a_database_in_memory_is_not_waited_for(family: str) -> None:
    if family.endswith("aiosqlite"):
        pytest.importorskip("aiosqlite")
        engine: Any = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
        given: Any = None
    else:
        given = engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    if given is None:
        import asyncio

        from sqlalchemy import text

        async def filled() -> None:
            async with engine.begin() as connection:
                await connection.execute(text("CREATE TABLE number (x int)"))

        asyncio.run(filled())
        given = engine
    else:
        fill(engine)
    endless = "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    with Database(given) as database:
        busy = threading.Thread(target=database.execute, args=(endless, 5.0))
        busy.start()
        while not database._backend._busy.locked():  # type: ignore[union-attr]
            pass
        assert database.execute("SELECT 1", timeout=0.3).error_kind == "timeout"
        assert busy.is_alive()
        busy.join()
        assert database.execute("SELECT 1", timeout=10).rows == ((1,),)


@contextmanager
def held(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that any thread may use, to hold the file with."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as writer:
        yield writer


@pytest.mark.parametrize("used", [False, True], ids=["first-statement", "later"])
def test_a_file_that_a_writer_holds_is_waited_for_until_the_deadline_only(used: bool, tmp_path: Path) -> None:
    path = tmp_path / "locked.sqlite"
    fill(create_engine(f"sqlite:///{path}"))
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 3_600})
    with (
        Database(engine) as database,
        held(path) as writer,
    ):
        if used:
            database.execute("SELECT 1")
        writer.execute("BEGIN EXCLUSIVE")
        result = patiently(database, "SELECT count(*) FROM singer", 0.2)
        assert result.error_kind == "database"
        assert "locked" in (result.error or "")
        let_go = threading.Timer(0.3, writer.rollback)
        let_go.start()
        assert patiently(database, "SELECT count(*) FROM singer", PATIENCE).rows == ((3,),)
        let_go.join()


async def test_a_cancelled_task_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "locked.sqlite"
    fill(create_engine(f"sqlite:///{path}"))
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 3_600})
    with (
        Database(engine) as database,
        held(path) as writer,
    ):
        writer.execute("BEGIN EXCLUSIVE")
        asking = asyncio.create_task(database.aexecute("SELECT count(*) FROM singer", timeout=3_600))
        await asyncio.sleep(0.2)
        asking.cancel()
        done, _ = await asyncio.wait([asking], timeout=PATIENCE)
        writer.rollback()
        assert done, f"no end after {PATIENCE} seconds"
        assert asking.cancelled()
