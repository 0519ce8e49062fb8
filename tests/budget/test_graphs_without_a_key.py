"""Agents and sub-graphs that know nothing of budgets draw on that of the graph which they are a part of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt

from tta_langgraph import Budget, BudgetExceededError, EpisodeState, budgeted
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, ToolCall, scripted_chat_model

CONFIG: Any = {"configurable": {"thread_id": "t"}}
ASK: Any = {"messages": [("user", "Hello.")]}


class Team(EpisodeState, MessagesState):
    """A state that has a budget and messages."""


def looks_something_up_first(request: LoggedRequest) -> Reply:
    looked_up = request.messages[-1]["role"] == "tool"
    return Reply("It is four.") if looked_up else Reply(tool_calls=[ToolCall(name="look_up")])


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(looks_something_up_first) as running:
        yield running


@tool
def look_up() -> str:
    """Looks something up."""
    return "four"


@tool("look_up")
def ask_a_human() -> str:
    """Asks a human."""
    return str(interrupt("What is it?"))


def team(agent: Any, how: str) -> Any:
    builder: Any = StateGraph(Team)
    match how:
        case "as a node":
            builder.add_node("agent", agent)
        case "in a graph that has no budget either":
            builder.add_node("agent", StateGraph(MessagesState).add_node("in", agent).add_edge(START, "in").compile())
        case "called by a node":
            builder.add_node("agent", lambda state: agent.invoke({"messages": state["messages"]}))
        case "called by an async node that has a timeout":

            async def call(state: Team) -> Any:
                return await agent.ainvoke({"messages": state["messages"]})

            builder.add_node("agent", call, timeout=60)
    return builder.add_edge(START, "agent").compile(checkpointer=InMemorySaver(serde=checkpoint_serializer()))


HOWS = ("as a node", "in a graph that has no budget either", "called by a node")


@pytest.mark.parametrize("how", [*HOWS, "called by an async node that has a timeout"])
async def test_an_agent_is_held_to_the_budget_of_the_graph_around_it_and_charged_there(
    server: ScriptedServer, how: str
) -> None:
    graph = team(create_agent(budgeted(scripted_chat_model(server)), [look_up]), how)
    state = await graph.ainvoke({**ASK, "budget": Budget(tokens=2_000)}, CONFIG)
    assert state["messages"][-1].text == "It is four."
    assert state["budget"].usage.tokens == server.total
    assert state["budget"].usage.model_calls == server.requests == 2
    server.reset()
    with pytest.raises(BudgetExceededError):
        await graph.ainvoke({**ASK, "budget": Budget(model_calls=1)}, CONFIG)
    assert server.requests == 1


@pytest.mark.parametrize("how", HOWS)
def test_so_it_is_when_it_goes_on_after_an_interrupt(server: ScriptedServer, how: str) -> None:
    graph = team(create_agent(budgeted(scripted_chat_model(server)), [ask_a_human]), how)
    graph.invoke({**ASK, "budget": Budget(tokens=2_000)}, CONFIG)
    state = graph.invoke(Command(resume="four"), CONFIG)
    assert state["messages"][-1].text == "It is four."
    assert state["budget"].usage.tokens == server.total
    assert state["budget"].usage.model_calls == server.requests == 2
    server.reset()
    graph.invoke({**ASK, "budget": Budget(model_calls=1)}, CONFIG)
    with pytest.raises(BudgetExceededError):
        graph.invoke(Command(resume="four"), CONFIG)
    assert server.requests == 1


def test_agents_that_hand_over_to_each_other_share_it(server: ScriptedServer) -> None:
    model = budgeted(scripted_chat_model(server))

    def agent(after: str) -> Any:
        def node(state: MessagesState) -> Command[Any]:
            said = model.bind_tools([look_up]).invoke(state["messages"])
            return Command(goto=after, graph=Command.PARENT, update={"messages": [("ai", said.text or "on you")]})

        return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()

    builder = StateGraph(Team).add_node("first", agent("second")).add_node("second", agent(END))
    state = builder.add_edge(START, "first").compile().invoke({**ASK, "budget": Budget(tokens=2_000)})
    assert state["budget"].usage.model_calls == server.requests == 2
    assert state["budget"].usage.tokens == server.total


@dataclass
class Part:
    """What a branch is sent, as an object."""

    messages: list[Any]
    budget: Any


@pytest.mark.parametrize("kind", [dict, Part])
async def test_in_a_branch_it_is_held_to_the_branchs_part(server: ScriptedServer, kind: type[Any]) -> None:
    agent = create_agent(budgeted(scripted_chat_model(server)), [look_up])
    refused = []

    async def branch(given: Any) -> dict[str, Any]:
        messages = given["messages"] if kind is dict else given.messages
        try:
            await agent.ainvoke({"messages": messages})
        except BudgetExceededError as error:
            refused.append(error.limit)
        return {}

    def fan_out(state: Team) -> list[Send]:
        parts = [state["budget"].nested(Budget(model_calls=1)) for _ in range(3)]
        return [Send("branch", kind(messages=state["messages"], budget=part)) for part in parts]

    builder: Any = StateGraph(Team)
    builder.add_node("branch", branch).add_conditional_edges(START, fan_out, ["branch"])
    state = await builder.compile().ainvoke({**ASK, "budget": Budget(tokens=5_000)})
    assert refused == [1, 1, 1]
    assert state["budget"].usage.tokens == server.total
    assert server.requests == 3


async def test_a_graph_that_is_no_part_of_it_is_not_charged_to_it(server: ScriptedServer) -> None:
    model = budgeted(scripted_chat_model(server))
    with_budget = team(create_agent(model, [look_up]), "as a node")
    agent = create_agent(model, [look_up])
    without = StateGraph(MessagesState).add_node("agent", agent).add_edge(START, "agent").compile()
    state = await with_budget.ainvoke({**ASK, "budget": Budget(model_calls=2)}, CONFIG)
    await asyncio.gather(without.ainvoke(ASK), agent.ainvoke(ASK))
    assert state["budget"].usage.model_calls == 2
    assert server.requests == 6
