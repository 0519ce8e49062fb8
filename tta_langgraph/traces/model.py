"""What is recorded: a `Trace` is one episode as it ran; a `Pool` is everything tried on one question."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import ConfigDict

from tta_langgraph.budget import Budget, Charge, Usage
from tta_langgraph.evidence import Evidence, Execution, LogprobStats, Verdict
from tta_langgraph.state import Candidate, Decision
from tta_langgraph.traces.codec import from_plain, to_plain


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One recorded reply of a model to a question, with what executing it gave and whether it was right."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    """Unique within its pool."""
    action: str
    """The action that made it: `generate` (the first, greedy answer), `resample`, `reflect`, `escalate`, …"""
    correct: bool = False
    """Its result is the gold query's (or the user's checker said so)."""
    parent: str | None = None
    """Id of the attempt it was asked to correct, or None."""
    feedback: str = ""
    """For a reflection, what the model was told: `none`, `judge`, `execution`, …"""
    form: str = ""
    """For a reflection, how the second look was put (which prompt form)."""
    round: int = 0
    """0 for a first answer, else its parent's round + 1."""
    reply: str = "answer"
    """How the reply was read: `answer`, `confirmation` (kept the parent's answer), `refusal` or `garbage`."""
    key: str | None = None
    """What counts as the same answer; None (an error, no answer) takes no part in votes."""
    executed: bool | None = None
    """It ran without an error; None if there was nothing to run."""
    empty: bool = False
    """It ran and returned no rows."""
    n_rows: int = 0
    """Rows returned."""
    error_kind: str | None = None
    """`refused`, `syntax`, `schema`, `timeout`, `cancelled`, `database`, or None."""
    prompt_tokens: int = 0
    """Tokens of the prompt, cached ones included. Attempts of one `request` share it: count it once."""
    completion_tokens: int = 0
    """Tokens written for this attempt alone."""
    cached_tokens: int = 0
    """Part of `prompt_tokens` that a prefix cache served."""
    seconds: float = 0.0
    """Latency in seconds of the request that made it (shared by the attempts of one request)."""
    execution_seconds: float = 0.0
    """Runtime in seconds of its query."""
    usd: float = 0.0
    """Its share of the price, US dollars; 0 where no price is known."""
    request: str = ""
    """Which request made it: attempts with the same one were sampled together (`n > 1`)."""
    logprobs: LogprobStats | None = None
    """Statistics of its tokens' log-probabilities (nats), where the engine gave them."""
    verdict_score: float | None = None
    """Score in [0, 1] of the judge's verdict on it, or None if no judge looked."""
    answer_chars: int = 0
    """Length of the parsed answer in characters."""
    model: str = ""
    """The model that wrote it."""
    finish_reason: str = "stop"
    """`stop`, `length`, `abort` or `tool_calls`."""
    answer: str | None = None
    """The parsed answer; None if there was none, or if it was stripped for an export."""

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens, as if it had been asked for alone."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def usage(self) -> Usage:
        """What asking for it alone consumed: one model call, and one execution if it ran."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached_tokens=self.cached_tokens,
            seconds=self.seconds,
            usd=self.usd,
            model_calls=1,
            executions=0 if self.executed is None else 1,
        )

    def to_candidate(self, *, judged: bool = False) -> Candidate:
        """The candidate a live episode would hold at this point, so that the same code decides on it.

        Args:
            judged: the judge has looked at it: the verdict belongs to its evidence.
        """
        execution = None
        if self.executed is not None:
            execution = Execution(
                ok=self.executed,
                key=self.key,
                n_rows=self.n_rows,
                empty=self.empty,
                error=None if self.executed else self.error_kind or "error",
                error_kind=self.error_kind,
                seconds=self.execution_seconds,
            )
        verdicts: tuple[Verdict, ...] = ()
        if judged and self.verdict_score is not None:
            label: Literal["SUCCESS", "CONTINUE"] = "SUCCESS" if self.verdict_score >= 0.5 else "CONTINUE"
            verdicts = (Verdict(score=self.verdict_score, label=label),)
        return Candidate(
            id=self.id,
            text=self.answer or "",
            answer=self.answer if self.answer is not None else self.key,
            key=self.key,
            parent=self.parent,
            action=self.action,
            feedback=self.feedback,
            form=self.form,
            round=self.round,
            model=self.model,
            usage=self.usage,
            finish_reason=self.finish_reason,
            answer_chars=self.answer_chars,
            evidence=Evidence(execution=execution, verdicts=verdicts, logprobs=self.logprobs),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One recorded judge call on one attempt, with its cost."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    attempt: str
    """Id of the attempt that was judged."""
    score: float
    """In [0, 1]."""
    label: str = "UNPARSED"
    """`SUCCESS`, `CONTINUE`, `PIVOT` or `UNPARSED`."""
    prompt_tokens: int = 0
    """Tokens of the judge's prompt."""
    completion_tokens: int = 0
    """Tokens the judge wrote."""
    cached_tokens: int = 0
    """Part of `prompt_tokens` that a prefix cache served."""
    seconds: float = 0.0
    """Latency in seconds."""
    usd: float = 0.0
    """US dollars."""
    model: str = ""
    """The judge's model."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Everything recorded for one question: what a policy may draw from in replay, with no model.

    The question's text is not needed for that, and exports leave it out.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    question_id: str
    """Id of the question in its data set."""
    db_id: str = ""
    """The database it is asked of; splits are by database."""
    split: str = ""
    """`fit`, `test`, or empty."""
    difficulty: str = ""
    """As labelled by the data set, or empty."""
    question: str | None = None
    """The question's text, or None where it was left out."""
    question_hash: str = ""
    """SHA-256 of the text: tells whether two recordings asked the same."""
    attempts: tuple[Attempt, ...] = ()
    """In the order in which they were made; the greedy first answer comes first."""
    judgements: tuple[Judgement, ...] = ()
    """Judge calls, in order."""
    features: Mapping[str, float] = field(default_factory=dict)
    """Known before any call: `schema_tokens`, `n_tables`, `n_columns`, `question_chars`, …"""
    manifest_id: str = ""
    """Hash of the backend manifest under which it was recorded."""
    spent: Usage = field(default_factory=Usage)
    """What recording it consumed in all, `seconds` busy."""
    started: float = 0.0
    """Unix time in seconds at which its recording began."""

    @property
    def first(self) -> Attempt | None:
        """The greedy first answer, or None if none was recorded."""
        return next((attempt for attempt in self.attempts if attempt.action == "generate"), None)

    @property
    def samples(self) -> tuple[Attempt, ...]:
        """The fresh samples, in order."""
        return tuple(attempt for attempt in self.attempts if attempt.action == "resample")

    def reflections(self, feedback: str | None = None, form: str | None = None) -> tuple[Attempt, ...]:
        """The reflections, by round; with `feedback` or `form`, those of that kind only."""
        return tuple(
            attempt
            for attempt in self.attempts
            if attempt.action == "reflect"
            and (feedback is None or attempt.feedback == feedback)
            and (form is None or attempt.form == form)
        )

    def children(self, attempt: str) -> Iterator[Attempt]:
        """The attempts that were asked to correct the one with this id."""
        return (child for child in self.attempts if child.parent == attempt)

    def judgement(self, attempt: str) -> Judgement | None:
        """The last verdict on the attempt with this id, with its cost, or None."""
        return next((found for found in reversed(self.judgements) if found.attempt == attempt), None)

    def stripped(self, *, answers: bool = False) -> Pool:
        """A copy without the question's text and, with `answers`, without the answers' texts either."""
        kept = tuple(replace(attempt, answer=None) for attempt in self.attempts) if answers else self.attempts
        return replace(self, question=None, attempts=kept)

    def to_dict(self) -> dict[str, Any]:
        """JSON values; fields at their default are left out."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "pool") -> Pool:
        """The inverse of `to_dict`.

        Raises:
            TraceError: a field is missing, unknown or of another type.
        """
        return from_plain(cls, data, where=where)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The full record of one episode: what was proposed, decided, spent, answered, and on which backend."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    id: str
    """The episode's id."""
    question_id: str = ""
    """Id of the question in its data set, or empty for live traffic."""
    question: str | None = None
    """The question's text, or None where it was left out."""
    question_hash: str = ""
    """SHA-256 of the text."""
    db_id: str = ""
    """The database it is asked of."""
    strategy: str = ""
    """Name of the policy or static strategy that ran, e.g. `policy`, `best_of(8)`, `reflect(3)`."""
    budget: Budget = field(default_factory=Budget)
    """The limits it ran under."""
    candidates: tuple[Candidate, ...] = ()
    """What was proposed, oldest first, with all evidence."""
    decisions: tuple[Decision, ...] = ()
    """What was decided, oldest first, with features and forecasts."""
    charges: tuple[Charge, ...] = ()
    """What was spent, call by call."""
    answer: str | None = None
    """What the episode answered."""
    correct: bool | None = None
    """Whether that was right; None where nobody knows."""
    stop_reason: str = ""
    """`stop`, `abstain`, `exhausted: tokens`, …"""
    seconds: float = 0.0
    """Wall-clock from the start to the answer."""
    tokens: int = 0
    """Prompt and completion tokens of all charges."""
    started: float = 0.0
    """Unix time in seconds."""
    manifest_id: str = ""
    """Hash of the backend manifest under which it ran."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Free labels: team, release, experiment, …"""

    @property
    def usage(self) -> Usage:
        """The sum of all charges; `seconds` is busy time."""
        total = Usage()
        for charge in self.charges:
            total = total + charge.usage
        return total

    @property
    def models(self) -> tuple[str, ...]:
        """The models that wrote candidates, each once, in order of appearance."""
        return tuple(dict.fromkeys(candidate.model for candidate in self.candidates if candidate.model))

    @classmethod
    def of(cls, state: Mapping[str, Any], **fields: Any) -> Trace:
        """Builds the trace of a finished episode from the state its graph returned.

        Args:
            state: the final `EpisodeState`.
            **fields: what the state does not know: `question_id`, `db_id`, `strategy`, `correct`, `seconds`,
                `manifest_id`, `labels`.
        """
        tracker = state.get("budget")
        question = state.get("question")
        charges = () if tracker is None else tuple(tracker.charges.values())
        known: dict[str, Any] = {
            "id": tracker.episode if tracker is not None and tracker.episode else fields.get("id", ""),
            "question": question,
            "question_hash": text_hash(question) if question else "",
            "budget": Budget() if tracker is None else tracker.budget,
            "candidates": tuple(state.get("candidates") or ()),
            "decisions": tuple(state.get("decisions") or ()),
            "charges": charges,
            "answer": state.get("answer"),
            "stop_reason": state.get("stop_reason") or "",
            "seconds": 0.0 if tracker is None else tracker.elapsed,
            "tokens": sum(charge.usage.tokens for charge in charges),
            "started": 0.0 if tracker is None else tracker.started,
        }
        return cls(**{**known, **fields})

    def to_dict(self) -> dict[str, Any]:
        """JSON values; fields at their default are left out."""
        return to_plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, where: str = "trace") -> Trace:
        """The inverse of `to_dict`.

        Raises:
            TraceError: a field is missing, unknown or of another type.
        """
        return from_plain(cls, data, where=where)


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
