"""Counting a prompt is part of the call: a server that is slow to count must not outlive the episode's deadline."""

from __future__ import annotations

import asyncio
import time

import pytest

from tta_langgraph import Budget, BudgetExceededError, budget_scope, budgeted
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model


async def test_a_server_that_never_counts_does_not_hold_up_the_deadline_or_the_event_loop() -> None:
    async with ScriptedServer([Reply(hang=True)], tokenize_latency=60) as server:
        model = budgeted(scripted_chat_model(server, counts=False))
        begun = time.monotonic()
        turns: list[float] = []
        awake = asyncio.create_task(_count_turns(turns))
        with budget_scope(Budget(tokens=5_000, seconds=1)), pytest.raises(BudgetExceededError):
            await model.ainvoke("How many albums are there?")
        awake.cancel()
        assert time.monotonic() - begun < 4  # the deadline is 1 s; the server would take 60 s
        assert len(turns) > 10


async def _count_turns(turns: list[float]) -> None:
    while True:
        turns.append(time.monotonic())
        await asyncio.sleep(0.02)
