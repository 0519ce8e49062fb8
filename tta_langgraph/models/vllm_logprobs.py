"""Log-probabilities in the shape OpenAI's API uses, and the few numbers a confidence estimate needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tta_langgraph.models.logprobs import logprob_stats

__all__ = ["compact_stats", "openai_logprobs"]


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


def compact_stats(content: Sequence[Mapping[str, Any]]) -> dict[str, float | int] | None:
    """What a confidence estimate needs of one answer, as plain numbers; None for an empty answer.

    Args:
        content: entries as `openai_logprobs` or an OpenAI-compatible server returns them.

    Returns:
        `n` tokens; `mean`, `min` and `tail_mean` (the lowest fifth) of the log-probabilities in nats; `variance` of
        −log p over the tokens; `varentropy` and `first_token_entropy` over the alternatives, 0 without any.
    """
    stats = logprob_stats({"content": content})
    if stats is None:
        return None
    return {
        "n": stats.n,
        "mean": stats.mean,
        "min": stats.minimum,
        "tail_mean": stats.tail,
        "variance": stats.variance,
        "varentropy": stats.varentropy,
        "first_token_entropy": stats.first_entropy,
    }


_FLOOR = -9999.0
"""JSON has no minus infinity; OpenAI's API uses this value for tokens that were ruled out."""
