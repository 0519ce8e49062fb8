"""Anthropic's client on a server that speaks its protocol: what was asked, and that what it wrote is charged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.models.canned import Canned, serving
from tta_langgraph import Budget, budget_scope, budgeted
from tta_langgraph.models.adapter import Adapter
from tta_langgraph.models.failures import Retries

anthropic = pytest.importorskip("langchain_anthropic", reason="langchain-anthropic is not installed (extra: dev)")

pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated")
USAGE = {"input_tokens": 10, "output_tokens": 7, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 100}
PROMPT, WRITTEN = 115, 7
THINKS = {"type": "enabled", "budget_tokens": 2_000}


class Messages(Canned):
    """Answers every request with the same words and usage, or with its status."""

    asked: list[dict[str, Any]]
    status: list[int]

    def do_POST(self) -> None:
        body = self.body()
        self.asked.append(body)
        head = {"id": "m", "type": "message", "role": "assistant", "model": body["model"], "stop_sequence": None}
        status, kind = self.status[0], "application/json"
        thinking = body.get("thinking", {}).get("budget_tokens")
        if thinking is not None and not 1_024 <= thinking < body["max_tokens"]:
            refused = f"`max_tokens` must be greater than `thinking.budget_tokens`: {body['max_tokens']}, {thinking}"
            status = 400
            answer = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": refused}})
        elif status != 200:
            answer = json.dumps({"type": "error", "error": {"type": "api_error", "message": "no"}})
        elif body.get("stream"):
            kind = "text/event-stream"
            start = {**head, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
            events = [
                {"type": "message_start", "message": start},
                {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "fine"}},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": USAGE},
                {"type": "message_stop"},
            ]
            answer = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        else:
            text = [{"type": "text", "text": "fine"}]
            answer = json.dumps({**head, "content": text, "stop_reason": "end_turn", "usage": USAGE})
        self.answer(status, kind, answer)


@pytest.fixture
def server() -> Iterator[Any]:
    with serving(Messages, asked=[], status=[200]) as running:
        yield running


def claude(url: str = "http://127.0.0.1:9", **options: Any) -> Any:
    return anthropic.ChatAnthropic(model="claude-sonnet-4-5", api_key="k", base_url=url, **options)


async def test_every_way_of_calling_is_charged_what_the_server_says_and_none_breaks_another(server: Any) -> None:
    model = budgeted(claude(server.url), retries=Retries(attempts=1))
    with budget_scope(Budget(tokens=5_000, usd=1, seconds=60)) as scope:
        for _ in range(2):
            await model.ainvoke("x")
            [_ async for _ in model.astream("x")]
            await asyncio.to_thread(model.invoke, "x")
            await asyncio.to_thread(lambda: list(model.stream("x")))
        usage = scope.tracker.usage
    calls = len(server.asked)
    assert calls == 8
    assert (usage.prompt_tokens, usage.completion_tokens) == (calls * PROMPT, calls * WRITTEN)
    assert usage.cached_tokens == calls * 5


def test_tokens_stored_in_its_cache_are_charged_at_their_price(server: Any) -> None:
    with budget_scope(Budget(tokens=5_000, usd=1)) as scope:
        budgeted(claude(server.url)).invoke("x")
        in_millionths = 10 * 3 + 5 * 0.3 + 100 * 3.75 + 7 * 15
        assert scope.tracker.usage.usd == pytest.approx(in_millionths / 1e6)


def test_one_failed_call_is_asked_for_once_and_does_not_take_the_whole_budget(server: Any) -> None:
    server.status[0] = 500
    model = budgeted(claude(server.url), retries=Retries(attempts=1))
    with budget_scope(Budget(tokens=5_000)) as scope, pytest.raises(Exception, match="no"):
        model.invoke("x")
    assert len(server.asked) == 1
    assert scope.tracker.usage.tokens < 2_000


def test_the_most_that_a_model_can_write_is_nobodys_choice_of_a_cap() -> None:
    assert claude().max_tokens > 10_000, "its client sets one by itself"
    assert Adapter.of(claude()).default_cap is None
    assert Adapter.of(claude(max_tokens=2_000)).default_cap == 2_000


@pytest.mark.parametrize("bound", [False, True], ids=["to the model", "to the call"])
def test_who_asks_for_thoughts_and_sets_no_cap_gets_them_beside_the_answer(server: Any, bound: bool) -> None:
    model = claude(server.url).bind(thinking=THINKS) if bound else claude(server.url, thinking=THINKS)
    with budget_scope(Budget(tokens=20_000)):
        budgeted(model, max_completion_tokens=500).invoke("x")
    assert (server.asked[-1]["thinking"], server.asked[-1]["max_tokens"]) == (THINKS, 2_500)


GIVEN = pytest.mark.parametrize(
    "given",
    [
        lambda url: claude(url, thinking=THINKS, max_tokens=3_000),
        lambda url: claude(url, max_tokens=3_000).bind(thinking=THINKS),
    ],
    ids=["to the model", "to the call"],
)


@GIVEN
@pytest.mark.parametrize(
    ("tokens", "thoughts"), [(5_000, 2_000), (2_600, 1_024), (1_500, None)], ids=["room", "less room", "no room"]
)
async def test_a_model_that_thinks_answers_with_what_the_budget_leaves_it(
    server: Any, given: Any, tokens: int, thoughts: int | None
) -> None:
    model = budgeted(given(server.url), retries=Retries(attempts=1))
    for way in ("ainvoke", "astream", "invoke", "stream"):
        with budget_scope(Budget(tokens=tokens)) as scope:
            if way == "astream":
                assert "".join([chunk.text async for chunk in model.astream("x")]) == "fine"
            elif way == "stream":
                assert "".join(chunk.text for chunk in model.stream("x")) == "fine"
            else:
                answer = await model.ainvoke("x") if way == "ainvoke" else model.invoke("x")
                assert answer.text == "fine"
        assert scope.tracker.usage.model_calls == 1
        sent = server.asked[-1]
        if thoughts is None:
            assert "thinking" not in sent
        else:
            assert thoughts <= sent["thinking"]["budget_tokens"] <= THINKS["budget_tokens"]
            share = min(1_000, sent["max_tokens"] // 2)
            assert sent["max_tokens"] - sent["thinking"]["budget_tokens"] >= share, "the answer keeps its part"


def test_thinking_without_a_number_and_a_cap_that_was_not_lowered_stay_as_they_are(server: Any) -> None:
    close = {"type": "enabled", "budget_tokens": 2_000}
    with budget_scope(Budget(tokens=9_000)):
        budgeted(claude(server.url, thinking=close, max_tokens=2_100)).invoke("x")
        assert (server.asked[-1]["thinking"], server.asked[-1]["max_tokens"]) == (close, 2_100)
        budgeted(claude(server.url, thinking={"type": "adaptive"}, max_tokens=100)).invoke("x")
        assert server.asked[-1]["thinking"] == {"type": "adaptive"}
