"""The agent you have, under a budget: run, evaluated, looked at again, run afresh, stopped."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage
from langchain_core.runnables import Runnable
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from tta_langgraph.budget import Budget
from tta_langgraph.decision import Policy, add_budget_router
from tta_langgraph.graphs.wrap_finish import FinishRun
from tta_langgraph.graphs.wrap_inputs import Agent, check_runnable, input_kind
from tta_langgraph.graphs.wrap_review import Review
from tta_langgraph.graphs.wrap_run import RunAgent
from tta_langgraph.graphs.wrap_start import StartEpisode
from tta_langgraph.models.metered import budgeted
from tta_langgraph.nodes import Check, Execute
from tta_langgraph.parsing import Parser, normal_text, whole_reply
from tta_langgraph.sql import Database, extract_sql
from tta_langgraph.state import EpisodeState
from tta_langgraph.verifiers import Verifier

Builder = StateGraph[Any, Any, Any, Any]


class WrappedState(EpisodeState, total=False):
    """State of a wrapped agent; inherit from it to add fields of your own."""

    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation; the chosen run's new messages are added at the end."""
    runs: Annotated[dict[str, Any], operator.or_]
    """What each run returned, by candidate id."""
    output: Any
    """What the chosen run returned."""


def wrap_agent(
    agent: Runnable[Any, Any],
    *,
    evaluator: Verifier | re.Pattern[str] | Runnable[Any, Any] | None = None,
    budget: Budget | Mapping[str, Any] | int | None = None,
    policy: Policy | None = None,
    parse: Parser = whole_reply,
    make_input: Callable[[Any], Any] | None = None,
    read_output: Callable[[Any], str] | None = None,
    max_rounds: int = 2,
    state_schema: type[Any] = WrappedState,
) -> Builder:
    """Puts an agent of yours under a budget, and gives it second looks and fresh runs where they pay.

    The graph runs the agent, has its answer evaluated, and decides: `reflect` (again, with what was found),
    `resample` (afresh), or stop. Without evaluator and policy there is nothing to decide on and the agent
    runs once: the same answer as ever, now with a budget, a deadline and an account. The agent's own model
    and tool calls are charged. Calls of models that were built in with `budgeted(model)` are clamped and
    cancelled at the deadline as well; other models are admitted before and charged after each call.

    Args:
        agent: any runnable or compiled graph that takes messages, a text, or a `question`, and gives an
            answer. It is checkpointed and streamed as a sub-graph; its interrupts reach the caller.
        evaluator: a function, pattern or node that tells good answers from bad; see
            `tta_langgraph.nodes.Check`.
        budget: budget of every episode whose input brings none.
        policy: what decides; without one, an answer that fails the evaluator gets at most `max_rounds` second
            looks.
        parse: finds the answer in the agent's final text.
        make_input: from the state to the agent's input, if its input schema does not say.
        read_output: from the agent's output to its final text, if that is in no usual place.
        max_rounds: most second looks.
        state_schema: a state that inherits from `WrappedState`.

    Returns:
        An uncompiled `StateGraph`: compile it with your own checkpointer and store.

    Raises:
        GraphError: the agent is not compiled or no runnable, or it cannot be told how it takes a question.
        BudgetError: the budget is not valid.

    Example:
        ```python
        from langchain.agents import create_agent
        from tta_langgraph import Budget
        from tta_langgraph.graphs import wrap_agent

        graph = wrap_agent(create_agent(model, tools), evaluator=lambda answer: "EUR" in answer).compile()
        budget = Budget(tokens=20_000, seconds=60)
        state = graph.invoke({"question": "What did we sell in May?", "budget": budget})
        print(state["answer"], state["budget"].usage.tokens, state["stop_reason"])
        ```
    """
    evaluating = evaluator if evaluator is None or isinstance(evaluator, Runnable) else Check(verifier=evaluator)
    return _assembled(
        agent,
        evaluating=evaluating,
        database=None,
        budget=budget,
        policy=policy,
        max_rounds=max_rounds,
        state_schema=state_schema,
        running={"parse": parse, "normalise": normal_text, "make_input": make_input, "read_output": read_output},
    )


def wrap_text_to_sql(
    agent: Runnable[Any, Any],
    *,
    engine: Database | Engine | AsyncEngine | str,
    budget: Budget | Mapping[str, Any] | int | None = None,
    policy: Policy | None = None,
    parse: Parser = extract_sql,
    make_input: Callable[[Any], Any] | None = None,
    read_output: Callable[[Any], str] | None = None,
    max_rounds: int = 3,
    state_schema: type[Any] = WrappedState,
) -> Builder:
    """Puts a text-to-SQL agent of yours under a budget, with the database as evaluator and the rows as the
    answer.

    The query is found in the agent's final text and run, read-only and within the deadline. What came back is
    evidence for the router and feedback for a second look; equal results count as equal answers.

    Args:
        agent: as for `wrap_agent`; its final text holds the query.
        engine: the database: a SQLAlchemy engine or URL, or a `Database` with limits of your own.
        budget: budget of every episode whose input brings none.
        policy: what decides; `Policy.default("sql")` with second looks and fresh runs if not given.
        parse: finds the query in the agent's final text.
        make_input: as for `wrap_agent`.
        read_output: as for `wrap_agent`.
        max_rounds: most second looks.
        state_schema: a state that inherits from `WrappedState`.

    Returns:
        An uncompiled `StateGraph`; the query is in `answer`, its rows in `result`.

    Raises:
        DatabaseError: the database cannot be opened or has no tables.
        GraphError: the agent is not compiled or no runnable, or it cannot be told how it takes a question.
        BudgetError: the budget is not valid.

    Example:
        ```python
        from tta_langgraph.graphs import wrap_text_to_sql

        graph = wrap_text_to_sql(my_sql_agent, engine="postgresql://reader@db/shop", budget={"seconds": 20}).compile()
        print(graph.invoke({"question": "How many customers are there?"})["result"]["rows"])
        ```
    """
    database = engine if isinstance(engine, Database) else Database(engine)
    return _assembled(
        agent,
        evaluating=Execute(database=database),
        database=database,
        budget=budget,
        policy=policy or Policy.default("sql", actions=("reflect", "resample(1)")),
        max_rounds=max_rounds,
        state_schema=state_schema,
        running={"parse": parse, "normalise": None, "make_input": make_input, "read_output": read_output},
    )


def _assembled(
    agent: Agent,
    *,
    evaluating: Runnable[Any, Any] | None,
    database: Database | None,
    budget: Budget | Mapping[str, Any] | int | None,
    policy: Policy | None,
    max_rounds: int,
    state_schema: type[Any],
    running: dict[str, Any],
) -> Builder:
    check_runnable(agent)
    if isinstance(agent, BaseChatModel):
        agent = budgeted(agent)
    if running["make_input"] is None:
        input_kind(agent)  # says now, not in the first episode, if it cannot be told
    rule = policy.selection if policy is not None and policy.selection != "predictor" else "execution_vote"
    shared = {"agent": agent, "max_rounds": max_rounds, "selection": rule, **running}
    offered = {option.action.name for option in policy.options} if policy is not None else {"reflect"}
    looked_at_by = "evaluate" if evaluating is not None else "decide"
    nodes: dict[str, Any] = {
        "open": StartEpisode(budget=budget),
        "agent": RunAgent(**shared),
        "deliver": FinishRun(database=database, selection=rule),
    }
    again: dict[str, str] = {name: name for name in ("reflect", "resample") if name in offered}
    if evaluating is not None:
        nodes["evaluate"] = evaluating
    if evaluating is not None or policy is not None:
        nodes |= {name: RunAgent(**shared, action=name) for name in again}
    builder: Builder = StateGraph(state_schema)
    for name, node in nodes.items():
        builder.add_node(name, node)
    builder.add_edge(START, "open")
    builder.add_edge("open", "agent")
    builder.add_edge("deliver", END)
    if evaluating is None and policy is None:
        builder.add_edge("agent", "deliver")
        return builder
    for name in again:
        builder.add_edge(name, looked_at_by)
    if evaluating is not None:
        builder.add_edge("agent", "evaluate")
    if policy is not None:
        ends = {"stop": "deliver", "abstain": "deliver"}
        after = "agent" if evaluating is None else "evaluate"
        return add_budget_router(builder, after=after, routes={**again, **ends}, policy=policy)
    review: Any = Review(max_rounds=max_rounds, selection=rule)
    builder.add_node("decide", review)
    builder.add_edge("evaluate", "decide")
    builder.add_conditional_edges("decide", Review.route, {"reflect": "reflect", "stop": "deliver"})
    return builder
