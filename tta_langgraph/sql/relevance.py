"""Which tables a question is about: shared words, weighted by how rare they are, and what the keys connect."""

from __future__ import annotations

import math
import re
from collections import Counter

from tta_langgraph.sql.catalog import Catalog, Column, Table


def ranked(catalog: Catalog, question: str | None) -> list[Table]:
    """All tables, most relevant first; ties (and no question) by the number of keys, then by name."""
    degree = Counter(key.table.lower() for table in catalog.tables for key in table.foreign_keys)
    for table in catalog.tables:
        degree[table.name.lower()] += len(table.foreign_keys)
    asked = words(question or "")
    scores = _scores(catalog, asked) if asked else {}
    own = dict(scores)
    for table in catalog.tables:  # a neighbour of a relevant table is likely on the join path
        for key in table.foreign_keys:
            a, b = table.name.lower(), key.table.lower()
            scores[a] = max(scores.get(a, 0.0), own.get(a, 0.0) + _NEIGHBOUR * own.get(b, 0.0))
            scores[b] = max(scores.get(b, 0.0), own.get(b, 0.0) + _NEIGHBOUR * own.get(a, 0.0))
    return sorted(
        catalog.tables,
        key=lambda table: (-scores.get(table.name.lower(), 0.0), -degree[table.name.lower()], table.name),
    )


def ranked_columns(table: Table, question: str | None) -> list[Column]:
    """The columns, keys first, then those that share words with the question, then the others in table order."""
    asked = words(question or "")
    keys = {*table.primary_key, *(name for key in table.foreign_keys for name in key.columns)}
    return sorted(
        table.columns,
        key=lambda column: (column.name not in keys, -len(asked & words(f"{column.name} {column.comment or ''}"))),
    )


def words(text: str) -> set[str]:
    """The words of a name or a sentence, without their plurals."""
    return {_stem(word) for word in _WORD.findall(_HUMPS.sub(" ", text).lower()) if word not in _STOP}


def _scores(catalog: Catalog, asked: set[str]) -> dict[str, float]:
    named = {table.name.lower(): words(table.name) for table in catalog.tables}
    held = {
        table.name.lower(): words(
            " ".join([table.comment or "", *(f"{c.name} {c.comment or ''}" for c in table.columns)])
        )
        for table in catalog.tables
    }
    seen = Counter(word for name in named for word in named[name] | held[name])
    total = len(catalog.tables)
    scores = {}
    for name in named:
        score = 0.0
        for word in asked:
            rare = math.log(1 + total / (1 + seen[word]))
            if word in named[name]:
                score += _NAME * rare / math.sqrt(len(named[name]))
            if word in held[name]:
                score += rare
        scores[name] = score
    return scores


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


_NAME = 3.0
_NEIGHBOUR = 0.3
_WORD = re.compile(r"[^\W_]+")
_HUMPS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=\d)")
_STOP_WORDS = (
    "a an and are as at be by do does each every find for from give has have how in is it its list many me of on or "
    "return show that the their them there these to was were what when where which who whose will with id"
)
_STOP = frozenset(_STOP_WORDS.split())
