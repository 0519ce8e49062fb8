"""Where to spend a mean budget of samples: agreement curves per pattern of the first samples. Needs no gold answers.

Source: *PETS: A Principled Framework Towards Optimal Trajectory Allocation for Efficient Test-Time Self-Consistency*
(arXiv 2602.16745). The chance that the majority of k samples is that of infinitely many follows A(k) = Φ(a·√k + b) per
agreement pattern of the first samples, and a mean budget is given out greedily.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from tta_langgraph.errors import PolicyError

Pattern = tuple[int, ...]
"""Vote counts among the first samples, largest first."""
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Curve:
    """A(k) = Φ(a·√k + b)."""

    a: float
    """Growth with √k."""
    b: float
    """Offset."""

    def at(self, k: int) -> float:
        """Chance that the majority of k samples is the final one."""
        return _NORMAL.cdf(self.a * math.sqrt(k) + self.b)


def fit_curve(points: Sequence[tuple[int, float, int]]) -> Curve:
    """Weighted least squares on the probit scale, weights by the delta method.

    Args:
        points: (k, share of agreement with the final majority, questions it was seen on).

    Raises:
        PolicyError: fewer than two different k.
    """
    if len({k for k, _, _ in points}) < 2:
        raise PolicyError("a curve needs two different k", where="fit_curve", remedy="Record more samples")
    sw = sx = sy = sxx = sxy = 0.0
    for k, share, count in points:
        p = (share * count + 0.5) / (count + 1)  # keeps 0 and 1 finite
        z = _NORMAL.inv_cdf(p)
        weight = count * _NORMAL.pdf(z) ** 2 / (p * (1 - p))
        x = math.sqrt(k)
        sw, sx, sy, sxx, sxy = sw + weight, sx + weight * x, sy + weight * z, sxx + weight * x * x, sxy + weight * x * z
    determinant = sw * sxx - sx * sx
    a = (sw * sxy - sx * sy) / determinant
    return Curve(a, (sy - a * sx) / sw)


def pattern_of(answers: Sequence[str | None]) -> Pattern:
    """Vote counts, largest first; missing answers count for nobody."""
    counts: dict[str, int] = {}
    for answer in answers:
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
    return tuple(sorted(counts.values(), reverse=True))


def fit_curves(samples: Sequence[Sequence[str | None]], *, first: int = 4) -> dict[Pattern, tuple[Curve, float]]:
    """A curve per pattern of the first samples, with the share of questions that show it.

    Args:
        samples: answers per question, in order; at least `first` + 2 each.
        first: samples whose pattern is looked at.

    Raises:
        PolicyError: no question has enough samples.
    """
    by_pattern: dict[Pattern, list[Sequence[str | None]]] = {}
    for answers in samples:
        if len(answers) >= first + 2:
            by_pattern.setdefault(pattern_of(answers[:first]), []).append(answers)
    total = sum(map(len, by_pattern.values()))
    if not total:
        raise PolicyError(f"no question has {first + 2} samples", where="fit_curves", remedy="Record more samples")
    found = {}
    for pattern, questions in by_pattern.items():
        points = []
        for k in range(first, max(map(len, questions)) + 1, 2):
            able = [answers for answers in questions if len(answers) >= k]
            agree = sum(_majority(answers[:k]) == _majority(answers) for answers in able)
            points.append((k, agree / len(able), len(able)))
        found[pattern] = (fit_curve(points), len(questions) / total)
    return found


def allocate(
    curves: Mapping[Pattern, tuple[Curve, float]], mean_budget: float, *, first: int = 4, most: int = 64
) -> dict[Pattern, int]:
    """Samples per pattern that give the highest mean agreement at a mean number of samples, greedily.

    Each step extends the pattern with the best gain per sample over any stretch (so that a flat start does not hide a
    later rise), as long as the mean stays within the budget.

    Args:
        curves: curve and share of questions by pattern.
        mean_budget: samples per question on average, at least `first`.
        first: samples that every question has had.
        most: samples per question at most.

    Raises:
        PolicyError: the budget is below `first`.
    """
    if mean_budget < first:
        raise PolicyError(
            f"a mean of {mean_budget:g} samples is below the first {first}", where="allocate", remedy="Raise it"
        )
    given = dict.fromkeys(curves, first)
    left = (mean_budget - first) * sum(share for _, share in curves.values())
    while True:
        best: tuple[float, Pattern, int] | None = None
        for pattern, (curve, share) in curves.items():
            k = given[pattern]
            for to in range(k + 1, most + 1):
                if share * (to - k) > left + 1e-12:
                    break
                rate = (curve.at(to) - curve.at(k)) / (to - k)
                if rate > 1e-12 and (best is None or rate > best[0]):
                    best = (rate, pattern, to)
        if best is None:
            return given
        _, pattern, to = best
        left -= curves[pattern][1] * (to - given[pattern])
        given[pattern] = to


def _majority(answers: Sequence[str | None]) -> str | None:
    counts: dict[str, int] = {}
    for answer in answers:
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
    return max(counts, key=lambda answer: counts[answer]) if counts else None
