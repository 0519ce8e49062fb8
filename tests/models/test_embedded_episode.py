"""A whole episode on the real embedded model and a real database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tta_langgraph import Budget, Policy, Utility
from tta_langgraph.graphs import create_text_to_sql_graph
from tta_langgraph.models.embedded import EmbeddedChatModel
from tta_langgraph.sql import Database
from tta_langgraph.traces.sleep import asleep

pytestmark = pytest.mark.model


def test_a_real_model_answers_a_real_question_under_a_budget(embedded_model: EmbeddedChatModel, shop: str) -> None:
    graph = create_text_to_sql_graph(embedded_model, shop, max_tokens=60).compile()
    budget = Budget(tokens=4_000, seconds=250)
    state = graph.invoke({"question": "How many customers are there?", "budget": budget})
    assert state["result"]["rows"] == [[3]]
    assert state["stop_reason"] in ("stop", "exhausted: seconds")
    spent = state["budget"].usage
    assert 0 < spent.tokens <= 4_000
    first = state["candidates"][0]
    assert first.usage.prompt_tokens == state["context"]["prompt_tokens"], "the prompt was counted exactly"


async def test_samples_share_the_prompt_and_every_token_is_charged(
    embedded_model: EmbeddedChatModel, shop: str
) -> None:
    policy = Policy.default("sql", utility=Utility(per_token=0.0, per_second=0.0), actions=["resample(2)"])
    graph = create_text_to_sql_graph(embedded_model, shop, policy=policy, max_tokens=40).compile()
    budget = Budget(tokens=6_000, seconds=250, model_calls=2)
    state = await graph.ainvoke({"question": "List the cities of the customers.", "budget": budget})
    calls = [charge for charge in state["budget"].charges.values() if charge.usage.model_calls]
    generate, resample = sorted(calls, key=lambda charge: charge.at)
    assert resample.usage.prompt_tokens == generate.usage.prompt_tokens
    assert resample.usage.cached_tokens > 0.5 * generate.usage.prompt_tokens
    drawn = [candidate for candidate in state["candidates"] if candidate.action == "resample"]
    assert len(drawn) == 2
    assert sum(c.usage.completion_tokens for c in drawn) == resample.usage.completion_tokens


async def test_a_small_model_can_think_ahead_while_nobody_asks(embedded_model: EmbeddedChatModel, shop: str) -> None:
    with Database(shop) as database:
        notes = await asleep(database, embedded_model, questions=3, samples=2, budget=Budget(seconds=250))
    assert notes.asked > 0, "it must list questions in plain words, not go on writing the schema"
    assert notes.solved, "and of such simple tables some question has queries that agree"


def test_the_example_of_the_development_server_runs(
    embedded_model: EmbeddedChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    path = Path(__file__).parents[2] / "examples" / "text_to_sql.py"
    spec = importlib.util.spec_from_file_location("text_to_sql_example", path)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(example, "resolve_model", lambda _: embedded_model)
    nodes = set(asyncio.run(example.graph()).get_graph().nodes)
    assert {"generate", "execute", "decide", "deliver"} <= nodes
