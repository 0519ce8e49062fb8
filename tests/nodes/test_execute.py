"""Execute: what the database says of the candidates."""

from __future__ import annotations

from tta_langgraph import Budget, Candidate
from tta_langgraph.nodes import Execute
from tta_langgraph.sql import Database
from tta_langgraph.state import merge_candidates


def made(id: str, sql: str | None, **more: object) -> Candidate:
    return Candidate(id=id, text=sql or "", answer=sql, **more)  # type: ignore[arg-type]


def test_equal_results_get_equal_keys_and_an_error_gets_none(shop: Database) -> None:
    pool = [
        made("1", "SELECT count(*) FROM artist WHERE country = 'Norway'"),
        made("2", "SELECT sum(country = 'Norway') FROM artist"),
        made("3", "SELECT count(nme) FROM artist"),
        made("4", None),
    ]
    update = Execute(database=shop).invoke({"candidates": pool})
    first, second, third, fourth = merge_candidates(pool, update["candidates"])
    assert first.key == second.key is not None
    assert third.key is None
    assert third.evidence.execution is not None
    assert third.evidence.execution.error_kind == "schema"
    assert "name" in third.evidence.execution.feedback
    assert fourth.evidence.execution is None
    assert update["best"].id == "1"


def test_the_same_query_is_run_once_and_nothing_is_run_twice(shop: Database) -> None:
    pool = [made("1", "SELECT 1"), made("2", "SELECT 1"), made("3", "SELECT 2")]
    node = Execute(database=shop)
    update = node.invoke({"candidates": pool, "budget": Budget(executions=10)})
    assert update["budget"].usage.executions == 2
    assert update["budget"].usage.tokens == 0
    again = node.invoke({**update, "candidates": merge_candidates(pool, update["candidates"])})
    assert again["budget"].usage.executions == 2


def test_the_result_belongs_to_the_best_answer_even_if_the_vote_turns_back(shop: Database) -> None:
    node = Execute(database=shop)
    state = {"candidates": [made("1", "SELECT 1")]}
    state |= node.invoke(state)
    pool = merge_candidates(state["candidates"], [made("2", "SELECT 2"), made("3", "SELECT 2")])
    state |= {"candidates": pool}
    update = node.invoke(state)
    assert update["result"]["rows"] == [[2]]
    state |= update | {"candidates": merge_candidates(pool, update["candidates"])}
    more = [made("4", "SELECT 1 "), made("5", "SELECT 0+1")]
    update = node.invoke({**state, "candidates": [*state["candidates"], *more]})
    assert update["best"].id == "1"
    assert update["result"]["rows"] == [[1]]


def test_hostile_queries_are_evidence_and_not_exceptions(shop: Database) -> None:
    pool = [
        made("1", "DROP TABLE artist"),
        made("2", "SELECT 1; SELECT 2"),
        made("3", "WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM r) SELECT count(*) FROM r"),
    ]
    update = Execute(database=shop, timeout=0.3).invoke({"candidates": pool})
    kinds = [c.evidence.execution.error_kind for c in update["candidates"]]
    assert kinds == ["refused", "refused", "timeout"]
    assert update["answer"] == "DROP TABLE artist"  # the first answer, unexecuted; nothing better is known
    assert update["result"]["error"]


def test_executions_beyond_the_budget_are_left_for_later(shop: Database) -> None:
    pool = [made(str(i), f"SELECT {i}") for i in range(4)]
    update = Execute(database=shop).invoke({"candidates": pool, "budget": Budget(executions=2)})
    ran = [c for c in update["candidates"] if c.evidence.execution is not None]
    assert len(ran) == 2
    assert update["budget"].usage.executions == 2


def test_no_candidates_is_no_work(shop: Database) -> None:
    update = Execute(database=shop).invoke({"candidates": []})
    assert update["candidates"] == []
    assert update["answer"] is None


async def test_the_async_twin_says_the_same(shop: Database) -> None:
    pool = [made("1", "SELECT 1"), made("2", "SELECT nope")]
    node = Execute(database=shop)
    update, twin = node.invoke({"candidates": pool}), await node.ainvoke({"candidates": pool})
    assert [c.key for c in update["candidates"]] == [c.key for c in twin["candidates"]]
