"""Promise 4 and 7: the state channel is a union of charges, through fan-out, retries, sub-graphs and time travel."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Annotated, Any, TypedDict

from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

from tta_langgraph import Budget, EpisodeState, budget_scope, budgeted
from tta_langgraph.budget import BudgetTracker, Charge, Usage, merge_budget
from tta_langgraph.errors import BudgetExceededError
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

charges = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 100), max_size=6).map(
    lambda found: {k: Charge(id=k, usage=Usage(prompt_tokens=ord(k))) for k in found}
)


def tracker(found: dict[str, Charge]) -> BudgetTracker:
    return BudgetTracker(episode="e", budget=Budget(tokens=1_000), started=1.0, charges=found)


@given(charges, charges, charges)
def test_the_reducer_is_commutative_associative_and_idempotent(a: Any, b: Any, c: Any) -> None:
    x, y, z = tracker(a), tracker(b), tracker(c)
    assert merge_budget(x, y).charges == merge_budget(y, x).charges
    assert merge_budget(merge_budget(x, y), z).charges == merge_budget(x, merge_budget(y, z)).charges
    assert merge_budget(x, x).charges == x.charges


def test_send_branches_that_never_see_the_budget_draw_on_it_all_the_same() -> None:
    with ScriptedServer(script=lambda _: "ok") as server:
        model = budgeted(scripted_chat_model(server))
        builder = StateGraph(EpisodeState)
        builder.add_node("branch", lambda state: model.invoke(f"branch {state['n']}") and {})
        builder.add_conditional_edges(START, lambda _: [Send("branch", {"n": n}) for n in range(9)], ["branch"])
        builder.add_edge("branch", END)
        state = builder.compile().invoke({"question": "?", "budget": Budget(tokens=10_000)})
        assert len(state["budget"].charges) == 9
        assert state["budget"].usage.tokens == server.total
        assert state["budget"].remaining.tokens == 10_000 - server.total


def test_a_node_shows_as_one_update_however_often_it_calls() -> None:
    with ScriptedServer(script=lambda _: "ok") as server:
        model = budgeted(scripted_chat_model(server))
        builder = StateGraph(EpisodeState)
        builder.add_node("ask", lambda state: {"answer": "".join(model.invoke(f"{n}?").text for n in range(3))})
        builder.set_entry_point("ask")
        start = {"question": "?", "budget": Budget(tokens=10_000)}
        (update,) = builder.compile().stream(start, stream_mode="updates")

        assert update["ask"]["answer"] == "okokok"
        assert len(update["ask"]["budget"].charges) == 3
        assert update["ask"]["budget"].usage.tokens == server.total


def test_calls_that_a_node_makes_at_the_same_time_are_all_in_the_state() -> None:
    with ScriptedServer(script=lambda _: "ok", latency=0.01) as server:
        model = budgeted(scripted_chat_model(server))
        builder = StateGraph(EpisodeState)
        builder.add_node("ask", lambda state: model.batch([f"{n}?" for n in range(40)]) and {})
        builder.set_entry_point("ask")
        state = builder.compile().invoke({"question": "?", "budget": Budget(tokens=100_000)})

        assert len(state["budget"].charges) == 40
        assert state["budget"].usage.tokens == server.total


def test_a_node_that_fails_and_is_retried_loses_no_charge() -> None:
    with ScriptedServer(script=lambda _: "ok") as server:
        model = budgeted(scripted_chat_model(server))
        tries = []

        def flaky(state: EpisodeState) -> dict[str, Any]:
            model.invoke(f"try {len(tries)}")
            tries.append(1)
            if len(tries) < 3:
                raise ConnectionError("the node's own trouble")
            return {"answer": "done"}

        builder = StateGraph(EpisodeState)
        builder.add_node("flaky", flaky, retry_policy=RetryPolicy(initial_interval=0.01, max_attempts=3))
        builder.add_edge(START, "flaky")
        state = builder.compile().invoke({"question": "?", "budget": Budget(tokens=10_000)})
        assert len(state["budget"].charges) == server.requests == 3
        assert state["budget"].usage.tokens == server.total


def test_a_sub_graph_with_a_schema_of_its_own_draws_on_the_run_that_it_is_part_of() -> None:
    class Other(TypedDict):
        text: str

    with ScriptedServer(script=lambda _: "ok") as server:
        model = budgeted(scripted_chat_model(server))
        inner = StateGraph(Other)
        inner.add_node("call", lambda state: {"text": model.invoke(state["text"]).text})
        inner.add_edge(START, "call")
        compiled = inner.compile()

        def outer(state: EpisodeState) -> dict[str, Any]:
            with budget_scope(state["budget"]):
                return {"answer": compiled.invoke({"text": "inside"})["text"]}

        builder = StateGraph(EpisodeState)
        builder.add_node("outer", outer)
        builder.add_node("after", lambda state: model.invoke("after") and {})
        builder.add_edge(START, "outer")
        builder.add_edge("outer", "after")
        state = builder.compile().invoke({"question": "?", "budget": Budget(tokens=10_000)})
        assert len(state["budget"].charges) == 2
        assert state["budget"].usage.tokens == server.total


def test_a_branch_with_a_smaller_budget_is_held_to_it_and_counts_in_the_whole() -> None:
    class Branch(TypedDict):
        budget: Annotated[BudgetTracker, merge_budget]

    with ScriptedServer(script=lambda _: "word " * 500) as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=400)
        inner = StateGraph(Branch)
        inner.add_node("call", lambda state: model.invoke("x") and {})
        inner.add_edge(START, "call")
        builder = StateGraph(EpisodeState)
        builder.add_node("small", inner.compile())
        builder.add_node("start", lambda state: {})
        builder.add_edge(START, "start")
        builder.add_conditional_edges(
            "start",
            lambda s: [Send("small", {"budget": s["budget"].nested(Budget(tokens=t))}) for t in (50, 90)],
            ["small"],
        )
        state = builder.compile().invoke({"question": "?", "budget": Budget(tokens=10_000)})
        assert sorted(charge.usage.tokens for charge in state["budget"].charges.values()) == [50, 90]
        assert state["budget"].usage.tokens == server.total == 140
        assert state["budget"].budget.tokens == 10_000


def test_scopes_nest_and_hold_for_any_graph() -> None:
    with ScriptedServer(script=lambda _: "ok") as server:
        model = budgeted(scripted_chat_model(server))
        with budget_scope(Budget(tokens=10_000)) as outer:
            model.invoke("one")
            with budget_scope(Budget(tokens=500)) as inner:
                model.invoke("two")
            model.invoke("three")
        assert (len(outer.tracker.charges), len(inner.tracker.charges)) == (3, 1)
        assert outer.tracker.usage.tokens == server.total


def test_threads_that_carry_the_context_share_the_budget() -> None:
    with ScriptedServer(script=lambda _: "ok") as server:
        model = budgeted(scripted_chat_model(server))
        with budget_scope(Budget(tokens=10_000)) as scope, ThreadPoolExecutor(8) as threads:
            for n in range(16):
                threads.submit(copy_context().run, model.invoke, f"{n}")
        assert len(scope.tracker.charges) == 16
        assert scope.tracker.usage.tokens == server.total


def test_batch_draws_on_the_budget() -> None:
    with ScriptedServer(script=lambda _: "ok") as server:
        with budget_scope(Budget(tokens=10_000)) as scope:
            budgeted(scripted_chat_model(server)).batch([f"{n}" for n in range(5)])
        assert scope.tracker.usage.tokens == server.total
        assert len(scope.tracker.charges) == 5


def test_time_travel_counts_what_was_really_spent_once() -> None:
    with ScriptedServer(script=lambda _: "ok") as server:
        model = budgeted(scripted_chat_model(server))
        builder = StateGraph(EpisodeState)
        for name in ("first", "second"):
            builder.add_node(name, lambda state, name=name: model.invoke(name) and {})
        builder.add_edge(START, "first")
        builder.add_edge("first", "second")
        graph = builder.compile(checkpointer=InMemorySaver())
        config = {"configurable": {"thread_id": "t"}}
        graph.invoke({"question": "?", "budget": Budget(tokens=10_000)}, config)
        before_second = next(s for s in graph.get_state_history(config) if s.next == ("second",))
        state = graph.invoke(None, before_second.config)
        assert len(state["budget"].charges) == server.requests == 3
        assert state["budget"].usage.tokens == server.total


def test_spending_is_streamed_live() -> None:
    with ScriptedServer(script=lambda _: "ok") as server:
        model = budgeted(scripted_chat_model(server))
        builder = StateGraph(EpisodeState)
        builder.add_node("call", lambda state: model.invoke("x") and {})
        builder.add_edge(START, "call")
        seen = list(builder.compile().stream({"question": "?", "budget": Budget(tokens=1_000)}, stream_mode="custom"))
        [event] = [item for item in seen if item["type"] == "charge"]
        assert event["source"] == "call"
        assert event["tokens_left"] == 1_000 - server.total


def test_a_second_question_on_a_thread_gets_a_budget_of_its_own() -> None:
    first = merge_budget(None, Budget(tokens=100))
    spent = first.with_charges({"a": Charge(id="a", usage=Usage(prompt_tokens=90))})
    again = merge_budget(spent, Budget(tokens=100))
    assert again.remaining.tokens == 100
    assert again.episode != first.episode


def test_the_registry_of_ledgers_is_safe_to_enter_from_many_threads() -> None:
    from tta_langgraph.scope import ledger_for

    shared = BudgetTracker.start(Budget(tokens=10))
    found: list[object] = []
    barrier = threading.Barrier(8)

    def look() -> None:
        barrier.wait()
        found.append(ledger_for(shared))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_what_an_interrupted_attempt_spent_is_in_the_state_also_if_the_next_one_is_refused() -> None:
    with ScriptedServer(script=lambda _: "word " * 50) as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=100)

        def node(state: EpisodeState) -> dict[str, Any]:
            try:
                model.invoke("x")
            except BudgetExceededError:
                return {"answer": "nothing left"}
            return {"answer": interrupt("go on?")}

        builder = StateGraph(EpisodeState)
        builder.add_node("node", node)
        builder.add_edge(START, "node")
        graph, config = builder.compile(checkpointer=InMemorySaver()), {"configurable": {"thread_id": "t"}}
        graph.invoke({"question": "?", "budget": Budget(tokens=60)}, config)
        state = graph.invoke(Command(resume="yes"), config)
        assert state["answer"] == "nothing left"
        assert state["budget"].usage.tokens == server.total > 0
