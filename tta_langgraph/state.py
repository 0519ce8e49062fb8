"""The state of an episode: its question, budget, candidates with their evidence, and decisions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

# Not typing.TypedDict: before Python 3.12, a state could not inherit from both this and MessagesState.
from typing_extensions import TypedDict

from tta_langgraph.budget import Budget, BudgetTracker, Usage, merge_budget
from tta_langgraph.evidence import Evidence


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One proposed answer."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    """Unique within the episode."""
    text: str
    """The model's reply, whole."""
    answer: str | None = None
    """The answer parsed from it (the SQL, the number, the label), or None if there was none."""
    key: str | None = None
    """What counts as the same answer (a result key, a normalised number); None takes no part in votes."""
    parent: str | None = None
    """Id of the candidate it corrects, or None."""
    action: str = "generate"
    """The action that made it: `generate`, `resample`, `reflect`, `escalate`, `search`, …"""
    feedback: str = ""
    """For a reflection, what the model was told: `none`, `judge`, `execution` or the name of a callable."""
    form: str = ""
    """For a reflection, how the second look was put: `attempt`, `consequences`, `repair` or `fresh`."""
    round: int = 0
    """0 for a first answer, else its parent's round + 1."""
    model: str = ""
    """The model that wrote it."""
    usage: Usage = Usage()
    """Its share of the call that made it."""
    finish_reason: str = "stop"
    """`stop`, `length` (cut at the cap), `abort` (cancelled) or `tool_calls`."""
    answer_chars: int = -1
    """Length of the answer in characters, for recordings that leave its text out; −1: that of `answer`."""
    evidence: Evidence = Evidence()
    """What was observed about it."""

    @property
    def length(self) -> int:
        """Characters of the parsed answer, 0 without one."""
        return self.answer_chars if self.answer_chars >= 0 else len(self.answer or "")

    def observed(self, evidence: Evidence, *, key: str | None = None) -> Candidate:
        """The same candidate with more evidence and, if given, its key."""
        return replace(self, evidence=self.evidence.merged(evidence), key=self.key if key is None else key)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One decision of the router, with everything that led to it."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    """Unique within the episode."""
    step: int
    """0 for the first decision of the episode."""
    action: str
    """The chosen action, e.g. `stop`, `reflect`, `resample`."""
    n: int = 1
    """How many samples, for `resample`."""
    reason: str = ""
    """Why, in one short line for people."""
    candidate: str | None = None
    """Id of the best candidate at this point."""
    p_correct: float = 0.0
    """P(correct) of the best candidate now."""
    predictor: str = ""
    """The predictor that made the forecasts."""
    forecasts: tuple[dict[str, Any], ...] = ()
    """Per allowed action: `action`, `p_correct`, `tokens`, `tokens_p90`, `seconds`, `seconds_p90`, `utility`,
    `feasible`, `why` (the reason if not feasible), `predictor`."""
    features: dict[str, float] = field(default_factory=dict)
    """What the predictor saw."""
    tokens_left: float = 0.0
    """Tokens that remained, after the reserve (`inf` if unlimited)."""
    seconds_left: float = 0.0
    """Seconds that remained, after the reserve (`inf` if unlimited)."""


def merge_candidates(left: list[Candidate] | None, right: Iterable[Candidate] | None) -> list[Candidate]:
    """Reducer of the `candidates` channel: a union by id in order of appearance; evidence grows."""
    merged = {candidate.id: candidate for candidate in left or ()}
    for candidate in right or ():
        known = merged.get(candidate.id)
        merged[candidate.id] = candidate if known is None else known.observed(candidate.evidence, key=candidate.key)
    return list(merged.values())


def merge_decisions(left: list[Decision] | None, right: Iterable[Decision] | None) -> list[Decision]:
    """Reducer of the `decisions` channel: a union by id in order of appearance."""
    merged = {decision.id: decision for decision in left or ()}
    for decision in right or ():
        merged.setdefault(decision.id, decision)
    return list(merged.values())


def latest(left: Any, right: Any) -> Any:
    """Reducer of what every step rewrites: the last one wins, also where parallel branches write together."""
    return right


class EpisodeState(TypedDict, total=False):
    """State that a user's own state can inherit, or be mixed with (for example with `MessagesState`).

    Example:
        ```python
        from langgraph.graph import MessagesState
        from tta_langgraph import EpisodeState

        class MyState(EpisodeState, MessagesState):
            customer: str
        ```
    """

    question: str
    """What is asked."""
    budget: Annotated[BudgetTracker, merge_budget]
    """The limits and what was spent. Give a `Budget`; the reducer turns it into a `BudgetTracker`."""
    candidates: Annotated[list[Candidate], merge_candidates]
    """Proposed answers, oldest first."""
    decisions: Annotated[list[Decision], merge_decisions]
    """What the router decided, oldest first."""
    answer: Annotated[str | None, latest]
    """The best answer so far, present after every step."""
    best: Annotated[Candidate | None, latest]
    """The candidate that `answer` comes from."""
    result: Annotated[dict[str, Any] | None, latest]
    """What executing the answer returned: `columns`, `rows`, `truncated`."""
    stop_reason: Annotated[str, latest]
    """Why the episode ended: `stop`, `abstain`, `exhausted: tokens`, …"""


class EpisodeInput(TypedDict, total=False):
    """What a graph is given: the input schema of a graph on `EpisodeState`, for type checkers and for servers' forms.

    A state's `budget` is read as a `BudgetTracker` and given as a `Budget`; one annotation cannot say both. Inherit
    from it to add inputs of your own: LangGraph drops those that the input schema does not name.

    Example:
        ```python
        builder = StateGraph(EpisodeState, input_schema=EpisodeInput)
        ```
    """

    question: str
    """What is asked."""
    budget: Budget | BudgetTracker | Mapping[str, Any] | int
    """The limits: a `Budget`, its fields (as JSON has them), a number of tokens, or a part of another budget."""
