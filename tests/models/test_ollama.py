"""A model whose client takes its cap as a field only: a server that speaks Ollama's protocol shows what it was told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langchain_ollama import ChatOllama

from tta_langgraph import Budget, budget_scope, budgeted

PROMPT = 12


class Ollama(BaseHTTPRequestHandler):
    """Writes words up to the cap, as lines of JSON."""

    asked: list[dict[str, Any]]
    protocol_version = "HTTP/1.1"
    """Connections stay open, as Ollama's do."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body)
        words = min(body["options"].get("num_predict", 5_000), 5_000)
        head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
        text = {**head, "message": {"role": "assistant", "content": "word " * words}, "done": False}
        end = {**head, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "length"}
        end |= {"prompt_eval_count": PROMPT, "eval_count": words}
        answer = f"{json.dumps(text)}\n{json.dumps(end)}\n".encode()
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def ollama() -> Iterator[tuple[ChatOllama, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Server", (Ollama,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        yield ChatOllama(model="small", base_url=url, temperature=0.3, validate_model_on_init=False), asked
    finally:
        server.shutdown()
        server.server_close()


async def test_the_granted_cap_gets_to_ollama_and_its_report_is_charged(
    ollama: tuple[ChatOllama, list[dict[str, Any]]],
) -> None:
    bare, asked = ollama
    model = budgeted(bare)
    with budget_scope(Budget(tokens=900)) as scope:
        model.invoke("one", num_predict=40)
        await model.ainvoke("two", max_tokens=50)
        "".join(chunk.text for chunk in model.stream("three"))
        assert [body["options"]["num_predict"] for body in asked[:2]] == [40, 50]
        assert asked[2]["options"]["num_predict"] <= 900 - 2 * PROMPT - 90 - 1, "what is left, without the prompt"
        assert {body["options"]["temperature"] for body in asked} == {0.3}
        written = sum(body["options"]["num_predict"] for body in asked)
        assert scope.tracker.usage.tokens == written + 3 * PROMPT <= 900


async def test_sync_and_async_calls_of_one_model_do_not_break_each_others_connections(
    ollama: tuple[ChatOllama, list[dict[str, Any]]],
) -> None:
    bare, asked = ollama
    model = budgeted(bare)
    with budget_scope(Budget(tokens=9_000, seconds=60)) as scope:
        for _ in range(2):
            await model.ainvoke("x", max_tokens=5)
            await asyncio.to_thread(model.invoke, "x", max_tokens=5)
            await asyncio.to_thread(lambda: list(model.stream("x", max_tokens=5)))
        assert scope.tracker.usage.completion_tokens == 5 * len(asked) == 5 * 6
