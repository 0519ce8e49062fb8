"""Which answer to give: the right one often loses the vote, so each answer is scored by more than its votes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tta_langgraph.decision.scorers import Scorer
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.decision.tally import Group

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RANK_FEATURES: tuple[str, ...] = (
    "share",  # of the standing candidates
    "votes",
    "lead",  # votes minus those of the best other answer
    "groups",
    "standing",
    "failed_share",
    "order",  # place of its first appearance among the answers, from 0
    "first",  # holds the very first candidate
    "empty",
    "log_rows",
    "rows_ratio",  # log rows minus the mean of the other answers'
    "logprob",  # best mean log-probability among its members
    "logprob_gap",  # minus that of the best other answer
    "logprob_known",
    "completion_ratio",  # mean length over that of all candidates
    "verdict",
    "judged",
    "checks",
    "escalated",
    "corrected",  # made by a correction
)
"""What an answer is scored by, in order."""


def rank_vectors(snapshot: Snapshot) -> list[list[float]]:
    """Features of every answer of a moment, in the order of its tally; shape (groups, rank features)."""
    tally = snapshot.tally
    groups = tally.groups
    if not groups:
        return []
    standing = len(tally.standing)
    failed = tally.failed / standing
    written = sum(c.usage.completion_tokens for c in snapshot.candidates) / len(snapshot.candidates)
    first = snapshot.candidates[0]
    appeared = {c.key: i for i, c in reversed(list(enumerate(tally.standing)))}
    order = {group.key: i for i, group in enumerate(sorted(groups, key=lambda g: appeared[g.key]))}
    rows = [_rows(group) for group in groups]
    logprobs = [_logprob(group) for group in groups]
    found = []
    for i, group in enumerate(groups):
        members = group.members
        others = [g.votes for j, g in enumerate(groups) if j != i]
        other_logprobs = [lp for j, lp in enumerate(logprobs) if j != i and lp is not None]
        own = logprobs[i]
        execution = group.best.evidence.execution
        scores = [v.score for m in members for v in m.evidence.verdicts]
        checks = [c.passed for m in members for c in m.evidence.checks]
        length = sum(m.usage.completion_tokens for m in members) / len(members)
        found.append(
            [
                group.votes / standing,
                float(group.votes),
                float(group.votes - max(others, default=0)),
                float(len(groups)),
                float(standing),
                failed,
                float(order[group.key]),
                1.0 if members[0] is first else 0.0,
                1.0 if execution is not None and execution.empty else 0.0,
                rows[i],
                rows[i] - (sum(rows) - rows[i]) / len(others) if others else 0.0,
                own or 0.0,
                own - max(other_logprobs) if own is not None and other_logprobs else 0.0,
                0.0 if own is None else 1.0,
                length / written if written else 1.0,
                sum(scores) / len(scores) if scores else 0.5,
                1.0 if scores else 0.0,
                sum(checks) / len(checks) if checks else 0.5,
                1.0 if any(m.action == "escalate" for m in members) else 0.0,
                1.0 if any(m.round for m in members) else 0.0,
            ]
        )
    return found


def ranked(snapshot: Snapshot, scorer: Scorer | None) -> tuple[Group | None, float, float]:
    """The answer to give, its score, and its lead over the next one; by votes without a scorer.

    A moment's choice that a selection rule made (`snapshot.chosen`) is respected.
    """
    groups = snapshot.tally.groups
    if not groups:
        return None, 0.0, 0.0
    if scorer is None:
        scores = [group.weight / len(snapshot.tally.standing) for group in groups]
    else:
        scores = [scorer(x) for x in rank_vectors(snapshot)]
    return pick(snapshot, groups, scores)


def pick(snapshot: Snapshot, groups: tuple[Group, ...], scores: list[float]) -> tuple[Group | None, float, float]:
    """The best-scored answer (the earlier in the tally of equals), its score and its lead over the next one."""
    chosen = snapshot.chosen
    if chosen is None:
        best = max(range(len(groups)), key=lambda i: (scores[i], -i))
    else:
        best = next((i for i, group in enumerate(groups) if group.key == chosen.key), -1)
        if best < 0:
            return None, 0.0, 0.0
    return groups[best], scores[best], scores[best] - max((s for i, s in enumerate(scores) if i != best), default=0.0)


def rank_batch(snapshots: list[Snapshot], scorer: Scorer) -> list[list[float]]:
    """Scores of every answer of many moments, in the order of their tallies."""
    import numpy as np

    vectors = [rank_vectors(snapshot) for snapshot in snapshots]
    flat = [x for rows in vectors for x in rows]
    if not flat:
        return [[] for _ in snapshots]
    scores: NDArray[np.float64] = scorer.batch(np.asarray(flat))
    found, start = [], 0
    for rows in vectors:
        found.append(scores[start : start + len(rows)].tolist())
        start += len(rows)
    return found


def _rows(group: Group) -> float:
    execution = group.best.evidence.execution
    return math.log1p(execution.n_rows) if execution is not None else 0.0


def _logprob(group: Group) -> float | None:
    known = [m.evidence.logprobs.mean for m in group.members if m.evidence.logprobs is not None]
    return max(known) if known else None
