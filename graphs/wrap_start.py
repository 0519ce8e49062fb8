"""The first node of a wrapped agent: a fresh account, and the question in both places where it may be looked
for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langchain_core.messages import HumanMessage
from langgraph.types import Overwrite

from tta_langgraph.budget import Budget, BudgetTracker
from tta_langgraph.errors import GraphError
from tta_langgraph.nodes import OpenEpisode
from tta_langgraph.nodes.reading import State, messages_of


@dataclass(frozen=True, kw_only=True)
class StartEpisode(OpenEpisode):
    """Opens the account of a new question, and clears what a thread's previous question left behind."""

    def opened(self, state: State) -> dict[str, Any]:
        """The update that begins the episode."""
        update = {"output": None, **super().opened(state)}
        if state.get("runs"):
            update["runs"] = Overwrite({})
        given = state.get("budget")
        if not isinstance(given, BudgetTracker) or not given.episode:
            update.setdefault("budget", Budget())
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
