"""Whether a stated probability can be believed: Brier score, reliability bins, calibration error, ranking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tta_langgraph.errors import TraceError


def _pair(p: ArrayLike, right: ArrayLike, where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    stated, truth = np.asarray(p, float).ravel(), np.asarray(right, float).ravel()
    if stated.size == 0 or stated.shape != truth.shape:
        raise TraceError(
            f"{stated.size} probabilities for {truth.size} outcomes",
            where=where,
            remedy="Give one probability per outcome, at least one",
        )
    if not np.all((stated >= 0) & (stated <= 1)):
        raise TraceError(
            "a probability lies outside [0, 1]", where=where, remedy="Calibrate scores before they are compared"
        )
    return stated, truth


def brier(p: ArrayLike, right: ArrayLike) -> float:
    """Mean squared error of stated probabilities; 0 is perfect, 0.25 is what always saying 0.5 gets. Brier 1950."""
    stated, truth = _pair(p, right, "brier")
    return float(np.mean((stated - truth) ** 2))


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Answers whose stated probability fell into one interval."""

    low: float
    """Lower edge of the interval."""
    high: float
    """Upper edge of the interval."""
    stated: float
    """Mean stated probability."""
    observed: float
    """Share that was right."""
    n: int
    """Answers in the bin."""


def reliability(p: ArrayLike, right: ArrayLike, *, bins: int = 10, equal_mass: bool = False) -> list[ReliabilityBin]:
    """Groups answers by stated probability and sets beside it how often they were right.

    Args:
        p: stated probabilities, shape (answers,).
        right: outcomes, 0/1 or bool, same shape.
        bins: how many intervals; empty ones are left out.
        equal_mass: intervals that hold equally many answers instead of intervals of equal width.
    """
    stated, truth = _pair(p, right, "reliability")
    edges = np.quantile(stated, np.linspace(0, 1, bins + 1)) if equal_mass else np.linspace(0, 1, bins + 1)
    edges = np.unique(edges)
    if len(edges) == 1:
        edges = np.array([edges[0], edges[0]])
    slot = np.clip(np.searchsorted(edges, stated, side="right") - 1, 0, len(edges) - 2)
    found = []
    for b in range(len(edges) - 1):
        inside = slot == b
        if inside.any():
            found.append(
                ReliabilityBin(
                    low=float(edges[b]),
                    high=float(edges[b + 1]),
                    stated=float(stated[inside].mean()),
                    observed=float(truth[inside].mean()),
                    n=int(inside.sum()),
                )
            )
    return found


def calibration_error(p: ArrayLike, right: ArrayLike, *, bins: int = 10, equal_mass: bool = False) -> float:
    """Expected calibration error: mean |stated − observed| over bins, weighted by their size (arXiv 1706.04599)."""
    found = reliability(p, right, bins=bins, equal_mass=equal_mass)
    total = sum(item.n for item in found)
    return sum(item.n * abs(item.stated - item.observed) for item in found) / total


def auc(p: ArrayLike, right: ArrayLike) -> float:
    """Chance that a right answer is ranked above a wrong one (ties count half); NaN if only one kind is there."""
    from scipy.stats import rankdata

    stated, truth = _pair(p, right, "auc")
    positives = float(truth.sum())
    negatives = truth.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    ranks = rankdata(stated)
    return float((ranks[truth > 0].sum() - positives * (positives + 1) / 2) / (positives * negatives))
