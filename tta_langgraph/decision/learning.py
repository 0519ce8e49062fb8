"""From recorded steps to a learned predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.decision.cost_fitting import fit_costs
from tta_langgraph.decision.experience import Experience
from tta_langgraph.decision.features import vector
from tta_langgraph.decision.fitting import Fitted, fit_probability, fit_value, folds, need_sklearn
from tta_langgraph.decision.learned import Learned
from tta_langgraph.decision.ranking import pick, rank_vectors, ranked
from tta_langgraph.decision.scorers import Scorer
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.errors import PolicyError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Every distinct moment of the recorded steps, with everything that models need of it. Arrays: shape (moments,)."""

    snapshots: list[Snapshot]
    """The moments."""
    before: NDArray[np.int64]
    """Index of the moment before each step, shape (steps,)."""
    after: NDArray[np.int64]
    """Index of the moment after each step, shape (steps,)."""
    fold: NDArray[np.int64]
    """Fold of each moment."""
    weight: Floats
    """Moments of a question weigh 1 together."""
    best: list[str | None]
    """What would be answered, chosen by a model that did not see the moment's group."""
    right: Floats
    """Whether that is right, 0 or 1."""
    x: Floats
    """`GAIN_FEATURES` without `n`, shape (moments, gain features - 1), P(correct) held out."""


@dataclass(frozen=True)
class Lesson:
    """A learned predictor with what it was learned from, for `fit_ahead`, and how well it does on unseen groups."""

    predictor: Learned
    """The predictor."""
    moments: Moments
    """The moments with held-out predictions."""
    notes: dict[str, Any]
    """Held-out figures."""


def fit_learned(experiences: Sequence[Experience], *, k: int = 5, seed: int = 0, rank: bool = True) -> Lesson:
    """Learns which answer to give, P(it is right), and what every action adds.

    In three stages, each fed with predictions that the one before made for groups it had not seen: a ranker of answers,
    P(correct now) of the answer it picks, and the gain of each action. Linear and boosted models compete at each stage.

    Args:
        experiences: recorded steps, at least from two groups.
        k: folds.
        seed: of the folds.
        rank: learn which answer to give; False leaves it to the vote.

    Raises:
        PolicyError: no steps, only one group, only right or only wrong answers, or scikit-learn is missing.
    """
    need_sklearn()
    if len({e.group or e.question for e in experiences}) < 2:
        raise PolicyError(
            f"{len(experiences)} recorded steps of fewer than two groups",
            where="fit_learned",
            remedy="Record questions of at least two databases (or leave the group empty to split by question)",
        )
    snapshots, before, after, rights, groups, questions = _distinct(experiences)
    fold = folds(groups, k, seed)
    weight = _weights(questions)
    notes: dict[str, Any] = {"questions": len(set(questions)), "groups": len(set(groups)), "steps": len(experiences)}

    ranker, scores = _fit_ranker(snapshots, rights, fold, weight, notes) if rank else (None, None)
    best, rows, right = [], [], np.zeros(len(snapshots))
    for i, snapshot in enumerate(snapshots):
        if scores is not None and snapshot.tally.groups:
            group, score, lead = pick(snapshot, snapshot.tally.groups, scores[i])
        else:
            group, score, lead = ranked(snapshot, None)
        found = group.best if group is not None else snapshot.tally.best
        best.append(found.id if found is not None else None)
        right[i] = found is not None and found.id in rights[i]
        rows.append([*vector(snapshot, found), score, lead])
    x = np.asarray(rows)
    answered = np.asarray([b is not None for b in best])
    if not answered.any() or np.ptp(right[answered]) == 0:
        raise PolicyError(
            "all answers are right, or all are wrong: nothing to learn",
            where="fit_learned",
            remedy="Record more questions, and check how correctness is decided",
        )
    now = fit_probability(x[answered], right[answered], weight[answered], fold[answered])
    p_now = np.zeros(len(x))
    p_now[answered] = now.held_out
    notes["now"] = _figures(now) | {"auc": _auc(p_now[answered], right[answered], weight[answered])}
    moments = Moments(snapshots, before, after, fold, weight, best, right, np.column_stack([x, p_now]))
    gains = {}
    for name in sorted({e.action.name for e in experiences if not e.action.ends}):
        steps = np.asarray([i for i, e in enumerate(experiences) if e.action.name == name])
        gx, gain, gw = step_rows(moments, experiences, steps)
        fitted = fit_value(gx, gain, gw, fold[before[steps]], low=-1.0, high=1.0)
        gains[name] = fitted.scorer
        notes[f"gain {name}"] = _figures(fitted) | {"mean": float(np.average(gain, weights=gw))}
    predictor = Learned(now=now.scorer, gains=gains, ranker=ranker, costs=fit_costs(experiences))
    return Lesson(predictor, moments, notes)


def step_rows(
    moments: Moments, experiences: Sequence[Experience], steps: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats]:
    """Features, observed gain and weight of some steps, shapes (steps, gain features), (steps,), (steps,)."""
    n = np.asarray([float(experiences[i].action.n) for i in steps])
    x = np.column_stack([moments.x[moments.before[steps]], n])
    gain = moments.right[moments.after[steps]] - moments.right[moments.before[steps]]
    return x, gain, _weights([experiences[i].question for i in steps])


def _distinct(
    experiences: Sequence[Experience],
) -> tuple[list[Snapshot], NDArray[np.int64], NDArray[np.int64], list[frozenset[str]], list[str], list[str]]:
    """The distinct moments before and after the steps; the same candidates of the same question are one moment."""
    known: dict[tuple[Any, ...], int] = {}
    snapshots: list[Snapshot] = []
    rights: list[frozenset[str]] = []
    groups: list[str] = []
    questions: list[str] = []
    before: list[int] = []
    after: list[int] = []
    for e in experiences:
        for snapshot, indices in ((e.snapshot, before), (e.after, after)):
            key = (e.question, snapshot.step, tuple((c.id, len(c.evidence.verdicts)) for c in snapshot.candidates))
            if key not in known:
                known[key] = len(snapshots)
                snapshots.append(snapshot)
                rights.append(e.right)
                groups.append(e.group or e.question)
                questions.append(e.question)
            indices.append(known[key])
    return snapshots, np.asarray(before), np.asarray(after), rights, groups, questions


def _weights(questions: Sequence[str]) -> Floats:
    """Rows of a question weigh 1 together, and the average row weighs 1."""
    _, index, counts = np.unique(np.asarray(questions), return_inverse=True, return_counts=True)
    weight = 1.0 / counts[index]
    return np.asarray(weight * len(weight) / weight.sum())


def _fit_ranker(
    snapshots: list[Snapshot],
    rights: list[frozenset[str]],
    fold: NDArray[np.int64],
    weight: Floats,
    notes: dict[str, Any],
) -> tuple[Scorer | None, list[list[float]] | None]:
    """A scorer of answers with held-out scores per moment, or None where the vote is as good on unseen groups."""
    rows, y, w, f, owner = [], [], [], [], []
    for i, snapshot in enumerate(snapshots):
        groups = snapshot.tally.groups
        if len(groups) < 2:
            continue
        for group, x in zip(groups, rank_vectors(snapshot), strict=True):
            rows.append(x)
            y.append(float(group.best.id in rights[i]))
            w.append(weight[i])
            f.append(fold[i])
            owner.append(i)
    if len(set(y)) < 2 or len(set(f)) < 2:
        return None, None
    fitted = fit_probability(
        np.asarray(rows), np.asarray(y), np.asarray(w), np.asarray(f), ("linear", "forest", "both")
    )
    scores: list[list[float]] = [[] for _ in snapshots]
    for i, score in zip(owner, fitted.held_out.tolist(), strict=True):
        scores[i].append(score)
    by_vote = by_rank = total = 0.0
    for i, snapshot in enumerate(snapshots):
        groups = snapshot.tally.groups
        if len(groups) == 1:
            scores[i] = [fitted.scorer(rank_vectors(snapshot)[0])]
        if len(groups) < 2:
            continue
        picked = pick(snapshot, groups, scores[i])[0]
        total += weight[i]
        by_vote += weight[i] * (groups[0].best.id in rights[i])
        by_rank += weight[i] * (picked is not None and picked.best.id in rights[i])
    notes["ranker"] = _figures(fitted) | {
        "split_moments_by_vote": float(by_vote / total),
        "by_ranker": float(by_rank / total),
    }
    return (fitted.scorer, scores) if by_rank > by_vote else (None, None)


def _figures(fitted: Fitted) -> dict[str, Any]:
    return {"kept": fitted.family, **{f"loss {name}": round(loss, 6) for name, loss in fitted.losses.items()}}


def _auc(score: Floats, y: Floats, weight: Floats) -> float:
    """Weighted area under the ROC curve; ties count half."""
    order = np.argsort(score, kind="stable")
    s, positive, w = score[order], y[order] > 0.5, weight[order]
    _, start = np.unique(s, return_index=True)
    negatives = np.add.reduceat(np.where(positive, 0.0, w), start)
    positives = np.add.reduceat(np.where(positive, w, 0.0), start)
    below = np.cumsum(negatives) - negatives
    total = positives.sum() * negatives.sum()
    return float((positives * (below + negatives / 2)).sum() / total) if total > 0 else 0.5
