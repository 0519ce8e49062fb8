"""How many queries a statement becomes once its common table expressions are written out.

SQLite, MySQL and DuckDB copy the body of a common table expression for each reference, while they plan, out of reach
of any deadline: 25 of them, each naming the one before twice, are 33 million copies (measured on SQLite 3.40: all
memory of the machine in seconds).
"""

from __future__ import annotations

from sqlglot import exp


def expanded(tree: exp.Expr, *, most: int) -> int:
    """Queries of the statement with every reference written out, counted up to a little beyond `most`."""
    counted: dict[int, int] = {}
    total = 0
    for table in tree.find_all(exp.Table):
        if _inside_cte(table) is None:
            total += _of_reference(table, counted, most, set())
            if total > most:
                break
    return total


def definition(table: exp.Expr) -> exp.CTE | None:
    """The common table expression that a table name stands for, if one is visible from there."""
    name = table.name.lower()
    if not isinstance(table, exp.Table) or table.db or not name:
        return None
    node: exp.Expr | None = table
    while node is not None:
        clause = node.args.get("with_") or node.args.get("with")
        if isinstance(clause, exp.With):
            for cte in clause.expressions:
                if isinstance(cte, exp.CTE) and cte.alias_or_name.lower() == name:
                    return cte
        node = node.parent
    return None


def _of_reference(table: exp.Table, counted: dict[int, int], most: int, open_: set[int]) -> int:
    cte = definition(table)
    if cte is None or id(cte) in open_:  # a plain table, or a recursive reference
        return 1
    if id(cte) not in counted:
        total = 1
        for inner in cte.find_all(exp.Table):
            total += _of_reference(inner, counted, most, open_ | {id(cte)})
            if total > most:
                break
        counted[id(cte)] = total
    return counted[id(cte)]


def _inside_cte(node: exp.Expr) -> exp.Expr | None:
    return node.find_ancestor(exp.CTE)
