"""Which actions a policy may take, and when."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from tta_langgraph.decision.actions import Action
from tta_langgraph.decision.snapshot import Snapshot
from tta_langgraph.errors import PolicyError

When = Literal["always", "failed", "ran", "unjudged", "split"]
"""`failed`, `ran`: the best candidate did not, did execute; `unjudged`: nobody judged it; `split`: not all agree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """An action with the conditions under which it is offered.

    Raises:
        PolicyError: an unknown `when`, or a limit below 1.
    """

    action: Action
    """The action."""
    max_uses: int | None = None
    """Decisions for this action's name per episode, or None."""
    max_round: int | None = None
    """Rounds of correction the best candidate may already have behind it, exclusive, or None."""
    max_candidates: int | None = None
    """Candidates there may be after it, or None."""
    when: When = "always"
    """State of the best candidate in which it makes sense."""

    def __post_init__(self) -> None:
        for name in ("max_uses", "max_round", "max_candidates"):
            limit = getattr(self, name)
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
                raise PolicyError(f"{name} must be a whole number of at least 1, got {limit!r}", where=str(self.action))
        if self.when not in get_args(When):
            raise PolicyError(
                f"unknown condition {self.when!r}",
                where=str(self.action),
                remedy=f"Use one of {', '.join(get_args(When))}",
            )

    @classmethod
    def coerce(cls, value: Option | Action | str) -> Option:
        """An option from an action or its text, with the priors' limits: see `REFLECTION_ROUNDS` and `ONCE`."""
        if isinstance(value, Option):
            return value
        action = Action.parse(value)
        if action.kind == "reflect":
            # Uses are counted besides rounds: a look that only confirms the answer makes no new round.
            rounds = next((REFLECTION_ROUNDS[name] for name in action.names if name in REFLECTION_ROUNDS), None)
            return cls(action=action, max_round=rounds, max_uses=rounds)
        return cls(action=action, max_uses=1 if action.kind in ONCE else None)

    def blocked(self, snapshot: Snapshot) -> str | None:
        """Why the action is not offered at this moment, or None if it is."""
        action = self.action
        if self.max_uses is not None and snapshot.used.get(action.name, 0) >= self.max_uses:
            return f"{action.name} at most {self.max_uses} times"
        if self.max_candidates is not None and len(snapshot.candidates) + action.n > self.max_candidates:
            return f"at most {self.max_candidates} candidates"
        if action.kind not in NEEDS_CANDIDATE and self.when == "always":
            return None
        best = snapshot.tally.best or (snapshot.candidates[-1] if snapshot.candidates else None)
        if best is None:
            return "no candidate yet"
        if self.max_round is not None and best.round >= self.max_round:
            return f"at most {self.max_round} rounds"
        if self.when == "always":
            return None
        execution = best.evidence.execution
        if self.when == "failed" and (execution is None or execution.ok):
            return "only for a candidate that failed"
        if self.when == "ran" and execution is not None and not execution.ok:
            return "only for a candidate that ran"
        if self.when == "unjudged" and best.evidence.verdicts:
            return "already judged"
        if self.when == "split" and len(snapshot.tally.groups) < 2 and not snapshot.tally.failed:
            return "all candidates agree"
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON values; defaults left out."""
        plain: dict[str, Any] = {"action": str(self.action)}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name != "action" and value != f.default:
                plain[f.name] = value
        return plain

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Option:
        """Reads `to_dict`'s output.

        Raises:
            PolicyError: an unknown field or value.
        """
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown or "action" not in data:
            raise PolicyError(f"not an option: {data!r}", where="actions", remedy="Fit the policy again")
        return cls(**{**data, "action": Action.parse(data["action"])})


NEEDS_CANDIDATE = frozenset({"reflect", "judge", "verify", "check", "confidence"})
"""Kinds of action that look at the best candidate."""
ONCE = frozenset({"escalate", "judge"})
"""Kinds of action that are taken once an episode by default: a second larger model, or verdict, adds little."""
REFLECTION_ROUNDS = {"reflect:judge": 1, "reflect:none": 1, "reflect": 3}
"""Rounds by feedback: a judge's helps in round 1 and hurts by round 3 (*Finding the Sweet Spot*, arXiv 2510.20653)."""
