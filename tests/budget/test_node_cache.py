"""LangGraph's node cache replays what a node wrote in another run: its charges are that run's and not this one's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, interrupt

from tta_langgraph import Budget, EpisodeState, budgeted
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.testing import ScriptedServer, scripted_chat_model


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=lambda _: "fine") as running:
        yield running


def cached(server: ScriptedServer) -> Any:
    """Asks in a cached node, once a person has agreed."""
    model = budgeted(scripted_chat_model(server))

    def ask(state: Any) -> dict[str, Any]:
        return {"answer": model.invoke("x").text}

    builder = StateGraph(EpisodeState)
    builder.add_node("pause", lambda state: {"stop_reason": interrupt("go on?")})
    policy: Any = CachePolicy(key_func=lambda state: state["question"])
    builder.add_node("ask", ask, cache_policy=policy)
    builder.add_edge(START, "pause")
    builder.add_edge("pause", "ask")
    return builder.compile(checkpointer=InMemorySaver(serde=checkpoint_serializer()), cache=InMemoryCache())


def start(graph: Any, thread: str, budget: Budget | None) -> None:
    graph.invoke({"question": "?", **({"budget": budget} if budget else {})}, {"configurable": {"thread_id": thread}})


def finish(graph: Any, thread: str) -> Any:
    return graph.invoke(Command(resume="yes"), {"configurable": {"thread_id": thread}})


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_cached_answer_costs_nothing_and_brings_nobody_elses_charges_or_limits(
    server: ScriptedServer, order: str
) -> None:
    graph, limits = cached(server), {"a": Budget(tokens=1_000), "b": Budget(tokens=2_000)}
    for thread, budget in limits.items():
        start(graph, thread, budget)
    paying, hitting = (finish(graph, thread) for thread in order)

    assert server.requests == 1
    assert paying["budget"].usage.tokens == server.total > 0
    assert hitting["answer"] == paying["answer"]
    assert not hitting["budget"].charges
    assert hitting["budget"].budget == limits[order[1]]


def test_a_run_without_a_budget_gets_none_from_the_cache(server: ScriptedServer) -> None:
    graph = cached(server)
    start(graph, "a", Budget(tokens=1_000))
    start(graph, "free", None)
    finish(graph, "a")
    state = finish(graph, "free")

    assert server.requests == 1
    assert state.get("budget") is None or not state["budget"].episode


def test_a_run_that_comes_back_to_what_it_has_cached_is_charged_once(server: ScriptedServer) -> None:
    model = budgeted(scripted_chat_model(server))
    rounds: list[int] = []
    builder = StateGraph(EpisodeState)
    policy: Any = CachePolicy(key_func=lambda state: "same")
    builder.add_node("ask", lambda state: {"answer": model.invoke("x").text}, cache_policy=policy)
    builder.add_node("count", lambda state: rounds.append(1) or {})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "count")
    builder.add_conditional_edges("count", lambda _: "ask" if len(rounds) < 3 else END, ["ask", END])
    state = builder.compile(cache=InMemoryCache()).invoke({"question": "?", "budget": Budget(tokens=1_000)})

    assert len(rounds) == 3
    assert server.requests == len(state["budget"].charges) == 1
