"""Fitting small models with scikit-learn and taking them out as plain numbers.

scikit-learn (extra `learn`) is imported only here; what leaves this module needs neither it nor pickle. Which kind of
model is kept is decided by held-out loss, with folds that never split a group (a database).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.decision.calibration import Platt
from tta_langgraph.decision.forest import LEAVES, Forest, Tree
from tta_langgraph.decision.scorers import Linear, Scorer
from tta_langgraph.errors import PolicyError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Part = Linear | Forest
Family = Literal["constant", "linear", "forest", "both"]
MOST_ROWS = 8_000
"""Rows a boosted model is fitted on at most: rows of one question repeat each other, and questions are what counts."""
FAMILIES: tuple[Family, ...] = ("constant", "linear", "forest", "both")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A model and what it says of rows it was not fitted on."""

    scorer: Scorer
    """Fitted on all rows."""
    held_out: Floats
    """Predictions for every row by a model that did not see its group, shape (rows,)."""
    family: Family
    """What kind of model was kept."""
    losses: Mapping[Family, float]
    """Held-out loss by kind: log loss, or squared error."""


def folds(groups: Sequence[str], k: int, seed: int = 0) -> Ints:
    """A fold per row, in [0, k), that never splits a group; folds of nearly equal size. Shape (rows,)."""
    names, index, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    k = max(2, min(k, len(names)))
    fold_of = np.zeros(len(names), dtype=np.int64)
    load = np.zeros(k)
    luck = np.random.default_rng(seed).random(len(names))
    for g in np.lexsort((luck, -counts)):  # largest first into the emptiest fold
        fold_of[g] = load.argmin()
        load[fold_of[g]] += counts[g]
    return np.asarray(fold_of[index], dtype=np.int64)


def fit_probability(
    x: Floats, y: NDArray[Any], weight: Floats, fold: Ints, families: Sequence[Family] = FAMILIES
) -> Fitted:
    """Fits P(y) by held-out log loss, with Platt's sigmoid over the held-out margins.

    Args:
        x: shape (rows, features).
        y: whether it was right, shape (rows,).
        weight: shape (rows,).
        fold: from `folds`, shape (rows,).
        families: kinds of model to try.
    """
    target = np.asarray(y, dtype=np.float64)
    margins = _cross(x, target, weight, fold, families, _classifiers)
    losses: dict[Family, float] = {}
    for name, margin in margins.items():
        losses[name] = _log_loss(_sigmoid(margin), target, weight)
    family = min(losses, key=lambda name: (losses[name], FAMILIES.index(name)))
    margin = margins[family]
    platt = _platt(margin, target, weight)
    held_out = _sigmoid(platt.slope * margin + platt.bias)
    parts = _parts(x, target, weight, family, _classifiers)
    scorer = Scorer(parts=parts, calibrator=platt, low=0.001, high=0.999)
    return Fitted(scorer, np.clip(held_out, 0.001, 0.999), family, losses)


def fit_value(
    x: Floats,
    y: Floats,
    weight: Floats,
    fold: Ints,
    families: Sequence[Family] = FAMILIES,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Fitted:
    """Fits E[y] by held-out squared error; results are clipped to [low, high]. Shapes as in `fit_probability`."""
    predictions = _cross(x, y, weight, fold, families, _regressors)
    losses = {name: float(np.average((p - y) ** 2, weights=weight)) for name, p in predictions.items()}
    family = min(losses, key=lambda name: (losses[name], FAMILIES.index(name)))
    scorer = Scorer(parts=_parts(x, y, weight, family, _regressors), low=low, high=high)
    return Fitted(scorer, np.clip(predictions[family], low, high), family, losses)


def forest_value(x: Floats, y: Floats, weight: Floats, *, iterations: int = 60) -> Forest:
    """One boosted regression of E[y], without any selection. Shapes as in `fit_probability`."""
    return _boosted(x, y, weight, classify=False, iterations=iterations)


def need_sklearn() -> None:
    """Raises early if the extra is missing.

    Raises:
        PolicyError: scikit-learn is not installed.
    """
    try:
        import sklearn  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise PolicyError(
            "fitting needs scikit-learn, which is not installed",
            where="tta_langgraph.decision.fitting",
            remedy='pip install "tta-langgraph[learn]"; fitted policies run without it',
        ) from None


Maker = Callable[[Floats, Floats, Floats, Family], Part]


def _cross(
    x: Floats, y: Floats, weight: Floats, fold: Ints, families: Sequence[Family], make: Maker
) -> dict[Family, Floats]:
    found: dict[Family, Floats] = {name: np.zeros(len(x)) for name in families if name != "both"}
    for train, test in _splits(fold):
        for name in found:
            found[name][test] = make(x[train], y[train], weight[train], name).batch(x[test])
    if "both" in families and "linear" in found and "forest" in found:
        found["both"] = (found["linear"] + found["forest"]) / 2
    return found


def _splits(fold: Ints) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for k in np.unique(fold):
        yield fold != k, fold == k


def _parts(x: Floats, y: Floats, weight: Floats, family: Family, make: Maker) -> tuple[Part, ...]:
    names: tuple[Family, ...] = ("linear", "forest") if family == "both" else (family,)
    return tuple(make(x, y, weight, name) for name in names)


def _classifiers(x: Floats, y: Floats, weight: Floats, family: Family) -> Part:
    mean = (float(np.dot(weight, y)) + 0.5) / (float(weight.sum()) + 1.0)
    if family == "constant" or y.min() == y.max():
        return Linear(math.log(mean / (1 - mean)), (0.0,) * x.shape[1])
    if family == "forest":
        return _boosted(x, y, weight, classify=True)
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    centre, spread = _standard(x)
    model = LogisticRegression(C=0.3, solver="newton-cholesky")
    with one_thread():
        model.fit((x - centre) / spread, y, sample_weight=weight)
    return _linear(model.coef_[0], float(model.intercept_[0]), centre, spread)


def _regressors(x: Floats, y: Floats, weight: Floats, family: Family) -> Part:
    if family == "constant" or np.ptp(y) == 0:
        return Linear(float(np.average(y, weights=weight)), (0.0,) * x.shape[1])
    if family == "forest":
        return _boosted(x, y, weight, classify=False)
    from sklearn.linear_model import Ridge

    centre, spread = _standard(x)
    model = Ridge(alpha=10.0)
    model.fit((x - centre) / spread, y, sample_weight=weight)
    return _linear(model.coef_, float(model.intercept_), centre, spread)


def _standard(x: Floats) -> tuple[Floats, Floats]:
    spread = x.std(axis=0)
    return x.mean(axis=0), np.where(spread > 1e-9, spread, 1.0)


def _linear(coefficients: Floats, intercept: float, centre: Floats, spread: Floats) -> Linear:
    weights = coefficients / spread
    return Linear(intercept - float(weights @ centre), tuple(float(w) for w in weights))


def _boosted(x: Floats, y: Floats, weight: Floats, *, classify: bool, iterations: int = 60) -> Forest:
    from sklearn.ensemble import (  # type: ignore[import-untyped]
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
    )

    settings: dict[str, Any] = {
        "max_iter": iterations,
        "learning_rate": 0.06,
        "max_leaf_nodes": LEAVES,
        "max_depth": 3,
        "min_samples_leaf": max(10, len(x) // 100),
        "l2_regularization": 5.0,
        "early_stopping": False,
        "random_state": 0,
    }
    # Weights become frequencies: scikit-learn's weighted binning costs a hundred times the fit itself.
    if len(x) > MOST_ROWS or weight.min() < 0.8 * weight.max():
        chance = weight / weight.sum()
        kept = np.random.default_rng(0).choice(len(x), min(MOST_ROWS, 2 * len(x)), p=chance)
        x, y = x[kept], y[kept]
    if classify and y.min() == y.max():
        return Forest(math.log((y.mean() + 1e-3) / (1 - y.mean() + 1e-3)), (), x.shape[1])
    model = (HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor)(**settings)
    with one_thread():
        model.fit(x, y)
        return export_forest(model, x)


def one_thread() -> Any:
    """A context in which scikit-learn uses one thread: on small data threads wait for each other, and on a busy machine
    they wait a hundred times longer than they work."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    return threadpool_limits(limits=1)


def export_forest(model: Any, x: Floats) -> Forest:
    """Takes the trees out of a fitted histogram gradient boosting model of scikit-learn.

    The nodes are not a public interface there, so the result is compared with the model's own predictions.

    Args:
        model: a fitted `HistGradientBoostingClassifier` (two classes) or `-Regressor`.
        x: some rows to compare on, shape (rows, features).

    Raises:
        PolicyError: the trees do not reproduce the model's predictions.
    """
    base = float(np.ravel(model._baseline_prediction)[0])
    trees = tuple(_tree(stage[0].nodes) for stage in model._predictors)
    forest = Forest(base, trees, x.shape[1])
    sample = x[:: max(1, len(x) // 200)]
    own = model.decision_function(sample) if hasattr(model, "decision_function") else model.predict(sample)
    if not np.allclose(forest.batch(np.asarray(sample)), np.ravel(own), atol=1e-6):
        raise PolicyError(
            "the exported trees differ from scikit-learn's own predictions",
            where="export_forest",
            remedy="Install a scikit-learn version between 1.6 and 1.9",
        )
    return forest


def _tree(nodes: Any) -> Tree:
    inner = [i for i in range(len(nodes)) if not nodes[i]["is_leaf"]]
    # Children come after their parent in scikit-learn's order, and must here.
    position = {node: k for k, node in enumerate(inner)}
    values: list[float] = []
    leaf_of: dict[int, int] = {}

    def walk(node: int) -> None:
        if nodes[node]["is_leaf"]:
            leaf_of[node] = len(values)
            values.append(float(nodes[node]["value"]))
        else:
            walk(int(nodes[node]["left"]))
            walk(int(nodes[node]["right"]))

    walk(0)

    def reference(node: int) -> int:
        return position[node] if node in position else -1 - leaf_of[node]

    return Tree(
        tuple(int(nodes[i]["feature_idx"]) for i in inner),
        tuple(float(nodes[i]["num_threshold"]) for i in inner),
        tuple(reference(int(nodes[i]["left"])) for i in inner),
        tuple(reference(int(nodes[i]["right"])) for i in inner),
        tuple(values),
    )


def _sigmoid(margin: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(margin, -500, 500))))


def _log_loss(p: Floats, y: Floats, weight: Floats) -> float:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(np.average(-(y * np.log(p) + (1 - y) * np.log(1 - p)), weights=weight))


def _platt(margin: Floats, y: Floats, weight: Floats) -> Platt:
    """Weighted Platt scaling, drawn to the identity so that few rows do not distort."""
    slope, bias = 1.0, 0.0
    prior = 0.02 * float(weight.sum())
    for _ in range(50):
        p = _sigmoid(slope * margin + bias)
        w = weight * p * (1 - p)
        g = np.array([np.dot(weight * (p - y), margin) + prior * (slope - 1), np.dot(weight, p - y) + prior * bias])
        h = np.array([[np.dot(w, margin**2) + prior, np.dot(w, margin)], [np.dot(w, margin), w.sum() + prior]])
        step = np.linalg.solve(h, g)
        slope, bias = slope - float(step[0]), bias - float(step[1])
        if np.abs(step).max() < 1e-9:
            break
    return Platt(max(slope, 0.05), bias)
