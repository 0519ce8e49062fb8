"""Fixed strategies and published stop rules, so that the same router runs what a policy is compared with."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from tta_langgraph.decision.actions import STOP, Action
from tta_langgraph.decision.score_tail import fit_truncated_normal
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.decision.tally import Tally, votes
from tta_langgraph.decision.vote_stability import Form, confidence
from tta_langgraph.errors import PolicyError
from tta_langgraph.selection_weights import reward


class Rule(Protocol):
    """Says what comes next, whatever it costs; the router still refuses what does not fit in the budget."""

    def next(self, snapshot: Snapshot) -> Action:
        """The next action."""
        ...


@dataclass(frozen=True, slots=True)
class OneShot:
    """The first answer, and no more."""

    def next(self, snapshot: Snapshot) -> Action:
        """Stops."""
        return _STOP


@dataclass(frozen=True, slots=True)
class BestOf:
    """`n` candidates in all, the missing ones in one request, then the vote (self-consistency, Wang et al. 2023)."""

    n: int
    """Candidates in all, the first one included."""

    def next(self, snapshot: Snapshot) -> Action:
        """The missing samples, once."""
        missing = self.n - len(snapshot.candidates)
        return Action("resample", missing) if missing > 0 and not snapshot.used.get("resample") else _STOP


@dataclass(frozen=True, slots=True)
class ReflectTimes:
    """`n` rounds of correction, whatever was observed (*Finding the Sweet Spot*, arXiv 2510.20653)."""

    n: int
    """Rounds."""
    action: str = "reflect"
    """The action's name, e.g. `reflect:judge`."""

    def next(self, snapshot: Snapshot) -> Action:
        """Another round until there were `n`."""
        return Action(self.action) if snapshot.used.get(self.action, 0) < self.n else _STOP


@dataclass(frozen=True, slots=True)
class AdaptiveConsistency:
    """Samples one by one until the leader is confident to stay ahead (arXiv 2305.11860)."""

    threshold: float = 0.95
    """Confidence at which it stops."""
    most: int = 40
    """Candidates at most."""
    form: Form = "beta"
    """`beta` looks at the two leading answers, `dirichlet` at all."""

    def next(self, snapshot: Snapshot) -> Action:
        """One more sample, unless it is confident."""
        if len(snapshot.candidates) >= self.most:
            return _STOP
        sure = confidence(snapshot.tally.pattern, self.form) >= self.threshold
        return _STOP if sure else Action("resample", 1)


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Samples windows until one is unanimous: early-stopping self-consistency (ESC, arXiv 2401.10480)."""

    window: int = 4
    """Samples per window; the first answer belongs to the first window."""
    most: int = 40
    """Candidates at most."""

    def next(self, snapshot: Snapshot) -> Action:
        """The rest of the window, or the next one, unless the last was unanimous."""
        n = len(snapshot.candidates)
        begun = n % self.window
        if begun == 0 and n:
            last = snapshot.candidates[-self.window :]
            if last[0].key is not None and len({c.key for c in last}) == 1 and all(map(votes, last)):
                return _STOP
        wanted = min(self.window - begun, self.most - n)
        return Action("resample", wanted) if wanted > 0 else _STOP


@dataclass(frozen=True, slots=True)
class Allocated:
    """As many samples as an allocation gives to the pattern of the first ones (PETS, arXiv 2602.16745)."""

    samples: Mapping[str, int]
    """Candidates in all by pattern, written `3-1` for three votes against one."""
    first: int = 4
    """Candidates whose pattern is looked at."""

    def next(self, snapshot: Snapshot) -> Action:
        """The first samples, then the allocated ones in one request."""
        n = len(snapshot.candidates)
        wanted = self.first
        if n >= self.first:
            pattern = Tally.of(snapshot.candidates[: self.first]).pattern
            wanted = self.samples.get("-".join(map(str, pattern)), self.first)
        return Action("resample", wanted - n) if wanted > n else _STOP


@dataclass(frozen=True, slots=True)
class ScoreReached:
    """As many samples as it takes until the best score reaches a target (OptScale, arXiv 2506.22376)."""

    target: float = 0.9
    """The score to reach."""
    q: float = 0.1
    """Accepted chance of missing it."""
    most: int = 16
    """Candidates at most."""

    def next(self, snapshot: Snapshot) -> Action:
        """The samples still missing to N*, unless the target is reached."""
        scores = [reward(c) for c in snapshot.candidates if c.evidence.verdicts or c.evidence.checks]
        n = len(snapshot.candidates)
        if n >= self.most or max(scores, default=0.0) >= self.target:
            return _STOP
        wanted = min(self.most, fit_truncated_normal(scores).samples_for(self.target, self.q))
        return Action("resample", wanted - n) if wanted > n else _STOP


@dataclass(frozen=True, slots=True)
class RandomStop:
    """Stops with a fixed chance after each candidate, whatever it saw: the floor for every stop rule."""

    chance: float = 0.5
    """Of stopping."""
    most: int = 16
    """Candidates at most."""
    seed: int = 0
    """The same seed, step and first candidate give the same coin."""

    def next(self, snapshot: Snapshot) -> Action:
        """One more sample, or not."""
        n = len(snapshot.candidates)
        coin = random.Random(f"{self.seed}|{n}|{snapshot.candidates[0].id if n else ''}").random()
        return _STOP if n >= self.most or coin < self.chance else Action("resample", 1)


_STOP = Action(STOP)
RULES: dict[str, type[Any]] = {
    "one_shot": OneShot,
    "best_of": BestOf,
    "reflect": ReflectTimes,
    "adaptive_consistency": AdaptiveConsistency,
    "esc": EarlyStopping,
    "pets": Allocated,
    "optscale": ScoreReached,
    "random": RandomStop,
}
"""The rules by the name that `Policy.static` and policy files use."""


def make_rule(kind: str, n: int | None = None, **settings: Any) -> Rule:
    """A rule by name.

    Raises:
        PolicyError: an unknown name or setting, or a number that makes no sense.
    """
    cls = RULES.get(kind)
    if cls is None:
        raise PolicyError(f"unknown strategy {kind!r}", where="Policy.static", remedy=f"Known: {', '.join(RULES)}")
    if n is not None:
        settings = {"n": n, **settings}
    if "n" in settings and (not isinstance(settings["n"], int) or settings["n"] < 1):
        raise PolicyError(f"n must be a whole number of at least 1, got {settings['n']!r}", where=f"strategy {kind}")
    try:
        rule: Rule = cls(**settings)
    except TypeError as error:
        raise PolicyError(
            f"the strategy {kind} does not take these settings: {error}", where="Policy.static", remedy="See its class"
        ) from None
    return rule


def rule_name(rule: Rule) -> str:
    """E.g. `best_of(8)`."""
    kind = next((name for name, cls in RULES.items() if cls is type(rule)), type(rule).__name__)
    n = getattr(rule, "n", None)
    return kind if n is None else f"{kind}({n})"


def rule_to_dict(rule: Rule) -> dict[str, Any]:
    """JSON values with the rule's name.

    Raises:
        PolicyError: the rule is not one of `RULES`.
    """
    for kind, cls in RULES.items():
        if type(rule) is cls:
            return {"kind": kind, **asdict(rule)}  # type: ignore[call-overload]
    raise PolicyError(f"{type(rule).__name__} has no name for a file", where="rule", remedy="Use a rule of RULES")


def rule_from_dict(data: Mapping[str, Any]) -> Rule:
    """Reads `rule_to_dict`'s output."""
    return make_rule(**data)
