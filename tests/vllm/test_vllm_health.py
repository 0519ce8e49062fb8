"""A call to an engine that will never answer ends with an error, and one to an engine that is slow does not."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tta_langgraph.errors import ModelError
from tta_langgraph.models import vllm_engine
from tta_langgraph.models.vllm_engine import Engine
from tta_langgraph.models.vllm_env import vllm_distribution
from tta_langgraph.models.vllm_health import engine_processes, listens

QUICK: dict[str, Any] = {"window": 0.05, "windows": 3}


def busy() -> None:
    while True:
        sum(range(1000))


@pytest.fixture
def process() -> Iterator[int]:
    """A process that computes without end."""
    child = multiprocessing.get_context("spawn").Process(target=busy, daemon=True)
    child.start()
    assert child.pid is not None
    yield child.pid
    child.kill()
    child.join()


class Asked:
    """What is asked of vLLM's `AsyncLLM`: it answers once it is told to."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()

    async def is_sleeping(self) -> bool:
        await self.answers.wait()
        return False


async def test_an_engine_that_answers_listens() -> None:
    llm = Asked()
    llm.answers.set()
    assert await listens(llm, processes=[], steps=None, **QUICK)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGSTOP")
async def test_an_engine_with_nothing_to_do_that_does_not_answer_is_deaf(process: int) -> None:
    os.kill(process, signal.SIGSTOP)
    assert not await listens(Asked(), processes=[process], steps=None, **QUICK)


async def test_an_engine_in_a_long_step_is_waited_for(process: int) -> None:
    psutil = pytest.importorskip("psutil", reason="psutil is not installed")
    while psutil.Process(process).cpu_times().user < 0.5:
        await asyncio.sleep(0.01)
    llm = Asked()
    asking = asyncio.ensure_future(listens(llm, processes=[process], steps=lambda: 7, window=1.0, windows=3))
    await asyncio.sleep(4)
    assert not asking.done()
    llm.answers.set()
    assert await asking


async def test_an_engine_that_steps_on_without_answering_is_deaf() -> None:
    done = iter(range(0, 10_000, 60))
    assert not await listens(Asked(), processes=[], steps=lambda: next(done), **QUICK)


def test_the_processes_of_an_engine_are_found_where_vllm_keeps_them() -> None:
    manager = SimpleNamespace(processes=[SimpleNamespace(pid=7)])
    llm = SimpleNamespace(engine_core=SimpleNamespace(resources=SimpleNamespace(engine_manager=manager)))
    assert [process.pid for process in engine_processes(llm)] == [7]
    assert engine_processes(SimpleNamespace()) == []


class Deaf:
    """Stands for vLLM's `AsyncLLM` whose engine has stopped reading."""

    output_handler = None
    vllm_config = SimpleNamespace()
    errored = False

    def __init__(self) -> None:
        self.failed: asyncio.Queue[Exception] = asyncio.Queue()
        self.output_processor = SimpleNamespace(propagate_error=self.failed.put_nowait)

    def get_tokenizer(self) -> None:
        return None

    async def generate(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        raise await self.failed.get()
        yield

    async def is_sleeping(self) -> bool:
        await asyncio.Event().wait()
        return False

    async def abort(self, request_id: str) -> None:
        pass

    def shutdown(self, timeout: float) -> None:
        pass


def started(monkeypatch: pytest.MonkeyPatch, died: list[Engine]) -> Engine:
    async def start(self: Engine) -> Any:
        return Deaf()

    monkeypatch.setattr(Engine, "_start", start)
    return Engine("m", {}, died=died.append)


@pytest.mark.skipif(vllm_distribution() is None, reason="vllm is not installed; see docs/concepts/vllm.md")
def test_a_call_to_a_deaf_engine_ends_and_the_engine_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_engine, "_LISTEN_SECONDS", 0.05)
    monkeypatch.setattr(vllm_engine, "engine_processes", lambda llm: [SimpleNamespace(pid=2**30)])  # none: idle
    died: list[Engine] = []
    engine = started(monkeypatch, died)
    with pytest.raises(ModelError, match=r"takes no requests any more.*starts a new engine"):
        engine.submit(engine.generate([1], None)).result(timeout=60)
    assert died == [engine]
    engine.close()


def test_a_call_on_a_thread_that_ended_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[Engine] = []
    engine = started(monkeypatch, died)
    engine.call_soon(lambda: engine._loop.stop())
    engine._thread.join(timeout=60)
    with pytest.raises(ModelError, match="thread has ended"):
        engine.submit(asyncio.sleep(0))
    assert died == [engine]
    engine.close()
