"""The name that is not there, where it stands, and the names that were probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import SequenceMatcher

from tta_langgraph.sql.catalog import Catalog, Table
from tta_langgraph.sql.names import located, spelled


def missing_name(error: str) -> str | None:
    """The identifier that the engine did not find, without quotes; None when the error names none."""
    for pattern in _MISSING:
        match = pattern.search(error)
        if match:
            return match["name"].strip("`\"'[] ")
    return None


def position(sql: str, error: str, name: str | None) -> str | None:
    """Where it went wrong: what the engine points at, or the first place of the name."""
    near = _NEAR.search(error)
    wanted = name or (near["name"] if near else None)
    if not wanted:
        return None
    bare = wanted.rpartition(".")[2]
    for candidate in (wanted, bare):
        match = re.search(rf"(?<!\w){re.escape(candidate)}(?!\w)", sql, re.I)
        if match:
            line = sql.count("\n", 0, match.start()) + 1
            return f"line {line}, column {match.start() - sql.rfind(chr(10), 0, match.start())}"
    return None


def near_misses(name: str, sql: str, catalog: Catalog, *, most: int = 3) -> list[str]:
    """Columns and tables whose names are close to the missing one, those the statement reads first.

    Returns:
        Texts as `Name in stadium` for columns and `stadium` for tables, best first.
    """
    bare = name.rpartition(".")[2].lower()
    read = {word.lower() for word in _WORD.findall(sql)}
    scored: list[tuple[float, str]] = []
    for table in catalog.tables:
        here = _HERE if table.name.lower() in read else 0.0
        closeness = _closeness(bare, table.name.lower())
        if closeness >= _CLOSE:
            scored.append((closeness, located(table.name, table.schema, catalog.dialect)))
        for column in table.columns:
            closeness = _closeness(bare, column.name.lower())
            if closeness >= _CLOSE:
                where = located(table.name, table.schema, catalog.dialect)
                scored.append((closeness + here, f"{spelled(column.name, catalog.dialect)} in {where}"))
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    best = scored[0][0] if scored else 0.0
    return [text for score, text in scored[:most] if score >= best - _SPREAD]


def near_values(
    table: Table, column: str, wanted: str, dialect: str, read: Callable[[str], list[tuple[object, ...]]]
) -> list[str]:
    """Distinct text of a column, closest to `wanted` first.

    Args:
        table: the table.
        column: its column, in any case.
        wanted: what it was compared with.
        dialect: sqlglot's name of the dialect.
        read: runs one of our own statements and returns its rows.
    """
    name = next((c.name for c in table.columns if c.name.lower() == column.lower()), None)
    if name is None:
        return []
    quoted = spelled(name, dialect, always=True)
    source = located(table.name, table.schema, dialect, always=True)
    rows = read(
        f"SELECT DISTINCT {quoted} FROM (SELECT {quoted} FROM {source} LIMIT {_LOOKED_AT}) AS t "
        f"WHERE {quoted} IS NOT NULL LIMIT {_DISTINCT}"
    )
    values = [row[0] for row in rows if isinstance(row[0], str)]
    close = sorted(values, key=lambda value: (-_closeness(wanted.lower(), value.lower()), value))
    return [value for value in close if _closeness(wanted.lower(), value.lower()) >= _ALIKE] or close[:_SHOWN]


def _closeness(a: str, b: str) -> float:
    if a == b:
        return 1.0
    x, y = a.replace("_", "").replace(" ", ""), b.replace("_", "").replace(" ", "")
    if x == y:
        return 0.99
    if len(x) > 2 and len(y) > 2 and (x in y or y in x):
        return max(0.8, min(len(x), len(y)) / max(len(x), len(y)))
    matcher = SequenceMatcher(None, x, y)
    return matcher.ratio() if matcher.quick_ratio() >= _CLOSE else 0.0


_CLOSE = 0.7
_ALIKE = 0.5
_LOOKED_AT = 10_000
_DISTINCT = 200
_SHOWN = 3
_HERE = 0.15
_SPREAD = 0.25
_WORD = re.compile(r"\w+")
_MISSING = (
    re.compile(r"no such (?:column|table|function): (?P<name>[^\s(,]+)", re.I),
    re.compile(r"ambiguous column name: (?P<name>[^\s,]+)", re.I),
    re.compile(r"missing FROM-clause entry for table (?P<name>\S+)", re.I),
    re.compile(r"(?:column|relation|table|view) (?P<name>\"[^\"]+\"|[\w.]+) (?:does not exist|is not available)", re.I),
    re.compile(r"function (?P<name>[\w.]+)\([^)]*\) does not exist", re.I),
    re.compile(r"Unknown (?:column|table) '(?P<name>[^']+)'", re.I),
    re.compile(r"Table '(?P<name>[^']+)' doesn't exist", re.I),
    re.compile(r"Referenced (?:column|table) \"(?P<name>[^\"]+)\"", re.I),
    re.compile(r"(?:Table|Scalar Function|Function) with name (?P<name>\S+) does not exist", re.I),
    re.compile(r"does not have a column named \"(?P<name>[^\"]+)\"", re.I),
    re.compile(r"Column \"(?P<name>[^\"]+)\" ", re.I),
)
_NEAR = re.compile(r"near \W?(?P<name>[\w.]+)")
