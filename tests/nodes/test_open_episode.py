"""One thread, several questions: each has its own candidates, its own answer and its own account."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Overwrite, interrupt

from tta_langgraph import Budget, EpisodeState, Policy, add_budget_router
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.nodes import Generate, OpenEpisode
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

THREAD: Any = {"configurable": {"thread_id": "1"}}


def conversation(server: ScriptedServer, opening: OpenEpisode) -> Any:
    builder = StateGraph(EpisodeState)
    builder.add_node("open", opening)
    builder.add_node("generate", Generate(model=scripted_chat_model(server)))
    builder.add_edge(START, "open")
    builder.add_edge("open", "generate")
    add_budget_router(builder, after="generate", routes={}, policy=Policy.one_shot())
    return builder.compile(checkpointer=InMemorySaver())


def test_the_next_question_on_a_thread_is_answered_by_its_own_candidates(server: ScriptedServer) -> None:
    server.use(["four", "six"])
    graph = conversation(server, OpenEpisode())
    first = graph.invoke({"question": "2 + 2?", "budget": Budget(tokens=500)}, THREAD)
    second = graph.invoke({"question": "3 + 3?", "budget": Budget(tokens=500)}, THREAD)
    assert (first["answer"], second["answer"]) == ("four", "six")
    assert [candidate.answer for candidate in second["candidates"]] == ["six"]
    assert len(second["decisions"]) == 1


async def test_and_paid_by_its_own_account_with_the_limits_that_the_node_was_given(server: ScriptedServer) -> None:
    server.use(["four", "six"])
    graph = conversation(server, OpenEpisode(budget=Budget(model_calls=1)))
    first = await graph.ainvoke({"question": "2 + 2?"}, THREAD)
    second = await graph.ainvoke({"question": "3 + 3?"}, THREAD)
    assert second["answer"] == "six"
    assert second["budget"].episode != first["budget"].episode
    assert second["budget"].usage.model_calls == second["budget"].budget.model_calls == 1


def test_without_limits_of_its_own_a_question_has_those_of_the_last(server: ScriptedServer) -> None:
    server.use(["four", "six"])
    graph = conversation(server, OpenEpisode())
    graph.invoke({"question": "2 + 2?", "budget": Budget(tokens=40)}, THREAD)
    second = graph.invoke({"question": "3 + 3?"}, THREAD)
    assert second["budget"].budget.tokens == 40
    assert second["budget"].usage.model_calls == 1


@pytest.mark.parametrize("how", ["fails", "waits for a human"])
def test_a_question_that_came_to_nothing_before_its_first_call_leaves_its_clock_to_nobody(
    server: ScriptedServer, how: str
) -> None:
    server.use(["six"])
    trouble = [ValueError("the database is down")]

    def look_up(_: EpisodeState) -> dict[str, Any]:
        if trouble:
            error = trouble.pop()
            if how == "fails":
                raise error
            interrupt("which customer?")
        return {}

    builder = StateGraph(EpisodeState)
    builder.add_node("open", OpenEpisode(budget=Budget(tokens=500, seconds=60)))
    builder.add_node("look_up", look_up)
    builder.add_node("generate", Generate(model=scripted_chat_model(server)))
    builder.add_edge(START, "open").add_edge("open", "look_up").add_edge("look_up", "generate")
    graph = builder.compile(checkpointer=InMemorySaver(serde=checkpoint_serializer()))
    with pytest.raises(ValueError) if how == "fails" else nullcontext():
        graph.invoke({"question": "2 + 2?"}, THREAD)
    first = graph.get_state(THREAD).values["budget"]
    # Asked on a machine whose clock is ahead of this one's.
    graph.update_state(THREAD, {"budget": Overwrite(replace(first, started=first.started + 30))}, as_node="open")
    second = graph.invoke({"question": "3 + 3?"}, THREAD)
    assert second["answer"] == "six"
    assert second["budget"].episode != first.episode


def test_as_the_first_node_of_an_inner_graph_it_leaves_the_account_of_the_outer_one_alone(
    server: ScriptedServer,
) -> None:
    server.use(["four", "six"])
    inner = StateGraph(EpisodeState)
    inner.add_node("open", OpenEpisode())
    inner.add_node("generate", Generate(model=scripted_chat_model(server)))
    inner.add_edge(START, "open")
    inner.add_edge("open", "generate")
    outer = StateGraph(EpisodeState)
    outer.add_node("before", Generate(model=scripted_chat_model(server)))
    outer.add_node("inner", inner.compile())
    outer.add_edge(START, "before")
    outer.add_edge("before", "inner")
    state = outer.compile().invoke({"question": "?", "budget": Budget(tokens=500)})
    assert state["budget"].usage.tokens == server.total
    assert state["budget"].usage.model_calls == 2
