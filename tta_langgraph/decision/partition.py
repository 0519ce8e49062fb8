"""How likely is each answer, given who agreed with whom: a conjugate model of repeated samples.

A question has a chance θ ~ Beta(alpha, beta) that a fresh sample is right. Right samples share one answer; wrong ones
either fail (a named outcome with mass `fail`) or spread over wrong answers as in a Chinese restaurant process with
concentration `spread`. Both integrate out, so that the posterior of "this group is right", and the chances of the next
sample, are ratios of gamma functions. With alpha, beta < 1 the model knows that most questions are either easy or
hopeless, which is what makes giving up early pay.

Sources: Adaptive-Consistency (arXiv 2305.11860) for stopping on posterior agreement; Aldous 1985 for the process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import lgamma

from tta_langgraph.errors import PolicyError

Pattern = tuple[tuple[int, float], ...]
"""Groups as (votes, log likelihood ratio of other evidence), sorted: equal patterns are equal situations."""


@dataclass(frozen=True, slots=True)
class PartitionModel:
    """Prior over how samples of one question agree.

    Raises:
        PolicyError: a parameter is not positive and finite.
    """

    alpha: float = 0.45
    """Pseudo-count of right samples."""
    beta: float = 0.35
    """Pseudo-count of wrong samples."""
    spread: float = 1.2
    """How readily wrong samples invent new answers; small values make wrong answers agree."""
    fail: float = 0.6
    """Pseudo-count of failures among wrong samples; 0 where samples cannot fail."""

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "spread"):
            if not 0 < getattr(self, name) < math.inf:
                raise PolicyError(f"{name} must be positive, got {getattr(self, name)!r}", where="PartitionModel")
        if not 0 <= self.fail < math.inf:
            raise PolicyError(f"fail must not be negative, got {self.fail!r}", where="PartitionModel")

    @property
    def prior(self) -> float:
        """P(a sample is right) before any was seen."""
        return self.alpha / (self.alpha + self.beta)

    def posterior(self, pattern: Pattern, failed: int = 0) -> tuple[float, ...]:
        """P(right) per group of the pattern, in its order; they sum to at most 1.

        Args:
            pattern: votes and log likelihood ratios per group.
            failed: samples without an answer.
        """
        return _posterior(self, pattern, failed)

    def expected_best(self, pattern: Pattern, failed: int, n: int) -> float:
        """E[P(the best answer is right)] after `n` more samples, choosing the most probable answer then.

        Exact up to `EXACT` samples; beyond, the geometric approach to its limit is carried on.
        """
        if n <= EXACT:
            return _expected(self, pattern, failed, n)
        start, middle, last = (_expected(self, pattern, failed, m) for m in (0, EXACT // 2, EXACT))
        first, second = middle - start, last - middle
        if first <= 1e-12 or second <= 0:
            return last
        ratio = min(second / first, 0.95)
        gain = first * (1 - ratio ** (n / (EXACT // 2))) / (1 - ratio)
        return float(min(1.0, max(last, start + gain)))

    def log_likelihood(self, votes: tuple[int, ...], failed: int = 0) -> float:
        """Log probability of a pattern of votes, whoever is right: what fitting without gold answers maximises."""
        pattern = tuple((v, 0.0) for v in sorted(votes))
        n = sum(votes) + failed
        terms = _log_weights(self, pattern, failed)
        top = max(terms)
        normal = lgamma(self.alpha) + lgamma(self.beta) - lgamma(self.alpha + self.beta)
        normal += lgamma(self.alpha + self.beta + n)
        return top + math.log(sum(math.exp(t - top) for t in terms)) - normal


def fit_partition(
    patterns: Sequence[tuple[tuple[int, ...], int]], base: PartitionModel | None = None, *, sweeps: int = 12
) -> PartitionModel:
    """Fits the prior to how answers agreed, by maximum likelihood; needs no gold answers.

    A search along one parameter at a time in steps that shrink, on the log scale, held within a factor of 50 of the
    base: from agreement alone a wrong answer that everybody gives cannot be told from a right one.

    Args:
        patterns: per question, votes per answer and the number of failures; best from the same number of samples each.
        base: where to start.

    Raises:
        PolicyError: no pattern.
    """
    if not patterns:
        raise PolicyError("no patterns", where="fit_partition", remedy="Record some questions with several samples")
    base = base or PartitionModel()
    counts: dict[tuple[tuple[int, ...], int], int] = {}
    for votes, failed in patterns:
        key = (tuple(sorted(votes)), failed)
        counts[key] = counts.get(key, 0) + 1

    def loss(model: PartitionModel) -> float:
        return -sum(times * model.log_likelihood(votes, failed) for (votes, failed), times in counts.items())

    best, least, step = base, loss(base), 2.0
    for _ in range(sweeps):
        moved = False
        for name in ("alpha", "beta", "spread", "fail"):
            start = getattr(base, name) or 1e-3
            for factor in (step, 1 / step):
                value = max(getattr(best, name), 1e-3) * factor
                if not start / 50 <= value <= start * 50:
                    continue
                tried = replace(best, **{name: value})
                if (found := loss(tried)) < least - 1e-9:
                    best, least, moved = tried, found, True
        if not moved:
            step = 1 + (step - 1) / 2
    return best


EXACT = 4
"""Further samples up to which expectations are enumerated."""


def _log_weights(model: PartitionModel, pattern: Pattern, failed: int) -> list[float]:
    """Unnormalised log posterior per group, and last that no group is right."""
    n = sum(v for v, _ in pattern) + failed
    log_spread = math.log(model.spread)
    tables = [log_spread + lgamma(v) for v, _ in pattern]
    crowd = sum(tables)
    mass = model.spread + model.fail
    # Failures are one named outcome among the wrong ones.
    failures = lgamma(model.fail + failed) - lgamma(model.fail) if failed and model.fail else 0.0
    if failed and not model.fail:
        failures = -50.0 * failed
    base = failures + lgamma(mass)
    found = []
    for (v, ratio), table in zip(pattern, tables, strict=True):
        wrong = n - v
        found.append(
            lgamma(model.alpha + v) + lgamma(model.beta + wrong) + base - lgamma(mass + wrong) + crowd - table + ratio
        )
    found.append(lgamma(model.alpha) + lgamma(model.beta + n) + base - lgamma(mass + n) + crowd)
    return found


@lru_cache(maxsize=1 << 16)
def _posterior(model: PartitionModel, pattern: Pattern, failed: int) -> tuple[float, ...]:
    if not pattern:
        return ()
    weights = _log_weights(model, pattern, failed)
    top = max(weights)
    scaled = [math.exp(w - top) for w in weights]
    total = sum(scaled)
    return tuple(s / total for s in scaled[:-1])


@lru_cache(maxsize=1 << 17)
def _expected(model: PartitionModel, pattern: Pattern, failed: int, n: int) -> float:
    beliefs = _posterior(model, pattern, failed)
    if n == 0:
        return max(beliefs, default=0.0)
    total = sum(v for v, _ in pattern) + failed
    right_none = 1.0 - sum(beliefs)
    denominator = model.alpha + model.beta + total
    mass = model.spread + model.fail
    chances: dict[tuple[Pattern, int], float] = {}
    # Everything that a wrong sample may be, under each hypothesis of who is right.
    wrong_share = [
        belief * (model.beta + total - v) / denominator / (mass + total - v)
        for belief, (v, _) in zip(beliefs, pattern, strict=True)
    ]
    wrong_share.append(right_none * (model.beta + total) / denominator / (mass + total))
    all_wrong = sum(wrong_share)
    for i, (v, ratio) in enumerate(pattern):
        chance = beliefs[i] * (model.alpha + v) / denominator + (all_wrong - wrong_share[i]) * v
        _add(chances, (_with(pattern, i, (v + 1, ratio)), failed), chance)
    new = right_none * model.alpha / denominator + all_wrong * model.spread
    _add(chances, (tuple(sorted((*pattern, (1, 0.0)))), failed), new)
    if model.fail or failed:
        _add(chances, (pattern, failed + 1), all_wrong * (model.fail + failed))
    return sum(p * _expected(model, after, f, n - 1) for (after, f), p in chances.items()) / sum(chances.values())


def _with(pattern: Pattern, i: int, group: tuple[int, float]) -> Pattern:
    return tuple(sorted((*pattern[:i], group, *pattern[i + 1 :])))


def _add(chances: dict[tuple[Pattern, int], float], key: tuple[Pattern, int], chance: float) -> None:
    chances[key] = chances.get(key, 0.0) + chance
