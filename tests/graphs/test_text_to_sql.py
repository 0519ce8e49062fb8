"""The spine: generate -> execute -> decide -> again or answer, on a real database, with a scripted model server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState, StateGraph

from tta_langgraph import Budget, EpisodeState, Policy, Utility
from tta_langgraph.errors import DatabaseError
from tta_langgraph.graphs import TextToSQLState, create_text_to_sql_graph
from tta_langgraph.nodes import Demonstrations
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

WRONG = "SELECT nam FROM customers"
RIGHT = "SELECT name FROM customers ORDER BY name"
CHEAP = Utility(per_token=1e-6, per_second=1e-6)
QUESTION = "What are the customers' names?"


def graph_on(server: ScriptedServer, shop: str, **options: Any) -> Any:
    return create_text_to_sql_graph(scripted_chat_model(server), shop, **options).compile()


def fenced(sql: str) -> str:
    return f"```sql\n{sql}\n```"


@pytest.mark.parametrize("action", ["resample(2)", "reflect"])
async def test_a_query_that_fails_gets_another_step_and_the_answer_comes_with_its_rows(action: str, shop: str) -> None:
    policy = Policy.default("sql", utility=CHEAP, actions=[action])
    script = [fenced(WRONG), Reply(texts=[fenced(RIGHT)] * 2), *[fenced(RIGHT)] * 8]
    with ScriptedServer(script=script) as server:
        state = await graph_on(server, shop, policy=policy).ainvoke(
            {"question": QUESTION, "budget": Budget(tokens=20_000, seconds=60)}
        )
        assert state["answer"] == RIGHT
        assert state["result"]["rows"] == [["Ada"], ["Edsger"], ["Grace"]]
        first, *others = state["candidates"]
        assert "no such column: nam" in first.evidence.execution.error
        assert others[0].action == ("reflect" if action == "reflect" else "resample")
        assert state["decisions"][0].action == action.partition("(")[0]
        assert state["decisions"][-1].action == "stop"
        assert state["stop_reason"] == "stop"
        assert state["budget"].usage.tokens == server.total
        assert state["budget"].usage.executions >= 2


def test_every_decision_tells_what_it_was_based_on(shop: str) -> None:
    with ScriptedServer(script=lambda _: fenced(RIGHT)) as server:
        state = graph_on(server, shop).invoke({"question": QUESTION, "budget": Budget(tokens=20_000)})
    for decision in state["decisions"]:
        offered = {row["action"]: row for row in decision.forecasts}
        assert {"stop", "reflect"} <= set(offered)
        assert all({"p_correct", "tokens", "seconds", "utility", "feasible"} <= set(row) for row in offered.values())
        assert decision.predictor
        assert decision.reason
        assert decision.tokens_left < 20_000


def test_when_the_budget_ends_the_best_answer_so_far_comes_back(shop: str) -> None:
    policy = Policy.static("best_of", 6)
    with ScriptedServer(script=lambda _: fenced(RIGHT)) as server:
        prompt = graph_on(server, shop).invoke({"question": QUESTION})["candidates"][0].usage.tokens
        state = graph_on(server, shop, policy=policy).invoke(
            {"question": QUESTION, "budget": Budget(tokens=prompt + 100)}
        )
    assert state["answer"] == RIGHT
    assert state["result"]["rows"]
    assert state["budget"].usage.tokens <= prompt + 100


def test_each_question_on_a_thread_starts_with_an_empty_slate_and_its_own_budget(shop: str) -> None:
    with ScriptedServer(script=lambda _: fenced(RIGHT)) as server:
        graph = create_text_to_sql_graph(
            scripted_chat_model(server), shop, budget=Budget(tokens=5_000), policy=Policy.static("one_shot")
        ).compile(checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "one"}}
        first = graph.invoke({"question": QUESTION}, config)
        second = graph.invoke({"question": "And again?"}, config)
    assert len(first["candidates"]) == len(second["candidates"]) == 1
    assert first["budget"].episode != second["budget"].episode
    assert len(second["budget"].charges) == len(first["budget"].charges)
    assert len(second["decisions"]) == 1


def test_abstaining_gives_no_answer_and_keeps_the_candidate(shop: str) -> None:
    policy = Policy.default("sql", utility=Utility(wrong=1_000.0, per_token=1.0, per_second=1.0))
    with ScriptedServer(script=lambda _: fenced(RIGHT)) as server:
        state = graph_on(server, shop, policy=policy).invoke({"question": QUESTION, "budget": Budget(tokens=20_000)})
    assert state["stop_reason"] == "abstain"
    assert state["answer"] is None
    assert state["result"] is None
    assert state["best"].answer == RIGHT


def test_a_larger_model_is_called_in_where_the_policy_says_so(shop: str) -> None:
    policy = Policy.default("sql", utility=CHEAP, actions=["escalate"])
    with (
        ScriptedServer(script=lambda _: fenced(WRONG)) as small,
        ScriptedServer(script=lambda _: fenced(RIGHT)) as large,
    ):
        graph = create_text_to_sql_graph(
            scripted_chat_model(small), shop, policy=policy, escalate_to=scripted_chat_model(large)
        ).compile()
        state = graph.invoke({"question": QUESTION, "budget": Budget(tokens=20_000)})
        assert state["answer"] == RIGHT
        assert state["budget"].usage.tokens == small.total + large.total
        assert large.requests == 1


def test_what_the_larger_model_answered_well_is_shown_to_the_smaller_one_next_time(shop: str) -> None:
    policy = Policy.default("sql", utility=CHEAP, actions=["escalate"])
    store = Demonstrations()
    with (
        ScriptedServer(script=lambda r: fenced(RIGHT if RIGHT in r.text else WRONG)) as small,
        ScriptedServer(script=lambda _: fenced(RIGHT)) as large,
    ):
        graph = create_text_to_sql_graph(
            scripted_chat_model(small),
            shop,
            policy=policy,
            escalate_to=scripted_chat_model(large),
            demonstrations=store,
        ).compile()
        graph.invoke({"question": QUESTION, "budget": Budget(tokens=20_000)})
        state = graph.invoke({"question": "What are all customers' names?", "budget": Budget(tokens=20_000)})
        assert state["answer"] == RIGHT
        assert state["candidates"][0].answer == RIGHT, "the second time, the small model knows"
        roles = [message["role"] for message in small.log[-1].messages]
        assert roles == ["system", "user", "assistant", "user"]
        assert len(large.log[-1].messages) == 2, "the larger model needs no example"
        assert state["budget"].usage.tokens == small.log[-1].tokens + large.log[-1].tokens


def test_the_judge_is_asked_and_charged_where_the_policy_says_so(shop: str) -> None:
    policy = Policy.default("sql", utility=CHEAP, actions=["reflect:judge"])
    replies = [fenced(WRONG), "CONTINUE: the column is called name", fenced(RIGHT), *["SUCCESS"] * 5, fenced(RIGHT)]
    with ScriptedServer(script=replies) as server:
        state = graph_on(server, shop, policy=policy).invoke({"question": QUESTION, "budget": Budget(tokens=20_000)})
        sources = {charge.source for charge in state["budget"].charges.values()}
        assert any("judge" in source for source in sources)
        assert state["budget"].usage.tokens == server.total


def test_state_of_the_users_own_passes_through(shop: str) -> None:
    class Mine(TextToSQLState, total=False):
        customer: str

    with ScriptedServer(script=lambda _: fenced(RIGHT)) as server:
        state = graph_on(server, shop, state_schema=Mine).invoke({"question": QUESTION, "customer": "Ada"})
    assert state["customer"] == "Ada"
    assert state["answer"] == RIGHT


def test_steps_and_spending_are_streamed(shop: str) -> None:
    with ScriptedServer(script=lambda _: fenced(RIGHT)) as server:
        events = list(graph_on(server, shop).stream({"question": QUESTION}, stream_mode="custom"))
    kinds = [event["type"] for event in events]
    assert "charge" in kinds
    assert "decision" in kinds
    assert len({event["episode"] for event in events}) == 1
    json.dumps(events, allow_nan=False)  # as a server's stream sends them: JSON knows no infinity


def test_writes_of_a_model_never_reach_the_database(shop: str) -> None:
    before = Path(shop.removeprefix("sqlite:///")).read_bytes()
    with ScriptedServer(script=lambda _: fenced("DELETE FROM customers")) as server:
        state = graph_on(server, shop).invoke({"question": QUESTION, "budget": Budget(tokens=5_000)})
    assert state["candidates"][0].evidence.execution.error_kind == "refused"
    assert Path(shop.removeprefix("sqlite:///")).read_bytes() == before


def test_a_database_that_is_not_there_is_said_at_once() -> None:
    with ScriptedServer(script=lambda _: "x") as server, pytest.raises(DatabaseError, match="no such database"):
        create_text_to_sql_graph(scripted_chat_model(server), "sqlite:///nowhere/none.sqlite")


def test_the_development_server_finds_its_graphs() -> None:
    root = Path(__file__).parents[2]
    declared = json.loads((root / "langgraph.json").read_text())["graphs"]
    for target in declared.values():
        path, _, name = target.partition(":")
        assert (root / path).exists()
        assert f"def {name}(" in (root / path).read_text() or f"{name} =" in (root / path).read_text()


def test_a_state_can_be_both_ours_and_langgraphs() -> None:
    class Mine(EpisodeState, MessagesState):
        customer: str

    builder = StateGraph(Mine)
    builder.add_node("greet", lambda state: {"messages": [("ai", f"Hello {state['customer']}")]})
    builder.set_entry_point("greet")
    state = builder.compile().invoke({"customer": "Ada", "question": "?", "budget": Budget(tokens=10)})
    assert state["messages"][0].content == "Hello Ada"
    assert state["budget"].remaining.tokens == 10
