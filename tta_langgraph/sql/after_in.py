"""SQLite takes the name of a table after IN: `'x' IN secret` reads it, and parsers see a column."""

from __future__ import annotations

from sqlglot import exp


def name_tables(tree: exp.Expr) -> None:
    """Puts a table into the tree wherever SQLite reads one after IN, so that all who look for tables find it.

    `x IN t`, `x IN main.t`, `x IN 't'` and `x IN t(1)` name tables; `x IN (t)` is a list and names a column.

    Args:
        tree: a SQLite statement; changed in place.
    """
    for node in list(tree.find_all(exp.In)):
        named = node.args.get("field")
        schema = None
        if isinstance(named, exp.Dot):  # main.t(1)
            schema, named = named.this, named.expression
        elif isinstance(named, exp.Column):
            schema, named = named.args.get("table"), named.this
        elif isinstance(named, exp.Literal):
            named = exp.to_identifier(str(named.this), quoted=True)
        if named is not None:
            node.set("field", exp.Table(this=named, db=schema))
