"""Whether the leading answer will stay ahead: Adaptive-Consistency's Beta and Dirichlet criteria.

Source: Aggarwal et al. 2023, *Let's Sample Step by Step: Adaptive-Consistency* (arXiv 2305.11860).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.calibration import Calibrator, Platt, calibrator_from_dict, calibrator_to_dict
from tta_langgraph.decision.costs import CostModel
from tta_langgraph.decision.forecasts import Assessment, Forecast
from tta_langgraph.decision.predictor import register
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.errors import PolicyError

Form = Literal["beta", "dirichlet"]


def beta_confidence(v1: int, v2: int) -> float:
    """P(the leader's share exceeds ½ of the two) = 1 − I_½(v1+1, v2+1), by the exact binomial sum.

    Args:
        v1: votes of the leading answer.
        v2: votes of the second.
    """
    if v1 < 0 or v2 < 0:
        raise PolicyError(f"votes ({v1}, {v2})", where="beta_confidence", remedy="Counts are not negative")
    n = v1 + v2 + 1
    # I_½(a, b) for whole a, b is P(X >= a) of a Binomial(a + b − 1, ½).
    return float(sum(math.comb(n, j) for j in range(v1 + 1)) / 2**n)


def dirichlet_confidence(votes: Sequence[int]) -> float:
    """P(the leader has the largest share) under Dirichlet(votes + 1), over all answers seen.

    The integral that draws of Gamma variables estimate (G_1 exceeds all G_j, G_i ~ Gamma(v_i + 1)) is computed instead,
    so that the same votes always give the same number. With fewer than three answers it is `beta_confidence`.

    Args:
        votes: per answer, any order.
    """
    ordered = sorted(votes, reverse=True)
    if not ordered or ordered[-1] < 0:
        raise PolicyError(f"votes {list(votes)}", where="dirichlet_confidence", remedy="Give counts, not negative")
    if len(ordered) < 3:
        return beta_confidence(ordered[0], ordered[1] if len(ordered) > 1 else 0)
    return _dirichlet(tuple(ordered))


@lru_cache(maxsize=1 << 14)
def _dirichlet(votes: tuple[int, ...]) -> float:
    lead = votes[0]
    others: dict[int, int] = {}
    for v in votes[1:]:
        others[v] = others.get(v, 0) + 1
    top = lead + 1 + 12 * math.sqrt(lead + 1) + 12
    steps = 400
    width, total = top / steps, 0.0
    log_norm = math.lgamma(lead + 1)
    for i in range(1, steps + 1):
        x = i * width
        log_x = math.log(x)
        density = math.exp(lead * log_x - x - log_norm)
        for v, count in others.items():
            density *= _gamma_cdf(v, x) ** count
        total += density * (1 if i == steps else 4 if i % 2 else 2)
    return min(1.0, total * width / 3)


def _gamma_cdf(v: int, x: float) -> float:
    """P(Gamma(v + 1) <= x) = P(Poisson(x) > v)."""
    term = total = math.exp(-x)
    for k in range(1, v + 1):
        term *= x / k
        total += term
    return max(0.0, 1.0 - total)


def confidence(votes: Sequence[int], form: Form = "beta") -> float:
    """Posterior confidence that the leader stays ahead; ½ without votes.

    Raises:
        PolicyError: an unknown form.
    """
    if form not in ("beta", "dirichlet"):
        raise PolicyError(f"unknown form {form!r}", where="confidence", remedy="Use 'beta' or 'dirichlet'")
    if not votes:
        return 0.5
    if form == "dirichlet":
        return dirichlet_confidence(votes)
    first, *rest = sorted(votes, reverse=True)
    return beta_confidence(first, rest[0] if rest else 0)


@lru_cache(maxsize=1 << 15)
def expected_calibrated(v1: int, v2: int, n: int, calibrator: Calibrator) -> float:
    """E[P(correct)] after n more samples of the two leading answers, drawn from the Beta posterior's predictive."""
    a, b = v1 + 1, v2 + 1
    total = 0.0
    for k in range(n + 1):
        log_p = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        log_p += math.lgamma(a + k) + math.lgamma(b + n - k) - math.lgamma(a + b + n)
        log_p += math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
        one, two = v1 + k, v2 + n - k
        total += math.exp(log_p) * calibrator(beta_confidence(max(one, two), min(one, two)))
    return total


@register("vote_stability")
@dataclass(frozen=True, kw_only=True)
class VoteStability:
    """P(correct) as calibrated vote stability; more samples are worth what they are expected to add to it.

    Stability is not correctness: a wrong answer can be stable. The calibrator, fitted on traces, says how much.
    """

    form: Form = "beta"
    """Two leading answers, or all of them."""
    calibrator: Calibrator = field(default_factory=lambda: Platt(5.0, -3.0))
    """Stability in [½, 1] to P(correct)."""
    costs: CostModel = field(default_factory=CostModel)
    """What actions cost."""

    @property
    def name(self) -> str:
        """`vote_stability`."""
        return "vote_stability"

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        """Forecasts `resample`; other actions are left out."""
        votes = snapshot.tally.pattern
        best = snapshot.chosen or snapshot.tally.best
        stability = confidence(votes, self.form)
        p_now = self.calibrator(stability) if votes else 0.0
        v1, v2 = (*votes, 0, 0)[:2]
        scale = self.costs.scale(snapshot)
        start = expected_calibrated(v1, v2, 0, self.calibrator)
        found = {}
        for action in actions:
            if action.kind == "resample":
                p = p_now + max(0.0, expected_calibrated(v1, v2, action.n, self.calibrator) - start)
                found[action] = Forecast(action, min(1.0, p), *self.costs.of(action, scale), self.name)
        seen = {"votes": float(v1), "second": float(v2), "answers": float(len(votes)), "stability": stability}
        return Assessment(p_now, found, self.name, seen, best.id if best else None)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "form": self.form,
            "calibrator": calibrator_to_dict(self.calibrator),
            "costs": self.costs.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VoteStability:
        """Reads `to_dict`'s output."""
        calibrator = calibrator_from_dict(data["calibrator"])
        if calibrator is None or data["form"] not in ("beta", "dirichlet"):
            raise PolicyError("no calibrator, or an unknown form", where="vote_stability", remedy="Fit it again")
        return cls(form=data["form"], calibrator=calibrator, costs=CostModel.from_dict(data["costs"]))
