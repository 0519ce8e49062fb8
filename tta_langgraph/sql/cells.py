"""One cell, folded: values that a reader would call equal get the same text, whatever type the driver gave them."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any


def fold(cell: Any) -> str:
    """The canonical text of one value; the first letter is its family.

    Numbers fold across bool, int, float and Decimal, and are rounded to ten significant digits (more before the
    point), because sums in another order differ in the last ones. Dates and times fold with their ISO text,
    midnight with its day. Text is otherwise kept as it is: `"1"` is not 1.
    """
    if cell is None:
        return "n"
    if isinstance(cell, int):
        return f"#{int(cell)}" if cell.bit_length() < _MOST_BITS else f"#{int(cell):x}h"
    if isinstance(cell, str):
        return _text(cell)
    if isinstance(cell, float):
        return _float(cell)
    if isinstance(cell, Decimal):
        return _decimal(cell)
    if isinstance(cell, dt.datetime):
        return _moment(cell)
    if isinstance(cell, dt.time):
        whole = cell.replace(microsecond=0).isoformat()
        return _text(whole[:8] + f".{cell.microsecond:06d}".rstrip("0").rstrip(".") + whole[8:])
    if isinstance(cell, dt.date):
        return _text(cell.isoformat())
    if isinstance(cell, dt.timedelta):
        return _text(_clock(cell))
    if isinstance(cell, (bytes, bytearray, memoryview)):
        return f"x{blake2b(bytes(cell), digest_size=16).hexdigest()}"
    if isinstance(cell, Mapping):
        folded = {str(name): fold(value) for name, value in cell.items()}
        return "j" + json.dumps(folded, sort_keys=True, ensure_ascii=False)
    if isinstance(cell, (list, tuple)):
        return "a" + json.dumps([fold(value) for value in cell], ensure_ascii=False)
    if isinstance(cell, (set, frozenset)):
        return "a" + json.dumps(sorted(fold(value) for value in cell), ensure_ascii=False)
    return _text(str(cell))


def _float(value: float) -> str:
    if not math.isfinite(value):
        return f"#{value}"
    if value == int(value):
        return f"#{int(value)}"
    before = math.frexp(value)[1] * _LOG10_2
    rounded = float(f"{value:.{min(15, max(10, math.ceil(before) + 4))}g}")
    return f"#{int(rounded)}" if rounded == int(rounded) else f"#{rounded!r}"


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        return _float(float(value))
    if value.adjusted() < _MOST_DIGITS and value == value.to_integral_value():  # Python writes out no longer ones
        return f"#{int(value)}"
    if value.adjusted() >= _LARGEST_FLOAT:
        return f"#{value.normalize():E}"
    return _float(float(value))


def _text(text: str) -> str:
    match = _DATE_TIME.fullmatch(text) if _DATE_LIKE.match(text) else None
    if match is None:
        return "s" + (text.translate(_VISIBLE) if _SEPARATING.search(text) else text)
    day, clock, fraction, zone = match.groups()
    if clock is None:
        return f"d{day}"
    if zone:
        try:
            return _moment(dt.datetime.fromisoformat(text))
        except ValueError:
            return "s" + text
    return _joined(day, clock if len(clock) > 5 else clock + ":00", (fraction or "").rstrip("0"))


def _moment(value: dt.datetime) -> str:
    if value.tzinfo is not None:
        try:
            value = value.astimezone(dt.UTC).replace(tzinfo=None)
        except OverflowError:  # before the year 1 or after 9999 in UTC
            return "s" + value.isoformat(" ")
    fraction = f"{value.microsecond:06d}".rstrip("0")
    day, clock = value.replace(microsecond=0).isoformat(" ").split(" ")  # strftime writes the year 7 without zeros
    return _joined(day, clock, fraction)


def _joined(day: str, clock: str, fraction: str) -> str:
    if clock == "00:00:00" and not fraction:
        return f"d{day}"
    return f"d{day} {clock}" + (f".{fraction}" if fraction else "")


def _clock(value: dt.timedelta) -> str:
    """A duration as MySQL writes a TIME: hours may exceed a day."""
    seconds = abs(value) // dt.timedelta(seconds=1)
    sign = "-" if value < dt.timedelta(0) else ""
    fraction = f".{abs(value).microseconds:06d}".rstrip("0").rstrip(".")
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}"


_VISIBLE = {0x1E: "\\x1e", 0x1F: "\\x1f", ord("\\"): "\\\\"}  # the separators of the key must not occur in a cell
_SEPARATING = re.compile(r"[\x1e\x1f]|\\x1[ef]")
_MOST_DIGITS = 4_000
_LARGEST_FLOAT = 308
_MOST_BITS = 13_000
_LOG10_2 = math.log10(2)
_DATE_LIKE = re.compile(r"\d{4}-\d\d-\d\d")
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,6})\d*)?(Z|[+-]\d\d(?::?\d\d)?)?)?")
