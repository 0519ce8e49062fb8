"""The store loses nothing that was committed, whoever writes beside it, and refuses what it cannot read."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.traces.conftest import make_pool, make_trace
from tta_langgraph.errors import TraceError
from tta_langgraph.traces.manifest import Manifest
from tta_langgraph.traces.model import Trace
from tta_langgraph.traces.store import TraceStore


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Address of an empty store."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'traces.db'}"
        return
    url = sa.make_url(request.getfixturevalue("postgres_url"))
    name = f"traces_{uuid.uuid4().hex[:8]}"
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


def _write(target: str, worker: int, count: int, start: threading.Barrier | None = None) -> None:
    if start is not None:
        start.wait(60)
    with TraceStore(target) as store:
        for number in range(count):
            store.add(make_trace(f"{worker}-{number}"))
            store.add_pool(make_pool(f"{worker}-{number}"), recording="r")


def test_everything_comes_back_as_it_was(target: str) -> None:
    manifest = Manifest(engine="vllm", engine_version="1", sampling={"temperature": 0.8})
    trace, pool = make_trace(), replace(make_pool(), manifest_id=manifest.id)
    with TraceStore(target) as store:
        store.add(trace)
        store.add_pool(pool, recording="first", manifest=manifest)
    with TraceStore(target, create=False) as store:
        assert list(store.traces()) == [trace]
        assert store.trace("e1") == trace
        assert list(store.pools("first")) == [pool]
        assert list(store.pools("other")) == []
        assert store.manifest(pool.manifest_id) == manifest
        assert store.recordings() == {"first": 1}


def test_a_rewritten_episode_replaces_the_old_one(target: str) -> None:
    with TraceStore(target) as store:
        store.add(make_trace(correct=None))
        store.add(make_trace(correct=False))
        assert [trace.correct for trace in store.traces()] == [False]
        assert store.count() == 1


def test_equal_manifests_are_stored_once(target: str) -> None:
    with TraceStore(target) as store:
        ids = {store.add_manifest(Manifest(engine="vllm", sampling={"a": 1, "b": 2})) for _ in range(2)}
        ids.add(store.add_manifest(Manifest(engine="vllm", sampling={"b": 2, "a": 1})))
        other = store.add_manifest(Manifest(engine="vllm", seed=1))
        assert len(ids) == 1
        assert set(store.manifests()) == {*ids, other}


def test_filters_and_order(target: str) -> None:
    with TraceStore(target) as store:
        for number, strategy in enumerate(["policy", "one_shot", "policy"]):
            store.add(replace(make_trace(f"t{number}", strategy=strategy), started=100.0 - number))
        assert [trace.id for trace in store.traces()] == ["t2", "t1", "t0"]
        assert [trace.id for trace in store.traces(strategy="policy")] == ["t2", "t0"]
        assert [trace.id for trace in store.traces(since=99.0)] == ["t1", "t0"]
        store.add_pool(make_pool("a", split="test"))
        store.add_pool(make_pool("b", split="fit"))
        assert [pool.question_id for pool in store.pools(split="fit")] == ["b"]
        assert store.recorded() == {"a", "b"}


def test_processes_that_create_and_write_at_once_lose_nothing(target: str) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    writers = [context.Process(target=_write, args=(target, worker, 12, start)) for worker in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    with TraceStore(target, create=False) as store:
        assert store.count() == 36
        assert len(store.recorded("r")) == 36


def test_threads_share_one_store(target: str) -> None:
    with TraceStore(target) as store:
        threads = [
            threading.Thread(target=lambda w=worker: [store.add(make_trace(f"{w}-{i}")) for i in range(10)])
            for worker in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.count() == 40


def test_a_reader_goes_on_while_others_write(target: str) -> None:
    with TraceStore(target) as store:
        for number in range(5):
            store.add(make_trace(f"a{number}"))
        seen = []
        for trace in store.traces():
            seen.append(trace.id)
            store.add(make_trace(f"b{len(seen)}"))
        assert {key for key in seen if key.startswith("a")} == {f"a{number}" for number in range(5)}


def test_a_killed_process_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    script = textwrap.dedent(
        """
        import os, sys
        import sqlalchemy as sa
        from tta_langgraph.traces.model import Trace
        from tta_langgraph.traces.store import TraceStore

        store = TraceStore(sys.argv[1])
        for number in range(5):
            store.add(Trace(id=str(number)))

        @sa.event.listens_for(store._engine, "commit")
        def die(connection):
            os._exit(9)  # between the statements of the sixth episode and its commit

        store.add(Trace(id="in flight"))
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=120)
    assert done.returncode == 9
    with TraceStore(path, create=False) as store:
        assert [trace.id for trace in store.traces()] == ["0", "1", "2", "3", "4"]


def test_a_store_of_a_newer_form_is_refused(target: str) -> None:
    with TraceStore(target) as store, store._engine.begin() as connection:
        connection.execute(sa.text("UPDATE tta_meta SET value = '99' WHERE name = 'schema'"))
    with pytest.raises(TraceError, match=r"form 99.*Upgrade"):
        TraceStore(target)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary " * 100)
    with pytest.raises(TraceError, match="not a database"):
        TraceStore(path)
    assert path.read_text() == "dear diary " * 100


def test_reading_does_not_create_a_store(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    sqlite3.connect(path).close()
    with pytest.raises(TraceError, match="no trace store"):
        TraceStore(path, create=False)
    with pytest.raises(TraceError):
        TraceStore(tmp_path / "missing.db", create=False)
    assert not (tmp_path / "missing.db").exists()


def test_a_row_that_was_tampered_with_is_named(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    with TraceStore(path) as store:
        store.add(make_trace("good"))
        store.add(make_trace("bad"))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE tta_traces SET body = substr(body, 1, 40) WHERE id = 'bad'")
    with TraceStore(path) as store, pytest.raises(TraceError, match="trace bad"):
        list(store.traces())


@pytest.mark.parametrize("url", ["mysql+pymysql://localhost/x", "nonsense://here"])
def test_other_databases_are_refused_at_once(url: str) -> None:
    with pytest.raises(TraceError, match="SQLite"):
        TraceStore(url)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql+psycopg://user:secret@127.0.0.1:1/none?connect_timeout=1", "127.0.0.1"),
        ("postgresql+psycopg://user@127.0.0.1:1/none?connect_timeout=1&password=secret", "127.0.0.1"),
        ("postgresql+psycopg://user:secret", "user:password@host"),
    ],
    ids=["before-the-host", "parameter", "a-port"],
)
def test_a_password_is_in_no_error(address: str, said: str) -> None:
    with pytest.raises(TraceError) as caught:
        TraceStore(address)
    assert "secret" not in str(caught.value)
    assert said in str(caught.value)


def test_a_trace_without_an_id_is_refused(tmp_path: Path) -> None:
    with TraceStore(tmp_path / "traces.db") as store, pytest.raises(TraceError, match="id"):
        store.add(Trace(id=""))


def test_writers_wait_for_a_lock_instead_of_failing(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    with TraceStore(path) as store:
        holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.5, lambda: holder.execute("ROLLBACK"))
        release.start()
        store.add(make_trace())
        release.join()
        holder.close()
        assert store.count() == 1
    assert os.path.getsize(path) > 0
