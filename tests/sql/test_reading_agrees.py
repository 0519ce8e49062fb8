"""The check and the engine read the same text: no call that the check did not see is ever made.

Statements are drawn from the pieces that parsers disagree about (quotes, escapes, comments, hints, prefixes). Those
that are let through run on a bare engine, where a function says that it was called.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from tta_langgraph.sql.checks import Policy, check
from tta_langgraph.sql.grammars import mysql_grammar

PIECES = [
    *("'", "''", '"', '""', "`", "\\", "\\'", '\\"', "\\\\", "--", "-- ", "--\n", "#", "# ", "/*", "*/", "/*+", "/*!"),
    *("$$", "$a$", "E'", "U&'", "n'", "x'", "_utf8'", "b'", "{#", "#}", "\n", "\r", "\t", "a", " ", ",", "[", "]", ";"),
]
HEADS = ["SELECT ", "SELECT 1", "SELECT 'a'", "SELECT 1, '", 'SELECT "a", \'', "SELECT 1 /*", "SELECT 1 --"]
CALLS = [", eve()", " eve()", ",eve(),'", ",eve() -- ", ",eve() #", ",eve() /*", " || eve() || '", ',eve(),"']
TAILS = ["", " -- '", "'", '"', "`", " */", "\n"]
MODES = ("", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES")
STATEMENTS = 1_500


@dataclass
class Bare:
    """An engine without any of our walls."""

    policy: Policy
    called: Callable[[str], bool]


def by_error(url: str, setup: list[str], **options: Any) -> Callable[[str], bool]:
    """Runs a statement; whether `eve` was called is told by the error it raises."""
    connection = create_engine(url, **options).connect()
    plainly = {"no_parameters": True}
    for statement in setup:
        connection.exec_driver_sql(statement, execution_options=plainly)

    def called(sql: str) -> bool:
        try:
            connection.exec_driver_sql(sql, execution_options=plainly).close()
        except SQLAlchemyError as error:
            return "EVE WAS HERE" in str(error.orig if hasattr(error, "orig") else error).split("LINE")[0]
        except UnicodeError:
            return False
        return False

    return called


def sqlite_engine(tmp_path: Path) -> Callable[[str], bool]:
    engine, calls = create_engine("sqlite://"), []

    @event.listens_for(engine, "connect")
    def add(raw: Any, _: object) -> None:
        raw.create_function("eve", -1, lambda *_: calls.append(1))

    connection = engine.connect()

    def called(sql: str) -> bool:
        calls.clear()
        with suppress(SQLAlchemyError):
            connection.exec_driver_sql(sql).close()
        return bool(calls)

    return called


@pytest.fixture(params=["sqlite", "duckdb", "postgres", *(f"mysql {mode}".strip() for mode in MODES)])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bare]:
    family, _, mode = request.param.partition(" ")
    if family == "sqlite":
        yield Bare(Policy(dialect="sqlite"), sqlite_engine(tmp_path))
    elif family == "duckdb":
        pytest.importorskip("duckdb_engine")
        setup = ["CREATE MACRO eve() AS error('EVE WAS HERE')"]
        yield Bare(Policy(dialect="duckdb"), by_error(f"duckdb:///{tmp_path}/r.duckdb", setup))
    elif family == "postgres":
        body = "BEGIN RAISE EXCEPTION 'EVE WAS HERE'; END"
        setup = [f"CREATE OR REPLACE FUNCTION eve() RETURNS int LANGUAGE plpgsql AS $${body}$$"]
        url = request.getfixturevalue("postgres_url")
        yield Bare(Policy(dialect="postgres"), by_error(url, setup, isolation_level="AUTOCOMMIT"))
        with create_engine(url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("DROP FUNCTION eve()")
    else:
        signal = "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'EVE WAS HERE'; RETURN 1;"
        setup = [
            "DROP FUNCTION IF EXISTS eve",
            f"CREATE FUNCTION eve() RETURNS INT DETERMINISTIC NO SQL BEGIN {signal} END",
            f"SET SESSION sql_mode = '{mode}'",
        ]
        grammar = mysql_grammar(frozenset(mode.split(",")))
        called = by_error(request.getfixturevalue("mysql_url"), setup, isolation_level="AUTOCOMMIT")
        yield Bare(Policy(dialect="mysql", grammar=grammar), called)


def drawn(seed: int) -> Iterator[str]:
    rng = random.Random(seed)

    def some(most: int) -> str:
        return "".join(rng.choice(PIECES) for _ in range(rng.randint(0, most)))

    for _ in range(STATEMENTS):
        yield rng.choice(HEADS) + some(6) + rng.choice(CALLS) + some(4) + rng.choice(TAILS)


def test_the_engine_makes_no_call_that_the_check_did_not_see(bare: Bare) -> None:
    assert bare.called("SELECT eve()")  # otherwise the rest could not fail
    unseen, passed = [], 0
    for sql in drawn(7):
        verdict = check(sql, bare.policy)
        if verdict.error is None and "eve" not in verdict.calls:
            passed += 1
            if bare.called(verdict.statement):
                unseen.append(sql)
    assert unseen == []
    assert passed > 50
