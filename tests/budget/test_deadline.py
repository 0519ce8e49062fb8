"""Promise 5: the deadline is real; what is in flight is cancelled, and the best answer so far comes back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph

from tta_langgraph import Budget, BudgetExceededError, EpisodeState, budget_scope, budgeted
from tta_langgraph.nodes import Generate, Sample
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model


def answers_once_then_hangs() -> Callable[[Any], Reply]:
    seen = iter([Reply(text="The answer is 4.")])
    return lambda _: next(seen, Reply(hang=True))


def two_steps(model: BaseChatModel) -> Any:
    builder = StateGraph(EpisodeState)
    builder.add_node("generate", Generate(model=model))
    builder.add_node("sample", Sample(model=model, n=2))
    builder.add_edge(START, "generate")
    builder.add_edge("generate", "sample")
    builder.add_edge("sample", END)
    return builder.compile()


def wait_until(condition: Callable[[], bool]) -> None:
    """The server notices a closed connection a moment later; how much later is no promise of ours."""
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_server_that_never_answers_ends_the_episode_with_the_best_answer_so_far(mode: str) -> None:
    with ScriptedServer(script=answers_once_then_hangs()) as server:
        graph = two_steps(scripted_chat_model(server))
        start = {"question": "2 + 2?", "budget": Budget(tokens=5_000, seconds=3)}
        threads = set(threading.enumerate())
        state = asyncio.run(graph.ainvoke(start)) if mode == "async" else graph.invoke(start)
        assert "4" in state["answer"]
        assert state["stop_reason"] == "exhausted: seconds"
        assert state["budget"].remaining.seconds == 0
        wait_until(lambda: server.disconnects == 1)
        wait_until(lambda: server.in_flight == 0)
        left = [thread.name for thread in threading.enumerate() if thread not in threads and thread.is_alive()]
        # One pool of threads serves all calls of the process, and its threads wait for the next one.
        assert [name for name in left if ("tta" in name and "tta-work" not in name) or "ThreadPool" in name] == []


async def test_no_task_is_left_behind() -> None:
    with ScriptedServer(script=lambda _: Reply(hang=True)) as server:
        model = budgeted(scripted_chat_model(server))
        before = asyncio.all_tasks()
        with budget_scope(Budget(tokens=5_000, seconds=1)), pytest.raises(BudgetExceededError) as caught:
            await asyncio.gather(*(model.ainvoke(f"{n}") for n in range(8)))
        assert caught.value.dimension == "seconds"
        await asyncio.sleep(0.2)
        assert [task for task in asyncio.all_tasks() - before if not task.done()] == []


async def test_a_call_cut_off_at_the_deadline_is_charged_in_full() -> None:
    with ScriptedServer(script=lambda _: Reply(hang=True)) as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=50)
        with budget_scope(Budget(tokens=5_000, seconds=1)) as scope:
            with pytest.raises(BudgetExceededError):
                await model.ainvoke("x")
            [charge] = scope.tracker.charges.values()
        assert charge.estimated
        assert charge.note == "cancelled at the deadline"
        assert charge.usage.completion_tokens == 50


async def test_a_stream_is_cut_off_at_the_deadline_too() -> None:
    with ScriptedServer(script=lambda _: Reply(text="word " * 1_000, stream_interval=0.05)) as server:
        model = budgeted(scripted_chat_model(server))
        got = []
        with budget_scope(Budget(tokens=50_000, seconds=1)), pytest.raises(BudgetExceededError):
            async for chunk in model.astream("tell me"):
                got.append(chunk)
        assert got, "what came before the deadline was passed on"
        wait_until(lambda: server.disconnects == 1)


def test_a_sync_call_ends_at_the_deadline_though_white_space_keeps_coming() -> None:
    # Each byte starts the client's own timeout anew: by that alone the call would end with the answer.
    working = Reply(text="word " * 9, latency=0, stream_interval=3_600, keep_alive=0.2)
    with ScriptedServer(script=lambda _: working) as server:
        model = budgeted(scripted_chat_model(server))
        with budget_scope(Budget(tokens=5_000, seconds=2)) as scope, pytest.raises(BudgetExceededError) as caught:
            model.invoke("tell me")
        assert caught.value.dimension == "seconds"
        assert scope.ledger.reserved.tokens == 0


def test_a_sync_stream_that_stalls_ends_at_the_deadline_though_its_connection_lives() -> None:
    # Each comment starts the client's own timeout anew: by that alone the stream would end with the server.
    stalled = Reply(text="word " * 9, stream_interval=3_600, keep_alive=0.2)
    with ScriptedServer(script=lambda _: stalled) as server:
        model, got = budgeted(scripted_chat_model(server)), []
        with budget_scope(Budget(tokens=5_000, seconds=2)) as scope, pytest.raises(BudgetExceededError):
            for chunk in model.stream("tell me"):
                got.append(chunk)
        assert got, "what came before the deadline was passed on"
        wait_until(lambda: server.disconnects == 1)
        [charge] = scope.tracker.charges.values()
        assert charge.note == "cancelled at the deadline"


def test_a_sync_stream_that_is_left_is_closed_at_the_server() -> None:
    with ScriptedServer(script=lambda _: Reply(text="word " * 1_000, stream_interval=0.05)) as server:
        model = budgeted(scripted_chat_model(server))
        with budget_scope(Budget(tokens=50_000, seconds=60)):
            for _ in model.stream("tell me"):
                break
        wait_until(lambda: server.disconnects == 1)


async def test_a_branch_that_waits_for_admission_stops_waiting_at_the_deadline() -> None:
    with ScriptedServer(script=lambda _: Reply(hang=True)) as server:
        model = budgeted(scripted_chat_model(server), max_completion_tokens=100)
        with budget_scope(Budget(tokens=150, seconds=1)):
            results = await asyncio.gather(*(model.ainvoke("x") for _ in range(4)), return_exceptions=True)
        assert {type(result) for result in results} == {BudgetExceededError}
        assert server.requests == 1, "the others were never admitted"


class SlowSync(BaseChatModel):
    """A foreign model without timeout and without an async call of its own."""

    @property
    def _llm_type(self) -> str:
        return "slow"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        time.sleep(3)
        return ChatResult(generations=[ChatGeneration(message=AIMessage("late"))])


class SlowAsync(SlowSync):
    """The same with an async call, which can be cancelled."""

    cancelled: bool = False

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any
    ) -> ChatResult:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise AssertionError("not reached")


@pytest.mark.parametrize("kind", [SlowSync, SlowAsync])
def test_a_sync_call_of_a_model_without_timeouts_is_not_waited_for(kind: type[SlowSync]) -> None:
    slow = kind()
    with budget_scope(Budget(seconds=0.5)) as scope, pytest.raises(BudgetExceededError) as caught:
        budgeted(slow).invoke("x")
    assert caught.value.dimension == "seconds"
    assert len(scope.tracker.charges) == 1
    if isinstance(slow, SlowAsync):
        wait_until(lambda: slow.cancelled)


def test_the_active_clock_does_not_count_time_spent_waiting_for_a_human() -> None:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command, interrupt

    with ScriptedServer(script=lambda _: "ok") as server:
        model = budgeted(scripted_chat_model(server))

        def ask(state: EpisodeState) -> dict[str, Any]:
            model.invoke("first")
            interrupt("may I?")
            model.invoke("second")
            return {}

        builder = StateGraph(EpisodeState)
        builder.add_node("ask", ask)
        builder.add_edge(START, "ask")
        graph = builder.compile(checkpointer=InMemorySaver())
        elapsed, worked = {}, {}
        for clock in ("active", "wall"):
            config = {"configurable": {"thread_id": clock}}
            begun = time.monotonic()
            graph.invoke({"question": "?", "budget": Budget(tokens=5_000, seconds=500, clock=clock)}, config)
            paused = time.monotonic()
            time.sleep(2)
            resumed = time.monotonic()
            state = graph.invoke(Command(resume=True), config)
            elapsed[clock] = state["budget"].elapsed
            worked[clock] = time.monotonic() - resumed + paused - begun
            assert len(state["budget"].charges) == 3, "the node ran again, and each of its calls is charged"
        assert elapsed["wall"] >= 2
        # However slow the machine: what the graph worked is counted at most, and nothing of the pause.
        assert elapsed["active"] <= worked["active"] + 0.01
