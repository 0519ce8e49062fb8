"""Reflect or stop after an agent's final answer, with a message history that ends in the answer that was
chosen."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, RemoveMessage
from langchain_core.runnables import Runnable

from tta_langgraph import events
from tta_langgraph.budget import BudgetTracker
from tta_langgraph.decision import Policy
from tta_langgraph.decision.router import announce, moment
from tta_langgraph.errors import TTAError
from tta_langgraph.evidence import CheckOutcome, Evidence
from tta_langgraph.parsing import normal_text, read_reply, whole_reply
from tta_langgraph.selection import select
from tta_langgraph.selection_weights import reward
from tta_langgraph.state import Candidate, Decision
from tta_langgraph.verifiers import (
    Verifier,
    failure_of,
    outcome_of,
    verifier_arguments,
    verifier_function,
    verifier_name,
)


@dataclass(frozen=True, kw_only=True)
class AnswerReview:
    """Turns final answers into candidates, has them evaluated, and decides whether to look again."""

    evaluator: Verifier | re.Pattern[str] | Runnable[Any, Any] | None = None
    """A verifier, or an evaluator node such as `Judge`; None for none."""
    policy: Policy | None = None
    """Decides; None to look again while the evaluator is not satisfied."""
    max_reflections: int = 0
    """Most second looks."""

    @property
    def active(self) -> bool:
        """Whether there is anything to do after a final answer."""
        return self.max_reflections > 0

    def after(self, state: Mapping[str, Any]) -> dict[str, Any] | None:
        """The state update after a model call; None while the agent is still at work."""
        if not self._is_final(state):
            return None
        pool, newest = self._pool(state)
        if newest is not None and not exhausted(state):
            newest = self._evaluated(newest, state)
        return self._next(state, pool, newest)

    async def aafter(self, state: Mapping[str, Any]) -> dict[str, Any] | None:
        """The same without blocking."""
        if not self._is_final(state):
            return None
        pool, newest = self._pool(state)
        if newest is not None and not exhausted(state):
            newest = await self._aevaluated(newest, state)
        return self._next(state, pool, newest)

    def _is_final(self, state: Mapping[str, Any]) -> bool:
        last = state["messages"][-1] if state["messages"] else None
        if not isinstance(last, AIMessage) or last.tool_calls:
            return False
        return self.active or exhausted(state)

    def _pool(self, state: Mapping[str, Any]) -> tuple[list[Candidate], Candidate | None]:
        """The candidates before this answer (with a confirmation noted), and the new one if it is one."""
        pool: list[Candidate] = list(state.get("candidates") or ())
        last = state["messages"][-1]
        looked_at = best_of(pool)
        if looked_at is None:
            return pool, _candidate(last, None)
        reply = read_reply(last.text, whole_reply, current=looked_at.answer)
        if reply.kind == "answer":
            return pool, _candidate(last, looked_at)
        if reply.kind == "confirmation":
            noted = Evidence(confirmations=looked_at.evidence.confirmations + 1)
            pool = [c.observed(noted) if c.id == looked_at.id else c for c in pool]
        return pool, None

    def _next(self, state: Mapping[str, Any], pool: list[Candidate], newest: Candidate | None) -> dict[str, Any]:
        pool = [*pool, newest] if newest is not None else pool
        decision = self._decision(state, pool, newest)
        update: dict[str, Any] = {"candidates": pool}
        if decision is not None:
            update["decisions"] = [decision]
        look_again = decision is not None and decision.action.partition(":")[0] == "reflect"
        if look_again and self._asked(state) < self.max_reflections and not exhausted(state):
            best = best_of(pool)
            return {**update, "messages": [_request(best)], "jump_to": "model"}
        ended = state.get("stop_reason") or (decision.action if decision is not None else "stop")
        reason = "stop" if ended == "reflect" else ended
        events.ended(state.get("budget"), reason)
        return {
            **update,
            "messages": _tidied(state["messages"], best_of(pool)),
            "stop_reason": reason,
            "jump_to": "end",
        }

    def _decision(self, state: Mapping[str, Any], pool: list[Candidate], newest: Candidate | None) -> Decision | None:
        if exhausted(state):
            return None
        step = len(state.get("decisions") or ())
        if self.policy is not None:
            decision = self.policy.decide(moment({**state, "candidates": pool}))
        elif newest is None or _satisfied(newest, self.evaluator is not None):
            # Confirmed, garbled, or found good: more looks of the same kind gain nothing.
            decision = Decision(step=step, action="stop", reason="the answer stands")
        else:
            decision = Decision(step=step, action="reflect", reason="the answer is not verified")
        announce(decision, state.get("budget"))
        return decision

    def _asked(self, state: Mapping[str, Any]) -> int:
        return sum(_is_request(message) for message in state["messages"])

    # -- evaluation ---------------------------------------------------------------------------------------

    def _evaluated(self, candidate: Candidate, state: Mapping[str, Any]) -> Candidate:
        if self.evaluator is None:
            return candidate
        if isinstance(self.evaluator, Runnable):
            return _with_update(candidate, self.evaluator.invoke(_case(candidate, state)))
        function = verifier_function(self.evaluator)
        try:
            returned = function(*verifier_arguments(function, candidate.answer or "", state))
            return _checked(candidate, outcome_of(returned, verifier_name(self.evaluator)))
        except (AssertionError, ValueError) as error:
            return _failed(candidate, error, self.evaluator)

    async def _aevaluated(self, candidate: Candidate, state: Mapping[str, Any]) -> Candidate:
        if self.evaluator is None:
            return candidate
        if isinstance(self.evaluator, Runnable):
            return _with_update(candidate, await self.evaluator.ainvoke(_case(candidate, state)))
        function = verifier_function(self.evaluator)
        try:
            returned = function(*verifier_arguments(function, candidate.answer or "", state))
            if inspect.isawaitable(returned):
                returned = await returned
            return _checked(candidate, outcome_of(returned, verifier_name(self.evaluator)))
        except (AssertionError, ValueError) as error:
            return _failed(candidate, error, self.evaluator)


def exhausted(state: Mapping[str, Any]) -> bool:
    """Whether the budget ended the agent's work."""
    return str(state.get("stop_reason") or "").startswith("exhausted")


def best_of(pool: Sequence[Candidate]) -> Candidate | None:
    """The latest correction, unless an earlier answer was evaluated better."""
    latest = select(pool).candidate
    judged = [candidate for candidate in pool if candidate.answer is not None]
    if latest is None or not judged:
        return latest
    top = max(judged, key=reward)
    return top if reward(top) > reward(latest) else latest


def _candidate(message: AIMessage, parent: Candidate | None) -> Candidate:
    text = str(message.text)
    answer = text if text.strip() else None
    return Candidate(
        id=str(message.id),
        text=text,
        answer=answer,
        key=normal_text(text),
        parent=parent.id if parent else None,
        action="reflect" if parent else "generate",
        round=parent.round + 1 if parent else 0,
        model=str(message.response_metadata.get("model_name", "")),
    )


def _case(candidate: Candidate, state: Mapping[str, Any]) -> dict[str, Any]:
    """The state that an evaluator node sees: the question, the answer, the budget."""
    asked = next((m.text for m in state["messages"] if isinstance(m, HumanMessage) and not _is_request(m)), "")
    case = {"question": asked, "messages": state["messages"], "candidates": [candidate]}
    tracker = state.get("budget")
    return {**case, "budget": tracker} if isinstance(tracker, BudgetTracker) else case


def _with_update(candidate: Candidate, update: Mapping[str, Any]) -> Candidate:
    for found in update.get("candidates") or ():
        if found.id == candidate.id:
            return candidate.observed(found.evidence, key=found.key)
    return candidate


def _checked(candidate: Candidate, outcome: CheckOutcome) -> Candidate:
    return candidate.observed(Evidence(checks=(outcome,)))


def _failed(candidate: Candidate, error: Exception, evaluator: Any) -> Candidate:
    if isinstance(error, TTAError):  # an exhausted budget, say, is no verdict
        raise error
    return _checked(candidate, failure_of(error, verifier_name(evaluator)))


def _satisfied(candidate: Candidate, evaluated: bool) -> bool:
    evidence = candidate.evidence
    if not evaluated:
        return False
    ran = evidence.execution is None or evidence.execution.ok
    return (
        ran
        and all(check.passed for check in evidence.checks)
        and all(verdict.label != "CONTINUE" and verdict.label != "PIVOT" for verdict in evidence.verdicts)
    )


def _request(best: Candidate | None) -> HumanMessage:
    """Asks for a second look, with what was found wrong."""
    evidence = best.evidence if best else Evidence()
    faults = [check.detail or f"It fails the check {check.name!r}." for check in evidence.checks if not check.passed]
    faults += [verdict.critique for verdict in evidence.verdicts if verdict.critique]
    if evidence.execution is not None and evidence.execution.feedback:
        faults.append(evidence.execution.feedback)
    text = "\n".join([*faults, LOOK_AGAIN])
    return HumanMessage(text, additional_kwargs={MARK: True})


def _is_request(message: BaseMessage) -> bool:
    return isinstance(message, HumanMessage) and bool(message.additional_kwargs.get(MARK))


def _tidied(messages: Sequence[BaseMessage], best: Candidate | None) -> list[RemoveMessage]:
    """Takes back our requests and the answers that were not chosen, so that the history ends in the chosen
    one."""
    first = next((i for i, message in enumerate(messages) if _is_request(message)), None)
    if first is None:
        return []
    chosen = next((i for i, message in enumerate(messages) if best is not None and message.id == best.id), first - 1)
    # The answer before the first request goes if a later one was chosen; of what came after, only the work (tool
    # calls and results) that led to the chosen answer stays.
    gone = [i for i in range(first - 1, len(messages)) if i > chosen or _is_request(messages[i])]
    gone += [
        i for i in range(first - 1, chosen) if isinstance(message := messages[i], AIMessage) and not message.tool_calls
    ]
    return [RemoveMessage(id=str(messages[i].id)) for i in sorted(set(gone)) if messages[i].id]


MARK = "tta_second_look"
LOOK_AGAIN = """\
Look at your answer again. If it is right and complete, reply with the single word CORRECT. \
Otherwise give the corrected answer, whole."""
"""Asks for a second look at a final answer."""
