"""A graph whose state has no `budget` says so: LangGraph has dropped the one in its input, if there was one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, TypedDict

import pytest
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.types import Send

from tta_langgraph import Budget, EpisodeState, budget_scope, budgeted, unlimited
from tta_langgraph.nodes import Generate
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model


class Own(TypedDict, total=False):
    question: str
    answer: str


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """As in a new process."""
    monkeypatch.setattr(unlimited, "_said", False)
    monkeypatch.setattr(unlimited, "_said_of_input", False)
    caplog.set_level(logging.WARNING, "tta_langgraph")


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    with ScriptedServer(script=lambda _: Reply(text="four")) as server:
        yield scripted_chat_model(server)


def graph(node: Any, schema: Any = Own) -> Any:
    return StateGraph(schema).add_node("node", node).add_edge(START, "node").compile()


def call(model: Any) -> Any:
    counted = budgeted(model)
    return lambda state: {"answer": counted.invoke(state["question"]).text}


ASKED: Any = {"question": "2 + 2?", "budget": Budget(tokens=1_000)}
KINDS = pytest.mark.parametrize("make", [lambda model: Generate(model=model), call], ids=["node", "budgeted model"])


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("tta_langgraph")]


@KINDS
def test_a_budget_that_langgraph_drops_is_missed_with_the_remedy(
    make: Any, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    graph(make(model)).invoke(ASKED)
    [message] = said(caplog)
    assert "`budget`" in message
    assert "EpisodeState" in message
    assert "budget_scope" in message


@KINDS
async def test_who_means_no_budget_is_told_once(make: Any, model: Any, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        graph(make(model)).invoke({"question": "2 + 2?"})
        await graph(make(model)).ainvoke({"question": "2 + 2?"})
    assert len(said(caplog)) == 1


@KINDS
def test_whatever_has_a_budget_says_nothing(make: Any, model: Any, caplog: pytest.LogCaptureFixture) -> None:
    node, inner = make(model), graph(make(model))
    graph(node, EpisodeState).invoke(ASKED)
    with budget_scope(Budget(tokens=1_000)):
        inner.invoke(ASKED)
    after = StateGraph(EpisodeState).add_node("first", node).add_node("then", inner)
    after.add_edge(START, "first").add_edge("first", "then").compile().invoke(ASKED)

    def part(state: Any) -> Any:
        with budget_scope(state["budget"].nested(500)):
            return {"answer": inner.invoke({"question": state["question"]})["answer"]}

    graph(part, EpisodeState).invoke(ASKED)
    branches = StateGraph(EpisodeState).add_node("branch", node)
    branches.add_conditional_edges(START, lambda state: [Send("branch", {**state, "budget": Budget(tokens=500)})])
    branches.compile().invoke(ASKED)
    assert not said(caplog)


class Question(TypedDict):
    question: str


class NoReducer(Own, total=False):
    budget: Budget


@pytest.mark.parametrize("lost", ["to the schema of the input", "to a key without the reducer", "after others"])
def test_a_budget_that_was_given_and_limits_nothing_is_missed_whatever_was_said_before(
    lost: str, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    node = call(model)
    match lost:
        case "to the schema of the input":
            builder: Any = StateGraph(EpisodeState, input_schema=Question)
        case "to a key without the reducer":
            builder = StateGraph(NoReducer)
        case _:
            graph(node).invoke({"question": "2 + 2?"})
            assert len(said(caplog)) == 1
            caplog.clear()
            builder = StateGraph(Own)
    asked = builder.add_node("node", node).add_edge(START, "node").compile()
    for _ in range(2):
        asked.invoke(ASKED)
    [message] = said(caplog)
    assert "does not limit" in message
    assert "EpisodeInput" in message


@KINDS
def test_nor_does_a_graph_that_could_have_one_or_no_graph_at_all(
    make: Any, model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    node = make(model)
    graph(node, EpisodeState).invoke({"question": "2 + 2?"})
    assert node({"question": "2 + 2?"})["answer"]

    @entrypoint()
    def function(question: str) -> Any:
        return node({"question": question})["answer"]

    function.invoke("2 + 2?")
    assert not said(caplog)
