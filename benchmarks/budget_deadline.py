"""How late an episode ends whose server never answers, beside a bare `asyncio.wait_for`, and what is left behind.

    python benchmarks/budget_deadline.py [--episodes 30] [--seconds 1.0] [--json out.json]

Each episode is a graph of one node that asks a server which accepts the request and says nothing. The figures are
milliseconds from the deadline to the moment `invoke` or `ainvoke` has returned.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langgraph.graph import END, START, StateGraph

from tta_langgraph import Budget, EpisodeState
from tta_langgraph.nodes import Generate
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

ALLOWED_MS = 50.0


def graph(model: BaseChatModel) -> Any:
    """One node that asks the model."""
    builder = StateGraph(EpisodeState)
    builder.add_node("generate", Generate(model=model))
    builder.add_edge(START, "generate")
    builder.add_edge("generate", END)
    return builder.compile()


def sync_episodes(model: BaseChatModel, episodes: int, seconds: float) -> list[float]:
    """Milliseconds after the deadline, for `invoke`."""
    compiled, late = graph(model), []
    for number in range(episodes):
        begun = time.perf_counter()
        compiled.invoke({"question": f"{number}?", "budget": Budget(tokens=5_000, seconds=seconds)})
        late.append((time.perf_counter() - begun - seconds) * 1000)
    return late


async def async_episodes(model: BaseChatModel, episodes: int, seconds: float) -> list[float]:
    """Milliseconds after the deadline, for `ainvoke`; no task may be left."""
    compiled, late, before = graph(model), [], asyncio.all_tasks()
    for number in range(episodes):
        begun = time.perf_counter()
        await compiled.ainvoke({"question": f"{number}?", "budget": Budget(tokens=5_000, seconds=seconds)})
        late.append((time.perf_counter() - begun - seconds) * 1000)
    await asyncio.sleep(0.1)
    assert asyncio.all_tasks() == before, "a task was left behind"
    return late


STANDING = ("asyncio", "tta-work")
"""Threads of asyncio's executor and of the package's own, which the process keeps for whatever comes next."""


async def bare_calls(model: BaseChatModel, episodes: int, seconds: float) -> list[float]:
    """Milliseconds after the timeout, for `asyncio.wait_for` around the bare model: no graph, no budget."""
    late = []
    for number in range(episodes):
        begun = time.perf_counter()
        try:
            await asyncio.wait_for(model.ainvoke(f"{number}?"), seconds)
        except TimeoutError:
            late.append((time.perf_counter() - begun - seconds) * 1000)
    return late


def measured(run: Callable[[BaseChatModel, int], list[float]], episodes: int) -> dict[str, Any]:
    """Runs episodes against a server of their own; says how late they were and what they left."""
    threads = set(threading.enumerate())
    with ScriptedServer(lambda _: Reply(hang=True)) as server:
        run(scripted_chat_model(server), 1)  # imports and the first connection are not what is measured
        late = sorted(run(scripted_chat_model(server), episodes))
        server.wait_for(lambda s: s.in_flight == 0, timeout=30)
        requests, disconnects = server.requests, server.disconnects
    left = [
        t.name for t in threading.enumerate() if t not in threads and t.is_alive() and not t.name.startswith(STANDING)
    ]
    return {
        "episodes": episodes,
        "median_ms": statistics.median(late),
        "p90_ms": late[int(0.9 * (len(late) - 1))],
        "worst_ms": late[-1],
        "earliest_ms": late[0],
        "requests": requests,
        "disconnects": disconnects,
        "threads_left": left,
    }


def main() -> None:
    """Measures the three ways and prints them side by side."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=1.0, help="the deadline of each episode")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    count, seconds = options.episodes, options.seconds
    ways: dict[str, Callable[[BaseChatModel, int], list[float]]] = {
        "asyncio.wait_for, bare model": lambda model, n: asyncio.run(bare_calls(model, n, seconds)),
        "a budget, ainvoke": lambda model, n: asyncio.run(async_episodes(model, n, seconds)),
        "a budget, invoke": lambda model, n: sync_episodes(model, n, seconds),
    }
    found = {name: measured(run, count) for name, run in ways.items()}
    print(f"{count} episodes of {seconds:g} s each; milliseconds after the deadline")
    print(f"{'':30} {'median':>8} {'p90':>8} {'worst':>8}   disconnects seen, threads left")
    for name, row in found.items():
        seen = f"{row['disconnects']} of {row['requests']}, {len(row['threads_left'])}"
        print(f"{name:30} {row['median_ms']:8.1f} {row['p90_ms']:8.1f} {row['worst_ms']:8.1f}   {seen}")
    held = all(row["worst_ms"] <= ALLOWED_MS for name, row in found.items() if name.startswith("a budget"))
    print(f"every budgeted episode ended within {ALLOWED_MS:g} ms of its deadline: {'yes' if held else 'no'}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
