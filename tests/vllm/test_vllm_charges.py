"""What an episode is charged equals what the engine says it computed: every call, however it was made."""

from __future__ import annotations

import asyncio
import time

import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.models.serve import RunningServer
from tta_langgraph.models.vllm import ChatVLLM

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

QUESTION = [HumanMessage("Name three colours.")]


async def test_an_episode_of_calls_streams_and_samples_is_charged_what_the_engine_computed(
    chat_vllm: ChatVLLM,
) -> None:
    before = chat_vllm.engine_stats()
    model = budgeted(chat_vllm)
    with budget_scope(Budget(tokens=4000)) as scope:
        await model.ainvoke(QUESTION)
        await asyncio.gather(*(model.ainvoke(QUESTION, temperature=1.0) for _ in range(3)))
        async for _ in model.astream(QUESTION):
            pass
        await asyncio.to_thread(model.invoke, QUESTION)
        single = scope.tracker.usage
        counted = chat_vllm.engine_stats()
        await model.agenerate([QUESTION], n=4, temperature=1.0)
        usage = scope.tracker.usage
    after = chat_vllm.engine_stats()
    assert single.prompt_tokens == counted.prompt_tokens - before.prompt_tokens
    assert usage.completion_tokens == after.completion_tokens - before.completion_tokens
    # The prompt of a request with n samples is charged once; the engine's counter has it once per sample.
    assert usage.prompt_tokens - single.prompt_tokens == chat_vllm.count_prompt_tokens(QUESTION)


async def test_a_call_cancelled_at_the_deadline_is_charged_at_least_what_the_engine_computed(
    chat_vllm: ChatVLLM,
) -> None:
    before = chat_vllm.engine_stats()
    with budget_scope(Budget(tokens=4000, seconds=0.5)) as scope:  # a GPU writes 900 tokens in a second or two
        begun = time.monotonic()
        with pytest.raises(Exception, match=r".*"):
            await budgeted(chat_vllm).ainvoke(QUESTION, max_tokens=900, ignore_eos=True)
        assert time.monotonic() - begun < 60
        usage = scope.tracker.usage
    await asyncio.sleep(1)
    after = chat_vllm.engine_stats()
    assert usage.completion_tokens >= after.completion_tokens - before.completion_tokens
    assert after.completion_tokens - before.completion_tokens < 900


async def test_an_episode_on_a_server_is_charged_what_its_metrics_say(vllm_server: RunningServer) -> None:
    client = ChatOpenAI(
        base_url=vllm_server.base_url, api_key="none", model="smollm2", max_tokens=16, max_retries=0, stream_usage=True
    )
    before = vllm_server.metrics()
    model = budgeted(client)
    with budget_scope(Budget(tokens=4000)) as scope:
        await model.ainvoke(QUESTION)
        async for _ in model.astream(QUESTION):
            pass
        await asyncio.gather(*(model.ainvoke(QUESTION, temperature=1.0) for _ in range(3)))
        usage = scope.tracker.usage
    after = vllm_server.metrics()
    made = {name: after[name] - before[name] for name in ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")}
    assert usage.prompt_tokens == made["vllm:prompt_tokens_total"]
    assert usage.completion_tokens == made["vllm:generation_tokens_total"]
