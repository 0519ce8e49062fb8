"""Live runs leave their traces, and a store that fails costs nobody an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from tta_langgraph.nodes import Generate
from tta_langgraph.state import EpisodeState
from tta_langgraph.testing import ScriptedServer, scripted_chat_model
from tta_langgraph.traces.live import traced
from tta_langgraph.traces.manifest import Manifest
from tta_langgraph.traces.stats import stats
from tta_langgraph.traces.store import TraceStore

INPUT = {"question": "What is six times seven?", "budget": {"tokens": 500}}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda request: "42") as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TraceStore]:
    with TraceStore(tmp_path / "traces.db") as opened:
        yield opened


def _graph(server: ScriptedServer, *, ask_first: bool = False) -> Any:
    def wait(state: EpisodeState) -> dict[str, Any]:
        interrupt("may I?")
        return {}

    builder = StateGraph(EpisodeState)
    builder.add_node("generate", Generate(model=scripted_chat_model(server)))
    builder.add_node("wait", wait)
    builder.add_edge(START, "generate")
    builder.add_edge("generate", "wait" if ask_first else END)
    return builder.compile(checkpointer=InMemorySaver() if ask_first else None)


def test_a_run_leaves_its_trace(server: ScriptedServer, store: TraceStore) -> None:
    manifest = Manifest(engine="scripted")
    agent = traced(
        _graph(server),
        store,
        strategy="one_shot",
        db_id="numbers",
        label=lambda state: state["answer"] == "42",
        labels={"team": "maths"},
        manifest=manifest,
    )
    state = agent.invoke(INPUT)
    asyncio.run(agent.ainvoke(INPUT))
    assert state["answer"] == "42"
    first, second = store.traces(strategy="one_shot")
    assert first.id == state["budget"].episode != second.id
    assert (first.answer, first.correct, first.question) == ("42", True, INPUT["question"])
    assert (first.tokens, first.budget.tokens, first.db_id) == (server.log[0].tokens, 500, "numbers")
    assert [candidate.answer for candidate in first.candidates] == ["42"]
    assert first.seconds > 0
    assert store.manifest(first.manifest_id) == manifest
    assert stats(store.traces()).overall.accuracy == 1.0


def test_an_interrupted_run_is_one_trace_when_it_is_over(server: ScriptedServer, store: TraceStore) -> None:
    agent = traced(_graph(server, ask_first=True), store)
    thread: Any = {"configurable": {"thread_id": "1"}}
    agent.invoke(INPUT, thread)
    assert store.count() == 0
    agent.invoke(Command(resume="yes"), thread)
    [trace] = store.traces()
    assert (trace.answer, trace.tokens) == ("42", server.log[0].tokens)


def test_a_store_that_fails_costs_no_answer(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = TraceStore(tmp_path / "traces.db")
    agent = traced(_graph(server), store)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE tta_traces")
    with caplog.at_level(logging.WARNING):
        assert agent.invoke(INPUT)["answer"] == "42"
    assert "not stored" in caplog.text
    store.close()
