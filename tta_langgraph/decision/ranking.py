"""Which answer to give: the right one often loses the vote, so each answer is scored by more than its votes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tta_langgraph.decision.scorers import Scorer
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.decision.tally import Group, votes

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
    "log_chars",  # log characters of the answer: its shape, as other questions' answers have it
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
    candidates, standing = snapshot.candidates, tally.standing
    total, first = len(standing), candidates[0]
    failed = tally.failed / total
    written = 0
    for candidate in candidates:
        written += candidate.usage.completion_tokens
    mean = written / len(candidates)
    order: dict[str | None, int] = {}
    for candidate in standing:
        if votes(candidate) and candidate.key not in order:
            order[candidate.key] = len(order)
    seen = [_Members(group) for group in groups]
    all_rows = sum([s.rows for s in seen])
    count = len(groups)
    found = []
    for i, (group, own) in enumerate(zip(groups, seen, strict=True)):
        other_votes, other_logprob = 0, -math.inf
        for j, (rival, theirs) in enumerate(zip(groups, seen, strict=True)):
            if j != i:
                other_votes = max(other_votes, len(rival.members))
                other_logprob = max(other_logprob, theirs.logprob)
        n = len(group.members)
        known = own.logprob > -math.inf
        found.append(
            [
                n / total,
                float(n),
                float(n - other_votes),
                float(count),
                float(total),
                failed,
                float(order[group.key]),
                1.0 if group.members[0] is first else 0.0,
                own.empty,
                own.rows,
                own.rows - (all_rows - own.rows) / (count - 1) if count > 1 else 0.0,
                own.logprob if known else 0.0,
                own.logprob - other_logprob if known and other_logprob > -math.inf else 0.0,
                1.0 if known else 0.0,
                own.written / n / mean if mean else 1.0,
                math.log1p(group.best.length),
                own.score / own.verdicts if own.verdicts else 0.5,
                1.0 if own.verdicts else 0.0,
                own.passed / own.checks if own.checks else 0.5,
                own.escalated,
                own.corrected,
            ]
        )
    return found


class _Members:
    """Sums over the members of an answer, in one pass."""

    __slots__ = (
        "checks", "corrected", "empty", "escalated", "logprob", "passed", "rows", "score", "verdicts", "written",
    )  # fmt: skip

    def __init__(self, group: Group) -> None:
        self.written = self.verdicts = self.checks = self.passed = 0
        self.score = self.escalated = self.corrected = 0.0
        self.logprob = -math.inf
        execution = group.best.evidence.execution
        self.rows = math.log1p(execution.n_rows) if execution is not None else 0.0
        self.empty = 1.0 if execution is not None and execution.empty else 0.0
        for member in group.members:
            evidence = member.evidence
            self.written += member.usage.completion_tokens
            if evidence.logprobs is not None and evidence.logprobs.mean > self.logprob:
                self.logprob = evidence.logprobs.mean
            for verdict in evidence.verdicts:
                self.score += verdict.score
                self.verdicts += 1
            for check in evidence.checks:
                self.passed += check.passed
                self.checks += 1
            if member.action == "escalate":
                self.escalated = 1.0
            if member.round:
                self.corrected = 1.0


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
