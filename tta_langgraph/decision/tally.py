"""Votes: which answers were given how often, in one pass over the candidates.

The same counting as `select(candidates, "execution_vote")`, kept separate because a router looks at the whole pattern
at every step of every replayed episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tta_langgraph.selection import uncorrected
from tta_langgraph.selection_weights import one
from tta_langgraph.state import Candidate


@dataclass(frozen=True, slots=True)
class Group:
    """Candidates that gave the same answer."""

    key: str
    """What they share."""
    weight: float
    """The weight of their votes: one each, more for a larger model's."""
    best: Candidate
    """The member with the highest weight, the earliest of equals."""
    members: tuple[Candidate, ...]
    """All of them, oldest first."""

    @property
    def votes(self) -> int:
        """How many they are."""
        return len(self.members)


@dataclass(frozen=True, slots=True)
class Tally:
    """Votes by answer. Candidates that failed to execute or gave no answer take no part; corrected ones neither."""

    groups: tuple[Group, ...]
    """Heaviest first; ties go to the answer that was given first."""
    standing: tuple[Candidate, ...]
    """The candidates that no later one corrects, oldest first."""
    fallback: Candidate | None
    """What is answered when nobody has a vote: the earliest standing candidate with an answer."""

    @classmethod
    def of(cls, candidates: Sequence[Candidate]) -> Tally:
        """Counts the votes."""
        standing = candidates
        for candidate in candidates:
            if candidate.parent is not None:
                standing = uncorrected(candidates)
                break
        found: dict[str, list[Candidate]] = {}
        for candidate in standing:
            key = candidate.key
            if key is not None and votes(candidate):
                known = found.get(key)
                if known is None:
                    found[key] = [candidate]
                else:
                    known.append(candidate)
        groups = [_group(key, members) for key, members in found.items()]
        if len(groups) > 1:
            groups.sort(key=lambda group: -group.weight)
        fallback = None if groups else next((c for c in standing if c.answer is not None), None)
        return cls(tuple(groups), tuple(standing), fallback)

    @property
    def pattern(self) -> tuple[int, ...]:
        """Vote counts, largest first: (3, 1, 1) for three answers among five votes."""
        return tuple(sorted((len(group.members) for group in self.groups), reverse=True))

    @property
    def voters(self) -> int:
        """Candidates with a vote."""
        return sum(len(group.members) for group in self.groups)

    @property
    def failed(self) -> int:
        """Standing candidates without a vote."""
        return len(self.standing) - self.voters

    @property
    def leader(self) -> Group | None:
        """The answer with most votes, or None."""
        return self.groups[0] if self.groups else None

    @property
    def best(self) -> Candidate | None:
        """What the vote would answer."""
        return self.groups[0].best if self.groups else self.fallback


def votes(candidate: Candidate) -> bool:
    """Whether a candidate takes part in votes: it has an answer with a key, and did not fail to execute."""
    execution = candidate.evidence.execution
    return candidate.key is not None and candidate.answer is not None and (execution is None or execution.ok)


def _group(key: str, members: list[Candidate]) -> Group:
    if not any(member.action == "escalate" for member in members):
        return Group(key, float(len(members)), members[0], tuple(members))  # one vote each
    weights = [one(member) for member in members]
    best = members[max(range(len(members)), key=lambda i: (weights[i], -i))]
    return Group(key, sum(weights), best, tuple(members))
