"""Sub-questions, each with a budget of its own."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from tta_langgraph.budget import Budget
from tta_langgraph.decision.apportion import Schedule, apportion
from tta_langgraph.episode import Ask, Completion, OutOfBudget, Steps
from tta_langgraph.models.metered import budgeted
from tta_langgraph.models.prompt_count import count_prompt
from tta_langgraph.nodes.prompts import with_note
from tta_langgraph.nodes.reading import State, settled
from tta_langgraph.nodes.settings import check_choices, check_counts
from tta_langgraph.nodes.strategy import Strategy
from tta_langgraph.parsing import without_thinking
from tta_langgraph.scope import active_scope


@dataclass(frozen=True, kw_only=True)
class SubQuestion:
    """One part of the question."""

    text: str
    """What is asked."""
    difficulty: float
    """Credits, from 1 (easy) to 5."""


@dataclass(frozen=True, kw_only=True)
class Plan(Strategy):
    """Breaks the question into parts, works each out within a share of the budget, and answers from the
    parts.

    The shares follow difficulty and schedule and are nested budgets: a part that would take more is cut,
    however much it begs; what a part leaves over goes to the next. Costs one call to plan, one per part, and
    one to answer; a question that has no parts is answered at once.

    Source: Plan-and-Budget (arXiv 2505.16122): difficulty credits times a decay schedule.
    """

    max_parts: int = 4
    """Most sub-questions."""
    schedule: Schedule = "constant"
    """How shares fall with position: `constant`, `linear`, `quadratic`, `cosine` or `exponential`."""
    tokens: int | None = None
    """Tokens for all parts together, prompts included; None for `share` of what the budget has left."""
    share: float = 0.6
    """Part of the remaining tokens that the parts may take; the rest is for the answer."""
    least: int = 48
    """Completion tokens that every part gets; there are fewer parts where the budget cannot give them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, {"schedule": Schedule})
        check_counts(self, "max_parts")

    def steps(self, state: State) -> Steps:
        """Plans, works the parts out, and answers."""
        opening = yield from self.opening(state)
        parts = yield from self._parts(opening)
        worked = yield from self._worked_out(opening, parts)
        notes = [f"{part.text}\n{answer}" for part, answer in worked if answer]
        messages = with_note(opening, ANSWER.format(notes="\n\n".join(notes))) if notes else opening
        completions = yield Ask(
            messages=messages,
            model=self.model,
            max_tokens=self.max_tokens,
            source="plan.answer",
            options={"temperature": 0.0, **self.options},
        )
        return settled(state, [self.candidate(completions[0], action="plan")], self.selection)

    def _parts(self, opening: Sequence[BaseMessage]) -> Generator[Any, Any, list[SubQuestion]]:
        """The sub-questions; none if the model gives none, or if the budget has no room for asking."""
        try:
            completions: list[Completion] = yield Ask(
                messages=with_note(opening, PARTS.format(n=self.max_parts)),
                model=self.model,
                max_tokens=60 * self.max_parts,
                source="plan",
                options={"temperature": 0.0, **self.options},
            )
        except OutOfBudget:
            return []
        found = read_parts(completions[0].text)[: self.max_parts]
        return found if len(found) > 1 else []

    def _worked_out(
        self, opening: Sequence[BaseMessage], parts: list[SubQuestion]
    ) -> Generator[Any, Any, list[tuple[SubQuestion, str]]]:
        """Each part with its answer, empty if its budget was too small."""
        scope = active_scope()
        worked: list[tuple[SubQuestion, str]] = []
        if scope is None or not parts:
            return worked
        left = scope.ledger.left("tokens", final=False)
        open_ended = (self.max_tokens + self._prompt(opening)) * len(parts)
        total = self.tokens or (open_ended if left == float("inf") else int(left * self.share))
        # A later part's prompt repeats the earlier parts' answers, so the parts are given room for that.
        least = self._prompt(opening) + 2 * self.least
        parts = parts[: max(0, total // least)]
        if not parts:
            return worked
        shares = apportion(total, [part.difficulty for part in parts], self.schedule, least=least)
        spare = 0
        for part, share in zip(parts, shares, strict=True):
            allowed = share + spare
            messages = [*opening[:-1], *_dialogue(opening, worked), HumanMessage(f"{part.text}\n{PART}")]
            try:
                completions: list[Completion] = yield Ask(
                    messages=messages,
                    model=self.model,
                    max_tokens=min(self.max_tokens, allowed),
                    source="plan.part",
                    options={"temperature": 0.0, **self.options},
                    tracker=scope.ledger.tracker().nested(Budget(tokens=allowed)),
                )
            except OutOfBudget:
                worked.append((part, ""))
                spare = allowed
                continue
            worked.append((part, without_thinking(completions[0].text).strip()))
            spare = max(0, allowed - completions[0].usage.tokens)
        return worked

    def _prompt(self, opening: Sequence[BaseMessage]) -> int:
        return count_prompt(budgeted(self.model).inner, list(opening)).bound


def read_parts(text: str) -> list[SubQuestion]:
    """Sub-questions in a reply, one per line: a difficulty from 1 to 5, a separator, the question."""
    found = []
    for line in without_thinking(text).splitlines():
        match = _PART.match(line)
        if match and any(character.isalpha() for character in match["text"]):
            credit = min(5.0, max(1.0, float(match["credit"])))
            found.append(SubQuestion(text=match["text"].strip(), difficulty=credit))
    return found


def _dialogue(opening: Sequence[BaseMessage], worked: Sequence[tuple[SubQuestion, str]]) -> list[BaseMessage]:
    """The question and what was worked out so far, as turns."""
    turns: list[BaseMessage] = [HumanMessage(f"{OVERALL}\n{opening[-1].text}"), AIMessage("Yes.")]
    for part, answer in worked:
        turns += [HumanMessage(part.text), AIMessage(answer or "(not answered)")]
    return turns


_PART = re.compile(r"^\W*(?:\d+[.)]\s+)?\(?(?P<credit>[1-5](?:\.\d)?)\)?\s*[:|–-]\s*(?P<text>.+)$")
PARTS = """\
Do not answer yet. Break the question into at most {n} simpler questions whose answers lead to its answer. \
One per line, its difficulty from 1 to 5 first, like this:
2: a first simpler question
If it is simple already, reply with the word SIMPLE."""
"""Asks for the parts."""
OVERALL = "We will work on this question in small steps. Are you ready?"
"""Opens the work on the parts."""
PART = "Answer briefly."
"""Ends each part."""
ANSWER = """\
Worked out so far:
{notes}

Now answer the question itself."""
"""Asks for the answer."""
