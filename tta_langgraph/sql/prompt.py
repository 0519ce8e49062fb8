"""The schema as a model reads it: as much as fits the token cap, the same bytes for every question when all fits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from tta_langgraph.sql.catalog import Catalog, Table
from tta_langgraph.sql.relevance import ranked, ranked_columns
from tta_langgraph.sql.render import Detail, Renderer

Style = Literal["ddl", "compact"]
Counter = Callable[[str], int]


def estimate_tokens(text: str) -> int:
    """Tokens of a text without a tokenizer, on the safe side: four letters a token, digits and signs one each."""
    return sum(-(-len(run) // 4) if run[0].isalpha() and run.isascii() else len(run) for run in _RUNS.findall(text))


class SchemaPrompt:
    """Renders one catalog; keeps what it has read and rendered.

    Args:
        catalog: the tables.
        values: runs one of our own statements and returns its rows, for samples.
        mask: whether values that look private are masked.
    """

    def __init__(
        self, catalog: Catalog, values: Callable[[str], list[tuple[object, ...]]], *, mask: bool = False
    ) -> None:
        self._catalog = catalog
        self._renderer = Renderer(catalog, values, mask=mask)
        self._whole: dict[tuple[int, Style, int, Counter], str | None] = {}

    def render(
        self,
        question: str | None,
        *,
        max_tokens: int,
        count_tokens: Counter | None = None,
        style: Style = "ddl",
        sample_rows: int = 3,
    ) -> str:
        """See `Database.schema_prompt`."""
        if max_tokens < 1:
            raise ValueError(f"schema_prompt(max_tokens={max_tokens}): use a positive number")
        if style not in ("ddl", "compact"):
            raise ValueError(f"schema_prompt(style={style!r}): use 'ddl' or 'compact'")
        count = count_tokens or estimate_tokens
        key = (max_tokens, style, sample_rows, count)
        if key not in self._whole:
            if len(self._whole) >= _KEPT:
                self._whole.clear()
            self._whole[key] = self._all(max_tokens, count, style, sample_rows)
        whole = self._whole[key]
        return whole if whole is not None else self._chosen(question, max_tokens, count, style)

    def _all(self, max_tokens: int, count: Counter, style: Style, sample_rows: int) -> str | None:
        """Every table, with as much detail as fits; None when not even the bare structure does."""
        best = None
        details = [Detail(style=style)]
        details += [Detail(style=style, comments=True)]
        details += [Detail(style=style, comments=True, values=True)]
        details += [Detail(style=style, comments=True, values=True, rows=n) for n in sorted({1, sample_rows}) if n > 0]
        for detail in details:  # from bare to rich, so that no row is read for a schema that is too large anyway
            text = _SEPARATOR.join(self._renderer.table(table, detail) for table in self._catalog.tables)
            if len(text) > max_tokens * _LONGEST_TOKEN or count(text) > max_tokens:
                break
            best = text
        return best

    def _chosen(self, question: str | None, max_tokens: int, count: Counter, style: Style) -> str:
        """The tables that matter, most relevant first, then the names of the others."""
        order = ranked(self._catalog, question)
        room = max_tokens - min(_NAMES_SHARE, max_tokens // 5)
        shown: list[str] = []
        used: set[str] = set()
        misses = 0
        for table in order:
            for detail in (Detail(style=style, comments=True, values=True), Detail(style=style)):
                text = self._renderer.table(table, detail)
                if count(_SEPARATOR.join([*shown, text])) <= room:
                    shown.append(text)
                    used.add(table.name)
                    misses = 0
                    break
            else:
                misses += 1
                if misses >= _MISSES:
                    break
        if not shown:
            return self._part(order[0], question, max_tokens, count)
        return _fitted(shown, [table.name for table in order if table.name not in used], max_tokens, count)

    def _part(self, table: Table, question: str | None, max_tokens: int, count: Counter) -> str:
        """A table too wide to show whole: its keys and the columns that matter."""
        columns = ranked_columns(table, question)
        low, high = 0, len(columns)
        while low < high:
            middle = (low + high + 1) // 2
            if count(self._renderer.part(table, columns[:middle])) <= max_tokens:
                low = middle
            else:
                high = middle - 1
        text = self._renderer.part(table, columns[:low])
        while text and count(text) > max_tokens:  # not even the name fits
            text = text[: len(text) * 3 // 4]
        return text


def _fitted(shown: list[str], others: list[str], max_tokens: int, count: Counter) -> str:
    """The shown tables, and as many names of the others as still fit."""
    body = _SEPARATOR.join(shown)
    low, high = 0, min(len(others), _MOST_NAMES)
    while low < high:
        middle = (low + high + 1) // 2
        if count(body + _others(others, middle)) <= max_tokens:
            low = middle
        else:
            high = middle - 1
    return body + _others(others, low) if low else body


def _others(names: list[str], n: int) -> str:
    more = len(names) - n
    return f"{_SEPARATOR}-- other tables: {', '.join(names[:n])}" + (f" and {more} more" if more else "")


_SEPARATOR = "\n"
_RUNS = re.compile(r"[a-zA-Z]+|\s+|[^a-zA-Z\s]+")
_LONGEST_TOKEN = 16  # characters per token, generously: longer texts need not be counted
_NAMES_SHARE = 200
_MOST_NAMES = 400
_MISSES = 5
_KEPT = 32
