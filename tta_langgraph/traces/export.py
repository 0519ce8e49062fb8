"""Traces and pools as JSON lines (`.jsonl`, `.jsonl.gz`) and Parquet, to send, to commit and to analyse elsewhere.

A JSON-lines export begins with a header (what it holds, its form, the manifests) and ends with a line that counts
what came before, so that a file that was cut off is noticed.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from tta_langgraph.errors import TraceError
from tta_langgraph.traces.codec import SCHEMA, check_schema, from_plain, to_json
from tta_langgraph.traces.figures import check_figures
from tta_langgraph.traces.manifest import Manifest
from tta_langgraph.traces.model import Pool, Trace
from tta_langgraph.traces.store import TraceStore

Kind = Literal["pools", "traces"]
T = TypeVar("T", Pool, Trace)


def export_pools(
    pools: Iterable[Pool],
    path: str | Path,
    *,
    manifests: Mapping[str, Manifest] | None = None,
    questions: bool = False,
    answers: bool = True,
) -> int:
    """Writes pools to `.jsonl`, `.jsonl.gz` or `.parquet`; the file appears whole or not at all.

    The same pools give the same bytes.

    Args:
        pools: what to write.
        path: where to; the ending says how.
        manifests: the manifests that they refer to, by id.
        questions: keep the questions' texts.
        answers: keep the answers' texts.

    Returns:
        How many were written.

    Raises:
        TraceError: the file cannot be written, or its ending is not known.
    """
    kept = (pool if questions and answers else _stripped(pool, questions, answers) for pool in pools)
    return _export("pools", kept, Path(path), manifests or {})


def check_export(path: str | Path) -> None:
    """Finds out whether an export can be written here, before the work that fills it.

    Raises:
        TraceError: its ending is not known, its folder is missing or cannot be written, or pyarrow is missing.
    """
    target = Path(path)
    if _is_parquet(target):
        importlib.import_module("tta_langgraph.traces.parquet")  # says which extra is missing
    else:
        _known_ending(target)
    if target.is_dir():
        raise TraceError("this is a folder", where=str(target), remedy="Give the name of a file")
    with _replacing(target, keep=False) as temporary:
        temporary.touch()


def export_traces(
    traces: Iterable[Trace],
    path: str | Path,
    *,
    manifests: Mapping[str, Manifest] | None = None,
    questions: bool = True,
) -> int:
    """Writes traces to `.jsonl`, `.jsonl.gz` or `.parquet`; see `export_pools`."""
    kept = (trace if questions else replace(trace, question=None) for trace in traces)
    return _export("traces", kept, Path(path), manifests or {})


def export_store(
    store: TraceStore,
    path: str | Path,
    *,
    kind: Kind = "pools",
    recording: str | None = None,
    questions: bool = False,
    answers: bool = True,
) -> int:
    """Writes what a store holds, with the manifests; see `export_pools`."""
    if kind == "traces":
        return export_traces(store.traces(), path, manifests=store.manifests(), questions=questions)
    used: dict[str, Manifest] = {}
    known = store.manifests()
    pools = list(store.pools(recording))
    for pool in pools:
        if pool.manifest_id in known:
            used[pool.manifest_id] = known[pool.manifest_id]
    return export_pools(pools, path, manifests=used, questions=questions, answers=answers)


def read_pools(path: str | Path) -> Iterator[Pool]:
    """The pools of an export, one at a time.

    Raises:
        TraceError: the file is not such an export, of another form, or cut off.
    """
    return _read(Pool, "pools", Path(path))


def read_traces(path: str | Path) -> Iterator[Trace]:
    """The traces of an export, one at a time; see `read_pools`."""
    return _read(Trace, "traces", Path(path))


def read_manifests(path: str | Path) -> dict[str, Manifest]:
    """The manifests of an export, by id."""
    where = str(path)
    if _is_parquet(Path(path)):
        from tta_langgraph.traces.parquet import read_header

        header = read_header(Path(path))
    else:
        with _reading(Path(path)) as lines:
            header = _header(next(iter(lines), ""), where)
    found = header.get("manifests") or {}
    return {key: from_plain(Manifest, value, where=where) for key, value in found.items()}


def import_into(store: TraceStore, path: str | Path, *, recording: str = "") -> int:
    """Puts an export of pools or traces into a store and returns how many; each one in its own transaction.

    Importing the same export again changes nothing.

    Raises:
        TraceError: it cannot be read, or the recording holds a question of it already, recorded otherwise.
    """
    for manifest in read_manifests(path).values():
        store.add_manifest(manifest)
    count = 0
    if kind_of(path) == "pools":
        _refuse_other(store, path, recording)
    if kind_of(path) == "traces":
        for trace in read_traces(path):
            store.add(trace)
            count += 1
        return count
    for pool in read_pools(path):
        store.add_pool(pool, recording=recording)
        count += 1
    return count


def _refuse_other(store: TraceStore, path: str | Path, recording: str) -> None:
    """What another model said to a question must not be lost under the same name."""
    there = store.backends(recording)
    for pool in read_pools(path):
        if there.get(pool.question_id, pool.manifest_id) != pool.manifest_id:
            raise TraceError(
                f"the recording {recording!r} has the question {pool.question_id!r} already, recorded otherwise",
                where=str(path),
                remedy="Import it under another name: recording='...'",
            )


def is_export(path: str | Path) -> bool:
    """Whether a file was written by an export, rather than being JSON lines of somebody else's."""
    if _is_parquet(Path(path)):
        return True
    try:
        kind_of(path)
    except TraceError:
        return False
    return True


def kind_of(path: str | Path) -> Kind:
    """Whether an export holds pools or traces."""
    if _is_parquet(Path(path)):
        from tta_langgraph.traces.parquet import read_header

        header = read_header(Path(path))
    else:
        with _reading(Path(path)) as lines:
            header = _header(next(iter(lines), ""), str(path))
    return "traces" if header["tta"] == "traces" else "pools"


def _stripped(pool: Pool, questions: bool, answers: bool) -> Pool:
    bare = pool.stripped(answers=not answers)
    return replace(bare, question=pool.question) if questions else bare


def _export(kind: Kind, items: Iterable[Any], path: Path, manifests: Mapping[str, Manifest]) -> int:
    header = {"tta": kind, "schema": SCHEMA, "manifests": {key: manifests[key].to_dict() for key in sorted(manifests)}}
    if _is_parquet(path):
        from tta_langgraph.traces.parquet import write_parquet

        with _replacing(path) as temporary:
            return write_parquet(kind, items, temporary, header)
    _known_ending(path)
    count = 0
    with _replacing(path) as temporary, _writing(temporary, compressed=path.suffix == ".gz") as file:
        file.write(json.dumps(header, sort_keys=True) + "\n")
        for item in items:
            file.write(to_json(item) + "\n")
            count += 1
        file.write(json.dumps({"tta": "end", "count": count}) + "\n")
    return count


def _known_ending(path: Path) -> None:
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        raise TraceError(
            f"no export is known for {path.suffix or path.name!r}",
            where=str(path),
            remedy="Name it .jsonl, .jsonl.gz or .parquet",
        )


def _read(kind: type[T], name: Kind, path: Path) -> Iterator[T]:
    if _is_parquet(path):
        from tta_langgraph.traces.parquet import read_header, read_parquet

        _expect(read_header(path), name, str(path))
        for row, item in enumerate(read_parquet(kind, path), start=1):
            yield check_figures(item, where=f"{path}, row {row}")
        return
    with _reading(path) as lines:
        _expect(_header(next(iter(lines), ""), str(path)), name, str(path))
        for count, line in enumerate(lines):
            where = f"{path}, line {count + 2}"
            try:
                data = json.loads(line)
            except ValueError as error:
                told = getattr(error, "msg", error)  # its own line and column count within this line
                raise TraceError(f"not JSON: {told}", where=where, remedy=_CUT) from None
            if isinstance(data, dict) and data.get("tta") == "end":
                if data.get("count") != count:
                    raise TraceError(f"{data.get('count')} {name} were written, {count} are here", where=where)
                return
            yield check_figures(from_plain(kind, data, where=where), where=where)
        raise TraceError("the end is missing", where=str(path), remedy=_CUT)


def _header(line: str, where: str) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("tta") not in ("pools", "traces"):
        raise TraceError("not an export of traces or pools", where=where, remedy=FOREIGN)
    check_schema(header.get("schema"), where=where)
    return header


def _expect(header: Mapping[str, Any], name: Kind, where: str) -> None:
    if header["tta"] != name:
        raise TraceError(f"holds {header['tta']}, not {name}", where=where, remedy=f"Use read_{header['tta']}")


@contextmanager
def _reading(path: Path) -> Iterator[Iterator[str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            yield iter(file)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise TraceError(f"cannot be read: {error}", where=str(path), remedy=_CUT) from None


@contextmanager
def _replacing(path: Path, *, keep: bool = True) -> Iterator[Path]:
    """Writes beside the file and then takes its place, so that no half-written file is ever seen under its name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        if keep:
            os.replace(temporary, path)
    except OSError as error:
        raise TraceError(
            f"cannot be written: {error}", where=str(path), remedy="Check the folder and the space"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path, *, compressed: bool) -> Iterator[IO[str]]:
    if not compressed:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        return
    # Neither a time nor a name goes into the header, so that equal pools give equal bytes.
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
    ):
        yield text


def _is_parquet(path: Path) -> bool:
    return path.suffix == ".parquet"


FOREIGN = "Answers that were recorded elsewhere come in with `tta import`"
_CUT = "Was it cut off while it was written or copied?"
