"""Fits the panel of answerers: classes of questions by expectation-maximisation, evidence by logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from tta_langgraph.decision.cost_fitting import fit_costs
from tta_langgraph.decision.experience import Experience
from tta_langgraph.decision.fitting import folds
from tta_langgraph.decision.panel import Panel, evidence, source_name
from tta_langgraph.traces.replay_columns import Columns

Floats = NDArray[np.float64]


def fit_panel(
    table: Columns, steps: Sequence[Experience], *, classes: int = 4, buckets: int = 8, depth: int | None = None
) -> Panel:
    """Learns how good each source is on each class of questions, and what an answer's own evidence says.

    Args:
        table: the fit side.
        steps: what was explored on it, for costs.
        classes: hidden classes of questions.
        buckets: of evidence.
        depth: steps that plans look ahead; by default 4, fewer for more than five sources, so that plans stay quick.
    """
    counts, sources, rows = _counts(table)
    weights, skill, failing, member = _classes(counts, classes)
    spread = _spread(table, rows, member, classes)
    usual = float(np.median(np.log1p(table["answer_chars"][rows[0, rows[2] < 2]]))) if (rows[2] < 2).any() else 0.0
    scores, edges, log_right, log_wrong = _evidence(table, rows, buckets, usual)
    played = {source_name(step.action) for step in steps}
    priced = _prices(table, sources, rows)
    prices = {n: priced[n] for n in sources if n in played or (n.startswith("escalate") and "escalate" in played)}
    first = [step.snapshot.candidates[0].usage.tokens for step in steps if len(step.snapshot.candidates) == 1]
    panel = Panel(
        sources=tuple(sources),
        weights=_plain(weights),
        skill=tuple(map(_plain, skill)),
        failing=tuple(map(_plain, failing)),
        spread=_plain(spread),
        scores=scores,
        edges=edges,
        log_right=log_right,
        log_wrong=log_wrong,
        usual_length=usual,
        prices=prices,
        first_tokens=float(np.mean(first)) if first else 1.0,
        costs=fit_costs(steps),
        depth=depth or _steps_ahead(len(prices)),
    )
    return _tempered(panel, steps)


def _steps_ahead(sources: int) -> int:
    """Plans multiply with the sources that can be asked at each step."""
    return next((depth for depth in (4, 3) if sources**depth <= MOST_PLANS), 2)


MOST_PLANS = 700
"""Orders of asking that a plan of more than two steps may have to compare: four steps among five sources."""


def _plain(values: Floats) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _counts(table: Columns) -> tuple[Floats, list[str], NDArray[np.int64]]:
    """Right, wrong and failed attempts per question and source, shape (questions, sources, 3); fresh rows only."""
    fresh = {table.code("action", name): name for name in ("generate", "resample", "escalate")}
    escalate = table.code("action", "escalate")
    rows = np.flatnonzero(
        np.isin(table["action"], [code for code in fresh if code >= 0])
        & ((table["parent"] < 0) | (table["action"] == escalate))
    )
    names = [
        f"escalate:{table.texts['model'][m]}" if a == escalate else fresh[a]
        for a, m in zip(table["action"][rows].tolist(), table["model"][rows].tolist(), strict=True)
    ]
    sources = list(dict.fromkeys(names))
    index = np.asarray([sources.index(name) for name in names])
    kind = np.where(
        table["correct"][rows], 0, np.where((table["key"][rows] >= 0) & (table["executed"][rows] != 0), 1, 2)
    )
    counts = np.zeros((len(table), len(sources), 3))
    np.add.at(counts, (table.owner[rows], index, kind), 1.0)
    return counts, sources, np.stack([rows, index, kind])


def _classes(counts: Floats, classes: int, *, rounds: int = 200) -> tuple[Floats, Floats, Floats, Floats]:
    """Expectation-maximisation with smoothing towards each source's overall rates.

    Returns:
        Weights (classes,), skill and failing (sources, classes), membership (questions, classes).
    """
    tried = counts.sum(axis=2)
    overall = (counts[:, :, 0].sum(axis=0) + 1) / (tried.sum(axis=0) + 2)
    fails = (counts[:, :, 2].sum(axis=0) + 0.5) / (counts[:, :, 1:].sum(axis=(0, 2)) + 1)
    share = (counts[:, :, 0].sum(axis=1) + 0.5) / (tried.sum(axis=1) + 1)
    centres = np.quantile(share, (np.arange(classes) + 0.5) / classes)
    member = np.exp(-((share[:, None] - centres) ** 2) / 0.05)
    member /= member.sum(axis=1, keepdims=True)
    strength = 2.0
    for _ in range(rounds):
        weights = (member.sum(axis=0) + 1) / (len(counts) + classes)
        right, wrong, failed = (np.einsum("qs,qz->sz", counts[:, :, k], member) for k in range(3))
        skill = (right + strength * overall[:, None]) / (right + wrong + failed + strength)
        failing = (failed + strength * fails[:, None]) / (wrong + failed + strength)
        skill, failing = np.clip(skill, 1e-3, 1 - 1e-3), np.clip(failing, 1e-3, 1 - 1e-3)
        logs = np.stack([np.log(skill), np.log((1 - skill) * (1 - failing)), np.log((1 - skill) * failing)])
        joint = np.log(weights) + np.einsum("qsk,ksz->qz", counts, logs)
        joint -= joint.max(axis=1, keepdims=True)
        after = np.exp(joint)
        after /= after.sum(axis=1, keepdims=True)
        if np.abs(after - member).max() < 1e-5:
            break
        member = after
    return weights, skill, failing, member


def _spread(table: Columns, found: NDArray[np.int64], member: Floats, classes: int) -> Floats:
    """The concentration per class under which wrong answers repeat each other as they did: a search over a grid."""
    rows, _, kind = found
    grid = np.geomspace(0.05, 30, 40)
    likelihood = np.zeros((len(table), len(grid)))
    wrong = rows[kind == 1]
    owners = table.owner[wrong]
    for q in np.unique(owners):
        _, sizes = np.unique(table["key"][wrong[owners == q]], return_counts=True)
        n = sizes.sum()
        likelihood[q] = len(sizes) * np.log(grid) + gammaln(sizes).sum() - gammaln(grid + n) + gammaln(grid)
    # A little of everyone's in each class, so that a class without wrong answers keeps a sensible value.
    shared = member + 0.05
    return np.asarray([grid[int(np.argmax(shared[:, z] @ likelihood))] for z in range(classes)])


def _evidence(
    table: Columns, found: NDArray[np.int64], buckets: int, usual_length: float
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """A logistic score of an answer's own evidence, and how right and wrong answers fall into its buckets.

    Buckets are filled with scores of models that did not see the answer's database. One answer per key and question
    counts, as the panel looks at each answer once.
    """
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    rows, _, kind = found
    voting = rows[kind < 2]
    codes = table.owner[voting] * (int(table["key"].max()) + 2) + table["key"][voting]
    voting = voting[np.unique(codes, return_index=True)[1]]
    owners = table.owner[voting]
    nothing = (0.0,), (), (0.0,), (0.0,)
    y = table["correct"][voting]
    blocks = {int(q): table.block(int(q), int(q) + 1) for q in np.unique(owners)}
    seen = [
        evidence(blocks[q].candidate(row), table.features[q], usual_length)
        for row, q in zip(voting.tolist(), owners.tolist(), strict=True)
    ]
    x = np.asarray(seen, dtype=np.float64)
    if len(voting) < 60 or y.all() or not y.any():
        return nothing
    spread = x.std(axis=0)
    centre, scale = x.mean(axis=0), np.where(spread > 1e-9, spread, 1.0)
    z = (x - centre) / scale
    fold = folds([table.db_ids[q] for q in owners], 5)
    held_out = np.zeros(len(z))
    for k in np.unique(fold):
        train = fold != k
        if len(np.unique(y[train])) < 2:
            return nothing
        model = LogisticRegression(C=0.1, max_iter=300).fit(z[train], y[train])
        held_out[fold == k] = model.decision_function(z[fold == k])
    model = LogisticRegression(C=0.1, max_iter=300).fit(z, y)
    weights = model.coef_[0] / scale
    edges = np.unique(np.quantile(held_out, np.linspace(0, 1, buckets + 1)[1:-1]))
    slot = np.searchsorted(edges, held_out, side="right")
    strength, n = 10.0, len(edges) + 1
    prior = (np.bincount(slot, minlength=n) + 1.0) / (len(slot) + n)
    logs = [
        np.log((np.bincount(slot[y == side], minlength=n) + strength * prior) / ((y == side).sum() + strength))
        for side in (True, False)
    ]
    bias = float(model.intercept_[0] - weights @ centre)
    return (bias, *_plain(weights)), _plain(edges), _plain(logs[0]), _plain(logs[1])


def _tempered(panel: Panel, steps: Sequence[Experience], *, most: int = 800) -> Panel:
    """The panel with its evidence weighed down as far as it repeats what agreement says already.

    Evidence and agreement are not independent: an easy question makes both strong. The weight is the one under which
    the recorded truth is most probable, over moments of all depths.
    """
    if not panel.edges:
        return panel
    seen = steps[:: max(1, len(steps) // most)]
    best, top = panel, -np.inf
    for weight in WEIGHTS:
        tried = replace(
            panel,
            log_right=tuple(weight * v for v in panel.log_right),
            log_wrong=tuple(weight * v for v in panel.log_wrong),
        )
        total = sum(np.log(max(tried.truth(step.after, step.right), 1e-4)) for step in seen)
        if total > top + 1e-9:
            best, top = tried, total
    return best


WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def _prices(table: Columns, sources: Sequence[str], found: NDArray[np.int64]) -> dict[str, tuple[float, float]]:
    rows, index, _ = found
    prices = {}
    for s, name in enumerate(sources):
        own = rows[index == s]
        tokens = float((table["prompt_tokens"][own] + table["completion_tokens"][own]).mean())
        prices[name] = (tokens, float((table["seconds"][own] + table["execution_seconds"][own]).mean()))
    return prices
