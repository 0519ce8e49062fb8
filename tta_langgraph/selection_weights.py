"""What a candidate's vote can count: one, its reward, its confidence, its free energy."""

from __future__ import annotations

import math

from tta_langgraph.state import Candidate

ESCALATED = 2.5
"""Votes of an answer of the larger model: it outvotes a pair of the small model's samples, not three that
agree."""
UNKNOWN_REWARD = 0.5
"""Reward of a candidate that nobody judged: even odds."""
VARIANCE_PRICE = 0.1
"""ODAR's λ: what one unit of Var[−log p] costs, in nats."""


def one(candidate: Candidate) -> float:
    """One vote each; `ESCALATED` votes for an answer that a larger model was called in for."""
    return ESCALATED if candidate.action == "escalate" else 1.0


def reward(candidate: Candidate) -> float:
    """Mean score of the verdicts and checks, in [0, 1]; even odds without any."""
    scores = [verdict.score for verdict in candidate.evidence.verdicts]
    scores += [check.score for check in candidate.evidence.checks]
    return math.fsum(scores) / len(scores) if scores else UNKNOWN_REWARD


def confidence(candidate: Candidate) -> float:
    """The geometric mean of the token probabilities, exp(mean log p); 1 without log-probabilities."""
    stats = candidate.evidence.logprobs
    return 1.0 if stats is None else math.exp(min(0.0, stats.mean))


def free_energy(candidate: Candidate) -> float:
    """−(mean(−log p) + λ·Var[−log p]) in nats (ODAR); the worst value without log-probabilities."""
    stats = candidate.evidence.logprobs
    return WORST_ENERGY if stats is None else stats.mean - VARIANCE_PRICE * stats.variance


WORST_ENERGY = -1e6
"""Free energy of a candidate without log-probabilities: it is picked only if nobody has any."""
