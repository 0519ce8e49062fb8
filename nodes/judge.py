"""Verdicts of a model on the candidates."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from tta_langgraph.episode import Ask, BudgetNode, Call, Completion, Steps
from tta_langgraph.evidence import Evidence, Verdict
from tta_langgraph.nodes.prompts import fenced
from tta_langgraph.nodes.reading import State, candidates_of, question_of, settled
from tta_langgraph.nodes.settings import check_counts, check_database, check_selection
from tta_langgraph.nodes.verdicts import read_verdict
from tta_langgraph.selection import Rule, uncorrected
from tta_langgraph.sql import Database
from tta_langgraph.state import Candidate


@dataclass(frozen=True, kw_only=True)
class Judge(BudgetNode):
    """Asks a model whether each candidate answers the question, and records its verdicts as evidence.

    A verdict is SUCCESS (accept), CONTINUE (improve this attempt) or PIVOT (start afresh), with a critique
    and, for the next attempt, a summary. Its score is the probability of SUCCESS among the three words where
    the server reports log-probabilities, else 1 or 0; a verdict that cannot be read scores 0.5. Candidates
    with the same key are judged once and share the verdicts. Costs one call per distinct answer.

    Source: verdicts of *Budget-Aware Test-time Scaling* (BATS); several verdicts averaged as in GenRM, *When
        To
    Solve, When To Verify* (arXiv 2504.01005).
    """

    model: BaseChatModel
    """The judge; may be another model than the one that answers. Drawn from the episode's budget."""
    database: Database | None = None
    """The database the question is about; its schema goes into the system message."""
    n_verdicts: int = 1
    """Verdicts per candidate, drawn in one request; more than one are sampled at `temperature`."""
    criteria: str = ""
    """What else an answer has to meet, in words."""
    max_tokens: int = 160
    """Most completion tokens of one verdict."""
    temperature: float = 0.7
    """Of several verdicts; a single one is greedy."""
    logprobs: bool = True
    """Whether to ask for the log-probability of the verdict; set False for servers that refuse."""
    schema_tokens: int = 1_500
    """Most tokens of the schema in the system message."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further sampling options."""
    selection: str | Rule = "execution_vote"
    """Rule by which the best answer so far is kept up to date; `weighted` and `best_of_n` use the
    verdicts."""

    def __post_init__(self) -> None:
        check_database(self)
        check_selection(self)
        check_counts(self, "n_verdicts")

    def steps(self, state: State) -> Steps:
        """Judges every candidate that has an answer and no verdict yet."""
        waiting = [
            c
            for c in uncorrected(candidates_of(state))
            if c.answer is not None and len(c.evidence.verdicts) < self.n_verdicts
        ]
        found = yield from self.judged(waiting, state)
        return settled(state, found, self.selection)

    def judged(self, waiting: list[Candidate], state: State) -> Generator[Any, Any, list[Candidate]]:
        """The candidates with their verdicts; those that found no budget are left out, if any found some."""
        groups: dict[str, list[Candidate]] = {}
        for candidate in waiting:
            groups.setdefault(candidate.key or candidate.answer or candidate.id, []).append(candidate)
        if not groups:
            return []
        system = yield from self._system()
        asks = tuple(self._ask([*system, HumanMessage(self._case(members[0], state))]) for members in groups.values())
        replies = yield asks
        failed = [reply for reply in replies if isinstance(reply, BaseException)]
        if len(failed) == len(replies):
            raise failed[0]
        found: list[Candidate] = []
        for members, reply in zip(groups.values(), replies, strict=True):
            if not isinstance(reply, BaseException):
                verdicts = Evidence(verdicts=tuple(self._verdict(completion) for completion in reply))
                found += [member.observed(verdicts) for member in members]
        return found

    def _ask(self, messages: list[BaseMessage]) -> Ask:
        likelihoods = {"logprobs": True, "top_logprobs": 5} if self.logprobs else {}
        heat = self.temperature if self.n_verdicts > 1 else 0.0
        return Ask(
            messages=messages,
            model=self.model,
            n=self.n_verdicts,
            max_tokens=self.max_tokens,
            source="judge",
            options={"temperature": heat, **likelihoods, **self.options},
        )

    def _system(self) -> Generator[Any, Any, list[BaseMessage]]:
        """Instruction and schema, the same for every question."""
        parts = [JUDGE, self.criteria.strip()]
        if self.database is not None:
            # The schema is told without the question: the judge's prefix serves every candidate of every question.
            schema = yield Call(
                function=self.database.schema_prompt, kwargs={"max_tokens": self.schema_tokens}, source="schema"
            )
            parts.append(str(schema).strip())
        return [SystemMessage("\n\n".join(part for part in parts if part))]

    def _case(self, candidate: Candidate, state: State) -> str:
        """The question, the answer, and what was observed."""
        answer = fenced(candidate.answer or "") if self.database is not None else candidate.text.strip()
        observed = candidate.evidence.execution.feedback if candidate.evidence.execution else ""
        lines = [f"Question: {question_of(state)}", f"Answer:\n{answer}"]
        if observed:
            lines.append(f"The database said: {observed}")
        return "\n\n".join([*lines, VERDICT])

    def _verdict(self, completion: Completion) -> Verdict:
        return read_verdict(completion.text, completion.message, judge=completion.model)


def verdict_told(candidate: Candidate) -> str:
    """What a second look is told about the latest verdict: its critique, else its summary, else that it was
    bad."""
    if not candidate.evidence.verdicts:
        return ""
    verdict = candidate.evidence.verdicts[-1]
    if verdict.label == "SUCCESS":
        return verdict.critique
    if verdict.label == "PIVOT":
        # The next attempt starts afresh: what it has to know comes first.
        return " ".join(part for part in (verdict.summary, verdict.critique) if part) or "The approach was wrong."
    return verdict.critique or verdict.summary or "A reviewer is not convinced by it."


JUDGE = """\
You review answers. Decide whether the answer does exactly what the question asks: nothing missing, \
nothing extra, no wrong assumption. An answer that merely runs or merely sounds right is not a success."""
"""Instruction of the judge's system message."""
VERDICT = """\
Reply in three lines:
SUCCESS, CONTINUE or PIVOT (accept it; it needs a correction; the approach is wrong)
CRITIQUE: the one fault that matters most, or none
SUMMARY: what the next attempt has to know"""
"""Ends the case that is put to the judge."""
