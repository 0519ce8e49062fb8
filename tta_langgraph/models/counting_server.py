"""Exact counts from the server that will run the prompt: vLLM's and llama.cpp's tokenize endpoints."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from langchain_core.messages import BaseMessage, convert_to_openai_messages

from tta_langgraph.models.counting_text import CountCache, TextCounter

logger = logging.getLogger(__name__)


class ServerCounter:
    """Asks an OpenAI-compatible server how many tokens a prompt will be, and remembers the answer.

    The server is probed on first use; hosted services without such an endpoint are never asked. While the server
    does not answer, `fallback` counts and `exact` is False.

    Args:
        model: a chat model of the langchain-openai family.
        fallback: counts when the server cannot.
    """

    def __init__(self, model: Any, fallback: TextCounter) -> None:
        self._model = model
        self._fallback = fallback
        base = str(model.root_client.base_url).rstrip("/")
        self._base = base
        self._root = base.removesuffix("/v1")
        self._cache = CountCache()
        self._lock = threading.Lock()
        self._dialect: str | None = None
        self._next_probe = 0.0
        self._settled = False

    @property
    def exact(self) -> bool:
        """Whether counts come from the server."""
        return self._probe() is not None

    @property
    def name(self) -> str:
        """`vllm:<address>`, `llama.cpp:<address>`, or the fallback's name."""
        dialect = self._probe()
        return f"{dialect}:{self._root}" if dialect else self._fallback.name

    def count_messages(self, messages: Sequence[BaseMessage], **kwargs: Any) -> int:
        """Prompt tokens of a call, chat template and tools included."""
        dialect = self._probe()
        if dialect is None:
            return self._fallback.count_messages(messages, **kwargs)
        body = self._body(messages, kwargs)
        try:
            return self._cache.get(json.dumps(body, sort_keys=True, default=str), lambda: self._ask(dialect, body))
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self._failed(error)
            return self._fallback.count_messages(messages, **kwargs)

    def count_text(self, text: str) -> int:
        """Tokens of a bare text."""
        dialect = self._probe()
        if dialect is None or not text:
            return self._fallback.count_text(text)
        body: dict[str, Any] = {"content": text}
        if dialect == _VLLM:
            body = {"model": self._served, "prompt": text, "add_special_tokens": False}
        try:
            return self._cache.get(f"text\0{text}", lambda: _length(self._post(f"{self._root}/tokenize", body)))
        except (httpx.HTTPError, KeyError, ValueError) as error:
            self._failed(error)
            return self._fallback.count_text(text)

    @property
    def _served(self) -> str:
        return str(getattr(self._model, "model_name", ""))

    def _body(self, messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What shapes the prompt, exactly as the client will send it."""
        payload: dict[str, Any] = dict(kwargs)
        try:
            payload = self._model._get_request_payload(list(messages), **kwargs)
        except (AttributeError, TypeError, ValueError):
            payload["messages"] = convert_to_openai_messages(list(messages))
        merged = {**payload, **(payload.get("extra_body") or {})}
        body = {key: merged[key] for key in _SHAPES_PROMPT if merged.get(key) is not None}
        return {**body, "model": self._served}

    def _ask(self, dialect: str, body: Mapping[str, Any]) -> int:
        if dialect == _VLLM:
            return _length(self._post(f"{self._root}/tokenize", body))
        return int(self._post(f"{self._base}/chat/completions/input_tokens", body)["input_tokens"])

    def _probe(self) -> str | None:
        """Finds out once which endpoint there is; a server that is down is asked again later."""
        if self._settled or time.monotonic() < self._next_probe:
            return self._dialect
        with self._lock:
            if self._settled or time.monotonic() < self._next_probe:
                return self._dialect
            body = {"model": self._served, "messages": [{"role": "user", "content": "count"}]}
            for dialect in (_VLLM, _LLAMA):
                try:
                    if self._ask(dialect, body) > 0:
                        self._dialect, self._settled = dialect, True
                        return dialect
                except httpx.HTTPStatusError as error:
                    logger.debug("%s has no %s token counting: %s", self._root, dialect, error)
                    if error.response.status_code in _NOT_NOW:
                        self._next_probe = time.monotonic() + _RETRY_SECONDS
                        return None
                except (KeyError, ValueError, TypeError) as error:  # an answer of another shape
                    logger.debug("%s answers otherwise than %s: %s", self._root, dialect, error)
                except httpx.HTTPError as error:
                    logger.debug("%s cannot be reached: %s", self._root, error)
                    self._next_probe = time.monotonic() + _RETRY_SECONDS
                    return None
            self._settled = True
            return None

    def _failed(self, error: Exception) -> None:
        logger.warning("counting at %s failed (%s); the prompt is estimated", self._root, error)
        with self._lock:
            self._dialect, self._settled = None, False
            self._next_probe = time.monotonic() + _RETRY_SECONDS

    def _post(self, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
        headers = dict(getattr(self._model.root_client, "auth_headers", None) or {})
        loopback = urlsplit(url).hostname in _LOOPBACK
        with httpx.Client(timeout=_TIMEOUT, trust_env=not loopback) as client:
            reply = client.post(url, json=body, headers=headers)
        reply.raise_for_status()
        content = reply.json()
        if not isinstance(content, dict):
            raise ValueError(f"an object was expected, not {type(content).__name__}")
        return content


def may_count(model: Any) -> bool:
    """Whether a model's server could have a counting endpoint: of the OpenAI family, and not a hosted service."""
    client = getattr(model, "root_client", None)
    host = urlsplit(str(getattr(client, "base_url", ""))).hostname or ""
    return bool(host) and not host.endswith(_HOSTED)


def _length(reply: Mapping[str, Any]) -> int:
    return int(reply["count"]) if "count" in reply else len(reply["tokens"])


_VLLM: Final = "vllm"
_LLAMA: Final = "llama.cpp"
# A count is milliseconds of work. A server that cannot give it in this time is estimated instead.
_TIMEOUT: Final = httpx.Timeout(3.0, connect=2.0)
_RETRY_SECONDS: Final = 30.0
# Of a server that is starting or busy, which says nothing of what it has.
_NOT_NOW: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
# Services that bill by their own count and have no such endpoint; asking would only leak time.
_HOSTED: Final = (
    "openai.com", "azure.com", "openrouter.ai", "deepseek.com", "groq.com", "together.xyz", "fireworks.ai",
    "mistral.ai", "x.ai", "perplexity.ai", "googleapis.com", "amazonaws.com",
)  # fmt: skip
_SHAPES_PROMPT: Final = (
    "messages", "tools", "tool_choice", "response_format", "chat_template", "chat_template_kwargs",
    "add_generation_prompt", "continue_final_message", "reasoning_effort",
)  # fmt: skip
