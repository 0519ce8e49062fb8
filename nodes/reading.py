"""What nodes read from a state, theirs or a user's, and what they write back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages

from tta_langgraph.errors import GraphError
from tta_langgraph.selection import Rule, select
from tta_langgraph.state import Candidate, Decision, merge_candidates

State = Mapping[str, Any]
"""The state of the graph that a node runs in."""


def question_of(state: State) -> str:
    """The question: `question`, else the last human message of `messages`.

    Raises:
        GraphError: the state has neither.
    """
    question = state.get("question")
    if isinstance(question, str) and question.strip():
        return question
    for message in reversed(messages_of(state)):
        if isinstance(message, HumanMessage) and message.text.strip():
            return str(message.text)
    raise GraphError(
        "the state holds no question",
        where="state",
        remedy="Give the graph's input a `question`, or `messages` with a human message",
    )


def messages_of(state: State) -> list[BaseMessage]:
    """The state's `messages` as message objects; empty if it has none."""
    found = state.get("messages")
    return convert_to_messages(found) if isinstance(found, Sequence) and not isinstance(found, str) else []


def candidates_of(state: State) -> list[Candidate]:
    """The candidates so far, oldest first."""
    return list(state.get("candidates") or ())


def last_decision(state: State) -> Decision | None:
    """The router's last decision, or None if no router has decided yet."""
    decisions = state.get("decisions") or ()
    return decisions[-1] if decisions else None


def best_of(state: State, rule: str | Rule) -> Candidate | None:
    """The best candidate so far: the one that the router's last decision named, else the selection rule's
    pick."""
    candidates = candidates_of(state)
    decision = last_decision(state)
    if decision is not None and decision.candidate is not None:
        for candidate in candidates:
            if candidate.id == decision.candidate:
                return candidate
    return select(candidates, rule).candidate


def settled(state: State, changed: Sequence[Candidate], rule: str | Rule) -> dict[str, Any]:
    """The state update for new or newly observed candidates: they, and the best answer with them counted
    in."""
    best = select(merge_candidates(candidates_of(state), changed), rule).candidate
    return {"candidates": list(changed), "best": best, "answer": None if best is None else best.answer}
