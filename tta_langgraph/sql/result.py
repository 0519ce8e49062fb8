"""What came back from the database: rows, or one short error."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

from tta_langgraph.sql.compare import key_of

ErrorKind = Literal["refused", "syntax", "schema", "timeout", "cancelled", "database"]
"""Why there are no rows.

`refused`: the checks did not let it through. `syntax`: it is not SQL of this database. `schema`: it names a table,
column or function that is not there. `timeout`: stopped at the deadline. `cancelled`: the caller gave up.
`database`: anything else the engine said.
"""


@dataclass(frozen=True, kw_only=True)
class ExecutionResult:
    """The outcome of one statement. Never an exception: a model reads it, a policy counts it."""

    sql: str
    """The statement as it was given."""
    columns: tuple[str, ...] = ()
    """Column names, in order; names may repeat."""
    rows: tuple[tuple[Any, ...], ...] = ()
    """At most `max_rows` rows and about `max_bytes` bytes of them."""
    seconds: float = 0.0
    """Wall-clock seconds from the call to the answer, checks included."""
    truncated: bool = False
    """Whether the database had more than is shown here (rows, bytes, or a cell that was cut)."""
    error: str | None = None
    """One line, written to be read by a model; None when the statement ran."""
    error_kind: ErrorKind | None = None
    """The family of the error; None when the statement ran."""
    ordered: bool = False
    """Whether the statement orders its rows (an ORDER BY of the outermost query)."""

    @property
    def ok(self) -> bool:
        """Whether the statement ran (it may still have found nothing)."""
        return self.error is None

    @property
    def empty(self) -> bool:
        """Whether the statement ran and found no row."""
        return self.ok and not self.rows

    @property
    def n_rows(self) -> int:
        """Rows held here; the database may have had more (see `truncated`)."""
        return len(self.rows)

    @cached_property
    def key(self) -> str | None:
        """The canonical result key: equal keys are equal results.

        None for an error, which has no vote; starts with `empty` when nothing was found; names the cap when the
        rows were cut.
        """
        return key_of(self.rows, ordered=self.ordered, truncated=self.truncated) if self.ok else None

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values (dates as ISO text, bytes as `0x...`), with the key."""
        return {
            "sql": self.sql,
            "columns": list(self.columns),
            "rows": [[plain(cell) for cell in row] for row in self.rows],
            "seconds": self.seconds,
            "truncated": self.truncated,
            "error": self.error,
            "error_kind": self.error_kind,
            "ordered": self.ordered,
            "key": self.key,
        }


def plain(cell: Any) -> Any:
    """One cell as a JSON value."""
    if cell is None or isinstance(cell, (bool, int, str)):
        return cell
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else str(cell)
    if isinstance(cell, Decimal):
        short = cell.is_finite() and cell.adjusted() < _MOST_DIGITS  # Python does not write out longer ones
        return int(cell) if short and cell == cell.to_integral_value() else str(cell)
    if isinstance(cell, (dt.date, dt.time)):
        return cell.isoformat()
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return "0x" + bytes(cell).hex()
    if isinstance(cell, Mapping):
        return {str(name): plain(value) for name, value in cell.items()}
    if isinstance(cell, (list, tuple, set, frozenset)):
        return [plain(value) for value in cell]
    return str(cell)


_MOST_DIGITS = 4_000
