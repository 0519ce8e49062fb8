"""Adapters for the ways in which peers hold a budget, to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage, RemoveMessage

from tta_langgraph.testing.calls import ask, reported_tokens
from tta_langgraph.testing.chat import scripted_chat_model
from tta_langgraph.testing.conformance import Account, Call, Refused
from tta_langgraph.testing.scenarios import CAP, Scenario
from tta_langgraph.testing.server import ScriptedServer
from tta_langgraph.testing.tokens import count_prompt_tokens

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph


@dataclass(frozen=True)
class PostHocCounter:
    """Adds up reported usage after each call, and refuses once the sum has reached the limit."""

    name: str = "post-hoc counter"
    """Name in the table."""

    async def start(self, server: ScriptedServer, scenario: Scenario) -> Account:
        """Opens an episode."""
        return _PostHoc(
            scripted_chat_model(server, max_retries=scenario.client_retries, stream_usage=True), scenario.limit
        )


@dataclass
class _PostHoc:
    model: BaseChatModel
    limit: int
    reported: int = 0

    async def call(self, call: Call) -> str:
        if self.reported >= self.limit:
            raise Refused
        text, tokens = await ask(self.model, call)
        self.reported += tokens
        return text

    async def resume(self) -> Account:
        return self


@dataclass(frozen=True)
class WorstCaseReservation:
    """Reserves prompt and full cap before each call, refuses at once what does not fit, settles what was reported."""

    name: str = "worst-case reservation"
    """Name in the table."""

    async def start(self, server: ScriptedServer, scenario: Scenario) -> Account:
        """Opens an episode."""
        return _WorstCase(
            scripted_chat_model(server, max_retries=scenario.client_retries, stream_usage=True), scenario.limit
        )


@dataclass
class _WorstCase:
    model: BaseChatModel
    limit: int
    reported: int = 0
    held: int = 0

    async def call(self, call: Call) -> str:
        prompt = count_prompt_tokens([{"role": "user", "content": call.prompt}])
        bound = prompt + call.max_tokens * call.n
        if self.reported + self.held + bound > self.limit:
            raise Refused
        self.held += bound
        spent = bound
        try:
            text, tokens = await ask(self.model, call)
            spent = tokens or bound
        finally:
            self.held -= bound
            self.reported += spent
        return text

    async def resume(self) -> Account:
        return self


@dataclass(frozen=True)
class ModelCallLimit:
    """LangChain's `ModelCallLimitMiddleware`, one agent thread per branch.

    It limits calls, not tokens: every branch gets its share of the calls that the budget is worth at the mean size of
    a call, the best that its user can set.
    """

    mean_call: int = 120
    """Tokens of a mean call, prompt included, per sample."""
    name: str = "ModelCallLimitMiddleware"
    """Name in the table."""

    async def start(self, server: ScriptedServer, scenario: Scenario) -> Account:
        """Opens an episode."""
        from langchain.agents import create_agent
        from langchain.agents.middleware import ModelCallLimitMiddleware
        from langgraph.checkpoint.memory import InMemorySaver

        options: dict[str, Any] = {"max_tokens": CAP, "streaming": scenario.stream, "stream_usage": True}
        if scenario.n > 1:
            options["n"] = scenario.n
        model = scripted_chat_model(server, max_retries=scenario.client_retries, **options)
        calls = max(1, round(scenario.limit / scenario.branches / (self.mean_call * scenario.n)))
        limit = ModelCallLimitMiddleware(thread_limit=calls, exit_behavior="error")
        agent = create_agent(model, middleware=[limit], checkpointer=InMemorySaver())
        return _Agents(agent)


@dataclass
class _Agents:
    agent: CompiledStateGraph[Any, Any, Any, Any]
    reported: int = 0

    async def call(self, call: Call) -> str:
        from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError
        from langgraph.graph.message import REMOVE_ALL_MESSAGES

        config: Any = {"configurable": {"thread_id": str(call.branch)}}
        messages: Sequence[BaseMessage] = [RemoveMessage(id=REMOVE_ALL_MESSAGES), HumanMessage(call.prompt)]
        try:
            state = await self.agent.ainvoke({"messages": list(messages)}, config)
        except ModelCallLimitExceededError as error:
            raise Refused from error
        message = state["messages"][-1]
        self.reported += reported_tokens(message)
        return str(message.text)

    async def resume(self) -> Account:
        return self


PEERS = (ModelCallLimit(), PostHocCounter(), WorstCaseReservation())
"""What the benchmark compares with."""
