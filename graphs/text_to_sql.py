"""Text-to-SQL under a budget: generate, execute, decide, and again while it is worth it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from langgraph.graph import END, START, StateGraph
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from tta_langgraph.budget import Budget
from tta_langgraph.decision import Policy, add_budget_router
from tta_langgraph.graphs.looks import node_name, second_looks
from tta_langgraph.graphs.opening import Opening
from tta_langgraph.models.metered import budgeted
from tta_langgraph.nodes import Demonstrations, Escalate, Execute, Generate, Judge, Sample
from tta_langgraph.nodes.deliver import Deliver
from tta_langgraph.sql import Database
from tta_langgraph.state import EpisodeState

Builder = StateGraph[Any, Any, Any, Any]


class TextToSQLState(EpisodeState, total=False):
    """State of the text-to-SQL graph; inherit from it to add fields of your own."""

    context: dict[str, float]
    """What is known about the question before the first call: `prompt_tokens`, `question_chars`,
    `prefix_caching`."""


def create_text_to_sql_graph(
    model: BaseChatModel,
    engine: Database | Engine | AsyncEngine | str,
    *,
    budget: Budget | Mapping[str, Any] | int | None = None,
    policy: Policy | None = None,
    opening: int | None = None,
    judge: BaseChatModel | None = None,
    escalate_to: BaseChatModel | None = None,
    demonstrations: Demonstrations | None = None,
    max_tokens: int = 256,
    schema_tokens: int = 2_000,
    temperature: float = 0.8,
    options: Mapping[str, Any] | None = None,
    state_schema: type[Any] = TextToSQLState,
) -> Builder:
    """Builds the graph generate -> execute -> decide -> {reflect | resample | judge | escalate | stop}.

    The best answer so far is in `answer` after every step, its rows in `result`, what was spent in `budget`, and why
    each step was taken in `decisions`. Running out of budget ends the episode with the best answer, unless the
    budget says `on_exhausted="raise"`.

    Args:
        model: any LangChain chat model.
        engine: the database: a SQLAlchemy engine or URL, or a `Database` with limits of your own. Read only.
        budget: budget of every episode whose input brings none.
        policy: what decides; `Policy.default("sql")` if not given.
        opening: answers that the first request draws; more than one are samples that read the prompt once
            together, as many as the budget has room for. What the policy says if not given.
        judge: the model that judges, if the policy judges; the answering model if not given.
        escalate_to: a larger model; without one the policy's `escalate` is not offered.
        demonstrations: a store of solved questions: the most similar ones are shown to `model`, and what `escalate_to`
            answers well is added.
        max_tokens: completion cap per reply.
        schema_tokens: cap of the schema prompt, in tokens.
        temperature: of samples; first answers are greedy.
        options: further sampling options for every call (`seed`, `stop`, `logprobs`, …).
        state_schema: a state that inherits from `TextToSQLState`.

    Returns:
        An uncompiled `StateGraph`: compile it with your own checkpointer and store.

    Raises:
        DatabaseError: the database cannot be opened or has no tables.
        BudgetError: the budget is not valid.

    Example:
        ```python
        from tta_langgraph import Budget
        from tta_langgraph.graphs import create_text_to_sql_graph

        graph = create_text_to_sql_graph(model, "sqlite:///shop.sqlite").compile()
        state = graph.invoke({"question": "How many customers are there?", "budget": Budget(tokens=4_000, seconds=20)})
        print(state["answer"], state["result"]["rows"], state["budget"].remaining.tokens)
        ```
    """
    database = engine if isinstance(engine, Database) else Database(engine)
    policy = (policy or Policy.default("sql")).with_opening(opening)
    shared: dict[str, Any] = {
        "model": budgeted(model),
        "database": database,
        "max_tokens": max_tokens,
        "schema_tokens": schema_tokens,
        "options": dict(options or {}),
        "demonstrations": demonstrations,
        "selection": policy.selection if policy.selection != "predictor" else "execution_vote",
    }
    generate = Generate(**shared, n=policy.opening, temperature=temperature)
    builder: Builder = StateGraph(state_schema)
    start: Any = Opening(first=generate, budget=budget)
    execute: Any = Execute(database=database, selection=shared["selection"])
    deliver: Any = Deliver(database=database)
    first: Any = generate
    builder.add_node("open", start)
    builder.add_node("generate", first)
    builder.add_node("execute", execute)
    builder.add_node("deliver", deliver)

    judging = Judge(model=budgeted(judge or model), database=database)
    steps: dict[str, Any] = {
        "resample": Sample(**shared, temperature=temperature),
        **second_looks(policy, shared, feedback="execution", judge=judging, execution=True),
        "judge": judging,
    }
    if escalate_to is not None:
        larger = {**shared, "model": None, "demonstrations": None}
        steps["escalate"] = Escalate(**larger, to=budgeted(escalate_to), remember=demonstrations)
    wanted = {option.action.name for option in policy.options} or set(steps)
    routes: dict[str, str] = {}
    for action, node in steps.items():
        if action in wanted:
            routes[action] = node_name(action)
            builder.add_node(routes[action], node)
            builder.add_edge(routes[action], "execute")

    builder.add_edge(START, "open")
    builder.add_edge("open", "generate")
    builder.add_edge("generate", "execute")
    builder = add_budget_router(
        builder, after="execute", routes={**routes, "stop": "deliver", "abstain": "deliver"}, policy=policy
    )
    builder.add_edge("deliver", END)
    return builder
