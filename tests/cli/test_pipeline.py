"""From questions to a report with the commands alone, each reading what the one before has written."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tta_langgraph import Policy
from tta_langgraph.commands.app import app
from tta_langgraph.latency import LatencyModel
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer
from tta_langgraph.traces.export import read_pools

DATABASES = ("aviary", "kennel", "stable")


def replies(request: LoggedRequest) -> Reply:
    """The right count of pets; for the oldest, a wrong first answer, and half of the samples right."""
    if request.messages[0]["content"].startswith("You review"):
        return Reply("SUCCESS")
    right = "How many pets" in request.text
    tried = ["count(*)"] if right else ["max(id)", "min(id)"]
    return Reply(texts=[f"SELECT {what} FROM pet" for what in tried], cached_tokens=0)


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[str, str]:
    """The questions' file and the databases' folder."""
    lines = []
    for name in DATABASES:
        with sqlite3.connect(tmp_path / f"{name}.sqlite") as connection:
            connection.executescript("CREATE TABLE pet (id INTEGER PRIMARY KEY); INSERT INTO pet VALUES (1), (2), (3)")
        for number, question in enumerate(("How many pets are there?", "Which pet is the oldest?")):
            gold = ("SELECT count(*) FROM pet", "SELECT min(id) FROM pet")[number]
            lines.append({"id": f"{name}-{number}", "db_id": name, "question": question, "gold_sql": gold})
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return str(questions), str(tmp_path)


def tta(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return done.output


def test_record_fit_tune_replay_report_and_stats(recorded: tuple[str, str], tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'tta-langgraph[learn]'")
    store, pools, policy = (str(tmp_path / name) for name in ("traces.sqlite", "pools.jsonl.gz", "policy.json"))
    idle = tmp_path / "latency.json"
    idle.write_text(LatencyModel(overhead=2.0, prefill=0.0, per_token=0.0).to_json(), encoding="utf-8")
    with ScriptedServer(script=replies) as server:
        record = ("record", *recorded, "--store", store, "--model", server.base_url, "--samples", "4", "--rounds", "1")
        first = tta(*record, "--limit", "4", "--latency", str(idle))
        again = tta(*record, "--latency", str(idle), "--export", pools)
    assert "4 recorded, 0 there already" in first
    assert "2 recorded, 4 there already" in again

    exported = list(read_pools(pools))
    assert {pool.db_id for pool in exported} == set(DATABASES)
    assert {attempt.seconds for pool in exported for attempt in pool.attempts} == {2.0}
    assert "How many pets" not in json.dumps([pool.question_id for pool in exported])

    assert "fitted on" in tta("fit", pools, "--predictor", "transitions", "--all", "--out", policy)
    tta("tune", pools, "--policy", policy, "--accuracy", "0.5", "--side", "all", "--out", policy)
    assert Policy.load(policy).utility.per_token >= 0

    replayed = CliRunner().invoke(app, ["replay", pools, "--policy", policy, "--json"])
    assert "fitted on 3 of the 3 databases here" in replayed.stderr
    assert "--side" not in replayed.stderr, "it was fitted on all of them"
    found = json.loads(replayed.stdout)
    assert found["questions"] == 6
    by_name = {row["strategy"]: row for row in found["strategies"]}
    assert by_name["one_shot"]["accuracy"] == 0.5, "only the pets are counted rightly"

    page = tmp_path / "report.html"
    tta("report", pools, "--policy", policy, "--side", "all", "--page-only", "--out", str(page))
    assert {"best_of(4)", "one_shot"} <= set(re.findall(r"[a-z_]+(?:\(\d\))?", page.read_text(encoding="utf-8")))

    told = json.loads(tta("stats", store, "--json"))
    assert told["strategies"], "the recording's own episodes"
