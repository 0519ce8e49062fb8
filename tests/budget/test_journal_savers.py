"""A model call inside a node works under every checkpointer, whichever half of it the graph does not use."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from tests.postgres import postgres_url  # noqa: F401 - a fixture
from tta_langgraph import Budget, EpisodeState, budgeted, journal_saver, scope
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

CONFIG: Any = {"configurable": {"thread_id": "t"}}
INPUT: Any = {"question": "?", "budget": Budget(tokens=5_000)}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=lambda _: "fine") as running:
        yield running


def graph_of(node: Callable[..., Any], saver: Any) -> Any:
    builder = StateGraph(EpisodeState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(checkpointer=saver)


def another_process() -> None:
    """Forgets what this process knows of any episode."""
    scope._ledgers.clear()


def sync_saver(path: Path) -> SqliteSaver:
    return SqliteSaver(sqlite3.connect(path / "sync.sqlite", check_same_thread=False))


def gathers_then_asks(server: ScriptedServer) -> Callable[..., Any]:
    """A plain node: two calls on an event loop of its own, a question to the user, then another call."""
    model, asked = budgeted(scripted_chat_model(server)), []

    async def both() -> Any:
        return await asyncio.gather(model.ainvoke("a"), model.ainvoke("b"))

    def node(state: EpisodeState) -> dict[str, Any]:
        if not asked:
            asked.append(asyncio.run(both()))
        interrupt("go on?")
        return {"answer": model.invoke("c").text}

    return node


def test_a_sync_graph_whose_node_gathers_async_calls_works_and_loses_no_charge(
    server: ScriptedServer, tmp_path: Path
) -> None:
    graph = graph_of(gathers_then_asks(server), sync_saver(tmp_path))
    graph.invoke(INPUT, CONFIG, durability="sync")
    another_process()
    state = graph.invoke(Command(resume=True), CONFIG, durability="sync")
    assert state["answer"] == "fine"
    assert server.requests == 3
    assert state["budget"].usage.tokens == server.total


async def test_an_async_graph_whose_plain_node_runs_a_loop_of_its_own_loses_no_charge(
    server: ScriptedServer, tmp_path: Path
) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "async.sqlite")) as saver:
        graph = graph_of(gathers_then_asks(server), saver)
        await graph.ainvoke(INPUT, CONFIG, durability="sync")
        another_process()
        state = await graph.ainvoke(Command(resume=True), CONFIG, durability="sync")
    assert server.requests == 3
    assert state["budget"].usage.tokens == server.total


@pytest.fixture
def warnings_of_the_journal(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], int]]:
    journal_saver._warned.clear()
    with caplog.at_level(logging.WARNING, "tta_langgraph.journal_saver"):
        yield lambda: sum("not in the journal" in record.getMessage() for record in caplog.records)


async def test_a_sync_call_on_the_loop_of_an_async_checkpointer_works_and_says_once_what_is_missing(
    server: ScriptedServer, tmp_path: Path, warnings_of_the_journal: Callable[[], int]
) -> None:
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "async.sqlite")) as saver:
        await works_with_sync_calls(server, saver)
    assert warnings_of_the_journal() == 1


async def test_so_it_does_in_postgresql(
    server: ScriptedServer, request: pytest.FixtureRequest, warnings_of_the_journal: Callable[[], int]
) -> None:
    aio = pytest.importorskip("langgraph.checkpoint.postgres.aio")
    url: str = request.getfixturevalue("postgres_url")
    async with aio.AsyncPostgresSaver.from_conn_string(url.replace("+psycopg", "")) as saver:
        await saver.setup()
        await works_with_sync_calls(server, saver)
    assert warnings_of_the_journal() == 1


async def works_with_sync_calls(server: ScriptedServer, saver: Any) -> None:
    model = budgeted(scripted_chat_model(server))

    async def node(state: EpisodeState) -> dict[str, Any]:
        # `batch` blocks the loop too, while threads make the calls.
        return {"answer": model.invoke("a").text + model.batch(["b", "c"])[0].text}

    state = await graph_of(node, saver).ainvoke(INPUT, {"configurable": {"thread_id": "sync calls"}})
    assert state["answer"] == "finefine"
    assert state["budget"].usage.tokens == server.total


async def test_a_call_that_is_cancelled_while_it_is_written_down_leaves_the_graphs_connection_whole(
    server: ScriptedServer,
    postgres_url: str,  # noqa: F811
) -> None:
    psycopg = pytest.importorskip("psycopg")
    postgres = pytest.importorskip("langgraph.checkpoint.postgres.aio")
    model, url = budgeted(scripted_chat_model(server)), postgres_url.replace("+psycopg", "")
    async with (
        await psycopg.AsyncConnection.connect(url) as other,
        postgres.AsyncPostgresSaver.from_conn_string(url) as saver,
    ):

        async def node(state: EpisodeState) -> dict[str, Any]:
            await other.execute("LOCK TABLE checkpoints IN ACCESS EXCLUSIVE MODE")
            call = asyncio.create_task(model.ainvoke("x"))
            while (await (await other.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")).fetchone()) == (0,):
                await asyncio.sleep(0.01)
            while not call.done():  # LangGraph does so twice in a sub-graph whose sister has failed
                call.cancel()
                await asyncio.sleep(0)
            await other.rollback()
            with pytest.raises(asyncio.CancelledError):
                await call
            return {"answer": (await model.ainvoke("y")).text}

        await saver.setup()
        state = await graph_of(node, saver).ainvoke(INPUT, CONFIG, durability="sync")
    assert state["answer"] == "fine"
    assert state["budget"].usage.tokens == server.total
    assert server.requests == 1
