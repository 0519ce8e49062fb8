"""How sure the model was of its own words."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tta_langgraph.episode import BudgetNode
from tta_langgraph.evidence import CheckOutcome, Evidence, LogprobStats
from tta_langgraph.nodes.reading import State, candidates_of, settled
from tta_langgraph.nodes.settings import check_choices, check_selection
from tta_langgraph.selection import Rule

Statistic = Literal["mean", "tail", "minimum", "varentropy"]


@dataclass(frozen=True, kw_only=True)
class Confidence(BudgetNode):
    """Turns the log-probabilities of each candidate's tokens into a score in [0, 1]. Calls no model.

    The candidates must have been made with log-probabilities (`options={"logprobs": True}`, and
    `top_logprobs` for varentropy); one without them gets no score. The score is recorded as a check named
    `confidence:<statistic>`.

    Example:
        ```python
        Generate(model=model, options={"logprobs": True, "top_logprobs": 5})
        Confidence(statistic="tail", threshold=0.3)
        ```
    """

    statistic: Statistic = "mean"
    """`mean` (geometric mean of the token probabilities), `tail` (of their lowest fifth), `minimum` (the
    least likely token), `varentropy` (exp of minus the mean varentropy; needs alternatives)."""
    threshold: float = 0.5
    """Score from which the check counts as passed."""
    selection: str | Rule = "execution_vote"
    """Rule by which the best answer so far is kept up to date."""

    def __post_init__(self) -> None:
        check_choices(self, {"statistic": Statistic})
        check_selection(self)

    def steps(self, state: State) -> dict[str, Any]:
        """Scores every candidate with log-probabilities that has no score yet."""
        name = f"confidence:{self.statistic}"
        found = []
        for candidate in candidates_of(state):
            stats = candidate.evidence.logprobs
            if stats is None or any(check.name == name for check in candidate.evidence.checks):
                continue
            score = SCORES[self.statistic](stats)
            outcome = CheckOutcome(
                name=name, passed=score >= self.threshold, score=score, detail=f"{self.statistic} {score:.3f}"
            )
            found.append(candidate.observed(Evidence(checks=(outcome,))))
        return settled(state, found, self.selection)


SCORES: dict[Statistic, Callable[[LogprobStats], float]] = {
    "mean": lambda stats: math.exp(min(0.0, stats.mean)),
    "tail": lambda stats: math.exp(min(0.0, stats.tail)),
    "minimum": lambda stats: math.exp(min(0.0, stats.minimum)),
    "varentropy": lambda stats: math.exp(-max(0.0, stats.varentropy)),
}
"""From the statistics to a score in [0, 1]."""
