"""What a replay gives: one row per episode, in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.errors import TraceError
from tta_langgraph.state import Decision
from tta_langgraph.traces.frontier import Point
from tta_langgraph.traces.metrics_intervals import proportion

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Replayed episodes of one strategy at one setting; arrays of shape (episodes,)."""

    name: str
    """The strategy, with its setting."""
    family: str = ""
    """What it belongs to, for colours and legends."""
    question: Ints
    """Index of each episode's question."""
    clusters: tuple[str, ...] = ()
    """Database of each question, shape (questions,): what intervals resample."""
    correct: Bools
    """Whether the answer given was right; an abstention is not."""
    tokens: Floats
    """Tokens spent."""
    seconds: Floats
    """Seconds spent: parallel calls count once."""
    calls: Ints
    """Requests to models."""
    row: Ints
    """Recorded row of the answer given; −1 for none."""
    p_correct: Floats | None = None
    """What the policy believed of its answer, if it said so."""
    abstained: Bools | None = None
    """Whether it gave no answer on purpose."""
    steps: Ints | None = None
    """Decisions taken."""
    reasons: Sequence[str] = ()
    """Why each episode ended, if kept."""
    decisions: Sequence[tuple[Decision, ...]] = field(default=(), repr=False)
    """The decisions of each episode, if kept."""

    def __len__(self) -> int:
        return len(self.question)

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.correct.mean())

    @property
    def mean_tokens(self) -> float:
        """Mean tokens per episode."""
        return float(self.tokens.mean())

    @property
    def mean_seconds(self) -> float:
        """Mean seconds per episode."""
        return float(self.seconds.mean())

    def mean(self, cost: str) -> float:
        """Mean cost per episode: `tokens` or `seconds`.

        Raises:
            TraceError: `cost` is neither.
        """
        if cost not in ("tokens", "seconds"):
            raise TraceError(f"there is no cost {cost!r}", where="Outcomes", remedy="Use tokens or seconds")
        return float(getattr(self, cost).mean())

    def named(self, name: str) -> Outcomes:
        """The same outcomes under another name."""
        return replace(self, name=name)

    def per_question(self, values: NDArray[np.generic]) -> Floats:
        """Means over each question's episodes, shape (questions that occur,), in order of index."""
        count = np.bincount(self.question)
        total = np.bincount(self.question, weights=np.asarray(values, float))
        return np.asarray(total[count > 0] / count[count > 0], dtype=float)

    @property
    def question_clusters(self) -> list[str] | None:
        """The cluster of each question that occurs; None if there are fewer than five clusters to resample."""
        present = np.unique(self.question)
        names = [self.clusters[q] for q in present] if self.clusters else []
        return names if len(set(names)) >= MIN_CLUSTERS else None

    def point(self, *, cost: str = "tokens", draws: int = 1000, seed: int = 0) -> Point:
        """Its place in a chart: mean cost, accuracy and its 95% interval (by database where there are enough).

        Args:
            cost: `tokens` or `seconds`.
            draws: bootstrap replicates.
            seed: of the bootstrap.

        Raises:
            TraceError: `cost` is neither.
        """
        right = self.per_question(self.correct)
        interval = proportion(right, clusters=self.question_clusters, draws=draws, seed=seed)
        return Point(
            name=self.name,
            family=self.family or self.name,
            cost=self.mean(cost),
            accuracy=interval.value,
            low=interval.low,
            high=interval.high,
            extra={
                "tokens": self.mean_tokens,
                "seconds": self.mean_seconds,
                "calls": float(self.calls.mean()),
                "abstained": 0.0 if self.abstained is None else float(self.abstained.mean()),
            },
        )


def joined(parts: Sequence[tuple[Ints, Outcomes]], name: str) -> Outcomes:
    """Outcomes of disjoint episodes put together again; each part comes with the places of its episodes."""
    places = np.concatenate([episodes for episodes, _ in parts])
    order = np.argsort(places)

    def column(field_name: str) -> NDArray[Any]:
        found = np.concatenate([np.asarray(getattr(outcomes, field_name)) for _, outcomes in parts])
        return np.asarray(found[order])

    first = parts[0][1]
    names = ("question", "correct", "tokens", "seconds", "calls", "row", "p_correct", "abstained", "steps")
    columns: dict[str, Any] = {name: column(name) for name in names}
    return replace(first, name=name, reasons=(), decisions=(), **columns)


MIN_CLUSTERS = 5
"""Below this, resampling databases says little; questions are resampled instead."""
