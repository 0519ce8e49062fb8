"""Public recordings as pools: the 13-system ladder, the 40-sample answers and the two-model cascade.

The recordings hold no token counts, so cost is stated here: four characters are one token, and a token of a larger
system costs `LADDER[system]` tokens of the smallest one. Seconds are not recorded either; they stay 0.

The data folder is `../shared/data` beside the checkout, or `TTA_SHARED_DATA`.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

from tta_langgraph.traces.model import Attempt, Pool

CHARS_PER_TOKEN = 4.0
"""Common rule of thumb for English and SQL."""

LADDER: dict[str, float] = {
    # Fine-tuned parsers of at most 3 billion parameters, one beam: the unit.
    "neural_10": 1,
    "neural_12": 1,
    "neural_21": 1,
    # T5-3B with graph layers and constrained decoding.
    "graphix": 3,
    # One call of a small chat model.
    "chatgpt_zeroshot": 4,
    # One call of a large completion model, at ten times the small chat model's listed price.
    "codex_fewshot": 40,
    # One call of a frontier model, at fifteen times the small chat model's listed price (output, mid 2023).
    "gpt4_zeroshot": 60,
    "gpt4_fewshot": 60,
    "dail_gpt4": 60,
    # Schema linking and twenty samples of the small chat model.
    "c3_chatgpt": 80,
    # Four calls: linking, classification, generation, correction.
    "din_codex": 160,
    "din_gpt4": 240,
    # Five samples of the frontier model.
    "dail_gpt4_sc": 300,
}
"""Price of one SQL token of each system, in tokens of the smallest; cheap to strong."""

STRONG_PRICE = 40.0
"""Listed price of gpt-4-1106-preview's output over Mixtral-8x7B-Instruct's (about 30 against 0.7 US dollars per
million tokens when the answers were recorded, rounded down)."""


def data_folder() -> Path:
    """Where the recorded sets lie."""
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("TTA_SHARED_DATA", default))


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def spider_ladder(folder: Path | None = None) -> list[Pool]:
    """Thirteen published systems on Spider dev questions: escalation from cheap to strong, agreement by result."""
    base = folder or data_folder()
    questions = {q["id"]: q for q in _lines(base / "spider_dev" / "questions.jsonl")}
    rows: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in _lines(base / "replay_spider_dev" / "samples.jsonl"):
        rows[row["id"]][row["system"]] = row
    pools = []
    for identity, systems in rows.items():
        attempts = []
        for position, (system, price) in enumerate(LADDER.items()):
            row = systems.get(system)
            if row is None:
                continue
            failed = row["error"] is not None
            attempts.append(
                Attempt(
                    id=system,
                    action="escalate" if position else "generate",
                    model=system,
                    correct=bool(row["correct"]),
                    key=None if failed else row["result_hash"],
                    executed=not failed,
                    empty=not failed and not row["n_rows"],
                    n_rows=row["n_rows"] or 0,
                    error_kind="database" if failed else None,
                    completion_tokens=max(1, round(len(row["sql"]) / CHARS_PER_TOKEN * price)),
                    answer_chars=len(row["sql"]),
                    request=system,
                )
            )
        question = questions[identity]
        pools.append(
            Pool(
                question_id=identity,
                db_id=question["db_id"],
                difficulty=question["difficulty"],
                attempts=tuple(attempts),
                features={"question_chars": float(len(question["question"]))},
            )
        )
    return pools


def last_letters(folder: Path | None = None) -> list[Pool]:
    """Forty samples of GPT-3.5 (T = 0.7) per last-letters question."""
    pools = []
    for row in _lines((folder or data_folder()) / "replay_last_letters_gpt35_40" / "samples.jsonl"):
        attempts = tuple(
            Attempt(
                id=f"s{index}",
                action="resample",
                model="gpt-3.5",
                correct=bool(right),
                key=answer,
                completion_tokens=max(1, round(chars / CHARS_PER_TOKEN)),
                prompt_tokens=0,
                answer_chars=len(answer or ""),
                request=f"s{index}",
            )
            for index, (answer, right, chars) in enumerate(
                zip(row["answers"], row["correct"], row["n_chars"], strict=True)
            )
        )
        # Questions are independent; groups of ten consecutive ones stand for databases where a split needs them.
        group = f"group-{int(row['id'].rsplit('-', 1)[1]) // 10:02d}"
        pools.append(
            Pool(
                question_id=row["id"],
                db_id=group,
                attempts=attempts,
                features={"question_chars": float(len(row["question"]))},
            )
        )
    return pools


def two_models(folder: Path | None = None) -> list[Pool]:
    """A cheap and a strong model's answer to each GSM8K question; whether they agree was not recorded."""
    pools = []
    for index, row in enumerate(_lines((folder or data_folder()) / "replay_two_models" / "gsm8k.jsonl")):
        prompt = row["prompt"]
        attempts = tuple(
            Attempt(
                id=name,
                action=action,
                model=model,
                parent=parent,
                round=0 if parent is None else 1,
                correct=bool(row[f"{name}_correct"]),
                key=name,
                completion_tokens=max(1, round(row[f"{name}_chars"] / CHARS_PER_TOKEN * price)),
                answer_chars=row[f"{name}_chars"],
                request=name,
            )
            for name, action, model, parent, price in (
                ("weak", "generate", "mixtral-8x7b", None, 1.0),
                ("strong", "escalate", "gpt-4-1106", "weak", STRONG_PRICE),
            )
        )
        numbers = sum(word.strip("$.,%?").replace(",", "").isdigit() for word in prompt.split())
        pools.append(
            Pool(
                question_id=row["id"],
                db_id=f"group-{index // 20:02d}",
                attempts=attempts,
                features={
                    "question_chars": float(len(prompt)),
                    "numbers": float(numbers),
                    "sentences": float(prompt.count(".") + prompt.count("?")),
                },
            )
        )
    return pools
