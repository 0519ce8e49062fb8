"""Log-probabilities in the shape OpenAI's API uses, and the few numbers a confidence estimate needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["logprob_stats", "openai_logprobs"]


def openai_logprobs(
    token_ids: Sequence[int], positions: Sequence[Mapping[int, Any]], top: int, decode: Callable[[int], str]
) -> list[dict[str, Any]]:
    """One entry per generated token: `token`, `bytes`, `logprob` (nats) and the `top` likeliest alternatives.

    Args:
        token_ids: the generated tokens.
        positions: for each, vLLM's map from token id to an object with `logprob`, `rank` and `decoded_token`.
        top: alternatives to keep per position, likeliest first.
        decode: token id to text, for tokens vLLM did not decode.
    """

    def entry(token_id: int, value: Any) -> dict[str, Any]:
        text = value.decoded_token if value.decoded_token is not None else decode(token_id)
        return {"token": text, "bytes": list(text.encode()), "logprob": max(float(value.logprob), _FLOOR)}

    content = []
    for token_id, position in zip(token_ids, positions, strict=True):
        likeliest = sorted(position.items(), key=lambda item: -item[1].logprob)[:top]
        alternatives = [entry(other, value) for other, value in likeliest]
        content.append({**entry(token_id, position[token_id]), "top_logprobs": alternatives})
    return content


def logprob_stats(content: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    """Compact statistics of one answer, in nats.

    Args:
        content: entries as `openai_logprobs` or an OpenAI-compatible server returns them.

    Returns:
        `n` tokens; `mean` and `min` of the log-probabilities; `tail_mean`, the mean of the lowest 20% (at least
        one token); `varentropy`, the variance of −log p over the tokens (the second term of ODAR's free energy);
        `first_token_entropy` over the alternatives of the first token, what they leave out counted as one more
        outcome (a lower bound of the entropy), None without alternatives. All None for an empty answer.
    """
    values = [float(entry["logprob"]) for entry in content]
    if not values:
        return {**dict.fromkeys(("mean", "min", "tail_mean", "varentropy", "first_token_entropy")), "n": 0}
    mean = math.fsum(values) / len(values)
    tail = sorted(values)[: max(1, math.ceil(len(values) * _TAIL))]
    return {
        "n": len(values),
        "mean": mean,
        "min": min(values),
        "tail_mean": math.fsum(tail) / len(tail),
        "varentropy": math.fsum((value - mean) ** 2 for value in values) / len(values),
        "first_token_entropy": _entropy(content[0].get("top_logprobs") or ()),
    }


def _entropy(alternatives: Sequence[Mapping[str, Any]]) -> float | None:
    if not alternatives:
        return None
    chances = [math.exp(float(one["logprob"])) for one in alternatives]
    chances.append(max(0.0, 1.0 - math.fsum(chances)))
    return -math.fsum(chance * math.log(chance) for chance in chances if chance > 0.0)


_TAIL = 0.2
_FLOOR = -9999.0
"""JSON has no minus infinity; OpenAI's API uses this value for tokens that were ruled out."""
