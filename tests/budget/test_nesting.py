"""Promise 7: whatever is spent inside counts in every budget around it, and in every state, whoever hands it over."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from tta_langgraph import Budget, BudgetMiddleware, BudgetTracker, EpisodeState, budget_scope, budgeted
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.errors import BudgetError, BudgetExceededError
from tta_langgraph.scope import active_scope
from tta_langgraph.testing import ScriptedServer, scripted_chat_model


class Text(TypedDict):
    """A state that knows no budget."""

    text: str


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=lambda _: "word " * 200) as server:
        yield server


@pytest.fixture
def model(server: ScriptedServer) -> Any:
    return budgeted(scripted_chat_model(server), max_completion_tokens=300)


def one(node: Callable[..., Any], schema: type = EpisodeState, **options: Any) -> Any:
    builder = StateGraph(schema)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    return builder.compile(**options)


def asks(model: Any) -> Callable[..., Any]:
    def node(state: Any) -> dict[str, Any]:
        return {"answer": model.invoke("x").text}

    return node


def given_the_tracker(model: Any) -> Callable[..., Any]:
    inner = one(asks(model))
    return lambda state: inner.invoke({"question": "?", "budget": state["budget"]}) and {"answer": "x"}


def given_a_part(model: Any) -> Callable[..., Any]:
    inner = one(asks(model))
    return lambda state: inner.invoke({"question": "?", "budget": state["budget"].nested(250)}) and {"answer": "x"}


def given_its_own(model: Any) -> Callable[..., Any]:
    inner = one(asks(model))
    return lambda state: inner.invoke({"question": "?", "budget": Budget(tokens=5000)}) and {"answer": "x"}


def on_a_thread_of_its_own(model: Any) -> Callable[..., Any]:
    inner = one(asks(model), checkpointer=InMemorySaver(serde=checkpoint_serializer()))
    address = {"configurable": {"thread_id": "inner"}}
    return lambda state: inner.invoke({"question": "?", "budget": 5000}, address) and {"answer": "x"}


def an_agent(model: Any) -> Callable[..., Any]:
    agent = create_agent(model, [], middleware=[BudgetMiddleware(Budget(tokens=5000))])
    return lambda state: agent.invoke({"messages": [("user", "x")]}) and {"answer": "x"}


def without_a_key(model: Any) -> Callable[..., Any]:
    inner = one(lambda state: {"text": model.invoke("q").text}, Text)

    def node(state: Any) -> dict[str, Any]:
        with budget_scope(state["budget"]):
            inner.invoke({"text": "q"})
        return {"answer": "x"}

    return node


INNER = [given_the_tracker, given_a_part, given_its_own, on_a_thread_of_its_own, an_agent, without_a_key]


@pytest.mark.parametrize("inner", INNER)
def test_what_an_inner_graph_spends_is_in_the_outer_state(
    inner: Callable[..., Any], model: Any, server: ScriptedServer
) -> None:
    seen = []

    def after(state: Any) -> dict[str, Any]:
        seen.append(state["budget"].usage.tokens)
        return {}

    builder = StateGraph(EpisodeState)
    builder.add_node("calls", inner(model))
    builder.add_node("after", after)
    builder.add_edge(START, "calls")
    builder.add_edge("calls", "after")
    state = builder.compile().invoke({"question": "?", "budget": Budget(tokens=3000)})

    assert seen == [server.total]
    assert state["budget"].usage.tokens == server.total > 0
    assert state["budget"].budget.tokens == 3000


@pytest.mark.parametrize("inner", [given_its_own, on_a_thread_of_its_own, an_agent])
def test_a_budget_of_its_own_does_not_take_an_inner_graph_out_of_the_outer_one(
    inner: Callable[..., Any], model: Any, server: ScriptedServer
) -> None:
    calls = inner(model)

    def again(state: Any) -> dict[str, Any]:
        for _ in range(4):
            calls(state)
        return {}

    with pytest.raises(BudgetExceededError) if inner is not an_agent else budget_scope(None):
        one(again).invoke({"question": "?", "budget": Budget(tokens=300)})

    assert 0 < server.total <= 300


async def test_async_inner_graphs_in_parallel_are_held_to_the_outer_budget(model: Any, server: ScriptedServer) -> None:
    async def node(state: Any) -> dict[str, Any]:
        return {"answer": (await model.ainvoke("x")).text}

    inner = one(node)

    async def outer(state: Any) -> dict[str, Any]:
        runs = [inner.ainvoke({"question": "?", "budget": Budget(tokens=5000)}) for _ in range(4)]
        await asyncio.gather(*runs, return_exceptions=True)
        return {"answer": "x"}

    state = await one(outer).ainvoke({"question": "?", "budget": Budget(tokens=700)})

    assert state["budget"].usage.tokens == server.total
    assert 0 < server.total <= 700


def test_a_handoff_to_the_parent_graph_does_not_lose_what_was_spent(model: Any, server: ScriptedServer) -> None:
    inner = StateGraph(EpisodeState)
    inner.add_node("ask", asks(model))
    inner.add_node("leave", lambda state: Command(graph=Command.PARENT, goto="after", update={"answer": "h"}))
    inner.add_edge(START, "ask")
    inner.add_edge("ask", "leave")
    builder = StateGraph(EpisodeState)
    builder.add_node("sub", inner.compile(), destinations=("after",))
    builder.add_node("after", lambda state: {})
    builder.add_edge(START, "sub")
    state = builder.compile().invoke({"question": "?", "budget": Budget(tokens=3000)})

    assert state["answer"] == "h"
    assert state["budget"].usage.tokens == server.total > 0


def test_a_sub_graph_shows_as_one_update_however_often_it_calls(model: Any) -> None:
    inner = StateGraph(EpisodeState)
    inner.add_node("first", asks(model))
    inner.add_node("second", asks(model))
    inner.add_edge(START, "first")
    inner.add_edge("first", "second")
    builder = StateGraph(EpisodeState)
    builder.add_node("sub", inner.compile())
    builder.add_edge(START, "sub")
    updates = list(builder.compile().stream({"question": "?", "budget": Budget(tokens=3000)}, stream_mode="updates"))

    assert updates[0]["sub"]["budget"].usage.model_calls == 2


def test_what_a_sub_graph_spent_before_a_pause_is_known_to_another_process(
    model: Any, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = sqlite3.connect(tmp_path / "checkpoints.sqlite", check_same_thread=False)
    graph = pausing(without_a_key(model), model).compile(
        checkpointer=SqliteSaver(connection, serde=checkpoint_serializer())
    )
    address = {"configurable": {"thread_id": "t"}}
    graph.invoke({"question": "?", "budget": Budget(tokens=300)}, address)
    monkeypatch.setattr("tta_langgraph.scope._ledgers", type(_ledgers())())  # what another process knows
    state = graph.invoke(Command(resume="yes"), address)

    assert state["budget"].usage.tokens == server.total <= 300


def _ledgers() -> Any:
    from tta_langgraph import scope

    return scope._ledgers


def pausing(before: Any, model: Any) -> Any:
    builder = StateGraph(EpisodeState)
    builder.add_node("before", before)
    builder.add_node("pause", lambda state: {"answer": interrupt("go on?")})
    builder.add_node("after", asks(model))
    builder.add_edge(START, "before")
    builder.add_edge("before", "pause")
    builder.add_edge("pause", "after")
    return builder


def paused(model: Any) -> Any:
    return pausing(asks(model), model).compile(checkpointer=InMemorySaver(serde=checkpoint_serializer()))


def test_a_scope_around_a_resume_binds_and_the_one_of_the_request_before_is_left_alone(
    model: Any, server: ScriptedServer
) -> None:
    graph, address = paused(model), {"configurable": {"thread_id": "t"}}
    with budget_scope(Budget(tokens=1000)) as first:
        graph.invoke({"question": "?", "budget": Budget(tokens=10_000)}, address)
    before = server.total
    with budget_scope(Budget(tokens=100)) as second:
        state = graph.invoke(Command(resume="yes"), address)

    assert first.tracker.usage.tokens == before
    assert second.tracker.usage.tokens == server.total - before <= 100
    assert state["budget"].usage.tokens == server.total


def test_a_scope_around_a_resume_does_not_pay_for_what_was_spent_before(
    model: Any, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, address = paused(model), {"configurable": {"thread_id": "t"}}
    graph.invoke({"question": "?", "budget": Budget(tokens=10_000)}, address)
    before = server.total
    monkeypatch.setattr("tta_langgraph.scope._ledgers", type(_ledgers())())  # what another process knows
    with budget_scope(Budget(tokens=220)) as scope:
        graph.invoke(Command(resume="yes"), address)

    assert scope.tracker.usage.tokens == server.total - before > 0


def test_a_scope_inside_a_node_counts_in_the_graphs_budget_also_under_a_scope_around_the_graph(
    model: Any, server: ScriptedServer
) -> None:
    def node(state: Any) -> dict[str, Any]:
        with budget_scope(Budget(tokens=2000)):
            model.invoke("x")
        return {"answer": "x"}

    with budget_scope(Budget(tokens=3000)) as around:
        state = one(node).invoke({"question": "?", "budget": Budget(tokens=2500)})

    assert around.tracker.usage.tokens == state["budget"].usage.tokens == server.total > 0


def test_a_sub_graph_that_remembers_is_given_the_budget_of_each_turn(model: Any, server: ScriptedServer) -> None:
    builder = StateGraph(EpisodeState)
    builder.add_node("sub", one(asks(model), checkpointer=True))
    builder.add_edge(START, "sub")
    graph = builder.compile(checkpointer=InMemorySaver(serde=checkpoint_serializer()))
    for _ in range(4):
        server.reset()
        state = graph.invoke({"question": "?", "budget": Budget(tokens=500)}, {"configurable": {"thread_id": "t"}})
        assert state["budget"].usage.tokens == server.total > 200


@pytest.mark.parametrize("opens", [True, False])
@pytest.mark.parametrize("state_knows", [True, False])
def test_a_branch_is_held_to_its_part_of_the_budget_whether_it_opens_it_or_not(
    model: Any, server: ScriptedServer, opens: bool, state_knows: bool
) -> None:
    whole = BudgetTracker.start(Budget(tokens=3000))

    def branch(state: Any) -> dict[str, Any]:
        with budget_scope(state["budget"]) if opens else nullcontext():
            model.invoke("x")
        return {}

    builder = StateGraph(EpisodeState if state_knows else Text)
    builder.add_node("start", lambda state: {})
    builder.add_node("branch", branch)
    builder.add_edge(START, "start")
    builder.add_conditional_edges(
        "start", lambda _: [Send("branch", {"budget": whole.nested(50)}) for _ in range(2)], ["branch"]
    )
    with budget_scope(whole) as scope:
        state = builder.compile().invoke({"question": "?", "budget": whole} if state_knows else {"text": "?"})

    charged = (state["budget"] if state_knows else scope.tracker).charges.values()
    assert [charge.usage.tokens for charge in charged] == [50, 50]
    assert server.total == 100


def test_a_scope_inside_a_branch_and_the_branchs_part_both_bind(model: Any, server: ScriptedServer) -> None:
    def branch(state: Any) -> dict[str, Any]:
        with budget_scope(Budget(tokens=state["limit"])):
            model.invoke("x")
        return {}

    builder = StateGraph(EpisodeState)
    builder.add_node("start", lambda state: {})
    builder.add_node("branch", branch)
    builder.add_edge(START, "start")
    builder.add_conditional_edges(
        "start",
        lambda state: [Send("branch", {"budget": state["budget"].nested(50), "limit": each}) for each in (30, 90)],
        ["branch"],
    )
    state = builder.compile().invoke({"question": "?", "budget": Budget(tokens=3000)})
    assert sorted(charge.usage.tokens for charge in state["budget"].charges.values()) == [30, 50]


def test_a_part_of_the_budget_that_is_written_back_is_refused_and_not_ignored(model: Any) -> None:
    graph = one(lambda state: Command(update={"budget": state["budget"].nested(50)}))
    with pytest.raises(BudgetError, match="budget_scope"):
        graph.invoke({"question": "?", "budget": Budget(tokens=1000)})


async def test_a_scope_in_a_generator_ends_quietly_whoever_drives_it(model: Any) -> None:
    graph = one(asks(model))

    async def generate() -> AsyncIterator[Any]:
        with budget_scope(Budget(tokens=1000)):
            async for update in graph.astream({"question": "?"}, stream_mode="updates"):
                yield update

    driven = generate()
    updates = [await asyncio.create_task(anext(driven))]
    with pytest.raises(StopAsyncIteration):
        await asyncio.create_task(anext(driven))
    first, second = generate(), generate()
    updates += [await anext(first), await anext(second)]
    updates += [update async for update in first] + [update async for update in second]

    assert len(updates) == 3
    assert active_scope() is None


def test_trackers_of_turns_and_of_inner_graphs_merge_alike_in_either_order() -> None:
    from tta_langgraph.budget import merge_budget

    older, newer = BudgetTracker.start(100), BudgetTracker.start(200)
    assert merge_budget(older, newer) == merge_budget(newer, older) == newer


def test_the_wait_before_a_resume_is_not_on_the_active_clock_when_its_first_call_is_planned(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tta_langgraph.ledger import Ledger

    graph, address = paused(model), {"configurable": {"thread_id": "t"}}
    graph.invoke({"question": "?", "budget": Budget(seconds=60, clock="active")}, address)
    now = Ledger._time
    monkeypatch.setattr(Ledger, "_time", lambda ledger: now(ledger) + 3600)  # an hour later
    state = asyncio.run(graph.ainvoke(Command(resume="yes"), address))

    assert state["budget"].usage.model_calls == 2


def test_a_node_that_opens_the_budget_and_calls_nothing_is_on_the_active_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    from tta_langgraph.ledger import Ledger

    passed, now = 0.0, Ledger._time
    monkeypatch.setattr(Ledger, "_time", lambda ledger: now(ledger) + passed)

    def confirm(state: Any) -> dict[str, Any]:
        interrupt("sure?")
        return {}

    def work(state: Any) -> dict[str, Any]:
        nonlocal passed
        with budget_scope(state["budget"]):
            passed += 100
        return {}

    steps: list[Any] = [("before", work), confirm, ("after", work)]
    builder = StateGraph(EpisodeState).add_sequence(steps).add_edge(START, "before")
    graph = builder.compile(checkpointer=InMemorySaver(serde=checkpoint_serializer()))
    address: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke({"question": "?", "budget": Budget(seconds=600, clock="active")}, address)
    passed += 3600
    state = graph.invoke(Command(resume="yes"), address)
    assert 200 <= state["budget"].elapsed < 3600
