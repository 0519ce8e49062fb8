"""Exports as Parquet: one row per pool or trace, filterable columns, attempts nested. Needs the extra `report`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from tta_langgraph.errors import TraceError
from tta_langgraph.evidence import LogprobStats
from tta_langgraph.traces.codec import check_schema, from_json, from_plain, to_json, to_plain
from tta_langgraph.traces.model import Attempt, Judgement, Pool, Trace

try:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]
except ImportError as error:  # pragma: no cover - exercised where the extra is not installed
    raise TraceError(
        "Parquet needs pyarrow", where="export", remedy="Install it with: pip install 'tta-langgraph[report]'"
    ) from error

T = TypeVar("T", Pool, Trace)


def write_parquet(kind: str, items: Iterable[Any], path: Path, header: Mapping[str, Any]) -> int:
    """Writes pools or traces a few hundred at a time and returns how many."""
    schema = (_POOLS if kind == "pools" else _TRACES).with_metadata({_KEY: json.dumps(header, sort_keys=True).encode()})
    row = _pool_row if kind == "pools" else _trace_row
    iterator, count = iter(items), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := [row(item) for item in islice(iterator, _BATCH)]:
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def read_header(path: Path) -> dict[str, Any]:
    """The header of an export.

    Raises:
        TraceError: the file cannot be read, is not an export, or is of another form.
    """
    with _opened(path) as file:
        found = (file.schema_arrow.metadata or {}).get(_KEY)
    if found is None:
        raise TraceError("not an export of traces or pools", where=str(path), remedy="Write it with `tta export`")
    header: dict[str, Any] = json.loads(found)
    check_schema(header.get("schema"), where=str(path))
    return header


def read_parquet(kind: type[T], path: Path) -> Iterator[T]:
    """The pools or traces of an export."""
    number = 0
    with _opened(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH):
            for row in batch.to_pylist():
                where = f"{path}, row {number}"
                number += 1
                if kind is Trace:
                    yield from_json(kind, row["body"], where=where)
                else:
                    row["features"] = dict(row["features"] or ())
                    row["spent"] = json.loads(row["spent"])
                    yield from_plain(kind, _without_nulls(row), where=where)


def _opened(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise TraceError(f"cannot be read: {error}", where=str(path), remedy="Was it cut off?") from None


def _pool_row(pool: Pool) -> dict[str, Any]:
    plain = to_plain(pool)
    row = {name: plain.get(name, getattr(pool, name)) for name in _POOLS.names}
    row["attempts"] = [_full(Attempt, attempt) for attempt in plain.get("attempts", ())]
    row["judgements"] = [_full(Judgement, judgement) for judgement in plain.get("judgements", ())]
    row["features"] = list(plain.get("features", {}).items())
    row["spent"] = json.dumps(plain.get("spent", {}))
    return row


def _full(kind: type[Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """What was left out because it is the default is written out: a column has no defaults."""
    return {item.name: plain.get(item.name, item.default) for item in fields(kind)}


def _trace_row(trace: Trace) -> dict[str, Any]:
    row = {name: getattr(trace, name) for name in _TRACES.names if name not in ("usd", "body")}
    return {**row, "usd": trace.usage.usd, "body": to_json(trace)}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _struct(kind: type[Any]) -> pa.DataType:
    hints = get_type_hints(kind)
    return pa.struct([(item.name, _arrow(hints[item.name])) for item in fields(kind)])


def _arrow(hint: Any) -> pa.DataType:
    inner = next((part for part in get_args(hint) if part is not type(None)), hint)
    if inner is LogprobStats:
        return _struct(LogprobStats)
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}[inner]


_KEY = b"tta"
_BATCH = 512
_POOLS = pa.schema(
    [
        *((name, pa.string()) for name in ("question_id", "db_id", "split", "difficulty", "question", "question_hash")),
        ("attempts", pa.list_(_struct(Attempt))),
        ("judgements", pa.list_(_struct(Judgement))),
        ("features", pa.map_(pa.string(), pa.float64())),
        ("manifest_id", pa.string()),
        ("spent", pa.string()),
        ("started", pa.float64()),
    ]
)
_TRACES = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "question_id", "question_hash", "db_id", "strategy", "answer")),
        ("correct", pa.bool_()),
        ("stop_reason", pa.string()),
        ("seconds", pa.float64()),
        ("tokens", pa.int64()),
        ("usd", pa.float64()),
        ("started", pa.float64()),
        ("manifest_id", pa.string()),
        ("body", pa.string()),
    ]
)
