"""What a decision may look at: one moment of an episode, live or replayed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from tta_langgraph.budget import Budget, BudgetTracker, merge_budget
from tta_langgraph.decision.tally import Tally
from tta_langgraph.decision.utility import Utility
from tta_langgraph.errors import GraphError
from tta_langgraph.state import Candidate


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One moment of an episode. `Snapshot.of(state)` builds it live; replay builds it from recorded pools."""

    question: str = ""
    """What is asked; may be empty in replay, where `context["question_chars"]` stands for it."""
    candidates: tuple[Candidate, ...] = ()
    """Proposed answers so far, oldest first."""
    budget: Budget | None = None
    """The limits, or None."""
    tokens_left: float = math.inf
    """Tokens left after the reserve, and after those of the budgets around."""
    seconds_left: float = math.inf
    """Seconds left after the reserve, likewise."""
    calls_left: float = math.inf
    """Model calls left."""
    executions_left: float = math.inf
    """Executions left."""
    spent_tokens: float = 0.0
    """Tokens spent so far."""
    spent_seconds: float = 0.0
    """Seconds spent so far, on the budget's clock."""
    step: int = 0
    """Decisions taken so far."""
    used: Mapping[str, int] = field(default_factory=lambda: _NOTHING)
    """How often each action was decided, by name."""
    chosen: Candidate | None = None
    """What a selection rule would answer now; None leaves the choice to the predictor."""
    utility: Utility | None = None
    """The exchange rates in force, set by the policy that decides; for predictors that look ahead."""
    context: Mapping[str, float] = field(default_factory=lambda: _NO_CONTEXT)
    """What else is known about the question: `schema_tokens`, `question_chars`, `n_tables`."""

    @classmethod
    def of(cls, state: Mapping[str, Any], *, context: Mapping[str, float] | None = None) -> Snapshot:
        """The present moment of an episode.

        Args:
            state: an `EpisodeState`, or any state that has its fields; missing ones count as empty.
            context: what else is known; by default `state["context"]`, if that is there.

        Raises:
            GraphError: `candidates` or `decisions` is not a list.
        """
        candidates = _listed(state, "candidates")
        decisions = _listed(state, "decisions")
        tracker = state.get("budget")
        if not isinstance(tracker, BudgetTracker):
            tracker = merge_budget(None, tracker)
        used: dict[str, int] = {}
        for decision in decisions:
            used[decision.action] = used.get(decision.action, 0) + 1
        found = context if context is not None else state.get("context")
        question = state.get("question")
        limits = tracker.budget.limits
        left = None if not limits and tracker.parent is None else tracker.spendable
        usage = tracker.usage
        return cls(
            question=question if isinstance(question, str) else "",
            candidates=tuple(candidates),
            budget=tracker.budget,
            tokens_left=math.inf
            if left is None
            else max(
                0.0, min(left.tokens, left.prompt_tokens + left.completion_tokens - tracker.budget.reserve.tokens)
            ),
            seconds_left=math.inf if left is None else left.seconds,
            calls_left=math.inf if left is None else left.model_calls,
            executions_left=math.inf if left is None else left.executions,
            spent_tokens=float(usage.tokens),
            spent_seconds=tracker.elapsed,
            step=len(decisions),
            used=used,
            context=dict(found) if isinstance(found, Mapping) else _NO_CONTEXT,
        )

    @classmethod
    def quick(cls, **known: Any) -> Snapshot:
        """`Snapshot(**known)` in a fraction of the time, for replay; the names are not checked."""
        made = object.__new__(cls)
        made.__dict__.update(_DEFAULTS, **known)
        return made

    @cached_property
    def tally(self) -> Tally:
        """The votes of the candidates."""
        return Tally.of(self.candidates)

    def prepared(self, *, chosen: Candidate | None, utility: Utility) -> Snapshot:
        """The same moment with a selection rule's choice and the rates in force; what was computed is kept."""
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, chosen=chosen, utility=utility)
        return made

    @property
    def spent_fraction(self) -> float:
        """The largest spent fraction of a limit (tokens or seconds); 0 without limits."""
        fractions = [0.0]
        for spent, left in ((self.spent_tokens, self.tokens_left), (self.spent_seconds, self.seconds_left)):
            if math.isfinite(left):
                fractions.append(spent / (spent + left) if spent + left > 0 else 1.0)
        return max(fractions)

    def get(self, candidate: str | None) -> Candidate | None:
        """The candidate with this id, or None."""
        return next((c for c in self.candidates if c.id == candidate), None)


_NOTHING: Mapping[str, int] = MappingProxyType({})
_NO_CONTEXT: Mapping[str, float] = MappingProxyType({})
_DEFAULTS: Mapping[str, Any] = dict(vars(Snapshot()))
"""What a snapshot holds of which nothing is known."""


def _listed(state: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = state.get(name) or ()
    if not isinstance(value, list | tuple):
        raise GraphError(
            f"state[{name!r}] is {type(value).__name__}, not a list",
            where="Snapshot.of",
            remedy="Let your state schema inherit EpisodeState, whose reducers keep it a list",
        )
    return value
