"""Records the pools beside this file: the small embedded model on Spider questions over more than a hundred databases.

    python benchmarks/recordings/record_spider.py record --store traces.sqlite --weights FOLDER   # hours on two cores
    python benchmarks/recordings/record_spider.py export --store traces.sqlite                    # seconds

`record` may be interrupted and started again at any time. Several processes share the work: each gets `--part i/n`. The
weights are those of the embedded default, converted for vLLM, which decodes many questions at a time and so is several
times faster; without `--weights` the embedded engine itself is used. The questions' texts are not exported.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import threading
import time
from pathlib import Path

from tta_langgraph.latency import LatencyModel
from tta_langgraph.sql import Database
from tta_langgraph.traces.export import export_store
from tta_langgraph.traces.grid import Chain, Grid
from tta_langgraph.traces.questions import Question, chosen, load_questions, split_by_database
from tta_langgraph.traces.record import Progress, record
from tta_langgraph.traces.store import TraceStore

HERE = Path(__file__).parent
DATA = Path(os.environ.get("TTA_SHARED_DATA", HERE.parents[2] / "shared" / "data"))
NAME = "spider_qwen2.5-coder-0.5b"
SETS = ("spider_dev", "spider_train_pool")
MAX_SCHEMA_CHARS = 3_600
"""Databases whose schema prompt is longer are left out: reading it takes a slow machine longest."""
LATENCY = LatencyModel(overhead=0.0, prefill=1 / 45, per_token=1 / 13.4)
"""Seconds per token of the embedded engine on two idle cores (45 tokens/s read, 13.4 tokens/s written)."""
GRID = Grid(
    samples=8,
    temperature=0.8,
    max_tokens=128,
    judge_tokens=48,
    judged=1,
    chains=(
        Chain(feedback="execution", form="repair", rounds=3),
        Chain(feedback="none", form="attempt"),
        Chain(feedback="judge", form="attempt"),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=("record", "export"))
    parser.add_argument("--store", required=True, help="file or URL of the trace store")
    parser.add_argument("--weights", help="folder of converted weights, for vLLM")
    parser.add_argument("--questions", type=int, default=420)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--part", default="0/1", help="i/n: the i-th of n processes")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.command == "export":
        with TraceStore(options.store, create=False) as store:
            path = HERE / f"{NAME}.jsonl.gz"
            print(f"{export_store(store, path, recording=NAME)} pools in {path.name}, {path.stat().st_size:,} bytes")
        return
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    questions, databases = plan(options.questions, *map(int, options.part.split("/")))
    print(
        record(
            questions,
            lambda question: databases[question.db_id],
            lambda: model(options.weights),
            GRID,
            options.store,
            recording=NAME,
            concurrency=options.concurrency,
            progress=show,
            stop_event=stop,
            latency=LATENCY,
        )
    )


def plan(n: int, part: int, parts: int) -> tuple[list[Question], dict[str, Database]]:
    """This process's questions in an order of which any prefix is balanced, and their databases."""
    files = {path.stem: path for name in SETS for path in (DATA / name / "databases").glob("*.sqlite")}
    databases = {key: Database(path) for key, path in files.items()}
    small = {key for key, db in databases.items() if len(db.schema_prompt(max_tokens=1_500)) < MAX_SCHEMA_CHARS}
    dev = {path.stem for path in (DATA / SETS[0] / "databases").glob("*.sqlite")}
    train = sorted(small - dev)
    random.Random(7).shuffle(train)
    test = dev | set(train[: len(train) // 4])
    questions = [q for name in SETS for q in load_questions(DATA / name / "questions.jsonl") if q.db_id in small]
    whole = chosen(split_by_database(questions, test=test.__contains__), n=n, per_database=20, seed=11)
    order = list(dict.fromkeys(question.db_id for question in whole))
    return [question for question in whole if order.index(question.db_id) % parts == part], databases


def model(weights: str | None):  # type: ignore[no-untyped-def]
    """The embedded model, on its own engine or on vLLM."""
    if weights is None:
        from tta_langgraph.models.embedded import create_embedded_model

        return create_embedded_model()
    from tta_langgraph.models.vllm import ChatVLLM

    engine = {"dtype": "bfloat16", "enforce_eager": True, "max_model_len": 3072, "max_num_seqs": 64, "block_size": 32}
    return ChatVLLM(model=weights, engine_kwargs={**engine, "max_num_batched_tokens": 4096}).start()


def show(progress: Progress) -> None:
    """One line per question."""
    print(
        f"{time.strftime('%H:%M:%S')} {progress.done} done, {progress.failed} failed, {progress.left} to go, "
        f"{progress.per_hour:.0f} per hour, {progress.eta / 60:.0f} minutes, {progress.spent.tokens:,} tokens",
        flush=True,
    )


if __name__ == "__main__":
    main()
