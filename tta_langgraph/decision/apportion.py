"""Sub-budgets for sub-questions: difficulty credits times a schedule, in whole tokens that add up.

Source: Plan-and-Budget (arXiv 2505.16122): early sub-questions carry more uncertainty, so that schedules which decay
with position spend a budget better than equal shares.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from tta_langgraph.errors import BudgetError

Schedule = Literal["constant", "linear", "quadratic", "cosine", "exponential"]
FLOOR = 0.1
"""Weight of the last sub-question in a decaying schedule, relative to the first."""
DECAY = 0.7
"""Ratio of neighbours in the exponential schedule."""


def schedule_weights(n: int, schedule: Schedule = "constant") -> list[float]:
    """Weights by position, 1 for the first.

    With t = i / (n − 1) from 0 to 1 and a floor of `FLOOR`: linear 1 − t, quadratic (1 − t)², cosine (1 + cos πt) / 2,
    exponential `DECAY`^i.

    Raises:
        BudgetError: an unknown schedule, or n below 1.
    """
    if schedule not in get_args(Schedule):
        raise BudgetError(
            f"unknown schedule {schedule!r}", where="apportion", remedy=f"Use one of {', '.join(get_args(Schedule))}"
        )
    if n < 1:
        raise BudgetError(f"{n} sub-questions", where="apportion", remedy="Give at least one credit")
    found = []
    for i in range(n):
        t = i / (n - 1) if n > 1 else 0.0
        decayed = {
            "constant": 1.0,
            "linear": 1 - t,
            "quadratic": (1 - t) ** 2,
            "cosine": (1 + math.cos(math.pi * t)) / 2,
            "exponential": DECAY**i,
        }[schedule]
        if schedule in ("linear", "quadratic", "cosine"):
            decayed = FLOOR + (1 - FLOOR) * decayed
        found.append(decayed)
    return found


def apportion(total: int, credits: Sequence[float], schedule: Schedule = "constant", *, least: int = 0) -> list[int]:
    """Splits a budget in proportion to credit × schedule, by largest remainder: the parts add up to the total.

    Args:
        total: tokens to give out.
        credits: difficulty per sub-question, in order; not negative, not all zero.
        schedule: how weights fall with position.
        least: tokens that every sub-question gets.

    Returns:
        Tokens per sub-question, in the order of `credits`.

    Raises:
        BudgetError: no credits, a credit that is negative or not finite, or too little for `least`.

    Example:
        ```python
        assert apportion(100, [1, 1, 2]) == [25, 25, 50]
        ```
    """
    shape = schedule_weights(len(credits), schedule)
    if any(not math.isfinite(c) or c < 0 for c in credits) or sum(credits) <= 0:
        raise BudgetError(
            f"credits {list(credits)!r}", where="apportion", remedy="Give finite numbers, not negative, not all zero"
        )
    free = total - least * len(credits)
    if least < 0 or free < 0:
        raise BudgetError(
            f"{total} tokens do not give {least} to each of {len(credits)}", where="apportion", remedy="Ask for less"
        )
    weights = [c * w for c, w in zip(credits, shape, strict=True)]
    top = max(weights)
    weights = [w / top for w in weights]  # so that no credits are too small or too large to add
    whole = math.fsum(weights)
    shares = [free * (w / whole) for w in weights]
    parts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(parts)), key=lambda i: (parts[i] - shares[i], i))
    for i in by_remainder[: free - sum(parts)]:
        parts[i] += 1
    return [part + least for part in parts]
