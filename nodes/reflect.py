"""A second look at the best answer so far."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal

from tta_langgraph.decision.second_looks import Form, FormTable, best_form, seen_of
from tta_langgraph.episode import Ask, Call, OutOfBudget, Steps
from tta_langgraph.evidence import Evidence
from tta_langgraph.models.adapter import Adapter
from tta_langgraph.models.metered import budgeted
from tta_langgraph.nodes.execute import executed
from tta_langgraph.nodes.judge import Judge, verdict_told
from tta_langgraph.nodes.reading import State, best_of, candidates_of, settled
from tta_langgraph.nodes.second_look import fault_of, second_look
from tta_langgraph.nodes.settings import check_choices
from tta_langgraph.nodes.strategy import Strategy
from tta_langgraph.state import Candidate

Told = Literal["none", "judge", "execution"]
Feedback = Told | Callable[[Candidate, State], str]
"""What the model is told: nothing, a judge's critique, what the database said, or what your function says."""


@dataclass(frozen=True, kw_only=True)
class Reflect(Strategy):
    """Asks the model to look again at the best candidate, with what was observed about it.

    Adds one candidate, a child of the one it corrects. A reply that confirms the answer, in prose or by
    repeating it, adds none: the candidate stays and the confirmation is noted as weak evidence. A refusal or
    garbage adds a candidate without an answer, which takes no part in votes. Costs about one call whose
    prompt repeats the first one's, served from the prefix cache; only the last attempt is repeated, never the
    whole history.

    Source: *Finding the Sweet Spot* (arXiv 2510.20653), reflection turn with verifier context.
    """

    feedback: Feedback = "execution"
    """What the model is told."""
    form: Form | None = None
    """How the second look is put; None for the form that records speak for, by model, feedback and what was seen of the
    attempt."""
    forms: FormTable | None = None
    """Records to choose the form by; None for those that ship with the package."""
    max_rounds: int = 3
    """Rounds after which nothing is asked any more. Confirmations and failed rounds count."""
    judge: Judge | None = None
    """Judges the candidate if nobody has, for `feedback="judge"`; by default the same model."""
    temperature: float = 0.8
    """Of a fresh look; the other forms are greedy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, {"feedback": Told, "form": Form})

    def steps(self, state: State) -> Steps:
        """Looks again at the best candidate."""
        best = best_of(state, self.selection)
        if best is None:
            return (yield from self._first(state))
        if rounds_used(best, candidates_of(state)) >= self.max_rounds:
            return {}
        best, observation, fault = yield from self._observed(best, state)
        opening = yield from self.opening(state)
        form = self.form_for(best)
        messages = second_look(form, opening, best, observation, sql=self.database is not None, fault=fault)
        heat = self.temperature if form == "fresh" else 0.0
        try:
            completions = yield Ask(
                messages=messages,
                model=self.model,
                max_tokens=self.max_tokens,
                source="reflect",
                options=self.sampling(state, heat),
            )
        except OutOfBudget as out:
            # What was observed on the way was paid for: keep it.
            return {**settled(state, [best], self.selection), "stop_reason": f"exhausted: {out.dimension}"}
        reply = self.read(completions[0], current=best.answer)
        if reply.kind == "confirmation":
            kept = best.observed(Evidence(confirmations=best.evidence.confirmations + 1))
            return settled(state, [kept], self.selection)
        child = self.candidate(
            completions[0], action="reflect", reply=reply, parent=best, feedback=self._told, form=form
        )
        return settled(state, [best, child], self.selection)

    def _first(self, state: State) -> Steps:
        """There is nothing to look at yet: the question is asked, at a temperature if it was asked in vain
        before."""
        messages = yield from self.opening(state)
        heat = self.temperature if candidates_of(state) else 0.0
        completions = yield Ask(
            messages=messages,
            model=self.model,
            max_tokens=self.max_tokens,
            source="reflect",
            options=self.sampling(state, heat),
        )
        return settled(state, [self.candidate(completions[0], action="reflect")], self.selection)

    def form_for(self, best: Candidate) -> Form:
        """How a second look at this candidate is put: as `form` says, else as records speak for.

        After a verdict of PIVOT, a form that does not show the attempt takes the place of one that does.
        """
        if self.form is not None:
            return self.form
        form = best_form(Adapter.of(budgeted(self.model).inner).name, self._told, seen=seen_of(best), table=self.forms)
        pivot = self.feedback == "judge" and best.evidence.verdicts and best.evidence.verdicts[-1].label == "PIVOT"
        return "consequences" if pivot and form == "attempt" else form

    @property
    def _told(self) -> str:
        return self.feedback if isinstance(self.feedback, str) else getattr(self.feedback, "__name__", "callable")

    def _observed(self, best: Candidate, state: State) -> Generator[Any, Any, tuple[Candidate, str, str]]:
        """The candidate with the evidence that the feedback needs, what to tell about it, and the fault it
        names."""
        if callable(self.feedback):
            told = yield Call(function=self.feedback, args=(best, state), source="reflect.feedback")
            return best, str(told or ""), str(told or "")
        if self.feedback == "execution" and self.database is not None:
            if best.evidence.execution is None and best.answer is not None:
                found, _ = yield from executed(self.database, [best])
                best = found[0] if found else best
            execution = best.evidence.execution
            if execution is None:
                return best, "", ""
            return best, execution.feedback or execution.error or "", fault_of(execution)
        if self.feedback == "judge" and self.form_for(best) != "fresh":  # a fresh look is told nothing: nobody is asked
            if not best.evidence.verdicts:
                judge = self.judge or Judge(model=self.model, database=self.database)
                found = yield from judge.judged([best], state)
                best = found[0] if found else best
            return best, verdict_told(best), verdict_told(best)
        return best, "", ""


def rounds_used(best: Candidate, candidates: list[Candidate]) -> int:
    """Second looks that the candidate's line has had: corrections, confirmations, and replies without an
    answer."""
    by_id = {candidate.id: candidate for candidate in candidates}
    line: dict[str, Candidate] = {}
    current: Candidate | None = best
    while current is not None and current.id not in line:
        line[current.id] = current
        current = by_id.get(current.parent or "")
    asked = sum(c.action == "reflect" and c.parent in line for c in candidates)
    return asked + sum(c.evidence.confirmations for c in line.values())
