"""LangChain's cache of answers: a hit costs nothing, and nobody is served what somebody else's budget cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, StateGraph

from tta_langgraph import Budget, EpisodeState, budget_scope, budgeted
from tta_langgraph.graphs import wrap_agent
from tta_langgraph.testing import ScriptedServer, scripted_chat_model

QUESTION = "Why is the sky blue?"
LONG = "word " * 200


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(script=lambda _: LONG) as running:
        yield running


@pytest.fixture(params=["its own", "global"])
def model(request: pytest.FixtureRequest, server: ScriptedServer) -> Iterator[Any]:
    bare = scripted_chat_model(server)
    if request.param == "global":
        set_llm_cache(InMemoryCache())
        yield bare
        set_llm_cache(None)
    else:
        yield bare.model_copy(update={"cache": InMemoryCache()})


def whole(model: Any, **options: Any) -> str:
    return str(model.invoke(QUESTION, **options).text)


def listened_to(model: Any) -> str:
    """Whole answers are streamed where somebody listens for tokens."""

    def node(state: EpisodeState) -> dict[str, Any]:
        return {"answer": whole(model)}

    builder = StateGraph(EpisodeState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    parts: list[Any] = list(builder.compile().stream({"question": "?"}, stream_mode=["messages", "values"]))
    return str(parts[-1][1]["answer"])


@pytest.fixture(params=["sync", "async", "listened to"])
def call(request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    with asyncio.Runner() as runner:
        ways = {
            "sync": whole,
            "listened to": listened_to,
            "async": lambda model: runner.run(awaited(model), context=copy_context()),
        }
        yield ways[request.param]


async def awaited(model: Any) -> str:
    return str((await model.ainvoke(QUESTION)).text)


def test_an_answer_that_the_budget_cut_is_not_served_to_who_can_pay_for_all_of_it(
    server: ScriptedServer, model: Any, call: Callable[..., str]
) -> None:
    ours = budgeted(model, max_completion_tokens=500)
    with budget_scope(Budget(tokens=60)):
        cut = call(ours)
    with budget_scope(Budget(tokens=5_000)) as rich:
        full = call(ours)
        assert len(full) > len(cut)
        assert rich.tracker.usage.tokens > 200
        spent = rich.tracker.usage
        assert call(ours) == full
        assert rich.tracker.usage == spent, "a hit costs nothing"
    with budget_scope(Budget(tokens=1)):
        assert call(ours) == full, "whoever has nothing left is served all the same"
    assert server.requests == 2


def test_an_answer_that_its_caller_had_cut_is_served_to_who_asks_the_same(server: ScriptedServer, model: Any) -> None:
    ours = budgeted(model)
    with budget_scope(Budget(tokens=5_000)):
        assert whole(ours, max_tokens=20) == whole(ours, max_tokens=20)
        assert server.requests == 1
        assert len(whole(ours, max_tokens=40)) > len(whole(ours, max_tokens=20))


def test_the_default_cap_of_one_wrapper_does_not_cut_the_answers_of_another(server: ScriptedServer, model: Any) -> None:
    with budget_scope(Budget(tokens=5_000)):
        assert len(whole(budgeted(model, max_completion_tokens=9))) < len(whole(budgeted(model)))


@pytest.mark.parametrize("usage", [True, False])
def test_an_agent_that_is_not_ours_is_charged_nothing_for_a_hit(usage: bool) -> None:
    cache = InMemoryCache()
    with ScriptedServer(script=lambda _: "fine") as server:
        bare = scripted_chat_model(server) if usage else FakeListChatModel(responses=["fine"])
        bare = bare.model_copy(update={"cache": cache})
        agent = wrap_agent(RunnableLambda(lambda question: bare.invoke(question).text)).compile()
        first, second = (agent.invoke({"question": QUESTION, "budget": Budget(tokens=5_000)}) for _ in range(2))
    assert first["budget"].usage.tokens > 0
    assert second["budget"].usage.to_dict() == {"tokens": 0}
    assert second["answer"] == first["answer"] == "fine"
