"""What a predictor says: per action, P(correct) after it and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tta_langgraph.decision.actions import Action


@dataclass(frozen=True, slots=True)
class Quantity:
    """A cost to come, as the two numbers that decisions need."""

    mean: float
    """Expected value: what the utility pays for."""
    p90: float
    """90th percentile: what must fit in the remaining budget."""

    @classmethod
    def of(cls, mean: float, p90: float | None = None) -> Quantity:
        """A quantity whose p90 is never below its mean."""
        return cls(mean, mean if p90 is None or p90 < mean else p90)


@dataclass(frozen=True, slots=True)
class Ahead:
    """Where the episode ends up if it goes on as well as it can after an action, the action itself included."""

    p_correct: float
    """P(correct) of the answer given in the end."""
    tokens: float
    """Expected tokens until then."""
    seconds: float
    """Expected seconds until then."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one action is expected to bring and to cost."""

    action: Action
    """The action."""
    p_correct: float
    """P(the best answer is right) just after it."""
    tokens: Quantity
    """Tokens, summed over parallel calls."""
    seconds: Quantity
    """Seconds, the maximum over parallel calls."""
    predictor: str
    """Who says so."""
    ahead: Ahead | None = None
    """With continuation value: the end of the best plan that starts with this action; the utility then uses it."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a predictor makes of one snapshot."""

    p_now: float
    """P(the best answer so far is right); 0 without an answer."""
    forecasts: Mapping[Action, Forecast]
    """Per action that was asked about."""
    predictor: str
    """Who says so."""
    features: Mapping[str, float] = field(default_factory=dict)
    """What it saw."""
    best: str | None = None
    """Id of the candidate that would be answered now."""
