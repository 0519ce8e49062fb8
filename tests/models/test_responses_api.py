"""OpenAI's Responses API, which `ChatOpenAI` takes by itself for reasoning models and built-in tools."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from tests.models.canned import Canned, serving
from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.models.meter import Lost

PROMPT, CACHED, WRITTEN, THOUGHT = 100, 64, 30, 20
USAGE = {
    "input_tokens": PROMPT,
    "input_tokens_details": {"cached_tokens": CACHED},
    "output_tokens": WRITTEN,
    "output_tokens_details": {"reasoning_tokens": THOUGHT},
    "total_tokens": PROMPT + WRITTEN,
}
PART = {"type": "output_text", "text": "fine", "annotations": []}
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [PART]}
PLACE = {"item_id": "m", "output_index": 0, "content_index": 0}


def response(status: str, output: list[Any], usage: dict[str, Any] | None) -> dict[str, Any]:
    fixed = {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "error": None, "metadata": {}}
    head = {"id": "r", "object": "response", "created_at": 1, "model": "gpt-5"}
    return {**head, **fixed, "status": status, "output": output, "usage": usage, "incomplete_details": None}


class Responses(Canned):
    """Thinks, says "fine", and reports both."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.body()
        status, kind, answer = 404, "application/json", "{}"
        if self.path == "/v1/responses":
            self.asked.append(body)
            status, done = 200, response("completed", [MESSAGE], USAGE)
            answer = json.dumps(done)
            if body.get("stream"):
                kind = "text/event-stream"
                events: list[dict[str, Any]] = [
                    {"type": "response.created", "response": response("in_progress", [], None)},
                    {"type": "response.output_item.added", "output_index": 0, "item": {**MESSAGE, "content": []}},
                    {"type": "response.content_part.added", **PLACE, "part": {**PART, "text": ""}},
                    {"type": "response.output_text.delta", **PLACE, "delta": "fine", "logprobs": []},
                    {"type": "response.completed", "response": done},
                ]
                numbered = ({"sequence_number": number, **event} for number, event in enumerate(events))
                answer = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in numbered)
        self.answer(status, kind, answer)


@pytest.fixture
def server() -> Iterator[Any]:
    with serving(Responses, asked=[]) as running:
        running.url += "/v1"
        yield running


@pytest.mark.parametrize("lost", ["reserve", "received"])
@pytest.mark.parametrize("options", [{"use_responses_api": True}, {"reasoning": {"effort": "low"}}], ids=str)
async def test_every_way_of_calling_is_capped_and_charged_what_was_read_thought_and_said(
    server: Any, options: dict[str, Any], lost: Lost
) -> None:
    model = budgeted(ChatOpenAI(model="gpt-5", api_key="k", base_url=server.url, **options), lost=lost)
    with budget_scope(Budget(tokens=2_000, seconds=60)) as scope:
        said = [await model.ainvoke("x", max_tokens=200), await asyncio.to_thread(model.invoke, "x", max_tokens=200)]
        streams = [
            [chunk async for chunk in model.astream("x", max_completion_tokens=200)],
            await asyncio.to_thread(lambda: list(model.stream("x", max_completion_tokens=200))),
        ]
        usage = scope.tracker.usage
    assert {message.text for message in said} | {"".join(c.text for c in chunks) for chunks in streams} == {"fine"}
    assert [body["max_output_tokens"] for body in server.asked] == [200] * 4
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (4 * PROMPT, 4 * CACHED, 4 * WRITTEN)
