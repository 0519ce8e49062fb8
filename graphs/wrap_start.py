"""The first node of a wrapped agent: a fresh account, and the question in both places where it may be looked
for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.types import Overwrite

from tta_langgraph.budget import Budget, BudgetTracker
from tta_langgraph.episode import BudgetNode, Steps
from tta_langgraph.errors import GraphError
from tta_langgraph.nodes.reading import State, messages_of
from tta_langgraph.scope import running_config


@dataclass(frozen=True, kw_only=True)
class StartEpisode(BudgetNode):
    """Opens the account of a new question, and clears what a thread's previous question left behind."""

    budget: Budget | None = None
    """Budget of episodes whose input brings none."""

    def steps(self, state: State) -> Steps:
        """Opens the account."""
        update: dict[str, Any] = {"answer": None, "best": None, "result": None, "output": None, "stop_reason": ""}
        for channel, empty in (("candidates", []), ("decisions", []), ("runs", {})):
            if state.get(channel):
                update[channel] = Overwrite(empty)
        fresh = fresh_budget(state.get("budget"), self.budget)
        if fresh is not None:
            update["budget"] = fresh
        messages = messages_of(state)
        if messages and isinstance(messages[-1], HumanMessage):
            update["question"] = str(messages[-1].text)
        elif isinstance(state.get("question"), str) and state["question"].strip():
            update["messages"] = [HumanMessage(state["question"])]
        else:
            raise GraphError(
                "there is no question",
                where="the graph's input",
                remedy="Give it a `question`, or `messages` that end with a human one",
            )
        return update
        yield  # makes this a generator; nothing is asked for


def fresh_budget(given: Any, default: Budget | None) -> Budget | None:
    """The budget to start an episode with; None to go on with the one in the state."""
    if not isinstance(given, BudgetTracker) or not given.episode:
        return default or Budget()
    metadata = (running_config() or {}).get("metadata", {})
    if given.charges and "|" not in str(metadata.get("langgraph_checkpoint_ns", "")):
        # A second question on the same thread, not a graph that this one is a part of.
        return default or given.budget
    return None
