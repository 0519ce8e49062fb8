"""One unit of gain: agreement, scores, nats and verdicts become P(correct) before they meet.

Sources: Platt 1999 (sigmoid), Zadrozny & Elkan 2002 (isotonic).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tta_langgraph.errors import PolicyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Platt:
    """P = 1 / (1 + exp(−(slope · score + bias)))."""

    slope: float
    """Log odds per unit of score."""
    bias: float
    """Log odds at score 0."""

    def __call__(self, score: float) -> float:
        """P(correct) of a score."""
        z = self.slope * score + self.bias
        return 1 / (1 + math.exp(-z)) if z > -700 else 0.0

    def batch(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(correct) of many scores, any shape."""
        return _each(self, scores)


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Linear interpolation between knots; constant beyond the first and the last.

    Raises:
        PolicyError: knots out of order, a probability outside [0, 1], or fewer than one knot.
    """

    x: tuple[float, ...]
    """Scores, increasing."""
    y: tuple[float, ...]
    """P(correct) at them, not decreasing."""

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.x, self.x[1:], strict=False))
        sound = all(a <= b for a, b in zip(self.y, self.y[1:], strict=False)) and all(0 <= p <= 1 for p in self.y)
        if not self.x or len(self.x) != len(self.y) or not rising or not sound:
            raise PolicyError("knots that do not rise", where="Isotonic", remedy="Fit the calibrator again")

    def __call__(self, score: float) -> float:
        """P(correct) of a score."""
        i = bisect_right(self.x, score)
        if i == 0:
            return self.y[0]
        if i == len(self.x):
            return self.y[-1]
        share = (score - self.x[i - 1]) / (self.x[i] - self.x[i - 1])
        return self.y[i - 1] + share * (self.y[i] - self.y[i - 1])

    def batch(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(correct) of many scores, any shape."""
        return _each(self, scores)


Calibrator = Platt | Isotonic


def fit_platt(scores: Sequence[float], right: Sequence[bool], *, iterations: int = 100) -> Platt:
    """Fits Platt's sigmoid with his smoothed targets, by Newton's method.

    Args:
        scores: one per answer.
        right: whether it was right.

    Raises:
        PolicyError: no data, or scores that are not finite.
    """
    positives, negatives = _checked(scores, right)
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    targets = [high if r else low for r in right]
    centre = math.fsum(scores) / len(scores)
    spread = math.sqrt(math.fsum((s - centre) ** 2 for s in scores) / len(scores)) or 1.0
    xs = [(s - centre) / spread for s in scores]
    slope, bias = 0.0, math.log((positives + 1) / (negatives + 1))
    loss = _loss(xs, targets, slope, bias)
    for _ in range(iterations):
        g1 = g0 = h11 = h10 = h00 = 0.0
        for x, t in zip(xs, targets, strict=True):
            p = 1 / (1 + math.exp(-(slope * x + bias)))
            weight = p * (1 - p)
            g1 += (p - t) * x
            g0 += p - t
            h11 += weight * x * x
            h10 += weight * x
            h00 += weight
        h11 += _RIDGE
        h00 += _RIDGE
        determinant = h11 * h00 - h10 * h10
        d1, d0 = (h00 * g1 - h10 * g0) / determinant, (h11 * g0 - h10 * g1) / determinant
        step = 1.0
        while step > 1e-8 and (after := _loss(xs, targets, slope - step * d1, bias - step * d0)) > loss:
            step /= 2
        slope, bias, change = slope - step * d1, bias - step * d0, loss - after
        loss = after
        if change < 1e-12 * max(1.0, loss):
            break
    return Platt(slope / spread, bias - slope * centre / spread)


def fit_isotonic(scores: Sequence[float], right: Sequence[bool], *, strength: float = 2.0) -> Isotonic:
    """Fits a rising step function by pooling adjacent violators, with each level drawn to the mean.

    Args:
        scores: one per answer.
        right: whether it was right.
        strength: pseudo-answers of mean correctness in every level, so that a level of one answer is not certain.

    Raises:
        PolicyError: no data, or scores that are not finite.
    """
    positives, negatives = _checked(scores, right)
    mean = positives / (positives + negatives)
    ties: dict[float, list[float]] = {}  # equal scores belong together before anything is pooled
    for score, r in sorted(zip(scores, right, strict=True)):
        tie = ties.setdefault(score, [0.0, 0.0])
        tie[0] += r
        tie[1] += 1
    blocks: list[list[float]] = []  # right, count, lowest score, highest score
    for score, (hits, count) in ties.items():
        blocks.append([hits, count, score, score])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            hits, count, _, top = blocks.pop()
            blocks[-1][0] += hits
            blocks[-1][1] += count
            blocks[-1][3] = top
    knots: dict[float, float] = {}
    level = 0.0
    for total, count, bottom, top in blocks:
        level = max(level, (total + strength * mean) / (count + strength))
        knots[bottom] = knots[top] = level
    return Isotonic(tuple(knots), tuple(knots.values()))


def calibrator_to_dict(calibrator: Calibrator | None) -> dict[str, Any] | None:
    """JSON values, or None."""
    if calibrator is None:
        return None
    if isinstance(calibrator, Platt):
        return {"kind": "platt", "slope": calibrator.slope, "bias": calibrator.bias}
    return {"kind": "isotonic", "x": list(calibrator.x), "y": list(calibrator.y)}


def calibrator_from_dict(data: Mapping[str, Any] | None) -> Calibrator | None:
    """Reads `calibrator_to_dict`'s output.

    Raises:
        PolicyError: an unknown kind.
    """
    if data is None:
        return None
    if data["kind"] == "platt":
        return Platt(float(data["slope"]), float(data["bias"]))
    if data["kind"] == "isotonic":
        return Isotonic(tuple(map(float, data["x"])), tuple(map(float, data["y"])))
    raise PolicyError(f"unknown calibrator {data['kind']!r}", where="calibrator", remedy="Fit the policy again")


_RIDGE = 1e-9


def _each(calibrator: Calibrator, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """One by one: NumPy's `exp` and `interp` end in other digits, and replay must say what a live episode says."""
    import numpy as np

    return np.asarray([calibrator(score) for score in scores.ravel().tolist()], dtype=np.float64).reshape(scores.shape)


def _checked(scores: Sequence[float], right: Sequence[bool]) -> tuple[int, int]:
    if not scores or len(scores) != len(right) or not all(map(math.isfinite, scores)):
        raise PolicyError(
            f"{len(scores)} scores for {len(right)} answers, or scores that are not finite",
            where="calibration",
            remedy="Give one finite score per answer",
        )
    positives = sum(map(bool, right))
    return positives, len(right) - positives


def _loss(xs: Sequence[float], targets: Sequence[float], slope: float, bias: float) -> float:
    total = 0.0
    for x, t in zip(xs, targets, strict=True):
        z = slope * x + bias
        total += max(z, 0.0) - t * z + math.log1p(math.exp(-abs(z)))
    return total
