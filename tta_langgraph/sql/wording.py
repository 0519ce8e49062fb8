"""The words of a statement, and nothing between them.

Where a comment ends is where parsers and engines differ (nesting, `--` without a space, hints, comments that the server
runs). So no comment reaches the engine: what is between two words is blanked, and positions stay as they were.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from sqlglot import Token, TokenType


def called(tokens: Sequence[Token]) -> frozenset[str]:
    """Lower-case words before a bracket: quoted or qualified, in a tree of whatever shape, that is how a call looks."""
    return frozenset(
        token.text.lower() for token, following in pairwise(tokens) if following.token_type is TokenType.L_PAREN
    )


def after_dots(tokens: Sequence[Token]) -> frozenset[str]:
    """Lower-case words after a dot: columns, or functions where an engine takes `row.name` for `name(row)`."""
    return frozenset(token.text.lower() for dot, token in pairwise(tokens) if dot.token_type is TokenType.DOT)


def bare(sql: str, tokens: Sequence[Token]) -> str:
    """The statement from its first to its last word, without comments, optimizer hints and the semicolon after it."""
    words = [token for token in tokens if token.token_type is not TokenType.SEMICOLON]
    if not words:
        return sql
    if not _REMARK.search(sql):
        return sql[: words[-1].end + 1]
    parts, at = [], 0
    for word in words:
        gap = sql[at : word.start]
        parts.append(_blank(gap) if _REMARK.search(gap) else gap)
        text = sql[word.start : word.end + 1]
        parts.append(_blank(text) if word.token_type is TokenType.HINT else text)
        at = word.end + 1
    return "".join(parts)


def _blank(text: str) -> str:
    return _INK.sub(" ", text) or ""


_REMARK = re.compile(r"--|/\*|#|\{[#%]")
_INK = re.compile(r"[^\n]")
