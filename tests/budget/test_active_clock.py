"""`clock="active"` counts the work of every invocation and no wait between them, whichever process resumes the run."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from tta_langgraph import Budget, EpisodeState, budget_scope, budgeted, scope
from tta_langgraph.checkpoints import checkpoint_serializer
from tta_langgraph.episode import Ask, BudgetNode, Call, Steps
from tta_langgraph.ledger import Ledger
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

CONFIG: Any = {"configurable": {"thread_id": "t"}}
WORK, WAIT = 100.0, 36_000.0


class Clock:
    """Time that passes when it is told to, besides the real one."""

    passed = 0.0

    def work(self) -> None:
        self.passed += WORK


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock, now = Clock(), Ledger._time
    monkeypatch.setattr(Ledger, "_time", lambda ledger: now(ledger) + clock.passed)
    return clock


@pytest.fixture
def model() -> Iterator[BaseChatModel]:
    with ScriptedServer(script=lambda _: "four") as server:
        yield budgeted(scripted_chat_model(server))


@dataclass(frozen=True)
class Node(BudgetNode):
    """Asks, works for long and interrupts."""

    model: BaseChatModel
    clock: Clock

    def steps(self, state: Mapping[str, Any]) -> Steps:
        yield Ask(model=self.model, messages=[("user", "?")])

        def function() -> str:
            self.clock.work()
            return str(interrupt("go on?"))

        return {"answer": (yield Call(function=function))}


def calls(model: BaseChatModel, clock: Clock) -> Any:
    def node(state: Any) -> Any:
        model.invoke("?")
        clock.work()
        model.invoke("?")
        return {"answer": interrupt("go on?")}

    return node


def opens_a_scope(model: BaseChatModel, clock: Clock) -> Any:
    def node(state: Any) -> Any:
        with budget_scope(state["budget"]):
            clock.work()
            return {"answer": interrupt("go on?")}

    return node


def opens_a_scope_async(model: BaseChatModel, clock: Clock) -> Any:
    async def node(state: Any) -> Any:
        async with budget_scope(state["budget"]):
            clock.work()
            return {"answer": interrupt("go on?")}

    return node


def opens_a_sync_scope_in_an_async_node(model: BaseChatModel, clock: Clock) -> Any:
    async def node(state: Any) -> Any:
        return opens_a_scope(model, clock)(state)

    return node


def builder(node: Any, model: BaseChatModel) -> Any:
    """The node, and one that makes a call: whoever makes the first one reads what others have written down."""

    def last(state: Any) -> Any:
        model.invoke("?")

    return StateGraph(EpisodeState).add_sequence([("node", node), ("last", last)]).add_edge(START, "node")


async def run(node: Any, model: BaseChatModel, file: str, given: Any) -> Any:
    """One invocation, with a checkpointer of its own."""
    async with AsyncSqliteSaver.from_conn_string(file) as saver:
        saver.serde = checkpoint_serializer()
        return await builder(node, model).compile(checkpointer=saver).ainvoke(given, CONFIG, durability="sync")


def run_sync(node: Any, model: BaseChatModel, file: str, given: Any) -> Any:
    with SqliteSaver.from_conn_string(file) as saver:
        saver.serde = checkpoint_serializer()
        return builder(node, model).compile(checkpointer=saver).invoke(given, CONFIG, durability="sync")


@pytest.mark.parametrize("resumed_by", ["the same process", "another"])
@pytest.mark.parametrize(
    ("make", "mode"),
    [
        (Node, "sync"),
        (Node, "async"),
        (calls, "sync"),
        (calls, "async"),
        (opens_a_scope, "sync"),
        (opens_a_scope_async, "async"),
        (opens_a_sync_scope_in_an_async_node, "async"),
    ],
)
async def test_the_work_before_an_interrupt_counts_and_the_wait_after_it_does_not(
    make: Callable[..., Any],
    mode: str,
    resumed_by: str,
    model: BaseChatModel,
    clock: Clock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, file = make(model, clock), str(tmp_path / "checkpoints.sqlite")

    async def invoke(given: Any) -> Any:
        return await run(node, model, file, given) if mode == "async" else run_sync(node, model, file, given)

    budget = Budget(seconds=3_600, clock="active")
    assert "__interrupt__" in await invoke({"question": "?", "budget": budget})
    clock.passed += WAIT
    if resumed_by == "another":
        monkeypatch.setattr(scope, "_ledgers", OrderedDict())
    state = await invoke(Command(resume="yes"))
    assert state["answer"] == "yes"
    assert 2 * WORK <= state["budget"].elapsed < 2 * WORK + 60


def test_a_wait_before_anything_used_the_budget_does_not_count(
    model: BaseChatModel, clock: Clock, tmp_path: Path
) -> None:
    def node(state: Any) -> Any:
        interrupt("begin?")
        return {}

    file = str(tmp_path / "checkpoints.sqlite")
    run_sync(node, model, file, {"question": "?", "budget": Budget(seconds=3_600, clock="active")})
    clock.passed += WAIT
    state = run_sync(node, model, file, Command(resume="yes"))
    assert state["budget"].usage.model_calls == 1
    assert state["budget"].elapsed < 60


def test_workers_that_were_forked_tell_their_invocations_apart() -> None:
    script = """
import os
from types import SimpleNamespace
from tta_langgraph.scope import invocation_of

config = {"configurable": {"__pregel_runtime": SimpleNamespace(control=object())}}
invocation_of(config)
child = os.fork()
child and os.waitpid(child, 0)
print(invocation_of(config), flush=True)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    one, other = found.stdout.split()
    assert one != other
