"""How long a call would take on an idle engine: prefill(prompt) + output · τ, fitted on measurements.

The forecasts take it as the idealised runtime; what a busy engine adds is contention and is learned elsewhere.

Example:
    ```python
    from tta_langgraph.models.vllm_latency import LatencyModel, fit_latency, measure_latency

    latency = fit_latency(measure_latency(model))
    latency.predict(prompt_tokens=800, completion_tokens=60)  # seconds
    latency == LatencyModel.from_json(latency.to_json())  # True
    ```
"""

from __future__ import annotations

import itertools
import json
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage

from tta_langgraph.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tta_langgraph.models.vllm import ChatVLLM

__all__ = ["LatencyModel", "Observation", "fit_latency", "measure_latency"]


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One measured call."""

    prompt_tokens: int
    """Prompt length (tokens)."""
    completion_tokens: int
    """Tokens generated in sequence (of one sample)."""
    seconds: float
    """Wall-clock of the whole call."""
    cached_tokens: int = 0
    """Prompt tokens served from the prefix cache."""


@dataclass(frozen=True, kw_only=True)
class LatencyModel:
    """seconds = overhead + prefill · computed + attention · computed · prompt + per_token · completion,

    where computed = prompt − cached. All coefficients are at least zero.
    """

    overhead: float
    """Seconds per call."""
    prefill: float
    """Seconds per prompt token that is computed, not cached."""
    attention: float
    """Seconds per computed prompt token and token it attends to: what makes long prompts worse than linear."""
    per_token: float
    """Seconds per generated token (τ)."""
    observations: int
    """Measurements it was fitted on."""
    mean_error: float
    """Mean of |predicted − measured| / measured, each call predicted by a fit on all the others."""
    worst_error: float
    """The largest of these."""

    def predict(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """Seconds on an idle engine.

        Args:
            prompt_tokens: prompt length.
            completion_tokens: tokens of the longest sample; samples of one request decode together.
            cached_tokens: part of the prompt expected in the prefix cache.
        """
        computed = prompt_tokens - cached_tokens
        return (
            self.overhead
            + self.prefill * computed
            + self.attention * computed * prompt_tokens
            + self.per_token * completion_tokens
        )

    def to_json(self) -> str:
        """The fitted model as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LatencyModel:
        """Reads what `to_json` wrote.

        Raises:
            ModelError: it is something else.
        """
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise ModelError(f"not a latency model: {error}", remedy="Fit one with fit_latency") from error


def fit_latency(observations: Sequence[Observation]) -> LatencyModel:
    """Non-negative least squares on relative errors, with its leave-one-out error.

    Args:
        observations: at least five, of different prompt and completion lengths.

    Raises:
        ModelError: too few observations.
    """
    import numpy as np

    if len(observations) <= _TERMS:
        raise ModelError(
            f"{len(observations)} measurements cannot fit {_TERMS} coefficients",
            where="fit_latency",
            remedy="Measure more calls, of different lengths",
        )
    rows = np.array([_features(one) for one in observations], dtype=float)
    seconds = np.array([one.seconds for one in observations], dtype=float)
    # Dividing by the measured time makes a tenth of a short call weigh as much as a tenth of a long one.
    scaled, ones = rows / seconds[:, None], np.ones(len(seconds))
    errors = []
    for index in range(len(seconds)):
        others = np.arange(len(seconds)) != index
        left_out = scaled[index] @ _non_negative(scaled[others], ones[others])
        errors.append(abs(float(left_out) - 1.0))
    overhead, prefill, attention, per_token = map(float, _non_negative(scaled, ones))
    return LatencyModel(
        overhead=overhead,
        prefill=prefill,
        attention=attention,
        per_token=per_token,
        observations=len(observations),
        mean_error=math.fsum(errors) / len(errors),
        worst_error=max(errors),
    )


def measure_latency(
    model: ChatVLLM,
    *,
    prompt_tokens: Sequence[int] = (64, 256, 768),
    completion_tokens: Sequence[int] = (1, 16, 48),
    repeats: int = 2,
) -> list[Observation]:
    """Times calls one by one; nothing else may use the engine meanwhile.

    Every prompt begins differently, so that none is served from the prefix cache, and the first call, which warms
    the engine up, is not among the results.

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


def _features(one: Observation) -> tuple[float, float, float, float]:
    computed = one.prompt_tokens - one.cached_tokens
    return 1.0, float(computed), float(computed * one.prompt_tokens), float(one.completion_tokens)


def _non_negative(rows: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Exact non-negative least squares for a handful of columns: the best of all sets of columns left at zero."""
    import numpy as np

    best, best_error = np.zeros(rows.shape[1]), float(target @ target)
    for size in range(1, rows.shape[1] + 1):
        for columns in map(list, itertools.combinations(range(rows.shape[1]), size)):
            chosen = np.linalg.lstsq(rows[:, columns], target, rcond=None)[0]
            error = float(((rows[:, columns] @ chosen - target) ** 2).sum())
            if (chosen >= 0).all() and error < best_error:
                best, best_error = np.zeros(rows.shape[1]), error
                best[columns] = chosen
    return best


_TERMS = 4
