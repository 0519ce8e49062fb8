"""Reflect: a second look, told in one of four forms, its reply read strictly."""

from __future__ import annotations

from typing import Any

import pytest

from tta_langgraph import Budget, Candidate, Decision
from tta_langgraph.decision.second_looks import FORMS
from tta_langgraph.evidence import Evidence, Verdict
from tta_langgraph.nodes import Judge, Reflect
from tta_langgraph.sql import Database
from tta_langgraph.state import merge_candidates
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

QUESTION = "How many artists are from Norway?"
WRONG = Candidate(id="w", text="```sql\nSELECT count(nme) FROM artist\n```", answer="SELECT count(nme) FROM artist")
RIGHT = Candidate(id="r", text="SELECT 2", answer="SELECT count(*) FROM artist WHERE country = 'Norway'")
FIXED = "```sql\nSELECT count(*) FROM artist WHERE country = 'Norway'\n```"


def state_with(*candidates: Candidate, **more: Any) -> dict[str, Any]:
    return {"question": QUESTION, "candidates": list(candidates), "budget": Budget(tokens=9_000), **more}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_shows_what_it_says(server: ScriptedServer, shop: Database, form: Any, assert_prompt: Any) -> None:
    server.use([FIXED])
    update = Reflect(model=scripted_chat_model(server), database=shop, form=form).invoke(state_with(WRONG))
    assert_prompt(server.log[0], f"reflect_{form}")
    seen = "SELECT count(nme)" in server.log[0].text
    assert seen is (form == "attempt")
    child = update["candidates"][-1]
    assert (child.parent, child.round, child.action, child.feedback) == ("w", 1, "reflect", "execution")
    assert child.answer == RIGHT.answer


@pytest.mark.parametrize("form", FORMS)
def test_every_form_begins_with_the_unchanged_system_message(server: ScriptedServer, shop: Database, form: Any) -> None:
    server.use([FIXED, FIXED])
    model = scripted_chat_model(server)
    Reflect(model=model, database=shop, form=form).invoke(state_with(WRONG))
    Reflect(model=model, database=shop, form="fresh").invoke(state_with(RIGHT))
    assert server.log[0].messages[0] == server.log[1].messages[0]
    assert server.log[0].messages[1]["content"].startswith(QUESTION)


def test_it_runs_what_was_not_run_and_charges_both(server: ScriptedServer, shop: Database) -> None:
    server.use([FIXED])
    update = Reflect(model=scripted_chat_model(server), database=shop).invoke(state_with(WRONG))
    usage = update["budget"].usage
    assert usage.executions == 1
    assert usage.tokens == server.total
    parent = update["candidates"][0]
    assert parent.id == "w"
    assert parent.evidence.execution is not None


@pytest.mark.parametrize(
    "reply",
    [
        "CORRECT",
        "Yes, the query answers the question.",
        "```sql\nselect COUNT(*) from artist where country = 'Norway';\n```",
    ],
)
def test_a_confirmation_keeps_the_candidate_notes_it_and_is_charged(
    server: ScriptedServer, shop: Database, reply: str
) -> None:
    server.use([reply, reply])
    node = Reflect(model=scripted_chat_model(server), database=shop, form="attempt")
    state = state_with(RIGHT)
    for expected in (1, 2):
        update = node.invoke(state)
        [kept] = merge_candidates(state["candidates"], update["candidates"])
        assert kept.answer == RIGHT.answer
        assert kept.evidence.confirmations == expected
        state |= update | {"candidates": [kept]}
    assert state["answer"] == RIGHT.answer
    assert state["budget"].usage.tokens == server.total


@pytest.mark.parametrize("reply", ["", "%%%", "I'm sorry, I cannot help.", "The query is wrong.", "so so " * 400])
def test_a_useless_reply_never_replaces_the_answer(server: ScriptedServer, shop: Database, reply: str) -> None:
    server.use([reply])
    update = Reflect(model=scripted_chat_model(server), database=shop, max_tokens=60).invoke(state_with(RIGHT))
    assert update["answer"] == RIGHT.answer
    assert update["candidates"][-1].answer is None
    assert update["candidates"][0].evidence.confirmations == 0


def test_rounds_end_at_the_limit_whatever_the_replies_were(server: ScriptedServer, shop: Database) -> None:
    server.use(["CORRECT", "%%%", FIXED.replace("Norway", "Sweden"), FIXED, FIXED])
    node = Reflect(model=scripted_chat_model(server), database=shop, max_rounds=3)
    state = state_with(RIGHT)
    for _ in range(6):
        update = node.invoke(state)
        state |= update | {"candidates": merge_candidates(state["candidates"], update.get("candidates"))}
    assert server.requests == 3


def test_it_looks_at_the_candidate_the_router_named(server: ScriptedServer, shop: Database) -> None:
    server.use([FIXED])
    state = state_with(RIGHT, WRONG, decisions=[Decision(step=0, action="reflect", candidate="w")])
    update = Reflect(model=scripted_chat_model(server), database=shop).invoke(state)
    assert update["candidates"][-1].parent == "w"


def test_with_no_answer_to_look_at_the_question_is_asked_again(server: ScriptedServer, shop: Database) -> None:
    server.use([FIXED])
    empty = Candidate(id="e", text="")
    update = Reflect(model=scripted_chat_model(server), database=shop).invoke(state_with(empty))
    assert update["answer"] == RIGHT.answer
    assert server.log[0].params["temperature"] > 0


def test_a_judges_critique_is_told(server: ScriptedServer, shop: Database, assert_prompt: Any) -> None:
    server.use([FIXED])
    verdict = Verdict(score=0.1, label="CONTINUE", critique="It counts every artist.")
    judged = RIGHT.observed(Evidence(verdicts=(verdict,)))
    Reflect(model=scripted_chat_model(server), database=shop, feedback="judge", form="attempt").invoke(
        state_with(judged)
    )
    assert_prompt(server.log[0], "reflect_judge")


def test_after_a_pivot_the_next_attempt_starts_afresh_with_the_summary(server: ScriptedServer, shop: Database) -> None:
    server.use([FIXED])
    verdict = Verdict(score=0.0, label="PIVOT", critique="It joins albums.", summary="One table is enough.")
    judged = RIGHT.observed(Evidence(verdicts=(verdict,)))
    Reflect(model=scripted_chat_model(server), database=shop, feedback="judge").invoke(state_with(judged))
    assert "One table is enough." in server.log[0].last_message
    assert (RIGHT.answer or "") not in server.log[0].text


def test_what_was_observed_is_kept_when_the_budget_ends_before_the_look(server: ScriptedServer, shop: Database) -> None:
    state = state_with(WRONG, budget=Budget(tokens=20))
    update = Reflect(model=scripted_chat_model(server), database=shop).invoke(state)
    assert update["stop_reason"] == "exhausted: tokens"
    assert update["candidates"][0].evidence.execution is not None
    assert update["answer"] == WRONG.answer


def test_a_judge_is_asked_and_charged_if_nobody_has_judged(server: ScriptedServer, shop: Database) -> None:
    server.use(["CONTINUE\nCRITIQUE: It ignores Bo.", FIXED])
    model = scripted_chat_model(server)
    node = Reflect(model=model, database=shop, feedback="judge", judge=Judge(model=model, logprobs=False))
    update = node.invoke(state_with(RIGHT))
    assert "It ignores Bo." in server.log[1].last_message
    assert update["budget"].usage.tokens == server.total
    assert update["candidates"][0].evidence.verdicts[0].label == "CONTINUE"


def test_own_feedback_sees_the_candidate_and_the_state(server: ScriptedServer, shop: Database) -> None:
    def house_style(candidate: Candidate, state: Any) -> str:
        return f"{state['customer']} wants count(1), not {candidate.answer}"

    server.use([FIXED])
    update = Reflect(model=scripted_chat_model(server), database=shop, feedback=house_style, form="repair").invoke(
        state_with(WRONG, customer="Eve")
    )
    assert "Eve wants count(1)" in server.log[0].last_message
    assert update["candidates"][-1].feedback == "house_style"


def test_without_feedback_nothing_is_run_or_told(server: ScriptedServer, shop: Database, assert_prompt: Any) -> None:
    server.use([FIXED])
    update = Reflect(model=scripted_chat_model(server), database=shop, feedback="none", form="attempt").invoke(
        state_with(WRONG)
    )
    assert update["budget"].usage.executions == 0
    assert_prompt(server.log[0], "reflect_none")


async def test_the_async_twin_does_the_same(server: ScriptedServer, shop: Database) -> None:
    server.use([FIXED])
    update = await Reflect(model=scripted_chat_model(server), database=shop).ainvoke(state_with(WRONG))
    assert update["candidates"][-1].answer == RIGHT.answer
