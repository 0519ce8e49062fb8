"""What is tried on every question of a recording."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tta_langgraph.errors import TraceError
from tta_langgraph.nodes import Form


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A chain of reflections that starts at the first answer."""

    feedback: Literal["none", "judge", "execution"] = "execution"
    """What the model is told."""
    form: Form | None = None
    """How the second look is put (`attempt`, `consequences`, `repair`, `fresh`); None for the model's default."""
    rounds: int = 1
    """Rounds, each on the last one's answer."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise TraceError(f"a chain of {self.rounds} rounds", where="Chain.rounds", remedy="Give at least 1")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The strategies that are run on every question: greedy answer, samples, reflection chains, verdicts."""

    samples: int = 8
    """Fresh samples, in one request where the server can."""
    temperature: float = 0.8
    """Of the samples."""
    chains: tuple[Chain, ...] = (
        Chain(feedback="execution", rounds=3),
        Chain(feedback="none", rounds=1),
        Chain(feedback="judge", rounds=1),
    )
    """Reflection chains."""
    judged: int = 1
    """Distinct answers that get a verdict, the first answer always; 0 for no judge."""
    max_tokens: int = 256
    """Completion cap of one answer (tokens)."""
    judge_tokens: int = 64
    """Completion cap of one verdict (tokens)."""
    schema_tokens: int = 1_500
    """Cap of the schema in the prompt (tokens)."""
    timeout: float = 5.0
    """Seconds for one query."""
    logprobs: bool = True
    """Whether log-probabilities are asked for (features of the predictor)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further sampling options: `top_p`, `stop`, `seed`, …"""

    def __post_init__(self) -> None:
        if self.samples < 0 or self.judged < 0:
            raise TraceError("a negative number of samples or verdicts", where="Grid", remedy="Give 0 for none")
        if not 0 <= self.temperature < math.inf:
            raise TraceError(
                f"a temperature of {self.temperature:g}", where="Grid.temperature", remedy="Give 0 or more"
            )
        if self.judged == 0 and any(chain.feedback == "judge" for chain in self.chains):
            raise TraceError(
                "a chain with a judge's feedback and no judge", where="Grid.judged", remedy="Give judged=1 or more"
            )

    @property
    def sampling(self) -> dict[str, Any]:
        """What the manifest says of the sampling."""
        chains = [f"{chain.feedback}/{chain.form or 'default'}x{chain.rounds}" for chain in self.chains]
        return {
            "samples": self.samples,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "judge_tokens": self.judge_tokens,
            "chains": chains,
            **self.options,
        }
