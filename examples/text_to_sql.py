"""Text-to-SQL under a budget, on the bundled music shop and the embedded model.

    python examples/text_to_sql.py "How many customers are there?"

`langgraph dev` opens the same graph (see `langgraph.json`).
"""

from __future__ import annotations

import asyncio
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tta_langgraph import Budget
from tta_langgraph.demo import build_database, demo_policy
from tta_langgraph.graphs import create_text_to_sql_graph
from tta_langgraph.models.resolve import resolve_model
from tta_langgraph.models.weights import cache_dir


def shop() -> Path:
    """The music shop's database, built on first use."""
    path = cache_dir() / "demo" / "music-shop-1.sqlite"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        build_database(path)
    return path


@cache
def compiled() -> Any:
    """The compiled graph, built once."""
    builder = create_text_to_sql_graph(
        resolve_model("embedded"),
        f"sqlite:///{shop()}",
        policy=demo_policy("qwen2.5-coder-0.5b"),
        budget=Budget(tokens=12_000, seconds=120),
    )
    return builder.compile()


async def graph() -> Any:
    """What LangGraph's server asks for at each run; opening the database must not block its event loop."""
    return await asyncio.to_thread(compiled)


def main(question: str) -> None:
    """Asks, and shows what was decided, answered and spent."""
    state = compiled().invoke({"question": question})
    for decision in state["decisions"]:
        print(f"decided: {decision.reason}")
    print(state["answer"])
    print((state["result"] or {}).get("rows"))
    print(f"{state['budget'].usage.tokens} tokens, {state['budget'].elapsed:.1f} s; ended: {state['stop_reason']}")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "Which employee handled the most orders? Show the name and the number of orders.")
