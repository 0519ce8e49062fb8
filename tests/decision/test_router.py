"""The router inside a real LangGraph graph: decides, records, streams, routes."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from tests.decision.stub_predictor import Stub, forecast
from tta_langgraph import events
from tta_langgraph.budget import Budget, BudgetTracker
from tta_langgraph.decision import Policy, UtilityRouter, add_budget_router, last_decision, planned_samples
from tta_langgraph.errors import GraphError
from tta_langgraph.scope import budget_scope
from tta_langgraph.state import Candidate, Decision, EpisodeState, merge_decisions


class State(EpisodeState):
    customer: str


def graph(candidate: Any, policy: Policy | None, routes: dict[str, str], **options: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("answer", lambda state: {"candidates": [] if state.get("candidates") else [candidate("a")]})
    builder.add_node("sample", lambda state: {"candidates": [candidate("b") for _ in range(planned_samples(state))]})
    builder.add_node("give_up", lambda state: {"customer": "sorry"})
    builder.add_edge(START, "answer")
    builder.add_edge("sample", "answer")
    assert add_budget_router(builder, after="answer", routes=routes, policy=policy, **options) is builder
    return builder.compile()


def samples_until_three() -> Policy:
    return Policy(
        predictor=Stub(0.4, (forecast("resample(2)", 0.9),)), actions=["resample(2)"], max_steps=1, selection="majority"
    )


def test_a_decision_routes_is_recorded_and_streamed(candidate: Any) -> None:
    app = graph(candidate, samples_until_three(), {"resample": "sample"})
    seen = list(app.stream({"question": "q", "customer": "Ann"}, stream_mode=["custom", "values"]))
    events_seen = [event for mode, event in seen if mode == "custom"]
    final = seen[-1][1]
    assert [event["action"] for event in events_seen] == ["resample", "stop"]
    assert [d.action for d in final["decisions"]] == ["resample", "stop"]
    assert [d.id for d in final["decisions"]] == [event["id"] for event in events_seen]
    assert events_seen[0]["reason"] == final["decisions"][0].reason
    assert len(final["candidates"]) == 3
    assert (final["stop_reason"], final["customer"]) == ("stop", "Ann")


def test_the_answer_after_each_decision_is_the_policys_choice(candidate: Any) -> None:
    final = graph(candidate, samples_until_three(), {"resample": "sample"}).invoke({"question": "q"})
    assert final["answer"] == "SELECT b"
    assert final["best"].id == final["decisions"][-1].candidate


async def test_the_same_graph_runs_asynchronously(candidate: Any) -> None:
    final = await graph(candidate, samples_until_three(), {"resample": "sample"}).ainvoke({"question": "q"})
    assert [d.action for d in final["decisions"]] == ["resample", "stop"]


def test_stop_and_abstain_lead_to_nodes_of_their_own_if_they_are_mapped(candidate: Any) -> None:
    unsure = Policy.default(actions=["resample(1)"]).with_utility(wrong=50.0, per_token=1.0)
    final = graph(candidate, unsure, {"resample": "sample", "abstain": "give_up"}).invoke({"question": "q"})
    assert (final["stop_reason"], final["customer"]) == ("abstain", "sorry")


def test_without_a_policy_the_default_one_takes_the_actions_of_the_routes(candidate: Any) -> None:
    final = graph(candidate, None, {"resample": "sample"}).invoke({"question": "q", "budget": Budget(tokens=50_000)})
    offered = {row["action"] for row in final["decisions"][0].forecasts}
    assert offered >= {"resample(1)", "resample(2)", "resample(4)"}
    assert "reflect" not in offered


def test_after_a_node_ran_out_it_ends_and_keeps_the_reason(candidate: Any) -> None:
    state = {"candidates": [candidate("a")], "stop_reason": "exhausted: tokens"}
    update = UtilityRouter(samples_until_three())(state)
    assert update["decisions"][0].action == "stop"
    assert update["stop_reason"] == "exhausted: tokens"
    assert update["answer"] == "SELECT a"


def test_listeners_of_the_process_hear_of_decisions_outside_a_graph_too(candidate: Any) -> None:
    heard: list[Any] = []
    unsubscribe = events.subscribe(heard.append)
    try:
        UtilityRouter(samples_until_three()).invoke({"candidates": [candidate("a")]})
    finally:
        unsubscribe()
    assert [(e["type"], e["action"], e["n"]) for e in heard] == [("decision", "resample", 2)]


def test_as_a_bare_conditional_edge_it_decides_without_a_node(candidate: Any) -> None:
    router = UtilityRouter(samples_until_three())
    builder = StateGraph(State)
    builder.add_node("answer", lambda state: {"candidates": [candidate("a")]})
    builder.add_node("sample", lambda state: {"customer": "sampled"})
    builder.add_edge(START, "answer")
    builder.add_conditional_edges("answer", router.edge, {"resample": "sample", "stop": END})
    assert builder.compile().invoke({"question": "q"})["customer"] == "sampled"


def test_reading_a_decision_before_there_is_one_says_what_to_do(candidate: Any) -> None:
    with pytest.raises(GraphError, match="add_budget_router"):
        last_decision({"decisions": []})
    assert planned_samples({}, default=3) == 3


def test_a_state_without_list_channels_is_refused() -> None:
    with pytest.raises(GraphError, match="EpisodeState"):
        UtilityRouter(samples_until_three())({"candidates": "three"})


def test_a_budget_that_is_nearly_spent_closes_what_does_not_fit(candidate: Any) -> None:
    rich = Policy(predictor=Stub(0.1, (forecast("resample(2)", 0.9, 5_000),)), actions=["resample(2)"])
    final = graph(candidate, rich, {"resample": "sample"}).invoke({"question": "q", "budget": Budget(tokens=4_000)})
    assert [d.action for d in final["decisions"]] == ["stop"]
    assert "5000 tokens at p90, 4000 left" in final["decisions"][0].reason


def test_the_reserve_is_not_offered_to_actions(candidate: Any) -> None:
    rich = Policy(predictor=Stub(0.1, (forecast("resample(2)", 0.9, 950),)), actions=["resample(2)"], max_steps=1)
    app = graph(candidate, rich, {"resample": "sample"})
    reserved = app.invoke({"question": "q", "budget": Budget(tokens=1_000, reserve=100)})
    whole = app.invoke({"question": "q", "budget": Budget(tokens=1_000)})
    assert reserved["decisions"][0].action == "stop"
    assert whole["decisions"][0].action == "resample"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"after": "answr"}, "no node 'answr'"),
        ({"after": []}, "no node to decide after"),
        ({"routes": {"resample": "smaple"}}, "no node 'smaple'"),
        ({"routes": {"resample": "sample", "stop": "nowhere"}}, "no node 'nowhere'"),
        ({"routes": {"reflect": "sample"}}, "never takes 'reflect'"),
        ({"routes": {"resample(2)": "sample"}}, "not an action's name"),
        ({"routes": {}}, "none of the policy's actions"),
        ({"name": "sample"}, "already"),
        ({"policy": Policy.static("reflect", 2)}, "takes 'reflect'"),
    ],
)
def test_a_router_that_cannot_work_is_refused_when_it_is_added(change: dict[str, Any], says: str) -> None:
    builder = StateGraph(State)
    builder.add_node("answer", lambda state: state)
    builder.add_node("sample", lambda state: state)
    options: dict[str, Any] = {"after": "answer", "routes": {"resample": "sample"}, "policy": samples_until_three()}
    with pytest.raises(GraphError, match=says.replace("(", r"\(")):
        add_budget_router(builder, **{**options, **change})


@pytest.mark.parametrize("given", [{}, {"budget": Budget(tokens=50_000)}])
def test_what_a_scope_around_the_graph_has_left_bounds_the_decision(candidate: Any, given: dict[str, Any]) -> None:
    rich = Policy(predictor=Stub(0.1, (forecast("resample(2)", 0.9, 5_000),)), actions=["resample(2)"], max_steps=1)
    app = graph(candidate, rich, {"resample": "sample"})
    with budget_scope(Budget(tokens=4_000)):
        final = app.invoke({"question": "q", **given})
    assert [(d.action, d.tokens_left) for d in final["decisions"]] == [("stop", 4_000)]


def test_what_a_scope_around_the_graph_holds_back_is_not_offered_either(candidate: Any) -> None:
    rich = Policy(predictor=Stub(0.1, (forecast("resample(2)", 0.9, 950),)), actions=["resample(2)"], max_steps=1)
    app = graph(candidate, rich, {"resample": "sample"})
    own = Budget(tokens=50_000, seconds=900, reserve={"tokens": 40_000, "seconds": 60})
    with budget_scope(Budget(tokens=1_000, seconds=900, reserve={"tokens": 100, "seconds": 600})):
        [decision] = app.invoke({"question": "q", "budget": own})["decisions"]
    assert (decision.action, decision.tokens_left) == ("stop", 900)
    assert 0 < decision.seconds_left <= 300


class Bare(TypedDict):
    question: str


class WithoutReducers(TypedDict):
    budget: BudgetTracker
    candidates: list[Candidate]
    decisions: Annotated[list[Decision], merge_decisions]
    best: Candidate
    answer: str
    stop_reason: str


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (Bare, "no budget, candidates, decisions, best, answer, stop_reason"),
        (WithoutReducers, "no reducer for budget, candidates"),
    ],
)
def test_a_state_that_would_drop_the_budget_is_refused(schema: type[Any], says: str) -> None:
    builder = StateGraph(schema)
    builder.add_node("answer", lambda state: state)
    builder.add_node("sample", lambda state: state)
    with pytest.raises(GraphError, match=f"{says}.*EpisodeState"):
        add_budget_router(builder, after="answer", routes={"resample": "sample"})
