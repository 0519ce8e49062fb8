"""`tta ask` as a script sees it: output, exit codes, one line per mistake. Signals go to a real process."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tta_langgraph import Policy
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer

SQL = "```sql\nSELECT name FROM customers ORDER BY name\n```"
ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tta_langgraph.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


@pytest.fixture
def tta(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs the command's own entry point in this process: what a script sees, without its start-up time."""
    from tta_langgraph.cli import main

    def run(*arguments: str) -> tuple[int, str, str]:
        for name in ("NO_COLOR", "COLUMNS"):
            monkeypatch.setenv(name, ENVIRONMENT[name])
        monkeypatch.setattr(sys, "argv", ["tta", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, errors = capfd.readouterr()
        return int(ended.value.code or 0), out, errors

    return run


Run = Callable[..., tuple[int, str, str]]


def test_the_extra_that_is_missing_is_named_so_that_it_can_be_copied(shop: str) -> None:
    # In a process of its own: where the model is loaded already, nobody misses the package.
    script = "import sys; sys.modules['xllamacpp'] = None; from tta_langgraph.cli import main; main()"
    command = [sys.executable, "-c", script, "ask", "?", "--db", shop, "--model", "embedded"]
    ended = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120, check=False)
    assert ended.returncode == 1
    assert "pip install 'tta-langgraph[local]'" in ended.stderr


def test_ctrl_c_while_the_command_is_being_loaded_is_an_interrupt_like_any_other(
    tta: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "tta_langgraph.commands.app":
                signal.raise_signal(signal.SIGINT)

    monkeypatch.delitem(sys.modules, "tta_langgraph.commands.app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    try:
        assert tta("--version") == (130, "", "interrupted\n")
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_answer_goes_to_standard_output_and_the_story_to_standard_error(shop: str, tta: Run) -> None:
    with ScriptedServer(script=lambda _: SQL) as server:
        code, out, errors = tta("ask", "Who?", "--db", shop, "--model", server.base_url, "--explain")
    assert code == 0, errors
    assert "SELECT name FROM customers" in out
    assert "Edsger" in out
    assert "decide" in errors
    assert "left" in errors
    assert "policy default(sql)" in errors


def test_the_policy_that_ships_for_a_model_is_used_and_named_unless_another_is_given(
    shop: str, tta: Run, tmp_path: Path
) -> None:
    own = Policy.one_shot().save(tmp_path / "own.json")
    with ScriptedServer(script=lambda _: SQL, model="qwen2.5-coder-0.5b") as server:
        asked = ("ask", "Who?", "--db", shop, "--model", server.base_url, "--json")
        _, shipped, _ = tta(*asked)
        _, given, _ = tta(*asked, "--policy", str(own))
    assert json.loads(shipped)["policy"] == "fitted(qwen2.5-coder-0.5b, 420 recorded questions)"
    assert json.loads(given)["policy"] == Policy.one_shot().name


def test_json_is_one_object_with_answer_spend_and_decisions(shop: str, tta: Run) -> None:
    with ScriptedServer(script=lambda _: SQL) as server:
        code, out, errors = tta("ask", "Who?", "--db", shop, "--model", server.base_url, "--json")
        assert code == 0, errors
        found = json.loads(out)
        assert found["rows"] == [["Ada"], ["Edsger"], ["Grace"]]
        assert found["spent"]["tokens"] == server.total
        assert found["decisions"]


def test_running_out_is_told_by_the_exit_code_and_the_best_answer_is_printed(shop: str, tta: Run) -> None:
    seen = iter([SQL])
    with ScriptedServer(script=lambda _: next(seen, Reply(hang=True))) as server:
        arguments = ("ask", "Who?", "--db", shop, "--model", server.base_url, "--seconds", "8", "--per-token", "0")
        code, out, errors = tta(*arguments, "--per-second", "0", "--tokens", "100000")
    assert code == 4, errors
    assert "SELECT name FROM customers" in out
    assert "exhausted: seconds" in errors


def test_no_answer_is_told_by_the_exit_code(shop: str, tta: Run) -> None:
    with ScriptedServer(script=lambda _: "I cannot help with that.") as server:
        code, out, errors = tta("ask", "Who?", "--db", shop, "--model", server.base_url)
    assert code == 3, errors
    assert out.strip() == ""


def test_ctrl_c_shows_what_there_is_and_leaves_nothing_running(shop: str) -> None:
    with ScriptedServer(script=lambda _: Reply(hang=True)) as server:
        process = start("ask", "Who?", "--db", shop, "--model", server.base_url)
        deadline = time.monotonic() + 100
        while not server.in_flight and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "interrupted" in errors
        assert "1 model call" in errors, "the call that was cut off is in the account"
        for _ in range(100):
            if server.disconnects == 1:
                break
            time.sleep(0.05)
        assert server.disconnects == 1


def test_ctrl_c_in_a_second_look_still_prints_the_first_answer(shop: str) -> None:
    seen = iter([SQL])
    with ScriptedServer(script=lambda _: next(seen, Reply(hang=True))) as server:
        process = start(
            "ask", "Who?", "--db", shop, "--model", server.base_url, "--per-token", "0", "--per-second", "0"
        )
        deadline = time.monotonic() + 100
        while server.requests < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "SELECT name FROM customers" in out
    assert "2 model calls" in errors


@pytest.mark.parametrize("question", ["¿Cuántos clientes hay?", "顧客は何人いますか", "كم عدد العملاء؟ 🚀"])
def test_a_question_in_any_language_reaches_the_model_whole(question: str, shop: str, tta: Run) -> None:
    with ScriptedServer(script=lambda _: SQL) as server:
        code, out, errors = tta("ask", question, "--db", shop, "--model", server.base_url)
        assert code == 0, errors
        assert "Edsger" in out
        assert question in server.log[0].text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--db", "sqlite:///not/there.sqlite"], 1, "no such database"),
        (["--db", "{empty}"], 1, "table"),
        (["--db", "{shop}", "--model", "http://127.0.0.1:9/v1"], 1, "cannot be reached"),
        (["--db", "{shop}", "--model", "nonsense"], 1, "unknown model"),
        (["--db", "{shop}", "--model", "{server}", "--tokens", "30"], 1, "first prompt"),
        (["--db", "{shop}", "--model", "{server}", "--tokens", "-5"], 2, "Budget.tokens"),
        (["--db", "{shop}", "--model", "{server}", "--usd", "1"], 1, "no known price"),
        (["--db", "{shop}", "--model", "{server}", "--policy", "none.json"], 1, "none.json"),
        (["--db", "{shop}", "--model", "{server}", "--store", "/no/such/folder/s.sqlite"], 1, "trace store"),
    ],
    ids=[
        *("no-database", "empty-database", "no-server", "no-model", "small", "negative", "no-price", "no-policy"),
        "no-store",
    ],
)
def test_a_mistake_is_one_line_with_the_remedy(
    arguments: list[str], code: int, said: str, shop: str, tmp_path: Path, tta: Run
) -> None:
    import sqlite3

    empty = tmp_path / "empty.sqlite"
    sqlite3.connect(empty).execute("PRAGMA user_version = 1").connection.close()
    with ScriptedServer(script=lambda _: SQL) as server:
        known = {"{empty}": f"sqlite:///{empty}", "{shop}": shop, "{server}": server.base_url}
        found, out, errors = tta("ask", "Who?", *(known.get(word, word) for word in arguments))
        assert found == code, errors
        assert said in errors
        assert "Traceback" not in errors
        assert out == ""
        assert server.requests == 0, "before any call is made"


def test_an_empty_question_is_refused(shop: str, tta: Run) -> None:
    code, _, errors = tta("ask", "  ", "--db", shop)
    assert code == 2
    assert "empty" in errors


def test_the_episode_can_be_kept_and_summed_up(shop: str, tmp_path: Path, tta: Run) -> None:
    store = str(tmp_path / "traces.sqlite")
    with ScriptedServer(script=lambda _: SQL) as server:
        assert tta("ask", "Who?", "--db", shop, "--model", server.base_url, "--store", store)[0] == 0
        code, out, errors = tta("stats", store, "--json")
        assert code == 0, errors
        assert json.loads(out)["overall"]["episodes"] == 1


def test_an_answer_that_was_paid_for_is_printed_also_where_it_cannot_be_kept(
    shop: str, tmp_path: Path, tta: Run
) -> None:
    store = str(tmp_path / "traces.sqlite")

    def breaking_the_store(_: LoggedRequest) -> str:
        with sqlite3.connect(store) as connection:
            connection.execute("DROP TABLE IF EXISTS tta_traces")
        return SQL

    with ScriptedServer(script=breaking_the_store) as server:
        code, out, errors = tta("ask", "Who?", "--db", shop, "--model", server.base_url, "--store", store)
    assert code == 1
    assert "tta_traces" in errors
    assert "Edsger" in out


def test_a_path_is_a_path_whatever_signs_are_in_it(shop: str, tmp_path: Path, tta: Run) -> None:
    path = tmp_path / "shop? 100%25 #1.sqlite"
    (tmp_path / "shop.sqlite").rename(path)
    with ScriptedServer(script=lambda _: SQL) as server:
        code, out, errors = tta("ask", "Who?", "--db", str(path), "--model", server.base_url)
    assert code == 0, errors
    assert "Edsger" in out
