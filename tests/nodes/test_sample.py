"""Sample: several answers, in one request where the server can."""

from __future__ import annotations

from typing import Any

import pytest

from tta_langgraph import Budget, Decision, budget_scope
from tta_langgraph.nodes import Sample
from tta_langgraph.sql import Database
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, scripted_chat_model

QUESTION = "How many artists are from Norway?"


def test_samples_share_one_request_and_one_reading_of_the_prompt(
    server: ScriptedServer, shop: Database, assert_prompt: Any
) -> None:
    server.use([Reply(texts=["SELECT 1", "SELECT 2", "SELECT 3", "I cannot say."])])
    update = Sample(model=scripted_chat_model(server), database=shop, n=4).invoke(
        {"question": QUESTION, "budget": Budget(tokens=9_000)}
    )
    assert server.requests == 1
    assert server.log[0].n == 4
    assert [c.answer for c in update["candidates"]] == ["SELECT 1", "SELECT 2", "SELECT 3", None]
    assert {c.action for c in update["candidates"]} == {"resample"}
    assert update["budget"].usage.tokens == server.total
    assert sum(c.usage.tokens for c in update["candidates"]) == server.total
    assert_prompt(server.log[0], "sample_together")


def test_the_router_says_how_many(server: ScriptedServer) -> None:
    server.use(["a"] * 9)
    node = Sample(model=scripted_chat_model(server))
    node.invoke({"question": "?", "decisions": [Decision(step=0, action="resample", n=3)]})
    node.invoke({"question": "?", "decisions": [Decision(step=0, action="reflect", n=1)]})
    assert [request.n for request in server.log] == [3, 1]


def test_as_many_are_drawn_as_the_budget_has_room_for(server: ScriptedServer) -> None:
    server.use([Reply("word " * 30)])
    update = Sample(model=scripted_chat_model(server), n=8, max_tokens=40).invoke(
        {"question": "Count.", "budget": Budget(tokens=150)}
    )
    assert 1 <= len(update["candidates"]) < 8
    assert server.total <= 150


def test_nothing_is_drawn_and_said_so_when_there_is_no_room_for_one(server: ScriptedServer) -> None:
    update = Sample(model=scripted_chat_model(server), n=8).invoke({"question": "Count.", "budget": Budget(tokens=5)})
    assert update["stop_reason"] == "exhausted: tokens"
    assert server.requests == 0


def test_temperatures_are_spread_and_the_first_is_greedy(server: ScriptedServer) -> None:
    server.use(lambda request: f"answer {request.params['temperature']}")
    update = Sample(model=scripted_chat_model(server), n=3, diversify="temperature", temperature=0.8).invoke(
        {"question": "?"}
    )
    assert [c.answer for c in update["candidates"]] == ["answer 0.0", "answer 0.4", "answer 0.8"]


def test_rephrasing_keeps_the_original_in_the_first_slot_and_charges_the_rephrasing(
    server: ScriptedServer, assert_prompt: Any
) -> None:
    def script(request: LoggedRequest) -> str:
        if request.last_message.startswith("Rewrite"):
            return "1. What is the count of artists from Norway?\n2. How many artists are from Norway?\n- Count them."
        return request.last_message

    server.use(script)
    update = Sample(model=scripted_chat_model(server), n=4, diversify="rephrase").invoke(
        {"question": QUESTION, "budget": Budget(tokens=5_000)}
    )
    assert [c.answer for c in update["candidates"]] == [
        QUESTION,
        "What is the count of artists from Norway?",
        "Count them.",
        QUESTION,  # one of three was the original again, so the last slot has no wording of its own
    ]
    assert update["budget"].usage.tokens == server.total
    assert_prompt(server.log[0], "sample_rephrase")


@pytest.mark.parametrize("reply", ["", "?", "I cannot do that.\n" * 200])
def test_a_useless_rephrasing_costs_no_sample(server: ScriptedServer, reply: str) -> None:
    server.use(lambda request: reply if request.last_message.startswith("Rewrite") else "five")
    update = Sample(model=scripted_chat_model(server), n=2, diversify="rephrase").invoke({"question": QUESTION})
    assert [c.answer for c in update["candidates"]] == ["five", "five"]


def test_branches_that_find_no_budget_are_left_out_and_the_others_kept(server: ScriptedServer) -> None:
    server.use(lambda _: "word " * 40)
    update = Sample(model=scripted_chat_model(server), n=6, diversify="temperature", max_tokens=40).invoke(
        {"question": "?", "budget": Budget(tokens=150)}
    )
    assert 1 <= len(update["candidates"]) < 6
    assert server.total <= 150


async def test_the_async_twin_draws_side_by_side(server: ScriptedServer) -> None:
    server.latency = 0.2
    server.use(lambda _: "x")
    update = await Sample(model=scripted_chat_model(server), n=4, diversify="temperature").ainvoke({"question": "?"})
    assert len(update["candidates"]) == 4
    assert server.peak_in_flight > 1


def test_a_second_request_of_an_episode_does_not_draw_the_first_ones_answers_again() -> None:
    with ScriptedServer(lambda _: "An answer.") as server:
        node = Sample(model=scripted_chat_model(server), n=2, options={"seed": 7})
        state = {"question": "Which?"}
        state = {**state, **node.invoke(state)}
        node.invoke(state)
        assert [request.params["seed"] for request in server.log] == [7, 9]


def test_what_a_budget_around_holds_back_is_not_drawn_on(server: ScriptedServer) -> None:
    server.use(lambda _: Reply("four"))
    node = Sample(model=scripted_chat_model(server), n=8, max_tokens=60)
    with budget_scope(Budget(tokens=1_400, reserve=1_000)):
        update = node.invoke({"question": "Count.", "budget": Budget(tokens=5_000)})
    [request] = server.log
    assert request.params["max_completion_tokens"] == 60, "no sample is cut short"
    assert 1 < len(update["candidates"]) < 8
