"""The chat model of the kit is a real client of a real socket."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.errors import ModelError
from tta_langgraph.testing import Reply, ScriptedServer, ToolCall, count_tokens, scripted_chat_model

MESSAGES = [SystemMessage("You write SQL."), HumanMessage("How many albums?")]


@tool
def run_sql(sql: str) -> str:
    """Runs one SQL query."""
    return sql


def test_usage_of_the_message_is_the_servers_log() -> None:
    with ScriptedServer(["SELECT count(*) FROM albums"]) as server:
        message = scripted_chat_model(server, max_tokens=4).invoke(MESSAGES)
    assert message.usage_metadata is not None
    assert message.usage_metadata["input_tokens"] == server.prompt_tokens
    assert message.usage_metadata["output_tokens"] == server.completion_tokens == 4


def test_prompts_are_counted_as_the_server_bills_them() -> None:
    conversation = [
        *MESSAGES,
        AIMessage("", tool_calls=[{"name": "run_sql", "args": {"sql": "SELECT 1"}, "id": "1"}]),
        ToolMessage("[(1,)]", tool_call_id="1"),
    ]
    with ScriptedServer() as server:
        model = scripted_chat_model(server)
        model.invoke(MESSAGES)
        model.bind_tools([run_sql]).invoke(conversation)
        counted = [
            model.get_num_tokens_from_messages(MESSAGES),
            model.get_num_tokens_from_messages(conversation, tools=[run_sql]),
        ]
        assert [model.count_prompt_tokens(MESSAGES)] == counted[:1]
        assert model.get_num_tokens("SELECT 1") == count_tokens("SELECT 1")
    assert counted == [request.prompt_tokens for request in server.log]


def test_a_model_that_does_not_count_is_the_plain_client() -> None:
    with ScriptedServer(["four"]) as server:
        model = scripted_chat_model(server, counts=False)
        assert type(model).__module__.startswith("langchain_openai")
        assert model.invoke("2 + 2?").content == "four"


def test_tool_calls_arrive_parsed() -> None:
    reply = Reply(tool_calls=[ToolCall(name="run_sql", arguments={"sql": "SELECT 1"})])
    with ScriptedServer([reply, reply]) as server:
        model = scripted_chat_model(server).bind_tools([run_sql])
        whole = model.invoke(MESSAGES)
        streamed: AIMessageChunk | None = None
        for chunk in model.stream(MESSAGES):
            streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    for message in (whole, streamed):
        [call] = message.tool_calls
        assert (call["name"], call["args"]) == ("run_sql", {"sql": "SELECT 1"})


async def test_a_cancelled_call_is_seen_as_a_disconnect() -> None:
    async with ScriptedServer([Reply(hang=True)]) as server:
        call = asyncio.create_task(scripted_chat_model(server).ainvoke(MESSAGES))
        await asyncio.to_thread(server.wait_for, lambda s: s.in_flight == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.to_thread(server.wait_for, lambda s: s.disconnects == 1)


async def test_a_stream_left_in_the_middle_is_seen_as_a_disconnect() -> None:
    async with ScriptedServer([Reply("word " * 400, stream_interval=0.01)]) as server:
        stream = scripted_chat_model(server).astream(MESSAGES)
        async for chunk in stream:
            if chunk.content:
                break
        await stream.aclose()
        await asyncio.to_thread(server.wait_for, lambda s: s.disconnects == 1)
    assert 0 < server.completion_tokens < 400


async def test_one_model_serves_async_calls_and_sync_streams_that_have_a_deadline() -> None:
    with ScriptedServer(lambda _: "four") as server:
        model = budgeted(scripted_chat_model(server))
        with budget_scope(Budget(seconds=60)) as scope:
            assert (await model.ainvoke("2 + 2?")).text == "four"
            chunks = await asyncio.to_thread(lambda: list(model.stream("2 + 2?")))
        assert "".join(chunk.text for chunk in chunks) == "four"
        assert scope.tracker.usage.tokens == server.total


def test_retries_are_requests_of_their_own() -> None:
    with ScriptedServer([Reply(status=500), Reply(status=429, headers={"Retry-After": "0"}), "done"]) as server:
        assert scripted_chat_model(server, max_retries=2).invoke(MESSAGES).content == "done"
    assert [request.status for request in server.log] == ["error", "error", "ok"]


def test_no_retries_unless_asked_for() -> None:
    with ScriptedServer([Reply(status=500), "done"]) as server:
        with pytest.raises(Exception, match="refuses"):
            scripted_chat_model(server).invoke(MESSAGES)
        assert server.requests == 1


def test_streams_come_with_and_without_usage() -> None:
    with ScriptedServer() as server:
        with_usage = list(scripted_chat_model(server, stream_usage=True).stream(MESSAGES))
        without = list(scripted_chat_model(server, stream_usage=False).stream(MESSAGES))
    assert sum(chunk.usage_metadata["total_tokens"] for chunk in with_usage if chunk.usage_metadata) * 2 == server.total
    assert not any(chunk.usage_metadata for chunk in without)


def test_a_server_that_does_not_run_is_a_clear_error() -> None:
    with pytest.raises(ModelError, match="does not run"):
        scripted_chat_model(ScriptedServer())
