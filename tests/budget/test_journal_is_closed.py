"""A call that has settled is closed in the journal, whatever else goes wrong: elsewhere it would count as killed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph

from tta_langgraph import Budget, EpisodeState, SharedPool, budgeted
from tta_langgraph.budget import Usage
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.journal import Journal
from tta_langgraph.journal_past import CHANNEL
from tta_langgraph.models.meter import Meter
from tta_langgraph.pool import Lease
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

ADDRESS: Any = {"configurable": {"thread_id": "t"}}
INPUT: Any = {"question": "?", "budget": Budget(tokens=5_000)}


class Slow(SharedPool):
    """Says when it is to be paid, and takes its time."""

    def settle(self, lease: Lease, usage: Usage) -> None:
        self.paying.set()
        assert self.go_on.wait(60)
        super().settle(lease, usage)

    paying, go_on = threading.Event(), threading.Event()


def compiled(node: Callable[..., Any], saver: Any) -> Any:
    builder = StateGraph(EpisodeState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    saver.serde = checkpoint_serializer()
    return builder.compile(checkpointer=saver)


def open_and_closed(writes: Any) -> list[str]:
    return sorted(entry["state"] for _, channel, entry in writes if channel == CHANNEL)


async def entries(saver: AsyncSqliteSaver) -> list[str]:
    """The journal once a call is closed in it, or in the end."""
    found: list[str] = []
    for _ in range(100):
        found = [state async for saved in saver.alist(ADDRESS) for state in open_and_closed(saved.pending_writes)]
        if "closed" in found:
            break
        await asyncio.sleep(0.05)
    return found


async def run_cancelling(
    path: Path, model: Any, ready: Callable[[], Awaitable[Any]], saver_type: type[AsyncSqliteSaver] = AsyncSqliteSaver
) -> list[str]:
    """A node whose one call is cancelled; what the journal says of it."""

    async def node(state: EpisodeState) -> dict[str, Any]:
        call = asyncio.create_task(model.ainvoke("x"))
        await ready()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return {"answer": "cancelled"}

    async with saver_type.from_conn_string(str(path / "checkpoints.sqlite")) as saver:
        state = await compiled(node, saver).ainvoke(INPUT, ADDRESS, durability="sync")
        assert state["answer"] == "cancelled"
        return await entries(saver)


async def test_a_call_cancelled_while_a_pool_is_paid(tmp_path: Path) -> None:
    pool = Slow(f"sqlite:///{tmp_path / 'pool.sqlite'}", "team", limit=100_000)
    with ScriptedServer(script=lambda _: "fine") as server:
        model = budgeted(scripted_chat_model(server), pools=[pool])
        try:
            found = await run_cancelling(tmp_path, model, lambda: asyncio.to_thread(pool.paying.wait, 60))
        finally:
            pool.go_on.set()
    assert found == ["closed", "open"]


async def test_a_call_cancelled_while_it_waits_for_its_server(tmp_path: Path) -> None:
    with ScriptedServer(script=lambda _: Reply(hang=True)) as server:

        async def hanging() -> None:
            while not any(entry.status == "hanging" for entry in server.log):
                await asyncio.sleep(0.01)

        found = await run_cancelling(tmp_path, budgeted(scripted_chat_model(server)), hanging)
    assert found == ["closed", "open"]


def unreadable(*_: Any) -> Any:
    raise RuntimeError("what came back cannot be counted")


def test_a_call_whose_usage_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meter, "consumed", unreadable)
    with (
        ScriptedServer(script=lambda _: "fine") as server,
        SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver,
    ):
        model = budgeted(scripted_chat_model(server))
        graph = compiled(lambda state: model.invoke("x"), saver)
        with pytest.raises(RuntimeError, match="cannot be counted"):
            graph.invoke(INPUT, ADDRESS, durability="sync")
        found = [open_and_closed(saved.pending_writes) for saved in saver.list(ADDRESS)]
    assert ["closed", "open"] in found


async def test_an_async_call_whose_usage_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meter, "consumed", unreadable)
    with ScriptedServer(script=lambda _: "fine") as server:
        model = budgeted(scripted_chat_model(server))

        async def node(state: EpisodeState) -> Any:
            return await model.ainvoke("x")

        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver:
            with pytest.raises(RuntimeError, match="cannot be counted"):
                await compiled(node, saver).ainvoke(INPUT, ADDRESS, durability="sync")
            assert await entries(saver) == ["closed", "open"]


class Interrupted(AsyncSqliteSaver):
    """Says when an open reservation is written, and does not come back from writing it."""

    async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        await super().aput_writes(config, writes, task_id, task_path)
        if task_id.endswith(":open"):
            WRITTEN.set()
            await asyncio.Event().wait()


WRITTEN = asyncio.Event()


async def test_a_call_cancelled_while_it_is_being_opened_costs_nothing_elsewhere(tmp_path: Path) -> None:
    with ScriptedServer(script=lambda _: "fine") as server:
        found = await run_cancelling(tmp_path, budgeted(scripted_chat_model(server)), WRITTEN.wait, Interrupted)
        assert server.requests == 0
    assert found == ["closed", "open"]
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver:
        saver.serde = checkpoint_serializer()
        saved = [each async for each in saver.alist(ADDRESS)]
        episode = saved[0].checkpoint["channel_values"]["budget"].episode
        elsewhere = [charge for each in saved for charge in await Journal(saver, each.config).arecover(episode)]
    assert {charge.usage for charge in elsewhere} == {Usage()}


def test_a_sync_call_stopped_while_it_is_being_opened_costs_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_writes = SqliteSaver.put_writes

    def stopped(self: SqliteSaver, config: Any, writes: Any, task_id: str, task_path: str = "") -> None:
        put_writes(self, config, writes, task_id, task_path)
        if task_id.endswith(":open"):
            raise KeyboardInterrupt

    monkeypatch.setattr(SqliteSaver, "put_writes", stopped)
    with (
        ScriptedServer(script=lambda _: "fine") as server,
        SqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver,
    ):
        model = budgeted(scripted_chat_model(server))
        with pytest.raises(KeyboardInterrupt):
            compiled(lambda state: model.invoke("x"), saver).invoke(INPUT, ADDRESS, durability="sync")
        [found] = [states for saved in saver.list(ADDRESS) if (states := open_and_closed(saved.pending_writes))]
    assert found == ["closed", "open"]
