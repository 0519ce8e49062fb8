"""What an action costs: means learned from the episode's own calls, priors before there are any.

Every cost is expressed relative to the first call of the episode, because the schema prompt and the model set the
scale and both are known once it has returned. `resample(n)` in one request reads the prompt once, writes n answers,
and takes as long as the longest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tta_langgraph.budget import Usage
from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.forecasts import Quantity
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.latency import LatencyModel, Observation

Z90 = 1.2815515655446004
"""90th percentile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of one ordinary call in this episode."""

    prompt: float
    """Prompt tokens of a fresh call."""
    completion: float
    """Completion tokens of a fresh call, mean."""
    seconds: float
    """Latency in seconds of a fresh call, mean."""
    execution: float
    """Runtime in seconds of an execution, mean."""
    cached: float = 0.0
    """Prompt tokens of a fresh call that the prefix cache is expected to hold."""
    contention: float = 1.0
    """Observed over idle latency of this episode's calls."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """Cost of an action relative to a fresh call."""

    prompt: float = 1.0
    """Prompt tokens over those of a fresh call."""
    extra_prompt: float = 0.0
    """Prompt tokens added in completions of a fresh call: the history that is shown again."""
    completion: float = 1.0
    """Completion tokens over those of a fresh call."""
    seconds: float = 1.0
    """Latency over that of a fresh call."""
    calls: int = 1
    """Model calls."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Factor:
    """Recorded over expected cost of an action."""

    tokens: float = 1.0
    """Mean tokens."""
    tokens_p90: float = 1.0
    """90th percentile of tokens, over the expected mean."""
    seconds: float = 1.0
    """Mean seconds."""
    seconds_p90: float = 1.0
    """90th percentile of seconds, over the expected mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CostModel:
    """Mean and p90 of tokens and seconds per action."""

    prompt_tokens: float = 700.0
    """Prior: prompt tokens of a fresh call."""
    completion_tokens: float = 60.0
    """Prior: completion tokens of a fresh call."""
    seconds: float = 2.0
    """Prior: seconds of a fresh call."""
    spread: float = 0.5
    """Standard deviation of completion tokens and latency over their mean."""
    ratios: Mapping[str, Ratio] = field(default_factory=lambda: RATIOS)
    """Per action name or kind, relative to a fresh call."""
    factors: Mapping[str, Factor] = field(default_factory=dict)
    """Fitted corrections by action with its number (`resample(4)`)."""
    latency: LatencyModel | None = None
    """What calls take on this engine when it is idle. With it, the latency of an action follows from the tokens that
    it reads and writes, times the contention observed in the episode; without, from the ratios of whole calls."""

    def scale(self, snapshot: Snapshot) -> Scale:
        """The size of a fresh call, from the episode's own first answers, else the priors."""
        prompt, written, seconds, ran, fresh, runs = 0.0, 0.0, 0.0, 0.0, 0, 0
        calls: list[Usage] = []  # of several answers to one request, the one that carries its prompt
        for candidate in snapshot.candidates:
            execution = candidate.evidence.execution
            if execution is not None:
                ran += execution.seconds
                runs += 1
            if candidate.action not in FRESH:
                continue
            usage = candidate.usage
            read = usage.prompt_tokens
            if read:
                calls.append(usage)
                if read > prompt:
                    prompt = read
            if read or usage.completion_tokens:
                written += usage.completion_tokens
                seconds += usage.seconds
                fresh += 1
        if not fresh:
            context = snapshot.context
            known = context.get("prompt_tokens") or context.get("schema_tokens", 0.0) or self.prompt_tokens
            first = self.latency.predict(known, self.completion_tokens) if self.latency is not None else self.seconds
            return Scale(known, self.completion_tokens, first, ran / runs if runs else 0.0)
        usual = Scale(
            prompt or self.prompt_tokens,
            max(1.0, written / fresh),
            warm_seconds(calls, snapshot.context) or seconds / fresh or self.seconds,
            ran / runs if runs else 0.0,
        )
        if self.latency is None:
            return usual
        return replace(usual, cached=expected_cache(calls, snapshot.context), contention=self.contention(calls))

    def contention(self, calls: Sequence[Usage]) -> float:
        """How much slower an episode's fresh calls were than on an idle engine; 1 where that is not known."""
        if self.latency is None:
            return 1.0
        return self.latency.contention(
            [
                Observation(
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    cached_tokens=usage.cached_tokens,
                    seconds=usage.seconds,
                )
                for usage in calls
                if usage.seconds > 0
            ]
        )

    def of(self, action: Action, scale: Scale) -> tuple[Quantity, Quantity]:
        """Tokens (sum) and seconds (maximum over parallel calls) of an action; arrays in the scale give arrays."""
        if action.ends:
            return NOTHING, NOTHING
        ratio = next((self.ratios[name] for name in action.names if name in self.ratios), DEFAULT_RATIO)
        n = action.n
        written = ratio.completion * scale.completion
        read = ratio.prompt * scale.prompt + ratio.extra_prompt * scale.completion
        tokens = read + n * written
        # The maximum of n latencies grows like the square root of log n times their spread.
        slowest = 1.0 + self.spread * math.sqrt(math.log(n)) if n > 1 else 1.0
        latency = ratio.seconds * scale.seconds
        if self.latency is not None and action.kind != "escalate":  # another model, of which the rates say nothing
            alone = self.latency.predict(read, written, scale.cached) + (ratio.calls - 1) * self.latency.overhead
            latency = alone * scale.contention
            if n > 1 and self.latency.batch:
                # Where the other samples are not free, their tokens count as well as the spread of the longest.
                others = max(0.0, n - slowest) * written * self.latency.batch * self.latency.per_token
                latency += others * scale.contention / slowest
        executed = scale.execution if action.kind in MAKES else 0.0
        factor = self.factors.get(str(action)) if self.factors else None
        if factor is not None:
            latency = latency * slowest + executed
            return (
                Quantity(tokens * factor.tokens, tokens * max(factor.tokens, factor.tokens_p90)),
                Quantity(latency * factor.seconds, latency * max(factor.seconds, factor.seconds_p90)),
            )
        return (
            Quantity(tokens, tokens + Z90 * self.spread * written * math.sqrt(n)),
            Quantity(latency * slowest + executed, latency * (slowest + Z90 * self.spread) + 2 * executed),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": self.seconds,
            "spread": self.spread,
            "ratios": {name: asdict(ratio) for name, ratio in self.ratios.items()},
            "factors": {name: asdict(factor) for name, factor in self.factors.items()},
            "latency": None if self.latency is None else asdict(self.latency),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CostModel:
        """Reads `to_dict`'s output."""
        ratios = {name: Ratio(**ratio) for name, ratio in data["ratios"].items()}
        factors = {name: Factor(**factor) for name, factor in data["factors"].items()}
        latency = None if data.get("latency") is None else LatencyModel(**data["latency"])
        return cls(**{**data, "ratios": ratios, "factors": factors, "latency": latency})

    def with_latency(self, latency: LatencyModel | None) -> CostModel:
        """The same costs in tokens, with seconds that follow from them on this engine.

        Factors of seconds that were fitted to another engine's calls are dropped; their spread is kept.
        """
        factors = {
            name: replace(factor, seconds=1.0, seconds_p90=factor.seconds_p90 / factor.seconds if factor.seconds else 1)
            for name, factor in self.factors.items()
        }
        return replace(self, latency=latency, factors=factors)


def warm_seconds(calls: Sequence[Usage], context: Mapping[str, float]) -> float | None:
    """Latency of a fresh call once the prompt is in the prefix cache; None where nothing says that it will be.

    Calls that were served from the cache tell it themselves. Before there is one, the first call is split into reading
    and writing, and the next is taken to read only what is new: on a small machine that is the difference between
    twenty seconds and two.
    """
    warm = [usage.seconds for usage in calls if usage.cached_tokens >= usage.prompt_tokens / 2]
    if warm:
        return sum(warm) / len(warm)
    if not calls or not context.get("prefix_caching"):
        return None
    first = calls[0]
    writing = DECODE_WEIGHT * first.completion_tokens
    reading = first.prompt_tokens - first.cached_tokens
    return first.seconds * (NEW_SHARE * first.prompt_tokens + writing) / (reading + writing)


def expected_cache(calls: Sequence[Usage], context: Mapping[str, float]) -> float:
    """Prompt tokens that the next call like the first will find in the prefix cache."""
    seen = max((usage.cached_tokens for usage in calls), default=0)
    if calls and context.get("prefix_caching"):
        return max(float(seen), (1 - NEW_SHARE) * max(usage.prompt_tokens for usage in calls))
    return float(seen)


DECODE_WEIGHT = 30.0
"""Seconds to write a token over seconds to read one: 3 on two processor cores, 60 and more on a GPU."""
NEW_SHARE = 0.1
"""Share of the next prompt that a prefix cache does not hold: the question after the schema."""
NOTHING = Quantity(0.0, 0.0)
FRESH = frozenset({"generate", "resample"})
"""Actions whose candidates tell what a fresh call costs."""
MAKES = frozenset({"generate", "resample", "reflect", "escalate", "search"})
"""Kinds of action that make candidates, which are then executed."""
DEFAULT_RATIO = Ratio(extra_prompt=2.0)
RATIOS: Mapping[str, Ratio] = {
    "resample": Ratio(),
    # A correction reads the attempt and what was observed about it, and writes about one answer.
    "reflect": Ratio(extra_prompt=3.0, completion=1.1, seconds=1.1),
    # The judge's feedback is a call of its own.
    "reflect:judge": Ratio(prompt=2.0, extra_prompt=4.0, completion=2.2, seconds=2.2, calls=2),
    "judge": Ratio(extra_prompt=2.0, completion=1.0, seconds=1.0),
    "escalate": Ratio(completion=1.2, seconds=3.0),
    "search": Ratio(prompt=4.0, completion=4.0, seconds=4.0, calls=4),
}
"""Priors, to be replaced by fitted ratios."""
