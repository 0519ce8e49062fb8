"""A user's program, as strictly typed as mypy can ask for: `tools/typecheck` checks it, a test runs it.

Our nodes and the router go into a graph with a state of its own, and the budget into its input, without a cast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import RetryPolicy

from tta_langgraph import Budget, BudgetNode, EpisodeInput, EpisodeState, Policy, UtilityRouter, add_budget_router
from tta_langgraph.episode import Ask, Steps
from tta_langgraph.nodes import Check, Generate, Judge, Reflect, Sample


class DeskState(EpisodeState, MessagesState):
    """A state with fields of its own."""

    customer: str


class DeskInput(EpisodeInput):
    """Its input."""

    customer: str


def greet(state: DeskState) -> dict[str, Any]:
    """A node that is not ours."""
    return {"messages": [("ai", f"Hello {state['customer']}")]}


@dataclass(frozen=True, kw_only=True)
class Shorten(BudgetNode):
    """A node of the user's own, which asks a model under the budget."""

    model: BaseChatModel

    def steps(self, state: Mapping[str, Any]) -> Steps:
        """Messages may be pairs, as everywhere in LangChain."""
        [reply] = yield Ask(model=self.model, messages=[("user", f"Shorten: {state['answer']}")], max_tokens=40)
        return {"answer": reply.text}


def is_number(answer: str) -> bool:
    """A verifier."""
    return answer.isdigit()


def build(
    model: BaseChatModel, saver: BaseCheckpointSaver[str] | None = None
) -> CompiledStateGraph[DeskState, None, DeskInput, DeskState]:
    """A desk that answers with a number."""
    builder = StateGraph(DeskState, input_schema=DeskInput)
    builder.add_node("greet", greet)
    builder.add_node("generate", Generate(model=model), retry_policy=RetryPolicy(max_attempts=2))
    builder.add_node("sample", Sample(model=model))
    builder.add_node("reflect", Reflect(model=model, feedback="none"))
    builder.add_node("judge", Judge(model=model))
    builder.add_node("shorten", Shorten(model=model))
    builder.add_node("check", Check(verifier=is_number))
    builder.add_node("bare", UtilityRouter(Policy.one_shot()))
    builder.add_edge(START, "greet")
    builder.add_edge("greet", "generate")
    for node in ("generate", "sample", "reflect", "judge"):
        builder.add_edge(node, "check")
    routes = {"reflect": "reflect", "resample": "sample", "judge": "judge"}
    return add_budget_router(builder, after="check", routes=routes).compile(checkpointer=saver)


def ask(graph: CompiledStateGraph[DeskState, None, DeskInput, DeskState]) -> dict[str, Any]:
    """The budget goes in as a `Budget`, and comes back as a `BudgetTracker`."""
    final: dict[str, Any] = graph.invoke({"customer": "Ada", "question": "6 x 7?", "budget": Budget(tokens=2_000)})
    return final


def spent(state: DeskState) -> int:
    """What a node or a caller reads."""
    return state["budget"].usage.tokens
