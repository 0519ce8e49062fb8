"""Workers that take turns on one thread know what the others spent, also where no state tells."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from tta_langgraph import Budget, EpisodeState, budgeted
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

CONFIG: Any = {"configurable": {"thread_id": "t"}}
INPUT: Any = {"question": "first", "budget": Budget(tokens=5_000)}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=lambda _: "word " * 20) as running:
        yield running


def graph_of(server: ScriptedServer, path: Path, after: Callable[[EpisodeState], Any]) -> Any:
    model = budgeted(scripted_chat_model(server))

    def node(state: EpisodeState) -> dict[str, Any]:
        model.invoke("hello")
        after(state)
        return {"answer": "done"}

    builder = StateGraph(EpisodeState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    connection = sqlite3.connect(path / "checkpoints.sqlite", check_same_thread=False)
    return builder.compile(checkpointer=SqliteSaver(connection, serde=checkpoint_serializer()))


@pytest.mark.parametrize("order", ["ABAB", "ABAA", "AAAA"])
def test_workers_that_take_turns_on_an_interrupted_node_lose_no_charge(
    server: ScriptedServer, tmp_path: Path, work_as: Callable[[str], None], order: str
) -> None:
    graph = graph_of(server, tmp_path, lambda _: [interrupt(n) for n in range(3)])
    for turn, worker in enumerate(order):
        work_as(worker)
        state = graph.invoke(Command(resume=True) if turn else INPUT, CONFIG, durability="sync")
        assert state["budget"].usage.tokens == server.total
    assert state["answer"] == "done"


def test_an_interrupted_nodes_calls_are_known_after_the_state_was_edited(
    server: ScriptedServer, tmp_path: Path, work_as: Callable[[str], None]
) -> None:
    graph = graph_of(server, tmp_path, lambda _: interrupt("go on?"))
    work_as("A")
    graph.invoke(INPUT, CONFIG, durability="sync")
    work_as("B")
    for text in ("edited", "edited again"):
        graph.update_state(CONFIG, {"question": text})
    state = graph.invoke(Command(resume=True), CONFIG, durability="sync")
    if "__interrupt__" in state:  # the edits made the node start anew
        state = graph.invoke(Command(resume=True), CONFIG, durability="sync")
    assert state["answer"] == "done"
    assert state["budget"].usage.tokens == server.total


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_a_failed_nodes_calls_are_known_to_the_next_input_under_the_same_budget(
    server: ScriptedServer, tmp_path: Path, work_as: Callable[[str], None], durability: Any
) -> None:
    def fails_first(state: EpisodeState) -> None:
        if state["question"] == "first":
            raise RuntimeError("the tool is down")

    graph = graph_of(server, tmp_path, fails_first)
    work_as("A")
    with pytest.raises(RuntimeError, match="down"):
        graph.invoke(INPUT, CONFIG, durability="sync")
    work_as("B")
    state = graph.invoke({"question": "second"}, CONFIG, durability=durability)
    assert server.requests == 2
    assert state["budget"].usage.tokens == server.total
