"""Finding the one statement in what a model said."""

from __future__ import annotations

import json
import re
from itertools import islice

from tta_langgraph.sql.parsing import parses


def extract_sql(text: str) -> str | None:
    """The SQL statement in a model's reply, or None.

    Looked for in this order: the last fenced block that holds SQL (an unclosed one counts: the reply was cut), a
    `<sql>` tag, a JSON object with a `sql` or `query` field, a reply that is a statement, and a SELECT or WITH that
    starts a line or follows a colon, up to its semicolon or the next blank line. Reasoning between think tags is not
    looked at. A block with two statements comes back whole: choosing one of them is not for us, the checks refuse it.

    Args:
        text: the reply.

    Returns:
        One statement without its final semicolon, or None when there is none.

    Example:
        ```python
        extract_sql("Sure:\\n```sql\\nSELECT 1;\\n```")    # "SELECT 1"
        extract_sql("I cannot answer that.")              # None
        ```
    """
    text = _without_thinking(text.removeprefix("\ufeff"))
    if "</think>" in text:  # opened by the prompt, closed by the reply
        text = text.rpartition("</think>")[2]
    for block in reversed([(m["label"], m["body"]) for m in _FENCE.finditer(text)]):
        found = _block(*block)
        if found is not None:
            return found
    for match in reversed(list(_TAG.finditer(text))):
        if _STATEMENT.match(match["body"]):
            return _trimmed(match["body"])
    parsing = _Parsing()
    return _from_json(text) or _bare(text, parsing) or _in_prose(text, parsing)


class _Parsing:
    """Asks the parsers, for so many letters of one reply: a long one may look like a statement in many places."""

    def __init__(self) -> None:
        self._left = _MOST_PARSED

    def whole(self, sql: str) -> bool:
        """Whether it is one statement; no when too much has been asked already."""
        self._left -= len(sql)
        return self._left >= 0 and parses(sql)


def _without_thinking(text: str) -> str:
    """The text without what stands between think tags, in one pass; a tag that is not closed stays."""
    kept, at, opened = [], 0, None
    for tag in _THINK_TAG.finditer(text):
        if tag["close"] and opened is not None:
            kept.append(text[at:opened])
            at, opened = tag.end(), None
        elif not tag["close"] and opened is None:
            opened = tag.start()
    return "".join([*kept, text[at:]])


def _block(label: str, body: str) -> str | None:
    if label.lower() == "json":
        return _from_json(body)
    if label.lower() not in _LABELS:  # a fence that opens right before the statement has no label
        body = label + body
    found = _trimmed(_BROKEN_FENCE.sub("", body))
    return found if found is not None and _STATEMENT.match(_COMMENT.sub(" ", found)) else None


def _from_json(text: str) -> str | None:
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        return None
    try:
        value = json.loads(text[start : end + 1], strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    for name, field in value.items():
        if name.lower() in _FIELDS and isinstance(field, str) and _STATEMENT.match(field):
            return _trimmed(field)
    return None


def _bare(text: str, parsing: _Parsing) -> str | None:
    """A reply that starts as a statement does, and is one up to its end or its semicolon."""
    body = text.strip("\0 \t\r\n`")
    if not _STATEMENT.match(_COMMENT.sub(" ", body)):
        return None
    whole = _trimmed(body)
    if whole is not None and parsing.whole(whole) and _looks_meant(whole):
        return whole
    return _cut(body, parsing) if _QUERY.match(_COMMENT.sub(" ", body)) else None


def _in_prose(text: str, parsing: _Parsing) -> str | None:
    for start in reversed([match.start("sql") for match in _START.finditer(text)][-_MAX_STARTS:]):
        found = _cut(text[start:], parsing)
        if found is not None:
            return found
    return None


def _cut(text: str, parsing: _Parsing) -> str | None:
    """From the first word of a query up to the first end at which it is whole."""
    ends = [match.start() for match in islice(_END.finditer(text), _MAX_ENDS)]
    for end in (*ends, len(text)):
        candidate = _trimmed(text[:end])
        if candidate is not None and parsing.whole(candidate) and _looks_meant(candidate):
            return candidate
    return None


def _looks_meant(sql: str) -> bool:
    """Whether it is a query and not an English sentence that starts with "select" and happens to parse."""
    word = sql.split(None, 1)[0]
    return not word.istitle() or bool(_PUNCTUATION.search(sql))


def _trimmed(sql: str) -> str | None:
    previous = None
    while sql != previous:
        previous, sql = sql, _without_last_comment(sql.strip().rstrip(";").rstrip())
    return sql or None


def _without_last_comment(sql: str) -> str:
    """The text without a comment that fills its last line, or follows a semicolon on it."""
    start = sql.rfind("\n") + 1
    line = sql[start:]
    if start and line.lstrip(" \t").startswith("--"):
        return sql[:start]
    match = _COMMENT_AFTER_END.search(line)
    return sql[: start + match.start() + 1] if match else sql


_FENCE = re.compile(r"(?P<mark>```|~~~)[`~]*[ \t]*(?P<label>[\w+-]*)(?P<body>.*?)(?:(?P=mark)|\Z)", re.S)
_BROKEN_FENCE = re.compile(r"\n[ \t]*`{1,2}\s*\Z")
_TAG = re.compile(r"<(?P<tag>sql|query|answer)>(?P<body>.*?)(?:</(?P=tag)>|\Z)", re.S | re.I)
_THINK_TAG = re.compile(r"<(?P<close>/?)think(?:ing)?>", re.I)
_LABELS = frozenset(
    {"", "sql", "sqlite", "sqlite3", "postgresql", "postgres", "pgsql", "psql", "mysql", "mariadb", "duckdb", "json"}
    | {"tsql", "mssql", "plsql", "oracle", "snowflake", "bigquery", "redshift", "trino", "presto", "clickhouse"}
)
_FIELDS = ("sql", "query", "sql_query", "statement")
_STATEMENT = re.compile(
    r"[\s(]*(?:select|with|values|from|table|explain|insert|update|delete|merge|replace|create|drop|alter|truncate|"
    r"attach|detach|pragma|copy|grant|revoke|vacuum|call|set|show|describe|begin|commit|install|load|export|import)\b",
    re.I,
)
_QUERY = re.compile(r"[\s(]*(?:select|with|values|from)\b", re.I)
_START = re.compile(
    r"(?:^(?:[ \t]*(?:[-*+]|\d{1,3}[.)])[ \t])?|[:`>\uff1a])[ \t]*(?P<sql>\(*(?:select|with)\s)", re.I | re.M
)
# a semicolon, a tag, a blank line before what is no clause, a line that begins as a sentence or a heading does
_END = re.compile(
    r";|`|</|<\||\n[ \t]*\n(?!\s*(?:FROM|WHERE|JOIN|(?:LEFT|RIGHT|FULL|INNER|CROSS)\s|GROUP\s|ORDER\s|HAVING|LIMIT|"
    r"UNION|INTERSECT|EXCEPT|AND|OR|ON)\b)|\n(?=[A-Z][a-z]+[ ,]|[A-Z]\w+:)"
)
_MAX_ENDS = 20
_MAX_STARTS = 20
_MOST_PARSED = 200_000
_COMMENT = re.compile(r"--[^\n]*|/\*.*?(?:\*/|\Z)", re.S)
_COMMENT_AFTER_END = re.compile(r";[ \t]*--")
_PUNCTUATION = re.compile(r"[*(),\"_=<>]")
