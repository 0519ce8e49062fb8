"""Dollars per call: from the table, from the user, or nothing on one's own machine."""

from __future__ import annotations

import math
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from langchain_core.messages import HumanMessage

from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.errors import ModelError
from tta_langgraph.models.prices import price_for, register_price
from tta_langgraph.models.usage import from_metadata


@pytest.mark.parametrize("model", ["gpt-4o-mini", "claude-3-5-haiku-latest", "gemini-2.5-pro", "deepseek-chat"])
@pytest.mark.parametrize(("prompt", "completion", "cached"), [(1_200, 80, 0), (1_200, 80, 1_024), (400_000, 9, 0)])
def test_a_call_costs_what_the_table_says_cached_tokens_and_tiers_included(
    model: str, prompt: int, completion: int, cached: int
) -> None:
    usage = Usage(input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached)
    expected = float(calc_price(usage, model).total_price)
    price = price_for(model)
    assert price is not None
    assert price.cost(prompt, completion, cached) == pytest.approx(expected)


def test_langchains_provider_prefix_is_understood() -> None:
    bare, prefixed = price_for("gemini-2.5-flash"), price_for("google_genai:gemini-2.5-flash")
    assert bare is not None
    assert prefixed is not None
    assert prefixed.cost(1000, 10) == bare.cost(1000, 10)


def test_a_model_without_a_price_has_none_rather_than_a_guess() -> None:
    assert price_for("my-very-own-finetune") is None


def test_a_registered_price_wins_over_the_table_and_charges_cached_tokens_in_full_unless_told() -> None:
    register_price("test-only-model", 2.0, 8.0)
    price = price_for("test-only-model")
    assert price is not None
    assert price.cost(1_000_000, 500_000) == pytest.approx(6.0)
    assert price.cost(1_000_000, 0, cached_tokens=1_000_000) == pytest.approx(2.0)
    register_price("test-only-model", 2.0, 8.0, cached_input_usd_per_mtok=0.2)
    cheaper = price_for("test-only-model")
    assert cheaper is not None
    assert cheaper.cost(1_000_000, 0, cached_tokens=1_000_000) == pytest.approx(0.2)


def test_tokens_written_to_a_cache_cost_what_the_table_says_or_the_user() -> None:
    usage = Usage(input_tokens=5_000, output_tokens=80, cache_read_tokens=1_000, cache_write_tokens=3_000)
    price = price_for("claude-3-5-haiku-latest")
    assert price is not None
    assert price.cost(5_000, 80, 1_000, 3_000) == pytest.approx(float(calc_price(usage, price.model).total_price))
    assert price.cost(5_000, 80, 1_000, 3_000) > price.cost(5_000, 80, 1_000)
    own = register_price("test-only-model-4", 2.0, 8.0, cache_write_usd_per_mtok=2.5)
    assert own.cost(1_000_000, 0, 0, 1_000_000) == pytest.approx(2.5)
    assert register_price("test-only-model-5", 2.0, 8.0).cost(1_000_000, 0, 0, 1_000_000) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("details", "cached", "stored"),
    [
        ({"cache_read": 5, "cache_creation": 100}, 5, 100),
        (
            {"cache_read": 5, "cache_creation": 0, "ephemeral_5m_input_tokens": 60, "ephemeral_1h_input_tokens": 40},
            5,
            100,
        ),
        ({"priority": 110, "priority_cache_read": 5}, 5, 0),
        ({"flex": 110, "flex_cache_read": 5, "cache_read": None}, 5, 0),
    ],
)
def test_what_was_read_from_a_cache_and_written_to_one_is_told_apart(
    details: dict[str, int], cached: int, stored: int
) -> None:
    usage = {"input_tokens": 115, "output_tokens": 7, "total_tokens": 122, "input_token_details": details}
    read = from_metadata(usage)
    assert (read.prompt, read.completion, read.cached, read.stored) == (115, 7, cached, stored)


def test_more_cached_tokens_than_prompt_tokens_cannot_make_a_call_cheaper_than_all_cached() -> None:
    price = register_price("test-only-model-2", 1.0, 1.0, 0.5)
    assert price.cost(100, 0, cached_tokens=10_000) == price.cost(100, 0, cached_tokens=100)


def test_the_embedded_model_costs_no_dollars_so_that_dollar_budgets_can_hold_a_cascade() -> None:
    price = price_for("qwen2.5-coder-0.5b")
    assert price is not None
    assert price.cost(10_000, 10_000) == 0.0


@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf, "2", None])
def test_what_is_no_price_is_refused(price: Any) -> None:
    with pytest.raises(ModelError, match="no price"):
        register_price("test-only-model-3", price, 1.0)
    assert price_for("test-only-model-3") is None


def test_the_price_is_that_of_who_serves_the_model() -> None:
    made = pytest.importorskip("langchain_groq", reason="langchain-groq is not installed (extra: dev)")
    table = price_for("groq:llama-3.3-70b-versatile")
    assert table is not None
    assert price_for("llama-3.3-70b-versatile") is None, "whose maker sells none"
    meter = budgeted(made.ChatGroq(model="llama-3.3-70b-versatile", api_key="k")).meter
    call = meter.plan([HumanMessage("x")], {})
    assert call is None, "outside of any budget"
    with budget_scope(Budget(usd=1)):
        call = meter.plan([HumanMessage("x")], {})
    assert call is not None
    assert call.price is not None
    assert call.price.cost(1_000, 100) == table.cost(1_000, 100)
