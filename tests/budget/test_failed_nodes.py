"""A node that fails after a paid call runs again when the thread goes on; its answer is not skipped for its charge."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.errors import NodeError
from langgraph.graph import START, StateGraph

from tta_langgraph import Budget, BudgetExceededError, EpisodeState, budgeted
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

CONFIG: Any = {"configurable": {"thread_id": "t"}}
INPUT: Any = {"question": "What is 17 + 4?", "budget": Budget(tokens=5_000)}


class Broken(Exception):
    """What goes wrong in a node, the first time."""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=lambda _: "word " * 20) as running:
        yield running


@pytest.fixture
def fails_once() -> Callable[[], None]:
    left = [Broken("the first time")]

    def fail() -> None:
        if left:
            raise left.pop()

    return fail


def compiled(*nodes: Any, **options: Any) -> Any:
    """A graph of these nodes, side by side, that remembers."""
    builder = StateGraph(EpisodeState)
    for name, node in nodes:
        builder.add_node(name, node, **options)
        builder.add_edge(START, name)
    return builder.compile(checkpointer=InMemorySaver(serde=checkpoint_serializer()))


def gone_on(graph: Any, error: type[Exception] = Broken) -> dict[str, Any]:
    """The state after a run that failed and one that goes on from there."""
    with pytest.raises(error):
        graph.invoke(INPUT, CONFIG)
    state: dict[str, Any] = graph.invoke(None, CONFIG)
    return state


def test_a_node_that_failed_after_its_call_is_run_again(server: ScriptedServer, fails_once: Callable[[], None]) -> None:
    model = budgeted(scripted_chat_model(server))

    def node(state: EpisodeState) -> dict[str, Any]:
        said = model.invoke(state["question"]).text
        fails_once()
        return {"answer": said}

    graph = compiled(("node", node))
    state = gone_on(graph)
    assert state["answer"].startswith("word")
    assert state["budget"].usage.model_calls == server.requests == 2
    assert state["budget"].usage.tokens == server.total


def test_so_is_one_whose_model_was_down(server: ScriptedServer) -> None:
    server.use([Reply(status=503)] * 3 + ["four"])
    model = budgeted(scripted_chat_model(server))
    state = gone_on(compiled(("node", lambda state: {"answer": model.invoke(state["question"]).text})), Exception)
    assert state["answer"] == "four"
    assert state["budget"].usage.model_calls == server.requests == 4
    assert state["budget"].usage.tokens == server.total


def test_the_failed_node_is_shown_as_the_next_and_not_among_the_updates(
    server: ScriptedServer, fails_once: Callable[[], None]
) -> None:
    model = budgeted(scripted_chat_model(server))

    def node(state: EpisodeState) -> dict[str, Any]:
        model.invoke(state["question"])
        fails_once()
        return {"answer": "done"}

    graph, updates = compiled(("node", node)), []
    with pytest.raises(Broken):
        updates.extend(graph.stream(INPUT, CONFIG, stream_mode="updates"))
    assert updates == []
    assert graph.get_state(CONFIG).next == ("node",)


@pytest.mark.parametrize("how", ["node", "called"])
def test_an_inner_graph_that_failed_is_taken_up_again(
    server: ScriptedServer, fails_once: Callable[[], None], how: str
) -> None:
    model = budgeted(scripted_chat_model(server))

    def ask(state: EpisodeState) -> dict[str, Any]:
        return {"answer": model.invoke(state["question"]).text}

    def check(_: EpisodeState) -> dict[str, Any]:
        fails_once()
        return {"stop_reason": "checked"}

    inner = StateGraph(EpisodeState).add_node("ask", ask).add_node("check", check)
    agent = inner.add_edge(START, "ask").add_edge("ask", "check").compile()

    def call(state: EpisodeState) -> dict[str, Any]:
        """Gives it an account of its own, and nothing of it back."""
        found = agent.invoke({"question": state["question"], "budget": Budget(tokens=1_000)})
        return {"stop_reason": found["stop_reason"]}

    builder = StateGraph(EpisodeState).add_node("agent", agent if how == "node" else call).add_node("ask", ask)
    builder.add_edge(START, "agent").add_edge("agent", "ask")
    state = gone_on(builder.compile(checkpointer=InMemorySaver(serde=checkpoint_serializer())))
    assert state["stop_reason"] == "checked"
    assert state["budget"].usage.model_calls == server.requests == 2
    assert state["budget"].usage.tokens == server.total


async def test_a_sister_that_was_cancelled_by_the_failure_is_run_again(
    server: ScriptedServer, fails_once: Callable[[], None]
) -> None:
    model, paid = budgeted(scripted_chat_model(server)), asyncio.Event()

    async def slow(state: EpisodeState) -> dict[str, Any]:
        said = (await model.ainvoke(state["question"])).text
        paid.set()
        await asyncio.sleep(0 if server.requests > 1 else 60)
        return {"answer": said}

    async def broken(_: EpisodeState) -> dict[str, Any]:
        await paid.wait()
        fails_once()
        return {}

    graph = compiled(("slow", slow), ("broken", broken))
    with pytest.raises(Broken):
        await graph.ainvoke(INPUT, CONFIG)
    state = await graph.ainvoke(None, CONFIG)
    assert state["answer"].startswith("word")
    assert state["budget"].usage.tokens == server.total
    assert server.requests == 2


async def test_so_is_a_node_with_a_timeout_that_failed_in_time(
    server: ScriptedServer, fails_once: Callable[[], None]
) -> None:
    model = budgeted(scripted_chat_model(server))

    async def node(state: EpisodeState) -> dict[str, Any]:
        said = (await model.ainvoke(state["question"])).text
        fails_once()
        return {"answer": said}

    async with AsyncSqliteSaver.from_conn_string(":memory:") as saver:
        saver.serde = checkpoint_serializer()
        builder = StateGraph(EpisodeState).add_node("node", node, timeout=60).add_edge(START, "node")
        graph = builder.compile(checkpointer=saver)
        with pytest.raises(Broken):
            await graph.ainvoke(INPUT, CONFIG)
        state = await graph.ainvoke(None, CONFIG)
    assert state["answer"].startswith("word")
    assert state["budget"].usage.tokens == server.total


def test_where_an_error_handler_takes_over_the_charges_stay_in_the_state(server: ScriptedServer) -> None:
    model = budgeted(scripted_chat_model(server))

    def node(state: EpisodeState) -> dict[str, Any]:
        model.invoke(state["question"])
        raise Broken

    def handler(_: EpisodeState, error: NodeError) -> dict[str, Any]:
        return {"answer": f"{error.node} is broken"}

    state = compiled(("node", node), error_handler=handler).invoke(INPUT, CONFIG)
    assert state["answer"] == "node is broken"
    assert state["budget"].usage.tokens == server.total > 0


def test_what_a_failed_node_spent_binds_when_the_thread_goes_on(server: ScriptedServer) -> None:
    model = budgeted(scripted_chat_model(server), max_completion_tokens=20)

    def node(state: EpisodeState) -> dict[str, Any]:
        model.invoke(state["question"])
        raise Broken

    graph = compiled(("node", node))
    given: Any = {**INPUT, "budget": Budget(tokens=200)}
    for _ in range(20):
        with contextlib.suppress(Broken, BudgetExceededError):
            graph.invoke(given, CONFIG)
        given = None
    assert 150 < server.total <= 200
