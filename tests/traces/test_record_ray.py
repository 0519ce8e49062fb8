"""On a Ray cluster the recording is the same as in one process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from langchain_openai import ChatOpenAI

from tests.traces.test_record import GRID, _questions, _replies, databases, server
from tta_langgraph.errors import TraceError
from tta_langgraph.testing import ScriptedServer, scripted_chat_model
from tta_langgraph.traces import Pool
from tta_langgraph.traces.ray_cluster import import_ray, start_cluster
from tta_langgraph.traces.record import record
from tta_langgraph.traces.store import TraceStore

__all__ = ["databases", "server"]

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'tta-langgraph[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers on this machine."""
    try:
        start_cluster(import_ray(), cpus=2)
    except TraceError as error:
        pytest.skip(str(error))
    yield
    ray.shutdown()


def _model(server: ScriptedServer) -> partial[ChatOpenAI]:
    return partial(ChatOpenAI, model=server.model, base_url=server.base_url, api_key="none", max_retries=0)


def _facts(pool: Pool) -> object:
    attempts = [(a.id, a.correct, a.key, a.prompt_tokens, a.completion_tokens) for a in pool.attempts]
    return pool.question_id, pool.spent.model_calls, attempts, [(j.attempt, j.score) for j in pool.judgements]


@pytest.mark.usefixtures("cluster")
def test_the_same_pools_as_in_one_process(server: ScriptedServer, databases: Path) -> None:
    server.use(_replies)
    path = databases / "traces.db"
    local = record(_questions(6), databases, _model(server), GRID, path, recording="local")
    seen: list[int] = []
    spread = record(
        _questions(6),
        databases,
        _model(server),
        GRID,
        path,
        recording="ray",
        executor="ray",
        workers=2,
        progress=lambda progress: seen.append(progress.done),
    )
    with TraceStore(path) as store:
        assert [_facts(p) for p in sorted(store.pools("ray"), key=lambda p: p.question_id)] == [
            _facts(p) for p in sorted(store.pools("local"), key=lambda p: p.question_id)
        ]
    assert (spread.recorded, spread.spent.tokens, spread.manifest_id) == (6, local.spent.tokens, local.manifest_id)
    assert seen[-1] == 6
    again = record(_questions(6), databases, _model(server), GRID, path, recording="ray", executor="ray", workers=2)
    assert (again.recorded, again.skipped) == (0, 6)


@pytest.mark.usefixtures("cluster")
def test_a_stopped_recording_keeps_what_it_has(server: ScriptedServer, databases: Path) -> None:
    server.use(_replies)
    stop = threading.Event()
    report = record(
        _questions(8),
        databases,
        _model(server),
        GRID,
        databases / "traces.db",
        executor="ray",
        workers=1,
        progress=lambda progress: stop.set(),
        stop_event=stop,
    )
    assert report.stopped
    with TraceStore(databases / "traces.db") as store:
        assert len(store.recorded()) == report.recorded < 8


@pytest.mark.usefixtures("cluster")
def test_a_model_that_cannot_travel_is_refused_with_the_remedy(server: ScriptedServer, databases: Path) -> None:
    with pytest.raises(TraceError, match="function that makes the model"):
        record(_questions(1), databases, scripted_chat_model(server), GRID, databases / "traces.db", executor="ray")


def test_an_open_store_is_refused(databases: Path, server: ScriptedServer) -> None:
    with TraceStore(databases / "traces.db") as store, pytest.raises(TraceError, match="share an open store"):
        record(_questions(1), databases, _model(server), GRID, store, executor="ray")
