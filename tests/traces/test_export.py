"""Exports come back as they were, name nothing they should not, and a damaged one is noticed."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.traces.conftest import make_pool, make_trace
from tta_langgraph.errors import TraceError
from tta_langgraph.traces.export import (
    export_pools,
    export_store,
    export_traces,
    import_into,
    kind_of,
    read_manifests,
    read_pools,
    read_traces,
)
from tta_langgraph.traces.manifest import Manifest
from tta_langgraph.traces.store import TraceStore

FORMATS = ["jsonl", "jsonl.gz", "parquet"]


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs the extra `report`")
    return tmp_path / f"export.{request.param}"


def test_pools_come_back_as_they_were(path: Path) -> None:
    pools = [make_pool(f"q{i}", n=i) for i in range(4)]
    manifest = Manifest(engine="vllm", sampling={"temperature": 0.8, "chains": ["execution/repairx3"]}, seed=0)
    assert export_pools(pools, path, manifests={manifest.id: manifest}, questions=True) == 4
    assert list(read_pools(path)) == pools
    assert read_manifests(path) == {manifest.id: manifest}
    assert kind_of(path) == "pools"


def test_traces_come_back_as_they_were(path: Path) -> None:
    traces = [make_trace("a"), replace(make_trace("b", correct=None), answer=None)]
    assert export_traces(traces, path) == 2
    assert list(read_traces(path)) == traces


def test_questions_are_left_out_unless_asked_for(path: Path) -> None:
    export_pools([make_pool()], path)
    [pool] = read_pools(path)
    assert pool.question is None
    assert pool.question_hash == "abc"
    assert pool.attempts[0].answer == "SELECT 1"
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert b"How many" not in raw


def test_the_same_pools_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    export_pools([make_pool()], first)
    export_pools([make_pool()], second)
    assert first.read_bytes() == second.read_bytes()


def test_a_store_goes_out_and_comes_in_again(path: Path, tmp_path: Path) -> None:
    manifest = Manifest(engine="llama.cpp")
    with TraceStore(tmp_path / "one.db") as store:
        store.add_pool(replace(make_pool(), manifest_id=manifest.id), recording="r", manifest=manifest)
        store.add_pool(make_pool("other"), recording="another", manifest=Manifest(engine="unused"))
        assert export_store(store, path, recording="r", questions=True) == 1
        before = list(store.pools("r"))
    with TraceStore(tmp_path / "two.db") as store:
        assert import_into(store, path, recording="r") == 1
        assert list(store.pools("r")) == before
        assert set(store.manifests()) == {manifest.id}


@pytest.mark.parametrize("cut", ["line", "middle"])
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_a_file_that_was_cut_off_is_noticed(tmp_path: Path, ending: str, cut: str) -> None:
    path = tmp_path / f"export.{ending}"
    export_pools([make_pool(f"q{i}") for i in range(50)], path)
    if ending == "jsonl" and cut == "line":
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:20]))
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TraceError, match="cut off"):
        list(read_pools(path))


def test_lines_taken_out_of_the_middle_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    export_pools([make_pool(f"q{i}") for i in range(5)], path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(TraceError, match="5 pools were written, 4 are here"):
        list(read_pools(path))


def test_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(json.dumps({"tta": "pools", "schema": 99}) + "\n")
    with pytest.raises(TraceError, match="form 99"):
        list(read_pools(path))


@pytest.mark.parametrize("content", ["", "hello\n", '{"question": "q"}\n', "[]\n"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "export.jsonl"
    path.write_text(content)
    with pytest.raises(TraceError, match="not an export"):
        list(read_pools(path))


def test_traces_are_not_taken_for_pools(path: Path) -> None:
    export_traces([make_trace()], path)
    with pytest.raises(TraceError, match="holds traces, not pools"):
        list(read_pools(path))


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "export.jsonl"
    export_pools([make_pool()], path)
    before = path.read_bytes()

    def failing() -> object:
        yield make_pool()
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        export_pools(failing(), path)  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["export.jsonl"]


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"\.jsonl, \.jsonl\.gz or \.parquet"):
        export_pools([], tmp_path / "export.csv")


def test_duckdb_reads_attempts_out_of_the_parquet_file(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    pytest.importorskip("pyarrow", reason="Parquet needs the extra `report`")
    path = tmp_path / "pools.parquet"
    export_pools([make_pool("q1", n=2), make_pool("q2", n=4)], path)
    query = f"""
        SELECT question_id, count(*), sum(a.completion_tokens), max(features['n_tables'])
        FROM (SELECT question_id, features, unnest(attempts) AS a FROM '{path}')
        WHERE a.action = 'resample' GROUP BY 1 ORDER BY 1
    """
    assert duckdb.sql(query).fetchall() == [("q1", 2, 1, 3.0), ("q2", 4, 6, 3.0)]
