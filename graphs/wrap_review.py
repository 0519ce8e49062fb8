"""The decision of a wrapped agent without a policy: another look while the evaluator is not satisfied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tta_langgraph.decision.router import announce
from tta_langgraph.episode import BudgetNode
from tta_langgraph.nodes.reading import State, best_of, candidates_of
from tta_langgraph.nodes.reflect import rounds_used
from tta_langgraph.selection import Rule
from tta_langgraph.selection_weights import reward
from tta_langgraph.state import Candidate, Decision


@dataclass(frozen=True, kw_only=True)
class Review(BudgetNode):
    """Decides between another look and the end, by nothing but the evaluator's word."""

    max_rounds: int = 2
    """Most second looks."""
    selection: str | Rule = "execution_vote"
    """Rule for the best candidate."""

    def steps(self, state: State) -> dict[str, Any]:
        """Decides, and records why."""
        best = self._best(state)
        ended = str(state.get("stop_reason") or "")
        action, reason = "stop", "the answer stands"
        if ended.startswith("exhausted"):
            reason = ended
        elif best is not None and not satisfied(best):
            spent = rounds_used(best, candidates_of(state)) >= self.max_rounds
            action, reason = ("stop", "no look is left") if spent else ("reflect", "the evaluator is not satisfied")
        decision = Decision(
            step=len(state.get("decisions") or ()), action=action, reason=reason, candidate=best.id if best else None
        )
        announce(decision, state.get("budget"))
        update: dict[str, Any] = {"decisions": [decision], "best": best, "answer": best.answer if best else None}
        return update if action == "reflect" else {**update, "stop_reason": ended or "stop"}

    @staticmethod
    def route(state: State) -> str:
        """Name of the action that was decided last."""
        return str(state["decisions"][-1].action)

    def _best(self, state: State) -> Candidate | None:
        """The latest correction, unless an earlier answer was evaluated better."""
        pool = [candidate for candidate in candidates_of(state) if candidate.answer is not None]
        latest = best_of({**state, "decisions": []}, self.selection)
        top = max(pool, key=reward, default=None)
        return top if top is not None and latest is not None and reward(top) > reward(latest) else latest


def satisfied(candidate: Candidate) -> bool:
    """Whether no evaluator found fault with a candidate."""
    evidence = candidate.evidence
    ran = evidence.execution is None or evidence.execution.ok
    accepted = all(verdict.label in ("SUCCESS", "UNPARSED") for verdict in evidence.verdicts)
    return ran and accepted and all(check.passed for check in evidence.checks)
