"""Recordings that were made elsewhere: what becomes of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tta_langgraph.errors import TraceError
from tta_langgraph.traces.fit_explore import recorded_actions
from tta_langgraph.traces.foreign import import_answers, read_answers
from tta_langgraph.traces.model import Pool
from tta_langgraph.traces.replay_columns import columns


def pools_of(*rows: dict[str, Any], **options: Any) -> tuple[Pool, ...]:
    return import_answers(rows, **options).pools


def answer(model: str, tokens: int, **more: Any) -> dict[str, Any]:
    return {"question_id": "q", "model": model, "correct": True, "completion_tokens": tokens, **more}


def test_the_cheapest_model_answers_first_and_the_others_are_escalated_to() -> None:
    found = import_answers([answer("large", 90, answer="b"), answer("small", 10, answer="a")])
    assert found.models == ("small", "large")
    assert [(a.model, a.action) for a in found.pools[0].attempts] == [("small", "generate"), ("large", "escalate")]


def test_the_price_of_a_token_decides_who_is_cheap() -> None:
    rows = [answer("wordy", 40), answer("dear", 10)]
    found = import_answers(rows, prices={"dear": 60.0})
    assert found.models == ("wordy", "dear")
    assert [a.tokens for a in found.pools[0].attempts] == [40, 600]


def test_a_price_of_nobody_is_refused() -> None:
    with pytest.raises(TraceError, match="no model 'larg' to price"):
        import_answers([answer("large", 1)], prices={"larg": 60})


def test_a_given_order_of_models_stands_and_must_name_all() -> None:
    rows = [answer("small", 10), answer("large", 90)]
    assert import_answers(rows, models=["large", "small"]).models == ("large", "small")
    with pytest.raises(TraceError, match="leaves out 'small'"):
        import_answers(rows, models=["large"])


def test_several_answers_of_one_model_are_samples() -> None:
    rows = [answer("m", 10, question_id=q, answer=a) for q, a in (("1", "x"), ("1", " X. "), ("2", "y"))]
    first, second = pools_of(*rows)
    assert [a.action for a in (*first.attempts, *second.attempts)] == ["resample"] * 3
    assert first.attempts[0].key == first.attempts[1].key


def test_what_a_row_says_of_itself_stands_and_the_others_are_read_beside_it() -> None:
    rows = [answer("small", 5), answer("large", 90, action="generate"), answer("large", 90)]
    assert {(a.model, a.action) for a in pools_of(*rows)[0].attempts} == {
        ("small", "escalate"),
        ("large", "generate"),
        ("large", "resample"),
    }


@pytest.mark.parametrize("failed", [{"error": "no such table"}, {"executed": 0}, {"executed": False, "error": None}])
def test_what_failed_takes_no_part_in_votes(failed: dict[str, Any]) -> None:
    (attempt,) = pools_of(answer("m", 5, answer="SELECT 1", key="k", **failed))[0].attempts
    assert (attempt.executed, attempt.key, attempt.error_kind) == (False, None, "database")


def test_lists_are_several_answers_to_one_question() -> None:
    (pool,) = pools_of(
        {"id": "q", "answer": ["a", "b", None], "correct": [True, False, False], "model": "m", "tags": ["x"]}
    )
    assert [(a.answer, a.correct, a.key) for a in pool.attempts] == [
        ("a", True, "a"),
        ("b", False, "b"),
        (None, False, None),
    ]
    with pytest.raises(TraceError, match="answer has 1 values, and correct has 2"):
        pools_of({"id": "q", "answer": ["a"], "correct": [True, False]})


def test_corrections_follow_what_they_correct() -> None:
    rows = [
        answer("m", 10, attempt="a", error="no such column"),
        answer("m", 10, attempt="b", parent="a", feedback="execution", error=None, key="k"),
        answer("m", 10, attempt="c", parent="b", error=None, key="k"),
    ]
    (pool,) = pools_of(*rows)
    assert [(a.action, a.feedback, a.round) for a in pool.attempts] == [
        ("generate", "", 0),
        ("reflect", "execution", 1),
        ("reflect", "none", 2),
    ]
    assert [(a.executed, a.key) for a in pool.attempts] == [(False, None), (True, "k"), (True, "k")]
    assert {str(a) for a in recorded_actions(columns([pool]))} == {"reflect:execution", "reflect:none"}
    with pytest.raises(TraceError, match="corrects 'z', which is not there"):
        pools_of(answer("m", 1, parent="z"))
    with pytest.raises(TraceError, match="in a circle"):
        pools_of(answer("m", 1, attempt="a", parent="b"), answer("m", 1, attempt="b", parent="a"))


def test_answers_that_were_not_kept_agree_with_nobody() -> None:
    (pool,) = pools_of(answer("weak", 1), answer("strong", 2))
    assert len({a.key for a in pool.attempts} - {None}) == 2


def test_tokens_that_were_not_counted_are_estimated_and_said_so() -> None:
    found = import_answers([{"id": "q", "correct": 1, "answer": "x" * 40}, {"id": "r", "correct": 0}])
    assert (found.estimated, found.free, found.pools[0].attempts[0].tokens) == (1, 1, 10)


def test_the_same_question_under_two_names_is_never_on_both_sides() -> None:
    first, second = pools_of(
        {"id": "1", "question": "What is 2 + 2?", "correct": True},
        {"id": "2", "question": "what is  2 + 2?", "correct": True},
    )
    assert first.db_id == second.db_id != ""


def test_what_is_said_of_questions_elsewhere_is_taken_from_there(tmp_path: Path) -> None:
    answers, about = tmp_path / "answers.jsonl", tmp_path / "questions.jsonl"
    answers.write_text(json.dumps({"q": 7, "ok": True, "use": {"out": 5}}) + "\n", encoding="utf-8")
    about.write_text(json.dumps({"id": 7, "db_id": "shop", "question": "?", "split": "test", "gold": "x"}) + "\n")
    names = {"question_id": "q", "correct": "ok", "completion_tokens": "use.out"}
    found = read_answers(answers, names=names, about=about)
    (pool,) = found.pools
    assert (pool.question_id, pool.db_id, pool.split, pool.attempts[0].tokens) == ("7", "shop", "test", 5)
    assert not found.unused
    with pytest.raises(TraceError, match="no field 'qid'"):
        read_answers(answers, names={"qid": "q"})


def test_answers_without_a_label_are_left_out_and_counted() -> None:
    found = import_answers([answer("m", 1), answer("m", 1, correct=None)])
    assert (found.answers, found.unlabelled) == (1, 1)
    with pytest.raises(TraceError, match="nobody says"):
        import_answers([answer("m", 1, correct=None)])


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"correct": True}, "no id"),
        ({"id": "q", "correct": "perhaps"}, "correct"),
        ({"id": "q", "correct": True, "completion_tokens": -1}, "completion_tokens is -1"),
        ({"id": "q", "correct": True, "completion_tokens": "many"}, "completion_tokens is 'many'"),
        ({"id": "q", "correct": True, "seconds": float("nan")}, "seconds is nan"),
        ({"id": "q", "correct": True, "split": "train"}, "the split is 'train'"),
        ({"id": "q", "correct": True, "features": {"words": "ten"}}, "the feature 'words'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(row: dict[str, Any], told: str) -> None:
    with pytest.raises(TraceError, match=told):
        import_answers([row])


def test_answers_from_an_editor_that_marks_its_encoding_are_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"question_id": "ü", "answer": "4", "correct": true}\n', encoding="utf-8-sig")
    assert [pool.question_id for pool in read_answers(path).pools] == ["ü"]
