"""Queries and tool calls in the journal: what was interrupted or never run costs nothing, here and elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from tta_langgraph import Budget, BudgetMiddleware, EpisodeState
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.episode import BudgetNode, Call, Run, Steps
from tta_langgraph.graphs import wrap_agent
from tta_langgraph.sql import Database
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, ToolCall, scripted_chat_model

CONFIG: Any = {"configurable": {"thread_id": "t"}}
START_WITH: Any = {"messages": [("user", "Work!")], "question": "Work!", "budget": Budget(executions=3)}
MODES = pytest.mark.parametrize("mode", ["sync", "async"])
Invoke = Callable[[Any], Awaitable[Any]]


def one_tool_call(request: LoggedRequest) -> Reply:
    told = any(message["role"] == "tool" for message in request.messages)
    return Reply("done") if told else Reply(tool_calls=[ToolCall(name="work")])


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=one_tool_call) as running:
        yield running


class Query(BudgetNode):
    """Runs one query and then does the work."""

    def __init__(self, database: Database, work: Callable[[], str]) -> None:
        self.database, self.work = database, work

    def steps(self, state: Mapping[str, Any]) -> Steps:
        yield Run(database=self.database, sql="SELECT 1")
        return {"answer": (yield Call(function=self.work))}


def build(kind: str, server: ScriptedServer, work: Callable[[], str], shop: str, saver: Any) -> Any:
    model = scripted_chat_model(server)
    if kind == "middleware":
        return create_agent(model, [tool(work)], middleware=[BudgetMiddleware()], checkpointer=saver)
    if kind == "wrapped":
        return wrap_agent(create_agent(model, [tool(work)])).compile(checkpointer=saver)
    builder = StateGraph(EpisodeState).add_node("query", Query(Database(shop), work)).add_edge(START, "query")
    return builder.compile(checkpointer=saver)


@asynccontextmanager
async def invoking(mode: str, path: Path, make: Callable[[Any], Any]) -> AsyncIterator[Invoke]:
    """Runs a graph on a checkpointer that a file keeps."""
    file = str(path / "checkpoints.sqlite")
    if mode == "async":
        async with AsyncSqliteSaver.from_conn_string(file) as saver:
            saver.serde = checkpoint_serializer()
            graph = make(saver)

            async def invoke(given: Any) -> Any:
                return await graph.ainvoke(given, CONFIG, durability="sync")

            yield invoke
    else:
        with SqliteSaver.from_conn_string(file) as sync_saver:
            sync_saver.serde = checkpoint_serializer()
            sync_graph = make(sync_saver)

            async def invoke_sync(given: Any) -> Any:
                return await asyncio.to_thread(sync_graph.invoke, given, CONFIG, durability="sync")

            yield invoke_sync


@MODES
@pytest.mark.parametrize("kind", ["middleware", "wrapped"])
async def test_a_tool_that_was_interrupted_pays_once_also_where_another_worker_resumes_it(
    kind: str, mode: str, server: ScriptedServer, shop: str, tmp_path: Path, work_as: Callable[[str], None]
) -> None:
    def work() -> str:
        """Asks a person."""
        return str(interrupt("go on?"))

    async with invoking(mode, tmp_path, lambda saver: build(kind, server, work, shop, saver)) as invoke:
        work_as("A")
        assert "__interrupt__" in await invoke(START_WITH)
        work_as("B")
        state = await invoke(Command(resume="yes"))
    assert state["budget"].usage.executions == 1


@MODES
@pytest.mark.parametrize("kind", ["node", "middleware", "wrapped"])
@pytest.mark.parametrize("resumed_by", ["A", "B"])
async def test_what_cannot_be_written_down_is_not_run_and_costs_nothing(
    kind: str,
    mode: str,
    resumed_by: str,
    server: ScriptedServer,
    shop: str,
    tmp_path: Path,
    work_as: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ran: list[str] = []

    def work() -> str:
        """Works."""
        ran.append("work")
        return "done"

    def check(writes: Any, task: str) -> None:
        if task.endswith(":open") and writes[0][1]["charge"]["usage"]["executions"]:
            raise OSError("the connection broke before the answer came")

    put, aput = SqliteSaver.put_writes, AsyncSqliteSaver.aput_writes

    def broken(self: SqliteSaver, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        put(self, config, writes, task_id, task_path)
        check(writes, task_id)

    async def abroken(self: AsyncSqliteSaver, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        await aput(self, config, writes, task_id, task_path)
        check(writes, task_id)

    async with invoking(mode, tmp_path, lambda saver: build(kind, server, work, shop, saver)) as invoke:
        work_as("A")
        with monkeypatch.context() as patched:
            patched.setattr(SqliteSaver, "put_writes", broken)
            patched.setattr(AsyncSqliteSaver, "aput_writes", abroken)
            with pytest.raises(OSError, match="connection broke"):
                await invoke(START_WITH)
        assert not ran
        work_as(resumed_by)
        state = await invoke(None)
    assert ran == ["work"]
    assert state["budget"].usage.executions == 1
