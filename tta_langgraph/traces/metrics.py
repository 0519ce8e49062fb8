"""What an answer is worth and what it cost: coverage, saturation, cost of pass, anytime area.

Everything here is a function of plain arrays; nothing knows of models, graphs or stores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tta_langgraph.errors import TraceError

Floats = NDArray[np.float64]


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> Floats:
    """Chance that at least one of `k` samples is right, drawn without repetition from `n` of which `c` are right.

    `1 − C(n−c, k) / C(n, k)`, computed as a product so that nothing overflows. Chen et al. 2021 (arXiv 2107.03374).

    Args:
        n: samples taken per question, shape (questions,).
        c: right ones among them, same shape.
        k: samples allowed.

    Returns:
        One unbiased estimate per question, shape (questions,).

    Raises:
        TraceError: `k` is below 1 or above the smallest `n`, or some `c` is not between 0 and its `n`.
    """
    taken, right = np.broadcast_arrays(np.atleast_1d(np.asarray(n, int)), np.atleast_1d(np.asarray(c, int)))
    if k < 1 or (taken.size and k > taken.min()):
        raise TraceError(
            f"pass@{k} needs at least {k} samples of every question",
            where="pass_at_k",
            remedy="Lower k, or record more samples",
        )
    if np.any(right < 0) or np.any(right > taken):
        raise TraceError("more right samples than samples", where="pass_at_k", remedy="Give c between 0 and n")
    offsets = np.arange(k)
    wrong = (taken - right)[:, None] - offsets
    missed = np.prod(np.clip(wrong, 0, None) / (taken[:, None] - offsets), axis=1)
    return np.asarray(1.0 - missed, dtype=float)


@dataclass(frozen=True, kw_only=True)
class CoverageFit:
    """Coverage as a function of the number of samples: `exp(a · k^b)`, *Large Language Monkeys* (arXiv 2407.21787)."""

    a: float
    """Log-coverage at one sample, at most 0."""
    b: float
    """Exponent, at most 0; the closer to 0, the less more samples help."""
    error: float
    """Root mean square error of the fit, in coverage (0 to 1)."""

    def __call__(self, k: ArrayLike) -> Floats:
        """Coverage after `k` samples."""
        return np.exp(self.a * np.asarray(k, float) ** self.b)


def fit_coverage(ks: ArrayLike, coverage: ArrayLike) -> CoverageFit:
    """Fits `exp(a · k^b)` to measured coverage by least squares.

    Args:
        ks: numbers of samples, at least two different ones, shape (m,).
        coverage: measured coverage at each, in (0, 1), shape (m,).

    Raises:
        TraceError: fewer than two points, or the coverage is 0 or 1 throughout (the curve is then constant).
    """
    from scipy.optimize import least_squares

    x, y = np.asarray(ks, float), np.asarray(coverage, float)
    inside = (y > 0) & (y < 1)
    if len(set(x[inside])) < 2:
        raise TraceError(
            "a coverage curve needs two numbers of samples with coverage strictly between 0 and 1",
            where="fit_coverage",
            remedy="Record more samples or more questions",
        )
    slope, intercept = np.polyfit(np.log(x[inside]), np.log(-np.log(y[inside])), 1)

    def misfit(p: Floats) -> Floats:
        return np.asarray(np.exp(p[0] * x ** p[1]) - y)

    found = least_squares(
        misfit,
        x0=(min(-np.exp(intercept), -1e-9), min(slope, -1e-9)),
        bounds=((-np.inf, -np.inf), (0.0, 0.0)),
    )
    return CoverageFit(a=float(found.x[0]), b=float(found.x[1]), error=float(np.sqrt(np.mean(found.fun**2))))


@dataclass(frozen=True, kw_only=True)
class VoteFit:
    """Accuracy of a vote over k samples: `limit − (limit − start) · q^(k−1)`, which starts at one sample, not at 0.

    A vote over no samples is not wrong but impossible, and one sample is right more often than a vote gains by the
    second: a curve through the origin levels off too early, below what was measured.
    """

    start: float
    """Accuracy of one sample."""
    limit: float
    """Accuracy that the vote levels off at."""
    q: float
    """Share of the way that is left after each further sample, between 0 and 1."""
    error: float
    """Root mean square error of the fit, in accuracy (0 to 1)."""

    def __call__(self, k: ArrayLike) -> Floats:
        """Accuracy of a vote over `k` samples."""
        return np.asarray(self.limit - (self.limit - self.start) * self.q ** (np.asarray(k, float) - 1))


def fit_vote(ks: ArrayLike, accuracy: ArrayLike) -> VoteFit:
    """Fits a curve that levels off to the measured accuracy of votes, by least squares.

    Args:
        ks: numbers of samples, at least four different ones, shape (m,).
        accuracy: measured accuracy at each, shape (m,).

    Raises:
        TraceError: fewer than four numbers of samples: three parameters would fit anything.
    """
    x, y = np.asarray(ks, float), np.asarray(accuracy, float)
    if len(set(x)) < 4:
        raise TraceError(
            "a vote's curve needs four numbers of samples", where="fit_vote", remedy="Record more samples a question"
        )

    def at(q: float) -> tuple[float, Floats]:
        """For a given q the other two parameters are a straight line's."""
        rest = q ** (x - 1)
        line = np.polyfit(rest, y, 1)
        return float(np.mean((np.polyval(line, rest) - y) ** 2)), line

    q = min(np.linspace(0.02, 0.98, 97).tolist(), key=lambda q: at(q)[0])
    misfit, (slope, limit) = at(q)
    return VoteFit(start=float(limit + slope), limit=float(limit), q=q, error=float(np.sqrt(misfit)))


def coverage_curve(counts: Sequence[tuple[int, int]], ks: Sequence[int]) -> Floats:
    """Mean pass@k over questions given as (samples, right ones); questions with fewer than k samples are left out."""
    rows = np.asarray(counts, int).reshape(-1, 2)
    return np.asarray(
        [
            np.mean(pass_at_k(rows[rows[:, 0] >= k, 0], rows[rows[:, 0] >= k, 1], k))
            if (rows[:, 0] >= k).any()
            else np.nan
            for k in ks
        ]
    )


def cost_of_pass(cost: float, accuracy: float) -> float:
    """Expected cost of one right answer: mean cost / accuracy; infinite where nothing is right.

    *Cost-of-Pass* (arXiv 2504.13359). The unit is that of `cost` (tokens, seconds or US dollars).
    """
    return cost / accuracy if accuracy > 0 else float("inf")


def frontier_cost_of_pass(strategies: Mapping[str, tuple[float, float]]) -> tuple[str, float]:
    """The strategy with the lowest cost of pass, and that cost, among `{name: (mean cost, accuracy)}`.

    Raises:
        TraceError: there is no strategy.
    """
    if not strategies:
        raise TraceError("no strategies to compare", where="frontier_cost_of_pass")
    return min(((name, cost_of_pass(*pair)) for name, pair in strategies.items()), key=lambda item: item[1])


def price_reversals(listed: Mapping[str, float], actual: Mapping[str, float]) -> list[tuple[str, str]]:
    """Pairs (a, b) where `a` has the lower listed price but the higher actual cost per task.

    A model that lists cheaper tokens may write so many of them that it costs more.

    Args:
        listed: listed price per model, US dollars per token.
        actual: mean actual cost per task, US dollars; models without both figures are left out.
    """
    names = sorted(set(listed) & set(actual))
    return [(a, b) for a in names for b in names if listed[a] < listed[b] and actual[a] > actual[b]]


def energy_per_token(watts: float, seconds: float, tokens: float) -> float:
    """Joules per token of a device that drew `watts` (mean) for `seconds` while it made `tokens`."""
    if tokens <= 0:
        raise TraceError("energy per token needs at least one token", where="energy_per_token")
    return watts * seconds / tokens


def anytime_area(costs: ArrayLike, quality: ArrayLike, horizon: float) -> float:
    """Normalised area under an anytime curve: mean quality over [0, horizon] if stopped at a random moment.

    The curve is a staircase: 0 before the first answer, then the quality of the best answer so far, held until
    the next one and, after the last, until the horizon.

    Args:
        costs: when each answer came, ascending, in tokens or seconds, shape (steps,).
        quality: quality of the best answer from then on, shape (steps,).
        horizon: where the curve ends, above 0.
    """
    at, value = np.asarray(costs, float), np.asarray(quality, float)
    if horizon <= 0 or np.any(np.diff(at) < 0):
        raise TraceError("an anytime curve needs ascending costs and a horizon above 0", where="anytime_area")
    edges = np.clip(np.append(at, horizon), 0, horizon)
    return float(np.sum(np.diff(edges) * value) / horizon)
