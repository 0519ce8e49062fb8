"""How many samples until one scores high enough: the tail of a score distribution.

Source: OptScale (arXiv 2506.22376): scores of samples are a normal distribution truncated to [0, 1]; the least N with
P(max of N >= s) >= 1 − q is N* = ceil(ln q / ln F(s)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.calibration import Calibrator, Platt, calibrator_from_dict, calibrator_to_dict
from tta_langgraph.decision.costs import CostModel
from tta_langgraph.decision.forecasts import Assessment, Forecast
from tta_langgraph.decision.predictor import register
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.errors import PolicyError
from tta_langgraph.selection_weights import reward


@dataclass(frozen=True, slots=True)
class TruncatedNormal:
    """Scores ~ Normal(mu, sigma) truncated to [0, 1].

    Raises:
        PolicyError: sigma is not positive, or mu is not finite.
    """

    mu: float
    """Mean of the normal before truncation."""
    sigma: float
    """Its standard deviation."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mu) and 0 < self.sigma < math.inf):
            raise PolicyError(f"Normal({self.mu!r}, {self.sigma!r})", where="TruncatedNormal", remedy="sigma > 0")

    def cdf(self, s: float) -> float:
        """F(s) = P(score <= s)."""
        if s <= 0:
            return 0.0
        if s >= 1:
            return 1.0
        low, high = _phi((0 - self.mu) / self.sigma), _phi((1 - self.mu) / self.sigma)
        if high - low < 1e-12:  # all mass at the nearer end
            return 1.0 if self.mu < 0 else 0.0
        return min(1.0, max(0.0, (_phi((s - self.mu) / self.sigma) - low) / (high - low)))

    def samples_for(self, target: float, q: float = 0.1, *, most: int = 1000) -> int:
        """N* = ceil(ln q / ln F(s)): samples until the best reaches `target` with probability 1 − q.

        Args:
            target: the score to reach, s.
            q: accepted chance of missing it, in (0, 1).
            most: the answer where the target is (almost) out of reach.
        """
        if not 0 < q < 1:
            raise PolicyError(f"q must be in (0, 1), got {q!r}", where="samples_for")
        below = self.cdf(target)
        if below <= 0:
            return 1
        if below >= 1:
            return most
        return max(1, min(most, math.ceil(math.log(q) / math.log(below) - 1e-12)))

    def expected_max(self, n: int, floor: float = 0.0) -> float:
        """E[max(floor, best of n scores)] = 1 − ∫ F(s)^n ds from floor to 1, by Simpson's rule."""
        steps, total = 64, 0.0
        width = (1 - floor) / steps
        if width <= 0:
            return floor
        for i in range(steps + 1):
            total += self.cdf(floor + i * width) ** n * (1 if i in (0, steps) else 4 if i % 2 else 2)
        return 1.0 - total * width / 3


def fit_truncated_normal(scores: Sequence[float], *, prior: TruncatedNormal | None = None) -> TruncatedNormal:
    """Moments of the scores seen so far, drawn to a prior while they are few (OptScale's MAP estimate).

    Args:
        scores: in [0, 1].
        prior: counts as `PRIOR_SCORES` scores; by default Normal(0.5, 0.3).
    """
    prior = prior or TruncatedNormal(0.5, 0.3)
    n, k = len(scores), PRIOR_SCORES
    mu = (math.fsum(scores) + k * prior.mu) / (n + k)
    spread = math.fsum((s - mu) ** 2 for s in scores) + k * (prior.sigma**2 + (prior.mu - mu) ** 2)
    return TruncatedNormal(mu, max(0.02, math.sqrt(spread / (n + k))))


@register("score_tail")
@dataclass(frozen=True, kw_only=True)
class ScoreTail:
    """P(correct) as the calibrated score of the best-scored answer; more samples raise the expected maximum."""

    prior: TruncatedNormal = field(default_factory=lambda: TruncatedNormal(0.5, 0.3))
    """Scores before any were seen."""
    calibrator: Calibrator = field(default_factory=lambda: Platt(4.0, -2.0))
    """Score to P(correct)."""
    costs: CostModel = field(default_factory=CostModel)
    """What actions cost."""

    @property
    def name(self) -> str:
        """`score_tail`."""
        return "score_tail"

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        """Forecasts `resample`; other actions are left out. Without scores it knows only its prior."""
        scored = [
            (reward(c), -i, c)
            for i, c in enumerate(snapshot.tally.standing)
            if c.answer is not None and (c.evidence.verdicts or c.evidence.checks)
        ]
        tail = fit_truncated_normal([score for score, _, _ in scored], prior=self.prior)
        best = snapshot.chosen or (max(scored)[2] if scored else snapshot.tally.best)
        top = reward(best) if best is not None else 0.0
        p_now = self.calibrator(top) if best is not None else 0.0
        scale = self.costs.scale(snapshot)
        found = {}
        for action in actions:
            if action.kind == "resample":
                p = max(p_now, self.calibrator(tail.expected_max(action.n, top)))
                found[action] = Forecast(action, p, *self.costs.of(action, scale), self.name)
        seen = {"top": top, "scored": float(len(scored)), "mu": tail.mu, "sigma": tail.sigma}
        return Assessment(p_now, found, self.name, seen, best.id if best else None)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "prior": asdict(self.prior),
            "calibrator": calibrator_to_dict(self.calibrator),
            "costs": self.costs.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScoreTail:
        """Reads `to_dict`'s output."""
        calibrator = calibrator_from_dict(data["calibrator"])
        if calibrator is None:
            raise PolicyError("no calibrator", where="score_tail", remedy="Fit it again")
        prior = TruncatedNormal(**data["prior"])
        return cls(prior=prior, calibrator=calibrator, costs=CostModel.from_dict(data["costs"]))


PRIOR_SCORES = 2.0
"""How many scores the prior counts for."""


def _phi(z: float) -> float:
    """Standard normal distribution function."""
    return 0.5 * math.erfc(-z / math.sqrt(2))
