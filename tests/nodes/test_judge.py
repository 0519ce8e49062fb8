"""Judge: verdicts as evidence, each token of them charged."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage

from tta_langgraph import Budget, Candidate, select
from tta_langgraph.evidence import Evidence, Execution
from tta_langgraph.nodes import Judge
from tta_langgraph.nodes.verdicts import read_verdict
from tta_langgraph.sql import Database
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

FIRST = Candidate(id="1", text="SELECT 1", answer="SELECT 1", key="a")
SECOND = Candidate(id="2", text="SELECT 2", answer="SELECT 2", key="b")
VERDICT = "CONTINUE\nCRITIQUE: It counts every artist.\nSUMMARY: Filter by country."


def test_the_prompt_shows_question_answer_and_what_was_observed(
    server: ScriptedServer, shop: Database, assert_prompt: Any
) -> None:
    server.use([VERDICT])
    ran = FIRST.observed(Evidence(execution=Execution(ok=True, key="a", feedback="1 row: 3")))
    Judge(model=scripted_chat_model(server), database=shop, criteria="Names are exact.").invoke(
        {"question": "How many Norwegians?", "candidates": [ran]}
    )
    assert_prompt(server.log[0], "judge")


def test_a_verdict_has_label_critique_and_summary_and_is_charged(server: ScriptedServer) -> None:
    server.use([VERDICT])
    update = Judge(model=scripted_chat_model(server)).invoke(
        {"question": "?", "candidates": [FIRST], "budget": Budget(tokens=5_000)}
    )
    [verdict] = update["candidates"][0].evidence.verdicts
    assert (verdict.label, verdict.score) == ("CONTINUE", 0.0)
    assert verdict.critique == "It counts every artist."
    assert verdict.summary == "Filter by country."
    assert update["budget"].usage.tokens == server.total


def test_the_same_answer_is_judged_once(server: ScriptedServer) -> None:
    server.use(["SUCCESS", "PIVOT"])
    twin = Candidate(id="3", text="SELECT 1+0", answer="SELECT 1+0", key="a")
    update = Judge(model=scripted_chat_model(server)).invoke({"question": "?", "candidates": [FIRST, SECOND, twin]})
    assert server.requests == 2
    labels = {c.id: c.evidence.verdicts[0].label for c in update["candidates"]}
    assert labels["1"] == labels["3"] != labels["2"]


def test_several_verdicts_come_from_one_request_and_their_mean_ranks(server: ScriptedServer) -> None:
    server.use(lambda r: Reply(texts=["SUCCESS", "PIVOT", "SUCCESS"] if "SELECT 2" in r.text else ["PIVOT"]))
    update = Judge(model=scripted_chat_model(server), n_verdicts=3, selection="best_of_n").invoke(
        {"question": "?", "candidates": [FIRST, SECOND]}
    )
    assert [request.n for request in server.log] == [3, 3]
    assert update["best"].id == "2"
    assert select(update["candidates"], "best_of_n").scores["2"] == pytest.approx(2 / 3)


def test_nothing_is_judged_twice(server: ScriptedServer) -> None:
    server.use(["SUCCESS"])
    node = Judge(model=scripted_chat_model(server))
    update = node.invoke({"question": "?", "candidates": [FIRST]})
    node.invoke({"question": "?", "candidates": update["candidates"]})
    assert server.requests == 1


@pytest.mark.parametrize("reply", ["", "%%", "I cannot judge that.", "SUCCESS or PIVOT, who knows?", "well " * 300])
def test_a_verdict_that_cannot_be_read_is_even_odds(server: ScriptedServer, reply: str) -> None:
    server.use([reply])
    update = Judge(model=scripted_chat_model(server)).invoke({"question": "?", "candidates": [FIRST]})
    [verdict] = update["candidates"][0].evidence.verdicts
    assert (verdict.label, verdict.score) == ("UNPARSED", 0.5)


def test_a_judge_without_budget_leaves_the_candidates_as_they_are(server: ScriptedServer) -> None:
    update = Judge(model=scripted_chat_model(server)).invoke(
        {"question": "?", "candidates": [FIRST], "budget": Budget(tokens=10)}
    )
    assert update["stop_reason"] == "exhausted: tokens"
    assert "candidates" not in update


def logged(*tokens: tuple[str, float, dict[str, float]]) -> AIMessage:
    content = [
        {"token": t, "logprob": p, "top_logprobs": [{"token": o, "logprob": q} for o, q in alternatives.items()]}
        for t, p, alternatives in tokens
    ]
    return AIMessage("".join(t for t, _, _ in tokens), response_metadata={"logprobs": {"content": content}})


def test_the_score_is_the_probability_of_success_among_the_three_words() -> None:
    from math import log

    likely = {"SU": log(0.6), "CONT": log(0.2), "P": log(0.1), "The": log(0.1)}
    message = logged(("Verdict", -0.1, {}), (": ", -0.1, {}), ("SU", log(0.6), likely), ("CCESS", 0.0, {}))
    verdict = read_verdict(str(message.text), message)
    assert verdict.label == "SUCCESS"
    assert verdict.score == pytest.approx(0.6 / 0.9)


def test_words_before_the_verdict_do_not_count_as_it() -> None:
    from math import log

    likely: dict[str, Any] = {"PIV": log(0.5), "SUC": log(0.25)}
    message = logged(("S", -0.1, {}), ("o:\n", -0.1, {}), ("PIV", log(0.5), likely), ("OT", 0.0, {}))
    assert read_verdict(str(message.text), message).score == pytest.approx(1 / 3)


def test_without_log_probabilities_the_score_is_all_or_nothing(server: ScriptedServer) -> None:
    assert read_verdict("SUCCESS").score == 1.0
    assert read_verdict("**Pivot**\nCRITIQUE: none").score == 0.0
    assert read_verdict("pivot\nCRITIQUE: none").critique == ""


async def test_the_async_twin_judges_side_by_side(server: ScriptedServer) -> None:
    server.latency = 0.2
    server.use(lambda _: "SUCCESS")
    update = await Judge(model=scripted_chat_model(server)).ainvoke({"question": "?", "candidates": [FIRST, SECOND]})
    assert len(update["candidates"]) == 2
    assert server.peak_in_flight == 2
