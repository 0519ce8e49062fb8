"""`tta record --executor ray`: the questions of a recording spread over the workers of a Ray cluster.

Each worker opens the store itself, makes its own model and takes questions as it becomes free; the questions of one
database go to the same worker while there are enough of them, so that its prefix cache serves the schema. Needs the
extra `ray`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tta_langgraph.budget import Usage
from tta_langgraph.errors import ModelError, TraceError
from tta_langgraph.latency import LatencyModel
from tta_langgraph.traces.grid import Grid
from tta_langgraph.traces.questions import Question
from tta_langgraph.traces.ray_cluster import import_ray, start_cluster
from tta_langgraph.traces.record import Databases, Model, Progress, RecordReport, arecord, made
from tta_langgraph.traces.store import TraceStore


def record_on_ray(
    questions: Sequence[Question],
    databases: Databases,
    model: Model,
    grid: Grid,
    store: TraceStore | str | os.PathLike[str],
    *,
    recording: str = "",
    judge: Model | None = None,
    concurrency: int = 1,
    workers: int | None = None,
    resume: bool = True,
    progress: Callable[[Progress], None] | None = None,
    stop_event: threading.Event | None = None,
    latency: LatencyModel | None = None,
) -> RecordReport:
    """Records on a Ray cluster; the arguments are those of `record`.

    Connects to the cluster that the environment names (`RAY_ADDRESS`), else starts one on this machine.

    Args:
        questions: what to ask.
        databases: where their databases are; a path must be visible from all workers.
        model: a function that makes the model on the worker, or a model that can be sent to it.
        grid: what is tried.
        store: its address: a PostgreSQL URL for workers on several machines, a file for workers on one.
        recording: name under which the pools are stored.
        judge: who judges, or a function that makes it.
        concurrency: questions at a time per worker.
        workers: how many; None for one per two processors of the cluster.
        resume: skip what is recorded already.
        progress: called after every question.
        stop_event: set it to stop after the questions in flight.
        latency: idealised latencies.

    Raises:
        TraceError: ray is not installed, the store is not an address, or a worker's recording failed for good.
        ModelError: the model cannot be reached.
    """
    ray = import_ray()
    address = _address(store)
    started = time.perf_counter()
    with TraceStore(address) as opened:
        known = opened.recorded(recording) if resume else set()
    waiting = [question for question in questions if question.id not in known]
    ours = not ray.is_initialized()
    if ours:
        start_cluster(ray)
    try:
        count = workers or max(1, int(ray.cluster_resources().get("CPU", 2)) // 2)
        count = min(count, max(1, len(waiting)))
        plan = _Plan(_everywhere(databases), model, grid, address, recording, judge, concurrency, latency, resume)
        pool = _workers(ray, plan, count)
        session = _Session(
            total=len(questions),
            skipped=len(questions) - len(waiting),
            progress=progress,
            stop=stop_event or threading.Event(),
            started=started,
        )
        try:
            session.drive(ray, pool, _batches(waiting, 2 * concurrency))
        finally:
            for worker in pool:
                ray.kill(worker)
        return session.report()
    finally:
        if ours:
            ray.shutdown()


@dataclass(frozen=True)
class _Plan:
    """What every worker needs to know; travels to it once."""

    databases: Databases
    model: Model
    grid: Grid
    address: str
    recording: str
    judge: Model | None
    concurrency: int
    latency: LatencyModel | None
    resume: bool


class _Worker:
    """One worker: a model, a store, and the batches that it is given."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._model = made(plan.model)
        self._judge = None if plan.judge is None else made(plan.judge)
        self._store = TraceStore(plan.address)

    async def record(self, batch: Sequence[Question]) -> RecordReport:
        """Records a batch; what was there already was left out by who planned it, what came since is skipped."""
        plan = self._plan
        return await arecord(
            batch,
            plan.databases,
            self._model,
            plan.grid,
            self._store,
            recording=plan.recording,
            judge=self._judge,
            concurrency=plan.concurrency,
            resume=plan.resume,
            latency=plan.latency,
        )


@dataclass
class _Session:
    """Hands out batches and adds up what comes back."""

    total: int
    skipped: int
    progress: Callable[[Progress], None] | None
    stop: threading.Event
    started: float
    recorded: int = 0
    manifest_id: str = ""
    failures: list[tuple[str, str]] = field(default_factory=list)
    spent: Usage = field(default_factory=Usage)

    def drive(self, ray: Any, pool: list[Any], batches: list[list[Question]]) -> None:
        """Keeps every worker busy until nothing is left, or until the recording is to stop."""
        queue = list(reversed(batches))
        running: dict[Any, Any] = {}
        for worker in pool:
            if queue:
                running[worker.record.remote(queue.pop())] = worker
        while running:
            [done], _ = ray.wait(list(running), num_returns=1)
            worker = running.pop(done)
            self._take(_outcome(ray, done))
            if queue and not self.stop.is_set():
                running[worker.record.remote(queue.pop())] = worker

    def report(self) -> RecordReport:
        return RecordReport(
            recorded=self.recorded,
            skipped=self.skipped,
            failures=tuple(self.failures),
            stopped=self.skipped + self.recorded + len(self.failures) < self.total,
            seconds=time.perf_counter() - self.started,
            spent=self.spent,
            manifest_id=self.manifest_id,
        )

    def _take(self, part: RecordReport) -> None:
        self.recorded += part.recorded
        self.skipped += part.skipped
        self.failures += part.failures
        self.spent += part.spent
        self.manifest_id = part.manifest_id
        if self.progress is not None:
            self.progress(
                Progress(
                    done=self.recorded,
                    failed=len(self.failures),
                    skipped=self.skipped,
                    total=self.total,
                    seconds=time.perf_counter() - self.started,
                    spent=self.spent,
                )
            )


def _workers(ray: Any, plan: _Plan, count: int) -> list[Any]:
    actor = ray.remote(num_cpus=1)(_Worker)
    try:
        return [actor.remote(plan) for _ in range(count)]
    except TypeError as error:
        raise TraceError(
            "the model (or another argument) cannot be sent to the workers",
            where="executor='ray'",
            remedy="Give a function that makes the model, e.g. functools.partial(ChatOpenAI, base_url=...)",
        ) from error


def _everywhere(databases: Databases) -> Databases:
    """A relative folder means the caller's, wherever the worker runs."""
    if callable(databases) or "://" in str(databases):
        return databases
    return os.path.abspath(databases)


def _batches(questions: Sequence[Question], size: int) -> list[list[Question]]:
    """Runs of questions on one database, as long as a worker takes at a time."""
    batches: list[list[Question]] = []
    for question in questions:
        if batches and len(batches[-1]) < size and batches[-1][0].db_id == question.db_id:
            batches[-1].append(question)
        else:
            batches.append([question])
    return batches


def _outcome(ray: Any, reference: Any) -> RecordReport:
    """The worker's report; its error as it was, without Ray's frame around it."""
    try:
        found: RecordReport = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, TraceError | ModelError):
            raise cause from None
        raise TraceError(f"a worker failed: {cause or error}", where="ray") from error
    except ray.exceptions.RayActorError as error:
        raise TraceError(
            f"a worker died: {str(error).splitlines()[0]}",
            where="ray",
            remedy="What it had recorded is stored; run the command again to go on",
        ) from error
    return found


def _address(store: TraceStore | str | os.PathLike[str]) -> str:
    if isinstance(store, TraceStore):
        raise TraceError(
            "workers cannot share an open store", where="record", remedy="Give the file or the URL of the store"
        )
    text = os.fspath(store)
    return text if "://" in text else os.path.abspath(text)
