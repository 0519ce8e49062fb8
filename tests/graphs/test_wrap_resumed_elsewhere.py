"""A wrapped agent waits for a person, its process ends, another one resumes it: nothing that was spent is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, ToolCall

CHILD = Path(__file__).with_name("interrupted_child.py")
FINAL = "```sql\nSELECT count(*) FROM customers\n```"


def replies(request: LoggedRequest) -> Reply:
    """Looks something up, asks a person, and answers."""
    results = sum(message["role"] == "tool" for message in request.messages)
    match results:
        case 0:
            return Reply(tool_calls=[ToolCall(name="look_up", arguments={"table": "customers"})])
        case 1:
            return Reply(tool_calls=[ToolCall(name="ask_human", arguments={"question": "Which ones?"})])
        case _:
            return Reply(FINAL)


@pytest.mark.parametrize(
    ("kind", "charging", "mode"),
    [
        ("agent", "bare", "sync"),
        ("agent", "budgeted", "async"),
        ("sql", "bare", "async"),
        ("sql", "budgeted", "sync"),
    ],
)
def test_what_was_spent_before_the_interrupt_is_charged_after_it(
    tmp_path: Path, shop: str, kind: str, charging: str, mode: str
) -> None:
    saver = tmp_path / "checkpoints.db"

    def run(step: str) -> dict[str, Any]:
        command = [sys.executable, str(CHILD), server.base_url, str(saver), kind, charging, mode, step, shop]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert ended.returncode == 0, ended.stderr[-3_000:]
        found: dict[str, Any] = json.loads(Path(f"{saver}.{step}.json").read_text())
        return found

    with ScriptedServer(replies) as server:
        asked = run("ask")
        assert asked["waiting"] == ["Which ones?"]
        assert server.requests == 2
        resumed = run("resume")
        assert server.requests == 3, "nothing is asked twice"
        assert resumed["tokens"] == server.total
    assert resumed["calls"] == 3
    # The tools that ran, the person's included; for SQL the query as well.
    assert resumed["executions"] == (3 if kind == "sql" else 2)
    assert resumed["estimated"] == []
    assert "SELECT count(*)" in resumed["answer"]
