"""Costs from recorded steps: means and 90th percentiles per action."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tta_langgraph.decision.costs import CostModel, Factor
from tta_langgraph.decision.experience import Experience

FEW = 8
"""Steps of an action below which its costs stay with the prior."""


def fit_costs(experiences: Sequence[Experience], base: CostModel | None = None) -> CostModel:
    """Learns per action how its tokens and seconds compare with what the base model expects of them.

    Args:
        experiences: recorded steps.
        base: where to start; by default the shipped ratios with the recorded first calls as priors.
    """
    base = base or CostModel()
    scales = [base.scale(e.snapshot) for e in experiences if e.snapshot.candidates]
    if scales:
        base = replace(
            base,
            prompt_tokens=_mean([s.prompt for s in scales]),
            completion_tokens=_mean([s.completion for s in scales]),
            seconds=_mean([s.seconds for s in scales]),
        )
    seen: dict[str, list[tuple[float, float, float, float]]] = {}
    for e in experiences:
        if e.action.ends or not e.snapshot.candidates:
            continue
        tokens, seconds = base.of(e.action, base.scale(e.snapshot))
        seen.setdefault(str(e.action), []).append((e.tokens, tokens.mean, e.seconds, seconds.mean))
    factors = {
        action: Factor(
            tokens=_ratio([(t, m) for t, m, _, _ in rows]),
            tokens_p90=_p90([t / m for t, m, _, _ in rows if m > 0]),
            seconds=_ratio([(s, m) for _, _, s, m in rows]),
            seconds_p90=_p90([s / m for _, _, s, m in rows if m > 0]),
        )
        for action, rows in seen.items()
        if len(rows) >= FEW
    }
    return replace(base, factors=factors)


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    expected = math.fsum(m for _, m in pairs)
    return math.fsum(v for v, _ in pairs) / expected if expected > 0 else 1.0


def _p90(numbers: Sequence[float]) -> float:
    """The 90th percentile, by the nearest rank above."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)] if ordered else 1.0
