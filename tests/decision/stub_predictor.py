"""A predictor that says what a test tells it to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tta_langgraph.decision import Action, Ahead, Assessment, Forecast, Quantity, Snapshot, register


def forecast(
    action: str,
    p: float,
    tokens: float = 100.0,
    seconds: float = 1.0,
    *,
    tokens_p90: float | None = None,
    seconds_p90: float | None = None,
    ahead: Ahead | None = None,
) -> Forecast:
    """A forecast in one line."""
    return Forecast(
        Action.parse(action),
        p,
        Quantity.of(tokens, tokens_p90),
        Quantity.of(seconds, seconds_p90),
        "stub",
        ahead=ahead,
    )


@register("stub")
@dataclass(frozen=True)
class Stub:
    """Says the same at every moment."""

    p_now: float
    told: tuple[Forecast, ...] = field(default=())

    @property
    def name(self) -> str:
        return "stub"

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        best = snapshot.tally.best
        found = {f.action: f for f in self.told if f.action in actions}
        return Assessment(self.p_now, found, "stub", {"n": float(len(snapshot.candidates))}, best.id if best else None)

    def to_dict(self) -> dict[str, Any]:
        return {"p_now": self.p_now}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Stub:
        return cls(data["p_now"])
