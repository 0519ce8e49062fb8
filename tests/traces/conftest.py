"""Pools and traces with something in every field, and an embedded PostgreSQL where there is one."""

from __future__ import annotations

import math

import pytest

from tests.postgres import postgres_url
from tta_langgraph.budget import Budget, Charge, Usage
from tta_langgraph.evidence import CheckOutcome, Evidence, Execution, LogprobStats, Verdict
from tta_langgraph.state import Candidate, Decision
from tta_langgraph.traces import Attempt, Judgement, Pool, Trace

__all__ = ["postgres_url"]


def make_pool(question_id: str = "q1", *, db_id: str = "shop", split: str = "fit", n: int = 3) -> Pool:
    first = Attempt(
        id="first",
        action="generate",
        correct=True,
        key="rows:1",
        executed=True,
        n_rows=2,
        prompt_tokens=500,
        completion_tokens=20,
        cached_tokens=384,
        seconds=1.5,
        logprobs=LogprobStats(mean=-0.1, tail=-0.5, minimum=-1.5, first_entropy=0.25, n=20),
        verdict_score=0.75,
        answer_chars=8,
        model="small",
        answer="SELECT 1",
    )
    samples = tuple(
        Attempt(
            id=f"sample-{i}",
            action="resample",
            executed=False,
            error_kind="schema",
            request="samples",
            completion_tokens=i,
            finish_reason="length",
        )
        for i in range(n)
    )
    look = Attempt(
        id="look", action="reflect", parent="first", feedback="execution", form="repair", round=1, reply="confirmation"
    )
    return Pool(
        question_id=question_id,
        db_id=db_id,
        split=split,
        difficulty="easy",
        question="How many are there? Ünïcödé \u2028 and a tab\t",
        question_hash="abc",
        attempts=(first, *samples, look),
        judgements=(Judgement(attempt="first", score=0.75, label="SUCCESS", prompt_tokens=600, seconds=0.5),),
        features={"n_tables": 3.0, "schema_tokens": 480.5},
        manifest_id="m",
        spent=Usage(prompt_tokens=1100, completion_tokens=23, model_calls=3, executions=4, seconds=2.0, usd=0.5),
        started=1_700_000_000.25,
    )


def make_trace(key: str = "e1", *, strategy: str = "policy", correct: bool | None = True) -> Trace:
    candidate = Candidate(
        id="c1",
        text="```sql\nSELECT 1\n```",
        answer="SELECT 1",
        key="rows:1",
        model="small",
        usage=Usage(prompt_tokens=100, completion_tokens=10, model_calls=1),
        evidence=Evidence(
            execution=Execution(ok=True, key="rows:1", n_rows=1, feedback="1 row"),
            verdicts=(Verdict(score=0.25, label="PIVOT", critique="wrong table", judge="large"),),
            checks=(CheckOutcome(name="rule", passed=False, score=0.5, detail="no"),),
            logprobs=LogprobStats(mean=-0.5, tail=-1.0, minimum=-2.0),
            confirmations=1,
        ),
    )
    decision = Decision(
        id="d1",
        step=0,
        action="stop",
        reason="nothing pays",
        candidate="c1",
        p_correct=0.625,
        predictor="agreement",
        forecasts=({"action": "reflect", "tokens_p90": math.inf, "feasible": False, "why": "inf"},),
        features={"agreement": 1.0},
        tokens_left=math.inf,
        seconds_left=4.5,
    )
    return Trace(
        id=key,
        question_id="q1",
        question="How many?",
        question_hash="abc",
        db_id="shop",
        strategy=strategy,
        budget=Budget(tokens=4_000, seconds=8, reserve={"tokens": 300, "seconds": 1}),
        candidates=(candidate,),
        decisions=(decision,),
        charges=(
            Charge(
                id="x", usage=Usage(prompt_tokens=100, completion_tokens=10, model_calls=1, usd=0.25), source="generate"
            ),
            Charge(id="y", usage=Usage(executions=1, seconds=0.5), source="execute", estimated=True, note="killed"),
        ),
        answer="SELECT 1",
        correct=correct,
        stop_reason="stop",
        seconds=1.25,
        tokens=110,
        started=1_700_000_000.5,
        manifest_id="m",
        labels={"team": "data"},
    )


@pytest.fixture
def pool() -> Pool:
    return make_pool()


@pytest.fixture
def trace() -> Trace:
    return make_trace()
