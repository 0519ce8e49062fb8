"""Plan: parts with budgets of their own, which hold."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from langchain_core.messages import HumanMessage

from tta_langgraph import Budget
from tta_langgraph.decision.apportion import Schedule, apportion
from tta_langgraph.models.prompt_count import count_prompt
from tta_langgraph.nodes import Plan
from tta_langgraph.nodes.plan import read_parts
from tta_langgraph.parsers import number
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, scripted_chat_model

QUESTION = "Ann has 3 bags of 4 apples and eats 2. How many are left?"
PARTS = "1: How many apples does Ann have?\n3: How many are left after eating 2?"


def script(request: LoggedRequest) -> Reply:
    last = request.last_message
    if "Do not answer yet" in last:
        return Reply(PARTS)
    if "Worked out so far" in last:
        return Reply("The answer is 10.")
    return Reply("She has 12 apples." if "does Ann have" in last else "10 are left.")


def test_it_plans_works_the_parts_out_and_answers(server: ScriptedServer, assert_prompt: Any) -> None:
    server.use(script)
    update = Plan(model=scripted_chat_model(server), parse=number).invoke(
        {"question": QUESTION, "budget": Budget(tokens=4_000)}
    )
    assert update["answer"] == "10"
    assert update["candidates"][0].action == "plan"
    assert update["budget"].usage.tokens == server.total
    assert [charge.source for charge in update["budget"].charges.values()] == [
        "plan",
        "plan.part",
        "plan.part",
        "plan.answer",
    ]
    for index, name in enumerate(("plan", "plan_part_1", "plan_part_2", "plan_answer")):
        assert_prompt(server.log[index], name)


def test_a_part_that_never_ends_is_cut_at_its_share_and_the_answer_still_comes(server: ScriptedServer) -> None:
    def endless(request: LoggedRequest) -> Reply:
        planned = "Do not answer yet" in request.last_message or "Worked out so far" in request.last_message
        return script(request) if planned else Reply("and so on " * 2_000)

    server.use(endless)
    update = Plan(model=scripted_chat_model(server), parse=number, tokens=600, max_tokens=5_000).invoke(
        {"question": QUESTION, "budget": Budget(tokens=4_000)}
    )
    parts = [request.tokens for request in server.log[1:3]]
    assert sum(parts) <= 600
    assert parts[1] > parts[0]  # difficulty 3 against 1
    assert update["answer"] == "10"


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_every_schedule_holds_each_part_to_its_share(server: ScriptedServer, schedule: Schedule) -> None:
    def endless(request: LoggedRequest) -> Reply:
        last = request.last_message
        if "Do not answer yet" in last:
            return Reply("2: What is first?\n2: What is second?\n2: What is third?")
        return Reply("The answer is 10.") if "Worked out so far" in last else Reply("and so on " * 2_000)

    server.use(endless)
    plan = Plan(model=scripted_chat_model(server), parse=number, schedule=schedule, tokens=1_800, max_tokens=5_000)
    update = plan.invoke({"question": QUESTION, "budget": Budget(tokens=9_000)})
    prompt = count_prompt(scripted_chat_model(server), [HumanMessage(QUESTION)]).bound
    shares = apportion(1_800, [2, 2, 2], schedule, least=prompt + 2 * plan.least)
    worked = [request for request in server.log if request.last_message.endswith("Answer briefly.")]
    spent, allowed = 0, 0
    for word, share in zip(("first", "second", "third"), shares, strict=True):
        # What a part could not use, say because its prompt alone is longer than its share, goes to the next.
        allowed += share
        spent += sum(request.tokens for request in worked if word in request.last_message)
        assert spent <= allowed, f"{schedule}: {shares}"
    assert worked[0].tokens > 0.9 * shares[0], "a share is there to be used"
    assert update["answer"] == "10"


def test_what_an_easy_part_leaves_over_goes_to_the_next(server: ScriptedServer) -> None:
    def endless(request: LoggedRequest) -> Reply:
        return Reply("and so on " * 2_000) if "left after" in request.last_message else script(request)

    server.use(endless)
    Plan(model=scripted_chat_model(server), tokens=800, max_tokens=5_000).invoke({"question": QUESTION})
    assert sum(request.tokens for request in server.log[1:3]) == 800


@pytest.mark.parametrize("reply", ["SIMPLE", "", "%%%", "I cannot do that.", "2: only one part", "so so " * 300])
def test_a_question_without_parts_is_answered_at_once(server: ScriptedServer, reply: str) -> None:
    server.use([reply, "It is 10."])
    update = Plan(model=scripted_chat_model(server), parse=number).invoke({"question": QUESTION})
    assert update["answer"] == "10"
    assert server.requests == 2
    assert server.log[1].last_message == QUESTION


def test_fewer_parts_are_worked_out_where_the_budget_is_small(server: ScriptedServer) -> None:
    server.use(script)
    update = Plan(model=scripted_chat_model(server), parse=number).invoke(
        {"question": QUESTION, "budget": Budget(tokens=420)}
    )
    assert server.total <= 420
    assert update["candidates"]


def test_no_budget_at_all_is_said_so(server: ScriptedServer) -> None:
    update = Plan(model=scripted_chat_model(server)).invoke({"question": QUESTION, "budget": Budget(tokens=20)})
    assert update["stop_reason"] == "exhausted: tokens"
    assert server.requests == 0


def test_parts_are_read_whatever_bullets_they_have() -> None:
    text = "Here you are:\n1. 2: First?\n- (4) - Second?\n* 9: not a difficulty\n3 | Third?\n5:"
    assert [(p.difficulty, p.text) for p in read_parts(text)] == [(2, "First?"), (4, "Second?"), (3, "Third?")]


async def test_the_async_twin_does_the_same(server: ScriptedServer) -> None:
    server.use(script)
    update = await Plan(model=scripted_chat_model(server), parse=number).ainvoke({"question": QUESTION})
    assert update["answer"] == "10"
