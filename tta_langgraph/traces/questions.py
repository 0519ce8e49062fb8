"""Questions with gold queries, their databases, and an order in which any prefix is a balanced sample."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tta_langgraph.errors import TraceError
from tta_langgraph.sql import Database


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One graded question."""

    id: str
    """Unique in its data set."""
    question: str
    """The text."""
    db_id: str = ""
    """The database it is asked of."""
    gold: tuple[str, ...] = ()
    """Queries that answer it; a result that equals any of theirs is right."""
    difficulty: str = ""
    """As labelled by the data set, or empty."""
    split: str = ""
    """`fit`, `test`, or empty."""


def load_questions(path: str | Path) -> list[Question]:
    """Reads a JSON-lines file of questions.

    Fields: `id`, `db_id`, `question`, `gold_sql`, and optionally `gold_sql_official` (a second accepted query),
    `difficulty` and `split`; others are ignored.

    Raises:
        TraceError: the file cannot be read or is empty, a line is not JSON or lacks a field, or an id comes twice.
    """
    found: dict[str, Question] = {}
    try:
        # a mark before the first line is an editor's; U+2028 and its like are letters of a question and end no line
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or error
        raise TraceError(
            f"the questions cannot be read: {told}",
            where=str(path),
            remedy="Give a file of JSON lines with id, db_id, question and gold_sql",
        ) from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            question = _question(line, f"{path}, line {number}")
            if question.id in found:
                raise TraceError(f"the id {question.id!r} comes twice", where=f"{path}, line {number}")
            found[question.id] = question
    if not found:
        raise TraceError("there are no questions", where=str(path), remedy="Give one JSON object per line")
    return list(found.values())


def database_at(source: str | Path, db_id: str, **options: Any) -> Database:
    """Opens the database of a question.

    Args:
        source: a folder with `{db_id}.sqlite`, or a SQLAlchemy URL in which `{db_id}` is filled in.
        db_id: which one.
        **options: passed to `Database`.

    Raises:
        DatabaseError: it is not there or cannot be opened.
    """
    text = str(source)
    if "://" in text:
        return Database(text.replace("{db_id}", db_id), **options)
    folder = Path(text)
    return Database(folder / f"{db_id}.sqlite" if folder.is_dir() else folder, **options)


def split_by_database(
    questions: Iterable[Question],
    *,
    test: float | Callable[[str], bool] = 0.4,
    seed: int = 0,
    known: Mapping[str, str] | None = None,
) -> list[Question]:
    """Marks each question `fit` or `test`, so that no database is in both. Marks that are there stay.

    A database's side is drawn from its id alone, so it stays the same when other databases come or go. With two
    databases or more neither side is empty.

    Args:
        questions: what to mark.
        test: the share of databases that are for testing, in (0, 1), or a function that says it of a database's id.
        seed: of the draw.
        known: sides that databases have already (`store.sides()`); they win over everything.

    Raises:
        TraceError: the share is out of range, or a database is marked for both sides.
    """
    listed = list(questions)
    sides = {**sides_of((question.db_id, question.split) for question in listed), **(known or {})}
    new = sorted({question.db_id for question in listed} - set(sides))
    if callable(test):
        sides |= {name: "test" if test(name) else "fit" for name in new}
    else:
        if not 0 < test < 1:
            raise TraceError(
                f"a test share of {test:g}", where="split_by_database", remedy="Give a share between 0 and 1"
            )
        luck = {name: _luck(name, seed) for name in new}
        sides |= {name: "test" if luck[name] < test else "fit" for name in new}
        used = {sides[question.db_id] for question in listed}
        if len(used) == 1 and luck and len({question.db_id for question in listed}) > 1:
            # The one that came nearest to the other side goes there.
            if used == {"fit"}:
                sides[min(luck, key=luck.__getitem__)] = "test"
            else:
                sides[max(luck, key=luck.__getitem__)] = "fit"
    return [replace(question, split=sides[question.db_id]) for question in listed]


def sides_of(marks: Iterable[tuple[str, str]], *, where: str = "the questions") -> dict[str, str]:
    """The side of each database that has a mark.

    Args:
        marks: pairs of a database and `fit`, `test` or nothing.
        where: named in the error.

    Raises:
        TraceError: a database is marked for both sides.
    """
    found: dict[str, str] = {}
    for name, side in marks:
        if side and found.setdefault(name, side) != side:
            raise TraceError(
                f"the database {name!r} is on both sides of the split",
                where=where,
                remedy="Give all its questions the same `split` and record them under a new name or into a new store",
            )
    return found


def balanced(questions: Iterable[Question], *, block: int = 2, seed: int = 0) -> list[Question]:
    """Orders questions so that any prefix is spread over databases and splits.

    Rounds over all databases, fit and test alternating, a block of each at a time (a block shares the schema, so a
    prefix cache serves all of it but the first); which questions come first is drawn.

    Args:
        questions: what to order.
        block: questions of one database in a row.
        seed: of the draw.
    """
    draw = random.Random(seed)
    queues: dict[str, dict[str, list[Question]]] = defaultdict(dict)
    for question in questions:
        queues[question.split].setdefault(question.db_id, []).append(question)
    lanes: list[list[list[Question]]] = []
    for split in sorted(queues):
        for own in queues[split].values():
            draw.shuffle(own)
        names = sorted(queues[split])
        draw.shuffle(names)
        rounds = max(len(own) for own in queues[split].values())
        cut = [queues[split][name][at : at + block] for at in range(0, rounds, block) for name in names]
        lanes.append([part for part in cut if part])
    ordered: list[Question] = []
    taken = [0] * len(lanes)
    while any(taken[i] < len(lane) for i, lane in enumerate(lanes)):
        # The lane that is furthest behind in proportion is next, so that both splits end together.
        i = min((i for i, lane in enumerate(lanes) if taken[i] < len(lane)), key=lambda i: taken[i] / len(lanes[i]))
        ordered += lanes[i][taken[i]]
        taken[i] += 1
    return ordered


def chosen(questions: Sequence[Question], *, n: int, per_database: int | None = None, seed: int = 0) -> list[Question]:
    """The first `n` of the balanced order, at most `per_database` of each database."""
    seen: dict[str, int] = defaultdict(int)
    found: list[Question] = []
    for question in balanced(questions, seed=seed):
        if len(found) == n:
            break
        if per_database is None or seen[question.db_id] < per_database:
            seen[question.db_id] += 1
            found.append(question)
    return found


def _luck(name: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but the name and the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:7]) / 2**56


def _question(line: str, where: str) -> Question:
    try:
        data = json.loads(line)
    except ValueError as error:
        told = getattr(error, "msg", error)  # its own line and column count within this line
        raise TraceError(f"not JSON: {told}", where=where, remedy="One question per line, as a JSON object") from None
    if not isinstance(data, dict):
        raise TraceError("not an object", where=where, remedy="One question per line, as a JSON object")
    missing = [name for name in _NEEDED if not isinstance(data.get(name), str) or not data[name].strip()]
    if missing:
        raise TraceError(
            f"the field {missing[0]!r} is missing or empty", where=where, remedy=f"Give {', '.join(_NEEDED)} as text"
        )
    gold = [data["gold_sql"], data.get("gold_sql_official")]
    return Question(
        id=data["id"],
        db_id=data["db_id"],
        question=data["question"],
        gold=tuple(dict.fromkeys(sql for sql in gold if isinstance(sql, str) and sql.strip())),
        difficulty=data.get("difficulty") or "",
        split=data["split"] if data.get("split") in ("fit", "test") else "",
    )


_NEEDED = ("id", "db_id", "question", "gold_sql")
