"""Dataclasses to plain JSON values and back, strictly: what cannot be read is refused, nothing is guessed."""

from __future__ import annotations

import json
import math
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tta_langgraph.errors import TraceError

SCHEMA = 1
"""Version of the recorded form of traces, pools and manifests; raised when an older reader would err."""

T = TypeVar("T")


def to_plain(value: Any) -> dict[str, Any]:
    """A dataclass as JSON values; fields at their default are left out, non-finite numbers become strings."""
    # A state that went through a checkpointer holds lists where there were tuples: no reason to warn.
    plain: dict[str, Any] = _finite(_adapter(type(value)).dump_python(value, exclude_defaults=True, warnings=False))
    return plain


def from_plain(kind: type[T], data: Any, *, where: str) -> T:
    """Rebuilds a dataclass from what `to_plain` gave.

    Args:
        kind: the dataclass.
        data: JSON values.
        where: file and line, table and row: named in the error.

    Raises:
        TraceError: a field is missing, unknown or of another type.
    """
    try:
        built: T = _adapter(kind).validate_python(_numbers(data))
    except ValidationError as error:
        raise _unreadable(kind, error, where) from None
    return built


def to_json(value: Any) -> str:
    """`to_plain` as one line of JSON that any JSON reader accepts."""
    plain = to_plain(value)
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as a model cut in mid-character may write
        text = json.dumps(plain, separators=(",", ":"), allow_nan=False)
    return text


def from_json(kind: type[T], text: str | bytes, *, where: str) -> T:
    """`from_plain` of one JSON document.

    Raises:
        TraceError: not JSON, or not what `kind` holds.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise TraceError(f"not JSON: {error}", where=where, remedy="Was it cut off while being written?") from None
    return from_plain(kind, data, where=where)


def check_schema(version: Any, *, where: str) -> None:
    """Refuses a recorded form that this release does not know.

    Raises:
        TraceError: `version` is not the one this release reads.
    """
    if version != SCHEMA:
        newer = isinstance(version, int) and version > SCHEMA
        raise TraceError(
            f"recorded in form {version!r}, and this release reads form {SCHEMA}",
            where=where,
            remedy="Upgrade tta-langgraph" if newer else "Export it with the release that wrote it",
        )


def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Built once per type: that takes milliseconds, using one takes microseconds."""
    found = _ADAPTERS.get(kind)
    if found is None:
        found = _ADAPTERS[kind] = TypeAdapter(kind)
    return found


def _finite(value: Any) -> Any:
    """JSON knows no infinity: unlimited budgets and unbounded forecasts travel as 'inf'."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _numbers(value: Any) -> Any:
    """The inverse for the places whose type is not declared (a forecast is a dict of anything)."""
    if isinstance(value, dict) and isinstance(value.get("forecasts"), list):
        forecasts = [
            {key: float(item) if key not in _TEXTS and item in _NON_FINITE else item for key, item in forecast.items()}
            for forecast in value["forecasts"]
        ]
        return {**value, "forecasts": forecasts}
    if isinstance(value, dict) and isinstance(value.get("decisions"), list):
        return {**value, "decisions": [_numbers(decision) for decision in value["decisions"]]}
    return value


def _unreadable(kind: type[Any], error: ValidationError, where: str) -> TraceError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or kind.__name__
    return TraceError(
        f"not a readable {kind.__name__}: {field}: {first['msg'].lower()}",
        where=where,
        remedy="The file was edited, or written by another release",
    )


_NON_FINITE = ("inf", "-inf", "nan")
_TEXTS = ("action", "why", "reason", "predictor")
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}
