"""`tta record` and its readers: what is refused before any work, what the shell is told, which recording is read."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from tta_langgraph.commands.app import app
from tta_langgraph.errors import TraceError
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer
from tta_langgraph.traces.export import export_pools, import_into, read_pools
from tta_langgraph.traces.store import TraceStore


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(lambda request: Reply("SELECT count(*) FROM pet")) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = []
    for name in ("aviary", "kennel"):
        with sqlite3.connect(tmp_path / f"{name}.sqlite") as connection:
            connection.executescript("CREATE TABLE pet (id INTEGER PRIMARY KEY); INSERT INTO pet VALUES (1), (2)")
        lines.append({"id": name, "db_id": name, "question": f"How many in {name}?", "gold_sql": "SELECT 2"})
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return tmp_path


def arguments(folder: Path, server: ScriptedServer, *more: str) -> list[str]:
    store = str(folder / "traces.db")
    asked = ["record", str(folder / "questions.jsonl"), str(folder), "--store", store, "--model", server.base_url]
    return [*asked, "--samples", "1", "--rounds", "0", *more]


def tta(*given: str) -> Result:
    return CliRunner().invoke(app, given)


@pytest.mark.parametrize(
    "given",
    [
        *("--limit 0", "--limit -3", "--test-share 0", "--test-share 2", "--test-share nan", "--temperature -1"),
        *(
            "--temperature nan",
            "--concurrency 0",
            "--samples -1",
            "--export pools.csv",
            "--export no/such/folder/p.jsonl",
        ),
    ],
)
def test_a_mistake_is_refused_before_anything_is_asked(server: ScriptedServer, folder: Path, given: str) -> None:
    found = tta(*arguments(folder, server, *given.split()))
    assert found.exit_code != 0
    assert server.log == []


def test_the_shell_is_told_of_questions_given_up(server: ScriptedServer, folder: Path) -> None:
    with (folder / "questions.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps({"id": "bad", "db_id": "aviary", "question": "?", "gold_sql": "SELECT nothing"}))
    found = tta(*arguments(folder, server))
    assert found.exit_code == 3
    assert "1 failed" in found.output


def test_ctrl_c_says_how_much_is_stored(server: ScriptedServer, folder: Path) -> None:
    def second_hangs(request: LoggedRequest) -> Reply:
        first = server.log[0].text
        name = "aviary" if "aviary" in first else "kennel"
        return Reply("SELECT count(*) FROM pet", hang=f"in {name}?" not in request.text)

    server.use(second_hangs)
    command = [sys.executable, "-m", "tta_langgraph.cli", *arguments(folder, server)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while not any(request.status == "hanging" for request in server.log):
            assert child.poll() is None, child.communicate()
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "1 of 2 questions stored" in said
    assert "the same command goes on" in said


def test_one_of_several_recordings_is_read_by_name(server: ScriptedServer, folder: Path) -> None:
    for name in ("may", "june"):
        assert tta(*arguments(folder, server, "--recording", name)).exit_code == 0
    store = str(folder / "traces.db")
    both = tta("replay", store)
    assert isinstance(both.exception, TraceError)
    assert "'june', 'may'" in str(both.exception)
    one = tta("replay", store, "--recording", "may", "--json")
    assert json.loads(one.stdout)["questions"] == 2
    unknown = tta("replay", store, "--recording", "july")
    assert "there is no recording 'july'" in str(unknown.exception)
    told = json.loads(tta("stats", store, "--recording", "may", "--json").stdout)
    assert told["strategies"][0]["episodes"] == 2


def test_what_was_recorded_otherwise_is_not_imported_under_the_same_name(server: ScriptedServer, folder: Path) -> None:
    file = folder / "pools.jsonl"
    assert tta(*arguments(folder, server, "--export", str(file))).exit_code == 0
    with TraceStore(folder / "all.db") as store:
        assert import_into(store, file) == import_into(store, file) == 2
        export_pools([replace(pool, manifest_id="other") for pool in read_pools(file)], folder / "other.jsonl")
        with pytest.raises(TraceError, match="already"):
            import_into(store, folder / "other.jsonl")
        assert import_into(store, folder / "other.jsonl", recording="other") == 2


@pytest.mark.parametrize(
    ("field", "value"), [("seconds", "nan"), ("seconds", -1.0), ("prompt_tokens", -5), ("seconds", "inf")]
)
def test_an_impossible_figure_is_refused_with_its_line(
    server: ScriptedServer, folder: Path, field: str, value: object
) -> None:
    file = folder / "pools.jsonl"
    assert tta(*arguments(folder, server, "--export", str(file))).exit_code == 0
    lines = file.read_text(encoding="utf-8").splitlines()
    pool = json.loads(lines[2])
    pool["attempts"][0][field] = value
    file.write_text("\n".join([*lines[:2], json.dumps(pool), *lines[3:]]), encoding="utf-8")
    with pytest.raises(TraceError, match=field) as caught:
        list(read_pools(file))
    assert caught.value.where == f"{file}, line 3"


@pytest.mark.parametrize("given", ["--repeats 0", "--per-token nan", "--per-second -1"])
def test_numbers_that_mean_nothing_are_refused(server: ScriptedServer, folder: Path, given: str) -> None:
    assert tta(*arguments(folder, server)).exit_code == 0
    command = "replay" if "repeats" in given else "stats"
    assert tta(command, str(folder / "traces.db"), *given.split()).exit_code == 2


def test_a_policy_fitted_on_another_measure_is_told(server: ScriptedServer, folder: Path) -> None:
    from tta_langgraph import Policy

    assert tta(*arguments(folder, server)).exit_code == 0
    policy = replace(Policy.default("sql"), notes={"fitted_on": {"measure": "uncached"}}).save(folder / "policy.json")
    found = tta("replay", str(folder / "traces.db"), "--policy", str(policy))
    assert found.exit_code == 0
    assert "fitted with --measure uncached" in " ".join(found.output.split())


def test_a_side_that_was_not_recorded_is_not_made_up(server: ScriptedServer, folder: Path) -> None:
    assert tta(*arguments(folder, server)).exit_code == 0
    file = folder / "fit.jsonl"
    with TraceStore(folder / "traces.db") as store:
        export_pools([replace(pool, split="fit") for pool in store.pools()], file)
    found = tta("replay", str(file), "--side", "test")
    assert "marked test" in str(found.exception)
