"""Fits where the best plan ends up, backwards over recorded steps, at many prices at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.decision.experience import Experience
from tta_langgraph.decision.fitted_value import FLOOR, AheadModel, FittedValue, call_prices
from tta_langgraph.decision.fitting import folds, forest_value
from tta_langgraph.decision.learning import Lesson, step_rows
from tta_langgraph.decision.scorers import Linear, Scorer
from tta_langgraph.decision.utility import Utility

Floats = NDArray[np.float64]
Model = tuple[Floats, Floats, Floats]
"""Gain, tokens and seconds to the end, each shape (steps,)."""

PRICES: tuple[tuple[float, float], ...] = (
    *((p, 0.0) for p in (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)),
    *((0.0, p) for p in (0.001, 0.01, 0.1)),
    *((p / 2, p / 2) for p in (0.003, 0.03, 0.2)),
)
"""Prices of a fresh call's tokens and seconds, in right answers, at which plans are learned."""


@dataclass(frozen=True)
class _Steps:
    """The steps of one action, as arrays over steps."""

    index: NDArray[np.int64]
    x: Floats
    gain: Floats
    tokens: Floats
    """In fresh calls."""
    seconds: Floats
    """In fresh calls."""


def fit_ahead(lesson: Lesson, experiences: Sequence[Experience], *, iterations: int = 4, seed: int = 1) -> FittedValue:
    """Backward fitted Q-iteration: after each step the better of stopping and the best plan known so far.

    The state after a step is valued by models that did not see its group (two halves judge each other), and by what was
    observed rather than predicted where the plan stops there, so that errors do not feed on themselves.

    Args:
        lesson: from `fit_learned` on the same steps.
        experiences: the recorded steps.
        iterations: steps that plans look ahead.
        seed: of the halves.
    """
    moments, base = lesson.moments, lesson.predictor
    half = folds([e.group or e.question for e in experiences], 2, seed)
    names = sorted({e.action.name for e in experiences})
    scale = np.asarray([call_prices(base.costs, base.costs.scale(e.snapshot), Utility())[:2] for e in experiences])
    parts: dict[str, _Steps] = {}
    for name in names:
        index = np.asarray([i for i, e in enumerate(experiences) if e.action.name == name])
        x, gain, _ = step_rows(moments, experiences, index)
        tokens = np.asarray([experiences[i].tokens for i in index]) / np.maximum(scale[index, 0], 1e-9)
        seconds = np.asarray([experiences[i].seconds for i in index]) / np.maximum(scale[index, 1], 1e-9)
        parts[name] = _Steps(index, x, gain, tokens, seconds)
    sizes = {name: sorted({e.action.n for e in experiences if e.action.name == name}) for name in names}
    models: dict[str, tuple[list[Scorer], list[Scorer], list[Scorer]]] = {}
    for _ in range(iterations):
        fitted: dict[str, tuple[list[Scorer], list[Scorer], list[Scorer]]] = {}
        for name, steps in parts.items():
            xs, ys = [], []
            for price in PRICES:
                on = _onward(models, parts, sizes, moments.x[moments.after[steps.index]], half[steps.index], price)
                # What the plan's later steps add was predicted; what this step did was observed.
                ys.append(np.column_stack([steps.gain + on[0], steps.tokens + on[1], steps.seconds + on[2]]))
                logs = [math.log10(max(FLOOR, p)) for p in price]
                xs.append(np.column_stack([steps.x, np.tile(logs, (len(steps.x), 1))]))
            x, y = np.concatenate(xs), np.concatenate(ys)
            side = np.tile(half[steps.index], len(PRICES))
            fitted[name] = tuple(_halves(x, y[:, k], side, k) for k in range(3))  # type: ignore[assignment]
        models = fitted
    ahead = {
        name: AheadModel(*(Scorer(parts=(a.parts[0], b.parts[0]), low=a.low, high=a.high) for a, b in three))
        for name, three in models.items()
    }
    return FittedValue(base=base, ahead=ahead)


def _halves(x: Floats, y: Floats, side: NDArray[np.int64], k: int) -> list[Scorer]:
    """Models fitted on half 0 and on half 1."""
    low, high = (-1.0, 1.0) if k == 0 else (0.0, math.inf)
    found = []
    for h in (0, 1):
        rows = side == h
        if np.ptp(y[rows]) == 0:
            part: Linear | None = Linear(float(y[rows][0]), (0.0,) * x.shape[1])
        else:
            part = None
        model = part or forest_value(x[rows], y[rows], np.ones(int(rows.sum())), iterations=40)
        found.append(Scorer(parts=(model,), low=low, high=high))
    return found


def _onward(
    models: dict[str, tuple[list[Scorer], list[Scorer], list[Scorer]]],
    parts: dict[str, _Steps],
    sizes: dict[str, list[int]],
    after: Floats,
    half: NDArray[np.int64],
    price: tuple[float, float],
) -> Model:
    """What the best plan from the moments after some steps adds, 0 where it stops there."""
    best = np.zeros((3, len(after)))
    worth = np.zeros(len(after))
    if not models:
        return best[0], best[1], best[2]
    logs = np.tile([math.log10(max(FLOOR, p)) for p in price], (len(after), 1))
    for name in parts:
        for n in sizes[name]:
            x = np.column_stack([after, np.full(len(after), float(n)), logs])
            plan = np.zeros((3, len(after)))
            for h in (0, 1):
                rows = half == h
                if rows.any():
                    for k in range(3):  # judged by the other half's models
                        plan[k, rows] = models[name][k][1 - h].batch(x[rows])
            u = plan[0] - price[0] * plan[1] - price[1] * plan[2]
            better = u > worth
            worth = np.where(better, u, worth)
            best = np.where(better, plan, best)
    return best[0], best[1], best[2]
