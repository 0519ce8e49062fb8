"""Whose calls an episode's charges are: a charge names the node that made it, the trace knows the models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tta_langgraph.budget import Charge, Usage
from tta_langgraph.traces.model import Trace

UNKNOWN = "unknown"
"""Stands for the model of a call that may have been either of several."""


@dataclass
class ModelCalls:
    """What is kept of one model's calls while episodes go by."""

    answers: int = 0
    """Candidates it wrote."""
    usage: Usage = Usage()
    """Of all its calls."""
    episodes: set[str] = field(default_factory=set)
    """Episodes with a call of it."""


@dataclass
class ModelsSeen:
    """The models of many episodes."""

    by_name: dict[str, ModelCalls] = field(default_factory=dict)
    """What each one consumed."""
    unsure: set[str] = field(default_factory=set)
    """Models of episodes in which some call may have been theirs."""

    def add(self, trace: Trace) -> None:
        """Adds an episode."""
        for candidate in trace.candidates:
            self._of(candidate.model or UNKNOWN).answers += 1
        charges = [charge for charge in trace.charges if charge.usage.model_calls]
        owner = _Owner(trace)
        for charge in charges:
            name = owner.of(charge)
            if name == UNKNOWN:
                self.unsure |= owner.all
            self._count(trace.id, name, charge.usage)
        if not charges:  # a trace from elsewhere, with the answers' share of each call only
            for candidate in trace.candidates:
                self._count(trace.id, candidate.model or UNKNOWN, candidate.usage)

    def _count(self, episode: str, name: str, usage: Usage) -> None:
        model = self._of(name)
        model.usage += usage
        model.episodes.add(episode)

    def _of(self, name: str) -> ModelCalls:
        return self.by_name.setdefault(name, ModelCalls())


class _Owner:
    """The models of one episode, by the part they had in it."""

    def __init__(self, trace: Trace) -> None:
        verdicts = [verdict for candidate in trace.candidates for verdict in candidate.evidence.verdicts]
        self._judges = _named(verdict.judge for verdict in verdicts)
        self._larger = _named(c.model for c in trace.candidates if c.action == "escalate")
        self._writers = _named(c.model for c in trace.candidates if c.action != "escalate")
        self.all = self._judges | self._larger | self._writers

    def of(self, charge: Charge) -> str:
        """The model of a call, or `unknown`."""
        part = {"judge": self._judges, "escalate": self._larger}.get(charge.source, self._writers)
        return next(iter(part)) if len(part) == 1 else UNKNOWN


def _named(names: Iterable[str]) -> set[str]:
    return {name for name in names if name}
