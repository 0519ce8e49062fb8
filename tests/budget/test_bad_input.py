"""A budget that means nothing, or cannot be enforced, is refused before any call, naming the field and the remedy."""

from __future__ import annotations

from typing import Any

import pytest

from tta_langgraph import (
    Budget,
    BudgetError,
    BudgetExceededError,
    BudgetTracker,
    budget_block,
    budget_scope,
    budgeted,
)
from tta_langgraph.budget import DIMENSIONS, Charge, Usage
from tta_langgraph.errors import ModelError, TTAError
from tta_langgraph.graphs import create_reasoning_graph, create_text_to_sql_graph
from tta_langgraph.nodes import Sample
from tta_langgraph.testing import ScriptedServer, scripted_chat_model


@pytest.mark.parametrize("dimension", DIMENSIONS)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "many"])
def test_limits_that_are_not_positive_numbers_are_refused(dimension: str, value: Any) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget(**{dimension: value})
    assert caught.value.where == f"Budget.{dimension}"
    assert caught.value.remedy


def test_half_a_token_is_refused_and_a_whole_number_asked_for() -> None:
    with pytest.raises(BudgetError, match="whole number"):
        Budget(tokens=1.5)


def test_an_unknown_dimension_is_refused_with_those_that_exist() -> None:
    with pytest.raises(BudgetError, match="token_limit") as caught:
        Budget(token_limit=5)
    assert "model_calls" in str(caught.value)


@pytest.mark.parametrize("limits", [{"tokens": 100, "reserve": 100}, {"seconds": 2, "reserve": {"seconds": 3}}])
def test_a_reserve_that_leaves_nothing_is_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(BudgetError, match=r"Budget\.reserve"):
        Budget(**limits)


@pytest.mark.parametrize("value", ["4000", [1], object()])
def test_what_is_no_budget_is_refused_by_name_of_its_type(value: Any) -> None:
    with pytest.raises(BudgetError, match=type(value).__name__):
        budget_scope(value)


def test_a_budget_that_cannot_cover_the_first_prompt_is_refused_before_any_call(shop: str) -> None:
    with ScriptedServer(script=lambda _: "SELECT 1") as server:
        graph = create_text_to_sql_graph(scripted_chat_model(server), shop).compile()
        with pytest.raises(BudgetError, match="first prompt") as caught:
            graph.invoke({"question": "How many?", "budget": Budget(tokens=20)})
        assert caught.value.where == "Budget.tokens"
        assert "schema_tokens" in str(caught.value)
        assert server.requests == 0


def test_a_graph_without_a_schema_does_not_ask_for_a_shorter_one() -> None:
    with ScriptedServer(script=lambda _: "4") as server:
        graph = create_reasoning_graph(scripted_chat_model(server)).compile()
        with pytest.raises(BudgetError, match="shorten the prompt"):
            graph.invoke({"question": "2 + 2?", "budget": Budget(tokens=2)})


def test_a_dollar_limit_without_a_price_is_refused_at_the_start_of_the_graph(shop: str) -> None:
    with ScriptedServer(script=lambda _: "SELECT 1") as server:
        graph = create_text_to_sql_graph(scripted_chat_model(server), shop).compile()
        with pytest.raises(BudgetError, match="no known price"):
            graph.invoke({"question": "How many?", "budget": Budget(usd=0.01)})
        assert server.requests == 0


def test_an_empty_question_is_refused(shop: str) -> None:
    with ScriptedServer(script=lambda _: "SELECT 1") as server:
        graph = create_text_to_sql_graph(scripted_chat_model(server), shop).compile()
        with pytest.raises(TTAError, match="empty"):
            graph.invoke({"question": "  "})


def test_only_chat_models_can_be_budgeted() -> None:
    with pytest.raises(ModelError, match="not a chat model"):
        budgeted("gpt-4")  # type: ignore[arg-type]


def test_on_exhausted_raise_gives_the_dimension_and_the_figures(shop: str) -> None:
    with ScriptedServer(script=lambda _: "SELECT count(*) FROM customers") as server:
        sample = Sample(model=scripted_chat_model(server), n=1)
        spent = sample.invoke({"question": "How many?", "budget": Budget(model_calls=1, on_exhausted="raise")})
        with pytest.raises(BudgetExceededError) as caught:
            sample.invoke({"question": "How many?", "budget": spent["budget"]})
        assert caught.value.dimension == "model_calls"
        assert caught.value.spent == caught.value.limit == 1


def test_the_same_episode_ends_with_its_best_answer_by_default(shop: str) -> None:
    with ScriptedServer(script=lambda _: "SELECT count(*) FROM customers") as server:
        graph = create_text_to_sql_graph(scripted_chat_model(server), shop).compile()
        state = graph.invoke({"question": "How many?", "budget": Budget(model_calls=1)})
        assert state["answer"] == "SELECT count(*) FROM customers"
        assert state["result"]["rows"]
        assert state["budget"].remaining.model_calls == 0


def test_models_are_told_what_remains_in_regimes() -> None:
    tracker = BudgetTracker.start(Budget(tokens=1_000, model_calls=10))
    assert "HIGH" in budget_block(tracker)
    spent = tracker.with_charges({"a": Charge(id="a", usage=Usage(prompt_tokens=850, model_calls=2))})
    block = budget_block(spent)
    assert "tokens: 850 used, 150 remaining (LOW)" in block
    assert "model calls: 2 used, 8 remaining (HIGH)" in block
    critical = tracker.with_charges({"a": Charge(id="a", usage=Usage(prompt_tokens=950))})
    assert "final answer now" in budget_block(critical)
    assert budget_block(BudgetTracker.start(None)) == ""
