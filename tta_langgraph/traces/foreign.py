"""Answers that were recorded elsewhere, one to a line, as pools: what `tta import` does.

Nothing of a foreign recording is guessed silently: how many token counts were estimated, which fields were not used
and in which order the models stand is said in the result.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tta_langgraph.errors import TraceError
from tta_langgraph.parsing import normal_text
from tta_langgraph.traces.codec import from_plain
from tta_langgraph.traces.figures import check_figures
from tta_langgraph.traces.model import Attempt, Pool, text_hash

Row = Mapping[str, Any]
"""One recorded answer, by the names of `FIELDS`."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Pools made of foreign answers, and what was assumed about them."""

    pools: tuple[Pool, ...]
    """One per question, in order of appearance."""
    models: tuple[str, ...]
    """The models in the order in which a policy may ask them."""
    answers: int
    """Answers in all."""
    unlabelled: int
    """Answers that were left out because nobody says whether they are right."""
    estimated: int
    """Answers without token counts, for which one token per four characters was assumed."""
    free: int
    """Answers that cost nothing: neither token counts nor a text to estimate them from."""
    grouped: bool
    """Whether questions came without a database, and were dealt to groups that stand for databases."""
    unused: tuple[str, ...]
    """Fields that mean nothing here."""


def import_answers(
    rows: Iterable[Row],
    *,
    about: Iterable[Row] = (),
    models: Sequence[str] = (),
    prices: Mapping[str, float] | None = None,
    where: str = "row",
) -> Imported:
    """Makes pools of recorded answers: samples of one model, a ladder of several, corrections, or all of these.

    A row needs `question_id` (or `id`) and `correct`; see `FIELDS` for the others. Lists in the place of values are
    several answers to one question. The cheapest model answers first: its answer is the greedy one (`generate`), or
    its answers are samples (`resample`) if some question has several of them; each further model is escalated to.
    Rows with a `parent` are corrections (`reflect`). An `action` in the row outranks all of that. Rows without a label
    are left out.

    Args:
        rows: the answers.
        about: what the rows leave out of their questions: `question_id` (or `id`) and any of `QUESTION_FIELDS`.
        models: the order in which models may be asked, if it is not from cheap to dear. Names all of them.
        prices: what a token of a model costs, in tokens of those that are not named here; counts are multiplied.
        where: what errors call a row.

    Raises:
        TraceError: a row lacks a field or holds something impossible; says which.

    Example:
        ```python
        rows = [
            {"question_id": "1", "model": "small", "answer": "4", "correct": True, "completion_tokens": 9},
            {"question_id": "1", "model": "large", "answer": "4", "correct": True, "completion_tokens": 80},
        ]
        export_pools(import_answers(rows).pools, "pools.jsonl.gz")
        ```
    """
    located = ((f"{where} {n}", row) for n, row in enumerate(rows, start=1))
    return _import(located, _by_id(about), models, prices or {})


def read_answers(
    path: str | Path,
    *,
    names: Mapping[str, str] | None = None,
    about: str | Path | None = None,
    models: Sequence[str] = (),
    prices: Mapping[str, float] | None = None,
) -> Imported:
    """`import_answers` of a file of JSON lines (`.jsonl`, `.jsonl.gz`).

    Args:
        path: the file.
        names: what the file calls our fields, `{"question_id": "id", "prompt_tokens": "usage.prompt"}`; dots lead
            into objects.
        about: a file of JSON lines on the questions, as for `import_answers`; also one that `tta record` takes.
        models: as for `import_answers`.
        prices: as for `import_answers`.

    Raises:
        TraceError: the file cannot be read, a line is no JSON object, or as for `import_answers`.
    """
    unknown = sorted(set(names or {}) - set(FIELDS))
    if unknown:
        raise TraceError(
            f"there is no field {unknown[0]!r}", where="import", remedy=f"Known fields are {', '.join(FIELDS)}"
        )
    known = _by_id(row for _, row in _lines(Path(about))) if about is not None else {}
    located = ((at, _renamed(row, names or {})) for at, row in _lines(Path(path)))
    return _import(located, known, models, prices or {})


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """One row, read: an attempt whose action is still to be found, and what it says of its question."""

    where: str
    row: Row
    attempt: Attempt
    estimated: bool


def _import(
    located: Iterable[tuple[str, Row]],
    about: Mapping[str, Row],
    models: Sequence[str],
    prices: Mapping[str, float],
) -> Imported:
    questions: dict[str, list[_Answer]] = {}
    unused: dict[str, None] = {}
    unlabelled = ""
    left_out = 0
    for where, line in located:
        for row in _spread(line, where):
            identity = _identity(row)
            if not identity:
                raise TraceError(
                    "the question has no id", where=where, remedy="Give question_id; `tta import --field` renames one"
                )
            unused.update(dict.fromkeys(name for name in row if name not in FIELDS and name != "id"))
            if row.get("correct") is None:
                unlabelled, left_out = unlabelled or where, left_out + 1
                continue
            found = questions.setdefault(identity, [])
            found.append(_answer({**about.get(identity, {}), **row}, where, len(found), prices))
    if not questions and unlabelled:
        raise TraceError(
            "nobody says whether the answers are right",
            where=unlabelled,
            remedy="Give correct (true or false) for each; `tta import --field` renames a field",
        )
    if not questions:
        raise TraceError("there are no answers", where="import", remedy="Give one JSON object per answer")
    ranks = _ranks(questions.values(), models)
    strange = sorted(set(prices) - set(ranks))
    if strange:
        raise TraceError(
            f"there is no model {strange[0]!r} to price", where="import", remedy=f"Models are {', '.join(ranks)}"
        )
    sampled = _sampled(questions.values(), ranks)
    pools = tuple(_pool(identity, found, ranks, sampled) for identity, found in questions.items())
    every = [answer for found in questions.values() for answer in found]
    return Imported(
        pools=pools,
        models=tuple(ranks),
        answers=len(every),
        unlabelled=left_out,
        estimated=sum(answer.estimated for answer in every),
        free=sum(not answer.attempt.tokens for answer in every),
        grouped=any(not _first(found, "db_id") for found in questions.values()),
        unused=tuple(unused),
    )


def _identity(row: Row) -> str | None:
    return _text(row.get("question_id", row.get("id")))


def _by_id(about: Iterable[Row]) -> dict[str, Row]:
    """What is known of each question, by its id."""
    return {
        _identity(row) or "": {name: row[name] for name in QUESTION_FIELDS if row.get(name) is not None}
        for row in about
    }


def _spread(row: Row, where: str) -> Iterator[Row]:
    """A row whose `correct` is a list is several answers, to which the lists in its other fields are dealt."""
    right = row.get("correct")
    if not isinstance(right, list):
        yield row
        return
    dealt = {name for name in FIELDS if isinstance(row.get(name), list)}
    for name in sorted(dealt):
        if len(row[name]) != len(right):
            raise TraceError(
                f"{name} has {len(row[name])} values, and correct has {len(right)}",
                where=where,
                remedy="Give a list with one value per answer, or a single value for all",
            )
    for i in range(len(right)):
        yield {name: value[i] if name in dealt else value for name, value in row.items()}


def _answer(row: Row, where: str, position: int, prices: Mapping[str, float]) -> _Answer:
    given = {name: row[name] for name in _ATTEMPT if row.get(name) is not None}
    given |= {name: _text(given[name]) for name in _TEXTS if name in given}
    ran = row.get("executed", None if "error" not in row else not row["error"])
    answer = given.get("answer")
    chars = row.get("answer_chars") or len(answer or "")
    counted = any(row.get(name) is not None for name in _COUNTS)
    price = prices.get(given.get("model", ""), 1.0)
    counts = {name: _number(row.get(name) or 0, name, where) for name in _COUNTS}
    if not counted:
        counts["completion_tokens"] = _number(chars, "answer_chars", where) / CHARS_PER_TOKEN
    attempt = {
        **given,
        **{name: round(count * price) or int(count > 0) for name, count in counts.items()},
        "id": _text(row.get("attempt")) or f"a{position}",
        "action": given.get("action") or ("reflect" if given.get("parent") else ""),
        "key": _key(row, answer, position),
        "answer_chars": chars,
        "executed": ran,
    }
    if attempt["action"] == "reflect":
        attempt["feedback"] = given.get("feedback") or "none"
    if ran and "empty" not in given:
        attempt["empty"] = row.get("n_rows") == 0
    try:
        made = from_plain(Attempt, attempt, where=where)
    except TraceError as error:
        raise TraceError(error.what, where=where, remedy="Correct the line, or leave it out") from None
    if made.executed is False:  # it takes no part in votes
        made = replace(made, key=None, error_kind=made.error_kind or "database")
    return _Answer(where=where, row=row, attempt=made, estimated=not counted and bool(made.completion_tokens))


def _key(row: Row, answer: str | None, position: int) -> str | None:
    """What counts as the same answer; one that was not kept agrees with nobody."""
    if "key" in row:
        return _text(row["key"]) or None
    if "answer" in row:
        return None if answer is None else normal_text(answer)
    return f"answer {position}"


def _ranks(questions: Iterable[Sequence[_Answer]], models: Sequence[str]) -> dict[str, int]:
    """The place of each model: as given, or by the mean tokens of its answers, then by appearance."""
    tokens: dict[str, list[int]] = {}
    for found in questions:
        for answer in found:
            tokens.setdefault(answer.attempt.model, []).append(answer.attempt.tokens)
    if models:
        missing = [name for name in tokens if name not in models]
        if missing:
            raise TraceError(
                f"the order of models leaves out {missing[0]!r}",
                where="import",
                remedy=f"Name all of them: {', '.join(tokens)}",
            )
        return {name: rank for rank, name in enumerate(name for name in models if name in tokens)}
    cheap = sorted(tokens, key=lambda name: sum(tokens[name]) / len(tokens[name]))
    return {name: rank for rank, name in enumerate(cheap)}


def _sampled(questions: Iterable[Sequence[_Answer]], ranks: Mapping[str, int]) -> set[str]:
    """The models of which some question has several first answers: those are samples, not greedy ones."""
    found = set()
    for answers in questions:
        for name in ranks:
            if sum(a.attempt.model == name and a.attempt.action in ("", "generate") for a in answers) > 1:
                found.add(name)
    return found


def _pool(identity: str, found: Sequence[_Answer], ranks: Mapping[str, int], sampled: set[str]) -> Pool:
    where = f"question {identity}"
    ordered = sorted((answer.attempt for answer in found), key=lambda a: ranks[a.model])
    by_id = {attempt.id: attempt for attempt in ordered}
    if len(by_id) < len(ordered):
        raise TraceError("two answers have the same id", where=where, remedy="Give each its own `attempt`")
    said = [attempt.model for attempt in ordered if attempt.action in ("generate", "resample")]
    opener = next(iter([*said, *(attempt.model for attempt in ordered if not attempt.action)]), None)

    def action(attempt: Attempt) -> str:
        if attempt.action:
            return attempt.action
        if attempt.model != opener:
            return "escalate"
        return "resample" if attempt.model in sampled else "generate"

    split = _first(found, "split")
    if split not in ("", "fit", "test"):
        raise TraceError(f"the split is {split!r}", where=where, remedy="Use fit, test, or leave it out")
    question = _first(found, "question")
    given = _features(found, where)
    pool = Pool(
        question_id=identity,
        db_id=_first(found, "db_id") or _group(question or identity),
        split=split,
        difficulty=_first(found, "difficulty"),
        question=question or None,
        question_hash=text_hash(question) if question else "",
        attempts=tuple(replace(a, action=action(a), round=_round(a, by_id, where)) for a in ordered),
        features={"question_chars": float(len(question)), **given} if question else given,
    )
    return check_figures(pool, where=where)


def _round(attempt: Attempt, by_id: Mapping[str, Attempt], where: str) -> int:
    """How many corrections lead to this one."""
    rounds, at = 0, attempt
    while at.parent is not None:
        if at.parent not in by_id:
            raise TraceError(
                f"answer {at.id!r} corrects {at.parent!r}, which is not there",
                where=where,
                remedy="Name the `attempt` that it corrects",
            )
        rounds, at = rounds + 1, by_id[at.parent]
        if rounds > len(by_id):
            raise TraceError("answers correct each other in a circle", where=where, remedy="Mend `parent`")
    return rounds


def _features(found: Sequence[_Answer], where: str) -> dict[str, float]:
    given: Any = next((a.row["features"] for a in found if a.row.get("features")), {})
    if not isinstance(given, Mapping):
        raise TraceError("features are no object", where=where, remedy="Give names and numbers")
    return {str(name): _number(value, f"the feature {name!r}", where) for name, value in given.items()}


def _first(found: Sequence[_Answer], name: str) -> str:
    return next((_text(a.row[name]) or "" for a in found if a.row.get(name) is not None), "")


def _group(text: str) -> str:
    """Stands for a database where there is none: questions with the same words are never on both sides of a split."""
    folded = " ".join(text.casefold().split())
    return f"group-{int(hashlib.sha256(folded.encode('utf-8', 'surrogatepass')).hexdigest(), 16) % GROUPS:02d}"


def _text(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TraceError(f"{name} is {value!r}", where=where, remedy="Give a finite number")
    return float(value)


def _renamed(row: Row, names: Mapping[str, str]) -> Row:
    taken = {theirs.split(".")[0] for theirs in names.values()}
    found = {name: value for name, value in row.items() if name not in taken and name not in names}
    for ours, theirs in names.items():
        value: Any = row
        for part in theirs.split("."):
            value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        if value is not _ABSENT:
            found[ours] = value
    return found


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        coded = "utf-8-sig"  # with or without the mark that some editors put before the first line
        with gzip.open(path, "rt", encoding=coded) if path.suffix == ".gz" else path.open(encoding=coded) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}, line {number}", _object(line, f"{path}, line {number}")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        told = getattr(error, "strerror", None) or error
        raise TraceError(
            f"the answers cannot be read: {told}",
            where=str(path),
            remedy="Give a file of JSON lines (.jsonl, .jsonl.gz)",
        ) from None


def _object(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise TraceError(
            f"not JSON: {getattr(error, 'msg', error)}", where=where, remedy="Give one JSON object per line"
        ) from None
    if not isinstance(row, dict):
        raise TraceError("this is no JSON object", where=where, remedy="Give one JSON object per answer")
    return row


CHARS_PER_TOKEN = 4.0
"""Assumed where tokens were not counted; common for English and SQL."""
GROUPS = 100
"""Groups that stand for databases where there are none."""
_COUNTS = ("prompt_tokens", "completion_tokens", "cached_tokens")
_TEXTS = ("key", "answer", "model", "parent", "request", "action", "feedback", "form", "reply", "finish_reason")
_ATTEMPT = tuple(item.name for item in fields(Attempt) if item.name not in ("id", "round", *_COUNTS))
QUESTION_FIELDS = ("question", "db_id", "split", "difficulty", "features")
"""What is said of a question: once is enough."""
FIELDS = ("question_id", *QUESTION_FIELDS, "attempt", "error", *_COUNTS, *_ATTEMPT)
"""What a row may say of the question and of the answer: `attempt` is the answer's id, `error` is null where its query
ran, the rest is as in `Attempt`."""
_ABSENT = object()
