"""Promise 1 for every way to ask for tokens: what was granted replaces all caps, and every number of choices counts."""

from __future__ import annotations

from typing import Any

import pytest

from tta_langgraph import Budget, BudgetError, budget_scope, budgeted
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

LONG = Reply(text="word " * 900)


@pytest.mark.parametrize(
    "asked",
    [
        {"max_tokens": 500},
        {"max_completion_tokens": 500},
        {"extra_body": {"max_tokens": 500}},
        {"extra_body": {"max_completion_tokens": 500}},
        {"extra_body": {"n": 4}},
        {"n": 4, "max_completion_tokens": 500},
    ],
)
def test_no_spelling_of_a_cap_gets_past_the_budget(asked: dict[str, Any]) -> None:
    with ScriptedServer(script=lambda _: LONG) as server, budget_scope(Budget(tokens=100)) as scope:
        budgeted(scripted_chat_model(server)).invoke("x", **asked)
        assert scope.tracker.usage.tokens == server.total <= 100


@pytest.mark.parametrize(
    "configured",
    [
        {"extra_body": {"max_tokens": 500, "n": 2}},
        {"model_kwargs": {"max_completion_tokens": 500}},
        {"n": 3},
    ],
)
def test_nor_does_one_that_the_model_was_made_with(configured: dict[str, Any]) -> None:
    with ScriptedServer(script=lambda _: LONG) as server, budget_scope(Budget(tokens=100)) as scope:
        budgeted(scripted_chat_model(server, **configured)).invoke("x")
        assert scope.tracker.usage.tokens == server.total <= 100


@pytest.mark.parametrize("asked", [{"max_tokens": 7}, {"max_completion_tokens": 7}, {"extra_body": {"max_tokens": 7}}])
def test_a_cap_that_was_asked_for_is_kept(asked: dict[str, Any]) -> None:
    with ScriptedServer(script=lambda _: LONG) as server, budget_scope(Budget(tokens=1_000)):
        budgeted(scripted_chat_model(server)).invoke("x", **asked)
        assert server.log[-1].completion_tokens == 7


def test_what_else_is_in_the_body_gets_there() -> None:
    with ScriptedServer(script=lambda _: "fine") as server, budget_scope(Budget(tokens=1_000)):
        model = budgeted(scripted_chat_model(server, extra_body={"max_tokens": 50, "top_k": 3}))
        model.invoke("x")
        model.invoke("x", extra_body={"min_p": 0.1, "max_tokens": 9})
        configured, called = (request.params for request in server.log)
        assert configured["top_k"] == 3
        assert called["min_p"] == 0.1


@pytest.mark.parametrize("asked", [{"max_tokens": -1}, {"max_completion_tokens": 2.5}, {"extra_body": {"n": "two"}}])
def test_a_cap_that_means_nothing_is_refused_before_any_call(asked: dict[str, Any]) -> None:
    with ScriptedServer(script=lambda _: LONG) as server, budget_scope(Budget(tokens=1_000)):
        with pytest.raises(BudgetError, match="positive whole number"):
            budgeted(scripted_chat_model(server)).invoke("x", **asked)
        assert server.requests == 0
