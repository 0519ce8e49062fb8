"""The router as a LangGraph node and edge: decides, records, streams, routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.config import get_stream_writer

from tta_langgraph import events
from tta_langgraph.budget import BudgetTracker
from tta_langgraph.decision.actions import STOP
from tta_langgraph.decision.policy import Policy
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.errors import GraphError
from tta_langgraph.scope import with_surroundings
from tta_langgraph.state import Decision
from tta_langgraph.state_fields import state_fields


class UtilityRouter(Runnable[Any, dict[str, Any]]):
    """Decides after every step whether another one is worth its tokens and seconds.

    As a node it records the decision in the state (`decisions`, `best`, `answer`, and `stop_reason` at the end) and
    streams it as a custom event; `route` is the path function that follows the last decision. `edge` is both in one for
    graphs that want a bare conditional edge: it cannot record, because LangGraph's edges do not write.

    Example:
        ```python
        router = UtilityRouter(policy)
        builder.add_node("decide", router)
        builder.add_edge("execute", "decide")
        builder.add_conditional_edges("decide", router.route, {"reflect": "reflect", "stop": END, "abstain": END})
        ```
    """

    def __init__(self, policy: Policy, *, name: str = "decide") -> None:
        self.policy = policy
        """What decides."""
        self.name = name
        """Name in traces of runs."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **_: Any) -> dict[str, Any]:
        """Decides on a state; returns its update."""
        state = state_fields(input)
        ended = state.get("stop_reason")
        snapshot = moment(state)
        policy = self.policy
        if isinstance(ended, str) and ended.startswith("exhausted"):
            # A node ran out: offering it the same again would go round in circles.
            policy = policy.with_actions(())
        decision = policy.decide(snapshot)
        announce(decision, state.get("budget"))
        best = snapshot.get(decision.candidate)
        update: dict[str, Any] = {"decisions": [decision]}
        if best is not None:
            update |= {"best": best, "answer": best.answer}
        if decision.action in ENDS:
            update["stop_reason"] = ended if policy is not self.policy else decision.action
        return update

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """The same; a decision takes well under a millisecond and waits for nothing."""
        return self.invoke(input, config, **kwargs)

    def __call__(self, state: Any) -> dict[str, Any]:
        """The same, as a plain callable."""
        return self.invoke(state)

    def route(self, state: Any) -> str:
        """Name of the action that was decided last.

        Raises:
            GraphError: there is no decision in the state.
        """
        return last_decision(state).action

    def edge(self, state: Any) -> str:
        """Decides and routes at once, without recording the decision (it is still streamed)."""
        fields = state_fields(state)
        decision = self.policy.decide(moment(fields))
        announce(decision, fields.get("budget"))
        return decision.action


def moment(state: Mapping[str, Any]) -> Snapshot:
    """The present moment, with what the budgets around the graph have left as well."""
    given = state.get("budget")
    if given is None or isinstance(given, BudgetTracker):
        state = {**state, "budget": with_surroundings(given)}
    return Snapshot.of(state)


ENDS = frozenset({STOP, "abstain"})


def last_decision(state: Any) -> Decision:
    """The latest decision of an episode.

    Raises:
        GraphError: there is none.
    """
    decisions = state_fields(state).get("decisions")
    if not decisions:
        raise GraphError(
            "no decision in the state",
            where="route",
            remedy="Run the UtilityRouter as a node first (add_budget_router does), with EpisodeState's channels",
        )
    found: Decision = decisions[-1]
    return found


def planned_samples(state: Any, default: int = 1) -> int:
    """How many samples the last decision asked for; `default` if there is no decision, or not for samples."""
    decisions = state_fields(state).get("decisions")
    if not decisions:
        return default
    return int(decisions[-1].n) if decisions[-1].action.partition(":")[0] == "resample" else default


def announce(decision: Decision, tracker: Any = None) -> None:
    """Streams a decision as a custom event and tells this process's listeners; quiet outside a graph."""
    event = {
        "type": "decision",
        "episode": tracker.episode if isinstance(tracker, BudgetTracker) else "",
        "id": decision.id,
        "step": decision.step,
        "action": decision.action,
        "n": decision.n,
        "reason": decision.reason,
        "candidate": decision.candidate,
        "p_correct": decision.p_correct,
        "predictor": decision.predictor,
        "forecasts": list(decision.forecasts),
        "tokens_left": events.finite(decision.tokens_left),
        "seconds_left": events.finite(decision.seconds_left, 3),
    }
    events.publish(event)
    try:
        writer = get_stream_writer()
    except (RuntimeError, KeyError):  # not inside a run
        return
    writer(event)
