"""Compact statistics of token log-probabilities, read from the shape that OpenAI-compatible servers use."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tta_langgraph.evidence import LogprobStats

TAIL_SHARE = 0.2
"""Share of the least likely tokens that make up the tail."""


def logprob_stats(logprobs: Any) -> LogprobStats | None:
    """Statistics of one completion's tokens; None if no log-probabilities were given.

    Args:
        logprobs: `{"content": [{"token", "logprob", "top_logprobs": [{"token", "logprob"}, …]}, …]}`, nats.
    """
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not content:
        return None
    values = [float(token["logprob"]) for token in content if token.get("logprob") is not None]
    if not values:
        return None
    mean = sum(values) / len(values)
    tail = sorted(values)[: max(1, round(TAIL_SHARE * len(values)))]
    alternatives = [[float(top["logprob"]) for top in token.get("top_logprobs") or ()] for token in content]
    known = [entropy_and_varentropy(tops) for tops in alternatives if len(tops) > 1]
    return LogprobStats(
        mean=mean,
        tail=sum(tail) / len(tail),
        minimum=tail[0],
        variance=sum((value - mean) ** 2 for value in values) / len(values),
        varentropy=sum(varentropy for _, varentropy in known) / len(known) if known else 0.0,
        first_entropy=entropy_and_varentropy(alternatives[0])[0] if len(alternatives[0]) > 1 else 0.0,
        n=len(values),
    )


def entropy_and_varentropy(logprobs: Sequence[float]) -> tuple[float, float]:
    """Entropy (nats) and varentropy (nats squared) of the distribution over the given alternatives, renormalised."""
    weights = [math.exp(value) for value in logprobs]
    total = sum(weights)
    probabilities = [weight / total for weight in weights if weight > 0]
    entropy = -sum(p * math.log(p) for p in probabilities)
    return entropy, sum(p * (-math.log(p) - entropy) ** 2 for p in probabilities)
