"""The first step of an episode: a clean slate and an account of its own for the question at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from langgraph.types import Overwrite

from tta_langgraph.budget import Budget, BudgetTracker
from tta_langgraph.episode import BudgetNode, Steps
from tta_langgraph.nodes.reading import State
from tta_langgraph.scope import running_config


@dataclass(frozen=True, kw_only=True)
class OpenEpisode(BudgetNode):
    """Begins the episode of a new question: put it first where a thread is asked more than one.

    A checkpointer keeps what the thread's last question left behind. Without this node its candidates vote on the next
    question, and its account goes on unless the input brings a new `Budget`. Costs nothing.

    Example:
        ```python
        builder.add_node("open", OpenEpisode(budget=Budget(tokens=4_000)))
        builder.add_edge(START, "open")
        builder.add_edge("open", "generate")
        graph = builder.compile(checkpointer=checkpointer)
        ```
    """

    budget: Budget | Mapping[str, Any] | int | None = None
    """Limits of each question whose input brings none; without them, a thread's next question has those of the last."""

    def __post_init__(self) -> None:
        self._default()  # complains when the graph is built, not in its first episode

    def steps(self, state: State) -> Steps | dict[str, Any]:
        """Opens the account."""
        return self.opened(state)

    def opened(self, state: State) -> dict[str, Any]:
        """The update that begins the episode."""
        update: dict[str, Any] = {"answer": None, "best": None, "result": None, "stop_reason": ""}
        # Their reducers only add.
        update |= {channel: Overwrite([]) for channel in ("candidates", "decisions") if state.get(channel)}
        account = _account(state.get("budget"), self._default())
        return update if account is None else {**update, "budget": account}

    def _default(self) -> Budget | None:
        return None if self.budget is None else Budget.coerce(self.budget)


def _account(given: Any, default: Budget | None) -> BudgetTracker | None:
    """The account of this question, marked as in use; None if there is none, or it is that of the graph around."""
    if not isinstance(given, BudgetTracker) or not given.episode:
        return None if default is None else replace(BudgetTracker.start(default), opened=True)
    metadata = (running_config() or {}).get("metadata", {})
    if "|" in str(metadata.get("langgraph_checkpoint_ns", "")):
        return None  # charges were made by the graph that this one is a part of
    if not given.charges and not given.opened:
        return replace(given, opened=True)
    # The account of a question before this one on the same thread, which may have failed before it was charged.
    return replace(BudgetTracker.start(default or given.budget, after=given), opened=True)
