"""How many solutions and how many verdicts a budget should buy, before traces say better.

Source: Singhi et al. 2025, *When To Solve, When To Verify* (arXiv 2504.01005): compute-optimal numbers grow as
S ∝ C^0.57 solutions and V ∝ C^0.39 verifications per solution, and plain voting wins at small budgets.
"""

from __future__ import annotations

from dataclasses import dataclass

from tta_langgraph.errors import PolicyError

SOLUTIONS_EXPONENT = 0.57
VERDICTS_EXPONENT = 0.39
CROSSOVER = 8.0
"""Budget, in solutions, below which verdicts do not pay and voting takes all."""


@dataclass(frozen=True, slots=True)
class Split:
    """What a budget buys."""

    solutions: int
    """S."""
    verdicts: int
    """V, per solution; 0 means a plain vote."""


def split(budget: float, *, verdict_cost: float = 1.0, crossover: float = CROSSOVER) -> Split:
    """Solutions and verdicts per solution, at most for a budget of S · (1 + verdict_cost · V) solutions.

    Args:
        budget: in costs of one solution, at least 1.
        verdict_cost: of a verdict, in the same unit.
        crossover: budget below which all of it goes to solutions.

    Raises:
        PolicyError: a budget below 1, or a cost that is not positive.
    """
    if not budget >= 1 or not verdict_cost > 0:
        raise PolicyError(
            f"budget {budget!r}, verdict cost {verdict_cost!r}", where="split", remedy="At least 1 solution"
        )
    if budget < crossover * (1 + verdict_cost):
        return Split(int(budget), 0)
    growth = budget / (crossover * (1 + verdict_cost))
    # At the crossover: `crossover` solutions with one verdict each; from there on by the two powers.
    verdicts = max(1, round(growth**VERDICTS_EXPONENT))
    solutions = min(crossover * growth**SOLUTIONS_EXPONENT, budget / (1 + verdict_cost * verdicts))
    return Split(max(1, int(solutions)), verdicts)
