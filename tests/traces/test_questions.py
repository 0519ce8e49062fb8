"""Questions are read strictly, split by database, and ordered so that any prefix is a fair sample."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tta_langgraph.errors import DatabaseError, TraceError
from tta_langgraph.traces.questions import (
    Question,
    balanced,
    chosen,
    database_at,
    load_questions,
    split_by_database,
)

ROW = {"id": "1", "db_id": "shop", "question": "How many?", "gold_sql": "SELECT 1"}


def _questions(databases: int, each: int) -> list[Question]:
    return [
        Question(id=f"{d}-{i}", question="?", db_id=f"db{d:02}", gold=("SELECT 1",))
        for d in range(databases)
        for i in range(each)
    ]


def test_two_gold_queries_are_accepted_and_equal_ones_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [
        {**ROW, "gold_sql_official": "SELECT 2", "difficulty": "hard", "split": "test"},
        {**ROW, "id": "2", "gold_sql_official": "SELECT 1", "difficulty": None, "extra": [1]},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    first, second = load_questions(path)
    assert (first.gold, first.difficulty, first.split) == (("SELECT 1", "SELECT 2"), "hard", "test")
    assert (second.gold, second.difficulty, second.split) == (("SELECT 1",), "", "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        (json.dumps({**ROW, "gold_sql": " "}), "gold_sql"),
        (json.dumps({**ROW, "id": 7}), "id"),
        (json.dumps(ROW), "comes twice"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n{line}\n")
    with pytest.raises(TraceError, match=said) as caught:
        load_questions(path)
    assert caught.value.where == f"{path}, line 2"


def test_a_file_from_an_editor_that_marks_its_encoding_is_read_and_no_letter_ends_a_line(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    asked = "How many?\u2028And\u0085where?"
    rows = [{**ROW, "question": asked}, {**ROW, "id": "2"}]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(text.encode("utf-8-sig"))
    assert [question.question for question in load_questions(path)] == [asked, "How many?"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        load_questions(tmp_path / "none.jsonl")


def test_no_database_is_in_both_splits() -> None:
    marked = split_by_database(_questions(10, 5), test=0.4, seed=3)
    splits = {question.db_id: {q.split for q in marked if q.db_id == question.db_id} for question in marked}
    assert all(len(found) == 1 for found in splits.values())


def _sides(questions: list[Question]) -> dict[str, str]:
    return {question.db_id: question.split for question in questions}


@pytest.mark.parametrize("share", [0.2, 0.4, 0.7])
def test_the_share_of_test_databases_is_near_what_was_asked(share: float) -> None:
    found = list(_sides(split_by_database(_questions(400, 1), test=share)).values())
    assert abs(found.count("test") / 400 - share) < 0.07


@pytest.mark.parametrize("databases", range(2, 12))
def test_neither_side_is_empty(databases: int) -> None:
    for share in (0.05, 0.95):
        assert set(_sides(split_by_database(_questions(databases, 1), test=share)).values()) == {"fit", "test"}


def test_a_database_keeps_its_side_when_others_are_added() -> None:
    few, many = (_sides(split_by_database(_questions(n, 2))) for n in (8, 30))
    assert {name: many[name] for name in few} == few


def test_a_side_given_before_wins_and_goes_to_the_whole_database() -> None:
    asked = _questions(4, 2)
    marked = [replace(asked[0], split="test"), *asked[1:]]
    found = split_by_database(marked, test=0.01, known={"db01": "test", "db02": "fit"})
    assert {q.split for q in found if q.db_id in ("db00", "db01")} == {"test"}
    assert {q.split for q in found if q.db_id == "db02"} == {"fit"}


def test_a_database_marked_for_both_sides_is_refused() -> None:
    asked = _questions(3, 2)
    marked = [replace(asked[0], split="test"), replace(asked[1], split="fit"), *asked[2:]]
    with pytest.raises(TraceError, match="both sides") as caught:
        split_by_database(marked)
    assert "db00" in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 1.0, 2.0, -0.1, float("nan")])
def test_a_share_is_between_nothing_and_everything(share: float) -> None:
    with pytest.raises(TraceError, match="share"):
        split_by_database(_questions(4, 1), test=share)


def test_the_order_loses_nothing_and_keeps_blocks_together() -> None:
    questions = split_by_database(_questions(7, 5))
    ordered = balanced(questions, block=2)
    assert sorted(q.id for q in ordered) == sorted(q.id for q in questions)
    assert ordered[0].db_id == ordered[1].db_id != ordered[2].db_id


@pytest.mark.parametrize("prefix", [20, 40, 60])
def test_any_prefix_is_spread_over_databases_and_splits(prefix: int) -> None:
    questions = split_by_database(_questions(20, 6), test=0.4)
    part = balanced(questions, block=2)[:prefix]
    per_database = Counter(question.db_id for question in part)
    assert max(per_database.values()) - min([per_database.get(f"db{d:02}", 0) for d in range(20)]) <= 4
    share = sum(question.split == "test" for question in part) / prefix
    assert abs(share - 0.4) <= 0.1


def test_the_choice_is_the_same_for_the_same_seed_and_respects_the_cap() -> None:
    questions = split_by_database(_questions(5, 50))
    picked = chosen(questions, n=30, per_database=4, seed=1)
    assert picked == chosen(questions, n=30, per_database=4, seed=1)
    assert picked != chosen(questions, n=30, per_database=4, seed=2)
    assert len(picked) == 20
    assert max(Counter(question.db_id for question in picked).values()) == 4


def test_a_missing_database_is_an_error_and_not_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError):
        database_at(tmp_path, "nowhere")
    assert list(tmp_path.iterdir()) == []
