"""Records the demonstration's pools beside this file: the embedded model on all questions about the music shop.

    python benchmarks/recordings/demo/record_demo.py --store demo.sqlite   # half an hour; may be interrupted

Nothing is fitted on these pools: they test what was fitted on Spider (`benchmarks/shipped_policy.py`). Latencies are
those of the machine, one request after the other; the committed ones come from a busy machine: replay replaces them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tta_langgraph.demo import build_database, load_questions
from tta_langgraph.models.embedded import create_embedded_model
from tta_langgraph.sql import Database
from tta_langgraph.traces.export import export_store
from tta_langgraph.traces.grid import Chain, Grid
from tta_langgraph.traces.questions import Question
from tta_langgraph.traces.record import Progress, record
from tta_langgraph.traces.store import TraceStore

HERE = Path(__file__).parent
NAME = "music_shop_qwen2.5-coder-0.5b"
GRID = Grid(
    samples=8,
    temperature=0.8,
    max_tokens=160,
    schema_tokens=2_000,
    judged=0,
    chains=(Chain(feedback="execution", rounds=2),),
    options={"seed": 7},
)
"""What the demonstration's policy and the strategies beside it may do."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", required=True, help="file or URL of the trace store")
    options = parser.parse_args()
    path = build_database(Path(options.store).with_suffix(".music_shop.sqlite"))
    questions = [
        Question(
            id=item.id,
            question=item.question,
            db_id="music_shop",
            gold=(item.gold_sql,),
            difficulty=item.difficulty,
            split="test",
        )
        for item in load_questions()
    ]
    with Database(path) as database:
        model = create_embedded_model()
        print(record(questions, lambda _: database, model, GRID, options.store, recording=NAME, progress=show))
    with TraceStore(options.store) as store:
        target = HERE / f"{NAME}.jsonl.gz"
        print(f"{export_store(store, target, recording=NAME)} pools in {target.name}, {target.stat().st_size:,} bytes")


def show(progress: Progress) -> None:
    """One line per question."""
    at = time.strftime("%H:%M:%S")
    print(f"{at} {progress.done} done, {progress.failed} failed, {progress.left} to go", flush=True)


if __name__ == "__main__":
    main()
