"""Recorded pools as columns of numbers: a million candidates in a few hundred megabytes.

One row per recorded attempt, in pool order. Objects are made from rows only where a policy looks at them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tta_langgraph.budget import Usage
from tta_langgraph.errors import TraceError
from tta_langgraph.evidence import Evidence, Execution, LogprobStats
from tta_langgraph.state import Candidate
from tta_langgraph.traces.model import Attempt, Pool
from tta_langgraph.traces.replay_cache import spared

Ints = NDArray[np.int64]
Measure = Literal["tokens", "uncached", "completion"]
"""What a token count means: all read and written; without what a prefix cache served; written ones only."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Pools in columnar form. Arrays have one entry per attempt, shape (attempts,), unless stated otherwise."""

    question_ids: tuple[str, ...]
    """Shape (questions,)."""
    db_ids: tuple[str, ...]
    """Database of each question, shape (questions,)."""
    splits: tuple[str, ...]
    """The side each question was recorded for: `fit`, `test` or empty, shape (questions,)."""
    difficulties: tuple[str, ...]
    """As labelled by the data set, or empty, shape (questions,)."""
    features: tuple[Mapping[str, float], ...]
    """What is known of each question before any call, shape (questions,)."""
    texts: Mapping[str, tuple[str, ...]]
    """Vocabulary of each coded column; see `CODED`."""
    offsets: Ints
    """Rows of question q are `offsets[q]:offsets[q + 1]`, shape (questions + 1,)."""
    data: Mapping[str, NDArray[Any]]
    """The columns by name; see `SPEC`. Codes of `texts` are integers; a missing number is NaN, a missing key −1."""
    measure: Measure = "tokens"
    """What `prompt_tokens` holds: all of the prompt, its uncached part, or nothing."""

    @cached_property
    def repaid_tokens(self) -> NDArray[Any]:
        """Tokens that an attempt costs more, in this measure, as the first request of an episode, shape (attempts,).

        Its seconds grow by the column `spared_seconds` in every measure. See `replay_cache`.
        """
        read = self.data["spared_tokens"]
        return read if self.measure == "uncached" else np.zeros_like(read)

    def __len__(self) -> int:
        return len(self.question_ids)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.data[name]

    @property
    def n_attempts(self) -> int:
        """Recorded attempts in all."""
        return int(self.offsets[-1])

    @property
    def nbytes(self) -> int:
        """Memory of the columns in bytes."""
        return int(self.offsets.nbytes + sum(column.nbytes for column in self.data.values()))

    def code(self, column: str, text: str) -> int:
        """The code of a text in a coded column, −1 if no row has it."""
        try:
            return self.texts[column].index(text)
        except ValueError:
            return -1

    @cached_property
    def owner(self) -> Ints:
        """The question each row belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def block(self, first: int, last: int) -> Block:
        """The rows of questions `first` to `last` (exclusive) as Python values, to make objects from."""
        return Block(self, first, last)

    def attempts(self, question: int) -> list[Attempt]:
        """The attempts of a question, without verdicts. For an answer's text stands its key, or a stand-in."""
        block = self.block(question, question + 1)
        return [block.attempt(row) for row in range(block.start, block.stop)]

    def select(self, questions: Sequence[int] | NDArray[Any]) -> Columns:
        """The same columns for some of the questions, in the order given."""
        index = np.asarray(questions, dtype=np.int64)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        rows = np.concatenate([np.arange(self.offsets[q], self.offsets[q + 1]) for q in index] or [np.zeros(0, int)])
        sizes = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        data = {name: column[rows] for name, column in self.data.items()}
        shift = np.repeat(offsets[:-1] - self.offsets[index], sizes)
        data["parent"] = np.where(data["parent"] < 0, -1, data["parent"] + shift).astype(np.int32)
        return Columns(
            question_ids=tuple(self.question_ids[q] for q in index),
            db_ids=tuple(self.db_ids[q] for q in index),
            splits=tuple(self.splits[q] for q in index),
            difficulties=tuple(self.difficulties[q] for q in index),
            features=tuple(self.features[q] for q in index),
            texts=self.texts,
            offsets=offsets,
            data=data,
            measure=self.measure,
        )

    def measured(self, measure: Measure) -> Columns:
        """The same columns with prompt tokens counted in full, without the cached part, or not at all."""
        if measure == self.measure:
            return self
        if self.measure != "tokens":
            raise TraceError(
                f"columns that count {self.measure!r} cannot be turned into {measure!r}",
                where="Columns.measured",
                remedy="Start from the recorded pools",
            )
        data = dict(self.data)
        for prompt, cached in (("prompt_tokens", "cached_tokens"), ("judge_prompt", "judge_cached")):
            left = data[prompt] - data[cached] if measure == "uncached" else np.zeros_like(data[prompt])
            data[prompt], data[cached] = left, np.zeros_like(left)
        return Columns(**{**{f.name: getattr(self, f.name) for f in fields(self)}, "data": data, "measure": measure})


class Block:
    """Rows of neighbouring questions as Python values; objects are made one by one, when they are asked for."""

    __slots__ = ("_starts", "logprobs", "start", "stop", "value")

    def __init__(self, table: Columns, first: int, last: int) -> None:
        self.start, self.stop = int(table.offsets[first]), int(table.offsets[last])
        rows = slice(self.start, self.stop)
        self.value: dict[str, list[Any]] = {name: column[rows].tolist() for name, column in table.data.items()}
        self.value["repaid_tokens"] = table.repaid_tokens[rows].tolist()
        for name, words in table.texts.items():
            self.value[name] = [words[code] for code in self.value[name]]
        self.logprobs = {f.name: self.value["lp_" + f.name] for f in fields(LogprobStats)}
        self._starts: list[int] = np.repeat(
            table.offsets[first:last], np.diff(table.offsets[first : last + 1])
        ).tolist()

    def attempt(self, row: int) -> Attempt:
        """The attempt of a row (counted from the start of the columns)."""
        i, value = row - self.start, self.value
        start, parent, key, ran = self._starts[i], value["parent"][i], value["key"][i], value["executed"][i]
        stats = None
        if value["lp_n"][i] > 0:
            stats = LogprobStats(**{name: column[i] for name, column in self.logprobs.items()})
        return Attempt(
            id=f"a{row - start}",
            parent=None if parent < 0 else f"a{parent - start}",
            key=None if key < 0 else f"k{key}",
            executed=None if ran < 0 else bool(ran),
            error_kind=value["error_kind"][i] or None,
            request=f"r{value['request'][i]}",
            answer=None if not value["answered"][i] else f"k{key}" if key >= 0 else f"answer {row - start}",
            logprobs=stats,
            **{name: value[name][i] for name in SAME},
        )

    def candidate(self, row: int) -> Candidate:
        """`attempt(row).to_candidate()` without the attempt: replay makes one for every answer that it meets."""
        i, value = row - self.start, self.value
        start, parent, code, ran = self._starts[i], value["parent"][i], value["key"][i], value["executed"][i]
        key = None if code < 0 else f"k{code}"
        evidence = _NOTHING_SEEN
        if ran >= 0 or value["lp_n"][i] > 0:
            stats = None
            if value["lp_n"][i] > 0:
                stats = LogprobStats(**{name: column[i] for name, column in self.logprobs.items()})
            evidence = Evidence(execution=self._execution(i, key) if ran >= 0 else None, logprobs=stats)
        answer = None if not value["answered"][i] else key or f"answer {row - start}"

        usage = _UsageDraft()
        usage.prompt_tokens = value["prompt_tokens"][i]
        usage.completion_tokens = value["completion_tokens"][i]
        usage.cached_tokens = value["cached_tokens"][i]
        usage.seconds = value["seconds"][i]
        usage.usd = 0.0
        usage.model_calls = 1
        usage.executions = 0 if ran < 0 else 1
        usage.__class__ = Usage

        made = _CandidateDraft()
        made.id = f"a{row - start}"
        made.text = answer or ""
        made.answer = answer or key
        made.key = key
        made.parent = None if parent < 0 else f"a{parent - start}"
        made.action = value["action"][i]
        made.feedback = value["feedback"][i]
        made.form = value["form"][i]
        made.round = value["round"][i]
        made.model = value["model"][i]
        made.usage = usage
        made.finish_reason = value["finish_reason"][i]
        made.answer_chars = value["answer_chars"][i]
        made.evidence = evidence
        made.__class__ = Candidate
        return made  # type: ignore[no-any-return]

    def _execution(self, i: int, key: str | None) -> Any:
        value = self.value
        ran, kind = bool(value["executed"][i]), value["error_kind"][i] or None
        made = _ExecutionDraft()
        made.ok = ran
        made.key = key
        made.n_rows = value["n_rows"][i]
        made.empty = value["empty"][i]
        made.truncated = False
        made.error = None if ran else kind or "error"
        made.error_kind = kind
        made.feedback = ""
        made.seconds = value["execution_seconds"][i]
        made.__class__ = Execution
        return made


def _draft(cls: Any) -> type[Any]:
    """A class with the slots of a frozen dataclass and nothing else: its instances are filled in, and become the other.

    Replay makes millions of candidates, and assigning a field in the constructor of a frozen dataclass takes five times
    as long. A field that is left out is missing rather than at its default: a test compares both ways of making them.
    """
    return type(cls.__name__, (), {"__slots__": cls.__slots__})


_UsageDraft, _ExecutionDraft, _CandidateDraft = _draft(Usage), _draft(Execution), _draft(Candidate)
_NOTHING_SEEN = Evidence()


def columns(pools: Iterable[Pool], *, measure: Measure = "tokens") -> Columns:
    """Turns recorded pools into columns; reads the pools one by one, so a generator never holds them all.

    Args:
        pools: the recorded questions; those without any attempt are left out.
        measure: what counts as a token.

    Raises:
        TraceError: there is no attempt at all, or a parent is missing from its pool.
    """
    lists: dict[str, list[Any]] = {name: [] for name in SPEC}
    vocabulary: dict[str, dict[str, int]] = {name: {} for name in CODED}
    ids: list[str] = []
    databases: list[str] = []
    sides: list[tuple[str, str]] = []
    features: list[Mapping[str, float]] = []
    offsets, blocks = [0], []
    for pool in pools:
        if not pool.attempts:
            continue
        _append(pool, offsets[-1], lists, vocabulary)
        ids.append(pool.question_id)
        databases.append(pool.db_id)
        sides.append((pool.split, pool.difficulty))
        features.append(dict(pool.features))
        offsets.append(offsets[-1] + len(pool.attempts))
        if len(lists["action"]) > 50_000:  # lists of Python numbers are ten times the size of their column
            blocks.append(_flush(lists))
    blocks.append(_flush(lists))
    if offsets[-1] == 0:
        raise TraceError("the pools hold no attempt", where="replay", remedy="Record first: tta record")
    table = Columns(
        question_ids=tuple(ids),
        db_ids=tuple(databases),
        splits=tuple(side for side, _ in sides),
        difficulties=tuple(difficulty for _, difficulty in sides),
        features=tuple(features),
        texts={name: tuple(words) for name, words in vocabulary.items()},
        offsets=np.asarray(offsets, dtype=np.int64),
        data={name: np.concatenate([block[name] for block in blocks]) for name in SPEC},
    )
    return replace(table, data={**table.data, **spared(table)}).measured(measure)


def _append(pool: Pool, base: int, lists: dict[str, list[Any]], vocabulary: dict[str, dict[str, int]]) -> None:
    position = {attempt.id: index for index, attempt in enumerate(pool.attempts)}
    keys: dict[str, int] = {}
    requests: dict[str, int] = {}
    judged = {judgement.attempt: judgement for judgement in pool.judgements}
    for index, attempt in enumerate(pool.attempts):
        if attempt.parent is not None and attempt.parent not in position:
            raise TraceError(
                f"attempt {attempt.id!r} corrects {attempt.parent!r}, which is not there",
                where=f"pool {pool.question_id}",
                remedy="Export the pool whole",
            )
        for name in CODED:
            words = vocabulary[name]
            lists[name].append(words.setdefault(getattr(attempt, name) or "", len(words)))
        for name in PLAIN:
            lists[name].append(getattr(attempt, name))
        lists["answer_chars"].append(attempt.answer_chars or len(attempt.answer or ""))  # not counted: from the text
        lists["parent"].append(-1 if attempt.parent is None else base + position[attempt.parent])
        lists["key"].append(-1 if attempt.key is None else keys.setdefault(attempt.key, len(keys)))
        lists["answered"].append(any(v is not None for v in (attempt.answer, attempt.key, attempt.executed)))
        lists["executed"].append(-1 if attempt.executed is None else int(attempt.executed))
        lists["request"].append(requests.setdefault(attempt.request or f"?{index}", len(requests)))
        stats = attempt.logprobs
        for f in fields(LogprobStats):
            lists["lp_" + f.name].append(0 if stats is None else getattr(stats, f.name))
        verdict = judged.get(attempt.id)
        score = verdict.score if verdict is not None else attempt.verdict_score
        lists["verdict"].append(np.nan if score is None else score)
        lists["judge_prompt"].append(verdict.prompt_tokens if verdict else 0)
        lists["judge_cached"].append(verdict.cached_tokens if verdict else 0)
        lists["judge_completion"].append(verdict.completion_tokens if verdict else 0)
        lists["judge_seconds"].append(verdict.seconds if verdict else 0.0)


def _flush(lists: dict[str, list[Any]]) -> dict[str, NDArray[Any]]:
    block = {name: np.asarray(lists[name], dtype=SPEC[name]) for name in SPEC}
    for values in lists.values():
        values.clear()
    return block


SAME = (
    "action",
    "correct",
    "feedback",
    "form",
    "round",
    "reply",
    "empty",
    "n_rows",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "seconds",
    "execution_seconds",
    "answer_chars",
    "model",
    "finish_reason",
)
CODED = ("action", "feedback", "form", "error_kind", "model", "finish_reason", "reply")
PLAIN = (
    "correct",
    "round",
    "empty",
    "n_rows",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "seconds",
    "execution_seconds",
)
SPEC: Mapping[str, type[np.generic]] = {
    **dict.fromkeys(CODED, np.int16),
    "correct": np.bool_,
    "round": np.int16,
    "empty": np.bool_,
    "n_rows": np.int32,
    "prompt_tokens": np.int32,
    "completion_tokens": np.int32,
    "cached_tokens": np.int32,
    "seconds": np.float32,
    "execution_seconds": np.float32,
    "answer_chars": np.int32,
    "parent": np.int32,
    "key": np.int32,
    "executed": np.int8,
    "answered": np.bool_,
    "request": np.int32,
    **{"lp_" + f.name: np.float32 for f in fields(LogprobStats)},
    "verdict": np.float32,
    "judge_prompt": np.int32,
    "judge_cached": np.int32,
    "judge_completion": np.int32,
    "judge_seconds": np.float32,
}
"""Columns and their types."""
