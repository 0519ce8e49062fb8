"""However many episodes are at work at once in a process, each has one account and keeps to its own limits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send

from tta_langgraph import Budget, BudgetExceededError, BudgetTracker, EpisodeState, budget_scope, budgeted, scope
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

MANY = 8


@pytest.fixture(autouse=True)
def few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scope, "KEPT_EPISODES", 2)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=lambda _: "fine") as running:
        yield running


@pytest.mark.parametrize("how", ["node", "graph without a budget", "branch", "scope first"])
async def test_a_budget_holds_however_many_episodes_there_are(server: ScriptedServer, how: str) -> None:
    model, barrier, limit = budgeted(scripted_chat_model(server)), asyncio.Barrier(MANY), Budget(model_calls=1)

    async def ask(_: Any) -> dict[str, Any]:
        for _ in range(3):
            with contextlib.suppress(BudgetExceededError):
                await model.ainvoke("x")
            await barrier.wait()  # all the others have made a call meanwhile
        return {}

    async def ask_in_a_scope_first(state: EpisodeState) -> dict[str, Any]:
        async with budget_scope(Budget(tokens=500)):
            await model.ainvoke("x")
        await barrier.wait()
        return await ask(state)

    builder = StateGraph(EpisodeState)
    given: Any = {"question": "?", "budget": limit}
    match how:
        case "node":
            builder.add_node("ask", ask)
        case "graph without a budget":
            inner = StateGraph(MessagesState).add_node("in", ask).add_edge(START, "in").compile()

            async def call(_: EpisodeState) -> dict[str, Any]:
                await inner.ainvoke({"messages": []})
                return {}

            builder.add_node("ask", call)
        case "branch":
            given["budget"] = Budget(tokens=10_000)
            builder.add_node("ask", ask)
        case "scope first":
            builder.add_node("ask", ask_in_a_scope_first)
    if how == "branch":
        part = lambda state: [Send("ask", {"budget": state["budget"].nested(limit)})]  # noqa: E731
        builder.add_conditional_edges(START, part, ["ask"])
    else:
        builder.add_edge(START, "ask")
    graph = builder.compile()
    states = await asyncio.gather(*(graph.ainvoke(given) for _ in range(MANY)))
    assert server.requests == MANY
    assert [state["budget"].usage.model_calls for state in states] == [1] * MANY


def test_what_has_ended_is_not_kept_forever(server: ScriptedServer) -> None:
    model = budgeted(scripted_chat_model(server))
    builder = StateGraph(EpisodeState).add_node("ask", lambda _: {"answer": model.invoke("x").text})
    graph = builder.add_edge(START, "ask").compile()
    ended: list[BudgetTracker] = []
    for _ in range(MANY):
        ended.append(graph.invoke({"question": "?", "budget": Budget(tokens=500)})["budget"])
    gc.collect()
    assert len([tracker for tracker in ended if tracker.episode in scope._ledgers]) <= 2
