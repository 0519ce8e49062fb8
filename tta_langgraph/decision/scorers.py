"""Small models with one face: a list of numbers in, one number out; each knows how to become JSON and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from tta_langgraph.decision.calibration import Calibrator, calibrator_from_dict, calibrator_to_dict
from tta_langgraph.decision.forest import Forest
from tta_langgraph.errors import PolicyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Linear:
    """bias + weights · x, features of weight 0 left out."""

    bias: float
    """The constant."""
    weights: tuple[float, ...]
    """Shape (features,)."""

    @cached_property
    def _used(self) -> list[tuple[int, float]]:
        return [(i, w) for i, w in enumerate(self.weights) if w != 0.0]

    def __call__(self, x: Sequence[float]) -> float:
        """The sum for one moment, x of shape (features,)."""
        total = self.bias
        for i, weight in self._used:
            total += weight * x[i]
        return total

    def batch(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums of many moments, x of shape (moments, features)."""
        import numpy as np

        total = np.full(len(x), self.bias)
        for i, weight in self._used:  # not a matrix product, whose order of adding depends on how many rows there are
            total += weight * x[:, i]
        return total

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"bias": self.bias, "weights": list(self.weights)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Linear:
        """Reads `to_dict`'s output."""
        return cls(float(data["bias"]), tuple(map(float, data["weights"])))


@dataclass(frozen=True)
class Scorer:
    """The mean of some linear models and forests, through a link, then calibrated."""

    parts: tuple[Linear | Forest, ...]
    """Averaged before the link."""
    link: Literal["identity", "logistic"] = "identity"
    """`logistic` gives probabilities."""
    calibrator: Calibrator | None = None
    """Applied last, or None."""
    low: float = -math.inf
    """The result is clipped to at least this."""
    high: float = math.inf
    """And to at most this."""

    def __call__(self, x: Sequence[float]) -> float:
        """The score of one moment, x of shape (features,)."""
        raw = sum(part(x) for part in self.parts) / len(self.parts)
        if self.link == "logistic":
            raw = _logistic(raw)
        if self.calibrator is not None:
            raw = self.calibrator(raw)
        return min(self.high, max(self.low, raw))

    def batch(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The scores of many moments, x of shape (moments, features): to the last digit those of one by one."""
        import numpy as np

        raw = np.zeros(len(x))
        for part in self.parts:
            raw += part.batch(x)
        raw /= len(self.parts)
        if self.link == "logistic":
            raw = np.asarray(
                [_logistic(v) for v in raw.tolist()], dtype=np.float64
            )  # NumPy's exp differs in its last digit
        if self.calibrator is not None:
            raw = self.calibrator.batch(raw)
        return np.clip(raw, self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "parts": [{"kind": _KINDS[type(part)], **part.to_dict()} for part in self.parts],
            "link": self.link,
            "calibrator": calibrator_to_dict(self.calibrator),
            "low": None if math.isinf(self.low) else self.low,
            "high": None if math.isinf(self.high) else self.high,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, width: int) -> Scorer:
        """Reads `to_dict`'s output.

        Raises:
            PolicyError: an unknown kind, or a model over another number of features.
        """
        parts: list[Linear | Forest] = []
        for part in data["parts"]:
            if part["kind"] not in ("linear", "forest"):
                raise PolicyError(f"unknown model {part['kind']!r}", where="scorer", remedy="Fit the policy again")
            model = Linear.from_dict(part) if part["kind"] == "linear" else Forest.from_dict(part)
            seen = len(model.weights) if isinstance(model, Linear) else model.width
            if seen != width:
                raise PolicyError(f"a model of {seen} features where there are {width}", where="scorer")
            parts.append(model)
        if not parts or data["link"] not in ("identity", "logistic"):
            raise PolicyError("not a scorer", where="scorer", remedy="Fit the policy again")
        low, high = data["low"], data["high"]
        return cls(
            parts=tuple(parts),
            link=data["link"],
            calibrator=calibrator_from_dict(data["calibrator"]),
            low=-math.inf if low is None else float(low),
            high=math.inf if high is None else float(high),
        )


def _logistic(raw: float) -> float:
    return 1 / (1 + math.exp(-raw)) if raw > -700 else 0.0


_KINDS: dict[type[Any], str] = {Linear: "linear", Forest: "forest"}
