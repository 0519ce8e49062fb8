"""`tta record`: runs a grid of strategies over questions and stores a pool for each, resumable at any moment."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel

from tta_langgraph.budget import Usage
from tta_langgraph.errors import DatabaseError, ModelError, TraceError
from tta_langgraph.latency import LatencyModel
from tta_langgraph.models.sync_loop import run_in_background
from tta_langgraph.sql import Database
from tta_langgraph.traces.grid import Grid
from tta_langgraph.traces.manifest import Manifest, manifest_for
from tta_langgraph.traces.model import Pool
from tta_langgraph.traces.questions import Question, database_at, load_questions
from tta_langgraph.traces.record_pool import PoolRecorder
from tta_langgraph.traces.store import TraceStore

Databases = str | Path | Callable[[Question], Database]
"""A folder of `{db_id}.sqlite`, a URL with `{db_id}` in it, or a function that opens the database of a question."""
Model = BaseChatModel | Callable[[], BaseChatModel]
"""A chat model, or a function that makes one (needed on Ray, where each worker makes its own)."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a recording stands; given to the callback after every question."""

    done: int
    """Questions recorded in this run."""
    failed: int
    """Questions given up in this run."""
    skipped: int
    """Questions that an earlier run recorded, or another one that runs beside."""
    total: int
    """Questions in all."""
    seconds: float
    """Wall-clock of this run."""
    spent: Usage
    """Consumed by this run; `seconds` is busy time."""
    pool: Pool | None = None
    """The pool just stored, or None after a failure."""

    @property
    def left(self) -> int:
        """Questions to go."""
        return self.total - self.skipped - self.done - self.failed

    @property
    def eta(self) -> float:
        """Seconds to go at the rate so far; `inf` before the first question is done."""
        finished = self.done + self.failed
        return self.seconds / finished * self.left if finished else float("inf")

    @property
    def per_hour(self) -> float:
        """Questions per hour so far."""
        return 3600.0 * (self.done + self.failed) / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class RecordReport:
    """What a recording came to."""

    recorded: int
    """Questions recorded in this run."""
    skipped: int
    """Questions that were there already."""
    failures: tuple[tuple[str, str], ...]
    """Question id and reason of each one given up."""
    stopped: bool
    """It was stopped before the last question."""
    seconds: float
    """Wall-clock of this run."""
    spent: Usage
    """Consumed by this run."""
    manifest_id: str
    """Hash of the backend manifest."""


def record(
    questions: Iterable[Question] | str | Path,
    databases: Databases,
    model: Model,
    grid: Grid,
    store: TraceStore | str | Path,
    *,
    recording: str = "",
    judge: Model | None = None,
    executor: Literal["local", "ray"] = "local",
    concurrency: int = 1,
    workers: int | None = None,
    resume: bool = True,
    progress: Callable[[Progress], None] | None = None,
    stop_event: threading.Event | None = None,
    latency: LatencyModel | None = None,
) -> RecordReport:
    """Runs the grid on every question and stores one pool and one trace for each, in one transaction.

    A question is stored whole or not at all: interrupted at any moment (Ctrl-C, a crash, a reboot), the next run
    goes on with the first question that is not there. A database stays on the side (`fit` or `test`) on which the
    store has it. From async code use `arecord`.

    Args:
        questions: questions, or the JSON-lines file to load them from.
        databases: where their databases are.
        model: who answers.
        grid: what is tried on every question.
        store: where to.
        recording: name under which the pools are stored; a store holds any number.
        judge: who judges; the model itself by default.
        executor: `local`, or `ray` to spread the questions over a Ray cluster.
        concurrency: questions at a time (per worker); more of them keep a batching server busy.
        workers: Ray workers; None for one per two processors of the cluster.
        resume: skip what is recorded already; False records it again.
        progress: called after every question.
        stop_event: set it to stop after the questions in flight.
        latency: latencies as on an idle engine (see `fit_latency`) instead of measured ones. Without it the requests
            of a question go one after the other, so that each one's latency is its own; several questions at a time
            measure the queue that they make, and the manifest says how many there were.

    Raises:
        TraceError: the questions or the store cannot be read, ten questions in a row fail, or the recording was begun
            with another model, another grid, or latencies had in another way.
        ModelError: the model cannot be reached.
        KeyboardInterrupt: after Ctrl-C; the questions in flight are dropped, all others are stored.
    """
    listed = load_questions(questions) if isinstance(questions, str | Path) else list(questions)
    if executor == "ray":
        from tta_langgraph.traces.record_ray import record_on_ray

        return record_on_ray(
            listed, databases, model, grid, store, recording=recording, judge=judge, concurrency=concurrency,
            workers=workers, resume=resume, progress=progress, stop_event=stop_event, latency=latency,
        )  # fmt: skip
    over = threading.Event()

    async def whole() -> RecordReport:
        try:
            return await arecord(
                listed, databases, model, grid, store, recording=recording, judge=judge, concurrency=concurrency,
                resume=resume, progress=progress, stop_event=stop_event, latency=latency,
            )  # fmt: skip
        finally:
            over.set()

    try:
        # A loop of its own would break the connections that the model keeps open from one recording to the next.
        return run_in_background(whole())
    except BaseException:
        over.wait(CLEAN_UP_SECONDS)
        raise


async def arecord(
    questions: Sequence[Question],
    databases: Databases,
    model: Model,
    grid: Grid,
    store: TraceStore | str | Path,
    *,
    recording: str = "",
    judge: Model | None = None,
    concurrency: int = 1,
    resume: bool = True,
    progress: Callable[[Progress], None] | None = None,
    stop_event: threading.Event | None = None,
    latency: LatencyModel | None = None,
) -> RecordReport:
    """Twin of `record` for event loops; see there."""
    if concurrency < 1:
        raise TraceError(f"concurrency={concurrency}", where="record", remedy="Give at least 1")
    answering = made(model)
    with _opened(store) as target:
        session = _Session(
            databases=databases, model=answering, judge=answering if judge is None else made(judge), grid=grid,
            store=target, recording=recording, progress=progress, stop=stop_event or threading.Event(), latency=latency,
            concurrency=concurrency,
        )  # fmt: skip
        return await session.run(questions, resume=resume)


def made(model: Model) -> BaseChatModel:
    """The model, made if a function was given."""
    return model if isinstance(model, BaseChatModel) else model()


class _Session:
    """One run of a recording."""

    def __init__(
        self, *, databases: Databases, model: BaseChatModel, judge: BaseChatModel, grid: Grid, store: TraceStore,
        recording: str, progress: Callable[[Progress], None] | None, stop: threading.Event,
        latency: LatencyModel | None, concurrency: int,
    ) -> None:  # fmt: skip
        self._databases, self._model, self._judge, self._grid = databases, model, judge, grid
        self._store, self._recording, self._progress, self._stop = store, recording, progress, stop
        self._latency, self._concurrency = latency, concurrency
        self._opened: dict[str, Database] = {}
        self._manifest = recording_manifest(model, grid, latency, concurrency)
        self._done, self._skipped, self._total = 0, 0, 0
        self._in_a_row = 0
        self._failures: list[tuple[str, str]] = []
        self._spent = Usage()
        self._begun = time.perf_counter()

    async def run(self, questions: Sequence[Question], *, resume: bool) -> RecordReport:
        known = self._store.recorded(self._recording) if resume else set()
        if resume:
            self._refuse_to_mix()
        # Questions that came later, or another share, must not put a database on the other side.
        sides = self._store.sides(self._recording)
        waiting = [
            replace(question, split=sides.get(question.db_id, question.split))
            for question in questions
            if question.id not in known
        ]
        self._total, self._skipped = len(questions), len(questions) - len(waiting)
        self._store.add_manifest(self._manifest)
        queue = deque(waiting)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(self._concurrency, len(waiting))):
                    tasks.create_task(self._work(queue, resume))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            for database in self._opened.values():
                database.close()
        return RecordReport(
            recorded=self._done, skipped=self._skipped, failures=tuple(self._failures),
            stopped=self._skipped + self._done + len(self._failures) < self._total,
            seconds=time.perf_counter() - self._begun, spent=self._spent, manifest_id=self._manifest.id,
        )  # fmt: skip

    async def _work(self, queue: deque[Question], resume: bool) -> None:
        while queue and not self._stop.is_set():
            question = queue.popleft()
            pool: Pool | None = None
            try:
                if resume and await self._elsewhere(question):
                    self._skipped += 1
                else:
                    pool = await self._record(question, queue, resume)
                self._in_a_row = 0
            except (TraceError, DatabaseError, ModelError) as error:
                self._failed(question, error)
            if self._progress is not None:
                self._progress(
                    Progress(
                        done=self._done,
                        failed=len(self._failures),
                        skipped=self._skipped,
                        total=self._total,
                        seconds=time.perf_counter() - self._begun,
                        spent=self._spent,
                        pool=pool,
                    )
                )

    async def _elsewhere(self, question: Question) -> bool:
        """Whether another process has recorded it in the meantime."""
        return await asyncio.to_thread(self._store.holds, question.id, self._recording)

    def _refuse_to_mix(self) -> None:
        """Pools of two models or two grids under one name could not be told apart by who learns from them."""
        manifests = self._store.manifests()
        for key in sorted(set(self._store.backends(self._recording).values())):
            found = self._manifest.differences(manifests[key]) if key in manifests else []
            if found:
                raise TraceError(
                    f"the recording {self._recording!r} was begun otherwise: now {'; '.join(found)}",
                    where=self._store.where,
                    remedy="Go on with the options it was begun with, or give this one another recording name or store",
                )

    async def _record(self, question: Question, queue: deque[Question], resume: bool) -> Pool | None:
        recorder = PoolRecorder(
            question=question, database=self._database(question), model=self._model, judge=self._judge,
            grid=self._grid, latency=self._latency,
        )  # fmt: skip
        pool, trace = await recorder.run(recording=self._recording, manifest_id=self._manifest.id)
        if resume and await self._elsewhere(question):
            # Somebody else works on the same list: going on in the same order would do all of it twice.
            random.shuffle(queue)
            self._skipped += 1
            self._spent += pool.spent
            return None
        await asyncio.to_thread(self._store.add_pool, pool, recording=self._recording, trace=trace)
        self._done += 1
        self._spent += pool.spent
        return pool

    def _failed(self, question: Question, error: Exception) -> None:
        """One bad question is noted and left out; ten in a row mean that something else is wrong."""
        _log.warning("question %s was not recorded: %s", question.id, error)
        self._failures.append((question.id, str(error)))
        self._in_a_row += 1
        if self._in_a_row >= MAX_IN_A_ROW or (isinstance(error, ModelError) and self._done == 0):
            raise error

    def _database(self, question: Question) -> Database:
        if callable(self._databases):
            return self._databases(question)
        if question.db_id not in self._opened:
            self._opened[question.db_id] = database_at(self._databases, question.db_id)
        return self._opened[question.db_id]


def recording_manifest(model: Any, grid: Grid, latency: LatencyModel | None, concurrency: int = 1) -> Manifest:
    """The manifest of a recording: the backend, the grid's sampling, and how latencies were had."""
    base = manifest_for(model, sampling=grid.sampling)
    had: dict[str, Any] = {"latency": "measured", "questions_at_a_time": concurrency}
    if latency is not None:
        had = {
            "latency": "idealised",
            "prefill_seconds_per_token": latency.prefill,
            "decode_seconds_per_token": latency.per_token,
            "attention_seconds_per_token_squared": latency.attention,
            "overhead_seconds": latency.overhead,
        }
    return Manifest.from_dict({**base.to_dict(), "extra": {**base.extra, **had}})


@contextmanager
def _opened(store: TraceStore | str | Path) -> Iterator[TraceStore]:
    if isinstance(store, TraceStore):
        yield store
        return
    with TraceStore(store) as opened:
        yield opened


CLEAN_UP_SECONDS = 30.0
"""How long an interrupted recording waits for what is in flight to be dropped, in seconds."""
MAX_IN_A_ROW = 10
"""Questions that may fail one after the other before a recording gives up."""
_log = logging.getLogger(__name__)
