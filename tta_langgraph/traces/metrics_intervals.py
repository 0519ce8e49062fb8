"""How sure a measured figure is: bootstrap by cluster, paired differences, McNemar, Wilson.

Questions on one database are not independent: a policy that misreads a schema misreads it on all of them. So an
interval over text-to-SQL questions resamples databases (clusters), not questions, wherever there are enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tta_langgraph.errors import TraceError

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and the range that the true value lies in, at the stated level."""

    value: float
    """The estimate."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""
    level: float = 0.95
    """Coverage aimed at."""

    def to_dict(self) -> dict[str, float]:
        """As plain numbers, for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "level": self.level}


def cluster_weights(clusters: Sequence[object], draws: int, seed: int) -> Floats:
    """How often each question is drawn in each bootstrap replicate, when whole clusters are drawn.

    Args:
        clusters: the cluster of each question (its database), or a unique value each to resample questions.
        draws: replicates.
        seed: of the generator.

    Returns:
        Counts, shape (draws, questions).
    """
    names: dict[object, int] = {}
    index = np.asarray([names.setdefault(name, len(names)) for name in clusters])
    counts = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return np.asarray(counts[:, index], dtype=float)


def bootstrap(
    values: ArrayLike,
    *,
    clusters: Sequence[object] | None = None,
    per: ArrayLike | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of a mean, or of a ratio of sums, over questions or over clusters of questions.

    Args:
        values: one value per question, shape (questions,).
        clusters: the cluster (database) of each question; None resamples questions.
        per: denominators, shape (questions,), for a ratio such as tokens per right answer; None for a mean.
        draws: bootstrap replicates.
        level: coverage aimed at.
        seed: of the generator; the same seed gives the same interval.

    Raises:
        TraceError: there is no value, or lengths differ.
    """
    top = np.asarray(values, float)
    bottom = np.ones_like(top) if per is None else np.asarray(per, float)
    if top.size == 0 or bottom.shape != top.shape or (clusters is not None and len(clusters) != top.size):
        raise TraceError(
            "a bootstrap needs one value (and one cluster) per question",
            where="bootstrap",
            remedy="Check the lengths of the arrays",
        )
    weights = cluster_weights(range(top.size) if clusters is None else clusters, draws, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        replicates = (weights @ top) / (weights @ bottom)
        centre = float(top.sum() / bottom.sum()) if bottom.sum() else math.inf
        low, high = np.nanquantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=centre, low=float(low), high=float(high), level=level)


FEW = 20
"""Below so many questions resampling them says little, and a comparison decides nothing."""


def proportion(
    right: ArrayLike, *, clusters: Sequence[object] | None = None, draws: int = 2000, seed: int = 0
) -> Interval:
    """Interval of an accuracy: the bootstrap, or Wilson's where resampling would feign certainty.

    A resample of nothing but right answers is all right: for an accuracy of 0 or 1, and for fewer than `FEW`
    questions, the bootstrap's interval is too narrow, down to a single point.

    Args:
        right: share of right answers of each question, shape (questions,).
        clusters: the cluster (database) of each question; None resamples questions.
        draws: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        TraceError: there is no question, or lengths differ.
    """
    values = np.asarray(right, float)
    if values.size and (values.size < FEW or values.min() == 1 or values.max() == 0):
        return wilson(float(values.sum()), values.size)
    return bootstrap(values, clusters=clusters, draws=draws, seed=seed)


def standing(gap: Interval, *, n: int, margin: float = 0.01) -> Literal["not below", "undecided", "below"]:
    """Whether a difference in accuracy is a loss, by its estimate and its whole interval.

    "Not below": the estimate is not negative, or the interval's low end is within the margin. "Below": the whole
    interval is negative. Everything between is undecided, and so is anything on fewer than `FEW` questions: little
    data must not make a target easy to meet.

    Args:
        gap: own accuracy minus the other's, paired by question.
        n: questions.
        margin: a loss of accuracy too small to matter (0.01 is one point).
    """
    if n < FEW:
        return "undecided"
    if gap.value >= 0 or gap.low >= -margin:
        return "not below"
    return "below" if gap.high < 0 else "undecided"


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    clusters: Sequence[object] | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of `a − b` over the same questions, with its bootstrap interval; pairing removes their difficulty."""
    return bootstrap(
        np.asarray(a, float) - np.asarray(b, float), clusters=clusters, draws=draws, level=level, seed=seed
    )


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Two answerers on the same questions: how often only one of them was right."""

    only_a: int
    """Questions that only the first got right."""
    only_b: int
    """Questions that only the second got right."""
    p_value: float
    """Exact two-sided p-value of "both are as good", by the binomial test on the discordant questions."""


def mcnemar(a: ArrayLike, b: ArrayLike) -> McNemar:
    """Exact McNemar test on two vectors of right/wrong over the same questions, shape (questions,)."""
    from scipy.stats import binomtest

    first, second = np.asarray(a, bool), np.asarray(b, bool)
    only_a, only_b = int(np.sum(first & ~second)), int(np.sum(~first & second))
    p = 1.0 if only_a + only_b == 0 else float(binomtest(only_a, only_a + only_b, 0.5).pvalue)
    return McNemar(only_a=only_a, only_b=only_b, p_value=p)


def wilson(right: float, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's interval of a proportion: stays inside [0, 1] and is honest for small n. Wilson 1927.

    `right` may be a fraction where a question was tried several times; the interval is then wider than it need be.
    """
    from scipy.stats import norm

    if n < 1 or not 0 <= right <= n:
        raise TraceError(f"{right} right out of {n}", where="wilson", remedy="Give 0 <= right <= n and n >= 1")
    z = float(norm.ppf((1 + level) / 2))
    p, shrink = right / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(value=p, low=max(centre - half, 0.0), high=min(centre + half, 1.0), level=level)
