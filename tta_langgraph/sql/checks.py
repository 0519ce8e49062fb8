"""The first of three walls: one statement, and nothing in its tree but reading."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Literal

from sqlglot import TokenType, exp

from tta_langgraph.sql.after_in import name_tables
from tta_langgraph.sql.expansion import expanded
from tta_langgraph.sql.growth import too_large, wide_format
from tta_langgraph.sql.parsing import orders, parse
from tta_langgraph.sql.policy import (
    CALL_PREFIXES,
    CALLS,
    DEEP,
    FALLBACK_CALLS,
    FORBIDDEN_NODES,
    HARMLESS_CALLS,
    SYSTEM_SCHEMAS,
    SYSTEM_TABLES,
)
from tta_langgraph.sql.shadows import shadowed
from tta_langgraph.sql.wording import after_dots, bare, called


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What one database lets through. Hashable: verdicts are cached by statement and policy."""

    dialect: str
    """The sqlglot dialect; what is refused goes by it."""
    grammar: str | None = None
    """How the server reads quotes, where a setting of it decides; None for the dialect's usual way."""
    max_chars: int = 50_000
    """Longest statement, in characters."""
    max_words: int = 4_000
    """Most words (names, numbers, signs); what a parser takes a fraction of a second for."""
    max_depth: int = 50
    """Deepest nesting."""
    max_queries: int = 2_000
    """Most queries with all common table expressions written out."""
    only_tables: frozenset[str] | None = None
    """Lower-case names of the tables that may be read; None for all but the system's."""
    only_schemas: frozenset[str] = frozenset()
    """Where tables are filtered: lower-case names by which a table's name may be qualified, its schema's and its
    database's. The filters name tables of one schema, and those of another may have the same names."""
    only_qualified: bool = False
    """Where tables are filtered: whether a name alone reaches another schema than the filters speak of."""
    without_tables: frozenset[str] = frozenset()
    """Lower-case names of the tables that may not be read."""
    safe_calls: frozenset[str] | None = None
    """Lower-case names of the functions that may be called; None for all but those known to do harm."""
    safe_sources: frozenset[str] | None = None
    """Lower-case names of the functions that may stand in FROM; None for all that may be called."""
    unsafe_calls: frozenset[str] = frozenset()
    """Lower-case names of functions that the engine's catalog does not call free of side effects."""
    unsafe_fields: frozenset[str] = frozenset()
    """Those of them that the engine also calls where a column of a row is written: `row.name`."""
    allow_calls: frozenset[str] = frozenset()
    """Lower-case names of functions that are let through whatever the lists say."""
    max_growth: int = 1_000_000
    """Most elements of a value that the statement may build out of nothing, where the engine does not see to it."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the check found out about a statement."""

    error: str | None = None
    """Why it is not let through, one line; None when it is."""
    kind: Literal["refused", "syntax"] | None = None
    """Whether it is unwanted or unreadable."""
    statement: str = ""
    """The statement from its first to its last word, comments and hints blanked, without the semicolon after it."""
    ordered: bool = False
    """Whether the outermost query orders its rows."""
    limited: bool = False
    """Whether the outermost query limits its rows, or is in brackets, so that no limit can be appended."""
    width: int = 1
    """The most columns that one SELECT in it spells out."""
    stars: int = 0
    """The most stars in one SELECT."""
    calls: frozenset[str] = field(default_factory=frozenset)
    """Lower-case words written before a bracket, functions among them."""
    tables: frozenset[str] = field(default_factory=frozenset)
    """Lower-case names of the tables it reads, common table expressions left out."""
    defined: frozenset[str] = field(default_factory=frozenset)
    """Lower-case names of its common table expressions."""


@lru_cache(maxsize=4096)
def check(sql: str, policy: Policy) -> Verdict:
    """Judges a statement by its text, its words and its tree, without a database."""
    if len(sql) > policy.max_chars:
        return _refused(f"the statement is longer than {policy.max_chars} characters")
    odd = _odd_character(sql) or _hidden(sql, policy.dialect)
    if odd is not None:
        return _refused(odd)
    limits = {"max_chars": policy.max_chars, "max_words": policy.max_words, "max_depth": policy.max_depth}
    parsed = parse(sql, policy.grammar or policy.dialect, **limits)
    if parsed.error is not None:
        if parsed.hostile:
            return _refused(parsed.error)
        return Verdict(error=f"syntax error: {parsed.error}", kind="syntax")
    if len(parsed.statements) != 1:
        n = len(parsed.statements)
        return _refused("one statement is expected, this has " + (str(n) if n else "none"))
    if any(token.token_type is TokenType.INTO for token in parsed.tokens):
        return _refused("INTO is not allowed, only reading is")
    tree = parsed.statements[0]
    if "/*+" in sql:  # hints are advice to the planner; they are left out, and so is their tree
        for hint in list(tree.find_all(exp.Hint)):
            hint.pop()
    if policy.dialect == "sqlite":
        name_tables(tree)
    calls = called(parsed.tokens)
    nodes = list(tree.walk())
    fields = after_dots(parsed.tokens) & policy.unsafe_fields if policy.unsafe_fields else frozenset()
    refusal = _harmful(calls | fields, policy) or _nodes(tree, nodes, policy)
    if refusal is None and policy.dialect in _GROWING:
        refusal = _GROWING[policy.dialect](nodes, policy.max_growth)
    defined = frozenset(node.alias_or_name.lower() for node in nodes if isinstance(node, exp.CTE))
    if refusal is None and defined and expanded(tree, most=policy.max_queries) > policy.max_queries:
        refusal = f"its common table expressions stand for more than {policy.max_queries} queries"
    if refusal is not None:
        return _refused(refusal)
    tables, refusal = _tables(nodes, defined, policy)
    if refusal is not None:
        return _refused(refusal)
    width, stars = _width(nodes)
    return Verdict(
        statement=bare(sql, parsed.tokens),
        ordered=orders(tree),
        limited=not isinstance(tree, (exp.Select, exp.SetOperation))
        or any(map(tree.args.get, ("limit", "offset", "fetch"))),
        width=width,
        stars=stars,
        tables=tables,
        defined=defined,
        calls=calls,
    )


def _refused(why: str) -> Verdict:
    return Verdict(error=f"not executed: {why}", kind="refused")


def _odd_character(sql: str) -> str | None:
    """Characters that a parser and an engine may read differently, outside of quotes."""
    if sql.isascii() and sql.isprintable():
        return None
    for match in _ODD.finditer(_QUOTED.sub(lambda m: "x" * len(m[0]), sql)):
        character = match[0]
        if character in "\t\n\r\f" or (character.isprintable() and not character.isspace()):
            continue
        name = unicodedata.name(character, "control character")
        return f"invisible character U+{ord(character):04X} ({name.lower()}) at position {match.start() + 1}"
    return "a NUL character" if "\0" in sql else None


def _hidden(sql: str, dialect: str) -> str | None:
    """Notations that the engine runs and a parser takes for a comment or a plain word."""
    if dialect == "mysql" and _EXECUTABLE_COMMENT.search(sql):
        return "executable comments (/*! ... */) are not allowed"
    if dialect == "postgres" and _ESCAPED_NAME.search(sql):
        return 'escaped identifiers (U&"...") are not allowed'
    return None


def _harmful(calls: frozenset[str], policy: Policy) -> str | None:
    harmful, prefixes = CALLS.get(policy.dialect, _ALL_CALLS), CALL_PREFIXES.get(policy.dialect, ("\0",))
    for name in sorted(calls - policy.allow_calls - HARMLESS_CALLS):
        if name in harmful or name.startswith(prefixes):
            return f"the function {name} is not allowed"
        if name in policy.unsafe_calls:
            return f"the function {name} is not known to be harmless"
    return None


def _nodes(tree: exp.Expr, nodes: list[exp.Expr], policy: Policy) -> str | None:
    root: exp.Expr = tree
    while isinstance(root, (exp.Subquery, exp.Paren)):
        root = root.this
    if not isinstance(root, (exp.Select, exp.SetOperation, exp.Values)):
        return f"only a query may be executed, this is {_name(root)}"
    for node in nodes:
        if _forbidden(type(node)):
            return f"{_name(node)} is not allowed, only reading is"
        if policy.dialect == "mysql" and isinstance(node, exp.PropertyEQ):
            return "assigning to a variable is not allowed, only reading is"
        if isinstance(node, exp.CTE) and not isinstance(node.this, (exp.Query, exp.Values, exp.Subquery)):
            return f"{_name(node.this)} in a common table expression is not allowed, only reading is"
        if isinstance(node, exp.Func) and not _safe(node, policy):
            return f"the function {_called(node)} is not known, or not known to be harmless"
    return None


def _forbidden(kind: type) -> bool:
    """Asked once per kind of node: the list is long, trees are many."""
    if kind not in _VERDICTS:
        _VERDICTS[kind] = issubclass(kind, FORBIDDEN_NODES)
    return _VERDICTS[kind]


def _safe(node: exp.Func, policy: Policy) -> bool:
    if policy.safe_sources is not None and isinstance(node.parent, (exp.Table, exp.Lateral)):
        return _called(node) in policy.safe_sources | policy.allow_calls
    if policy.safe_calls is None and policy.dialect in DEEP:
        return True
    if isinstance(node, exp.Anonymous):
        name = _called(node)
        safe = FALLBACK_CALLS if policy.safe_calls is None else policy.safe_calls
        return name in safe or name in policy.allow_calls
    # a function the parser has a type for is one that reads, in an engine we hold to reading ourselves
    return policy.dialect in DEEP or _called(node) in FALLBACK_CALLS | policy.allow_calls or _harmless(node)


def _harmless(node: exp.Func) -> bool:
    return isinstance(node, (exp.AggFunc, exp.Cast, exp.Case, exp.If, exp.And, exp.Or, exp.Xor, exp.Binary, exp.Array))


def _called(node: exp.Func) -> str:
    return str(node.this if isinstance(node, exp.Anonymous) else node.sql_name()).lower().strip('"`[]')


def _tables(nodes: list[exp.Expr], defined: frozenset[str], policy: Policy) -> tuple[frozenset[str], str | None]:
    read: set[str] = set()
    system = SYSTEM_TABLES.get(policy.dialect, ())
    for table in nodes:
        if not isinstance(table, exp.Table):
            continue
        name, schema = table.name.lower(), table.db.lower()
        if isinstance(table.this, exp.Func):
            if policy.dialect == "sqlite" and _called(table.this) in policy.without_tables:  # a virtual table's
                return frozenset(), f"the table {_called(table.this)} is not available"
            continue
        if not name:
            continue
        if name in defined and shadowed(table, policy.dialect):
            continue
        read.add(name)
        if policy.dialect == "duckdb" and _FILE_LIKE.search(table.name) and not _listed(name, policy):
            return frozenset(), f"reading the file {table.name!r} is not allowed"
        if schema in SYSTEM_SCHEMAS or (not _listed(name, policy) and name.startswith(system or "\0")):
            return frozenset(), f"the system table {table.name} is not allowed"
        if policy.only_tables is not None and (name not in policy.only_tables or _elsewhere(table, policy)):
            bare = policy.only_qualified and not schema
            return frozenset(), f"the table {table.name} is not available{' without its schema' if bare else ''}"
        if {name, f"{schema}.{name}"} & policy.without_tables:
            return frozenset(), f"the table {table.name} is not available"
    return frozenset(read), None


def _elsewhere(table: exp.Table, policy: Policy) -> bool:
    """Whether the name leads, or may lead, to another schema than the filters speak of."""
    if policy.only_qualified and not table.db:
        return True
    return any(part and part.lower() not in policy.only_schemas for part in (table.catalog, table.db))


def _listed(name: str, policy: Policy) -> bool:
    return policy.only_tables is not None and name in policy.only_tables


def _width(nodes: list[exp.Expr]) -> tuple[int, int]:
    width = stars = 0
    for select in nodes:
        if not isinstance(select, exp.Select):
            continue
        columns = select.expressions
        width = max(width, len(columns))
        stars = max(stars, sum(1 for column in columns if column.is_star))
    return max(1, width), stars


def _name(node: exp.Expr) -> str:
    if isinstance(node, exp.Command):
        return str(node.this).upper()
    return _WORDS.sub(" ", type(node).__name__).upper()


_VERDICTS: dict[type, bool] = {}
_GROWING: dict[str, Callable[[list[exp.Expr], int], str | None]] = {
    "duckdb": partial(too_large, strict=True),
    "mysql": partial(too_large, strict=False),
    "postgres": partial(too_large, strict=False),
    "sqlite": wide_format,  # it has a limit of its own for all else
}
_ALL_CALLS = frozenset().union(*CALLS.values())
_ODD = re.compile(r"[^\x20-\x7e]")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--[^\n]*|/\*.*?(?:\*/|\Z)", re.S)
_EXECUTABLE_COMMENT = re.compile(r"/\*M?!")
_ESCAPED_NAME = re.compile(r"\bU&[\"']", re.I)
_FILE_LIKE = re.compile(r"[./\\:*?\[]")
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")
