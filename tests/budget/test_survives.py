"""Promise 8: kill -9 in the middle of a call, resume in another process: nothing lost, nothing doubled."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import postgres_url  # noqa: F401 - a fixture
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, ToolCall

CHILD = Path(__file__).with_name("crash_child.py")
STRICT = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true", "PYTHONWARNINGS": "error::DeprecationWarning:tta_langgraph"}


@pytest.fixture(params=["sqlite", "postgres"])
def saver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "checkpoints.sqlite")
    else:
        url: str = request.getfixturevalue("postgres_url")
        yield url.replace("postgresql+psycopg://", "postgresql://")


def child(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CHILD), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=STRICT,
    )


def kill_in_third_call_and_resume(
    saver: str, thread: str, clock: str, pause: float = 0.0
) -> tuple[dict[str, Any], Any]:
    """Runs until the third call hangs, kills the process, and resumes in a new one."""
    hang = True

    def script(request: Any) -> Reply:
        last = request.messages[-1]["content"]
        return Reply(hang=True) if hang and last == "second node, second call" else Reply(text=f"re: {last}")

    with ScriptedServer(script=script) as server:
        first = child(server.base_url, saver, thread, "start", clock)
        deadline = time.monotonic() + 120
        while not any(entry.status == "hanging" for entry in server.log):
            assert first.poll() is None, first.communicate()[1]
            assert time.monotonic() < deadline, "the third call never came"
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        time.sleep(pause)
        hang = False
        second = child(server.base_url, saver, thread, "resume", clock)
        out, errors = second.communicate(timeout=120)
        assert second.returncode == 0, errors
        assert "nregistered type" not in errors, "strict serialisation must pass without warnings"
        return json.loads(out.splitlines()[-1]), list(server.log)


def test_a_killed_call_is_charged_in_full_and_everything_else_exactly_once(saver: str) -> None:
    state, log = kill_in_third_call_and_resume(saver, "exact", "wall")
    assert state["answer"] == "re: second node, second call"
    charges = state["charges"]
    assert len({charge["id"] for charge in charges}) == len(charges) == len(log) == 5
    [killed] = [charge for charge in charges if charge["estimated"]]
    assert "killed" in killed["note"]
    hanging = next(entry for entry in log if entry.completion_tokens == 0)
    assert killed["tokens"] >= hanging.prompt_tokens + 100, "prompt and the whole completion cap"
    known = sorted(charge["tokens"] for charge in charges if not charge["estimated"])
    assert known == sorted(e.prompt_tokens + e.completion_tokens for e in log if e is not hanging)


def test_the_wall_clock_goes_on_while_the_process_is_dead_and_the_active_clock_does_not(tmp_path: Path) -> None:
    pause = 3.0
    wall, _ = kill_in_third_call_and_resume(str(tmp_path / "wall.sqlite"), "wall", "wall", pause)
    active, _ = kill_in_third_call_and_resume(str(tmp_path / "active.sqlite"), "active", "active", pause)
    assert wall["elapsed"] >= pause
    # Whatever the machine's speed, the active clock has not counted the pause.
    assert active["elapsed"] < time.time() - active["started"] - pause


@pytest.mark.parametrize("nesting", ["own_budget", "part", "scope", "own_thread", "two_deep"])
def test_a_call_killed_inside_a_nested_budget_is_charged_to_the_one_around_it(tmp_path: Path, nesting: str) -> None:
    def run(mode: str) -> tuple[int, str]:
        path = str(tmp_path / "checkpoints.sqlite")
        found = subprocess.run(
            [sys.executable, str(CHILD.with_name("crash_nested_child.py")), path, nesting, mode],
            capture_output=True,
            text=True,
            env=STRICT,
            timeout=120,
            check=False,
        )
        return found.returncode, found.stdout

    assert run("start")[0] == 9
    code, out = run("resume")
    assert code == 0
    # Ten tokens each for the call before the kill and the two of the resume; prompt and cap for the killed one.
    assert sorted(json.loads(out)) == [[10, False], [10, False], [10, False], [108, True]]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_query_in_which_the_process_was_killed_is_charged_on_resume_and_so_are_those_before_it(
    tmp_path: Path, mode: str
) -> None:
    database = tmp_path / "data.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE t (x)")

    def run(stage: str) -> tuple[int, str]:
        script, saved = CHILD.with_name("crash_query_child.py"), tmp_path / "checkpoints.sqlite"
        command = [sys.executable, str(script), str(saved), f"sqlite:///{database}", mode, stage]
        found = subprocess.run(command, capture_output=True, text=True, env=STRICT, timeout=120, check=False)
        return found.returncode, found.stdout or found.stderr

    assert run("start")[0] == 9
    code, out = run("resume")
    assert code == 0, out
    # Two of five went with the process, the second in the middle of it.
    assert json.loads(out) == ["3", 5, 5]


def asks_for_queries(request: LoggedRequest) -> Reply:
    """An agent that runs a query, then one that kills its process, then others, until it is told to stop."""
    seen = [message["content"] for message in request.messages if message["role"] == "tool"]
    if seen and "budget is exhausted" in str(seen[-1]):
        return Reply("as many as I saw")
    sql = "SELECT die()" if len(seen) == 1 else f"SELECT {len(seen)}"
    return Reply(tool_calls=[ToolCall(name="query", arguments={"sql": sql})])


@pytest.mark.parametrize(
    ("kind", "mode", "limit", "ran"),
    [
        ("middleware", "sync", 2, []),
        ("middleware", "async", 2, []),
        ("wrapped", "sync", 4, ["SELECT die()", "SELECT 2"]),
        ("wrapped", "async", 2, []),
    ],
)
def test_a_tools_query_in_which_the_process_was_killed_counts_before_the_next_one_is_run(
    tmp_path: Path, kind: str, mode: str, limit: int, ran: list[str]
) -> None:
    with ScriptedServer(script=asks_for_queries) as server:

        def run(stage: str) -> tuple[int, str, str]:
            script, saved = CHILD.with_name("crash_tool_child.py"), tmp_path / "checkpoints.sqlite"
            places = [server.base_url, str(saved), str(tmp_path / "data.sqlite")]
            command = [sys.executable, str(script), *places, kind, mode, str(limit), stage]
            found = subprocess.run(command, capture_output=True, text=True, env=STRICT, timeout=120, check=False)
            return found.returncode, found.stdout, found.stderr

        code, _, errors = run("start")
        assert code == -signal.SIGKILL, errors
        code, out, errors = run("resume")
    assert code == 0, errors
    # Two of them went with the process, the second in the middle of it.
    assert json.loads(out.splitlines()[-1]) == {"ran": ran, "executions": limit}
