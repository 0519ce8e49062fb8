"""What is worked out before anyone asks is checked, paid for once per schema, and reused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage
from sqlalchemy import create_engine, text

from tta_langgraph.errors import TraceError
from tta_langgraph.nodes import Generate
from tta_langgraph.sql import Database
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, scripted_chat_model
from tta_langgraph.traces.sleep import SleepNotes, read_notes, read_questions, schema_hash, sleep
from tta_langgraph.traces.sleep_joins import join_paths

QUESTIONS = """Here are some questions:
1. How many singers are there?
2. Which singer gave the most concerts?
- How many concerts were given in 1800?
4) Nobody agrees on this one, do they?
SELECT 1
How many singers are there?"""
COUNT, JOIN = "SELECT count(*) FROM singer", "SELECT name FROM singer JOIN appears ON singer.id = singer_id LIMIT 1"


def _replies(request: LoggedRequest) -> Reply:
    asked = request.last_message
    if "different questions" in asked:
        return Reply(QUESTIONS)
    if "How many singers" in asked:
        return Reply(texts=[COUNT, COUNT, "SELECT count(id) FROM singer", "SELECT nothing"])
    if "most concerts" in asked:
        return Reply(texts=[JOIN, JOIN, "I do not know.", "SELECT 2"])
    if "1800" in asked:
        return Reply("SELECT id FROM concert WHERE year = 1800")
    return Reply(texts=[f"SELECT {i}" for i in range(4)])


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(_replies) as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with sqlite3.connect(tmp_path / "concerts.db") as connection:
        connection.executescript(
            """
            CREATE TABLE singer (id INTEGER PRIMARY KEY, name TEXT, genre TEXT);
            CREATE TABLE concert (id INTEGER PRIMARY KEY, year INTEGER);
            CREATE TABLE appears (
              singer_id INTEGER REFERENCES singer (id), concert_id INTEGER REFERENCES concert (id)
            );
            CREATE TABLE lonely (id INTEGER PRIMARY KEY);
            INSERT INTO singer VALUES (1, 'Ada', 'jazz'), (2, 'Bo', 'pop'), (3, 'Cy', 'jazz');
            INSERT INTO concert VALUES (1, 2001), (2, 2002);
            INSERT INTO appears VALUES (1, 1), (1, 2), (2, 2);
            """
        )
    return tmp_path / "concerts.db"


def test_only_questions_with_an_agreed_and_non_empty_answer_are_kept(server: ScriptedServer, path: Path) -> None:
    with Database(path) as database:
        notes = sleep(database, scripted_chat_model(server))
    assert [(solved.question, solved.share) for solved in notes.solved] == [
        ("How many singers are there?", 0.75),
        ("Which singer gave the most concerts?", 0.5),
    ]
    assert notes.asked == 4


def test_the_notes_cost_what_the_server_billed(server: ScriptedServer, path: Path) -> None:
    with Database(path) as database:
        notes = sleep(database, scripted_chat_model(server))
    assert (notes.spent.prompt_tokens, notes.spent.completion_tokens) == (
        server.prompt_tokens,
        server.completion_tokens,
    )
    assert notes.amortised(100, 50.0) == pytest.approx(50 + (server.prompt_tokens + server.completion_tokens) / 100)
    with pytest.raises(TraceError, match="0 questions"):
        notes.amortised(0, 50.0)


def test_joins_and_values_are_noted(server: ScriptedServer, path: Path) -> None:
    with Database(path) as database:
        notes = sleep(database, scripted_chat_model(server))
    assert notes.joins == (
        "appears – concert: appears.concert_id = concert.id",
        "appears – singer: appears.singer_id = singer.id",
        "concert – singer: appears.concert_id = concert.id AND appears.singer_id = singer.id",
    )
    assert notes.values["singer.genre"] == ("jazz", "pop")
    assert "lonely" not in notes.text()
    assert notes.text(max_chars=60) == notes.joins[0]


def test_the_same_schema_is_thought_about_once(server: ScriptedServer, path: Path, tmp_path: Path) -> None:
    with Database(path) as database:
        first = sleep(database, scripted_chat_model(server), cache=tmp_path / "notes")
        calls = len(server.log)
        with sqlite3.connect(path) as connection:
            connection.execute("INSERT INTO singer VALUES (4, 'Di', 'folk')")
        assert sleep(database, scripted_chat_model(server), cache=tmp_path / "notes") == first
    assert len(server.log) == calls
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE singer ADD COLUMN born INTEGER")
    with Database(path) as changed:
        assert schema_hash(changed) != first.schema_hash
        sleep(changed, scripted_chat_model(server), cache=tmp_path / "notes")
    assert len(server.log) > calls


def test_a_later_question_is_shown_what_was_solved(server: ScriptedServer, path: Path) -> None:
    with Database(path) as database:
        model = scripted_chat_model(server)
        notes = sleep(database, model)
        before = len(server.log)
        node = Generate(model=model, database=database, demonstrations=notes.demonstrations(k=1))
        node.invoke({"question": "How many singers sing jazz?"})
    shown = server.log[before].messages
    assert [message["role"] for message in shown] == ["system", "user", "assistant", "user"]
    assert shown[1]["content"] == "How many singers are there?"
    assert COUNT in shown[2]["content"]


def test_a_budget_ends_it_with_what_was_found(server: ScriptedServer, path: Path) -> None:
    with Database(path) as database:
        notes = sleep(database, scripted_chat_model(server), budget={"model_calls": 2})
    assert len(server.log) == 2
    assert [solved.question for solved in notes.solved] == ["How many singers are there?"]


def test_a_list_is_read_without_its_ornaments() -> None:
    assert read_questions(QUESTIONS) == [
        "How many singers are there?",
        "Which singer gave the most concerts?",
        "How many concerts were given in 1800?",
        "Nobody agrees on this one, do they?",
    ]
    assert read_questions(str(AIMessage("Sorry.").content)) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 99}', '{"schema": 1, "colour": "red"}'])
def test_notes_that_cannot_be_read_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "notes.json"
    file.write_text(content)
    with pytest.raises(TraceError) as caught:
        read_notes(file)
    assert str(file) in str(caught.value)


def test_notes_of_a_masked_database_hold_no_values(server: ScriptedServer, path: Path) -> None:
    with Database(path, mask=True) as database:
        notes: SleepNotes = sleep(database, scripted_chat_model(server))
    assert notes.values == {}


def test_notes_name_tables_as_a_statement_has_to_and_belong_to_one_schema(tmp_path: Path) -> None:
    pytest.importorskip("duckdb_engine")
    engine = create_engine(f"duckdb:///{tmp_path}/tenants.duckdb")
    with engine.begin() as connection:
        for schema in ("north", "south east"):
            connection.execute(text(f'CREATE SCHEMA "{schema}"'))
            connection.execute(text(f'CREATE TABLE "{schema}"."order" ("no" int PRIMARY KEY)'))
            item = f'"order no" int REFERENCES "{schema}"."order"("no")'
            connection.execute(text(f'CREATE TABLE "{schema}"."order item" (id int, {item})'))
    with Database(engine, schema="north") as north, Database(engine, schema="south east") as south:
        assert schema_hash(north) != schema_hash(south)
        (line,) = join_paths(south.catalog)
        joined = '"south east"."order item" JOIN "south east"."order"'
        assert south.execute(f"SELECT * FROM {joined} ON {line.partition(': ')[2]}").error is None
    engine.dispose()
