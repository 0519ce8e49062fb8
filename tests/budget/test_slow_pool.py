"""A shared pool's database may be locked by others for a while: nobody waits for it longer than the budget allows."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from tta_langgraph import Budget, BudgetExceededError, SharedPool, budget_scope, budgeted
from tta_langgraph.budget import Usage
from tta_langgraph.pool import Lease, PoolRefusal
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

FOR_LONG = 600.0
"""Seconds that SQLite would wait for the lock: longer than any test."""


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process's write transaction, as far as SQLite can tell."""
    in_the_way = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    in_the_way.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        in_the_way.execute("ROLLBACK")
        in_the_way.close()


def patient_pool(file: Path) -> SharedPool:
    engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": FOR_LONG})
    return SharedPool(engine, "team", limit=100_000)


async def reserved(pool: SharedPool, tokens: float) -> float:
    """What is reserved once it is that much, or in the end."""
    for _ in range(200):
        if (await asyncio.to_thread(pool.reserved))["tokens"] == tokens:
            return tokens
        await asyncio.sleep(0.05)
    return (await asyncio.to_thread(pool.reserved))["tokens"]


class Watched(SharedPool):
    """Says when it is asked, and when it has answered."""

    def reserve(self, bound: Usage) -> Lease | PoolRefusal:
        self.asked.set()
        outcome = super().reserve(bound)
        self.answered.set()
        return outcome

    asked, answered = threading.Event(), threading.Event()


async def test_a_call_cancelled_while_it_asks_the_pool_leaves_nothing_reserved(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'pool.sqlite'}", connect_args={"timeout": FOR_LONG})
    pool = Watched(engine, "team", limit=100_000)
    with ScriptedServer(script=lambda _: "fine") as server:
        model = budgeted(scripted_chat_model(server), pools=[pool])
        with locked(tmp_path / "pool.sqlite"):
            asking = asyncio.create_task(model.ainvoke("x"))
            assert await asyncio.to_thread(pool.asked.wait, 60)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert not pool.answered.is_set()
        assert await asyncio.to_thread(pool.answered.wait, 60), "the thread gets its lease, for nobody"
        assert await reserved(pool, 0.0) == 0.0
        assert server.requests == 0


async def test_the_deadline_strikes_while_the_pool_is_asked(tmp_path: Path) -> None:
    pool = patient_pool(tmp_path / "pool.sqlite")
    with ScriptedServer(script=lambda _: "fine") as server:
        model = budgeted(scripted_chat_model(server))
        with locked(tmp_path / "pool.sqlite"), budget_scope(Budget(tokens=5_000, seconds=1), pools=[pool]) as scope:
            with pytest.raises(BudgetExceededError) as caught:
                await model.ainvoke("x")
            assert caught.value.dimension == "seconds"
            assert scope.ledger.reserved.tokens == 0
        assert await reserved(pool, 0.0) == 0.0
        assert server.requests == 0


async def test_an_answer_does_not_wait_for_a_slow_pool_beyond_the_deadline(tmp_path: Path) -> None:
    pool = patient_pool(tmp_path / "pool.sqlite")
    in_the_way = sqlite3.connect(tmp_path / "pool.sqlite", isolation_level=None, check_same_thread=False)

    def answers_while_the_file_is_locked(_: object) -> str:
        in_the_way.execute("BEGIN EXCLUSIVE")
        return "fine"

    with ScriptedServer(script=answers_while_the_file_is_locked) as server:
        model = budgeted(scripted_chat_model(server))
        with budget_scope(Budget(tokens=5_000, seconds=5), pools=[pool]) as scope:
            asking = asyncio.create_task(model.ainvoke("x"))
            while not scope.tracker.charges and not asking.done():
                await asyncio.sleep(0.01)
            assert not asking.done(), "charged, and waiting for the pool: the event loop goes on meanwhile"
            assert (await asking).text == "fine"
        in_the_way.execute("ROLLBACK")
        in_the_way.close()
        assert await reserved(pool, 0.0) == 0.0
        assert pool.spent()["tokens"] == server.total


SETTLES_WHILE_LOCKED = """
import sqlite3, sys
from sqlalchemy import create_engine
from tta_langgraph import SharedPool
from tta_langgraph.budget import Usage
pool = SharedPool(create_engine(f"sqlite:///{sys.argv[1]}", connect_args={"timeout": 0.1}), "team", limit=100)
lease = pool.reserve(Usage(prompt_tokens=90))
in_the_way = sqlite3.connect(sys.argv[1], isolation_level=None)
in_the_way.execute("BEGIN EXCLUSIVE")
pool.settle(lease, Usage(prompt_tokens=70))
in_the_way.execute("ROLLBACK")
"""


def test_what_could_not_be_written_is_written_when_the_process_ends(tmp_path: Path) -> None:
    file = tmp_path / "pool.sqlite"
    command = [sys.executable, "-c", SETTLES_WHILE_LOCKED, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    pool = SharedPool(f"sqlite:///{file}", "team", limit=100)
    assert pool.spent()["tokens"] == 70
    assert pool.reserved()["tokens"] == 0
