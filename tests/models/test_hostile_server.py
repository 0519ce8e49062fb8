"""What a server gets wrong must not cost more than it can have, nor stop the calls that follow."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.errors import ModelError
from tta_langgraph.models.counting_margin import SafetyMargin
from tta_langgraph.models.embedded_engine import EmbeddedEngine, EngineSettings
from tta_langgraph.models.errors import UnsendableError
from tta_langgraph.models.openai_compatible import chat_openai_server
from tta_langgraph.models.usage import consumed
from tta_langgraph.testing import Reply, ScriptedServer


def answer_with(usage: dict[str, Any]) -> Reply:
    """A whole answer whose report is ours."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "SELECT 1"}}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return Reply(body=json.dumps(body))


def result_with(prompt: Any, completion: Any) -> ChatResult:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    message = AIMessage("four little words here")
    return ChatResult(generations=[ChatGeneration(message=message)], llm_output={"token_usage": usage})


@pytest.mark.parametrize("nonsense", [10**9, 2**63, math.nan, math.inf, "many", -7])
def test_a_report_that_cannot_be_is_replaced_by_our_own_count(nonsense: Any) -> None:
    used = consumed(result_with(nonsense, nonsense), prompt=11, count_text=lambda text: len(text.split()), exact=False)
    assert (used.prompt, used.completion) == (11, 4)
    used = consumed(result_with(nonsense, 9), prompt=11, count_text=lambda text: len(text.split()), exact=False)
    assert (used.prompt, used.completion) == (11, 9)


def test_a_large_report_that_can_be_is_believed() -> None:
    used = consumed(result_with(4_000, 120_000), prompt=11, count_text=len, exact=False)
    assert (used.prompt, used.completion) == (4_000, 120_000)


def test_one_absurd_report_does_not_teach_the_margin() -> None:
    margin = SafetyMargin(1.15)
    before = margin.bound(100), margin.bound(10_000)
    for estimated in (8, 1_000):
        margin.observe(estimated=estimated, reported=10**9)
    assert (margin.bound(100), margin.bound(10_000)) == before
    margin.observe(estimated=8, reported=4_000)  # a long system prompt of the server's own
    assert margin.bound(8) >= 4_000


def test_calls_go_on_after_a_server_reported_nonsense() -> None:
    with ScriptedServer([answer_with({"prompt_tokens": 10**9, "completion_tokens": 10**9}), "SELECT 2"]) as server:
        model = budgeted(chat_openai_server(server.base_url, max_tokens=20, model_kwargs={"user": "nonsense"}))
        with budget_scope(Budget(tokens=500)) as scope:
            assert model.invoke("one").content == "SELECT 1"
            assert model.invoke("two").content == "SELECT 2"
        assert scope.tracker.usage.tokens <= 500


def test_a_text_that_cannot_be_sent_costs_nothing() -> None:
    with ScriptedServer() as server:
        model = budgeted(chat_openai_server(server.base_url))
        with budget_scope(Budget(tokens=500)) as scope, pytest.raises(UnsendableError, match="surrogate"):
            model.invoke([HumanMessage("caf\ud800")])
        assert scope.tracker.usage.tokens == 0
        assert not server.log


@pytest.mark.parametrize("address", ["http://localhost:99999/v1", "http://[::1/v1", "http://ho st:8000", "  ", None, 5])
def test_a_mistyped_address_is_said_to_be_one(address: Any) -> None:
    with pytest.raises(ModelError, match=r"not the address.*http://host:8000/v1"):
        chat_openai_server(address, "m", check=False)


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": "x"}, {"connect_timeout": -1}, {"extra_body": "x"}, {"temperature": "hot"}]
)
def test_a_wrong_option_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=next(iter(options))):
        chat_openai_server("http://localhost:1/v1", "m", check=False, **options)


def test_a_password_in_an_address_is_not_shown() -> None:
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9") as caught:
        chat_openai_server("http://me:secret@127.0.0.1:9/v1")
    assert "secret" not in str(caught.value)


def test_samples_that_fill_the_window_together_are_told_what_to_lower() -> None:
    settings = EngineSettings(path=Path("m.gguf"), context=512, parallel=4, threads=None)
    refusal = EmbeddedEngine(settings)._refusal({"message": "Context size has been exceeded.", "type": "server_error"})
    assert "512 tokens" in str(refusal)
    assert "max_tokens or n" in str(refusal)
    assert not getattr(refusal, "nothing_sent", False)  # work was done, and is charged
