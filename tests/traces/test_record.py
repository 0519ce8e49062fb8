"""A recording holds what the models said and what it cost, and goes on where it stopped."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tta_langgraph.errors import ModelError, TraceError
from tta_langgraph.latency import LatencyModel
from tta_langgraph.testing import LoggedRequest, Reply, ScriptedServer, scripted_chat_model
from tta_langgraph.traces import Pool
from tta_langgraph.traces.grid import Chain, Grid
from tta_langgraph.traces.questions import Question
from tta_langgraph.traces.record import Progress, RecordReport, arecord, record
from tta_langgraph.traces.store import TraceStore

RIGHT, WRONG, BROKEN = "SELECT count(*) FROM pet", "SELECT max(id) - 2 FROM pet", "SELECT n FROM pet"
GRID = Grid(
    samples=4,
    chains=(
        Chain(feedback="execution", form="repair", rounds=3),
        Chain(feedback="none", form="attempt"),
        Chain(feedback="judge", form="attempt"),
    ),
    judged=2,
    logprobs=False,
)


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        with sqlite3.connect(tmp_path / f"{name}.sqlite") as connection:
            connection.executescript("CREATE TABLE pet (id INTEGER PRIMARY KEY); INSERT INTO pet VALUES (1), (2), (3)")
    return tmp_path


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(_replies) as running:
        yield running


def _replies(request: LoggedRequest) -> Reply:
    """Answers wrongly at first; a repair is right at the second round; asked without feedback it confirms."""
    system, last = request.messages[0]["content"], request.last_message
    if system.startswith("You review"):
        return Reply("CONTINUE\nCRITIQUE: it does not count\nSUMMARY: count", cached_tokens=3)
    if "Fault to avoid" in last:
        return Reply(f"```sql\n{RIGHT if 'no such column' in last else BROKEN}\n```")
    if len(request.messages) > 2:
        return Reply(
            "Yes, this query answers the question." if "does not count" not in last else f"```sql\n{RIGHT}\n```"
        )
    return Reply(texts=[WRONG] if request.n == 1 else [RIGHT, BROKEN, RIGHT, "I cannot say."])


def _questions(n: int = 4) -> list[Question]:
    return [
        Question(id=f"q{i}", question=f"How many pets ({i})?", db_id="ab"[i % 2], gold=("SELECT 3",), split="fit")
        for i in range(n)
    ]


def _one(server: ScriptedServer, databases: Path, grid: Grid = GRID) -> Pool:
    with TraceStore(databases / "traces.db") as store:
        record(_questions(1), databases, scripted_chat_model(server), grid, store, recording="r")
        [pool] = store.pools("r")
    return pool


def test_every_attempt_is_graded_against_the_gold_result(server: ScriptedServer, databases: Path) -> None:
    pool = _one(server, databases)
    assert pool.first is not None
    assert (pool.first.correct, pool.first.answer) == (False, WRONG)
    assert [attempt.correct for attempt in pool.samples] == [True, False, True, False]
    assert [attempt.executed for attempt in pool.samples] == [True, False, True, None]
    assert [attempt.error_kind for attempt in pool.samples] == [None, "schema", None, None]
    assert pool.samples[0].key == pool.samples[2].key is not None


def test_a_chain_goes_on_from_its_last_answer(server: ScriptedServer, databases: Path) -> None:
    rounds = _one(server, databases).reflections("execution", "repair")
    assert [(attempt.round, attempt.executed, attempt.correct) for attempt in rounds] == [
        (1, False, False),
        (2, True, True),
        (3, False, False),
    ]
    assert [attempt.parent for attempt in rounds] == ["first", rounds[0].id, rounds[1].id]


def test_a_confirmation_keeps_the_answer_and_is_paid_for(server: ScriptedServer, databases: Path) -> None:
    pool = _one(server, databases)
    [kept] = pool.reflections("none")
    assert pool.first is not None
    assert (kept.reply, kept.answer, kept.key, kept.correct) == ("confirmation", WRONG, pool.first.key, False)
    asked = [r for r in server.log if len(r.messages) > 2 and "does not count" not in r.last_message]
    assert [(r.prompt_tokens, r.completion_tokens) for r in asked] == [(kept.prompt_tokens, kept.completion_tokens)]


def test_a_confirmed_greedy_round_is_repeated_without_asking(server: ScriptedServer, databases: Path) -> None:
    grid = replace(GRID, chains=(Chain(feedback="none", form="attempt", rounds=3),))
    rounds = _one(server, databases, grid).reflections("none")
    assert [(attempt.round, attempt.reply) for attempt in rounds] == [
        (1, "confirmation"),
        (2, "confirmation"),
        (3, "confirmation"),
    ]
    assert len({attempt.completion_tokens for attempt in rounds}) == 1
    assert sum(len(request.messages) > 2 for request in server.log) == 1


def test_the_judges_critique_reaches_its_reflection_and_its_cost_is_kept(
    server: ScriptedServer, databases: Path
) -> None:
    pool = _one(server, databases)
    [judged] = pool.reflections("judge")
    assert judged.correct
    assert [judgement.attempt for judgement in pool.judgements] == ["first", "sample-0"]
    assert all((j.label, j.score, j.cached_tokens) == ("CONTINUE", 0.0, 3) for j in pool.judgements)
    scores = {attempt.id: attempt.verdict_score for attempt in pool.attempts}
    assert (scores["first"], scores["sample-0"], scores["sample-2"], scores["sample-1"]) == (0.0, 0.0, 0.0, None)


def test_everything_the_server_billed_is_in_the_pool(server: ScriptedServer, databases: Path) -> None:
    pool = _one(server, databases)
    assert pool.spent.prompt_tokens == server.prompt_tokens
    assert pool.spent.completion_tokens == server.completion_tokens
    assert pool.spent.model_calls == len(server.log)
    samples = pool.samples
    assert sum(a.completion_tokens for a in samples) == next(r.completion_tokens for r in server.log if r.n == 4)
    assert len({(attempt.request, attempt.prompt_tokens) for attempt in samples}) == 1


def test_the_trace_of_the_recording_is_stored_with_the_pool(server: ScriptedServer, databases: Path) -> None:
    _one(server, databases)
    with TraceStore(databases / "traces.db") as store:
        [trace] = store.traces(strategy="record")
        [pool] = store.pools()
        assert trace.tokens == pool.spent.tokens
        assert trace.correct is False
        judged = [c.id for c in trace.candidates if c.evidence.verdicts and c.evidence.verdicts[0].judge]
        assert judged == [judgement.attempt for judgement in pool.judgements], "whose calls the verdicts were"
        assert store.manifest(pool.manifest_id).sampling["samples"] == 4


def test_an_interrupted_recording_goes_on_where_it_stopped(server: ScriptedServer, databases: Path) -> None:
    stop = threading.Event()
    seen: list[Progress] = []

    def after_two(progress: Progress) -> None:
        seen.append(progress)
        if progress.done == 2:
            stop.set()

    model, path = scripted_chat_model(server), databases / "traces.db"
    first = record(_questions(), databases, model, GRID, path, recording="r", progress=after_two, stop_event=stop)
    assert (first.recorded, first.stopped) == (2, True)
    assert [(p.done, p.left, p.total) for p in seen] == [(1, 3, 4), (2, 2, 4)]
    assert seen[-1].eta == pytest.approx(seen[-1].seconds, rel=1e-6)
    calls = len(server.log)
    second = record(_questions(), databases, model, GRID, path, recording="r")
    assert (second.recorded, second.skipped, second.stopped) == (2, 2, False)
    assert len(server.log) == 2 * calls
    assert second.manifest_id == first.manifest_id
    assert record(_questions(), databases, model, GRID, path, recording="r").recorded == 0
    assert record(_questions(2), databases, model, GRID, path, recording="r", resume=False).recorded == 2


def test_on_resume_the_stores_sides_win(server: ScriptedServer, databases: Path) -> None:
    model, path = scripted_chat_model(server), databases / "traces.db"
    record(_questions(2), databases, model, GRID, path)
    record([replace(question, split="test") for question in _questions(4)], databases, model, GRID, path)
    with TraceStore(path) as store:
        assert [(pool.question_id, pool.split) for pool in store.pools()] == [(f"q{i}", "fit") for i in range(4)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"grid": replace(GRID, samples=2)}, "sampling.samples is 2, not 4"),
        ({"latency": LatencyModel(prefill=0, per_token=0.1, overhead=1.0)}, "latency is idealised, not measured"),
        ({"concurrency": 2}, "questions_at_a_time is 2, not 1"),
    ],
)
def test_a_recording_goes_on_as_it_was_begun_or_not_at_all(
    server: ScriptedServer, databases: Path, change: dict[str, Any], said: str
) -> None:
    model, path = scripted_chat_model(server), databases / "traces.db"
    record(_questions(1), databases, model, GRID, path)
    options: dict[str, Any] = {"grid": GRID, **change}
    with pytest.raises(TraceError, match=said):
        record(_questions(2), databases, model, store=path, **options)
    assert record(_questions(2), databases, model, store=path, recording="other", **options).recorded == 2


def test_two_recordings_at_once_share_the_work(server: ScriptedServer, databases: Path) -> None:
    questions, path = _questions(12), databases / "traces.db"

    async def both() -> list[RecordReport]:
        return await asyncio.gather(
            *(arecord(questions, databases, scripted_chat_model(server), GRID, path) for _ in range(2))
        )

    reports = asyncio.run(both())
    with TraceStore(path) as store:
        assert len({pool.question_id for pool in store.pools()}) == len(list(store.pools())) == 12
    assert all(report.recorded + report.skipped == 12 and not report.stopped for report in reports)
    asked = sum(request.n == GRID.samples for request in server.log)
    assert asked < 2 * 12, "not everything is asked twice; how much is depends on who was where when"


def test_a_cancelled_recording_keeps_whole_questions_only(server: ScriptedServer, databases: Path) -> None:
    def slow(request: LoggedRequest) -> Reply:
        late = "(1)" in request.messages[1]["content"] and len(request.messages) > 2
        return replace(_replies(request), hang=late)

    server.use(slow)

    async def cancelled() -> None:
        done = asyncio.Event()
        task = asyncio.create_task(
            arecord(
                _questions(2),
                databases,
                scripted_chat_model(server),
                GRID,
                databases / "traces.db",
                progress=lambda progress: done.set(),
            )
        )
        await done.wait()
        while sum("(1)" in r.messages[1]["content"] for r in server.log) < 4:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    with TraceStore(databases / "traces.db") as store:
        assert store.recorded() == {"q0"}
        assert [trace.question_id for trace in store.traces()] == ["q0"]


def test_ctrl_c_keeps_whole_questions_and_the_next_run_goes_on(server: ScriptedServer, databases: Path) -> None:
    hang = threading.Event()

    def second_never_ends(request: LoggedRequest) -> Reply:
        stuck = "(1)" in request.messages[1]["content"] and not hang.is_set()
        return replace(_replies(request), hang=stuck)

    server.use(second_never_ends)
    script = textwrap.dedent(
        """
        import sys
        from langchain_openai import ChatOpenAI
        from tests.traces.test_record import GRID, _questions
        from tta_langgraph.traces.record import record

        model = ChatOpenAI(model=sys.argv[1], base_url=sys.argv[2], api_key="none", max_retries=0)
        record(_questions(2), sys.argv[3], model, GRID, sys.argv[3] + "/traces.db", progress=lambda p: print("one"))
        """
    )
    arguments = [server.model, server.base_url, str(databases)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "one\n"
        while not any(request.status == "hanging" for request in server.log):
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode != 0
    assert said.rstrip().endswith("KeyboardInterrupt")
    hang.set()
    report = record(_questions(2), databases, scripted_chat_model(server), GRID, databases / "traces.db")
    assert (report.skipped, report.recorded) == (1, 1)


def test_several_questions_at_a_time_give_the_same_pools(server: ScriptedServer, databases: Path) -> None:
    model, path = scripted_chat_model(server), databases / "traces.db"
    for name, concurrency in (("one", 1), ("four", 4)):
        record(_questions(), databases, model, GRID, path, recording=name, concurrency=concurrency)

    def facts(pool: Pool) -> object:
        return pool.question_id, pool.spent.tokens, [(a.id, a.correct, a.tokens) for a in pool.attempts]

    with TraceStore(path) as store:
        one, four = ({p.question_id: facts(p) for p in store.pools(name)} for name in ("one", "four"))
    assert one == four


def test_a_question_without_a_working_gold_is_left_out_and_named(server: ScriptedServer, databases: Path) -> None:
    questions = [replace(_questions(1)[0], id="bad", gold=("SELECT nothing FROM nowhere",)), *_questions(2)]
    report = record(questions, databases, scripted_chat_model(server), GRID, databases / "traces.db")
    assert report.recorded == 2
    assert [key for key, _ in report.failures] == ["bad"]
    assert "gold" in report.failures[0][1]


def test_ten_failures_in_a_row_end_the_recording(server: ScriptedServer, databases: Path) -> None:
    questions = [replace(question, db_id="nowhere") for question in _questions(30)]
    with pytest.raises(Exception, match="nowhere"):
        record(questions, databases, scripted_chat_model(server), GRID, databases / "traces.db")


def test_a_server_that_is_down_ends_the_recording_at_once(databases: Path) -> None:
    with ScriptedServer([]) as gone:
        model = scripted_chat_model(gone)
    with pytest.raises(ModelError):
        record(_questions(), databases, model, GRID, databases / "traces.db")


def test_idealised_latencies_depend_on_tokens_alone(server: ScriptedServer, databases: Path) -> None:
    latency = LatencyModel(prefill=0.01, per_token=0.1, overhead=1.0)
    with TraceStore(databases / "traces.db") as store:
        record(_questions(1), databases, scripted_chat_model(server), GRID, store, latency=latency)
        [pool] = store.pools()
        manifest = store.manifest(pool.manifest_id)
    for attempt in pool.attempts:
        uncached = attempt.prompt_tokens - attempt.cached_tokens
        assert attempt.seconds == pytest.approx(1.0 + 0.01 * uncached + 0.1 * attempt.completion_tokens)
    assert manifest.extra["latency"] == "idealised"


def _overlapping(server: ScriptedServer) -> list[tuple[int, int]]:
    log = server.log
    return [
        (a.index, b.index)
        for a in log
        for b in log
        if a.index < b.index and (a.finished_at is None or b.received_at < a.finished_at)
    ]


def test_a_measured_latency_is_that_of_a_request_alone(server: ScriptedServer, databases: Path) -> None:
    server.use(lambda request: replace(_replies(request), latency=0.1))
    with TraceStore(databases / "traces.db") as store:
        record(_questions(1), databases, scripted_chat_model(server), GRID, store)
        [pool] = store.pools()
        told = store.manifest(pool.manifest_id).extra
    assert _overlapping(server) == []
    assert (told["latency"], told["questions_at_a_time"]) == ("measured", 1)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_temperature_that_no_sampler_has_is_refused(temperature: float) -> None:
    with pytest.raises(TraceError, match="temperature"):
        Grid(temperature=temperature)


def test_a_chain_that_needs_a_judge_needs_a_judge() -> None:
    with pytest.raises(TraceError, match="no judge"):
        Grid(judged=0)
