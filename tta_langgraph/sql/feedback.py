"""What a model is told about the statement it wrote: short, and with what it needs to repair it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlglot import exp

from tta_langgraph.sql.mask import masked
from tta_langgraph.sql.near import missing_name, near_misses, position
from tta_langgraph.sql.parsing import parse
from tta_langgraph.sql.prompt import estimate_tokens
from tta_langgraph.sql.result import ExecutionResult, plain

if TYPE_CHECKING:
    from tta_langgraph.sql.database import Database

Counter = Callable[[str], int]


def execution_feedback(
    result: ExecutionResult,
    db: Database,
    *,
    max_tokens: int = 120,
    count_tokens: Counter | None = None,
) -> str:
    """What the database said, for the model that wrote the statement.

    An error comes with the place and the names it may have meant; an empty result with what the columns it filtered
    on do hold; rows with their count and the first of them.

    Args:
        result: what `Database.execute` returned.
        db: the database it ran on.
        max_tokens: the cap, in tokens; never exceeded.
        count_tokens: how the model counts; None estimates on the safe side.

    Returns:
        One to a few lines.

    Example:
        ```python
        print(execution_feedback(db.execute("SELECT sname FROM stadium"), db))
        # Error: no such column: sname (line 1, column 8). Did you mean Name in stadium?
        ```
    """
    if max_tokens < 1:
        raise ValueError(f"execution_feedback(max_tokens={max_tokens}): use a positive number")
    count = count_tokens or estimate_tokens
    if result.error is not None:
        parts = _error(result, db)
    elif result.empty:
        parts = ["The query ran and found no rows.", *_why_empty(result, db)]
    else:
        return _fitted_rows(result, db, max_tokens, count)
    return _fitted(parts, max_tokens, count)


def _error(result: ExecutionResult, db: Database) -> list[str]:
    assert result.error is not None
    if result.error_kind == "timeout":
        return [
            f"Error: the query was stopped after {result.seconds:.1f} s.",
            "Join on keys, filter earlier, or limit the recursion.",
        ]
    name = missing_name(result.error)
    place = position(result.sql, result.error, name)
    first = (
        f"Error: {result.error.rstrip('.')}" + (f" ({place})" if place and "line " not in result.error else "") + "."
    )
    hints = near_misses(name, result.sql, db.catalog) if name and result.error_kind == "schema" else []
    return [first, f"Did you mean {' or '.join(hints)}?"] if hints else [first]


def _why_empty(result: ExecutionResult, db: Database) -> list[str]:
    """For text compared with `=` or LIKE: what the column holds that is close to it."""
    statements = parse(result.sql, db.dialect).statements
    if not statements:
        return []
    hints = []
    for column, wanted in _comparisons(statements[0])[:_CHECKED]:
        holders = [
            table.name
            for table in db.catalog.tables
            if _reads(statements[0], table.name) and any(c.name.lower() == column.lower() for c in table.columns)
        ]
        for table in holders[:1]:
            hint = _near_value(db, table, column, wanted)
            if hint:
                hints.append(hint)
    return hints


def _comparisons(tree: exp.Expr) -> list[tuple[str, str]]:
    found = []
    for node in tree.find_all(exp.EQ, exp.Like, exp.ILike, exp.In):
        if isinstance(node, exp.In):
            sides = [(node.this, value) for value in node.expressions]
        else:
            sides = [(node.this, node.expression), (node.expression, node.this)]
        for column, value in sides:
            if isinstance(column, exp.Column) and (text := _literal(value)) is not None:
                found.append((column.name, text))
                break
    return found


def _literal(node: exp.Expr | None) -> str | None:
    if isinstance(node, exp.Literal) and node.is_string:
        return str(node.this)
    if isinstance(node, exp.Column) and not node.table and isinstance(node.this, exp.Identifier) and node.this.quoted:
        return str(node.name)  # "text" in double quotes, as SQLite and MySQL take it
    return None


def _near_value(db: Database, table: str, column: str, wanted: str) -> str | None:
    bare = wanted.strip("%")
    held = db.near_values(table, column, bare)
    if not held or wanted in held:
        return None
    shown = ", ".join(f"'{_short(masked(value, column) if db.mask else value)}'" for value in held[:_SHOWN])
    return f"{table}.{column} has no '{_short(bare)}'; it holds {shown}."


def _reads(tree: exp.Expr, table: str) -> bool:
    return any(node.name.lower() == table.lower() for node in tree.find_all(exp.Table))


def _fitted_rows(result: ExecutionResult, db: Database, max_tokens: int, count: Counter) -> str:
    n = result.n_rows
    total = f"{n} row{'s' if n != 1 else ''}" if not result.truncated else f"More than {n} rows"
    head = f"The query ran: {total}"
    names = ", ".join(_short(name) for name in result.columns)
    best = _fitted([f"{head}."], max_tokens, count)
    for text in (f"{head}.", f"{head} ({names})."):
        if count(text) <= max_tokens:
            best = text
    if count(f"{head} ({names}).") > max_tokens:
        return best
    for shown in range(1, min(n, _ROWS) + 1):
        lines = [_line(row, result.columns, db.mask) for row in result.rows[:shown]]
        rest = "\n..." if shown < n or result.truncated else ""
        text = f"{head} ({names}):\n" + "\n".join(lines) + rest
        if count(text) > max_tokens:
            break
        best = text
    return best


def _line(row: tuple[object, ...], columns: tuple[str, ...], mask: bool) -> str:
    cells = []
    for value, column in zip(row, columns, strict=False):
        text = "NULL" if value is None else _short(str(plain(value)))
        cells.append(masked(text, column) if mask and value is not None else text)
    return " | ".join(cells)


def _fitted(parts: list[str], max_tokens: int, count: Counter) -> str:
    """As many of the parts as fit; the first one cut if it must be."""
    text = parts[0]
    while text and count(text) > max_tokens:
        text = text[: max(0, len(text) * 4 // 5 - 1)]
    for part in parts[1:]:
        if count(f"{text} {part}") <= max_tokens:
            text = f"{text} {part}"
    return text


def _short(text: str) -> str:
    flat = _SPACE.sub(" ", text).strip()
    return flat if len(flat) <= _CELL else flat[: _CELL - 3] + "..."


_SPACE = re.compile(r"\s+")
_CELL = 40
_ROWS = 20
_SHOWN = 3
_CHECKED = 3
