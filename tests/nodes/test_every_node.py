"""What holds for every node alike: in somebody else's graph, fanned out, interrupted, resumed, failing, timed out."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from tta_langgraph import Budget, Candidate, EpisodeState
from tta_langgraph.evidence import Evidence, LogprobStats
from tta_langgraph.nodes import Check, Confidence, Escalate, Execute, Generate, Judge, Plan, Reflect, Sample
from tta_langgraph.sql import Database
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, scripted_chat_model

Make = Callable[[Any, Database], Any]
GOOD = "SELECT count(*) FROM artist WHERE country = 'Norway'"
MODELS: dict[str, Make] = {
    "Generate": lambda model, shop: Generate(model=model, database=shop, max_tokens=60),
    "Sample": lambda model, shop: Sample(model=model, database=shop, n=2, max_tokens=60),
    "Reflect": lambda model, shop: Reflect(model=model, database=shop, form="attempt", max_tokens=60),
    "Escalate": lambda model, shop: Escalate(to=model, database=shop, max_tokens=60),
    "Plan": lambda model, shop: Plan(model=model, database=shop, max_tokens=60),
    "Judge": lambda model, shop: Judge(model=model, database=shop, max_tokens=60),
}
"""Nodes that ask a model."""
NODES: dict[str, Make] = {
    **MODELS,
    "Execute": lambda model, shop: Execute(database=shop),
    "Check": lambda model, shop: Check(verifier=str.isascii),
    "Confidence": lambda model, shop: Confidence(),
}
MADE = Candidate(
    id="made",
    text="SELECT 1",
    answer="SELECT 1",
    evidence=Evidence(logprobs=LogprobStats(mean=math.log(0.5), tail=-1.0, minimum=-2.0)),
)
LONGEST: dict[str, Any] = {"Generate": {"max_tokens": 5_000}}
USELESS = {
    "garbage": "%%%",
    "empty": "",
    "truncated": "```sql\nSELECT count(*) FROM artist WHERE " + "country = 'Norway' AND " * 60,
    "refusing": "I'm sorry, but I cannot help with that.",
    "never-ending": "and so on " * 3_000,
}


class Host(EpisodeState):
    customer: str
    visits: Annotated[int, operator.add]
    seen: Annotated[list[str], operator.add]


def replies(request: LoggedRequest) -> Reply:
    if request.messages[0]["content"].startswith("You review"):
        return Reply("CONTINUE\nCRITIQUE: It counts one.")
    return Reply(texts=[f"```sql\n{GOOD}\n```"] * request.n)


def around(node: Any, *, wait: bool = False) -> StateGraph[Any, Any, Any, Any]:
    """A host's graph: a step of its own before our node and, if asked for, a person after it."""

    def greet(state: Host) -> dict[str, Any]:
        return {"visits": 1, "seen": [f"hello {state['customer']}"]}

    def ask(state: Host) -> dict[str, Any]:
        return {"seen": [interrupt("go on?")]}

    builder = StateGraph(Host)
    builder.add_node("greet", greet)
    builder.add_node("node", node)
    builder.add_edge(START, "greet")
    builder.add_edge("greet", "node")
    if wait:
        builder.add_node("ask", ask)
        builder.add_edge("node", "ask")
    return builder


def given(**more: Any) -> Any:
    asked = {"question": "How many artists are from Norway?", "customer": "Eve", "visits": 1, "seen": []}
    return {**asked, "candidates": [MADE], "budget": Budget(tokens=20_000, executions=20), **more}


def check(state: Any, server: ScriptedServer) -> None:
    assert (state["customer"], state["visits"], state["seen"][0]) == ("Eve", 2, "hello Eve")
    assert "made" in [c.id for c in state["candidates"]]
    assert state["answer"] is not None
    assert state["budget"].usage.tokens == server.total
    assert state["budget"].usage.model_calls == server.requests


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("name", NODES)
async def test_it_works_between_fields_and_reducers_it_does_not_know(
    server: ScriptedServer, shop: Database, name: str, mode: str
) -> None:
    server.use(replies)
    graph = around(NODES[name](scripted_chat_model(server), shop)).compile()
    check(graph.invoke(given()) if mode == "sync" else await graph.ainvoke(given()), server)
    assert (server.requests > 0) is (name in MODELS)


@pytest.mark.parametrize("name", NODES)
def test_it_is_kept_by_a_checkpointer_while_a_person_is_asked(
    server: ScriptedServer, shop: Database, name: str, tmp_path: Path
) -> None:
    server.use(replies)
    config: Any = {"configurable": {"thread_id": "1"}}
    for step in (given(), Command(resume="yes")):
        with SqliteSaver.from_conn_string(str(tmp_path / "c.db")) as saver:
            built = around(NODES[name](scripted_chat_model(server), shop), wait=True)
            state = built.compile(checkpointer=saver).invoke(step, config)
    check(state, server)
    assert state["seen"] == ["hello Eve", "yes"]


@pytest.mark.parametrize("name", NODES)
def test_branches_of_a_fan_out_share_one_account(server: ScriptedServer, shop: Database, name: str) -> None:
    server.use(replies)
    builder = StateGraph(Host)
    builder.add_node("node", NODES[name](scripted_chat_model(server), shop))

    def fan(state: Host) -> list[Send]:
        return [Send("node", {**state, "candidates": [replace(MADE, id=f"made {i}")]}) for i in range(3)]

    builder.add_conditional_edges(START, fan, ["node"])
    builder.add_edge("node", END)
    state = builder.compile().invoke(given(candidates=[replace(MADE, id=f"made {i}") for i in range(3)]))
    assert state["budget"].usage.tokens == server.total
    assert state["budget"].usage.model_calls == server.requests
    if name in ("Execute", "Reflect"):
        assert state["budget"].usage.executions == 3
    if name in ("Check", "Confidence"):
        assert [len(c.evidence.checks) for c in state["candidates"]] == [1, 1, 1]


@pytest.mark.parametrize("name", ["Generate", "Execute"])
def test_a_branch_is_held_to_its_own_smaller_budget_and_counts_in_the_whole(
    server: ScriptedServer, shop: Database, name: str
) -> None:
    server.use(lambda _: Reply("and so on " * 500))
    small = Budget(tokens=400, executions=1)
    pool = [replace(MADE, id=str(i), answer=f"SELECT {i}") for i in range(3)]
    builder = StateGraph(Host)
    builder.add_node("node", replace(NODES[name](scripted_chat_model(server), shop), **LONGEST.get(name, {})))
    builder.add_conditional_edges(START, lambda state: [Send("node", {**state, "budget": small})] * 2, ["node"])
    state = builder.compile().invoke(given(candidates=pool))
    usage = state["budget"].usage
    assert usage.tokens == server.total
    if name == "Generate":
        assert server.requests == 2
        assert all(request.tokens <= 400 for request in server.log)
    else:
        assert usage.executions == 2, "one in each branch, though there are three queries"
    assert state["budget"].budget.tokens == 20_000


@pytest.mark.parametrize("name", NODES)
def test_a_command_may_lead_to_it_and_its_update_is_streamed(server: ScriptedServer, shop: Database, name: str) -> None:
    server.use(replies)
    builder = StateGraph(Host)
    builder.add_node("route", lambda state: Command(goto="node", update={"seen": ["routed"]}), destinations=("node",))
    builder.add_node("node", NODES[name](scripted_chat_model(server), shop))
    builder.add_edge(START, "route")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    updates = list(graph.stream(given(), config, stream_mode="updates"))
    assert [next(iter(chunk)) for chunk in updates] == ["route", "node"]
    assert graph.get_state(config).values["seen"] == ["routed"]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("kind", USELESS)
@pytest.mark.parametrize("name", MODELS)
async def test_useless_replies_are_charged_and_take_nothing_away(
    server: ScriptedServer, shop: Database, name: str, kind: str, mode: str
) -> None:
    server.use(lambda request: Reply(texts=[USELESS[kind]] * request.n))
    graph = around(MODELS[name](scripted_chat_model(server), shop)).compile()
    state = graph.invoke(given()) if mode == "sync" else await graph.ainvoke(given())
    check(state, server)
    assert state["answer"] == "SELECT 1"
    assert state["budget"].usage.completion_tokens <= 300 * server.requests, "no reply goes on beyond its cap"


@pytest.mark.parametrize("name", MODELS)
async def test_a_node_timeout_cancels_its_call(server: ScriptedServer, shop: Database, name: str) -> None:
    server.use([Reply(hang=True)])
    builder = StateGraph(Host)
    builder.add_node("node", MODELS[name](scripted_chat_model(server), shop), timeout=1.5)
    builder.add_edge(START, "node")
    with pytest.raises(Exception, match=r"(?i)time"):
        await builder.compile().ainvoke(given())
    server.wait_for(lambda s: s.disconnects == 1)


@pytest.mark.parametrize("name", MODELS)
def test_a_server_that_fails_once_is_asked_again_and_both_are_accounted(
    server: ScriptedServer, shop: Database, name: str
) -> None:
    server.use(lambda request: Reply(status=503) if request.index == 0 else replies(request))
    state = around(MODELS[name](scripted_chat_model(server, max_retries=0), shop)).compile().invoke(given())
    assert state["answer"] is not None
    assert server.requests >= 2
    assert state["budget"].usage.tokens >= server.total


@pytest.mark.parametrize("name", MODELS)
def test_an_exhausted_budget_is_a_reason_and_not_an_error(server: ScriptedServer, shop: Database, name: str) -> None:
    server.use(replies)
    state = around(MODELS[name](scripted_chat_model(server), shop)).compile().invoke(given(budget=Budget(tokens=30)))
    assert state["stop_reason"] == "exhausted: tokens"
    assert server.requests == 0
    assert [c.id for c in state["candidates"]] == ["made"]
