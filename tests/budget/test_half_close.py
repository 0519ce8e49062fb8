"""A call that is left early: its server is told at once, and what it had sent until then is read, however late."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
import uuid
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx
import pytest

from tta_langgraph import Budget, BudgetExceededError, budget_scope, budgeted
from tta_langgraph.budget import Charge
from tta_langgraph.models import reader
from tta_langgraph.models.failures import Retries
from tta_langgraph.models.half_close import LINE, Line, show_lines
from tta_langgraph.models.metered import BudgetedChatModel
from tta_langgraph.models.received import habits_of
from tta_langgraph.testing import Reply, ScriptedServer, scripted_chat_model

CAP = 400
LONG = Reply(text="word " * 300, stream_interval=0.005, tokens_per_event=2)


@contextlib.asynccontextmanager
async def model_and_server(
    *replies: Reply, half_open: bool = False
) -> AsyncIterator[tuple[BudgetedChatModel, ScriptedServer]]:
    """A model of which a first call has taught how its server streams, and that server."""
    first = Reply("a few words of an answer", tokens_per_event=2)
    async with ScriptedServer([first, *replies], model=f"model-{uuid.uuid4().hex}", half_open=half_open) as running:
        client = scripted_chat_model(running)
        model = budgeted(client, lost="received", retries=Retries(attempts=1), max_completion_tokens=CAP)
        with budget_scope(Budget(tokens=10_000)):
            await model.ainvoke("first")
        yield model, running


@contextlib.asynccontextmanager
async def busy_event_loop() -> AsyncIterator[None]:
    """Leaves the event loop a turn every 50 ms, as a process does that has more streams than it can read."""

    async def busy() -> None:
        while True:
            time.sleep(0.05)  # noqa: ASYNC251 - blocking is the point
            await asyncio.sleep(0)

    task = asyncio.create_task(busy())
    yield
    task.cancel()


async def cancelled(model: BudgetedChatModel, running: ScriptedServer) -> Charge:
    """The charge of a call that is cancelled while the server writes."""
    known = running.requests
    with budget_scope(Budget(tokens=10_000)) as scope:
        task = asyncio.create_task(model.ainvoke("tell me"))
        while running.requests == known or running.log[-1].completion_tokens < 10:
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.to_thread(running.wait_for, lambda s: s.in_flight == 0)
    [charge] = scope.tracker.charges.values()
    return charge


async def test_a_client_that_is_too_busy_to_read_is_charged_what_its_server_had_written() -> None:
    async with model_and_server(LONG) as (model, running):
        async with busy_event_loop():
            charge = await cancelled(model, running)
        lost = running.log[-1]
        assert lost.status == "disconnected"
        assert lost.completion_tokens <= charge.usage.completion_tokens <= lost.completion_tokens + 20


async def test_an_answer_that_begins_while_a_busy_client_leaves_is_charged_what_was_written() -> None:
    late = Reply(text="word " * 300, latency=0.6, stream_interval=0.005, tokens_per_event=2)
    async with model_and_server(late) as (model, running):
        async with busy_event_loop():
            with budget_scope(Budget(tokens=10_000)) as scope:
                call = asyncio.create_task(model.ainvoke("tell me"))
                while running.requests < 2:
                    await asyncio.sleep(0)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                await asyncio.to_thread(running.wait_for, lambda s: s.in_flight == 0)
        [charge] = scope.tracker.charges.values()
        written = running.log[-1].completion_tokens
        assert written <= charge.usage.completion_tokens <= written + 20


async def test_a_server_that_goes_on_writing_is_charged_in_full_and_not_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "FAREWELL", 0.5)
    monkeypatch.setattr(reader, "FAREWELLS", 4)
    slow = Reply("word " * 300, stream_interval=0.1, tokens_per_event=2)
    async with model_and_server(slow, slow, half_open=True) as (model, running):
        charge = await cancelled(model, running)
        assert charge.usage.completion_tokens == CAP
        assert not habits_of(running.model, f"{running.base_url}/").heeds
        assert (await cancelled(model, running)).usage.tokens >= running.log[-1].tokens
        assert running.disconnects == 2


async def test_an_answer_that_ended_unread_is_charged_as_reported_and_its_connection_not_used_again() -> None:
    async with model_and_server(Reply("word " * 30), Reply("four"), half_open=True) as (model, running):
        with budget_scope(Budget(tokens=10_000)) as scope:
            call = asyncio.create_task(model.ainvoke("tell me"))
            while running.requests < 2:
                await asyncio.sleep(0)
            running.wait_for(lambda s: s.in_flight == 0)  # blocks the event loop
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await model.ainvoke("again")
        charged = [charge.usage.tokens for charge in scope.tracker.charges.values()]
        assert charged == [entry.tokens for entry in running.log[1:]]


@pytest.mark.parametrize(("ending", "read_to_its_end"), [("cut", True), ("whole", True), ("reset", False)])
async def test_however_a_server_ends_a_stream_all_of_it_was_read_unless_it_was_reset(
    ending: str, read_to_its_end: bool
) -> None:
    async def answer(request: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nword\r\n")
        await request.read()
        match ending:
            case "whole":
                writer.write(b"0\r\n\r\n")
            case "reset":
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    line = Line()
    async with listener, httpx.AsyncClient(trust_env=False) as client:
        show_lines(SimpleNamespace(root_async_client=SimpleNamespace(_client=client)))
        token = LINE.set(line)
        with contextlib.suppress(httpx.TransportError):
            async with client.stream("GET", f"http://127.0.0.1:{port}") as response:
                line.leave()
                await response.aread()
        LINE.reset(token)
    assert line.half_closed
    assert line.drained is read_to_its_end


def test_a_sync_call_cut_off_at_its_deadline_is_charged_what_its_server_had_written() -> None:
    slow = Reply("word " * 300, stream_interval=0.02, tokens_per_event=2)
    with ScriptedServer(["a few words", slow], model=f"model-{uuid.uuid4().hex}") as running:
        model = budgeted(scripted_chat_model(running), lost="received", max_completion_tokens=CAP)
        with budget_scope(Budget(tokens=10_000)):
            model.invoke("first")
        with budget_scope(Budget(tokens=10_000, seconds=1)) as scope, pytest.raises(BudgetExceededError):
            model.invoke("tell me")
        running.wait_for(lambda s: s.in_flight == 0)
        [charge] = scope.tracker.charges.values()
        # On a busy machine the deadline may pass before the call has reached its server.
        assert sum(entry.completion_tokens for entry in running.log[1:]) <= charge.usage.completion_tokens < CAP


@pytest.mark.parametrize("tokens_per_event", [1, 4])
async def test_words_of_uneven_length_are_not_taken_for_events_of_several_tokens(tokens_per_event: int) -> None:
    answer = Reply("a b c d e f g h word word word word", tokens_per_event=tokens_per_event)
    async with ScriptedServer([answer], model=f"model-{uuid.uuid4().hex}") as running:
        model = budgeted(scripted_chat_model(running), lost="received")
        with budget_scope(Budget(tokens=10_000)):
            await model.ainvoke("tell me")
        event = habits_of(running.model, f"{running.base_url}/").event
    assert event == 1 if tokens_per_event == 1 else event >= tokens_per_event
