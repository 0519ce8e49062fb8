"""The nodes inside a graph of somebody else: their state, their reducers, and all that LangGraph does with
nodes."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, RetryPolicy, Send, interrupt

from tta_langgraph import Budget, EpisodeState, Policy, add_budget_router
from tta_langgraph.nodes import Check, Execute, Generate, Judge, Reflect, Sample
from tta_langgraph.parsers import number
from tta_langgraph.sql import Database
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, scripted_chat_model

QUESTION = "How many artists are from Norway?"
GOOD = "```sql\nSELECT count(*) FROM artist WHERE country = 'Norway'\n```"
BAD = "```sql\nSELECT count(*) FROM artists\n```"


class Shop(EpisodeState):
    messages: Annotated[list[AnyMessage], add_messages]
    customer: str
    visits: Annotated[int, operator.add]
    seen: Annotated[list[str], operator.add]


def greet(state: Shop) -> dict[str, Any]:
    return {"visits": 1, "seen": [f"hello {state['customer']}"]}


def shop_graph(server: ScriptedServer, shop: Database) -> Any:
    """greet -> generate -> execute -> decide -> reflect, in a graph whose state has fields of its own."""
    model = scripted_chat_model(server)
    builder = StateGraph(Shop)
    builder.add_node("greet", greet)
    builder.add_node("generate", Generate(model=model, database=shop))
    builder.add_node("execute", Execute(database=shop))
    builder.add_node("reflect", Reflect(model=model, database=shop))
    builder.add_edge(START, "greet")
    builder.add_edge("greet", "generate")
    builder.add_edge("generate", "execute")
    builder.add_edge("reflect", "execute")
    return add_budget_router(
        builder, after="execute", routes={"reflect": "reflect"}, policy=Policy.static("reflect", 1)
    )


def given(**more: Any) -> Any:
    return {"question": QUESTION, "customer": "Eve", "visits": 1, "seen": [], "budget": Budget(tokens=9_000), **more}


def check(state: Any, server: ScriptedServer) -> None:
    assert state["answer"] == "SELECT count(*) FROM artist WHERE country = 'Norway'"
    assert state["result"]["rows"] == [[2]]
    assert (state["customer"], state["visits"], state["seen"]) == ("Eve", 2, ["hello Eve"])
    assert state["budget"].usage.tokens == server.total


def test_fields_and_reducers_of_the_host_are_left_alone(server: ScriptedServer, shop: Database) -> None:
    server.use([BAD, GOOD])
    check(shop_graph(server, shop).compile().invoke(given()), server)


async def test_in_an_async_graph_too(server: ScriptedServer, shop: Database) -> None:
    server.use([BAD, GOOD])
    check(await shop_graph(server, shop).compile().ainvoke(given()), server)


def test_a_state_without_our_channels_takes_what_it_knows(server: ScriptedServer) -> None:
    class Bare(TypedDict, total=False):
        messages: list[AnyMessage]
        answer: str | None

    server.use(["Oslo"])
    builder = StateGraph(Bare)
    builder.add_node("generate", Generate(model=scripted_chat_model(server)))
    builder.add_edge(START, "generate")
    state = builder.compile().invoke({"messages": [HumanMessage("Capital of Norway?")]})
    assert state["answer"] == "Oslo"
    assert set(state) == {"messages", "answer"}


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_branches_sent_in_parallel_are_charged_once_each_and_all_their_candidates_kept(
    server: ScriptedServer, mode: str
) -> None:
    server.use(lambda request: Reply(f"#### {len(request.last_message)}"))
    builder = StateGraph(EpisodeState)
    builder.add_node("generate", Generate(model=scripted_chat_model(server), parse=number))
    builder.add_conditional_edges(
        START, lambda state: [Send("generate", {**state, "question": "?" * n}) for n in (1, 2, 2, 3)]
    )
    builder.add_edge("generate", END)
    graph = builder.compile()
    start: Any = {"question": "?", "budget": Budget(tokens=3_000)}
    state = graph.invoke(start) if mode == "sync" else await graph.ainvoke(start)
    assert sorted(c.answer for c in state["candidates"]) == ["1", "2", "2", "3"]
    assert state["budget"].usage.model_calls == 4
    assert state["budget"].usage.tokens == server.total
    assert state["answer"] in ("1", "2", "3")


def test_a_command_of_the_host_may_lead_to_a_node(server: ScriptedServer, shop: Database) -> None:
    server.use([GOOD])

    def route(state: Shop) -> Command[Any]:
        return Command(goto="reflect", update={"seen": ["routed"]})

    builder = StateGraph(Shop)
    builder.add_node("route", route, destinations=("reflect",))
    builder.add_node("reflect", Reflect(model=scripted_chat_model(server), database=shop))
    builder.add_edge(START, "route")
    state = builder.compile().invoke(given())
    assert state["seen"] == ["routed"]
    assert state["answer"] is not None


def test_streams_of_every_kind_show_the_nodes(server: ScriptedServer, shop: Database) -> None:
    server.use([BAD, GOOD, BAD, GOOD, BAD, GOOD])
    graph = shop_graph(server, shop).compile()
    updates = [next(iter(chunk)) for chunk in graph.stream(given(), stream_mode="updates")]
    assert updates == ["greet", "generate", "execute", "decide", "reflect", "execute", "decide"]
    decisions = [
        event["action"] for event in graph.stream(given(), stream_mode="custom") if event["type"] == "decision"
    ]
    assert decisions == ["reflect", "stop"]
    answers = [chunk.get("answer") for chunk in graph.stream(given(), stream_mode="values")]
    assert answers[-1] == "SELECT count(*) FROM artist WHERE country = 'Norway'"


def test_a_retry_policy_of_the_host_repeats_a_node_and_charges_each_attempt_once(server: ScriptedServer) -> None:
    server.use(["five", "five"])
    failures = iter([True, False])

    def flaky(answer: str) -> bool:
        if next(failures):
            raise ConnectionError("try again")
        return True

    builder = StateGraph(EpisodeState)
    builder.add_node("generate", Generate(model=scripted_chat_model(server)))
    builder.add_node(
        "check", Check(verifier=flaky), retry_policy=RetryPolicy(initial_interval=0.01, retry_on=ConnectionError)
    )
    builder.add_edge(START, "generate")
    builder.add_edge("generate", "check")
    state = builder.compile().invoke({"question": "?", "budget": Budget(tokens=500)})
    assert state["candidates"][0].evidence.checks[0].passed
    assert state["budget"].usage.tokens == server.total
    assert server.requests == 1


async def test_a_node_timeout_of_the_host_strikes_and_the_call_is_cancelled(server: ScriptedServer) -> None:
    server.use([Reply(hang=True)])
    builder = StateGraph(EpisodeState)
    builder.add_node("generate", Generate(model=scripted_chat_model(server)), timeout=0.5)
    builder.add_edge(START, "generate")
    with pytest.raises(Exception, match=r"(?i)time"):
        await builder.compile().ainvoke({"question": "?", "budget": Budget(tokens=500)})
    server.wait_for(lambda s: s.disconnects == 1)


@pytest.mark.parametrize("saver", ["memory", "sqlite"])
def test_an_episode_goes_on_from_its_checkpoint_in_another_graph(
    server: ScriptedServer, shop: Database, saver: str, tmp_path: Path
) -> None:
    server.use([BAD, GOOD])
    config: Any = {"configurable": {"thread_id": "1"}}
    memory = InMemorySaver()

    def saving() -> Any:
        return SqliteSaver.from_conn_string(str(tmp_path / "c.db"))

    def run(checkpointer: Any, start: Any) -> Any:
        graph = shop_graph(server, shop).compile(checkpointer=checkpointer, interrupt_before=["reflect"])
        return graph.invoke(start, config)

    for start in (given(), None):
        if saver == "memory":
            state = run(memory, start)
        else:
            with saving() as checkpointer:
                state = run(checkpointer, start)
    check(state, server)
    assert state["budget"].usage.model_calls == 2


def test_an_interrupt_of_the_host_between_our_nodes_keeps_the_account(server: ScriptedServer, shop: Database) -> None:
    server.use([GOOD])

    def approve(state: EpisodeState) -> dict[str, Any]:
        return {"stop_reason": interrupt(state["answer"])}

    builder = StateGraph(EpisodeState)
    builder.add_node("generate", Generate(model=scripted_chat_model(server), database=shop))
    builder.add_node("approve", approve)
    builder.add_node("execute", Execute(database=shop))
    builder.add_edge(START, "generate")
    builder.add_edge("generate", "approve")
    builder.add_edge("approve", "execute")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    state = graph.invoke({"question": QUESTION, "budget": Budget(tokens=900)}, config)
    assert "Norway" in state["__interrupt__"][0].value
    state = graph.invoke(Command(resume="approved"), config)
    assert state["stop_reason"] == "approved"
    assert state["result"]["rows"] == [[2]]
    assert state["budget"].usage.tokens == server.total


def test_the_routers_number_of_samples_reaches_the_node(server: ScriptedServer) -> None:
    def script(request: LoggedRequest) -> Reply:
        return Reply(texts=["4", "5", "5"])

    server.use(script)
    model = scripted_chat_model(server)
    builder = StateGraph(EpisodeState)
    builder.add_node("generate", Generate(model=model))
    builder.add_node("sample", Sample(model=model))
    builder.add_edge(START, "generate")
    builder.add_edge("sample", "decide")
    add_budget_router(builder, after="generate", routes={"resample": "sample"}, policy=Policy.static("best_of", 4))
    state = builder.compile().invoke({"question": "?"})
    assert [request.n for request in server.log] == [1, 3]
    assert len(state["candidates"]) == 4
    assert state["answer"] == "4"


def test_evaluators_side_by_side_add_their_evidence_to_the_same_candidate(server: ScriptedServer) -> None:
    server.use(["five", "SUCCESS"])
    model = scripted_chat_model(server)
    builder = StateGraph(EpisodeState)
    builder.add_node("generate", Generate(model=model))
    builder.add_node("judge", Judge(model=model))
    builder.add_node("check", Check(verifier=str.isalpha))
    builder.add_edge(START, "generate")
    builder.add_edge("generate", "judge")
    builder.add_edge("generate", "check")
    state = builder.compile().invoke({"question": "?", "budget": Budget(tokens=3_000)})
    [candidate] = state["candidates"]
    assert candidate.evidence.verdicts[0].label == "SUCCESS"
    assert candidate.evidence.checks[0].passed


def test_an_episode_can_be_mixed_with_langgraphs_messages_state(server: ScriptedServer) -> None:
    class Chat(EpisodeState, MessagesState):
        pass

    server.use(["Oslo"])
    builder = StateGraph(Chat)
    builder.add_node("generate", Generate(model=scripted_chat_model(server)))
    builder.add_edge(START, "generate")
    graph = builder.compile()
    assert graph.invoke({"messages": [HumanMessage("Capital of Norway?")]})["answer"] == "Oslo"
    assert "question" in str(graph.get_input_jsonschema())  # what LangGraph Studio asks for
