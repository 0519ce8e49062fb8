"""Taking rows from a cursor without taking more than was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of a result is held."""

    max_rows: int
    """Rows."""
    max_bytes: int
    """Bytes of all cells together, estimated."""
    max_cell_bytes: int
    """Bytes of one cell; what is longer is cut."""
    max_value_bytes: int
    """Bytes of one string or blob that the database may build on the way, where it can be told so."""


class RowSink:
    """Collects rows up to the limits.

    Args:
        limits: when it is full.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self.rows: list[tuple[Any, ...]] = []
        """What is held."""
        self.truncated = False
        """Whether something had to be left out or cut."""

    def add(self, row: Sequence[Any]) -> bool:
        """Takes a row; False when it did not fit and no more are wanted."""
        if len(self.rows) >= self._limits.max_rows:
            self.truncated = True
            return False
        cap = self._limits.max_cell_bytes
        size, cut = 0, False
        for cell in row:
            if isinstance(cell, (int, float)) or cell is None:
                size += 8
                continue
            weight = _weight(cell)
            if weight > cap:
                cut, weight = True, cap
            size += weight
        self._bytes += size
        if self._bytes > self._limits.max_bytes and self.rows:
            self.truncated = True
            return False
        self.truncated |= cut
        self.rows.append(tuple([_cut(cell, cap) for cell in row]) if cut else tuple(row))
        return True

    @property
    def wanted(self) -> int:
        """How many rows the next fetch may ask for: one more than fits, fewer when they have been large."""
        left = self._limits.max_rows - len(self.rows) + 1
        if not self.rows:
            return min(left, _FIRST)
        mean = max(1, self._bytes // len(self.rows))
        return max(1, min(left, _BATCH, (self._limits.max_bytes - self._bytes) // mean + 1))


def _weight(cell: Any) -> int:
    if isinstance(cell, (str, bytes, bytearray, memoryview)):
        return len(cell)
    if isinstance(cell, Mapping):
        return 16 + sum(_weight(name) + _weight(value) for name, value in cell.items())
    if isinstance(cell, (list, tuple, set, frozenset)):
        return 16 + sum(map(_weight, cell))
    return 16


def _cut(cell: Any, cap: int) -> Any:
    if isinstance(cell, (str, bytes)):
        return cell[:cap]
    if isinstance(cell, (bytearray, memoryview)):
        return bytes(cell[:cap])
    return str(cell)[:cap] if _weight(cell) > cap else cell


_FIRST = 32
_BATCH = 1_000
