"""What a wrong file gets: one line that says what, where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tta_langgraph.commands.app import app
from tta_langgraph.errors import TraceError
from tta_langgraph.traces.store import TraceStore


def refused(*arguments: str) -> TraceError:
    error = CliRunner().invoke(app, [*arguments]).exception
    assert isinstance(error, TraceError), error
    assert error.remedy
    return error


@pytest.fixture
def empty(tmp_path: Path) -> str:
    path = str(tmp_path / "empty.sqlite")
    TraceStore(path).close()
    return path


@pytest.mark.parametrize("command", ["replay", "fit", "report"])
def test_a_store_without_pools_is_named(empty: str, command: str) -> None:
    error = refused(command, empty)
    assert "no pools" in str(error)
    assert error.where == empty


def test_figures_over_no_episodes_are_not_printed(empty: str) -> None:
    assert "no episodes" in str(refused("stats", empty))
    assert "no episodes" in str(refused("stats", empty, "--json"))
    assert "there is no recording 'may'" in str(refused("stats", empty, "--recording", "may"))


def test_an_export_is_no_trace_store(tmp_path: Path) -> None:
    file = tmp_path / "pools.jsonl"
    file.write_text("{}\n", encoding="utf-8")
    assert "this is an export" in str(refused("stats", str(file)))


@pytest.mark.parametrize("command", ["replay", "stats"])
def test_a_folder_is_no_trace_store(tmp_path: Path, command: str) -> None:
    assert "this is a folder" in str(refused(command, str(tmp_path)))


def test_a_broken_line_is_the_only_line_that_is_named(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text('{"id": "1", "db_id": "d", "question": "?", "gold_sql": "select 1"}\n{broken\n', encoding="utf-8")
    error = refused("record", str(file), str(tmp_path), "--store", str(tmp_path / "t.sqlite"))
    assert error.where == f"{file}, line 2"
    assert "line 1" not in str(error)


def test_questions_that_are_not_there_are_told_with_what_to_give(tmp_path: Path) -> None:
    assert "JSON lines" in str(refused("record", str(tmp_path / "none.jsonl"), str(tmp_path)))


def test_no_questions_are_not_recorded_in_silence(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.touch()
    error = refused("record", str(file), str(tmp_path), "--store", str(tmp_path / "t.sqlite"))
    assert (error.what, error.where) == ("there are no questions", str(file))
