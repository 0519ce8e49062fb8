"""How long a call would take on an idle engine: prefill(prompt) + output · τ, fitted on measurements.

The forecasts take it as the idealised runtime. What a busy engine adds is contention: observed over ideal seconds of
the calls at hand.

`tta_langgraph.models.vllm_latency.measure_latency` makes the measurements; `Policy.with_latency` uses the result.

Example:
    >>> latency = LatencyModel(overhead=0.02, prefill=0.001, per_token=0.05)
    >>> round(latency.predict(prompt_tokens=800, completion_tokens=60), 2)
    3.82
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tta_langgraph.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["LatencyModel", "Observation", "fit_latency", "fit_rates"]


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

    where computed = prompt − cached. All coefficients are at least zero. Of several samples in one request the longest
    counts, and of the others' tokens the share `batch`, which forecasts (`CostModel`) and `replay(sharing=...)` add.
    """

    overhead: float
    """Seconds per call."""
    prefill: float
    """Seconds per prompt token that is computed, not cached."""
    per_token: float
    """Seconds per generated token (τ)."""
    attention: float = 0.0
    """Seconds per computed prompt token and token it attends to: what makes long prompts worse than linear."""
    batch: float = 0.0
    """What a token of a further sample of the same request takes, as a share of `per_token`: 0 where samples decode
    together for nothing (a GPU), 1 where they take turns; a processor of few cores lies between."""
    observations: int = 0
    """Measurements it was fitted on; 0 if it was written down, not fitted."""
    mean_error: float | None = None
    """Mean of |predicted − measured| / measured, each call predicted by a fit on all the others."""
    worst_error: float | None = None
    """The largest of these."""

    def __post_init__(self) -> None:
        rates = (self.overhead, self.prefill, self.per_token, self.attention, self.batch)
        if not all(math.isfinite(rate) and rate >= 0 for rate in rates):
            raise ModelError(f"rates {rates} are not seconds", where="LatencyModel", remedy="Give none below 0")

    def predict(self, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0) -> float:
        """Seconds on an idle engine; arrays of tokens give an array.

        Args:
            prompt_tokens: prompt length.
            completion_tokens: tokens of the longest sample; samples of one request decode together.
            cached_tokens: part of the prompt expected in the prefix cache.
        """
        new = prompt_tokens - cached_tokens
        computed = (new + abs(new)) / 2  # at least 0, also where arrays are given
        return (
            self.overhead
            + self.prefill * computed
            + self.attention * computed * prompt_tokens
            + self.per_token * completion_tokens
        )

    def contention(self, observations: Sequence[Observation]) -> float:
        """Observed over ideal seconds of these calls, each weighted by its length; 1 where nothing was observed."""
        ideal = math.fsum(self.predict(o.prompt_tokens, o.completion_tokens, o.cached_tokens) for o in observations)
        return math.fsum(o.seconds for o in observations) / ideal if ideal > 0 else 1.0

    def to_json(self) -> str:
        """The fitted model as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, path: str | Path) -> LatencyModel:
        """Reads a file that holds what `to_json` wrote.

        Raises:
            ModelError: there is no such file, or it holds something else.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path} cannot be read: {error}", remedy="Measure with measure_latency") from error
        return cls.from_json(text)

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
    scaled, ones = _scaled(observations), np.ones(len(observations))
    errors = []
    for index in range(len(observations)):
        others = np.arange(len(observations)) != index
        left_out = scaled[index] @ _non_negative(scaled[others], ones[others])
        errors.append(abs(float(left_out) - 1.0))
    return replace(fit_rates(observations), mean_error=math.fsum(errors) / len(errors), worst_error=max(errors))


def fit_rates(observations: Sequence[Observation]) -> LatencyModel:
    """The rates of `fit_latency` alone, without its errors: quick for many measurements.

    Args:
        observations: calls that took more than 0 seconds.
    """
    import numpy as np

    overhead, prefill, attention, per_token = map(
        float, _non_negative(_scaled(observations), np.ones(len(observations)))
    )
    return LatencyModel(
        overhead=overhead, prefill=prefill, attention=attention, per_token=per_token, observations=len(observations)
    )


def _scaled(observations: Sequence[Observation]) -> npt.NDArray[np.float64]:
    """Features over the measured time: a tenth of a short call then weighs as much as a tenth of a long one."""
    import numpy as np

    rows: npt.NDArray[np.float64] = np.array([_features(one) for one in observations], dtype=float)
    seconds: npt.NDArray[np.float64] = np.array([one.seconds for one in observations], dtype=float)
    return np.divide(rows, seconds[:, None])


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
