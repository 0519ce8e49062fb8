"""Showing the remaining budget to the model: used and remaining per resource, and what that asks of it.

Source: the Budget Tracker of *BATS: Budget-Aware Tool-Use Enables Effective Agent Scaling* (regimes by the share that
remains: HIGH from 70%, MEDIUM from 30%, LOW from 10%, CRITICAL below).
"""

from __future__ import annotations

import math
from typing import Literal

from tta_langgraph.budget import DIMENSIONS, BudgetTracker

Regime = Literal["HIGH", "MEDIUM", "LOW", "CRITICAL"]


def regime(share: float) -> Regime:
    """The regime for the share of a resource that remains, in [0, 1]."""
    if share >= 0.7:
        return "HIGH"
    if share >= 0.3:
        return "MEDIUM"
    return "LOW" if share >= 0.1 else "CRITICAL"


def budget_block(tracker: BudgetTracker) -> str:
    """The budget as a block of text for a prompt; empty if nothing is limited.

    Put it at the end of the prompt: it changes with every call, and a prefix cache keeps what stands before it.

    Example:
        ```
        <budget>
        tokens: 1200 used, 2800 remaining (HIGH)
        time: 4.1 s used, 3.9 s remaining (MEDIUM)
        Be selective: prefer the most promising step.
        </budget>
        ```
    """
    spent, remaining = tracker.spent, tracker.remaining
    shares: list[float] = []
    lines: list[str] = []
    for name in DIMENSIONS:
        left = getattr(remaining, name)
        if math.isinf(left):
            continue
        used = spent[name]
        share = left / (used + left) if used + left else 0.0
        shares.append(share)
        unit, label = _UNITS.get(name, ("", name.replace("_", " ")))
        lines.append(f"{label}: {_figure(used)}{unit} used, {_figure(left)}{unit} remaining ({regime(share)})")
    if not lines:
        return ""
    return "\n".join(["<budget>", *lines, ADVICE[regime(min(shares))], "</budget>"])


def _figure(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3g}"


_UNITS = {"seconds": (" s", "time"), "usd": (" USD", "cost")}

ADVICE: dict[Regime, str] = {
    "HIGH": "There is room to explore and to check your work.",
    "MEDIUM": "Be selective: prefer the most promising step.",
    "LOW": "Take only a step that is likely to settle the question.",
    "CRITICAL": "Give your final answer now.",
}
