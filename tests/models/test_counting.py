"""Counting before the call: which counter is taken, what it promises, and how it learns."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from tta_langgraph.models import counting_text
from tta_langgraph.models.counting import (
    SafetyMargin,
    acount_messages,
    counter_for,
    estimate_tokens,
    margin_for,
)
from tta_langgraph.models.counting_text import TextCounter
from tta_langgraph.models.openai_compatible import chat_openai_server
from tta_langgraph.models.prompt_count import count_prompt
from tta_langgraph.testing import ScriptedServer
from tta_langgraph.testing import count_prompt_tokens as truth

PROMPT = [SystemMessage("You write SQL."), HumanMessage("How many singers are there per country?")]


class _Counting(FakeListChatModel):
    """A model that counts by itself."""

    def count_prompt_tokens(self, messages: list[BaseMessage], **kwargs: Any) -> int:
        return 7 + len(kwargs.get("tools") or ())


@pytest.fixture
def no_encodings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """tiktoken can fetch nothing."""

    def unreachable(_: str) -> bytes:
        raise ConnectionError("no network")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tiktoken.load.read_file", unreachable)
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    monkeypatch.setattr(counting_text, "_LOADERS", {})


def test_a_model_that_counts_by_itself_is_asked_with_the_arguments_of_the_call() -> None:
    counter = counter_for(_Counting(responses=["x"]))
    assert counter.exact
    assert counter.count_messages(PROMPT) == 7
    assert counter.count_messages(PROMPT, tools=[{}, {}]) == 9


def test_the_same_model_keeps_its_counter_and_equal_models_share_their_margin() -> None:
    first, second = _Counting(responses=["x"]), _Counting(responses=["x"])
    assert counter_for(first) is counter_for(first)
    assert margin_for(first) is margin_for(second)


def test_a_server_with_a_tokenize_endpoint_counts_exactly_and_is_asked_once_per_prompt() -> None:
    with ScriptedServer() as server:
        model = chat_openai_server(server.base_url)
        counter = counter_for(model)
        assert counter.exact
        assert counter.name.startswith("vllm:")
        count = counter.count_messages(PROMPT)
        reported = model.invoke(PROMPT).usage_metadata
        assert reported is not None
        assert count == reported["input_tokens"]
        assert counter.count_text("SELECT 1") > 0
        remembered = counter.count_messages(PROMPT)
    assert counter.count_messages(PROMPT) == remembered == count  # the server is gone, the count is not


async def test_a_server_that_is_slow_to_count_leaves_the_event_loop_free_and_is_estimated() -> None:
    async with ScriptedServer(tokenize_latency=60) as server:
        model = chat_openai_server(server.base_url)
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.01)

        awake = asyncio.create_task(turn())
        count = await acount_messages(model, PROMPT)
        awake.cancel()
        assert count > 0
        assert turns > 10
        assert not counter_for(model).exact


def test_a_server_without_the_endpoint_is_counted_here_with_a_margin(no_encodings: None) -> None:
    with ScriptedServer(tokenize_endpoint=False) as server:
        model = chat_openai_server(server.base_url)
        counter = counter_for(model)
        assert not counter.exact
        assert counter.count_messages(PROMPT) > 0
        assert margin_for(model).factor > 1


def test_a_hosted_service_is_never_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    openai = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")

    def asked(*_: object, **__: object) -> None:
        pytest.fail("a hosted service was asked to count")

    monkeypatch.setattr("httpx.Client.post", asked)
    model = openai.ChatOpenAI(model="gpt-4o-mini", api_key="none")
    assert counter_for(model).count_messages(PROMPT) > 0


def test_without_a_network_counting_goes_on_and_says_so_once(
    no_encodings: None, caplog: pytest.LogCaptureFixture
) -> None:
    counter = TextCounter("o200k_base")
    assert counter.count_text("How many singers?") >= 4
    assert counter.count_text("How many concerts?") >= 4
    assert counter.name == "estimate"
    warnings = [record.getMessage() for record in caplog.records if "estimated" in record.getMessage()]
    assert len(warnings) == 1
    assert "TIKTOKEN_CACHE_DIR" in warnings[0]


def test_a_network_that_hangs_holds_counting_up_only_once(no_encodings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = threading.Event()
    monkeypatch.setattr("tiktoken.load.read_file", lambda _: stuck.wait(60) and b"")
    monkeypatch.setattr(counting_text, "_PATIENCE_SECONDS", 0.05)
    try:
        assert TextCounter("cl100k_base").count_text("hello") > 0
        assert TextCounter("cl100k_base").name == "estimate"
    finally:
        stuck.set()


def test_tools_tool_calls_names_and_formats_make_a_prompt_longer(no_encodings: None) -> None:
    counter = TextCounter("o200k_base")
    bare = counter.count_messages(PROMPT)
    tool = {"type": "function", "function": {"name": "run_sql", "description": "Runs a query", "parameters": {}}}
    called = AIMessage("", tool_calls=[{"name": "run_sql", "args": {"query": "SELECT 1"}, "id": "1"}])
    assert counter.count_messages(PROMPT, tools=[tool]) > bare
    assert counter.count_messages(PROMPT, response_format={"type": "json_schema", "json_schema": tool}) > bare
    with_call = counter.count_messages([*PROMPT, called])
    assert with_call > counter.count_messages([*PROMPT, AIMessage("")])
    assert counter.count_messages([*PROMPT, called, ToolMessage("1", tool_call_id="1")]) > with_call


def test_the_estimate_bounds_the_kits_tokenizer_on_sql() -> None:
    schema = "CREATE TABLE singer (singer_id INTEGER PRIMARY KEY, name TEXT, net_worth_millions REAL);\n" * 5
    assert estimate_tokens(schema) * 1.15 >= truth([{"role": "user", "content": schema}]) * 0.9


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_estimate_never_shrinks_when_text_is_added(first: str, second: str) -> None:
    assert estimate_tokens(first + " " + second) >= max(estimate_tokens(first), estimate_tokens(second)) - 20


@given(st.lists(st.tuples(st.integers(1, 20_000), st.integers(1, 40_000)), max_size=40))
def test_the_bound_never_falls_below_anything_reported(reports: list[tuple[int, int]]) -> None:
    margin = SafetyMargin(1.15, offset=8)
    for estimated, reported in reports:
        margin.observe(estimated=estimated, reported=reported)
    assert all(margin.bound(estimated) >= reported for estimated, reported in reports)


def test_a_margin_that_was_too_wide_shrinks_towards_what_was_seen() -> None:
    margin = SafetyMargin(1.5)
    for _ in range(400):
        margin.observe(estimated=1_000, reported=1_010)
    assert 1.01 <= margin.factor < 1.06


def test_one_short_prompt_with_a_long_template_does_not_inflate_the_bound_of_long_prompts() -> None:
    margin = SafetyMargin(1.15)
    margin.observe(estimated=8, reported=38)
    assert margin.bound(8) >= 38
    assert margin.bound(10_000) < 10_000 * 1.15 + 64


def test_an_exact_count_starts_without_a_margin_and_gets_one_when_it_proves_wrong() -> None:
    margin = SafetyMargin(1.0, exact=True)
    assert margin.bound(1_000) == 1_000
    margin.observe(estimated=1_000, reported=1_200)
    assert margin.bound(1_000) >= 1_200


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0KGgo" * 5_000}}


def test_what_a_picture_cost_is_learned_for_pictures_and_not_for_text(no_encodings: None) -> None:
    model = FakeListChatModel(responses=["a cat"], name="sees")
    seen, said = [HumanMessage(["What is this?", PICTURE])], [HumanMessage("word " * 400)]
    before = count_prompt(model, said).bound
    count_prompt(model, seen).learn(26_000)  # as one of a small model's does
    assert count_prompt(model, said).bound <= before
    assert 26_000 <= count_prompt(model, seen).bound < 27_000
    assert count_prompt(model, [HumanMessage(["Compare.", PICTURE, PICTURE])]).bound > 50_000


@pytest.mark.parametrize(
    "block",
    [
        PICTURE,
        {"type": "image", "base64": "iVBORw0KGgo" * 5_000, "mime_type": "image/png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" * 5_000}},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image", "source": {"data": "iVBORw0KGgo"}}]},
        {"type": "input_audio", "input_audio": {"data": "UklGRg" * 5_000, "format": "wav"}},
        {"type": "file", "file_id": "file-1"},
    ],
)
def test_a_picture_is_counted_as_one_in_whatever_form(no_encodings: None, block: dict[str, Any]) -> None:
    counted = count_prompt(FakeListChatModel(responses=["a cat"], name="m"), [HumanMessage([block])])
    assert counted.media == 1
    assert 500 < counted.count < 5_000


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "word " * 3_000, "signature": "x"},
        {"type": "reasoning", "reasoning": "word " * 3_000},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "word " * 3_000}]},
        {"type": "tool_use", "name": "find", "input": {"text": "word " * 3_000}, "id": "1"},
    ],
)
def test_long_texts_inside_of_blocks_are_counted_as_texts(no_encodings: None, block: dict[str, Any]) -> None:
    counter = TextCounter("o200k_base")
    assert counter.count_messages([AIMessage([block])]) >= 3_000


def test_the_margin_states_itself_for_the_trace() -> None:
    margin = SafetyMargin(1.15, offset=4)
    margin.observe(estimated=100, reported=110)
    stated = margin.to_dict()
    assert stated["prior"] == 1.15
    assert stated["observations"] == 1
    assert stated["factor"] == pytest.approx(margin.factor, abs=1e-4)
