"""Whether a name in a FROM clause can only mean a common table expression, never a stored table.

Engines look for a stored table where a common table expression is not in sight yet: before its own definition, inside
it unless it is recursive, and when its name is spelled otherwise. `WITH secret AS (SELECT * FROM secret) SELECT *
FROM secret` reads the stored table, on PostgreSQL, MySQL and DuckDB. What is not surely a common table expression is
taken for a table; at worst a filter refuses one statement too many.
"""

from __future__ import annotations

from sqlglot import exp


def shadowed(table: exp.Table, dialect: str) -> bool:
    """Whether the name is that of a common table expression in sight, by the rules of the dialect.

    Args:
        table: a table of the statement.
        dialect: sqlglot's name.
    """
    name = _spelled(table.this, dialect)
    if table.db or not name:
        return False
    below: exp.Expr = table
    path: list[exp.Expr] = [table]  # from the name upwards
    while below.parent is not None:
        node = below.parent
        path.append(node)
        clause = node.args.get("with_") or node.args.get("with")
        if isinstance(clause, exp.With) and any(_spelled(cte, dialect) == name for cte in _seen(clause, path, dialect)):
            return True
        below = node
    return False


def _seen(clause: exp.With, path: list[exp.Expr], dialect: str) -> list[exp.CTE]:
    """The expressions of a WITH that are in sight from the bottom of the path."""
    every = [each for each in clause.expressions if isinstance(each, exp.CTE)]
    here = {id(node) for node in path}
    if dialect == "sqlite" or id(clause) not in here:  # SQLite sees all of them everywhere; so does the query itself
        return every
    place = next((i for i, cte in enumerate(every) if id(cte) in here), 0)
    before = every[:place]
    if place < len(every) and clause.args.get("recursive") and _repeats(every[place], here):
        before.append(every[place])
    return before


def _repeats(cte: exp.CTE, here: set[int]) -> bool:
    """Whether the path runs through the part of a recursive expression that refers to the expression itself.

    DuckDB reads the first part of a UNION, and anything that is no UNION, as if RECURSIVE were not there.
    """
    body = cte.this
    while isinstance(body, (exp.Subquery, exp.Paren)):
        body = body.this
    return isinstance(body, exp.Union) and id(body.expression) in here


def _spelled(node: exp.Expr | None, dialect: str) -> str:
    """The name as the dialect compares it, made so that equal texts are surely equal names."""
    if isinstance(node, exp.CTE):
        alias = node.args.get("alias")
        node = alias.this if isinstance(alias, exp.TableAlias) else None
    if not isinstance(node, exp.Identifier):
        return ""
    name, quoted = str(node.this), bool(node.args.get("quoted"))
    if dialect in _ANY_CASE:
        return name.translate(_LOWER)  # they fold the letters of ASCII, no others
    if dialect == "mysql":
        return name  # on Linux, Foo and foo are two tables
    if dialect == "postgres":
        return name if quoted else name.translate(_LOWER)
    return f'"{name}"' if quoted else name.translate(_LOWER)


_ANY_CASE = frozenset({"sqlite", "duckdb"})
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
