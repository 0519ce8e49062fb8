"""What a model is told: short, true, and enough to repair the statement."""

from __future__ import annotations

from pathlib import Path

import pytest

from tta_langgraph.sql import Database, execution_feedback
from tta_langgraph.sql.prompt import estimate_tokens


def told(path: Path, sql: str, **options: object) -> str:
    with Database(path) as database:
        result = database.execute(sql, timeout=options.pop("timeout", 5.0))  # type: ignore[arg-type]
        return execution_feedback(result, database, **options)  # type: ignore[arg-type]


def test_a_missing_column_comes_with_its_place_and_what_was_probably_meant(sqlite_path: Path) -> None:
    text = told(sqlite_path, "SELECT\n  sname FROM singer")
    assert "no such column: sname" in text
    assert "line 2, column 3" in text
    assert "Did you mean name in singer?" in text


def test_a_missing_table_comes_with_the_nearest_one(sqlite_path: Path) -> None:
    assert "Did you mean singer" in told(sqlite_path, "SELECT * FROM singers")


def test_a_column_of_another_table_is_found_there(sqlite_path: Path) -> None:
    assert "year in concert" in told(sqlite_path, "SELECT year FROM singer")


def test_names_far_from_everything_get_no_suggestion(sqlite_path: Path) -> None:
    assert "Did you mean" not in told(sqlite_path, "SELECT zzqx FROM singer")


def test_a_syntax_error_says_where(sqlite_path: Path) -> None:
    text = told(sqlite_path, "SELECT name FROM singer WHERE AND age > 3")
    assert text.startswith("Error: ")
    assert "line 1" in text


def test_an_empty_result_says_what_the_column_holds(sqlite_path: Path) -> None:
    text = told(sqlite_path, "SELECT name FROM singer WHERE country = 'france'")
    assert "found no rows" in text
    assert "singer.country has no 'france'; it holds 'France'" in text


def test_an_empty_result_for_another_reason_gets_no_false_hint(sqlite_path: Path) -> None:
    text = told(sqlite_path, "SELECT name FROM singer WHERE country = 'France' AND age > 99")
    assert text == "The query ran and found no rows."


def test_rows_come_with_their_count_and_the_first_of_them(sqlite_path: Path) -> None:
    text = told(sqlite_path, "SELECT name, age FROM singer ORDER BY id")
    assert "3 rows (name, age)" in text
    assert "Ann | 41" in text


def test_cut_rows_are_not_counted_as_all(sqlite_path: Path) -> None:
    with Database(sqlite_path, max_rows=5) as database:
        text = execution_feedback(database.execute("SELECT x FROM number"), database)
    assert "More than 5 rows" in text


def test_a_deadline_says_what_to_do(sqlite_path: Path) -> None:
    text = told(
        sqlite_path,
        "WITH RECURSIVE a(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM a) SELECT count(*) FROM a",
        timeout=0.1,
    )
    assert "stopped after" in text


@pytest.mark.parametrize("cap", [1, 3, 10, 30, 120])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sname FROM singer",
        "SELECT * FROM singer, concert",
        "SELECT * FROM singer WHERE country = 'france'",
        "SELECT hex(zeroblob(3000)) AS " + "long_name_" * 30,
        "DELETE FROM singer",
        "SELEC",
    ],
)
def test_the_cap_holds(sqlite_path: Path, sql: str, cap: int) -> None:
    assert estimate_tokens(told(sqlite_path, sql, max_tokens=cap)) <= cap
    assert len(told(sqlite_path, sql, max_tokens=cap, count_tokens=len)) <= cap


def test_masking_reaches_the_feedback(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "p.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE person (contact text)")
    connection.execute("INSERT INTO person VALUES ('ann@example.com')")
    connection.commit()
    connection.close()
    with Database(path, mask=True) as database:
        for sql in ("SELECT contact FROM person", "SELECT contact FROM person WHERE contact = 'an@example.com'"):
            text = execution_feedback(database.execute(sql), database)
            assert "ann@" not in text
            assert "<email>" in text
