"""Calls that wrote far more than their prompt warrants: runaway reasoning, or someone who provokes it.

Source of the attack: *ReasoningBomb*, prompts that make reasoning models write without end. The caps of the budget
bound the damage; this shows who caused it.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from tta_langgraph.budget import Charge
from tta_langgraph.errors import TraceError


@dataclass(frozen=True, kw_only=True, slots=True)
class CallSize:
    """The size of one model call."""

    episode: str
    """The episode's id."""
    charge: str
    """The charge's id."""
    source: str
    """Who called."""
    prompt_tokens: int
    """Tokens of the prompt."""
    completion_tokens: int
    """Tokens written, over all samples."""

    @classmethod
    def of(cls, episode: str, charge: Charge) -> CallSize:
        """The size of a charged call."""
        return cls(
            episode=episode,
            charge=charge.id,
            source=charge.source,
            prompt_tokens=charge.usage.prompt_tokens,
            completion_tokens=charge.usage.completion_tokens,
        )

    @property
    def ratio(self) -> float:
        """Completion tokens per prompt token."""
        return self.completion_tokens / max(1, self.prompt_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """One call beyond the limit."""

    episode: str
    """The episode's id."""
    charge: str
    """The charge's id."""
    source: str
    """Who called."""
    prompt_tokens: int
    """Tokens of the prompt."""
    completion_tokens: int
    """Tokens written."""
    ratio: float
    """Completion tokens per prompt token."""
    limit: float
    """The ratio from which calls of this caller are reported."""


def output_alarms(calls: Iterable[CallSize], *, ratio: float | None = None) -> list[Alarm]:
    """The calls whose output-to-input ratio is beyond the limit, the worst first.

    Without a ratio the limit is per caller: six robust standard deviations (1.4826 times the median absolute
    deviation) above the median of the logarithm of its ratios, at least four times the median. Callers with fewer
    than 20 calls have no usual ratio yet and raise no alarm; nor do calls that wrote fewer than 50 tokens.

    Args:
        calls: sizes of model calls.
        ratio: a fixed limit for all callers instead.

    Raises:
        TraceError: `ratio` is not above 0.
    """
    if ratio is not None and not ratio > 0:
        raise TraceError(f"alarm ratio {ratio}", where="output_alarms", remedy="Give a number above 0, or None")
    by_source: dict[str, list[CallSize]] = defaultdict(list)
    for call in calls:
        by_source[call.source].append(call)
    alarms = []
    for source, own in by_source.items():
        limit = _usual_limit(own) if ratio is None else ratio
        alarms += [
            Alarm(
                episode=call.episode,
                charge=call.charge,
                source=source,
                prompt_tokens=call.prompt_tokens,
                completion_tokens=call.completion_tokens,
                ratio=call.ratio,
                limit=limit,
            )
            for call in own
            if call.ratio > limit and call.completion_tokens >= SHORTEST
        ]
    return sorted(alarms, key=lambda alarm: -alarm.ratio)


def _usual_limit(calls: list[CallSize]) -> float:
    logs = [math.log(call.ratio) for call in calls if call.completion_tokens > 0]
    if len(logs) < FEWEST:
        return math.inf
    middle = statistics.median(logs)
    spread = 1.4826 * statistics.median(abs(value - middle) for value in logs)
    return math.exp(middle + max(DEVIATIONS * spread, math.log(4.0)))


SHORTEST = 50
"""Completion tokens below which a call is never reported."""
FEWEST = 20
"""Calls that it takes to know what is usual."""
DEVIATIONS = 6.0
"""Robust standard deviations from the median that are still usual."""
