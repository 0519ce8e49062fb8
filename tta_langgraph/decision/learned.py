"""P(correct) of the best answer, and what every action adds to it, learned from traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.batch import Batch
from tta_langgraph.decision.costs import CostModel, Scale
from tta_langgraph.decision.features import FEATURES, vector
from tta_langgraph.decision.forecasts import Assessment, Forecast
from tta_langgraph.decision.predictor import register
from tta_langgraph.decision.ranking import RANK_FEATURES, pick, rank_batch, ranked
from tta_langgraph.decision.scorers import Scorer
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.errors import PolicyError
from tta_langgraph.state import Candidate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOW_FEATURES = (*FEATURES, "rank_score", "rank_lead")
"""What P(correct now) is predicted from."""
GAIN_FEATURES = (*NOW_FEATURES, "p_now", "n")
"""What the gain of an action is predicted from."""


@dataclass(frozen=True)
class Moment:
    """A snapshot as numbers, made once for all models."""

    best: Candidate | None
    """What would be answered."""
    p_now: float
    """P(it is right)."""
    x: list[float]
    """`GAIN_FEATURES` without `n`, shape (gain features - 1,)."""
    scale: Scale
    """The size of a fresh call."""


@register("learned")
@dataclass(frozen=True, kw_only=True)
class Learned:
    """Fitted models for the answer to give, P(it is right), and per action what is gained; see `fit_learned`.

    With `Policy.selection="predictor"` it also chooses the answer. Actions that were not in the traces are not
    forecast, so the policy does not take them.
    """

    now: Scorer
    """P(correct now) from `NOW_FEATURES`."""
    gains: Mapping[str, Scorer]
    """P(correct after) − P(correct now) by the action's name, from `GAIN_FEATURES`."""
    ranker: Scorer | None = None
    """Scores answers from `RANK_FEATURES`; None leaves the choice to the vote."""
    costs: CostModel = field(default_factory=CostModel)
    """What actions cost, fitted."""

    @property
    def name(self) -> str:
        """`learned`."""
        return "learned"

    def moment(self, snapshot: Snapshot) -> Moment:
        """Chooses the answer and predicts P(it is right)."""
        group, score, lead = ranked(snapshot, self.ranker)
        best = group.best if group is not None else snapshot.chosen or snapshot.tally.best
        scale = self.costs.scale(snapshot)
        x = vector(snapshot, best, scale)
        x += (score, lead)
        p_now = self.now(x) if best is not None else 0.0
        x.append(p_now)
        return Moment(best, p_now, x, scale)

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        """Forecasts the actions that were in the traces."""
        moment = self.moment(snapshot)
        return self.assessment(moment, self.forecasts(moment, actions), self.name)

    def forecasts(self, moment: Moment, actions: Sequence[Action]) -> dict[Action, Forecast]:
        """Forecasts by action."""
        found = {}
        for action in actions:
            gain = self.gains.get(action.name)
            if gain is None:
                continue
            p = min(1.0, max(0.0, moment.p_now + gain([*moment.x, float(action.n)])))
            tokens, seconds = self.costs.of(action, moment.scale)
            found[action] = Forecast(action, p, tokens, seconds, self.name)
        return found

    def assessment(self, moment: Moment, forecasts: dict[Action, Forecast], name: str) -> Assessment:
        """Puts an assessment together."""
        seen = dict(zip(NOW_FEATURES, moment.x, strict=False))
        return Assessment(moment.p_now, forecasts, name, seen, moment.best.id if moment.best else None)

    def moments(self, snapshots: Sequence[Snapshot]) -> tuple[list[Candidate | None], NDArray[np.float64], list[Scale]]:
        """Many moments at once: what would be answered, features of shape (moments, gain features - 1), scales."""
        import numpy as np

        listed = list(snapshots)
        scores = rank_batch(listed, self.ranker) if self.ranker is not None else None
        bests: list[Candidate | None] = []
        rows: list[list[float]] = []
        scales: list[Scale] = []
        for i, snapshot in enumerate(listed):
            groups = snapshot.tally.groups
            if scores is not None and groups:
                group, score, lead = pick(snapshot, groups, scores[i])
            else:
                group, score, lead = ranked(snapshot, None)
            best = group.best if group is not None else snapshot.chosen or snapshot.tally.best
            scale = self.costs.scale(snapshot)
            x = vector(snapshot, best, scale)
            x += (score, lead)
            bests.append(best)
            rows.append(x)
            scales.append(scale)
        x_now = np.asarray(rows, dtype=np.float64).reshape(len(rows), len(NOW_FEATURES))
        p_now = self.now.batch(x_now)
        p_now[[best is None for best in bests]] = 0.0
        return bests, np.column_stack([x_now, p_now]), scales

    def assess_batch(self, snapshots: Sequence[Snapshot], actions: Sequence[Action]) -> Batch:
        """Forecasts for many moments at once; NaN for actions that were not in the traces."""
        import numpy as np

        bests, x, scales = self.moments(snapshots)
        batch = Batch.empty([best.id if best else None for best in bests], x[:, -1].copy(), actions)
        batch.price(self.costs, scales)
        for a, action in enumerate(actions):
            gain = self.gains.get(action.name)
            if gain is not None:
                gained = gain.batch(np.column_stack([x, np.full(len(x), float(action.n))]))
                batch.p_after[:, a] = np.clip(batch.p_now + gained, 0.0, 1.0)
        return batch

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "features": list(GAIN_FEATURES),
            "rank_features": list(RANK_FEATURES),
            "now": self.now.to_dict(),
            "gains": {name: scorer.to_dict() for name, scorer in self.gains.items()},
            "ranker": None if self.ranker is None else self.ranker.to_dict(),
            "costs": self.costs.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Learned:
        """Reads `to_dict`'s output.

        Raises:
            PolicyError: it was fitted on other features than this release computes.
        """
        if tuple(data["features"]) != GAIN_FEATURES or tuple(data["rank_features"]) != RANK_FEATURES:
            raise PolicyError(
                "fitted on other features than this release computes", where="learned.features", remedy="Fit it again"
            )
        ranker = data["ranker"]
        return cls(
            now=Scorer.from_dict(data["now"], width=len(NOW_FEATURES)),
            gains={k: Scorer.from_dict(v, width=len(GAIN_FEATURES)) for k, v in data["gains"].items()},
            ranker=None if ranker is None else Scorer.from_dict(ranker, width=len(RANK_FEATURES)),
            costs=CostModel.from_dict(data["costs"]),
        )
