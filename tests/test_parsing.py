"""Replies are read strictly: a new answer, a confirmation, a refusal, or garbage."""

from __future__ import annotations

import pytest

from tta_langgraph.errors import GraphError
from tta_langgraph.parsers import Label, boxed, final_line, normal_expression, normal_number, number
from tta_langgraph.parsing import read_reply, whole_reply
from tta_langgraph.sql import extract_sql

CURRENT = "SELECT name FROM singer"


@pytest.mark.parametrize(
    "text",
    [
        "CORRECT",
        "Yes, the query answers the question.",
        "The query is correct. It selects the names of all singers.",
        "The SQL query you provided looks right.",
        "No changes are needed.",
        "Confirmed.",
        "```sql\nSELECT name FROM singer;\n```",
        "select  NAME from singer",
        "The query `SELECT name FROM singer` correctly returns the names.",
        "<think>Should it be SELECT age? No.</think>The answer stands.",
    ],
)
def test_a_confirmation_keeps_the_answer(text: str) -> None:
    reply = read_reply(text, extract_sql, current=CURRENT)
    assert reply.kind == "confirmation"
    assert reply.answer is None


@pytest.mark.parametrize(
    "text",
    [
        "```sql\nSELECT age FROM singer\n```",
        "The query is correct, but better:\n```sql\nSELECT age FROM singer\n```",
        "Yes.\n\nSELECT age FROM singer;",
        "I'm sorry, you are right:\n```sql\nSELECT age FROM singer\n```",
    ],
)
def test_a_new_answer_is_taken_whatever_stands_around_it(text: str) -> None:
    reply = read_reply(text, extract_sql, current=CURRENT)
    assert reply.kind == "answer"
    assert reply.answer is not None
    assert "age" in reply.answer


@pytest.mark.parametrize(
    "text",
    [
        "I cannot answer this question.",
        "I'm sorry, but I can't help with that.",
        "As an AI language model, the query is right.",
        "This question cannot be answered from the schema.",
        "Please provide more information.",
    ],
)
def test_a_refusal_is_neither_answer_nor_confirmation(text: str) -> None:
    assert read_reply(text, extract_sql, current=CURRENT).kind == "refusal"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "?!?!",
        "```",
        "The query is incorrect.",
        "The query is not correct because it misses a join.",
        "It does not answer the question.",
        "<think>SELECT name FROM singer",
        "the the the the the",
    ],
)
def test_garbage_and_complaints_without_a_repair_are_no_answer(text: str) -> None:
    assert read_reply(text, extract_sql, current=CURRENT).kind == "garbage"


def test_there_is_nothing_to_confirm_in_a_first_answer() -> None:
    assert read_reply("Yes, that is correct.", extract_sql).kind == "garbage"


def test_what_counts_as_the_same_answer_is_the_tasks_business() -> None:
    assert read_reply("So the answer is 1,000.0", number, current="1000", normalise=normal_number).kind == (
        "confirmation"
    )
    assert read_reply("So the answer is 1,001", number, current="1000", normalise=normal_number).answer == "1001"


@pytest.mark.parametrize("parse", [final_line, number])
def test_a_reply_that_was_cut_off_has_no_final_line(parse: object) -> None:
    assert read_reply("First, 16 - 3 = 13", parse, truncated=True).kind == "garbage"  # type: ignore[arg-type]


def test_half_a_query_is_no_answer_even_if_it_would_run() -> None:
    cut = "```sql\nSELECT name FROM singer WHERE age"
    assert read_reply(cut, extract_sql, truncated=True).kind == "garbage"
    assert read_reply(cut, extract_sql).kind == "answer"
    assert read_reply(cut + " > 3\n```\nThis query selects", extract_sql, truncated=True).answer == (
        "SELECT name FROM singer WHERE age > 3"
    )


def test_a_boxed_answer_survives_a_cut_after_it() -> None:
    assert read_reply(r"Hence \boxed{\frac{1}{2}}. To check", boxed, truncated=True).answer == r"\frac{1}{2}"
    assert read_reply(r"Hence \boxed{\frac{1}{", boxed, truncated=True).answer is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{1} then \boxed{ {2} }", "{2}"),
        (r"no box", None),
        (r"\boxed{}", None),
        (r"\fbox{x^{2}}", "x^{2}"),
    ],
)
def test_boxed(text: str, found: str | None) -> None:
    assert boxed(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("16 - 3 - 4 = 9\n#### 18", "18"),
        ("The answer is $1,200.50.", "1200.5"),
        ("**Answer:** 7 apples, from 3 trees", "7"),
        (r"3 + 4 = \boxed{7} since 3 and 4", "7"),
        ("So she has 5 left", "5"),
        ("minus: -3", "-3"),
        ("no numbers", None),
    ],
)
def test_number(text: str, found: str | None) -> None:
    assert number(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It is warm.\nAnswer: positive", "positive"),
        ("**Positive**", "positive"),
        ("I would call it negative, not least for the end.", "negative"),
        ("positive or negative?", None),
        ("It has positive and negative parts.\nNEGATIVE", "negative"),
        ("nonpositive", None),
    ],
)
def test_label(text: str, found: str | None) -> None:
    assert Label("positive", "negative")(text) == found


def test_labels_have_to_differ() -> None:
    with pytest.raises(GraphError, match="at least two"):
        Label("Yes", "yes")


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (r"\dfrac{14}{3}", r"\frac{14}{3}", True),
        (r"\text{(C)}", "(C)", True),
        ("$10,000$", "10000", True),
        (r"90^\circ", "90", True),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})", True),
        ("3", "4", False),
        ("-0", "0", True),
    ],
)
def test_normal_expression(left: str, right: str, same: bool) -> None:
    assert (normal_expression(left) == normal_expression(right)) is same


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CORRECT", "confirmation"),
        ("Yes, the answer is right.", "confirmation"),
        ("My answer is correct.", "confirmation"),
        ("Yes, and the longer story is that " + "we sold more in May than in April, by far. " * 4, "answer"),
        ("Oslo is the capital.", "answer"),
        ("", "garbage"),
    ],
)
def test_an_agents_whole_reply_is_its_answer_unless_it_briefly_confirms(text: str, kind: str) -> None:
    assert read_reply(text, whole_reply, current="Bergen").kind == kind
