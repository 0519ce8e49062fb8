"""Fixed strategies and published stop rules, so that the same router runs what a policy is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from tta_langgraph.decision.actions import STOP, Action
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.errors import PolicyError


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


_STOP = Action(STOP)
RULES: dict[str, type[Any]] = {
    "one_shot": OneShot,
    "best_of": BestOf,
    "reflect": ReflectTimes,
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
