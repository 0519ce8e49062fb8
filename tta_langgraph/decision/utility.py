"""The user's exchange rates between right answers, tokens and seconds, and the rule that follows from them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from tta_langgraph.decision.forecasts import Forecast
from tta_langgraph.errors import PolicyError


@dataclass(frozen=True, kw_only=True, slots=True)
class Utility:
    """What a right answer is worth, and what it may cost.

        U(a) = value * (P(correct after a) - P(correct now)) - per_token * E[tokens] - per_second * E[seconds]

    `stop` has U = 0. Tokens of parallel samples add up and their latency is the maximum, which is what makes
    resampling cheap in seconds and reflection cheap in tokens.

    Source: *Latency and Token-Aware Test-Time Compute* (arXiv 2509.09864), extended from one choice per query to a
    decision after every step.

    Raises:
        PolicyError: a rate is negative or not finite, or `value` is not positive.
    """

    value: float = 1.0
    """Value of a right answer, in any unit; the other fields share it."""
    wrong: float = 0.0
    """Cost of a wrong answer that was given; with 0 the policy never abstains."""
    per_token: float = 5e-5
    """Price of a token (λ_tokens): with 5e-5, 200 tokens must buy one more right answer in a hundred."""
    per_second: float = 2e-3
    """Price of a second (λ_seconds): with 2e-3, 5 seconds must buy one more right answer in a hundred."""

    def __post_init__(self) -> None:
        for f in fields(self):
            number = getattr(self, f.name)
            numeric = isinstance(number, int | float) and not isinstance(number, bool)
            if not numeric or not math.isfinite(number) or number < 0:
                raise PolicyError(
                    f"{number!r} is not a rate", where=f"Utility.{f.name}", remedy="Give a finite number, not negative"
                )
        if self.value == 0:
            raise PolicyError("a right answer must be worth something", where="Utility.value", remedy="Use 1.0")

    @property
    def abstain_below(self) -> float:
        """P(correct) under which no answer is better than this one: c_wrong / (V + c_wrong)."""
        return self.wrong / (self.value + self.wrong)

    def cost(self, tokens: float, seconds: float) -> float:
        """The price of so many tokens and seconds."""
        return self.per_token * tokens + self.per_second * seconds

    def of(self, forecast: Forecast, p_now: float) -> float:
        """U(a) of a forecast; with the end of the best plan in place of its first step where that is known."""
        ahead = forecast.ahead
        if ahead is not None:
            return self.value * (ahead.p_correct - p_now) - self.cost(ahead.tokens, ahead.seconds)
        return self.value * (forecast.p_correct - p_now) - self.cost(forecast.tokens.mean, forecast.seconds.mean)

    def scaled(self, factor: float) -> Utility:
        """The same utility with both prices multiplied by `factor`."""
        return replace(self, per_token=self.per_token * factor, per_second=self.per_second * factor)

    def to_dict(self) -> dict[str, float]:
        """Its fields, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Utility:
        """Reads `to_dict`'s output.

        Raises:
            PolicyError: an unknown field or a value that is not a rate.
        """
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise PolicyError(f"unknown field {unknown[0]!r}", where="utility", remedy="Fit the policy again")
        return cls(**data)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveLambda:
    """Prices that follow the budget online: dearer when an episode spends ahead of its progress, cheaper behind it.

    The factor on both prices is exp(strength * (spent fraction - progress)), so that on schedule the prices are the
    tuned ones and at most a factor of exp(strength) away from them.
    """

    strength: float = 2.0
    """How strongly prices react; 0 switches it off."""
    steps: int = 6
    """Decisions an episode is expected to take; progress is the share of them that is behind it."""

    def factor(self, spent_fraction: float, step: int) -> float:
        """The factor on the prices at decision `step` (0 for the first)."""
        progress = min(1.0, (step + 1) / self.steps)
        return math.exp(self.strength * (min(1.0, max(0.0, spent_fraction)) - progress))

    def at(self, utility: Utility, spent_fraction: float, step: int) -> Utility:
        """The utility to decide with now."""
        return utility.scaled(self.factor(spent_fraction, step)) if self.strength else utility

    def to_dict(self) -> dict[str, float]:
        """Its fields, for JSON."""
        return asdict(self)
