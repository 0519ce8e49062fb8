"""Calling in a larger model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from langchain_core.language_models import BaseChatModel

from tta_langgraph.episode import Ask, Call, Steps
from tta_langgraph.nodes.demonstrations import Demonstrations
from tta_langgraph.nodes.execute import executed
from tta_langgraph.nodes.prompts import fenced
from tta_langgraph.nodes.reading import State, best_of, candidates_of, question_of, settled
from tta_langgraph.nodes.strategy import Strategy
from tta_langgraph.selection import select
from tta_langgraph.state import Candidate


@dataclass(frozen=True, kw_only=True)
class Escalate(Strategy):
    """Asks a larger model, once the smaller one's answers have shown that the question is hard.

    The larger model's answer corrects the best one so far. What it answers well is kept as a demonstration:
    give the same store to the smaller model's nodes and they are shown the most similar ones (in-context
    distillation). A demonstration is kept if its query ran and found rows, or, without a database, if it has
    an answer.

    Example:
        ```python
        store = Demonstrations()
        builder.add_node("generate", Generate(model=small, database=db, demonstrations=store))
        builder.add_node("escalate", Escalate(to=large, database=db, remember=store))
        ```
    """

    to: BaseChatModel
    """The larger model; drawn from the same budget, at its own price."""
    model: BaseChatModel = None  # type: ignore[assignment]
    """Not needed: the larger model is asked."""
    remember: Demonstrations | None = None
    """Where good answers of the larger model are kept."""
    unless_share: float | None = None
    """Ask nothing if at least this share of two or more votes agrees already; None leaves that to the
    router."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "model", self.to)

    def steps(self, state: State) -> Steps:
        """Asks the larger model, unless the smaller one's samples agree."""
        if self.unless_share is not None:
            vote = select(candidates_of(state), self.selection)
            if len(vote.scores) > 1 and vote.share >= self.unless_share:
                return {}
        messages = yield from self.opening(state)
        completions = yield Ask(
            messages=messages,
            model=self.to,
            max_tokens=self.max_tokens,
            source="escalate",
            options=self.sampling(state, 0.0),
        )
        best = best_of(state, self.selection)
        found = self.candidate(completions[0], action="escalate")
        if best is not None:
            found = replace(found, parent=best.id)
        if self.remember is not None:
            found = yield from self._remembered(found, state)
        return settled(state, [found], self.selection)

    def _remembered(self, found: Candidate, state: State) -> Any:
        """The candidate, executed if there is a database, and kept as a demonstration if it is good."""
        if self.database is not None and found.answer is not None:
            ran, _ = yield from executed(self.database, [found])
            found = ran[0] if ran else found
        execution = found.evidence.execution
        good = found.answer is not None and (execution is None or (execution.ok and not execution.empty))
        if good and self.remember is not None and found.finish_reason != "length":
            answer = fenced(found.answer or "") if self.database is not None else found.text
            yield Call(function=self.remember.add, args=(question_of(state), answer), source="escalate.remember")
        return found
