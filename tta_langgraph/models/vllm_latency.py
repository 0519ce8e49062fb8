"""Times calls on an idle engine, for `tta_langgraph.latency.fit_latency`.

Example:
    ```python
    latency = fit_latency(measure_latency(model))
    latency.predict(prompt_tokens=800, completion_tokens=60)  # seconds
    ```
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage

from tta_langgraph.latency import LatencyModel, Observation, fit_latency

if TYPE_CHECKING:
    from tta_langgraph.models.vllm import ChatVLLM

__all__ = ["LatencyModel", "Observation", "fit_latency", "measure_latency"]


def measure_latency(
    model: ChatVLLM,
    *,
    prompt_tokens: Sequence[int] = (64, 256, 768),
    completion_tokens: Sequence[int] = (1, 16, 48),
    repeats: int = 2,
) -> list[Observation]:
    """Times calls one by one; nothing else may use the engine meanwhile.

    Every prompt begins differently, so that the prefix cache serves at most what the chat template puts before it, and
    the first call, which warms the engine up, is not among the results.

    Args:
        model: the model; calls are made as a user would make them.
        prompt_tokens: prompt lengths, approximately.
        completion_tokens: completion lengths, exactly.
        repeats: calls per combination.
    """
    grid = list(itertools.product(prompt_tokens, completion_tokens)) * repeats
    _timed(model, *grid[0])
    return [_timed(model, prompt, completion) for prompt, completion in grid]


def _timed(model: ChatVLLM, prompt: int, completion: int) -> Observation:
    text = uuid.uuid4().hex
    text += " on" * max(0, prompt - model.count_prompt_tokens(text))
    begun = time.perf_counter()
    answer = model.invoke([HumanMessage(text)], max_tokens=completion, ignore_eos=True, temperature=0)
    seconds = time.perf_counter() - begun
    usage: Any = answer.usage_metadata
    return Observation(
        prompt_tokens=usage["input_tokens"],
        completion_tokens=usage["output_tokens"],
        cached_tokens=usage["input_token_details"]["cache_read"],
        seconds=seconds,
    )
