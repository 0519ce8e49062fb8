"""The second looks that a policy may take, each as a node of its own: what it decided on is what runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tta_langgraph.decision import Policy
from tta_langgraph.decision.second_looks import FORMS, look_of
from tta_langgraph.errors import GraphError
from tta_langgraph.nodes import Judge, Reflect
from tta_langgraph.nodes.reflect import Feedback

ROUNDS = {"none": 1, "judge": 1}
"""Most rounds by feedback, where it is not three: without news from outside, more looks talk answers away."""


def second_looks(
    policy: Policy, shared: Mapping[str, Any], *, feedback: Feedback, judge: Judge, execution: bool
) -> dict[str, Reflect]:
    """A node for each reflection that the policy knows, by the action's name.

    `reflect` is told the graph's own feedback, `reflect:judge` a judge's; `reflect:repair` and `reflect:judge.repair`
    say the form as well. Without a form, it is the one that records of the model speak for.

    Args:
        policy: whose actions.
        shared: what all strategies of the graph have in common.
        feedback: what a plain `reflect` is told.
        judge: the judge of `reflect:judge`.
        execution: whether answers are executed, so that `reflect:execution` has something to tell.

    Raises:
        GraphError: the policy asks for a feedback or form that does not exist here.
    """
    told: dict[str, Feedback] = {"": feedback, "none": "none", "judge": "judge"}
    if execution:
        told["execution"] = "execution"
    found = {}
    for option in policy.options:
        action = option.action
        if action.kind != "reflect":
            continue
        kind, form = look_of(action)
        if kind not in told or (form is None and "." in action.detail):
            raise GraphError(
                f"no second look is called {action.name!r}",
                where=f"policy {policy.name}",
                remedy=f"After `reflect:`, give one of {', '.join([*filter(None, told), *FORMS])}, or both with a dot",
            )
        rounds = ROUNDS.get(kind, 3)
        found[action.name] = Reflect(**shared, feedback=told[kind], form=form, judge=judge, max_rounds=rounds)
    return found


def node_name(action: str) -> str:
    """The name of an action's node; LangGraph keeps some characters to itself."""
    return "".join(letter if letter.isalnum() else "_" for letter in action)
