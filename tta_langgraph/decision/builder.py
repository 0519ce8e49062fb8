"""One call that puts the decision edge into anybody's graph."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from langgraph.channels import LastValue
from langgraph.graph import END, START, StateGraph

from tta_langgraph.decision.actions import ABSTAIN, STOP, Action
from tta_langgraph.decision.policy import Policy
from tta_langgraph.decision.router import UtilityRouter
from tta_langgraph.decision.rules import OneShot
from tta_langgraph.errors import GraphError, PolicyError

Builder = TypeVar("Builder", bound=StateGraph[Any, Any, Any, Any])

SETS = ("budget", "candidates", "decisions")
"""Channels to which every step adds, so that they need a reducer."""
LATEST = ("best", "answer", "stop_reason")
"""Channels that every step rewrites."""


def add_budget_router(
    builder: Builder,
    *,
    after: str | Sequence[str],
    routes: Mapping[str, str],
    policy: Policy | None = None,
    name: str = "decide",
) -> Builder:
    """Adds a node that decides after every step, with the edges into it and out of it.

    Lead the nodes of `routes` back to one of `after` yourself (say, `reflect` -> `execute`), so that their work is
    looked at before the next decision.

    Args:
        builder: your graph; its state has the channels of `EpisodeState`.
        after: node or nodes after which to decide.
        routes: action name -> node, e.g. `{"reflect": "reflect", "resample": "sample"}`. A node for `resample`
            learns how many are wanted from `planned_samples(state)`. `stop` and `abstain` lead to `END` unless
            they are mapped.
        policy: what decides; actions that have no route are not offered. By default `Policy.default()` with the actions
            of `routes`.
        name: the new node's name.

    Returns:
        The builder.

    Raises:
        GraphError: a node does not exist (add it before), the name is taken, a route is for an action that the policy
            never takes, none of its actions has a route, or the state lacks a channel.

    Example:
        ```python
        builder = add_budget_router(
            builder, after="execute", routes={"reflect": "reflect", "resample": "sample"}, policy=Policy.default("sql")
        )
        graph = builder.compile()
        ```
    """
    sources = (after,) if isinstance(after, str) else tuple(after)
    ends = {STOP: END, ABSTAIN: END} | {key: node for key, node in routes.items() if key in (STOP, ABSTAIN)}
    steps = {key: node for key, node in routes.items() if key not in ends}
    if not sources:
        raise GraphError("no node to decide after", where="add_budget_router(after=...)", remedy="Name at least one")
    if name in builder.nodes:
        raise GraphError(
            f"there is a node {name!r} already", where="add_budget_router(name=...)", remedy="Choose another"
        )
    for argument, names in (("after", sources), ("routes", (*steps.values(), *ends.values()))):
        for node in names:
            if node not in builder.nodes and not (argument == "routes" and node == END):
                raise GraphError(
                    f"there is no node {node!r}",
                    where=f"add_budget_router({argument}=...)",
                    remedy=f"Add it first; known: {', '.join(n for n in builder.nodes if n != START) or 'none'}",
                )
    _check_channels(builder)
    paths: dict[Hashable, str] = {key: node for pairs in (steps, ends) for key, node in pairs.items()}
    router = UtilityRouter(_routed(policy, steps), name=name)
    builder.add_node(name, router)
    for source in sources:
        builder.add_edge(source, name)
    builder.add_conditional_edges(name, router.route, paths)
    return builder


def _check_channels(builder: Builder) -> None:
    """LangGraph silently drops what the schema has no channel for: the candidates, and the budget in the input."""
    missing = [name for name in (*SETS, *LATEST) if name not in builder.channels]
    plain = [name for name in SETS if isinstance(builder.channels.get(name), LastValue)]
    for names, lack in ((missing, "the state has no {}"), (plain, "the state has no reducer for {}")):
        if names:
            raise GraphError(
                lack.format(", ".join(names)),
                where="add_budget_router(builder)",
                remedy="Let the state's schema inherit EpisodeState, or annotate the fields as it does",
            )


def _routed(policy: Policy | None, steps: Mapping[str, str]) -> Policy:
    """The policy without actions that lead nowhere."""
    for key in steps:
        try:
            named = Action.parse(key).name == key
        except PolicyError:
            named = False
        if not named:
            raise GraphError(
                f"{key!r} is not an action's name",
                where="add_budget_router(routes=...)",
                remedy="Use the name without a number: reflect, reflect:judge, resample",
            )
    if policy is None:
        actions = [
            a for key in steps for a in (("resample(1)", "resample(2)", "resample(4)") if key == "resample" else (key,))
        ]
        return Policy.default(actions=actions)
    if policy.rule is not None:
        # A plan takes its action whatever the utility says; without a route the run would fail halfway.
        missing = [option.action.name for option in policy.options if option.action.name not in steps]
        if missing and not isinstance(policy.rule, OneShot):
            raise GraphError(
                f"the strategy {policy.name} takes {missing[0]!r}",
                where="add_budget_router(routes=...)",
                remedy=f"Map {missing[0]!r} to a node",
            )
        return policy
    known = {option.action.name for option in policy.options}
    for key in steps:
        if key not in known:
            raise GraphError(
                f"the policy never takes {key!r}",
                where="add_budget_router(routes=...)",
                remedy=f"It knows {', '.join(sorted(known)) or 'no action'}; add it with policy.with_actions(...)",
            )
    kept = [option for option in policy.options if option.action.name in steps]
    if policy.options and not kept:
        raise GraphError(
            "none of the policy's actions has a route",
            where="add_budget_router(routes=...)",
            remedy=f"Map at least one of {', '.join(sorted(known))} to a node",
        )
    return policy.with_actions(kept)
