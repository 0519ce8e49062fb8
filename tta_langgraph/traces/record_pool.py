"""Runs the grid on one question, with the product's own nodes, and makes its pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel

from tta_langgraph.budget import BudgetTracker, Charge, Usage
from tta_langgraph.errors import TraceError
from tta_langgraph.latency import LatencyModel
from tta_langgraph.nodes import Execute, Generate, Judge, Reflect, Sample
from tta_langgraph.sql import Database, ExecutionResult, same_result
from tta_langgraph.state import Candidate, Decision
from tta_langgraph.traces.grid import Chain, Grid
from tta_langgraph.traces.manifest import model_label
from tta_langgraph.traces.model import Attempt, Judgement, Pool, Trace, text_hash
from tta_langgraph.traces.questions import Question

T = TypeVar("T")


@dataclass(kw_only=True)
class PoolRecorder:
    """Records one question. Every step runs on a budget of its own, so that what it charged is known exactly."""

    question: Question
    """What is asked."""
    database: Database
    """What it is asked of."""
    model: BaseChatModel
    """Who answers."""
    judge: BaseChatModel
    """Who judges."""
    grid: Grid
    """What is tried."""
    latency: LatencyModel | None = None
    """Replaces measured latencies; None measures them, one request after the other."""
    _attempts: list[Attempt] = field(default_factory=list)
    _judgements: list[Judgement] = field(default_factory=list)
    _candidates: list[Candidate] = field(default_factory=list)
    _charges: list[Charge] = field(default_factory=list)
    _gold: list[ExecutionResult] = field(default_factory=list)
    _right: dict[str, bool] = field(default_factory=dict)

    async def run(self, *, recording: str = "", manifest_id: str = "") -> tuple[Pool, Trace]:
        """Asks everything, and returns the pool and the trace of the recording itself.

        Raises:
            TraceError: no gold query of the question runs.
            ModelError: the model cannot be reached.
        """
        started = time.time()
        clock = time.perf_counter()
        await self._run_gold()
        first = await self._first()
        samples = await self._samples()
        judged = await self._verdicts(first, samples)
        await self._all([self._chain(judged or first, chain, index) for index, chain in enumerate(self.grid.chains)])
        pool = Pool(
            question_id=self.question.id,
            db_id=self.question.db_id,
            split=self.question.split,
            difficulty=self.question.difficulty,
            question=self.question.question,
            question_hash=text_hash(self.question.question),
            attempts=tuple(sorted(self._attempts, key=_in_order)),
            judgements=tuple(self._judgements),
            features=self._features(),
            manifest_id=manifest_id,
            spent=sum((charge.usage for charge in self._charges), Usage()),
            started=started,
        )
        trace = Trace(
            id=f"{recording}/{self.question.id}" if recording else self.question.id,
            question_id=pool.question_id,
            question=pool.question,
            question_hash=pool.question_hash,
            db_id=pool.db_id,
            strategy="record",
            candidates=tuple(self._candidates),
            charges=tuple(self._charges),
            answer=first.answer,
            correct=next(attempt.correct for attempt in pool.attempts if attempt.id == first.id),
            stop_reason="recorded",
            seconds=time.perf_counter() - clock,
            tokens=pool.spent.tokens,
            started=started,
            manifest_id=manifest_id,
        )
        return pool, trace

    # -- strategies ---------------------------------------------------------------------------------------

    async def _first(self) -> Candidate:
        node = Generate(**self._strategy)
        found, charges = await self._step(node, [])
        [first] = await self._executed([replace(found[0], id="first")])
        await self._keep(first, charges)
        return first

    async def _samples(self) -> list[Candidate]:
        if not self.grid.samples:
            return []
        node = Sample(**self._strategy, n=self.grid.samples, temperature=self.grid.temperature)
        found, charges = await self._step(node, [])
        samples = await self._executed([replace(c, id=f"sample-{i}") for i, c in enumerate(found)])
        for sample in samples:
            await self._keep(sample, charges, request="samples", share=len(samples))
        return samples

    async def _verdicts(self, first: Candidate, samples: Sequence[Candidate]) -> Candidate | None:
        """Judges the first answer and the most frequent others; gives back the first one with its verdict."""
        if not self.grid.judged or first.answer is None:
            return None
        node = Judge(
            model=self.judge,
            database=self.database,
            max_tokens=self.grid.judge_tokens,
            schema_tokens=self.grid.schema_tokens,
            logprobs=self.grid.logprobs,
        )
        groups: dict[str, list[Candidate]] = {}
        for candidate in (first, *samples):
            if candidate.answer is not None and candidate.key is not None:
                groups.setdefault(candidate.key, []).append(candidate)
        others = sorted((g for g in groups.values() if g[0].id != first.id), key=len, reverse=True)
        cases = [first, *(group[0] for group in others[: self.grid.judged - 1])]
        outcomes = await self._all([self._step(node, [case]) for case in cases])
        for case, (found, charges) in zip(cases, outcomes, strict=True):
            verdict = found[0].evidence.verdicts[-1] if found and found[0].evidence.verdicts else None
            if verdict is None:
                continue
            usage = _calls(charges)
            self._judgements.append(
                Judgement(
                    attempt=case.id,
                    score=verdict.score,
                    label=verdict.label,
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    cached_tokens=usage.cached_tokens,
                    seconds=self._seconds(usage, usage.completion_tokens),
                    usd=usage.usd,
                    model=model_label(verdict.judge),
                )
            )
            self._candidates = [found[0] if c.id == case.id else c for c in self._candidates]
            members = {c.id for c in groups.get(case.key or "", [case])} | {case.id}
            self._attempts = [replace(a, verdict_score=verdict.score) if a.id in members else a for a in self._attempts]
        return outcomes[0][0][0] if outcomes[0][0] else first

    async def _chain(self, first: Candidate, chain: Chain, index: int) -> None:
        """Reflects round by round, always on the latest answer."""
        if chain.feedback == "judge" and not first.evidence.verdicts:
            return
        node = Reflect(**self._strategy, feedback=chain.feedback, form=chain.form, max_rounds=chain.rounds + 1)
        latest, parent = first, first.id
        reply: Attempt | None = None
        for number in range(1, chain.rounds + 1):
            form = node.form_for(latest)
            key = f"{chain.feedback}-{form}-{index}-{number}"
            if reply is not None:
                # A greedy second look at the same answer, told the same, says the same again: no need to ask.
                self._attempts.append(_again(reply, key, parent, number))
                continue
            found, charges = await self._step(node, [latest], latest)
            child = next((c for c in found if c.id != latest.id), None)
            if child is None:
                told = await self._confirmed(latest, charges, key, parent, chain, form, number)
            else:
                [child] = await self._executed([replace(child, id=key, parent=parent, round=number)])
                told = await self._keep(child, charges, feedback=chain.feedback, form=form)
            if child is not None and child.answer is not None:
                latest = child
            elif form != "fresh":
                reply = told
            parent = key

    async def _confirmed(
        self, kept: Candidate, charges: list[Charge], key: str, parent: str, chain: Chain, form: str, number: int
    ) -> Attempt:
        usage = _calls(charges)
        attempt = self._attempt(kept, usage, usage.completion_tokens)
        attempt = replace(
            attempt,
            id=key,
            action="reflect",
            parent=parent,
            feedback=chain.feedback,
            form=form,
            round=number,
            reply="confirmation",
            correct=await self._is_right(kept.answer),
            execution_seconds=0.0,
            request="",
            logprobs=None,
        )
        self._attempts.append(attempt)
        return attempt

    async def _all(self, steps: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
        """Requests made at once slow each other down, so measured ones go one by one; idealised ones need not wait."""
        if self.latency is not None:
            return list(await asyncio.gather(*steps))
        try:
            return [await step for step in steps]
        finally:
            for step in steps:  # those that an error has left out; closing a finished one does nothing
                step.close()

    # -- steps --------------------------------------------------------------------------------------------

    async def _step(
        self, node: Any, candidates: list[Candidate], current: Candidate | None = None
    ) -> tuple[list[Candidate], list[Charge]]:
        """Runs one node on a plain state and gives the candidates it changed or added, and what it charged."""
        state: dict[str, Any] = {
            "question": self.question.question,
            "budget": BudgetTracker.start(None),
            "candidates": candidates,
        }
        if current is not None:
            state["decisions"] = [Decision(step=0, action="reflect", candidate=current.id)]
        update = await node.ainvoke(state)
        charges = list(update["budget"].charges.values())
        self._charges += charges
        return list(update.get("candidates") or ()), charges

    async def _executed(self, candidates: list[Candidate]) -> list[Candidate]:
        """The same candidates with what the database said, in their order."""
        found, _ = await self._step(Execute(database=self.database, timeout=self.grid.timeout), candidates)
        known = {candidate.id: candidate for candidate in found}
        return [known.get(candidate.id, candidate) for candidate in candidates]

    async def _keep(
        self,
        candidate: Candidate,
        charges: list[Charge],
        *,
        request: str = "",
        share: int = 1,
        feedback: str = "",
        form: str = "",
    ) -> Attempt:
        usage = _calls(charges)
        written = usage.completion_tokens if share == 1 else candidate.usage.completion_tokens
        attempt = replace(
            self._attempt(candidate, usage, written),
            correct=await self._is_right(candidate.answer),
            request=request,
            usd=usage.usd / share,
            feedback=feedback,
            form=form,
        )
        self._attempts.append(attempt)
        self._candidates.append(candidate)
        return attempt

    def _attempt(self, candidate: Candidate, usage: Usage, written: int) -> Attempt:
        execution = candidate.evidence.execution
        return Attempt(
            id=candidate.id,
            action=candidate.action,
            parent=candidate.parent,
            round=candidate.round,
            reply="answer" if candidate.answer is not None else "garbage",
            key=candidate.key,
            executed=None if execution is None else execution.ok,
            empty=execution is not None and execution.empty,
            n_rows=0 if execution is None else execution.n_rows,
            error_kind=None if execution is None else execution.error_kind,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=written,
            cached_tokens=usage.cached_tokens,
            seconds=self._seconds(usage, written),
            execution_seconds=0.0 if execution is None else execution.seconds,
            usd=usage.usd,
            logprobs=candidate.evidence.logprobs,
            answer_chars=len(candidate.answer or ""),
            model=model_label(candidate.model),
            finish_reason=candidate.finish_reason,
            answer=candidate.answer,
        )

    def _seconds(self, usage: Usage, written: int) -> float:
        if self.latency is None:
            return usage.seconds
        return round(self.latency.predict(usage.prompt_tokens, written, usage.cached_tokens), 4)

    # -- truth --------------------------------------------------------------------------------------------

    async def _run_gold(self) -> None:
        results = [await self.database.aexecute(sql, self.grid.timeout) for sql in self.question.gold]
        self._gold = [result for result in results if result.ok]
        if not self._gold:
            raise TraceError(
                f"no gold query runs: {results[0].error if results else 'there is none'}",
                where=f"question {self.question.id}",
                remedy="Correct it, or leave the question out",
            )

    async def _is_right(self, sql: str | None) -> bool:
        if sql is None:
            return False
        if sql not in self._right:
            result = await self.database.aexecute(sql, self.grid.timeout)
            self._right[sql] = any(same_result(result, gold) for gold in self._gold)
        return self._right[sql]

    # -- what stays the same ------------------------------------------------------------------------------

    @property
    def _strategy(self) -> dict[str, Any]:
        likelihoods = {"logprobs": True, "top_logprobs": 5} if self.grid.logprobs else {}
        return {
            "model": self.model,
            "database": self.database,
            "max_tokens": self.grid.max_tokens,
            "schema_tokens": self.grid.schema_tokens,
            "options": {**likelihoods, **self.grid.options},
        }

    def _features(self) -> dict[str, float]:
        """What a router knows before the first call."""
        tables = self.database.catalog.tables
        prompt = next((attempt.prompt_tokens for attempt in self._attempts if attempt.id == "first"), 0)
        return {
            "prompt_tokens": float(prompt),
            "schema_chars": float(len(self.database.schema_prompt(max_tokens=self.grid.schema_tokens))),
            "n_tables": float(len(tables)),
            "n_columns": float(sum(len(table.columns) for table in tables)),
            "question_chars": float(len(self.question.question)),
            "question_words": float(len(self.question.question.split())),
        }


def _calls(charges: Sequence[Charge]) -> Usage:
    """The model calls among the charges, added up (a retried call counts with its failed attempts)."""
    return sum((charge.usage for charge in charges if charge.usage.model_calls), Usage())


def _again(attempt: Attempt, key: str, parent: str, number: int) -> Attempt:
    """The repetition of a round that gave no new answer."""
    return replace(attempt, id=key, parent=parent, round=number)


def _in_order(attempt: Attempt) -> tuple[int, str, str, int]:
    order = {"generate": 0, "resample": 1}.get(attempt.action, 2)
    return (order, attempt.feedback, attempt.form, attempt.round) if order == 2 else (order, "", "", 0)
