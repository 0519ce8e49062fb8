"""Hostile statements that every engine family meets; the family files add their own.

Each corpus is a dict from a category to statements. `{dir}` stands for a folder that must stay empty. Everything in
the categories of `RESOURCES` may end in an error or in a bounded result; everything else must not run.
"""

from __future__ import annotations

RESOURCES = ("endless", "huge", "many rows", "deep")

WRITES = [
    "INSERT INTO singer VALUES (99, 'Eve', 'X', 1)",
    "INSERT INTO singer SELECT id + 100, name, country, age FROM singer",
    "INSERT INTO singer (id, name) VALUES (98, 'Eve') RETURNING id",
    "INSERT INTO singer DEFAULT VALUES",
    "UPDATE singer SET name = 'Eve'",
    "UPDATE singer SET age = age + 1 WHERE id IN (SELECT singer_id FROM concert)",
    "DELETE FROM singer",
    "DELETE FROM concert WHERE year < 3000",
    "DELETE FROM singer RETURNING *",
    "REPLACE INTO singer VALUES (1, 'Eve', 'X', 1)",
    "MERGE INTO singer AS t USING concert AS s ON t.id = s.singer_id WHEN MATCHED THEN DELETE",
    "TRUNCATE TABLE singer",
    "TRUNCATE singer",
    "DROP TABLE singer",
    "DROP TABLE IF EXISTS singer",
    "DROP VIEW IF EXISTS v",
    "DROP INDEX i",
    "DROP SCHEMA public CASCADE",
    "DROP DATABASE tta_tests",
    "CREATE TABLE eve (x int)",
    "CREATE TEMP TABLE eve (x int)",
    "CREATE TEMPORARY TABLE eve AS SELECT * FROM singer",
    "CREATE TABLE eve AS SELECT * FROM singer",
    "CREATE VIEW eve AS SELECT * FROM singer",
    "CREATE INDEX eve ON singer (name)",
    "CREATE UNIQUE INDEX eve ON singer (age)",
    "CREATE SCHEMA eve",
    "CREATE DATABASE eve",
    "ALTER TABLE singer ADD COLUMN eve int",
    "ALTER TABLE singer RENAME TO eve",
    "ALTER TABLE singer DROP COLUMN name",
    "SELECT * INTO eve FROM singer",
    "CREATE TRIGGER eve AFTER INSERT ON singer BEGIN DELETE FROM concert; END",
]

SESSION = [
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "END",
    "SAVEPOINT eve",
    "RELEASE SAVEPOINT eve",
    "START TRANSACTION READ WRITE",
    "SET x = 1",
    "USE eve",
    "SHOW TABLES",
    "DESCRIBE singer",
    "EXPLAIN SELECT * FROM singer",
    "EXPLAIN DELETE FROM singer",
    "EXPLAIN ANALYZE DELETE FROM singer",
    "EXPLAIN ANALYZE INSERT INTO singer VALUES (97, 'Eve', 'X', 1)",
    "EXPLAIN (ANALYZE, COSTS OFF) UPDATE singer SET age = 0",
    "VACUUM",
    "ANALYZE",
    "CALL eve()",
    "PREPARE eve AS DELETE FROM singer",
    "EXECUTE eve",
    "DEALLOCATE eve",
    "GRANT ALL ON singer TO PUBLIC",
    "REVOKE ALL ON singer FROM PUBLIC",
    "SELECT * FROM singer FOR UPDATE",
    "SELECT ?",
    "",
    "   ",
    ";",
    "-- only a comment",
    "/* only a comment */",
]

TREES = [
    "WITH x AS (DELETE FROM singer RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO singer VALUES (96, 'Eve', 'X', 1) RETURNING id) SELECT * FROM x",
    "WITH x AS (UPDATE singer SET age = 0 RETURNING *) SELECT count(*) FROM x",
    "WITH a AS (SELECT 1), b AS (DELETE FROM concert RETURNING id) SELECT * FROM a, b",
    "WITH RECURSIVE x AS (DELETE FROM singer RETURNING id) SELECT * FROM x",
    "WITH x AS (SELECT 1) DELETE FROM singer",
    "WITH x AS (SELECT 1 AS id) INSERT INTO concert SELECT id, id, id FROM x",
    "WITH x AS (SELECT 1 AS id) UPDATE singer SET age = 0 WHERE id IN (SELECT id FROM x)",
    "SELECT * FROM (DELETE FROM singer RETURNING *) AS x",
    "SELECT (DELETE FROM singer)",
    "SELECT 1 UNION ALL DELETE FROM singer",
    "SELECT * FROM singer WHERE id IN (DELETE FROM concert RETURNING id)",
    "(DELETE FROM singer)",
    "SELECT 1 WHERE EXISTS (INSERT INTO concert VALUES (9, 9, 9) RETURNING 1)",
]

STACKED = [
    "SELECT 1; DROP TABLE singer",
    "SELECT 1; DROP TABLE singer;",
    "SELECT 1;DROP TABLE singer--",
    "SELECT 1;; DELETE FROM singer",
    "SELECT 1 /* ; */ ; DELETE FROM singer",
    "SELECT 1 -- harmless\n; DELETE FROM singer",
    "SELECT ';' ; DELETE FROM singer",
    'SELECT ";" ; DELETE FROM singer',
    "SELECT 1; COMMIT; DROP TABLE singer",
    "SELECT 1; ROLLBACK; DROP TABLE singer",
    "SELECT 1; BEGIN; DELETE FROM singer; COMMIT",
    "SELECT 1) AS q; DROP TABLE singer; SELECT * FROM (SELECT 1",
    "SELECT 1\n) AS tta_q LIMIT 0; DELETE FROM singer; --",
    "SELECT 1; SELECT 2",
    "SELECT 1;\n\n\nUPDATE singer SET name = ''",
    "VALUES (1); DELETE FROM singer",
    "SELECT 1; /* x */ -- y\n DROP TABLE singer",
    "; DELETE FROM singer",
    "SELECT 1; SET x = 1",
    "SELECT 'a' 'b'; TRUNCATE TABLE singer",
]

UNICODE = [
    "\u200bDELETE FROM singer",
    "DELETE\u00a0FROM singer",
    "\ufeffDROP TABLE singer",
    "SELECT 1\u037e DROP TABLE singer",
    "SELECT 1\uff1b DROP TABLE singer",
    "\uff24\uff32\uff2f\uff30 TABLE singer",
    "DR\u041eP TABLE singer",
    "D\u0415LETE FROM singer",
    "SELECT 1\x00; DROP TABLE singer",
    "SELECT 1 \u202e; DROP TABLE singer",
    "SELECT\u2003*\u2003INTO eve FROM singer",
    "SELECT 1;\u2028DROP TABLE singer",
    "SELECT 1\x0b; DROP TABLE singer",
    "DELETE\x0cFROM\x0csinger",
    "SELECT '\ud800'; DELETE FROM singer",
]

COMMENTS = [
    "DR/**/OP TABLE singer",
    "/* SELECT */ DELETE FROM singer",
    "-- SELECT 1\nDELETE FROM singer",
    "--\rDELETE FROM singer",
    "/* /* nested */ */ DELETE FROM singer",
    "/**/DROP/**/TABLE/**/singer",
    "SELECT 1 /* unclosed",
    "SELECT 1 */ ; DELETE FROM singer",
    "DELETE -- SELECT\nFROM singer",
    "/*\nSELECT 1\n*/UPDATE singer SET name = ''",
    "#\nDELETE FROM singer",
    "SELECT 1 --\n; DROP TABLE singer --",
]

DEEP = [
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "SELECT " + "(" * 100_000 + "1",
    "SELECT " + "NOT " * 8_000 + "1",
    "SELECT " + "- " * 8_000 + "1",
    "SELECT " + "abs(" * 3_000 + "1" + ")" * 3_000,
    "SELECT " + "CASE WHEN 1=1 THEN " * 2_000 + "1" + " END" * 2_000,
    "SELECT * FROM " + "(SELECT * FROM " * 1_000 + "singer" + ") AS q" * 1_000,
    "SELECT 1 WHERE " + "EXISTS (SELECT 1 WHERE " * 1_000 + "1=1" + ")" * 1_000,
    "SELECT " + "+".join(["1"] * 20_000),
    "SELECT 1 WHERE " + " OR ".join(["1=1"] * 8_000),
    "SELECT " + "||".join(["'a'"] * 9_000),
    "SELECT 1 " + "UNION ALL SELECT 1 " * 2_700,
    "SELECT 1 " + "UNION SELECT 2 " * 2_500,
    "WITH " + ", ".join(f"c{i} AS (SELECT {i} AS x)" for i in range(1_800)) + " SELECT 1",
    "SELECT * FROM singer WHERE id IN (" + ",".join(["1"] * 24_000) + ")",
    "SELECT '" + "x" * 200_000 + "'",
    "SELECT " + ",".join(["1"] * 24_000),
    "SELECT " + "a" * 49_000,
    "WITH "
    + "c0 AS (SELECT 1 AS x UNION ALL SELECT 1), "
    + ", ".join(f"c{i} AS (SELECT a.x FROM c{i - 1} AS a, c{i - 1} AS b)" for i in range(1, 26))
    + " SELECT count(*) FROM c25",
    "SELECT * FROM " + ", ".join(f"singer AS s{i}" for i in range(60)),
    "SELECT " + "[" * 3_000 + "1" + "]" * 3_000,
    "SELECT " + "{" * 3_000,
    # shallow, but parsers try a reading of each level, go back, and try another: the time doubles with each
    "SELECT " + "ARRAY[" * 40 + "1" + "]" * 40,
    "SELECT " + "ROW(" * 40 + "1" + ")" * 40,
    "SELECT x::" + "STRUCT(" * 40 + "a INT" + ")" * 40,
    "SELECT * FROM singer" + " JOIN (singer" * 40 + " ON 1=1)" * 40,
]


def disguised(statements: list[str]) -> list[str]:
    """The same statements under a comment, in mixed case, with odd spaces, and behind a semicolon."""
    out = []
    for i, sql in enumerate(statements):
        head, _, tail = sql.partition(" ")
        mixed = "".join(c.upper() if j % 2 else c.lower() for j, c in enumerate(head))
        out.append(
            [
                f"/* just looking */ {sql} -- SELECT",
                f"{mixed}\t\n {tail}",
                f"SELECT count(*) FROM singer;\n{sql};",
                f"  ({sql})",
            ][i % 4]
        )
    return out


COMMON: dict[str, list[str]] = {
    "write": WRITES,
    "disguised": disguised(WRITES),
    "session": SESSION,
    "tree": TREES,
    "stacked": STACKED,
    "unicode": UNICODE,
    "comment": COMMENTS,
    "deep": DEEP,
}
