"""Evidence as likelihood ratios, the posterior over {right, wrong}, and what looking closer is worth.

Source: Bayesian orchestration and value of information (Howard 1966): gather evidence if and only if it is expected to
raise the value of the decision by more than it costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tta_langgraph.decision.verifier import Verifier
from tta_langgraph.evidence import Evidence

GRID = 0.25
"""Likelihood ratios are rounded to this many nats, so that equal situations are recognised."""
JUDGE = Verifier(r=0.85, f=0.5)
CHECK = Verifier(r=0.95, f=0.35)
NONEMPTY = Verifier(r=0.96, f=0.8)
"""Rates to start with: judges of the size of the model they judge accept about half of what is wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Likelihoods:
    """How much each observation speaks for a candidate. "It ran" is not among them: failures have no vote."""

    judge: Verifier = JUDGE
    """Accepts right and wrong answers at these rates."""
    check: Verifier = CHECK
    """A user's own check passes right and wrong answers at these rates."""
    nonempty: Verifier = NONEMPTY
    """A result has rows for right and wrong answers at these rates."""
    confirmation: float = 1.15
    """Likelihood ratio of a model keeping its answer when asked to look again; weak, and counted once."""

    def log_ratio(self, evidence: Evidence) -> float:
        """log P(evidence | right) − log P(evidence | wrong), in nats, on a grid of `GRID`."""
        total = 0.0
        execution = evidence.execution
        if execution is not None and execution.ok:
            total += self.nonempty.log_ratio(0.0 if execution.empty else 1.0)
        if evidence.verdicts:
            # Verdicts of one judge on one answer repeat each other: their mean counts once.
            scores = [verdict.score for verdict in evidence.verdicts if verdict.label != "UNPARSED"]
            if scores:
                total += self.judge.log_ratio(math.fsum(scores) / len(scores))
        for check in evidence.checks:
            total += self.check.log_ratio(1.0 if check.passed else 0.0)
        if evidence.confirmations:
            total += math.log(self.confirmation)
        return round(total / GRID) * GRID

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Likelihoods:
        """Reads `to_dict`'s output."""
        verifiers = {name: Verifier(**data[name]) for name in ("judge", "check", "nonempty")}
        return cls(**verifiers, confirmation=float(data["confirmation"]))


def posterior(prior: float, log_ratios: Sequence[float]) -> float:
    """P(right | evidence) by Bayes: log odds of the prior plus the log likelihood ratios.

    Args:
        prior: P(right) in [0, 1].
        log_ratios: nats per independent observation.
    """
    if prior <= 0.0 or prior >= 1.0:
        return min(max(prior, 0.0), 1.0)
    logit = math.log(prior / (1 - prior)) + math.fsum(log_ratios)
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def expected_best_after_verdict(beliefs: Sequence[float], leader: int, verifier: Verifier) -> float:
    """E[P(best answer right)] after one verdict on the leader, free to change to another answer then.

    Args:
        beliefs: P(right) per answer, at most one of which is right; the rest is the chance that none is.
        leader: index of the answer that is judged.
        verifier: the judge's rates.

    Returns:
        At least `max(beliefs)`; more exactly when a rejection would make another answer the best.
    """
    p = beliefs[leader]
    others = max((b for i, b in enumerate(beliefs) if i != leader), default=0.0)
    accepted = max(p * verifier.r, others * verifier.f)
    rejected = max(p * (1 - verifier.r), others * (1 - verifier.f))
    return accepted + rejected


def value_of_information(expected_after: float, p_now: float, *, value: float, cost: float) -> float:
    """VoI net of its cost: value · (E[P(correct) after] − P(correct now)) − cost. Gather if and only if positive."""
    return value * (expected_after - p_now) - cost
