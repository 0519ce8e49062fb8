"""Parsing what a stranger wrote: bounded in size and depth, and an error instead of a crash."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlglot import Token, TokenType, exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns about each statement it keeps as plain text


@dataclass(frozen=True)
class Parsed:
    """The statements of a text, or the reason there are none."""

    statements: tuple[exp.Expr, ...] = ()
    """One tree per statement."""
    tokens: tuple[Token, ...] = ()
    """The words, as the tokenizer of the dialect sees them."""
    error: str | None = None
    """Why it could not be read, one line."""
    hostile: bool = False
    """Whether the size or the depth was the reason."""


def parse(sql: str, dialect: str, *, max_chars: int = 50_000, max_words: int = 4_000, max_depth: int = 50) -> Parsed:
    """Reads `sql` as the dialect does.

    The size (characters, words) and the nesting (brackets, CASE, runs of prefix operators) are bounded before the
    parser sees them: parsers recurse, and a compiled one would take the process with it. What it may do after that is
    bounded too: it tries readings and goes back, and 20 nested `ARRAY[` would take it an hour.
    """
    if len(sql) > max_chars:
        return Parsed(error=f"the statement is longer than {max_chars} characters", hostile=True)
    try:
        reader = _reader(dialect)
        tokens = reader.tokenize(sql)
        if len(tokens) > max_words:
            return Parsed(error=f"the statement has more than {max_words} words", hostile=True)
        if _depth(tokens) > max_depth:
            return Parsed(error=f"the statement is nested deeper than {max_depth} levels", hostile=True)
        trees = _parser(dialect)(dialect=reader, max_nodes=_most(len(tokens))).parse(tokens, sql)
    except RecursionError:
        return Parsed(error="the statement is nested too deeply", hostile=True)
    except _IntricateError:
        return Parsed(error=_INTRICATE, hostile=True)
    except SqlglotError as error:
        if "Maximum number of AST nodes" in str(error):
            return Parsed(error=_INTRICATE, hostile=True)
        return Parsed(error=_one_line(error))
    except Exception as error:  # a parser bug on hostile input is a statement we cannot judge
        return Parsed(error=f"the statement could not be parsed ({type(error).__name__})")
    kept = tuple(tree for tree in trees if tree is not None and not isinstance(tree, exp.Semicolon))
    return Parsed(statements=kept, tokens=tuple(tokens))


@lru_cache(maxsize=64)
def known(dialect: str) -> str | None:
    """The dialect if sqlglot has it, else None for the standard one."""
    return dialect if dialect and Dialect.get(dialect) is not None else None


@lru_cache(maxsize=64)
def _reader(dialect: str) -> Dialect:
    """It makes a new tokenizer and a new parser each time, so that threads may share it."""
    return Dialect.get_or_raise(known(dialect))


class _IntricateError(Exception):
    """The parser went back too often. Not one of its own errors: those it takes for a wrong reading, and goes on."""


@lru_cache(maxsize=64)
def _parser(dialect: str) -> Callable[..., Any]:
    """The dialect's parser, with a bound on how many words it reads again.

    The compiled parser cannot be extended. There the number of nodes is the only bound, which holds for all four
    engines that have a backend of their own.
    """
    base: Any = _reader(dialect).parser_class

    def retreat(self: Any, index: int) -> None:
        self.tta_again = getattr(self, "tta_again", 0) + abs(index - self._index)
        if self.tta_again > _most(len(self._tokens)):
            raise _IntricateError
        base._retreat(self, index)

    try:
        return type(base.__name__, (base,), {"_retreat": retreat})
    except TypeError:
        return base  # type: ignore[no-any-return]


def _most(words: int) -> int:
    """Nodes that a parser may make and words that it may read again; ordinary statements need less than one a word."""
    return _FREE + _PER_WORD * words


@lru_cache(maxsize=256)
def parses(sql: str) -> bool:
    """Whether some common dialect reads `sql` as exactly one statement."""
    for dialect in ("sqlite", "postgres", "mysql", "duckdb"):
        statements = parse(sql, dialect).statements
        if len(statements) == 1:
            return True
    return False


def orders(tree: exp.Expr) -> bool:
    """Whether the outermost query orders its rows."""
    while isinstance(tree, (exp.Subquery, exp.Paren)) and not tree.args.get("order"):
        tree = tree.this
    return bool(tree.args.get("order"))


def _depth(tokens: list[Token]) -> int:
    """The deepest nesting that a recursive parser will see."""
    deepest = depth = run = 0
    for token in tokens:
        kind = token.token_type
        if kind in _OPENING:
            depth += 1
        elif kind in _CLOSING:
            depth = max(0, depth - 1)
        run = run + 1 if kind in _PREFIX else 0
        deepest = max(deepest, depth + run)
    return deepest


def _one_line(error: SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if details:
        first = details[0]
        near = str(first.get("highlight") or "").strip()
        text = str(first.get("description") or "syntax error").rstrip(".")
        text = text.split("<Token", 1)[0].strip()
        if _INCOMPLETE.match(text):  # the parser names its own classes
            text = "incomplete expression"
        where = f", line {first.get('line')}, column {first.get('col')}" if first.get("line") else ""
        return f"{text}{f' near {near[:40]!r}' if near else ''}{where}"
    return _SPACE.sub(" ", str(error))[:160]


_OPENING = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE, TokenType.CASE})
_CLOSING = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.END})
_PREFIX = frozenset({TokenType.NOT, TokenType.DASH, TokenType.PLUS, TokenType.TILDE})
_FREE = 1_000
_PER_WORD = 4
_INTRICATE = "the statement is too intricate, nest less"
_INCOMPLETE = re.compile(r"Required keyword: .* missing for <class ")
_SPACE = re.compile(r"\s+")
