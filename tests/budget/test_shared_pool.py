"""Promise 10: many processes, one pool, no overshoot; a dead process's reservation comes back after its lease."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from tests.postgres import postgres_url  # noqa: F401 - a fixture
from tta_langgraph import Budget, BudgetError, BudgetExceededError, SharedPool, budget_scope, budgeted
from tta_langgraph.budget import Usage
from tta_langgraph.errors import DatabaseError
from tta_langgraph.pool import Lease, PoolRefusal
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

PROCESSES = 8
HAMMER = """
import random, sys, time
from tta_langgraph import SharedPool
from tta_langgraph.budget import Usage
from tta_langgraph.pool import Lease
url, name, seed = sys.argv[1:4]
rng, pool, mine = random.Random(int(seed)), SharedPool(url, name, limit=20_000), 0
for _ in range(40):
    bound = Usage(prompt_tokens=rng.randint(1, 100), completion_tokens=rng.randint(1, 200), model_calls=1)
    lease = pool.reserve(bound)
    if not isinstance(lease, Lease):
        time.sleep(0.01)
        continue
    if rng.random() < 0.2:
        pool.release(lease)
        continue
    used = Usage(prompt_tokens=bound.prompt_tokens, completion_tokens=rng.randint(0, bound.completion_tokens))
    pool.settle(lease, used)
    mine += used.tokens
print(mine)
"""
HOLD = """
import sys, time
from tta_langgraph import SharedPool
from tta_langgraph.budget import Usage
pool = SharedPool(sys.argv[1], sys.argv[2], limit=100, lease=1.5)
pool.reserve(Usage(prompt_tokens=90))
print("held", flush=True)
time.sleep(120)
"""


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'pool.sqlite'}"
    else:
        yield request.getfixturevalue("postgres_url")


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy())


def test_eight_processes_never_overspend_and_every_token_is_counted(url: str) -> None:
    workers = [python(HAMMER, url, "hammered", str(seed)) for seed in range(PROCESSES)]
    spent = 0
    for worker in workers:
        out, errors = worker.communicate(timeout=200)
        assert worker.returncode == 0, errors
        spent += int(out)
    pool = SharedPool(url, "hammered", limit=20_000)
    assert pool.spent()["tokens"] == spent
    assert pool.reserved()["tokens"] == 0
    assert 0 < spent <= 20_000


def test_a_killed_process_gives_its_reservation_back_after_its_lease(url: str) -> None:
    holder = python(HOLD, url, "held")
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"
    pool = SharedPool(url, "held", limit=100, lease=1.5)
    refusal = pool.reserve(Usage(prompt_tokens=50))
    assert isinstance(refusal, PoolRefusal)
    assert refusal.busy, "somebody holds it: that is not the same as spent"
    time.sleep(3)
    assert isinstance(pool.reserve(Usage(prompt_tokens=50)), PoolRefusal), "a living process renews its lease"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    for _ in range(100):
        lease = pool.reserve(Usage(prompt_tokens=50))
        if isinstance(lease, Lease):
            break
        time.sleep(0.2)
    assert isinstance(lease, Lease)
    pool.release(lease)


def test_calls_draw_on_the_pool_and_the_episode(tmp_path: Path) -> None:
    pool = SharedPool(f"sqlite:///{tmp_path / 'pool.sqlite'}", "user:1", limit=60)
    with ScriptedServer(script=lambda _: "one two three") as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=20)
        with budget_scope(Budget(tokens=1_000), pools=[pool]) as scope:
            model.invoke("x")
            assert pool.spent()["tokens"] == scope.tracker.usage.tokens == server.total
            with pytest.raises(BudgetExceededError, match="pool 'user:1'"):
                for _ in range(10):
                    model.invoke("x")
        assert server.total <= 60
        assert pool.reserved()["tokens"] == 0
        assert scope.ledger.reserved == Usage(), "what the pool refused, the episode does not hold"


async def test_async_calls_do_too_and_failures_leave_nothing_held(tmp_path: Path) -> None:
    pool = SharedPool(f"sqlite:///{tmp_path / 'pool.sqlite'}", "team", limit={"model_calls": 2})
    with ScriptedServer(script=lambda _: "fine") as server:
        model = budgeted(scripted_chat_model(server), pools=[pool])
        await model.ainvoke("one")
        await model.ainvoke("two")
        with pytest.raises(BudgetExceededError) as caught:
            await model.ainvoke("three")
        assert caught.value.dimension == "model_calls"
        assert server.requests == 2


def test_an_answer_is_not_lost_to_a_database_that_is_away_when_it_comes(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'pool.sqlite'}", connect_args={"timeout": 0.1})
    pool = SharedPool(engine, "user:1", limit=10_000, lease=1)
    in_the_way = sqlite3.connect(tmp_path / "pool.sqlite", isolation_level=None, check_same_thread=False)

    def answers_while_the_file_is_locked(_: object) -> str:
        in_the_way.execute("BEGIN EXCLUSIVE")
        return "fine"

    with ScriptedServer(script=answers_while_the_file_is_locked) as server:
        model = budgeted(scripted_chat_model(server), pools=[pool])
        assert model.invoke("x").text == "fine"
        in_the_way.execute("ROLLBACK")
        for _ in range(200):
            if pool.spent()["tokens"]:
                break
            time.sleep(0.05)
        assert pool.spent()["tokens"] == server.total
        assert pool.reserved()["tokens"] == 0
    in_the_way.close()


def test_a_pool_that_is_named_twice_is_charged_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'pool.sqlite'}"
    with ScriptedServer(script=lambda _: "fine") as server:
        model = budgeted(scripted_chat_model(server), pools=[SharedPool(url, "team", limit=10_000)])
        pool = SharedPool(url, "team", limit=10_000)
        with budget_scope(Budget(tokens=5_000), pools=[pool]), budget_scope(Budget(tokens=4_000), pools=[pool]):
            model.invoke("x")
        assert pool.spent()["tokens"] == server.total


def test_the_cap_shrinks_to_what_the_pool_has_left(tmp_path: Path) -> None:
    pool = SharedPool(f"sqlite:///{tmp_path / 'pool.sqlite'}", "team", limit={"tokens": 120, "completion_tokens": 150})
    with ScriptedServer(script=lambda _: "word " * 500) as server:
        model = budgeted(scripted_chat_model(server), pools=[pool])
        model.invoke("x")
        assert pool.spent()["tokens"] == server.total == 120, "nothing of it is left unused"
        with pytest.raises(BudgetExceededError, match=r"120 of 120 spent, and at least \d+ needed \(pool 'team'\)"):
            model.invoke("x")


def test_windows_start_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = SharedPool(f"sqlite:///{tmp_path / 'pool.sqlite'}", "daily", limit=100, window="day")
    lease = pool.reserve(Usage(prompt_tokens=100))
    assert isinstance(lease, Lease)
    pool.settle(lease, lease.bound)
    assert pool.remaining()["tokens"] == 0
    tomorrow = time.time() + 86_400
    monkeypatch.setattr("tta_langgraph.pool.time.time", lambda: tomorrow)
    assert pool.remaining()["tokens"] == 100


@pytest.mark.parametrize("limit", [0, -5, float("nan"), float("inf"), {"seconds": 3}, {}])
def test_a_limit_that_means_nothing_is_refused(limit: object, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"SharedPool\.limit"):
        SharedPool(f"sqlite:///{tmp_path / 'pool.sqlite'}", "x", limit=limit)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", ["hourly", 0, -60, float("nan"), float("inf")])
def test_a_window_that_means_nothing_is_refused_with_those_that_exist(window: Any, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="'day'") as caught:
        SharedPool(f"sqlite:///{tmp_path / 'pool.sqlite'}", "x", limit=5, window=window)
    assert caught.value.where == "SharedPool.window"


def test_a_pool_shows_its_name_and_limits(tmp_path: Path) -> None:
    assert "'user:42', {'tokens': 5.0}" in repr(SharedPool(f"sqlite:///{tmp_path / 'p.sqlite'}", "user:42", limit=5))


def test_a_password_among_the_parameters_is_in_no_error() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(DatabaseError) as caught:
        SharedPool("postgresql+psycopg://me@127.0.0.1:1/pools?password=hunter2", "team", 1_000)
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
