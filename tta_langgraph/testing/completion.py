"""One chat completion of the scripted server, from arrival to its last token."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tta_langgraph.testing.generation import Choice, plan_choice, usage_body
from tta_langgraph.testing.http import Exchange
from tta_langgraph.testing.log import LoggedRequest, RequestStatus
from tta_langgraph.testing.replies import Reply, ScriptError
from tta_langgraph.testing.tokens import count_prompt_tokens

if TYPE_CHECKING:
    from tta_langgraph.testing.server import ScriptedServer

TICK = 0.005
"""Seconds between two looks at the clock while tokens are produced; faster tokens come several at a time."""


class ChatCompletion:
    """Answers one request of `/v1/chat/completions` and keeps its entry in the log true."""

    def __init__(self, server: ScriptedServer, exchange: Exchange) -> None:
        self._server = server
        self._exchange = exchange

    async def answer(self) -> None:
        """Answers the request; returns when the response is written or refused.

        Raises:
            asyncio.CancelledError: the client left, or the server stops.
        """
        try:
            body = self._exchange.json_body()
            request = self._log_request(body)
        except (ValueError, KeyError, TypeError) as error:
            self._refuse(400, f"not a chat completion request: {error!r}")
            return
        try:
            await self._produce(request, body)
        except asyncio.CancelledError:
            self._close(request, "disconnected" if self._exchange.client_gone else request.status)
            raise
        finally:
            self._close(request, "error")

    def _close(self, request: LoggedRequest, status: RequestStatus, http_status: int | None = None) -> None:
        """Completes the log's entry, once, before the last byte: who has a reply finds it in the log."""
        if request.finished_at is None:
            request.status, request.http_status = status, http_status
            request.finished_at = time.monotonic()
            self._server.release()

    def _log_request(self, body: Mapping[str, Any]) -> LoggedRequest:
        request = LoggedRequest(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            index=0,
            received_at=time.monotonic(),
            messages=body["messages"],
            params={key: value for key, value in body.items() if key != "messages"},
            headers=self._exchange.headers,
            n=int(body.get("n") or 1),
        )
        self._server.admit(request)
        return request

    async def _produce(self, request: LoggedRequest, body: Mapping[str, Any]) -> None:
        prompt_tokens = count_prompt_tokens(request.messages, body.get("tools"))
        room = self._server.max_model_len - prompt_tokens
        cap = body.get("max_completion_tokens", body.get("max_tokens"))
        if cap is not None and cap < 1:
            return self._fail(request, 400, f"max_tokens must be at least 1, got {cap}")
        if room < (cap or 1):
            limit, asked = self._server.max_model_len, prompt_tokens + (cap or 1)
            return self._fail(
                request,
                400,
                f"This model's maximum context length is {limit} tokens. However, you requested {asked} "
                f"tokens ({prompt_tokens} in the messages, {cap or 1} in the completion).",
            )
        try:
            reply = self._server.script.reply_to(request)
        except ScriptError as error:
            return self._fail(request, 400, str(error))
        latency = self._server.latency if reply.latency is None else reply.latency
        choices = [plan_choice(reply, index, body, cap or room) for index in range(request.n)]
        if reply.hang:
            request.status = "hanging"
            request.prompt_tokens = prompt_tokens
            await asyncio.get_running_loop().create_future()
        refused = reply.status >= 400 and not any(choice.pieces for choice in choices)
        if not refused and reply.body is None:
            request.prompt_tokens = prompt_tokens
        await asyncio.sleep(latency)
        headers = list(reply.headers.items())
        if reply.body is not None:
            self._close(request, "error", reply.status)
            return self._exchange.respond(reply.status, reply.body.encode(), "text/html", headers)
        if refused:
            return self._fail(request, reply.status, "the script refuses this request", headers)
        streaming = bool(body.get("stream"))
        if streaming:
            self._exchange.start_events(200, headers)
            for index in range(len(choices)):
                self._send_delta(request, index, {"role": "assistant", "content": ""})
        spaced = not streaming and reply.keep_alive is not None and reply.status == 200
        if spaced:
            self._exchange.start_json(200, headers)
        if not await self._decode(request, reply, choices, streaming):
            self._close(request, "error")
            return self._exchange.abort()
        usage = usage_body(reply, prompt_tokens, choices)
        if reply.status != 200:
            message = "the script fails this request after its work"
            if streaming:
                return self._fail_stream(request, reply.status, message)
            return self._fail(request, reply.status, message, headers)
        if streaming:
            self._close(request, "ok", 200)
            options = body.get("stream_options") or {}
            self._finish_stream(request, choices, usage if options.get("include_usage") else None)
        else:
            self._close(request, "ok", 200)
            whole = self._whole(request, choices, usage)
            self._exchange.end_json(whole) if spaced else self._exchange.respond_json(200, whole, headers)
        return None

    async def _decode(self, request: LoggedRequest, reply: Reply, choices: Sequence[Choice], streaming: bool) -> bool:
        """Produces the tokens step by step, one per choice; False where the script dies on the way."""
        interval = self._server.stream_interval if reply.stream_interval is None else reply.stream_interval
        steps = max(len(choice.pieces) for choice in choices)
        start = time.monotonic()
        for step in range(steps):
            if (wait := start + step * interval - time.monotonic()) > 0:
                await self._wait(max(wait, TICK), reply.keep_alive, streaming)
            for index, choice in enumerate(choices):
                if step >= len(choice.pieces):
                    continue
                if reply.die_after_tokens is not None and request.completion_tokens >= reply.die_after_tokens:
                    return False
                request.completion_tokens += 1
                end, size = step + 1, reply.tokens_per_event
                if streaming and (end % size == 0 or end == len(choice.pieces)):
                    self._send_pieces(request, index, choice, step - step % size, end)
            if streaming:
                await asyncio.sleep(0)  # lets a disconnect cancel a stream that has no interval
        return reply.die_after_tokens is None

    async def _wait(self, seconds: float, keep_alive: float | None, streaming: bool) -> None:
        """Waits for the next token, and says now and then that it does."""
        while keep_alive is not None and seconds > keep_alive:
            await asyncio.sleep(keep_alive)
            self._exchange.send_comment("still at it") if streaming else self._exchange.send_space()
            seconds -= keep_alive
        await asyncio.sleep(seconds)

    # Bodies

    def _fail(self, request: LoggedRequest, status: int, message: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._close(request, "error", status)
        self._refuse(status, message, headers)

    def _fail_stream(self, request: LoggedRequest, status: int, message: str) -> None:
        """Ends a stream that has begun with an error event: its status line has been sent long ago."""
        self._close(request, "error", 200)
        self._exchange.send_event(json.dumps({"error": _error_body(status, message)}))
        self._exchange.send_event("[DONE]")
        self._exchange.end_events()

    def _refuse(self, status: int, message: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._exchange.respond_json(status, {"error": _error_body(status, message)}, headers)

    def _whole(
        self, request: LoggedRequest, choices: Sequence[Choice], usage: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        body = self._head(request, "chat.completion")
        body["choices"] = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text}
                | ({"tool_calls": choice.tool_calls} if choice.tool_calls else {}),
                "logprobs": _logprobs(choice, 0, len(choice.pieces)),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices)
        ]
        if usage is not None:
            body["usage"] = usage
        return body

    def _finish_stream(
        self, request: LoggedRequest, choices: Sequence[Choice], usage: Mapping[str, Any] | None
    ) -> None:
        for index, choice in enumerate(choices):
            delta: dict[str, Any] = {}
            if choice.tool_calls:
                delta["tool_calls"] = [{"index": at, **call} for at, call in enumerate(choice.tool_calls)]
            self._send_delta(request, index, delta, finish_reason=choice.finish_reason)
        if usage is not None:
            tail = self._head(request, "chat.completion.chunk") | {"choices": [], "usage": usage}
            self._exchange.send_event(json.dumps(tail))
        self._exchange.send_event("[DONE]")
        self._exchange.end_events()

    def _send_pieces(self, request: LoggedRequest, index: int, choice: Choice, start: int, end: int) -> None:
        text = "".join(choice.pieces[start:end])
        if text or choice.logprobs:
            self._send_delta(request, index, {"content": text}, logprobs=_logprobs(choice, start, end))

    def _send_delta(
        self,
        request: LoggedRequest,
        index: int,
        delta: Mapping[str, Any],
        *,
        logprobs: Mapping[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> None:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        self._exchange.send_event(json.dumps(self._head(request, "chat.completion.chunk") | {"choices": [choice]}))

    def _head(self, request: LoggedRequest, kind: str) -> dict[str, Any]:
        return {"id": request.id, "object": kind, "created": int(time.time()), "model": self._server.model}


def _error_body(status: int, message: str) -> dict[str, Any]:
    return {"message": message, "type": "scripted_error", "param": None, "code": status}


def _logprobs(choice: Choice, start: int, end: int) -> dict[str, Any] | None:
    if choice.logprobs is None:
        return None
    return {
        "content": [
            {
                "token": choice.pieces[at],
                "logprob": choice.logprobs[at],
                "bytes": list(choice.pieces[at].encode()),
                "top_logprobs": [],
            }
            for at in range(start, end)
        ]
    }
