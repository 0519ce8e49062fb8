"""Measures every form of second look on the attempts of the recorded pools beside this file, with execution feedback.

    python benchmarks/recordings/record_second_looks.py record --store looks.sqlite --weights FOLDER  # about an hour
    python benchmarks/recordings/record_second_looks.py export --store looks.sqlite                   # seconds
    python examples/second_look_forms.py                                                              # the table

The attempts are the recorded ones: the greedy answer of each question and distinct ones of its samples, so that enough
of them failed, found nothing, or were wrong. Each gets one second look in each form, greedily, and for the forms that
tell what was observed also at the samples' temperature (`form@0.8`). A fresh look is what a sample is, so the recorded
samples measure it. May be interrupted and started again; questions on the databases to fit come first.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

from langchain_core.language_models import BaseChatModel
from record_spider import DATA, HERE, LATENCY, NAME, SETS, model

from tta_langgraph import Candidate
from tta_langgraph.nodes import Execute, Form, Reflect
from tta_langgraph.sql import Database, ExecutionResult, same_result
from tta_langgraph.traces.export import export_store, read_pools
from tta_langgraph.traces.manifest import manifest_for
from tta_langgraph.traces.model import Attempt, Pool
from tta_langgraph.traces.questions import Question, load_questions
from tta_langgraph.traces.store import TraceStore

LOOKS: tuple[tuple[Form, float], ...] = (
    ("attempt", 0.0),
    ("consequences", 0.0),
    ("repair", 0.0),
    ("consequences", 0.8),
    ("repair", 0.8),
)
"""Form and temperature of each second look; `fresh` is measured by the recorded samples."""
MOST = {"error": 2, "empty": 2, "rows": 2, "right": 1}
"""Distinct attempts of one question that are looked at again, by what they came to (`rows`: wrong ones)."""
OUT = HERE / "second_looks"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("record", "export"))
    parser.add_argument("--store", required=True, help="file or URL of the trace store")
    parser.add_argument("--weights", help="folder of converted weights, for vLLM")
    parser.add_argument("--concurrency", type=int, default=4, help="questions at a time")
    parser.add_argument("--split", default="", help="fit or test only")
    parser.add_argument("--pools", help="store of the pools to look at, instead of the export beside this file")
    parser.add_argument("--greedy", action="store_true", help="look at the first answers only")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.command == "export":
        OUT.mkdir(exist_ok=True)
        with TraceStore(options.store, create=False) as store:
            path = OUT / f"{NAME}.jsonl.gz"
            print(f"{export_store(store, path, recording=NAME)} pools in {path.name}, {path.stat().st_size:,} bytes")
        return
    if options.pools:
        with TraceStore(options.pools, create=False) as source:
            recorded = list(source.pools(NAME))
    else:
        recorded = list(read_pools(HERE / f"{NAME}.jsonl.gz"))
    pools = sorted((p for p in recorded if options.split in ("", p.split)), key=lambda pool: pool.split)
    asyncio.run(record(pools, options.store, options.weights, options.concurrency, greedy=options.greedy))


async def record(pools: list[Pool], target: str, weights: str | None, concurrency: int, *, greedy: bool) -> None:
    """Looks again at every pool that is not in the store yet."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    asked = {q.id: q for name in SETS for q in load_questions(DATA / name / "questions.jsonl")}
    files = {path.stem: path for name in SETS for path in (DATA / name / "databases").glob("*.sqlite")}
    room, chat = asyncio.Semaphore(concurrency), model(weights)
    manifest = manifest_for(chat, sampling={"looks": [f"{form}@{heat:g}" for form, heat in LOOKS], "max_tokens": 128})
    with TraceStore(target) as store:
        waiting = [pool for pool in pools if pool.question_id not in store.recorded(NAME)]
        done, begun = 0, time.monotonic()

        async def one(pool: Pool) -> None:
            nonlocal done
            async with room:
                if stop.is_set():
                    return
                question = asked[pool.question_id]
                with Database(files[question.db_id]) as database:
                    looked = await look_again(pool, question, database, chat, greedy=greedy)
                store.add_pool(replace(looked, manifest_id=manifest.id), recording=NAME, manifest=manifest)
                done += 1
                left = (time.monotonic() - begun) / done * (len(waiting) - done) / 60
                print(f"{time.strftime('%H:%M:%S')} {pool.split} {done}/{len(waiting)}, {left:.0f} minutes", flush=True)

        await asyncio.gather(*map(one, waiting))
    if close := getattr(chat, "close", None):
        close()


async def look_again(pool: Pool, question: Question, database: Database, chat: BaseChatModel, *, greedy: bool) -> Pool:
    """The pool's first answer and samples, with the second looks at some of them in place of its reflections."""
    gold = [await database.aexecute(sql, 5.0) for sql in question.gold]
    parents = [attempt for attempt in chosen(pool) if not greedy or attempt.action == "generate"]
    looks = [(parent, form, heat) for parent in parents for form, heat in LOOKS]
    found = await asyncio.gather(*(look(*each, question, gold, database, chat) for each in looks))
    kept = [attempt for attempt in pool.attempts if attempt.action in ("generate", "resample")]
    return replace(pool, attempts=(*kept, *found), judgements=(), question=None)


def chosen(pool: Pool) -> Iterator[Attempt]:
    """The greedy answer, then distinct samples, at most so many of each outcome."""
    room, seen = dict(MOST), set()
    for attempt in pool.attempts:
        if attempt.action in ("generate", "resample") and attempt.answer and attempt.answer not in seen:
            seen.add(attempt.answer)
            kind = "right" if attempt.correct else "error" if not attempt.executed else "rows"
            kind = "empty" if attempt.empty and not attempt.correct else kind
            if room[kind]:
                room[kind] -= 1
                yield attempt


async def look(
    parent: Attempt,
    form: Form,
    heat: float,
    question: Question,
    gold: list[ExecutionResult],
    database: Database,
    chat: BaseChatModel,
) -> Attempt:
    """One second look, as the live graph takes it."""
    node = Reflect(
        model=chat, database=database, form=form, max_tokens=128, schema_tokens=1_500, options={"temperature": heat}
    )
    before = Candidate(id=parent.id, text=f"```sql\n{parent.answer}\n```", answer=parent.answer)
    state = {"question": question.question, "candidates": [before]}
    state = {**state, **await Execute(database=database, timeout=5.0).ainvoke(state)}
    update = await node.ainvoke({key: state[key] for key in ("question", "candidates")})
    after = next((c for c in update["candidates"] if c.id != parent.id), None)
    [charge] = [c for c in update["budget"].charges.values() if c.usage.model_calls]
    name = form if heat == 0.0 else f"{form}@{heat:g}"
    usage, reply, right = charge.usage, "confirmation", parent.correct
    outcome = None
    if after is not None:
        reply = "garbage" if after.answer is None else "answer"
        outcome = None if after.answer is None else await database.aexecute(after.answer, 5.0)
        right = outcome is not None and any(same_result(outcome, one) for one in gold)
    return Attempt(
        id=f"{parent.id}-{name}",
        action="reflect",
        correct=right,
        parent=parent.id,
        feedback="execution",
        form=name,
        round=1,
        reply=reply,
        key=parent.key if after is None else outcome.key if outcome else None,
        executed=parent.executed if after is None else outcome.ok if outcome else None,
        empty=parent.empty if after is None else bool(outcome and outcome.empty),
        error_kind=parent.error_kind if after is None else outcome.error_kind if outcome else None,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        seconds=round(LATENCY.seconds(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens), 4),
        answer_chars=len((after.answer if after else parent.answer) or ""),
        model=parent.model,
        answer=parent.answer if after is None else after.answer,
    )


if __name__ == "__main__":
    main()
