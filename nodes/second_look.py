"""The forms of a second look: what a model is shown when it is asked to look again, and which form pays for
whom.

Small models copy the attempt they are shown. So there are four forms, and the default for a model is the one
that recorded episodes speak for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from tta_langgraph.evidence import Execution
from tta_langgraph.nodes.prompts import fenced, with_note
from tta_langgraph.state import Candidate

Form = Literal["attempt", "consequences", "repair", "fresh"]
"""`attempt`: the attempt is shown, then what was observed. `consequences`: only what was observed. `repair`:
a named fault to avoid. `fresh`: asked again at a higher temperature, nothing shown."""
FORMS: tuple[Form, ...] = ("attempt", "consequences", "repair", "fresh")


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


@dataclass(frozen=True, kw_only=True, slots=True)
class FormRecord:
    """What recorded episodes say about one form of second look."""

    fixed: int = 0
    """Wrong answers that it made right."""
    wrong: int = 0
    """Wrong answers that it was tried on."""
    broken: int = 0
    """Right answers that it made wrong."""
    right: int = 0
    """Right answers that it was tried on."""

    @property
    def p_fix(self) -> float:
        """P(right after, wrong before), with a prior of one in ten that is worth two observations."""
        return (self.fixed + PRIOR_RATE * PRIOR_WEIGHT) / (self.wrong + PRIOR_WEIGHT)

    @property
    def p_break(self) -> float:
        """P(wrong after, right before), likewise."""
        return (self.broken + PRIOR_RATE * PRIOR_WEIGHT) / (self.right + PRIOR_WEIGHT)

    def gain(self, p_correct: float = 0.5) -> float:
        """Expected change of P(correct) for an answer that is right with probability `p_correct`."""
        return (1 - p_correct) * self.p_fix - p_correct * self.p_break


FormTable = Mapping[tuple[str, str, str], FormRecord]
"""Records by (model, feedback, form). The model is a part of its name, in lower case, or `*` for any."""


def best_form(
    model: str, feedback: str, *, failed: bool = False, table: FormTable | None = None, default: Form = "attempt"
) -> Form:
    """The form with the highest expected gain for this model and feedback.

    Args:
        model: the model's name.
        feedback: what the model is told.
        failed: the attempt is known to be wrong (it did not run), so there is nothing to break.
        table: records; by default those that ship with the package.
        default: without any record.
    """
    known: dict[Form, FormRecord] = {}
    for (name, told, form), record in (SHIPPED if table is None else table).items():
        # A record of the model itself outranks one for any model.
        if told == feedback and form in FORMS and (name in model.lower() or (name == "*" and form not in known)):
            known[form] = record
    if not known:
        return default
    return max(known, key=lambda form: known[form].gain(0.0 if failed else 0.5))


PRIOR_RATE, PRIOR_WEIGHT = 0.1, 2.0

SHIPPED: FormTable = {
    # Qwen2.5-Coder-0.5B copies the query it is shown; fresh samples fix 7% of the same failures.
    ("coder-0.5b", "execution", "attempt"): FormRecord(fixed=0, wrong=58),
    ("coder-0.5b", "execution", "repair"): FormRecord(fixed=0, wrong=30),
    ("coder-0.5b", "execution", "fresh"): FormRecord(fixed=4, wrong=58),
    # Qwen2.5-Coder-1.5B repairs some failures when the near-miss columns are named.
    ("coder-1.5b", "execution", "repair"): FormRecord(fixed=5, wrong=27),
}
"""Records that ship with the package; fit your own from traces."""

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
