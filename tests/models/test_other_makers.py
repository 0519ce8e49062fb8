"""Clients of other makers: capped, not retried behind the meter's back, charged what was written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, SimpleChatModel
from langchain_core.messages import BaseMessage

from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.models.adapter import Adapter
from tta_langgraph.models.failures import Retries
from tta_langgraph.testing import Reply, ScriptedServer

LONG = Reply(text="word " * 900)
ONCE = Retries(attempts=1)


def groq(server: ScriptedServer, **options: Any) -> BaseChatModel:
    made = pytest.importorskip("langchain_groq", reason="langchain-groq is not installed (extra: dev)")
    return made.ChatGroq(model="m", api_key="k", base_url=server.base_url.removesuffix("/v1"), **options)


def mistral(server: ScriptedServer, **options: Any) -> BaseChatModel:
    made = pytest.importorskip("langchain_mistralai", reason="langchain-mistralai is not installed (extra: dev)")
    return made.ChatMistralAI(model="m", api_key="k", endpoint=server.base_url, **options)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=lambda _: LONG) as server:
        yield server


MAKERS = pytest.mark.parametrize("made", [groq, mistral])


@MAKERS
@pytest.mark.parametrize("script", [Reply(status=500), Reply(die_after_tokens=0)], ids=["500", "dropped"])
def test_a_failed_attempt_is_the_only_one_that_the_budget_did_not_ask_for(
    server: ScriptedServer, made: Callable[..., BaseChatModel], script: Reply
) -> None:
    server.use(lambda _: script)
    model = budgeted(made(server, max_retries=2), retries=ONCE)
    with budget_scope(Budget(tokens=500)) as scope, pytest.raises(Exception):  # noqa: B017
        model.invoke("x", max_tokens=20)
    assert server.requests == 1
    assert scope.tracker.usage.model_calls == 1


@MAKERS
def test_every_token_of_the_servers_log_is_charged_and_no_more(
    server: ScriptedServer, made: Callable[..., BaseChatModel]
) -> None:
    model = budgeted(made(server))
    with budget_scope(Budget(tokens=300)) as scope:
        model.invoke("x", max_tokens=20)
        for _ in model.stream("x", max_tokens=20):
            pass
        model.invoke("x")
        assert scope.tracker.usage.tokens == server.total <= 300


def openai(server: ScriptedServer) -> BaseChatModel:
    made = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed (extra: dev)")
    return made.ChatOpenAI(model="m", api_key="k", base_url=server.base_url)


@pytest.mark.parametrize("made", [openai, groq, mistral])
async def test_sync_and_async_calls_of_one_model_do_not_break_each_others_connections(
    server: ScriptedServer, made: Callable[..., BaseChatModel]
) -> None:
    server.use(lambda _: "fine")
    model = budgeted(made(server), retries=ONCE)
    with budget_scope(Budget(tokens=5_000, seconds=60)):
        for _ in range(2):
            assert (await model.ainvoke("x")).text == "fine"
            assert "".join([chunk.text for chunk in await asyncio.to_thread(lambda: list(model.stream("x")))]) == "fine"
            assert (await asyncio.to_thread(model.invoke, "x")).text == "fine"
    assert server.requests == 6


def test_an_azure_deployment_is_known_by_its_name() -> None:
    made = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed (extra: dev)")
    model = made.AzureChatOpenAI(
        api_key="k", azure_endpoint="https://x.test", api_version="2024-10-21", azure_deployment="gpt-4o"
    )
    assert Adapter.of(model).name == "gpt-4o"


class Pipelined(SimpleChatModel):
    """Heeds no option of a call but `pipeline_kwargs`, as LangChain's `ChatHuggingFace` does around a pipeline."""

    llm: Any
    """What has the options that always hold."""

    @property
    def _llm_type(self) -> str:
        return "pipelined"

    def _call(self, messages: list[BaseMessage], stop: list[str] | None = None, *args: Any, **kwargs: Any) -> str:
        return "word " * {**self.llm.pipeline_kwargs, **kwargs.get("pipeline_kwargs", {})}["max_new_tokens"]


@pytest.mark.parametrize("options", [{"max_tokens": 5}, {"pipeline_kwargs": {"max_new_tokens": 5}}], ids=str)
def test_the_granted_cap_gets_to_a_pipeline_in_this_process(options: dict[str, Any]) -> None:
    model = Pipelined(llm=SimpleNamespace(pipeline_kwargs={"max_new_tokens": 60}))
    assert Adapter.of(model).default_cap == 60
    with budget_scope(Budget(tokens=500)):
        assert budgeted(model).invoke("x", **options).text == "word " * 5
    with budget_scope(Budget(tokens=80)) as scope:
        assert len(budgeted(model).invoke("x").text.split()) == scope.tracker.usage.completion_tokens < 60
