"""The graded questions: every gold query runs, means something, and has one answer only."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator

import pytest
import sqlglot
from sqlglot import exp

from tta_langgraph.demo import DemoQuestion, build_database, load_questions

QUESTIONS = load_questions()
each_question = pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = build_database(tmp_path_factory.mktemp("demo") / "shop.sqlite")
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    yield connection
    connection.close()


def test_there_are_at_least_24_of_four_grades() -> None:
    grades = Counter(question.difficulty for question in QUESTIONS)
    assert len(QUESTIONS) >= 24
    assert set(grades) == {"easy", "medium", "hard", "extra"}
    assert min(grades.values()) >= 5
    assert len({question.id for question in QUESTIONS}) == len(QUESTIONS)
    assert len({question.question for question in QUESTIONS}) == len(QUESTIONS)


@each_question
def test_gold_runs_and_answers_something(shop: sqlite3.Connection, question: DemoQuestion) -> None:
    rows = shop.execute(question.gold_sql).fetchall()
    assert rows
    assert any(value not in (None, 0, "") for value in rows[0])
    assert len(rows) <= 100, "an answer that nobody would read"


@each_question
def test_gold_keeps_to_one_reading_statement(question: DemoQuestion) -> None:
    [statement] = sqlglot.parse(question.gold_sql, read="sqlite")
    assert isinstance(statement, exp.Query)
    assert not any(isinstance(column, exp.Star) for column in statement.selects), "columns must be named"


def test_no_two_questions_have_the_same_answer(shop: sqlite3.Connection) -> None:
    answers: dict[str, str] = {}
    for question in QUESTIONS:
        answer = repr(sorted(map(repr, shop.execute(question.gold_sql).fetchall())))
        assert answer not in answers, f"{question.id} and {answers[answer]}"
        answers[answer] = question.id


@each_question
def test_no_tie_decides_what_a_limit_shows(shop: sqlite3.Connection, question: DemoQuestion) -> None:
    statement = sqlglot.parse_one(question.gold_sql, read="sqlite")
    assert isinstance(statement, exp.Query)
    limit, order = statement.args.get("limit"), statement.args.get("order")
    if limit is None:
        return
    assert order is not None, "a limit without an order"
    named = {column.alias: column.this for column in statement.selects if column.alias}
    key = order.expressions[0].this
    unlimited = statement.copy()
    unlimited.set("limit", None)
    assert isinstance(unlimited, exp.Select)
    unlimited.select(exp.alias_(named.get(key.name, key).copy(), "sort_key"), copy=False)
    count = int(limit.expression.this)
    keys = [row[-1] for row in shop.execute(unlimited.sql("sqlite")).fetchmany(count + 1)]
    assert len(set(keys)) == len(keys)


@each_question
def test_the_dirt_is_noted_where_two_formats_or_spaces_matter(question: DemoQuestion) -> None:
    if "joined" in question.gold_sql or "trim(" in question.gold_sql:
        assert question.notes


def test_the_grades_are_told_apart_by_their_sql() -> None:
    def joins(question: DemoQuestion) -> int:
        tree = sqlglot.parse_one(question.gold_sql, read="sqlite")
        return len(list(tree.find_all(exp.Join))) + len(list(tree.find_all(exp.Subquery, exp.Window, exp.In)))

    mean = {
        grade: sum(joins(question) for question in group) / len(group)
        for grade in ("easy", "medium", "hard", "extra")
        if (group := [question for question in QUESTIONS if question.difficulty == grade])
    }
    assert mean["easy"] == 0 < mean["medium"] < min(mean["hard"], mean["extra"])
