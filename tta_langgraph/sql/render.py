"""One table as text, in two styles and several degrees of detail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tta_langgraph.sql.catalog import Catalog, Column, ForeignKey, Table
from tta_langgraph.sql.mask import masked
from tta_langgraph.sql.names import located, spelled
from tta_langgraph.sql.result import plain


@dataclass(frozen=True, kw_only=True)
class Detail:
    """How much of a table is shown."""

    style: Literal["ddl", "compact"] = "ddl"
    """CREATE TABLE, or one line."""
    comments: bool = False
    """Comments stored with tables and columns."""
    values: bool = False
    """The distinct values of columns that have few."""
    rows: int = 0
    """Sample rows."""


class Renderer:
    """Renders tables and remembers what it has read of them.

    Args:
        catalog: the tables.
        values: runs one of our own statements and returns its rows.
        mask: whether values that look private are masked.
    """

    def __init__(
        self, catalog: Catalog, values: Callable[[str], list[tuple[object, ...]]], *, mask: bool = False
    ) -> None:
        self._dialect = catalog.dialect
        self._read = values
        self._mask = mask
        self._texts: dict[tuple[str, Detail], str] = {}
        self._distinct: dict[str, dict[str, str]] = {}
        self._samples: dict[str, list[tuple[object, ...]]] = {}

    def table(self, table: Table, detail: Detail) -> str:
        """The table in that detail."""
        key = (table.name, detail)
        if key not in self._texts:
            text = self._ddl(table, table.columns, detail) if detail.style == "ddl" else self._compact(table, detail)
            self._texts[key] = text + self._rows(table, detail.rows)
        return self._texts[key]

    def part(self, table: Table, columns: Sequence[Column]) -> str:
        """Some columns of a table too wide to show whole."""
        left = len(table.columns) - len(columns)
        text = self._ddl(table, columns, Detail())
        return f"{text}\n-- and {left} more columns" if left else text

    def name(self, name: str) -> str:
        """An identifier, quoted where the dialect needs it."""
        return spelled(name, self._dialect)

    def _table(self, table: Table) -> str:
        return located(table.name, table.schema, self._dialect)

    def _target(self, key: ForeignKey) -> str:
        return located(key.table, key.schema, self._dialect)

    def _ddl(self, table: Table, columns: Sequence[Column], detail: Detail) -> str:
        lines = []
        alone = table.primary_key[0] if len(table.primary_key) == 1 else None
        for column in columns:
            key = " PRIMARY KEY" if column.name == alone else ""
            remark = self._remark(table, column, detail)
            lines.append((f"  {self.name(column.name)} {column.type}".rstrip() + key, remark))
        if len(table.primary_key) > 1:
            lines.append((f"  PRIMARY KEY ({', '.join(map(self.name, table.primary_key))})", ""))
        shown = {column.name for column in columns}
        for foreign in table.foreign_keys:
            if not set(foreign.columns) <= shown:
                continue
            target = f"({', '.join(map(self.name, foreign.referred))})" if foreign.referred else ""
            own = ", ".join(map(self.name, foreign.columns))
            lines.append((f"  FOREIGN KEY ({own}) REFERENCES {self._target(foreign)}{target}", ""))
        last = len(lines) - 1
        body = "\n".join(
            f"{line}{'' if i == last else ','}{f' -- {remark}' if remark else ''}"
            for i, (line, remark) in enumerate(lines)
        )
        head = f"-- {_flat(table.comment)}\n" if detail.comments and table.comment else ""
        return f"{head}CREATE TABLE {self._table(table)} (\n{body}\n);"

    def _compact(self, table: Table, detail: Detail) -> str:
        targets = {
            own: f" -> {self._target(key)}" + (f".{self.name(key.referred[i])}" if i < len(key.referred) else "")
            for key in table.foreign_keys
            for i, own in enumerate(key.columns)
        }
        parts = []
        for column in table.columns:
            remark = self._remark(table, column, detail)
            key = " pk" if column.name in table.primary_key else ""
            kind = f" {column.type.lower()}" if column.type else ""
            parts.append(
                f"{self.name(column.name)}{kind}{key}{targets.get(column.name, '')}{f' [{remark}]' if remark else ''}"
            )
        comment = f"  -- {_flat(table.comment)}" if detail.comments and table.comment else ""
        return f"{self._table(table)}({', '.join(parts)}){comment}"

    def _remark(self, table: Table, column: Column, detail: Detail) -> str:
        comment = _flat(column.comment) if detail.comments and column.comment else ""
        known = self._values(table).get(column.name, "") if detail.values else ""
        return "; ".join(filter(None, (comment, known)))

    def _values(self, table: Table) -> dict[str, str]:
        """Distinct values of the columns that have few, from the first rows of the table."""
        if table.name in self._distinct:
            return self._distinct[table.name]
        found: dict[str, str] = {}
        for column in table.columns:
            if not column.textual or column.name in table.primary_key:
                continue
            name = self.name(column.name)
            rows = self._read(
                f"SELECT DISTINCT {name} FROM (SELECT {name} FROM {self._table(table)} LIMIT {_LOOKED_AT}) AS t "
                f"WHERE {name} IS NOT NULL LIMIT {_FEW + 1}"
            )
            values = sorted({str(plain(row[0])) for row in rows})
            if not 0 < len(values) <= _FEW or any(len(value) > _LONG for value in values):
                continue
            shown = dict.fromkeys(self._shown(value, column.name) for value in values)
            found[column.name] = "values: " + ", ".join(shown)
        self._distinct[table.name] = found
        return found

    def _rows(self, table: Table, n: int) -> str:
        if n <= 0:
            return ""
        if len(self._samples.get(table.name, ())) < n:
            columns = ", ".join(self.name(column.name) for column in table.columns)
            self._samples[table.name] = self._read(f"SELECT {columns} FROM {self._table(table)} LIMIT {n}")
        rows = self._samples[table.name][:n]
        if not rows:
            return ""
        names = [column.name for column in table.columns]
        lines = ["\t".join(names)]
        lines += [
            "\t".join("NULL" if v is None else self._cell(v, c) for v, c in zip(row, names, strict=True))
            for row in rows
        ]
        return "\n/*\n" + "\n".join(lines) + "\n*/"

    def _cell(self, value: object, column: str) -> str:
        text = _flat(str(plain(value))).replace("*/", "* /")
        text = masked(text, column) if self._mask else text
        return text if len(text) <= _LONG else text[: _LONG - 3] + "..."

    def _shown(self, value: str, column: str) -> str:
        text = masked(value, column) if self._mask else value
        return text if self._mask and text != value else "'" + _flat(text).replace("'", "''") + "'"


def _flat(text: str | None) -> str:
    """A comment or a value on one line, so that it cannot pass for a part of the prompt."""
    return " ".join((text or "").split())


_LOOKED_AT = 10_000
_FEW = 8
_LONG = 40
