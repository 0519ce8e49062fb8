"""How a node works inside an episode: it yields effects, which are performed under the episode's budget.

`BudgetNode` is the base of every node of this package and of users' own; its body is written once, for sync and async
graphs. `tta_langgraph.performer` performs the effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphBubbleUp

from tta_langgraph.budget import Budget, BudgetTracker, merge_budget
from tta_langgraph.effects import Ask, Call, Completion, Effect, Effects, OutOfBudget, Run, Steps
from tta_langgraph.journal_interrupt import anote_interrupt, note_interrupt
from tta_langgraph.ledger import Ledger
from tta_langgraph.performer import Performer
from tta_langgraph.scope import current_ledger, entered, invocation_of, running_config, save_to_state, tracker_in_state
from tta_langgraph.state_fields import state_fields
from tta_langgraph.unlimited import note_unlimited

__all__ = ["Ask", "BudgetNode", "Call", "Completion", "Effect", "Effects", "OutOfBudget", "Run", "Steps"]


class BudgetNode(Runnable[Any, dict[str, Any]]):
    """Base of all nodes: a LangGraph node with one body for sync and async graphs.

    Subclasses are frozen, keyword-only dataclasses that implement `steps`. The node draws on the budget in the
    state it is given, on the running graph's, or on the open `budget_scope`, in this order; without any, it runs
    unlimited and is accounted all the same.

    Example:
        ```python
        @dataclass(frozen=True, kw_only=True)
        class Summarise(BudgetNode):
            model: BaseChatModel

            def steps(self, state):
                [reply] = yield Ask(model=self.model, messages=[("user", f"Summarise: {state['question']}")])
                return {"answer": reply.text}
        ```
    """

    def steps(self, state: Mapping[str, Any]) -> Steps | dict[str, Any]:
        """The node's body: yields effects, returns the state update; one that asks for nothing just returns it."""
        raise NotImplementedError

    # A state is of any kind that LangGraph has; `Any` says so to `add_node`, whose types admit one schema a node else.
    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> dict[str, Any]:
        """Runs the node on a state."""
        state = state_fields(input)
        ledger = _ledger_of(state, type(self).__name__)
        steps, performer = self.steps(state), Performer(ledger)
        try:
            with entered(ledger):
                return self._finish(ledger, performer.drive(steps))
        except GraphBubbleUp:
            note_interrupt(ledger, _at_work(ledger))
            raise

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> dict[str, Any]:
        """Runs the node on a state without blocking the event loop."""
        state = state_fields(input)
        ledger = _ledger_of(state, type(self).__name__)
        steps, performer = self.steps(state), Performer(ledger)
        try:
            with entered(ledger):
                return self._finish(ledger, await performer.adrive(steps))
        except GraphBubbleUp:
            await anote_interrupt(ledger, _at_work(ledger))
            raise

    def __call__(self, state: Any) -> dict[str, Any]:
        """Runs the node on a state, as a plain function would."""
        return self.invoke(state)

    def _finish(self, ledger: Ledger, update: dict[str, Any]) -> dict[str, Any]:
        if tracker_in_state(running_config()) is None:
            # Outside of a graph, or in one that had no budget: hand the account over in the update.
            own = merge_budget(ledger.tracker(), update.get("budget"))
            return {**update, "budget": own}
        save_to_state(ledger)
        return update


def _at_work(ledger: Ledger) -> Mapping[str, Any] | None:
    """Notes that the node was at work until now; the running task's config."""
    config = running_config()
    if ledger.counts_activity:
        ledger.touch(invocation_of(config))
    return config


def _ledger_of(state: Mapping[str, Any], node: str) -> Ledger:
    """The ledger of the budget in the state, in the running graph or in the open scope; else an unlimited one."""
    given = state.get("budget")
    if isinstance(given, Budget | dict | int):
        given = merge_budget(None, given)
    if isinstance(given, BudgetTracker) and given.episode and not given.charges and given.parent is None:
        given = _within(given)
    tracker = given if isinstance(given, BudgetTracker) and given.episode else None
    ledger = current_ledger(tracker)
    if ledger is None:
        note_unlimited(running_config(), node)
        ledger = current_ledger(BudgetTracker.start(None))
        assert ledger is not None
    return ledger


def _within(opened: BudgetTracker) -> BudgetTracker:
    """An account that was just opened, as a part of the running graph's if there is one.

    A branch that is sent on a graph's start carries an account that LangGraph's reducer opened anew from the input, and
    it means the graph's. A branch that is given smaller limits of its own is held to them, and what it spends counts in
    the graph's account all the same.
    """
    running = tracker_in_state(running_config())
    if running is None or running.episode == opened.episode:
        return opened
    return running if running.budget == opened.budget else running.nested(opened.budget)
