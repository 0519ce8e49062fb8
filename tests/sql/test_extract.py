"""The statement in what a model said, or nothing."""

from __future__ import annotations

import pytest

from tta_langgraph.sql import extract_sql


@pytest.mark.parametrize(
    ("reply", "sql"),
    [
        ("SELECT 1", "SELECT 1"),
        ("  SELECT a FROM t ;  ", "SELECT a FROM t"),
        ("select name from singer", "select name from singer"),
        ("WITH a AS (SELECT 1) SELECT * FROM a", "WITH a AS (SELECT 1) SELECT * FROM a"),
        ("Sure!\n```sql\nSELECT a\nFROM t;\n```\nThis lists a.", "SELECT a\nFROM t"),
        ("```\nSELECT a FROM t\n```", "SELECT a FROM t"),
        ("```SQL\nSELECT a FROM t\n```", "SELECT a FROM t"),
        ("~~~sql\nSELECT a\n\nFROM t\n~~~\nThis lists a.", "SELECT a\n\nFROM t"),
        ("````sql\nSELECT a FROM t\n````", "SELECT a FROM t"),
        ("```sql\nSELECT a FROM t WHERE b ~~~~ 'y'\n```", "SELECT a FROM t WHERE b ~~~~ 'y'"),
        ("```SELECT a FROM t```", "SELECT a FROM t"),
        ("```sqlite\n-- all\nSELECT a FROM t\n```", "-- all\nSELECT a FROM t"),
        ("First ```sql\nSELECT 1\n``` no, rather:\n```sql\nSELECT 2\n```", "SELECT 2"),
        ("```python\nprint(1)\n```\n```sql\nSELECT 2\n```\n```text\nhello\n```", "SELECT 2"),
        ("```sql\nSELECT a FROM t WHERE", "SELECT a FROM t WHERE"),
        ("The query is: SELECT a FROM t WHERE b = 'x--y'", "SELECT a FROM t WHERE b = 'x--y'"),
        ("Here you go:\n\nSELECT a\nFROM t\nWHERE b = 'a;b';\n\nIt selects a.", "SELECT a\nFROM t\nWHERE b = 'a;b'"),
        ("Use `SELECT a FROM t` for that.", "SELECT a FROM t"),
        ("SELECT a FROM t\nThis query lists every a.", "SELECT a FROM t"),
        ("<think>maybe SELECT 2</think>SELECT 3", "SELECT 3"),
        ("so I would write SELECT 2</think>\nSELECT 3", "SELECT 3"),
        ('{"sql": "SELECT 1"}', "SELECT 1"),
        ('```json\n{"query": "SELECT a FROM t"}\n```', "SELECT a FROM t"),
        ("<sql>SELECT 1</sql>", "SELECT 1"),
        ("SELECT a FROM t; -- done", "SELECT a FROM t"),
        ("DROP TABLE singer", "DROP TABLE singer"),
        ("SELECT a FROM t\nExplanation: it lists a.", "SELECT a FROM t"),
        ("SQLQuery: SELECT a FROM t\nSQLResult: 7", "SELECT a FROM t"),
        ("Question: all a?\nSQL: SELECT a FROM t\nQuestion: more?", "SELECT a FROM t"),
        ("SELECT a\n\nFROM t\n\nWHERE b = 1;\n\nIt lists a.", "SELECT a\n\nFROM t\n\nWHERE b = 1"),
        ("SELECT a FROM t\n\nFrom this we see every a.", "SELECT a FROM t"),
        ("SELECT a FROM t\n\nSELECT b FROM t", "SELECT a FROM t"),
        ("1. SELECT a FROM t;\n", "SELECT a FROM t"),
        ("Either of:\n- SELECT a FROM t;", "SELECT a FROM t"),
        ("\u7b54\u6848\uff1aSELECT a FROM t;", "SELECT a FROM t"),
        ("SELECT a FROM t</s>", "SELECT a FROM t"),
        ("<|im_start|>SELECT a FROM t WHERE b < 3<|im_end|>", "SELECT a FROM t WHERE b < 3"),
        ("```tsql\nSELECT TOP 3 a FROM t\n```", "SELECT TOP 3 a FROM t"),
        ("```sql\nSELECT a FROM t\n``", "SELECT a FROM t"),
        ("```sql\nSELECT `a` FROM `t`", "SELECT `a` FROM `t`"),
    ],
)
def test_one_statement_is_found(reply: str, sql: str) -> None:
    assert extract_sql(reply) == sql


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot answer that.",
        "With this in mind, select one from the list.",
        "Update the record first.",
        "```python\nwith open('x') as f:\n    pass\n```",
        "```\nno statement\n```",
        '{"answer": 42}',
        "<think>SELECT 1</think>",
        "{" * 50_000,
        "SELECT" * 20_000,
    ],
)
def test_prose_is_not_taken_for_sql(reply: str) -> None:
    assert extract_sql(reply) is None


def test_two_statements_come_back_together_and_are_for_the_checks_to_refuse() -> None:
    assert extract_sql("```sql\nSELECT 1; DROP TABLE t;\n```") == "SELECT 1; DROP TABLE t"


@pytest.mark.parametrize(
    "unit",
    ["\nSELECT (", "select 1;", "-- a\n", "\n--", "<think>", "```sql\n", "~~~\n", "/* ", "<sql>", "`select a ", "{"],
)
def test_a_reply_that_looks_like_a_statement_in_many_places_is_read_all_the_same(unit: str) -> None:
    long = unit * (200_000 // len(unit))  # hours, if every place were tried, or every tag sought to the end
    assert extract_sql(f"Sure:\n```sql\nSELECT a FROM t\n```\n{long}") == "SELECT a FROM t"
    extract_sql(long)
    extract_sql(f"select 1 {long}")
