"""Costs from recorded steps: means and 90th percentiles per action, and latency as idle runtime times contention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tta_langgraph.decision.costs import CostModel, Factor
from tta_langgraph.decision.experience import Experience
from tta_langgraph.errors import PolicyError

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


@dataclass(frozen=True, slots=True)
class Runtime:
    """Latency of a call on an idle server: overhead + prefill(prompt) + output · τ.

    Splitting it from contention keeps forecasts right when the load changes (*idealised runtime*).
    """

    overhead: float
    """Seconds per call."""
    per_prompt_token: float
    """Seconds per uncached prompt token."""
    per_token: float
    """Seconds per written token (τ)."""

    def ideal(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Seconds on an idle server; prompt tokens without those that a prefix cache serves."""
        return self.overhead + self.per_prompt_token * prompt_tokens + self.per_token * completion_tokens

    def contention(self, calls: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
        """Mean and 90th percentile of observed over ideal seconds.

        Args:
            calls: (prompt tokens, completion tokens, seconds) each.
        """
        ratios = [seconds / max(self.ideal(prompt, written), 1e-9) for prompt, written, seconds in calls]
        if not ratios:
            return 1.0, 1.0
        return _mean(ratios), _p90(ratios)


def fit_runtime(calls: Sequence[tuple[float, float, float]]) -> Runtime:
    """Least squares with non-negative coefficients over calls measured on an idle server.

    Args:
        calls: (uncached prompt tokens, completion tokens, seconds) each, at least three.

    Raises:
        PolicyError: fewer than three calls.
    """
    if len(calls) < 3:
        raise PolicyError(f"{len(calls)} calls do not tell three rates", where="fit_runtime", remedy="Measure more")
    from scipy.optimize import nnls

    solution, _ = nnls([[1.0, prompt, written] for prompt, written, _ in calls], [seconds for _, _, seconds in calls])
    return Runtime(*(float(rate) for rate in solution))


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    expected = math.fsum(m for _, m in pairs)
    return math.fsum(v for v, _ in pairs) / expected if expected > 0 else 1.0


def _p90(numbers: Sequence[float]) -> float:
    """The 90th percentile, by the nearest rank above."""
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, math.ceil(0.9 * len(ordered)) - 1)] if ordered else 1.0
