"""A budget holds for what an agent on an event loop runs in threads, or by sync means on the loop itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from tta_langgraph import Budget
from tta_langgraph.graphs import wrap_agent
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, ToolCall, scripted_chat_model

ASKED: Any = {"messages": [("user", "Work!")]}


def five_tool_calls(request: LoggedRequest) -> Reply:
    done = sum(message["role"] == "tool" for message in request.messages)
    return Reply(tool_calls=[ToolCall(name="work")]) if done < 5 else Reply("done")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=five_tool_calls) as running:
        yield running


async def test_sync_tools_are_not_run_beyond_the_limit(server: ScriptedServer) -> None:
    ran: list[str] = []

    @tool
    def work() -> str:
        """Works."""
        ran.append("work")
        return "done"

    agent = create_agent(scripted_chat_model(server), [work])
    state = await wrap_agent(agent, budget=Budget(executions=2)).compile().ainvoke(ASKED)
    assert len(ran) == state["budget"].usage.executions == 2
    assert state["stop_reason"] == "exhausted: executions"


@pytest.mark.parametrize("where", ["thread", "loop"])
async def test_a_model_that_is_called_by_sync_means_is_not_called_beyond_the_limit(
    where: str, server: ScriptedServer
) -> None:
    model = scripted_chat_model(server)

    def node(state: Any) -> Any:
        return {"messages": [model.invoke(state["messages"][:1]) for _ in range(4)][-1:]}

    async def on_the_loop(state: Any) -> Any:
        return node(state)

    runnable: Runnable[Any, Any] = RunnableLambda(node if where == "thread" else on_the_loop)
    agent = StateGraph(MessagesState).add_node("node", runnable).add_edge(START, "node").compile()
    state = await wrap_agent(agent, budget=Budget(model_calls=3)).compile().ainvoke(ASKED)
    assert server.requests == state["budget"].usage.model_calls == 3
    assert state["budget"].usage.tokens == server.total
    assert state["stop_reason"] == "exhausted: model_calls"
