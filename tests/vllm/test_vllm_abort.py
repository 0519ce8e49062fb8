"""Whoever stops listening stops the engine: nothing computes for nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from langchain_core.messages import HumanMessage

from tta_langgraph.models.errors import ModelTimeoutError
from tta_langgraph.models.serve import RunningServer
from tta_langgraph.models.vllm import ChatVLLM

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

ENDLESS = {"max_tokens": 900, "ignore_eos": True}
QUESTION = [HumanMessage("Count to a million.")]
PATIENCE = 60.0


def until(condition: Callable[[], bool]) -> bool:
    """Waits for what happens in another process; the bound only keeps a failure from hanging."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def idle(model: ChatVLLM) -> bool:
    """Whether the engine computes nothing: no request is known, and no new tokens come."""
    stats = model.engine_stats()
    time.sleep(0.5)
    return model.engine_stats().completion_tokens == stats.completion_tokens


async def test_cancelling_the_task_aborts_all_samples(chat_vllm: ChatVLLM) -> None:
    before = chat_vllm.engine_stats()
    task = asyncio.create_task(chat_vllm.ainvoke(QUESTION, n=4, temperature=1.0, **ENDLESS))
    started = await asyncio.to_thread(
        until, lambda: chat_vllm.engine_stats().completion_tokens > before.completion_tokens + 8
    )
    assert started
    assert chat_vllm.engine_stats().running == 4
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(until, lambda: idle(chat_vllm))
    assert chat_vllm.engine_stats().completion_tokens - before.completion_tokens < 4 * 900


async def test_cancelling_before_the_engine_began_leaves_nothing_behind(chat_vllm: ChatVLLM) -> None:
    before = chat_vllm.engine_stats()
    task = asyncio.create_task(chat_vllm.ainvoke(QUESTION, **ENDLESS))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer = await chat_vllm.ainvoke(QUESTION, max_tokens=3, ignore_eos=True)
    assert answer.usage_metadata["output_tokens"] == 3
    assert await asyncio.to_thread(until, lambda: idle(chat_vllm))
    assert chat_vllm.engine_stats().completion_tokens - before.completion_tokens < 900


def test_leaving_a_stream_early_aborts_the_request(chat_vllm: ChatVLLM) -> None:
    before = chat_vllm.engine_stats()
    for _ in chat_vllm.stream(QUESTION, **ENDLESS):
        break
    assert until(lambda: idle(chat_vllm))
    assert chat_vllm.engine_stats().completion_tokens - before.completion_tokens < 900


def test_a_timeout_aborts_the_request_and_says_so(chat_vllm: ChatVLLM) -> None:
    before = chat_vllm.engine_stats()
    with pytest.raises(ModelTimeoutError, match="aborted"):
        chat_vllm.invoke(QUESTION, timeout=0.1, **ENDLESS)
    assert until(lambda: idle(chat_vllm))
    assert chat_vllm.engine_stats().completion_tokens - before.completion_tokens < 900


def test_a_client_that_hangs_up_frees_the_server(vllm_server: RunningServer) -> None:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        base_url=vllm_server.base_url, api_key="none", model="smollm2", max_tokens=900, extra_body={"ignore_eos": True}
    )
    before = vllm_server.metrics()
    for _ in model.stream(QUESTION):
        assert vllm_server.metrics()["vllm:num_requests_running"] == 1
        break
    assert until(lambda: vllm_server.metrics()["vllm:num_requests_running"] == 0)
    assert vllm_server.metrics()["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] < 900
