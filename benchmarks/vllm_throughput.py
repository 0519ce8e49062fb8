"""Budgeted against bare: the same episodes on the same engine, side by side in one run.

Each round runs N concurrent episodes of a few calls twice: bare, and with a budget each through `budgeted`. The order
alternates, lengths are fixed, and every prompt is new, so that neither side gains from the prefix cache or from
stopping early. What is compared is tokens per second; the figure is the ratio.

    python benchmarks/vllm_throughput.py --model smollm2-135m --episodes 1 8 32 64
    python benchmarks/vllm_throughput.py --model Qwen/Qwen2.5-Coder-7B-Instruct --max-tokens 128   # GPU
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
import uuid
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langchain_core.messages import HumanMessage
from rich.console import Console
from rich.table import Table

from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.models.vllm import ChatVLLM

TARGET = 0.95
"""Share of the bare throughput that budgets should keep."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One level of concurrency."""

    episodes: int
    """Episodes at once."""
    bare: float
    """Tokens per second without budgets (median of the rounds)."""
    budgeted: float
    """Tokens per second with budgets (median of the rounds)."""
    ratio: float
    """Median over rounds of budgeted / bare of the same round."""
    spread: float
    """Largest minus smallest of these ratios."""
    added_cpu: float
    """Milliseconds of this process's CPU time that a budget adds to a call (median); the engine runs elsewhere, so
    this figure stands even on a machine that is busy with other work."""


async def episode(model: Any, calls: int, max_tokens: int, prompt_words: int) -> int:
    """A few calls in sequence; returns the tokens they used."""
    tokens = 0
    for _ in range(calls):
        text = uuid.uuid4().hex + " word" * prompt_words
        answer = await model.ainvoke([HumanMessage(text)], max_tokens=max_tokens, ignore_eos=True, temperature=0.8)
        tokens += answer.usage_metadata["total_tokens"]
    return tokens


async def bare_round(model: ChatVLLM, episodes: int, calls: int, max_tokens: int, words: int) -> tuple[float, float]:
    """Tokens per second and CPU seconds of N bare episodes."""
    return await timed([episode(model, calls, max_tokens, words) for _ in range(episodes)])


async def budgeted_round(
    model: ChatVLLM, episodes: int, calls: int, max_tokens: int, words: int
) -> tuple[float, float]:
    """Tokens per second and CPU seconds of N episodes with a budget each."""

    async def one() -> int:
        with budget_scope(Budget(tokens=100_000, seconds=3600)) as scope:
            tokens = await episode(budgeted(model), calls, max_tokens, words)
        if scope.tracker.usage.tokens != tokens:
            raise SystemExit(f"charged {scope.tracker.usage.tokens} tokens for {tokens}")
        return tokens

    return await timed([one() for _ in range(episodes)])


async def timed(runs: Sequence[Coroutine[Any, Any, int]]) -> tuple[float, float]:
    """Tokens per second and CPU seconds of this process while all run together."""
    begun, cpu = time.perf_counter(), time.process_time()
    tokens = await asyncio.gather(*runs)
    return sum(tokens) / (time.perf_counter() - begun), time.process_time() - cpu


async def compare(
    model: ChatVLLM, levels: Sequence[int], *, calls: int = 3, max_tokens: int = 32, words: int = 64, rounds: int = 3
) -> list[Row]:
    """Measures each level of concurrency; the first round of all warms the engine and is thrown away."""
    await bare_round(model, min(levels), 1, max_tokens, words)
    rows = []
    for episodes in levels:
        pairs = []
        for turn in range(rounds):
            sides = [bare_round, budgeted_round] if turn % 2 == 0 else [budgeted_round, bare_round]
            seen = {side: await side(model, episodes, calls, max_tokens, words) for side in sides}
            pairs.append((seen[bare_round], seen[budgeted_round]))
        ratios = [with_budget[0] / without[0] for without, with_budget in pairs]
        added = [1000 * (with_budget[1] - without[1]) / (episodes * calls) for without, with_budget in pairs]
        rows.append(
            Row(
                episodes=episodes,
                bare=statistics.median(without[0] for without, _ in pairs),
                budgeted=statistics.median(with_budget[0] for _, with_budget in pairs),
                ratio=statistics.median(ratios),
                spread=max(ratios) - min(ratios),
                added_cpu=statistics.median(added),
            )
        )
    return rows


def table(rows: Sequence[Row]) -> Table:
    """The rows for a reader."""
    made = Table(title="Throughput with budgets, against the same requests without")
    for heading in ("episodes", "bare tok/s", "budgeted tok/s", "ratio", "spread", "added CPU ms/call"):
        made.add_column(heading, justify="right")
    for row in rows:
        made.add_row(
            *(str(row.episodes), f"{row.bare:.1f}", f"{row.budgeted:.1f}", f"{row.ratio:.3f}", f"{row.spread:.3f}"),
            f"{row.added_cpu:.2f}",
        )
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--episodes", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--calls", type=int, default=3, help="calls per episode")
    parser.add_argument("--max-tokens", type=int, default=32, help="completion tokens per call, exactly")
    parser.add_argument("--prompt-words", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3, help="pairs per level")
    parser.add_argument("--max-num-seqs", type=int, default=64)
    parser.add_argument("--max-model-len", type=int, default=1024)
    parser.add_argument("--require", type=float, default=0.0, help=f"fail below this ratio (target: {TARGET})")
    parser.add_argument("--json", help="also write the rows to this file")
    args = parser.parse_args()
    engine = {"max_num_seqs": args.max_num_seqs, "max_model_len": args.max_model_len}
    with ChatVLLM(model=args.model, engine_kwargs=engine) as model:
        options = {"calls": args.calls, "max_tokens": args.max_tokens, "words": args.prompt_words}
        rows = asyncio.run(compare(model, args.episodes, rounds=args.rounds, **options))
    Console(width=110).print(table(rows))
    if args.json:
        with open(args.json, "w") as file:
            json.dump([asdict(row) for row in rows], file, indent=1)
    return int(any(row.ratio < args.require for row in rows))


if __name__ == "__main__":
    sys.exit(main())
