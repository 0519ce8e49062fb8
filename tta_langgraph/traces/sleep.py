"""`tta sleep`: thinks about a database before anyone asks, once per schema, and keeps what was found.

Source: *Sleep-time Compute* (arXiv 2504.13171): what is worked out in idle time is shared by all later questions on the
same context, so its cost is divided by their number. Here: join paths, values as they are stored, and anticipated
questions with queries that were run and agreed upon. The questions become demonstrations.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, SystemMessage
from pydantic import ConfigDict

from tta_langgraph.budget import Budget, BudgetTracker, Usage, merge_budget
from tta_langgraph.episode import Ask, BudgetNode, Steps
from tta_langgraph.errors import TraceError
from tta_langgraph.models.sync_loop import run_in_background
from tta_langgraph.nodes import Demonstrations, Execute, Sample
from tta_langgraph.selection import select
from tta_langgraph.sql import Database
from tta_langgraph.traces.codec import SCHEMA, check_schema, from_plain, to_plain
from tta_langgraph.traces.manifest import manifest_for
from tta_langgraph.traces.sleep_joins import join_paths


@dataclass(frozen=True, kw_only=True)
class Solved:
    """An anticipated question with a query that ran and on whose result most samples agreed."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    question: str
    """In the model's words."""
    sql: str
    """The query."""
    share: float
    """Share of the samples that gave this result."""
    n_rows: int
    """Rows it returned."""


@dataclass(frozen=True, kw_only=True)
class SleepNotes:
    """What was worked out about one schema."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    schema_hash: str
    """SHA-256 of the schema that the notes are about; another schema needs other notes."""
    joins: tuple[str, ...] = ()
    """How tables are joined, one line per pair."""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Distinct values of columns that have few of them, by `table.column`."""
    solved: tuple[Solved, ...] = ()
    """Anticipated questions."""
    asked: int = 0
    """Questions that were tried; those without an agreed answer were dropped."""
    spent: Usage = field(default_factory=Usage)
    """What working it out consumed."""
    manifest_id: str = ""
    """The backend that did it."""
    created: float = 0.0
    """Unix time in seconds."""

    def text(self, *, max_chars: int = 2_000) -> str:
        """The notes for a prompt, cut at whole lines; the same bytes for every question."""
        lines = [*self.joins, *(f"{column}: {', '.join(values)}" for column, values in self.values.items())]
        kept: list[str] = []
        for line in lines:
            if sum(len(one) + 1 for one in kept) + len(line) > max_chars:
                break
            kept.append(line)
        return "\n".join(kept)

    def demonstrations(self, *, k: int = 3) -> Demonstrations:
        """A store of the solved questions, for the `demonstrations` of a node."""
        store = Demonstrations(k=k, namespace=("sleep", self.schema_hash[:16]))
        for solved in self.solved:
            store.add(solved.question, f"```sql\n{solved.sql}\n```")
        return store

    def amortised(self, questions: int, tokens_per_question: float) -> float:
        """Tokens per question with the notes' own cost divided among them: C_sleep / Q + C_test.

        Args:
            questions: how many are asked of this schema (Q).
            tokens_per_question: what each costs with the notes at hand (C_test), in tokens.

        Raises:
            TraceError: there are no questions to share the cost.
        """
        if questions < 1:
            raise TraceError(f"{questions} questions", where="SleepNotes.amortised", remedy="Give at least 1")
        return self.spent.tokens / questions + tokens_per_question


def sleep(
    database: Database,
    model: BaseChatModel,
    *,
    questions: int = 10,
    samples: int = 4,
    agreement: float = 0.5,
    budget: Budget | Mapping[str, Any] | int | None = None,
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SleepNotes:
    """Works out the notes of a database, or reads them from the cache if its schema has not changed.

    Args:
        database: what will be asked about.
        model: who thinks.
        questions: how many questions to anticipate.
        samples: queries drawn for each.
        agreement: share of the samples that must give the same result, not empty, for a question to be kept.
        budget: limits of it all; what was found when they strike is kept.
        cache: folder of notes by schema hash; None keeps nothing.
        progress: called with (questions tried, questions in all).

    Raises:
        TraceError: notes in the cache cannot be read, or the cache cannot be written.
        ModelError: the model cannot be reached.
    """
    return run_in_background(
        asleep(
            database,
            model,
            questions=questions,
            samples=samples,
            agreement=agreement,
            budget=budget,
            cache=cache,
            progress=progress,
        )
    )


async def asleep(
    database: Database,
    model: BaseChatModel,
    *,
    questions: int = 10,
    samples: int = 4,
    agreement: float = 0.5,
    budget: Budget | Mapping[str, Any] | int | None = None,
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SleepNotes:
    """Twin of `sleep` for event loops; see there."""
    schema = await asyncio.to_thread(database.schema_prompt, max_tokens=_SCHEMA_TOKENS)
    key = schema_hash(database)
    file = None if cache is None else Path(cache) / f"{key[:32]}.json"
    if file is not None and file.exists():
        return read_notes(file)
    tracker = BudgetTracker.start(budget)
    update = await _Anticipate(model=model, schema=schema, questions=questions).ainvoke({"budget": tracker})
    tracker = merge_budget(tracker, update["budget"])
    anticipated: list[str] = update.get("questions", [])
    solved: list[Solved] = []
    tried = 0
    for question in anticipated:
        if tracker.exhausted is not None:
            break
        found, tracker = await _solved(question, database, model, samples, tracker)
        tried += 1
        if found is not None and found.share >= agreement and found.n_rows > 0:
            solved.append(found)
        if progress is not None:
            progress(tried, len(anticipated))
    notes = SleepNotes(
        schema_hash=key,
        joins=join_paths(database.catalog),
        values=await asyncio.to_thread(_values, database),
        solved=tuple(solved),
        asked=tried,
        spent=replace(tracker.usage, seconds=round(tracker.usage.seconds, 3)),
        manifest_id=manifest_for(model).id,
        created=time.time(),
    )
    if file is not None:
        write_notes(notes, file)
    return notes


def schema_hash(database: Database) -> str:
    """SHA-256 of tables, columns, types and keys, and of the schema where statements name it; data does not count."""
    parts = [
        [
            table.name,
            [[column.name, column.type] for column in table.columns],
            list(table.primary_key),
            sorted([list(key.columns), key.table, list(key.referred)] for key in table.foreign_keys),
            *([] if table.schema is None else [table.schema]),  # statements name it: notes on one do not fit another
        ]
        for table in sorted(database.catalog.tables, key=lambda table: table.name)
    ]
    return hashlib.sha256(json.dumps([database.dialect, parts]).encode()).hexdigest()


def read_notes(path: str | Path) -> SleepNotes:
    """Notes from a file.

    Raises:
        TraceError: it cannot be read, or is of another form.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TraceError(f"the notes cannot be read: {error}", where=str(path), remedy="Delete the file") from None
    check_schema(data.pop("schema", None) if isinstance(data, dict) else None, where=str(path))
    return from_plain(SleepNotes, data, where=str(path))


def write_notes(notes: SleepNotes, path: str | Path) -> None:
    """Writes notes to a file, which appears whole or not at all."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"schema": SCHEMA, **to_plain(notes)}, indent=1), encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise TraceError(f"the notes cannot be written: {error}", where=str(path), remedy="Check the folder") from None


@dataclass(frozen=True, kw_only=True)
class _Anticipate(BudgetNode):
    """Asks which questions people will ask of the schema."""

    model: BaseChatModel
    schema: str
    questions: int

    def steps(self, state: Mapping[str, Any]) -> Steps:
        completions = yield Ask(
            messages=[
                SystemMessage(self.schema.strip()),
                HumanMessage(ANTICIPATE.format(n=self.questions)),
            ],
            model=self.model,
            max_tokens=32 * self.questions,
            source="sleep.anticipate",
            options={"temperature": 0.0},
        )
        return {"questions": read_questions(completions[0].text)[: self.questions]}


def read_questions(text: str) -> list[str]:
    """The questions in a list that a model wrote, each once; lines that ask nothing are left out."""
    lines = [_NUMBERING.sub("", line).strip(" *\"'") for line in text.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.endswith("?") and len(line.split()) > 2))


async def _solved(
    question: str, database: Database, model: BaseChatModel, samples: int, tracker: BudgetTracker
) -> tuple[Solved | None, BudgetTracker]:
    """The result that most samples agree on; the budget's end counts as no answer."""
    state: dict[str, Any] = {"question": question, "budget": tracker}
    for node in (Sample(model=model, database=database, n=samples, max_tokens=256), Execute(database=database)):
        update = await node.ainvoke(state)
        state = {**state, **update, "budget": merge_budget(state["budget"], update["budget"])}
    chosen = select(list(state.get("candidates") or ()), "execution_vote").candidate
    tracker = state["budget"]
    if chosen is None or chosen.answer is None or chosen.key is None or chosen.evidence.execution is None:
        return None, tracker
    agreeing = sum(candidate.key == chosen.key for candidate in state["candidates"])
    rows = chosen.evidence.execution.n_rows
    return Solved(question=question, sql=chosen.answer, share=agreeing / samples, n_rows=rows), tracker


def _values(database: Database) -> dict[str, tuple[str, ...]]:
    """Distinct values of text columns that have few of them."""
    found: dict[str, tuple[str, ...]] = {}
    quote = "`" if database.dialect == "mysql" else '"'
    for table in database.catalog.tables:
        for column in table.columns:
            if not column.textual or len(found) >= _MOST_COLUMNS:
                continue
            names = [quote + name.replace(quote, quote * 2) + quote for name in (column.name, table.name)]
            result = database.execute(f"SELECT DISTINCT {names[0]} FROM {names[1]} LIMIT {_FEW + 1}", timeout=2.0)
            values = sorted(str(row[0]) for row in result.rows if row[0] is not None)
            if result.ok and 0 < len(values) <= _FEW and all(len(value) <= _SHORT for value in values):
                found[f"{table.name}.{column.name}"] = tuple(values)
    return {} if database.mask else found


_NUMBERING = re.compile(r"^\s*(?:\d+[.):]|[-*])\s*")
_SCHEMA_TOKENS = 1_500
_FEW = 12
_SHORT = 40
_MOST_COLUMNS = 60
ANTICIPATE = """\
List {n} different questions in plain English that a manager could ask about this data: counts, filters, extremes, \
groups and joins of two tables. One question per line, ending with a question mark. Do not write SQL."""
"""Asks for questions. It follows the schema, because a small model that reads it first goes on writing the schema."""
