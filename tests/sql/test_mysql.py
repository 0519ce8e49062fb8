"""What MySQL and MariaDB are told, and what they would do if they were not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hostile_setup import fill
from sqlalchemy import Engine, create_engine, event, text

from tta_langgraph.sql import Database, execution_feedback
from tta_langgraph.sql.mysql import MySQLBackend
from tta_langgraph.sql.mysql_session import Session

ENDLESS = "SELECT count(*) FROM number a, number b, number c, number d WHERE a.x + b.x + c.x + d.x > -1"
HURRY = "SELECT /*+ MAX_EXECUTION_TIME(30000) SET_VAR(max_execution_time = 30000) */ " + ENDLESS.removeprefix("SELECT ")
AUTHOR_OF_LONG_TEXTS = (
    "CREATE TABLE doc (id int PRIMARY KEY, body longtext COMMENT 'the whole text', raw longblob)",
    "INSERT INTO doc SELECT x, concat(x, ':', repeat('é', 200000)), repeat('x', 1000000) FROM number WHERE x < 30",
)


@pytest.fixture
def engine(mysql_url: str) -> Iterator[Engine]:
    engine = create_engine(mysql_url)
    fill(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def texts(engine: Engine) -> Iterator[Engine]:
    with engine.begin() as connection:
        for statement in ("DROP TABLE IF EXISTS doc", *AUTHOR_OF_LONG_TEXTS):
            connection.execute(text(statement))
    yield engine
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE doc"))


def sent(engine: Engine) -> int:
    """Bytes that the server has sent to all its clients."""
    with engine.connect() as connection:
        return int(connection.execute(text("SHOW GLOBAL STATUS LIKE 'Bytes_sent'")).one()[1])


def running(engine: Engine) -> list[Any]:
    query = (
        "SELECT info FROM information_schema.processlist WHERE info LIKE '%FROM number a%' AND id <> connection_id()"
    )
    with engine.connect() as connection:
        return list(connection.execute(text(query)))


@pytest.mark.parametrize("sql", [ENDLESS, HURRY], ids=["plain", "with hints that ask for more time"])
def test_the_servers_own_time_limit_ends_a_statement_when_nobody_kills_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    monkeypatch.setattr(MySQLBackend, "_killer", lambda *_: lambda: None)
    with Database(engine) as database:
        result = database.execute(sql, timeout=0.4)
    assert (result.error_kind, result.error) == ("timeout", "stopped at the deadline")
    assert result.seconds < 15


def test_the_kill_ends_a_statement_when_the_server_has_no_time_limit(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "opening", lambda *_: "SET @tta_0 = 1")
    with Database(engine) as database:
        result = database.execute(ENDLESS, timeout=0.4)
    assert result.error_kind == "timeout"
    assert result.seconds < 15
    assert running(engine) == []


def test_an_engine_with_one_connection_is_ended_too(mysql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kill must not wait for a connection of the pool that the statement has used up."""
    monkeypatch.setattr(Session, "opening", lambda *_: "SET @tta_0 = 1")
    engine = create_engine(mysql_url, pool_size=1, max_overflow=0, pool_timeout=20)
    fill(engine)
    with Database(engine) as database:
        result = database.execute(ENDLESS, timeout=0.4)
    assert result.error_kind == "timeout"
    assert result.seconds < 15


def test_the_users_connection_is_left_as_it_was(mysql_url: str) -> None:
    engine = create_engine(mysql_url, pool_size=1, max_overflow=0)
    fill(engine)
    with engine.connect() as connection:
        maria = "MariaDB" in str(connection.execute(text("SELECT version()")).scalar())
    time, read = ("max_statement_time", "tx_read_only") if maria else ("max_execution_time", "transaction_read_only")
    engine.dispose()

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _: object) -> None:
        raw.cursor().execute(f"SET SESSION {time} = 77, SESSION sql_select_limit = 7, SESSION sql_mode = 'ANSI'")

    state = text(
        f"SELECT @@{time}, @@sql_select_limit, @@sql_mode LIKE '%ANSI_QUOTES%', @@{read}, @tta_0, connection_id()"
    )
    with engine.connect() as connection:
        before = connection.execute(state).one()
    with Database(engine) as database:
        for sql in ("SELECT * FROM singer", "SELECT nme FROM singer", "SELECT x FROM number"):
            database.execute(sql)
    with engine.begin() as connection:
        assert connection.execute(state).one() == before
        connection.execute(text("INSERT INTO number VALUES (5000)"))


MODES = ["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"]
TRAPS = [
    "SELECT '\\' , eve_delete() -- '",
    "SELECT '\\\\' , eve_delete() -- '",
    "SELECT 'a\\'' , eve_delete() -- '",
    'SELECT 1 AS "a\\", eve_delete() -- "',
    'SELECT 1 AS "a\\"", eve_delete() -- "',
    'SELECT "\'", eve_delete(), "\'"',
    "SELECT '\"', eve_delete(), '\"'",
    "SELECT `\\`, eve_delete() -- `",
    "SELECT '\\' /* ' */ , eve_delete() /* ' */",
]


@pytest.mark.parametrize("mode", MODES)
def test_quotes_are_read_as_the_server_reads_them(mysql_url: str, mode: str) -> None:
    """Whatever is let through never calls the function; the server itself says where a string ends."""
    engine = create_engine(mysql_url, connect_args={"init_command": f"SET SESSION sql_mode = '{mode}'"})
    fill(engine)
    called = []
    with Database(engine) as database:
        for sql in TRAPS:
            result = database.execute(sql)
            if "eve_delete" in str(result.error) and "not executed" not in str(result.error):
                called.append(sql)
            if "READ ONLY" in str(result.error):  # the second wall would have had to catch it
                called.append(sql)
        strings = database.execute("SELECT 'a\\\\b'")
        names = database.execute('SELECT max("name") FROM singer')
        count = database.execute("SELECT count(*) FROM singer")
    assert called == []
    assert strings.rows == ((("a\\\\b" if "BACKSLASH" in mode else "a\\b"),),)
    assert names.rows == ((("Cem" if "ANSI" in mode else "name"),),)
    assert count.rows == ((3,),)


def test_a_string_holds_what_the_parser_saw_in_every_mode(mysql_url: str) -> None:
    for mode in MODES:
        engine = create_engine(mysql_url, connect_args={"init_command": f"SET SESSION sql_mode = '{mode}'"})
        fill(engine)
        with Database(engine) as database:
            for sql in ("SELECT 'it''s'", "SELECT 'a' 'b'", "SELECT '--x', '/* y */', '# z'", "SELECT n'x', x'41'"):
                assert database.execute(sql).ok, (mode, sql)


def test_stored_functions_are_not_called(engine: Engine) -> None:
    with engine.begin() as connection:
        for name in ("eve_tax", "initcap"):  # one that a parser knows, though the server has none of its own
            connection.execute(text(f"DROP FUNCTION IF EXISTS {name}"))
            connection.execute(text(f"CREATE FUNCTION {name}(a INT) RETURNS INT DETERMINISTIC NO SQL RETURN a"))
    try:
        with Database(engine) as database:
            for sql in ("SELECT eve_tax(1)", "SELECT `eve_tax`(1)", "SELECT eve_tax /**/ (1)", "SELECT initcap(1)"):
                assert database.execute(sql).error_kind == "refused", sql
        with Database(engine, allow_functions=["eve_tax"]) as database:
            assert database.execute("SELECT eve_tax(7)").rows == ((7,),)
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP FUNCTION eve_tax"))
            connection.execute(text("DROP FUNCTION initcap"))


def test_long_cells_are_cut_on_the_server_and_nothing_else_changes(texts: Engine) -> None:
    with Database(texts, max_cell_bytes=50) as database:
        before = sent(texts)
        result = database.execute("SELECT id, body, raw, body FROM doc ORDER BY id DESC")
        assert sent(texts) - before < 12_000_000  # of 66 MB
    assert result.columns == ("id", "body", "raw", "body")
    assert [row[0] for row in result.rows] == list(range(29, -1, -1))
    assert result.rows[0][1] == ("29:" + "é" * 200)[:50]
    assert result.rows[0][2] == b"x" * 50
    assert result.truncated
    assert result.ordered


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM number a, number b, number c LIMIT 100000000",
        "SELECT a.x, repeat('x', 3000) FROM number a, number b LIMIT 10000000",
        "SELECT body, raw FROM doc",
    ],
)
def test_rows_that_nobody_reads_are_not_sent(texts: Engine, sql: str) -> None:
    with Database(texts, max_rows=10) as database:
        before = sent(texts)
        result = database.execute(sql, timeout=20)
        assert 5 < result.n_rows <= 10
        assert result.truncated
        assert sent(texts) - before < 20_000_000  # of gigabytes
        assert running(texts) == []
        assert database.execute("SELECT count(*) FROM singer").rows == ((3,),)


@pytest.mark.parametrize("charset", ["utf8mb4", "latin1"])
def test_text_that_the_connection_cannot_carry_is_an_error_and_not_an_exception(mysql_url: str, charset: str) -> None:
    engine = create_engine(mysql_url, connect_args={"charset": charset})
    fill(engine)
    with Database(engine) as database:
        for sql in ("SELECT '漢'", "SELECT '\ud800'", "SELECT cast(x'ff41' AS char)", "SELECT x'ff'"):
            result = database.execute(sql)
            assert result.ok or result.error
        assert database.execute("SELECT 'é'").rows == (("é",),)


def test_errors_of_the_server_are_short_and_lead_to_the_name_that_was_meant(engine: Engine) -> None:
    told = {
        "SELECT nme FROM singer": ("schema", "name in singer"),
        "SELECT s.nme FROM singer AS s": ("schema", "name in singer"),
        "SELECT * FROM singr": ("schema", "singer"),
        "SELECT id FROM singer JOIN concert ON singer.id = concert.singer_id": ("schema", "ambiguous"),
        "SELECT name, count(*) FROM singer WHERE GROUP BY name": ("syntax", ""),
        "SELECT sum(name FROM singer": ("syntax", ""),
    }
    with Database(engine) as database:
        for sql, (kind, part) in told.items():
            result = database.execute(sql)
            assert result.error_kind == kind, (sql, result.error)
            assert "manual" not in str(result.error)
            assert part in execution_feedback(result, database), sql


def test_comments_and_keys_are_in_the_schema_prompt(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS tour"))
        connection.execute(
            text(
                "CREATE TABLE tour (id int PRIMARY KEY, singer_id int COMMENT 'who sang', kind enum('big', 'small'), "
                "FOREIGN KEY (singer_id) REFERENCES singer(id)) COMMENT 'one row per tour'"
            )
        )
    try:
        with Database(engine) as database:
            prompt = database.schema_prompt()
        for part in ("one row per tour", "who sang", "REFERENCES singer(id)", " PRIMARY KEY,", "ENUM("):
            assert part in prompt
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE tour"))
