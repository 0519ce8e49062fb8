"""The forms of a second look: what a model is shown when it is asked to look again, and which form pays for
whom.

Small models copy the attempt they are shown. So there are four forms, and the default for a model is the one
that recorded episodes speak for (`tta_langgraph.decision.second_looks`).
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from tta_langgraph.decision.second_looks import Form
from tta_langgraph.evidence import Execution
from tta_langgraph.nodes.prompts import fenced, with_note
from tta_langgraph.state import Candidate


def second_look(
    form: Form,
    opening: Sequence[BaseMessage],
    candidate: Candidate,
    observation: str,
    *,
    sql: bool,
    fault: str = "",
) -> list[BaseMessage]:
    """The messages of a second look; they begin with the messages of the first one, unchanged where the form
    allows.

    Args:
        form: how it is put.
        opening: the messages that asked the question.
        candidate: the attempt.
        observation: what was observed about it; may be empty.
        sql: whether answers are queries.
        fault: what to avoid, for `repair`; without one, the observation stands in.
    """
    noun = "query" if sql else "answer"
    if form == "fresh":
        return list(opening)
    if form == "attempt":
        # Only the answer is repeated, not the prose around it: it costs tokens and invites more prose.
        attempt = fenced(candidate.answer or "") if sql else (candidate.text.strip() or candidate.answer or "")
        said = f"{observation.strip()}\n" if observation.strip() else ""
        return [*opening, AIMessage(attempt), HumanMessage(said + ATTEMPT.format(noun=noun))]
    if form == "repair":
        return with_note(opening, REPAIR.format(noun=noun, fault=(fault or observation or NO_FAULT).strip()))
    return with_note(opening, CONSEQUENCES.format(noun=noun, observation=(observation or NO_FAULT).strip()))


def fault_of(execution: Execution | None) -> str:
    """The fault that an execution names, as an instruction; empty if it names none."""
    if execution is None:
        return ""
    if execution.empty:
        return f"{execution.feedback or 'The query returned no rows.'} {FAULTS['empty']}"
    if execution.ok:
        return ""
    return f"{execution.feedback or execution.error or ''} {FAULTS.get(execution.error_kind or '', '')}".strip()


ATTEMPT = """\
If this {noun} answers the question exactly as asked, reply with the single word CORRECT. \
Otherwise reply with the corrected {noun} only."""
"""Ends a second look at an attempt that is shown."""
CONSEQUENCES = """\
A first attempt at this {noun} was no good. {observation}
Write a different {noun} that avoids this."""
"""Shows what was observed, not the attempt."""
REPAIR = """\
Fault to avoid: {fault}
Write the {noun} without this fault."""
"""Names a fault."""
NO_FAULT = "It may have missed a part of the question."
"""Where nothing was observed."""
FAULTS = {
    "schema": "Use only tables and columns that the schema lists, each with the table that has it.",
    "syntax": "Write one complete statement.",
    "refused": "Only reading is allowed: write one SELECT statement.",
    "timeout": "Join on keys, and avoid cross joins.",
    "empty": "Compare with values exactly as they are stored, and leave out conditions the question does not state.",
}
"""What to do about each kind of error."""
