"""Generate: one answer, exactly asked for and exactly charged."""

from __future__ import annotations

from typing import Any

import pytest

from tta_langgraph import Budget
from tta_langgraph.nodes import Demonstrations, Execute, Generate
from tta_langgraph.parsers import number
from tta_langgraph.sql import Database
from tta_langgraph.state import merge_candidates
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

QUESTION = "How many artists are from Norway?"
GOOD = "```sql\nSELECT count(*) FROM artist WHERE country = 'Norway'\n```"


def test_the_prompt_is_instruction_schema_and_question(
    server: ScriptedServer, shop: Database, assert_prompt: Any
) -> None:
    server.use([GOOD])
    Generate(model=scripted_chat_model(server), database=shop).invoke({"question": QUESTION})
    assert_prompt(server.log[0], "generate_sql")


def test_the_system_message_is_the_same_for_every_question(server: ScriptedServer, shop: Database) -> None:
    server.use([GOOD, GOOD])
    node = Generate(model=scripted_chat_model(server), database=shop)
    node.invoke({"question": QUESTION})
    node.invoke({"question": "Who made album Five?"})
    first, second = (request.messages for request in server.log)
    assert first[0] == second[0]
    assert second[1]["content"] == "Who made album Five?"


def test_its_charge_is_what_the_server_processed(server: ScriptedServer, shop: Database) -> None:
    server.use([GOOD])
    update = Generate(model=scripted_chat_model(server), database=shop).invoke(
        {"question": QUESTION, "budget": Budget(tokens=4_000)}
    )
    usage = update["budget"].usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (server.prompt_tokens, server.completion_tokens)
    assert usage.model_calls == 1
    assert update["budget"].remaining.tokens == 4_000 - server.total
    assert update["candidates"][0].usage.tokens == server.total


def test_a_query_has_no_key_until_it_was_executed(server: ScriptedServer, shop: Database) -> None:
    server.use([GOOD])
    made = Generate(model=scripted_chat_model(server), database=shop).invoke({"question": QUESTION})
    assert made["answer"] == "SELECT count(*) FROM artist WHERE country = 'Norway'"
    assert made["candidates"][0].key is None
    ran = Execute(database=shop).invoke({"question": QUESTION, **made})
    [candidate] = merge_candidates(made["candidates"], ran["candidates"])
    assert candidate.key is not None
    assert candidate.evidence.execution is not None
    assert candidate.evidence.execution.n_rows == 1
    assert ran["result"]["rows"] == [[2]]


def test_other_tasks_bring_their_own_prompt_parser_and_key(server: ScriptedServer, assert_prompt: Any) -> None:
    server.use(["Two plus two.\n#### 4.0"])
    node = Generate(
        model=scripted_chat_model(server), prompt=lambda state: [("human", state["question"] + " Think.")], parse=number
    )
    update = node.invoke({"question": "2 + 2?"})
    assert update["answer"] == "4"
    assert update["candidates"][0].key == "4"
    assert_prompt(server.log[0], "generate_own_prompt")


def test_the_question_may_be_the_last_human_message(server: ScriptedServer) -> None:
    server.use(["Oslo"])
    update = Generate(model=scripted_chat_model(server)).invoke({"messages": [("user", "Capital of Norway?")]})
    assert update["answer"] == "Oslo"
    assert server.log[0].last_message == "Capital of Norway?"


def test_demonstrations_stand_between_system_and_question(
    server: ScriptedServer, shop: Database, assert_prompt: Any
) -> None:
    store = Demonstrations(k=1)
    store.add("How many albums are from 2001?", "```sql\nSELECT count(*) FROM album WHERE year = 2001\n```")
    store.add("Which cheese is best?", "```sql\nSELECT 1\n```")
    server.use([GOOD])
    Generate(model=scripted_chat_model(server), database=shop, demonstrations=store).invoke({"question": QUESTION})
    assert_prompt(server.log[0], "generate_demonstrations")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(""), "empty"),
        (Reply("%$&/ ?? !!"), "garbage"),
        (Reply("I'm sorry, I cannot help with that."), "refusal"),
        (Reply("Let me think about the tables. " * 40), "never-ending"),
    ],
)
def test_a_useless_reply_is_a_candidate_without_an_answer(
    server: ScriptedServer, shop: Database, reply: Reply, kind: str
) -> None:
    server.use([reply])
    update = Generate(model=scripted_chat_model(server), database=shop, max_tokens=50).invoke(
        {"question": QUESTION, "budget": Budget(tokens=4_000)}
    )
    [candidate] = update["candidates"]
    assert (candidate.answer, candidate.key, update["answer"]) == (None, None, None)
    assert candidate.finish_reason == ("length" if kind == "never-ending" else "stop")
    assert update["budget"].usage.tokens == server.total


def test_a_reply_that_was_cut_off_is_executed_and_found_out(server: ScriptedServer, shop: Database) -> None:
    server.use(["```sql\nSELECT name FROM artist WHERE country = 'Norway' AND name IN (SELECT"])
    made = Generate(model=scripted_chat_model(server), database=shop, max_tokens=12).invoke({"question": QUESTION})
    ran = Execute(database=shop).invoke({"question": QUESTION, **made})
    assert made["candidates"][0].finish_reason == "length"
    assert all(c.evidence.execution is None or not c.evidence.execution.ok for c in ran["candidates"])


def test_an_exhausted_budget_ends_the_episode_instead_of_raising(server: ScriptedServer, shop: Database) -> None:
    update = Generate(model=scripted_chat_model(server), database=shop).invoke(
        {"question": QUESTION, "budget": Budget(tokens=20)}
    )
    assert update["stop_reason"] == "exhausted: tokens"
    assert server.requests == 0


async def test_the_async_twin_asks_the_same(server: ScriptedServer, shop: Database) -> None:
    server.use([GOOD, GOOD])
    node = Generate(model=scripted_chat_model(server), database=shop)
    await node.ainvoke({"question": QUESTION})
    node.invoke({"question": QUESTION})
    assert server.log[0].messages == server.log[1].messages
