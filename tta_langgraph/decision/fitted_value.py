"""The value of going on as well as possible: "two more samples, then decide" is worth more than its first step.

Source: Ernst, Geurts & Wehenkel 2005, *Tree-Based Batch Mode Reinforcement Learning* (JMLR 6), applied backwards over
recorded episodes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.batch import Batch
from tta_langgraph.decision.costs import CostModel, Scale
from tta_langgraph.decision.forecasts import Ahead, Assessment, Forecast
from tta_langgraph.decision.learned import GAIN_FEATURES, Learned
from tta_langgraph.decision.predictor import register
from tta_langgraph.decision.scorers import Scorer
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.decision.utility import Utility
from tta_langgraph.errors import PolicyError

AHEAD_FEATURES = (*GAIN_FEATURES, "token_price", "second_price")
"""What the end of the best plan is predicted from: the prices say how far it is worth going."""


@dataclass(frozen=True)
class AheadModel:
    """Where the best plan that starts with an action ends up, from `AHEAD_FEATURES`."""

    gain: Scorer
    """P(correct at the end) − P(correct now)."""
    tokens: Scorer
    """Tokens until the end, in fresh calls."""
    seconds: Scorer
    """Seconds until the end, in fresh calls."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"gain": self.gain.to_dict(), "tokens": self.tokens.to_dict(), "seconds": self.seconds.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AheadModel:
        """Reads `to_dict`'s output."""
        width = len(AHEAD_FEATURES)
        return cls(*(Scorer.from_dict(data[name], width=width) for name in ("gain", "tokens", "seconds")))


@register("fitted_value")
@dataclass(frozen=True, kw_only=True)
class FittedValue:
    """`Learned` with a look ahead; see `fit_ahead`. One fit serves all prices, which are among its features."""

    base: Learned
    """P(correct now), gains of single steps, costs."""
    ahead: Mapping[str, AheadModel]
    """By the action's name."""

    @property
    def name(self) -> str:
        """`fitted_value`."""
        return "fitted_value"

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        """Forecasts with `ahead`, at the prices of `snapshot.utility`."""
        base = self.base
        moment = base.moment(snapshot)
        found = base.forecasts(moment, actions)
        call_tokens, call_seconds, *prices = call_prices(base.costs, moment.scale, snapshot.utility or _DEFAULT)
        for action, forecast in found.items():
            model = self.ahead.get(action.name)
            if model is None:
                continue
            x = [*moment.x, float(action.n), *prices]
            ahead = Ahead(
                min(1.0, max(0.0, moment.p_now + model.gain(x))),
                max(forecast.tokens.mean, model.tokens(x) * call_tokens),
                max(forecast.seconds.mean, model.seconds(x) * call_seconds),
            )
            found[action] = Forecast(
                action, forecast.p_correct, forecast.tokens, forecast.seconds, self.name, ahead=ahead
            )
        return base.assessment(moment, found, self.name)

    def assess_batch(self, snapshots: Sequence[Snapshot], actions: Sequence[Action]) -> Batch:
        """The same for many moments."""
        import numpy as np

        base = self.base
        bests, x, scales = base.moments(snapshots)
        batch = Batch.empty([best.id if best else None for best in bests], x[:, -1].copy(), actions)
        batch.price(base.costs, scales)
        calls = np.asarray(
            [
                call_prices(base.costs, scale, snapshot.utility or _DEFAULT)
                for scale, snapshot in zip(scales, snapshots, strict=True)
            ]
        ).reshape(-1, 4)
        for a, action in enumerate(actions):
            n = np.full(len(x), float(action.n))
            gain = base.gains.get(action.name)
            if gain is None:
                continue
            wide = np.column_stack([x, n, calls[:, 2:]])
            batch.p_after[:, a] = np.clip(batch.p_now + gain.batch(wide[:, : len(GAIN_FEATURES)]), 0.0, 1.0)
            model = self.ahead.get(action.name)
            if model is None:
                continue
            batch.ahead[0, :, a] = np.clip(batch.p_now + model.gain.batch(wide), 0.0, 1.0)
            batch.ahead[1, :, a] = np.maximum(batch.tokens[0, :, a], model.tokens.batch(wide) * calls[:, 0])
            batch.ahead[2, :, a] = np.maximum(batch.seconds[0, :, a], model.seconds.batch(wide) * calls[:, 1])
        return batch

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "features": list(AHEAD_FEATURES),
            "base": self.base.to_dict(),
            "ahead": {name: model.to_dict() for name, model in self.ahead.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FittedValue:
        """Reads `to_dict`'s output.

        Raises:
            PolicyError: it was fitted on other features than this release computes.
        """
        if tuple(data["features"]) != AHEAD_FEATURES:
            raise PolicyError(
                "fitted on other features than this release computes", where="fitted_value", remedy="Fit it again"
            )
        ahead = {name: AheadModel.from_dict(model) for name, model in data["ahead"].items()}
        return cls(base=Learned.from_dict(data["base"]), ahead=ahead)


_DEFAULT = Utility()
_FRESH = Action("resample", 1)
FLOOR = 1e-6
"""Prices below this are as good as free."""


def call_prices(costs: CostModel, scale: Scale, utility: Utility) -> tuple[float, float, float, float]:
    """Tokens and seconds of a fresh call, and log10 of their prices in right answers."""
    tokens, seconds = costs.of(_FRESH, scale)
    return (
        tokens.mean,
        seconds.mean,
        math.log10(max(FLOOR, min(10.0, utility.per_token * tokens.mean / utility.value))),
        math.log10(max(FLOOR, min(10.0, utility.per_second * seconds.mean / utility.value))),
    )
