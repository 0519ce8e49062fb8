"""Promise 2: nobody waits for what cannot come back before the wait is over."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from tta_langgraph import Budget, EpisodeState, SharedPool, budget_scope, budgeted, scope
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

pytestmark = pytest.mark.timeout(120)

Model = Any


async def sync_beside_async(model: Model) -> None:
    """A sync call on the loop that its async sister needs."""
    sister = asyncio.create_task(model.ainvoke("async"))
    await asyncio.sleep(0.2)
    model.invoke("sync")
    await sister


async def tasks_of_a_reader(model: Model) -> None:
    """A stream goes on only when its reader does, who waits for tasks of his own."""
    async with contextlib.aclosing(model.astream("stream")) as stream:
        await anext(stream)
        await asyncio.gather(model.ainvoke("one"), model.ainvoke("two"))


async def threads_of_a_reader(model: Model) -> None:
    """The same with threads."""
    with contextlib.closing(model.stream("stream")) as stream:
        next(stream)
        await asyncio.to_thread(model.batch, ["one", "two"])


async def graph_of_a_reader(model: Model) -> None:
    """The same with a graph."""
    builder = StateGraph(EpisodeState)
    builder.add_node("call", lambda state: {"answer": model.invoke("inner").text})
    builder.add_edge(START, "call")
    async with contextlib.aclosing(model.astream("stream")) as stream:
        await anext(stream)
        await builder.compile().ainvoke({"question": "?"})


async def readers_of_each_other(model: Model) -> None:
    """Two streams, whose readers each wait for what the other's stream holds."""

    async def read() -> None:
        async with contextlib.aclosing(model.astream("stream")) as stream:
            await anext(stream)
            await asyncio.sleep(0.3)
            await asyncio.gather(model.ainvoke("inner"))

    await asyncio.gather(read(), read())


@pytest.mark.parametrize(
    "work", [sync_beside_async, tasks_of_a_reader, threads_of_a_reader, graph_of_a_reader, readers_of_each_other]
)
async def test_a_caller_does_not_wait_for_what_it_holds(work: Callable[[Model], Coroutine[Any, Any, None]]) -> None:
    with ScriptedServer(script=lambda _: Reply(text="word " * 5, latency=0.3)) as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=400)
        with budget_scope(Budget(tokens=900)) as scope:
            await work(model)
        assert server.total <= scope.tracker.usage.tokens <= 900


async def test_sync_branches_of_an_async_graph_leave_their_async_sister_a_thread() -> None:
    with ScriptedServer(script=lambda _: Reply(text="ok", latency=0.3)) as server:
        model = budgeted(scripted_chat_model(server, counts=False), max_completion_tokens=500)

        async def first(state: EpisodeState) -> None:
            await model.ainvoke("async")

        async def later(state: EpisodeState) -> None:
            await asyncio.sleep(0.1)

        def call(state: EpisodeState) -> None:
            model.invoke("sync")

        branch = StateGraph(EpisodeState)
        branch.add_node("later", later)
        branch.add_node("call", call)
        branch.add_edge(START, "later")
        branch.add_edge("later", "call")
        builder = StateGraph(EpisodeState)
        builder.add_node("first", first)
        builder.add_node("branch", branch.compile())
        builder.add_conditional_edges(
            START, lambda state: [Send("first", {}), *[Send("branch", {"budget": state["budget"]})] * 40]
        )
        builder.add_edge("first", END)
        done = await builder.compile().ainvoke({"question": "?", "budget": Budget(tokens=1_100)})
        assert done["budget"].usage.tokens == server.total
        assert server.requests == 41


async def test_a_call_inside_a_stream_does_not_wait_for_the_stream_s_lease(tmp_path: Path) -> None:
    pool = SharedPool(f"sqlite:///{tmp_path / 'pool.sqlite'}", "user", limit=900)
    with ScriptedServer(script=lambda _: "fine") as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=800, pools=[pool])
        async for _ in model.astream("stream"):
            await asyncio.gather(model.ainvoke("inner"))
        assert pool.spent()["tokens"] == server.total
        assert pool.reserved()["tokens"] == 0


async def test_two_pools_are_taken_in_one_order_whatever_order_they_are_given_in(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'pool.sqlite'}"
    user, team = (SharedPool(url, name, limit=1_000) for name in ("user", "team"))
    with ScriptedServer(script=lambda _: Reply(text="fine", latency=0.05)) as server:
        models = [
            budgeted(scripted_chat_model(server), max_completion_tokens=600, pools=p)
            for p in ([user, team], [team, user])
        ]
        await asyncio.gather(*(model.ainvoke("x") for model in models * 6))
        assert user.spent()["tokens"] == team.spent()["tokens"] == server.total


@pytest.mark.timeout(30)
def test_a_stream_that_nobody_closed_can_be_collected_at_any_moment() -> None:
    """Python closes it wherever it happens to collect it, also while the accounts are being looked up."""
    with ScriptedServer(script=lambda _: Reply("word " * 20, stream_interval=0.01)) as server:
        model = budgeted(scripted_chat_model(server, stream_usage=True))

        def node(state: EpisodeState) -> dict[str, Any]:
            model.invoke("x")
            stream = model.stream("x")
            next(stream)
            forgotten: list[Any] = [stream]
            forgotten.append(forgotten)
            del stream
            with scope._lock:
                del forgotten
                gc.collect()
            return {"answer": "done"}

        graph = StateGraph(EpisodeState).add_node("node", node).add_edge(START, "node").compile()
        state = graph.invoke({"question": "?", "budget": Budget(tokens=5_000)})
    assert state["answer"] == "done"
    assert state["budget"].usage.model_calls == 2
