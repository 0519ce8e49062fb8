"""Reflection as a Markov step: how often does another look fix what is wrong, and break what is right?

Counts per action, model, state of the candidate (failed or ran) and round, shrunk towards coarser counts and finally to
shipped priors: for models whose second looks were measured, the rates of the form that theirs take. Reflection gains
(1−c)·p_fix − c·p_break, so it helps only while c < p_fix / (p_fix + p_break).

Source: *Finding the Sweet Spot* (arXiv 2510.20653) for rounds and feedback kinds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.agreement import Agreement
from tta_langgraph.decision.batch import Batch, batch_of
from tta_langgraph.decision.experience import Experience
from tta_langgraph.decision.forecasts import Assessment, Forecast
from tta_langgraph.decision.predictor import Predictor, predictor_from_dict, predictor_to_dict, register
from tta_langgraph.decision.priors import TRANSITION_PRIORS
from tta_langgraph.decision.rates import Counts, Rates
from tta_langgraph.decision.second_looks import Seen, form_rates
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.errors import PolicyError
from tta_langgraph.state import Candidate


@dataclass(frozen=True, slots=True)
class Transition:
    """One observed step."""

    action: Action
    """The action that was taken."""
    model: str
    """Who took it."""
    state: str
    """`failed`, `ran` or `unknown`: what was known about the candidate before."""
    round: int
    """Rounds of correction the candidate had behind it."""
    before: bool
    """The best answer was right before."""
    after: bool
    """The best answer was right after."""


def observed(experiences: Iterable[Experience]) -> Iterator[Transition]:
    """The transitions in recorded steps, the answer chosen by vote before and after."""
    for e in experiences:
        before, after = e.snapshot.tally.best, e.after.tally.best
        if before is not None and after is not None:
            yield Transition(
                action=e.action,
                model=before.model,
                state=state_of(before),
                round=before.round,
                before=before.id in e.right,
                after=after.id in e.right,
            )


@dataclass(frozen=True, kw_only=True)
class TransitionTable:
    """Counts with back-off: (action, model, state, round) -> any round -> any model -> the shipped prior."""

    counts: Mapping[str, Counts] = field(default_factory=dict)
    """By `action|model|state|round`, `*` for any."""
    priors: Mapping[str, tuple[float, float]] = field(default_factory=lambda: TRANSITION_PRIORS)
    """(p_fix, p_break) by `action|state` or `action`, where `reflect:judge` stands in for `reflect:judge.repair`, and
    `reflect` for both."""
    measured: bool = True
    """Whether what was measured of a model's second looks (`tta_langgraph.decision.second_looks`) outranks `priors`."""
    strength: float = 12.0
    """Pseudo-observations with which each level is drawn to the coarser one."""

    @classmethod
    def fit(cls, observed: Iterable[Transition], *, strength: float = 12.0) -> TransitionTable:
        """Counts transitions at every level of the back-off."""
        counts: dict[str, Counts] = {}
        for step in observed:
            name = step.action.name
            for key in _levels(name, step.model, step.state, step.round):
                counts[key] = counts.get(key, Counts()).plus(step.before, step.after)
        return cls(counts=counts, strength=strength)

    def knows(self, action: Action) -> bool:
        """Whether there is a count or a prior for this action."""
        return any(name in self.priors for name in action.names) or any(
            key.startswith(f"{action.name}|") for key in self.counts
        )

    def rates(self, action: Action, *, model: str = "", state: str = "unknown", round: int = 0) -> Rates:
        """Posterior means of p_fix and p_break, from the coarsest level to the finest.

        Raises:
            PolicyError: nothing is known about the action.
        """
        fix, broke = self._prior(action, model, state)
        for key in reversed(_levels(action.name, model, state, round)):
            seen = self.counts.get(key)
            if seen is not None:
                fix = (seen.fixed + self.strength * fix) / (seen.wrong + self.strength)
                broke = (seen.broken + self.strength * broke) / (seen.right + self.strength)
        return Rates(fix, broke)

    def _prior(self, action: Action, model: str, state: str) -> tuple[float, float]:
        """What is held before any count: the model's own second looks, then the priors from the closest name on."""
        if self.measured and state in SEEN:
            found = form_rates(action, model=model, seen=SEEN[state])
            if found is not None:
                return found.p_fix, found.p_break
        keys = (key for name in action.names for key in (f"{name}|{state}", name))
        prior = next((self.priors[key] for key in keys if key in self.priors), None)
        if prior is None and not self.knows(action):
            raise PolicyError(f"no transitions known for {action.name}", where="TransitionTable")
        return prior or UNKNOWN

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "counts": {key: [c.fixed, c.wrong, c.broken, c.right] for key, c in self.counts.items()},
            "priors": {key: list(pair) for key, pair in self.priors.items()},
            "measured": self.measured,
            "strength": self.strength,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TransitionTable:
        """Reads `to_dict`'s output."""
        priors = {key: (float(fix), float(broke)) for key, (fix, broke) in data["priors"].items()}
        return cls(
            counts={key: Counts(*map(float, four)) for key, four in data["counts"].items()},
            priors=priors,
            measured=bool(data.get("measured", False)),
            strength=float(data["strength"]),
        )


@register("transitions")
@dataclass(frozen=True, kw_only=True)
class Transitions:
    """Forecasts corrections and escalations from transition rates, everything else as `belief` does."""

    table: TransitionTable = field(default_factory=TransitionTable)
    """The rates."""
    belief: Predictor = field(default_factory=Agreement)
    """Says P(correct now), and forecasts fresh samples and verdicts."""

    @property
    def name(self) -> str:
        """`transitions`."""
        return "transitions"

    def assess(self, snapshot: Snapshot, actions: Sequence[Action]) -> Assessment:
        """P(correct after) = c + (1−c)·p_fix − c·p_break for every action that has rates."""
        own = [action for action in actions if not action.ends and self.table.knows(action)]
        base = self.belief.assess(snapshot, actions)
        if not own:
            return base
        best = snapshot.get(base.best)
        state, model, rounds = state_of(best), best.model if best else "", best.round if best else 0
        found = dict(base.forecasts)
        for action in own:
            known = found.get(action)
            if known is None:
                continue
            rates = self.table.rates(action, model=model, state=state, round=rounds)
            found[action] = Forecast(action, rates.after(base.p_now), known.tokens, known.seconds, self.name)
        return Assessment(base.p_now, found, base.predictor, base.features, base.best)

    def assess_batch(self, snapshots: Sequence[Snapshot], actions: Sequence[Action]) -> Batch:
        """The same for many moments at once."""
        batch = batch_of(self.belief, snapshots, actions)
        own = [(a, action) for a, action in enumerate(actions) if not action.ends and self.table.knows(action)]
        known: dict[tuple[int, str, str, int], Rates] = {}
        for i, snapshot in enumerate(snapshots) if own else ():
            best = snapshot.get(batch.best[i])
            where = (best.model if best else "", state_of(best), best.round if best else 0)
            for a, action in own:
                if batch.p_after[i, a] != batch.p_after[i, a]:  # the belief keeps silent about it
                    continue
                rates = known.get((a, *where))
                if rates is None:
                    model, state, rounds = where
                    rates = known[a, *where] = self.table.rates(action, model=model, state=state, round=rounds)
                batch.p_after[i, a] = rates.after(batch.p_now[i])
                batch.ahead[:, i, a] = float("nan")
        return batch

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"table": self.table.to_dict(), "belief": predictor_to_dict(self.belief)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Transitions:
        """Reads `to_dict`'s output."""
        table = TransitionTable.from_dict(data["table"])
        return cls(table=table, belief=predictor_from_dict(data["belief"], where="transitions.belief"))


SEEN: Mapping[str, Seen] = {"failed": "error", "ran": "rows"}
"""What was seen of an attempt, by the state that transitions are counted by."""
UNKNOWN = (0.1, 0.1)
"""Rates of a counted action without a prior, before its counts."""


def _levels(name: str, model: str, state: str, rounds: int) -> tuple[str, ...]:
    """Keys from the finest to the coarsest."""
    return (f"{name}|{model}|{state}|{rounds}", f"{name}|{model}|{state}|*", f"{name}|*|{state}|*")


def state_of(candidate: Candidate | None) -> str:
    """`failed`, `ran` or `unknown`: what is known about a candidate."""
    execution = candidate.evidence.execution if candidate is not None else None
    if execution is None:
        return "unknown"
    return "ran" if execution.ok else "failed"
