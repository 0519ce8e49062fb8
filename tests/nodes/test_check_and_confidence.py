"""Check and Confidence: evidence that costs no tokens."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from pydantic import BaseModel

from tta_langgraph import Budget, Candidate, budgeted
from tta_langgraph.errors import GraphError
from tta_langgraph.evidence import CheckOutcome, Evidence, LogprobStats
from tta_langgraph.nodes import Check, Confidence, Generate
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model


def pool(*answers: str | None) -> dict[str, Any]:
    return {"candidates": [Candidate(id=str(i), text=a or "", answer=a, key=a) for i, a in enumerate(answers)]}


class Invoice(BaseModel):
    total: float


async def is_long(answer: str) -> bool:
    return len(answer) > 3


def raises(answer: str) -> None:
    assert answer == "x", f"expected x, got {answer}"


@pytest.mark.parametrize(
    ("node", "good", "bad"),
    [
        (Check(verifier=re.compile(r"\d+")), "42", "42 apples"),
        (Check(verifier=lambda answer: float(answer) > 0), "1", "-1"),
        (Check(verifier=lambda answer, state: (answer in state["allowed"], "not allowed")), "x", "z"),
        (Check(verifier=lambda answer: 0.9 if answer == "x" else 0.1), "x", "y"),
        (Check(verifier=Invoice.model_validate_json, passed_unless_raised=True), json.dumps({"total": 1}), "{}"),
        (Check(verifier=raises, passed_unless_raised=True), "x", "y"),
        (Check(verifier=lambda answer: int(answer) > 0), "7", "seven"),
        (Check(verifier=lambda a: CheckOutcome(name="own", passed=a == "x", score=0.3)), "x", "y"),
        (Check(verifier=is_long), "long", "no"),
    ],
)
async def test_verifiers_of_every_kind(node: Check, good: str, bad: str) -> None:
    state = {**pool(good, bad, None), "allowed": ["x"]}
    for update in (node.invoke(state), await node.ainvoke(state)):
        assert [c.evidence.checks[0].passed for c in update["candidates"]] == [True, False]


def test_a_failed_check_says_why() -> None:
    update = Check(verifier=raises, passed_unless_raised=True).invoke(pool("y"))
    assert update["candidates"][0].evidence.checks[0].detail == "expected x, got y"


def test_a_bug_in_a_verifier_is_not_a_verdict() -> None:
    with pytest.raises(ZeroDivisionError):
        Check(verifier=lambda answer: 1 / 0).invoke(pool("y"))
    with pytest.raises(GraphError, match="bool"):
        Check(verifier=lambda answer: "fine").invoke(pool("y"))
    with pytest.raises(GraphError, match="callable"):
        Check(verifier="fine")  # type: ignore[arg-type]


def test_checks_choose_the_answer_where_the_rule_uses_them() -> None:
    update = Check(verifier=str.isdigit, selection="best_of_n").invoke(pool("one", "1"))
    assert update["answer"] == "1"


def test_a_model_inside_a_verifier_is_charged_to_the_episode(server: ScriptedServer) -> None:
    server.use(["yes"])
    model = budgeted(scripted_chat_model(server))
    node = Check(verifier=lambda answer: model.invoke(f"Is {answer} good?").text == "yes", name="ask")
    update = node.invoke({**pool("x"), "budget": Budget(tokens=1_000)})
    assert update["budget"].usage.tokens == server.total
    assert next(iter(update["budget"].charges.values())).source == "ask"


def test_confidence_reads_the_log_probabilities_of_the_reply(server: ScriptedServer) -> None:
    server.use([Reply("a b", logprobs=math.log(0.5))])
    made = Generate(model=scripted_chat_model(server), options={"logprobs": True}).invoke({"question": "?"})
    update = Confidence(statistic="mean", threshold=0.6).invoke(made)
    [check] = update["candidates"][0].evidence.checks
    assert check.name == "confidence:mean"
    assert check.score == pytest.approx(0.5)
    assert check.passed is False
    assert update["budget"].usage.model_calls == 1


@pytest.mark.parametrize(
    ("statistic", "expected"), [("mean", 0.5), ("tail", 0.25), ("minimum", 0.125), ("varentropy", math.exp(-0.3))]
)
def test_each_statistic_becomes_a_score_between_0_and_1(statistic: Any, expected: float) -> None:
    stats = LogprobStats(mean=math.log(0.5), tail=math.log(0.25), minimum=math.log(0.125), varentropy=0.3)
    candidate = Candidate(text="x", answer="x").observed(Evidence(logprobs=stats))
    update = Confidence(statistic=statistic).invoke({"candidates": [candidate]})
    assert update["candidates"][0].evidence.checks[0].score == pytest.approx(expected)


def test_without_log_probabilities_there_is_no_score() -> None:
    assert Confidence().invoke(pool("x"))["candidates"] == []
