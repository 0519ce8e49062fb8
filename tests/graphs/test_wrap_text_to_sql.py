"""Wrapping a text-to-SQL agent: the database is the evaluator, its rows are the answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda

from tta_langgraph import Budget, Policy
from tta_langgraph.graphs.wrap import wrap_text_to_sql
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

GOOD = "You can use:\n```sql\nSELECT count(*) FROM customers WHERE city = 'Berlin'\n```"
BAD = "```sql\nSELECT count(*) FROM customers WHERE town = 'Berlin'\n```"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer([]) as running:
        yield running


def wrapped(server: ScriptedServer, shop: str, **settings: Any) -> Any:
    agent = create_agent(scripted_chat_model(server), [])
    return wrap_text_to_sql(agent, engine=shop, **settings).compile()


def test_the_query_is_found_run_and_its_rows_returned(server: ScriptedServer, shop: str) -> None:
    server.use([GOOD])
    state = wrapped(server, shop, policy=Policy.one_shot()).invoke({"question": "How many in Berlin?"})
    assert state["answer"] == "SELECT count(*) FROM customers WHERE city = 'Berlin'"
    assert state["result"]["rows"] == [[1]]
    assert state["messages"][-1].text == GOOD
    assert state["budget"].usage.tokens == server.total
    assert state["budget"].usage.executions == 1


def test_a_failed_query_is_sent_back_with_what_the_database_said(server: ScriptedServer, shop: str) -> None:
    server.use([BAD, GOOD])
    state = wrapped(server, shop, policy=Policy.static("reflect", 1)).invoke({"question": "How many in Berlin?"})
    assert "no such column: town" in server.log[1].last_message
    assert state["result"]["rows"] == [[1]]
    assert [d.action for d in state["decisions"]] == ["reflect", "stop"]


@pytest.mark.parametrize("reply", ["CORRECT", "Yes, the query answers the question.", "I cannot do that.", ""])
def test_prose_never_takes_the_place_of_a_query(server: ScriptedServer, shop: str, reply: str) -> None:
    server.use([GOOD, reply])
    state = wrapped(server, shop, policy=Policy.static("reflect", 1)).invoke({"question": "How many in Berlin?"})
    assert state["result"]["rows"] == [[1]]


def test_fresh_runs_vote_by_result(server: ScriptedServer, shop: str) -> None:
    same = "SELECT sum(city = 'Berlin') FROM customers"
    server.use([Reply("SELECT count(*) FROM customers"), Reply(GOOD), Reply(same)])
    state = wrapped(server, shop, policy=Policy.static("best_of", 3)).invoke({"question": "How many in Berlin?"})
    assert state["result"]["rows"] == [[1]]


def test_the_default_policy_works_within_the_budget(server: ScriptedServer, shop: str) -> None:
    server.use(lambda _: BAD)
    state = wrapped(server, shop, budget=Budget(model_calls=4)).invoke({"question": "How many in Berlin?"})
    assert server.requests <= 4
    assert state["answer"] is not None
    assert state["stop_reason"]


def test_what_an_agent_writes_cannot_harm_the_database(server: ScriptedServer, shop: str) -> None:
    state = (
        wrap_text_to_sql(
            RunnableLambda(lambda question: "```sql\nDELETE FROM customers\n```"), engine=shop, policy=Policy.one_shot()
        )
        .compile()
        .invoke({"question": "How many in Berlin?"})
    )
    assert state["best"].evidence.execution.error_kind == "refused"
    check = wrap_text_to_sql(RunnableLambda(lambda q: "SELECT count(*) FROM customers"), engine=shop).compile()
    assert check.invoke({"question": "How many?"})["result"]["rows"] == [[3]]


async def test_the_async_twin_does_the_same(server: ScriptedServer, shop: str) -> None:
    server.use([BAD, GOOD])
    state = await wrapped(server, shop, policy=Policy.static("reflect", 1)).ainvoke({"question": "How many in Berlin?"})
    assert state["result"]["rows"] == [[1]]
