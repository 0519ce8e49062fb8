"""Questions with one right answer (mathematics, classification, translation) under a budget."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable
from langgraph.graph import END, START, StateGraph

from tta_langgraph.budget import Budget
from tta_langgraph.decision import Policy, add_budget_router
from tta_langgraph.graphs.looks import node_name, second_looks
from tta_langgraph.graphs.opening import Opening
from tta_langgraph.models.metered import budgeted
from tta_langgraph.nodes import Check, Demonstrations, Escalate, Generate, Judge, Sample
from tta_langgraph.nodes.deliver import Deliver
from tta_langgraph.nodes.reflect import Feedback
from tta_langgraph.nodes.strategy import Prompt
from tta_langgraph.parsers import final_line
from tta_langgraph.parsing import Normaliser, Parser
from tta_langgraph.state import Candidate, EpisodeState
from tta_langgraph.verifiers import Verifier

Builder = StateGraph[Any, Any, Any, Any]


class ReasoningState(EpisodeState, total=False):
    """State of the reasoning graph; inherit from it to add fields of your own."""

    context: dict[str, float]
    """What is known about the question before the first call: `prompt_tokens`, `question_chars`."""


def create_reasoning_graph(
    model: BaseChatModel,
    *,
    parse: Parser = final_line,
    normalise: Normaliser | None = None,
    instruction: str | None = None,
    prompt: Prompt | None = None,
    evaluator: Verifier | re.Pattern[str] | Runnable[Any, Any] | None = None,
    budget: Budget | Mapping[str, Any] | int | None = None,
    policy: Policy | None = None,
    opening: int | None = None,
    judge: BaseChatModel | None = None,
    escalate_to: BaseChatModel | None = None,
    demonstrations: Demonstrations | None = None,
    max_tokens: int = 512,
    temperature: float = 0.8,
    options: Mapping[str, Any] | None = None,
    state_schema: type[Any] = ReasoningState,
) -> Builder:
    """Builds the graph generate -> (evaluate) -> decide -> {reflect | resample | judge | escalate | stop}.

    Answers are found by `parse` and compared by `normalise`, so that samples vote. The best answer so far is
    in `answer` after every step, what was spent in `budget`, why each step was taken in `decisions`.

    Args:
        model: any LangChain chat model.
        parse: finds the answer in a reply: `boxed`, `number`, `final_line`, `Label(...)` of
            `tta_langgraph.parsers`, or a function of yours.
        normalise: what counts as the same answer; case and spaces are folded if not given.
        instruction: the system message.
        prompt: makes the messages from the state, instead of instruction and question.
        evaluator: a function, pattern or node that tells good answers from bad; its faults are what `reflect`
            tells.
        budget: budget of every episode whose input brings none.
        policy: what decides; if not given, `Policy.default("text")`, which reflects only where there is
            feedback.
        opening: answers that the first request draws; more than one are samples that read the prompt once
            together, as many as the budget has room for. What the policy says if not given.
        judge: the model that judges, if the policy judges; the answering model if not given.
        escalate_to: a larger model; without one the policy's `escalate` is not offered.
        demonstrations: a store of solved questions: the most similar ones are shown to `model`, and what `escalate_to`
            answers well is added.
        max_tokens: completion cap per reply.
        temperature: of samples; first answers are greedy.
        options: further sampling options for every call (`seed`, `stop`, `logprobs`, …).
        state_schema: a state that inherits from `ReasoningState`.

    Returns:
        An uncompiled `StateGraph`: compile it with your own checkpointer and store.

    Raises:
        BudgetError: the budget is not valid.

    Example:
        ```python
        from tta_langgraph import Budget
        from tta_langgraph.graphs import create_reasoning_graph
        from tta_langgraph.parsers import number

        graph = create_reasoning_graph(model, parse=number, instruction="Solve the problem step by step.").compile()
        state = graph.invoke({"question": "How much is 17 * 3?", "budget": Budget(tokens=2_000)})
        print(state["answer"], state["budget"].usage.tokens)
        ```
    """
    samples = ("resample(1)", "resample(2)", "resample(4)")
    if policy is None:
        told = ("reflect",) if evaluator is not None or judge is not None else ()
        policy = Policy.default("text", actions=(*told, *samples))
    policy = policy.with_opening(opening)
    shared: dict[str, Any] = {
        "model": budgeted(model),
        "parse": parse,
        "normalise": normalise,
        "instruction": instruction,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "options": dict(options or {}),
        "demonstrations": demonstrations,
        "selection": policy.selection if policy.selection != "predictor" else "majority",
    }
    first = Generate(**shared, n=policy.opening, temperature=temperature)
    judging = Judge(model=budgeted(judge or model), selection=shared["selection"])
    feedback: Feedback = faults if evaluator is not None else "judge" if judge is not None else "none"
    strategies: dict[str, Any] = {
        "resample": Sample(**shared, temperature=temperature),
        **second_looks(policy, shared, feedback=feedback, judge=judging, execution=False),
        "judge": judging,
    }
    if escalate_to is not None:
        larger = {**shared, "model": None, "demonstrations": None}
        strategies["escalate"] = Escalate(**larger, to=budgeted(escalate_to), remember=demonstrations)
    wanted = {option.action.name for option in policy.options}
    routes = {action: node_name(action) for action in strategies if action in wanted}

    nodes: dict[str, Any] = {
        "open": Opening(first=first, budget=budget),
        "generate": first,
        "deliver": Deliver(selection=shared["selection"]),
        **{node: strategies[action] for action, node in routes.items()},
    }
    makers = ["generate", *routes.values()]
    if evaluator is not None:
        nodes["evaluate"] = evaluator if isinstance(evaluator, Runnable) else Check(verifier=evaluator)
    builder: Builder = StateGraph(state_schema)
    for name, node in nodes.items():
        builder.add_node(name, node)
    builder.add_edge(START, "open")
    builder.add_edge("open", "generate")
    builder.add_edge("deliver", END)
    ends = {"stop": "deliver", "abstain": "deliver"}
    if evaluator is None:
        return add_budget_router(builder, after=makers, routes={**routes, **ends}, policy=policy)
    for maker in makers:
        builder.add_edge(maker, "evaluate")
    return add_budget_router(builder, after="evaluate", routes={**routes, **ends}, policy=policy)


def faults(candidate: Candidate, state: Mapping[str, Any]) -> str:
    """What the evaluators found wrong with a candidate, for a second look."""
    evidence = candidate.evidence
    found = [check.detail or f"It fails the check {check.name!r}." for check in evidence.checks if not check.passed]
    found += [verdict.critique for verdict in evidence.verdicts if verdict.critique]
    return "\n".join(found)
