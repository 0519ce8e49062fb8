"""A whole episode on a real vLLM engine in this process: mechanics, not wits (the model has 135 million parameters)."""

from __future__ import annotations

import pytest

from tta_langgraph import Budget, Policy
from tta_langgraph.graphs import create_text_to_sql_graph
from tta_langgraph.models.vllm import ChatVLLM

pytestmark = pytest.mark.vllm


async def test_an_episode_decides_executes_and_charges_what_the_engine_counts(chat_vllm: ChatVLLM, shop: str) -> None:
    policy = Policy.static("best_of", 4)
    graph = create_text_to_sql_graph(chat_vllm, shop, policy=policy, max_tokens=24).compile()
    state = await graph.ainvoke(
        {"question": "How many customers are there?", "budget": Budget(tokens=6_000, seconds=280)}
    )
    assert state["decisions"]
    assert state["stop_reason"]
    assert state["candidates"][0].usage.prompt_tokens == state["context"]["prompt_tokens"], "counted exactly"
    charged = state["budget"].usage
    assert charged.tokens <= 6_000
    assert charged.completion_tokens == sum(c.usage.completion_tokens for c in state["candidates"])
    assert charged.cached_tokens > 0, "the samples found the prompt in the prefix cache"


def test_the_same_from_sync_code(chat_vllm: ChatVLLM, shop: str) -> None:
    graph = create_text_to_sql_graph(chat_vllm, shop, policy=Policy.static("one_shot"), max_tokens=16).compile()
    state = graph.invoke({"question": "How many orders are there?", "budget": Budget(tokens=3_000, seconds=200)})
    assert len(state["candidates"]) == 1
    assert state["budget"].usage.model_calls == 1
