"""The last step: the answer that was decided on, with its rows."""

from __future__ import annotations

from dataclasses import dataclass

from tta_langgraph.episode import BudgetNode, OutOfBudget, Run, Steps
from tta_langgraph.events import ended
from tta_langgraph.nodes.execute import shown
from tta_langgraph.nodes.reading import State, best_of
from tta_langgraph.selection import Rule
from tta_langgraph.sql import Database


@dataclass(frozen=True, kw_only=True)
class Deliver(BudgetNode):
    """Puts the answer that the router chose into the state, with the rows of that answer and not of another.

    Costs nothing, or one execution if the answer is not the one that was executed last. An episode that
    abstains has no answer; its best candidate stays in `best`.
    """

    database: Database | None = None
    """Where the answer's rows come from; None where answers are not executed."""
    selection: str | Rule = "execution_vote"
    """Rule for the best candidate where no router decided."""

    def steps(self, state: State) -> Steps:
        """Settles answer, best candidate and rows, and tells those who watch that the episode is over."""
        update = yield from self._settled(state)
        ended(state.get("budget"), str(state.get("stop_reason") or "stop"))
        return update

    def _settled(self, state: State) -> Steps:
        best = best_of(state, self.selection)
        abstained = state.get("stop_reason") == "abstain"
        update = {"best": best, "answer": None if best is None or abstained else best.answer}
        if abstained or best is None or best.answer is None or self.database is None:
            return {**update, "result": None}
        before = state.get("result")
        if before is not None and before.get("sql") == best.answer:
            return update
        try:
            result = yield Run(database=self.database, sql=best.answer, source="deliver")
        except OutOfBudget:
            return {**update, "result": None}
        return {**update, "result": shown(result)}
