"""What is recorded comes back as it was, and what cannot be read is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from tta_langgraph.errors import TraceError
from tta_langgraph.traces import Pool, Trace
from tta_langgraph.traces.codec import from_json, to_json


def test_a_pool_comes_back_as_it_was(pool: Pool) -> None:
    assert from_json(Pool, to_json(pool), where="here") == pool


def test_a_trace_comes_back_as_it_was_with_infinite_and_textual_forecasts(trace: Trace) -> None:
    text = to_json(trace)
    back = from_json(Trace, text, where="here")
    assert back == trace
    assert back.decisions[0].forecasts[0] == {
        "action": "reflect",
        "tokens_p90": math.inf,
        "feasible": False,
        "why": "inf",
    }

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    json.loads(text, parse_constant=refuse)


def test_half_a_character_of_a_reply_that_was_cut_survives(trace: Trace) -> None:
    cut = replace(trace, candidates=(replace(trace.candidates[0], text="caf\ud83c"),))
    line = to_json(cut)
    assert from_json(Trace, line.encode(), where="here").candidates[0].text == "caf\ud83c"


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"question_id": "q", "attempts": [{"id": "a", "action": 1}]}, "attempts.0.action"),
        ({"question_id": "q", "attempts": [{"id": "a"}]}, "attempts.0.action"),
        ({"question_id": "q", "colour": "red"}, "colour"),
        ({}, "question_id"),
    ],
)
def test_a_malformed_pool_is_refused_with_the_field_and_the_place(broken: dict[str, object], named: str) -> None:
    with pytest.raises(TraceError, match=named.replace(".", r"\.")) as caught:
        Pool.from_dict(broken, where="pools.jsonl, line 7")
    assert caught.value.where == "pools.jsonl, line 7"


def test_a_replayed_candidate_shows_its_verdict_only_after_the_judge_looked(pool: Pool) -> None:
    assert pool.first is not None
    before, after = pool.first.to_candidate(), pool.first.to_candidate(judged=True)
    assert before.evidence.verdicts == ()
    assert [verdict.score for verdict in after.evidence.verdicts] == [0.75]
    assert before.evidence.execution is not None
    assert (before.evidence.execution.ok, before.key) == (True, "rows:1")


def test_a_failed_attempt_has_an_error_and_no_key(pool: Pool) -> None:
    candidate = pool.samples[0].to_candidate()
    assert candidate.key is None
    assert candidate.evidence.execution is not None
    assert not candidate.evidence.execution.ok
    assert candidate.evidence.execution.error


def test_a_stripped_pool_has_neither_question_nor_answers(pool: Pool) -> None:
    assert "How many" not in to_json(pool.stripped())
    assert "SELECT 1" in to_json(pool.stripped())
    assert "SELECT 1" not in to_json(pool.stripped(answers=True))


def test_the_views_of_a_pool(pool: Pool) -> None:
    assert [attempt.id for attempt in pool.samples] == ["sample-0", "sample-1", "sample-2"]
    assert [attempt.id for attempt in pool.reflections("execution", "repair")] == ["look"]
    assert pool.reflections("judge") == ()
    assert [child.id for child in pool.children("first")] == ["look"]
    judgement = pool.judgement("first")
    assert judgement is not None
    assert judgement.label == "SUCCESS"
    assert pool.judgement("look") is None
