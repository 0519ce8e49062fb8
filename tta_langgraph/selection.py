"""One selector for every voting and ranking rule: filter, group, weight, pick.

Keep the candidates that pass a filter; group them by key (or each for itself); give each a weight; a group
weighs `W_g = sum(w_i)`; pick the heaviest, or draw with softmax. Self-consistency, best-of-N, weighted votes,
judged draws, free energy and execution votes differ in nothing but these four parts. Pure functions of the
candidates: no model, no database, the same result for the same input.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tta_langgraph.errors import PolicyError
from tta_langgraph.selection_weights import confidence, free_energy, one, reward
from tta_langgraph.state import Candidate

Key = Callable[[Candidate], str | None]
"""What counts as the same answer; None takes no part."""
Weight = Callable[[Candidate], float]
"""What a candidate's vote counts."""
Filter = Callable[[Candidate], bool]
"""Who may vote."""
Pick = Literal["argmax", "softmax"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A selection rule: the four parts of the formula."""

    name: str = "custom"
    """For traces and messages."""
    grouped: bool = True
    """Group by key; else each candidate stands for itself."""
    weight: Weight = one
    """What a candidate's vote counts."""
    combine: Literal["sum", "max"] = "sum"
    """How the votes of a group add up."""
    filter: Filter | None = None
    """Who may vote; None for everyone with an answer."""
    min_share: float = 0.0
    """Groups with fewer than this share of the voters are dropped (Best-of-Majority's α)."""
    pick: Pick = "argmax"
    """Take the heaviest group, or draw one with probability softmax(W_g / temperature)."""
    temperature: float = 1.0
    """Of the softmax; smaller is greedier."""
    corrections: bool = True
    """A correction that counts takes the place of what it corrects; False lets both vote."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Candidates with the same answer."""

    key: str
    """What they share."""
    members: tuple[Candidate, ...]
    """In order of appearance."""
    weight: float
    """W_g."""
    best: Candidate
    """Its member with the highest weight, the earliest of equals."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What was selected, and by what margin."""

    candidate: Candidate | None
    """The pick, or None if no candidate has an answer."""
    groups: tuple[Group, ...] = ()
    """Heaviest first; of equals, the one that appeared first. Empty if nobody could vote."""
    scores: dict[str, float] = field(default_factory=dict)
    """The weight of each voter, by candidate id."""
    share: float = 0.0
    """The pick's part of the total weight, in [0, 1]; by heads where weights are negative or all zero; 0 if
    nobody could vote."""
    rule: str = ""
    """Name of the rule."""

    def top(self, k: int) -> tuple[Candidate, ...]:
        """The best members of the `k` heaviest groups."""
        return tuple(group.best for group in self.groups[:k])


def select(
    candidates: Sequence[Candidate],
    rule: str | Rule = "majority",
    *,
    key: Key | None = None,
    weight: Weight | None = None,
    filter: Filter | None = None,
    pick: Pick | None = None,
    temperature: float | None = None,
    rng: random.Random | None = None,
) -> Selection:
    """Selects one of the candidates.

    Ties go to the higher weight, then to the group that appeared first. When nobody may vote (all failed, or
    none has a key) the pick is the earliest candidate that has an answer and was not corrected, with share 0.
    One candidate is picked with share 1 if it may vote.

    Args:
        candidates: in order of appearance.
        rule: a preset (`majority`, `weighted`, `best_of_n`, `best_of_majority`, `judge_softmax`,
            `free_energy`, `confidence`, `execution_vote`) or a `Rule`.
        key: replaces `Candidate.key`.
        weight: replaces the rule's weight.
        filter: replaces the rule's filter.
        pick: replaces the rule's pick.
        temperature: replaces the rule's softmax temperature (> 0).
        rng: source of a softmax draw; by default a fresh generator with a fixed seed, so that replays agree.

    Returns:
        The pick with its share, the groups and the weights.

    Raises:
        PolicyError: an unknown preset, a temperature that is not positive, or a weight that is not finite.

    Example:
        ```python
        select(candidates, "execution_vote").candidate
        select(candidates, "weighted", weight=lambda c: p_correct[c.id])
        ```
    """
    chosen = _rule(rule)
    chosen = replace(
        chosen,
        weight=weight or chosen.weight,
        filter=filter or chosen.filter,
        pick=pick or chosen.pick,
        temperature=chosen.temperature if temperature is None else temperature,
    )
    standing = uncorrected(candidates, key=key) if chosen.corrections else list(candidates)
    voters = [c for c in standing if c.answer is not None and (chosen.filter is None or chosen.filter(c))]
    groups, scores = _groups(voters, chosen, key)
    if not groups:
        return Selection(candidate=next((c for c in standing if c.answer is not None), None), rule=chosen.name)
    picked = groups[0] if chosen.pick == "argmax" else _draw(groups, chosen.temperature, rng or random.Random(0))
    return Selection(
        candidate=picked.best, groups=groups, scores=scores, share=_share(picked, groups), rule=chosen.name
    )


def uncorrected(candidates: Sequence[Candidate], *, key: Key | None = None) -> list[Candidate]:
    """The candidates without those that a later one corrects, if the correction has an answer that counts.

    A correction that failed (no answer, or an error instead of a key while its parent has one) corrects
    nothing.
    """
    key_of = key or _own_key
    by_id = {candidate.id: candidate for candidate in candidates}
    replaced: set[str] = set()
    for child in candidates:
        parent = by_id.get(child.parent) if child.parent else None
        if parent is not None and child.answer is not None and (key_of(child) or not key_of(parent)):
            replaced.add(parent.id)
    return [candidate for candidate in candidates if candidate.id not in replaced]


def _rule(rule: str | Rule) -> Rule:
    if isinstance(rule, Rule):
        return rule
    try:
        return PRESETS[rule]
    except KeyError:
        raise PolicyError(
            f"there is no selection rule {rule!r}", where="selection", remedy=f"Known: {', '.join(PRESETS)}"
        ) from None


def _groups(voters: list[Candidate], rule: Rule, key: Key | None) -> tuple[tuple[Group, ...], dict[str, float]]:
    members: dict[str, list[Candidate]] = {}
    for candidate in voters:
        # With a rule that ranks single candidates, one without a key is still an answer.
        own = (key or _own_key)(candidate) if rule.grouped else candidate.id
        if own is not None:
            members.setdefault(own, []).append(candidate)
    heads = sum(map(len, members.values()))
    if rule.min_share > 0:
        votes = _heads_by_key(voters, key)
        members = {
            name: found
            for name, found in members.items()
            if (len(found) if rule.grouped else votes[found[0].id]) >= rule.min_share * heads - 1e-9
        } or members
    scores: dict[str, float] = {}
    groups: list[Group] = []
    for name, found in members.items():
        weights = [_finite(rule.weight(candidate), candidate, rule) for candidate in found]
        scores.update(zip((candidate.id for candidate in found), weights, strict=True))
        best = found[max(range(len(found)), key=lambda i: (weights[i], -i))]
        # Rounded, so that sums of the same votes in another order tie exactly.
        total = round(math.fsum(weights) if rule.combine == "sum" else max(weights), 12)
        groups.append(Group(key=name, members=tuple(found), weight=total, best=best))
    groups.sort(key=lambda group: -group.weight)  # stable: of equals, the first to appear
    return tuple(groups), scores


def _heads_by_key(voters: list[Candidate], key: Key | None) -> dict[str, int]:
    keys = [(key or _own_key)(candidate) or candidate.id for candidate in voters]
    return {candidate.id: keys.count(own) for candidate, own in zip(voters, keys, strict=True)}


def _draw(groups: tuple[Group, ...], temperature: float, rng: random.Random) -> Group:
    if not temperature > 0:
        raise PolicyError(
            f"a softmax temperature of {temperature!r}",
            where="selection",
            remedy="Give a number above 0, or pick='argmax'",
        )
    top = groups[0].weight
    return rng.choices(groups, [math.exp((group.weight - top) / temperature) for group in groups])[0]


def _share(picked: Group, groups: tuple[Group, ...]) -> float:
    total = math.fsum(group.weight for group in groups)
    if total > 0 and groups[-1].weight >= 0:
        return picked.weight / total
    return len(picked.members) / sum(len(group.members) for group in groups)


def _finite(value: float, candidate: Candidate, rule: Rule) -> float:
    if not math.isfinite(value):
        raise PolicyError(
            f"the weight of candidate {candidate.id} is {value!r}",
            where=f"selection rule {rule.name}",
            remedy="Return a finite number from the weight function",
        )
    return value


def _own_key(candidate: Candidate) -> str | None:
    return candidate.key


def _ran(candidate: Candidate) -> bool:
    return candidate.evidence.execution is None or candidate.evidence.execution.ok


PRESETS: dict[str, Rule] = {
    # Self-consistency (Wang et al. 2023): one answer, one vote.
    "majority": Rule(name="majority"),
    # Weighted vote with mean verdicts (GenRM; When To Solve, When To Verify).
    "weighted": Rule(name="weighted", weight=reward),
    "best_of_n": Rule(name="best_of_n", grouped=False, weight=reward),
    # Best-of-Majority: the best reward among the answers that are frequent enough.
    "best_of_majority": Rule(name="best_of_majority", weight=reward, combine="max", min_share=0.25),
    "judge_softmax": Rule(name="judge_softmax", grouped=False, weight=reward, pick="softmax", temperature=0.1),
    # ODAR: -(mean(-log p) + lambda * Var(-log p)).
    "free_energy": Rule(name="free_energy", grouped=False, weight=free_energy),
    # Votes weighted by exp(mean log p), as in PETS and HyPER.
    "confidence": Rule(name="confidence", weight=confidence),
    # One result, one vote; a query that failed has none.
    "execution_vote": Rule(name="execution_vote", filter=_ran),
}
"""The named rules."""
