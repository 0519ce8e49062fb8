"""Which of DuckDB's functions only compute: what its catalog says of them, and for macros what they call.

The catalog says nothing of macros and table functions. A macro is as safe as the functions in its text; DuckDB's own
`histogram_values` hands its argument to `query_table`, which reads any table and any file under that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sqlalchemy import Connection

from tta_langgraph.sql.policy import CALL_PREFIXES, CALLS


def safe_functions(connection: Connection) -> tuple[frozenset[str], frozenset[str]]:
    """Lower-case names of the functions that may be called in an expression, and of those that may stand in FROM."""
    rows = [(str(name).lower(), *rest) for name, *rest in connection.exec_driver_sql(_FUNCTIONS).all()]
    harmless = {(name, kind in _SOURCES) for name, kind, _, _ in rows}
    for name, kind, effects, _ in rows:
        if kind not in _COMPUTING or effects:
            harmless.discard((name, kind in _SOURCES))
    harmless |= {(name, False) for name in _CALLS} | {(name, True) for name in _TABLES}
    macros = [
        (name, kind in _SOURCES, frozenset(word.lower() for word in _CALLED.findall(text)))
        for name, kind, _, text in rows
        if text is not None
    ]
    known = {name for name, *_ in rows}
    while worse := {(name, source) for name, source, words in macros if not _all_safe(words & known, harmless)}:
        if not worse & harmless:
            break
        harmless -= worse
    calls = frozenset(name for name, source in harmless if not source)
    return calls | _GRAMMAR, frozenset(name for name, source in harmless if source)


def _all_safe(words: Iterable[str], harmless: set[tuple[str, bool]]) -> bool:
    """Whether none of the words is a function that may do harm, in either place: a macro's text has no tree here."""
    return not any(
        word in CALLS["duckdb"]
        or word.startswith(CALL_PREFIXES["duckdb"])
        or not ((word, False) in harmless or (word, True) in harmless)
        for word in words
    )


_FUNCTIONS = "SELECT function_name, function_type, has_side_effects, macro_definition FROM duckdb_functions()"
_SOURCES = frozenset({"table", "table_macro"})
_COMPUTING = frozenset({"scalar", "aggregate", "macro", "window", "table_macro"})
_CALLS = frozenset({"random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "unnest", "error"})
"""They have side effects by the catalog, and do no harm."""
_TABLES = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree", "repeat"})
_GRAMMAR = frozenset({"row", "grouping", "grouping_id", "columns", "struct_pack", "coalesce", "try"})
_CALLED = re.compile(r'(\w+)"?\s*\(')
