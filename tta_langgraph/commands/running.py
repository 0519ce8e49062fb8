"""Runs one episode for a command: streams what happens, and keeps the state so that Ctrl-C loses nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph.graph.state import CompiledStateGraph

from tta_langgraph.budget import Budget, BudgetTracker, Usage
from tta_langgraph.state import Candidate, Decision

Watcher = Callable[[str, Any], None]
"""Told `("node", {name: update})` after each node and `("event", event)` for each charge and decision."""


@dataclass
class Episode:
    """One question as a command ran it."""

    question: str
    """What was asked."""
    state: dict[str, Any] = field(default_factory=dict)
    """The last state that was seen."""
    seconds: float = 0.0
    """Wall-clock from question to answer."""
    interrupted: bool = False
    """Cut off by Ctrl-C."""

    @property
    def tracker(self) -> BudgetTracker:
        """What was spent, of what."""
        found = self.state.get("budget")
        return found if isinstance(found, BudgetTracker) else BudgetTracker()

    @property
    def usage(self) -> Usage:
        """Sum of the charges."""
        return self.tracker.usage

    @property
    def answer(self) -> str | None:
        """The SQL that was answered, or None."""
        return self.state.get("answer")

    @property
    def best(self) -> Candidate | None:
        """The candidate that it comes from."""
        return self.state.get("best")

    @property
    def decisions(self) -> list[Decision]:
        """The router's decisions."""
        return list(self.state.get("decisions") or ())

    @property
    def stop_reason(self) -> str:
        """Why it ended."""
        return "interrupted" if self.interrupted else str(self.state.get("stop_reason") or "")

    @property
    def exhausted(self) -> bool:
        """Whether a limit ended it."""
        return self.stop_reason.startswith("exhausted")


async def arun_episode(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    question: str,
    budget: Budget,
    watch: Watcher | None = None,
    episode: Episode | None = None,
) -> Episode:
    """Asks the graph one question, telling `watch` what happens."""
    episode = episode or Episode(question)
    begun = time.perf_counter()
    try:
        # The tracker is started here, so that what a cut-off episode spent can be told to the last token.
        tracker = BudgetTracker.start(budget)
        episode.state = {"question": question, "budget": tracker}
        stream: Any = graph.astream(dict(episode.state), stream_mode=["values", "updates", "custom"])
        async for mode, data in stream:
            if mode == "values":
                episode.state = dict(data)
            elif watch is not None:
                watch("event" if mode == "custom" else "node", data)
    finally:
        episode.seconds = time.perf_counter() - begun
    return episode


def run_episode(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    question: str,
    budget: Budget,
    watch: Watcher | None = None,
    runner: asyncio.Runner | None = None,
) -> Episode:
    """`arun_episode` for a command line: on Ctrl-C the call in flight is cancelled and the partial episode returned.

    Several episodes of one model need one `runner`: a client's connections belong to the event loop that opened them.
    """
    episode = Episode(question)
    running = arun_episode(graph, question, budget, watch, episode)
    try:
        asyncio.run(running) if runner is None else runner.run(running)
    except KeyboardInterrupt:
        episode.interrupted = True
        episode.state["budget"] = _settled(episode.tracker)
    return episode


def _settled(tracker: BudgetTracker) -> BudgetTracker:
    """The tracker with the charges of calls that were cancelled after the last state was seen."""
    from tta_langgraph.scope import ledger_for

    return ledger_for(tracker).tracker() if tracker.episode else tracker


def rows_of(state: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of the answer; empty if it has none."""
    result = state.get("result") or {}
    return list(result.get("columns") or ()), [list(row) for row in result.get("rows") or ()]
