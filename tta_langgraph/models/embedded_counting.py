"""Exact counts and the record of how they were made, for the embedded model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage
from langchain_core.tools import BaseTool

from tta_langgraph.models.embedded_engine import EmbeddedEngine, EngineHold, EngineSettings, load_xllamacpp
from tta_langgraph.models.embedded_wire import PROVIDER, request_body
from tta_langgraph.models.gguf_header import read_gguf_header
from tta_langgraph.models.history import encoded
from tta_langgraph.models.json_schema import openai_tool
from tta_langgraph.models.weights import file_sha256


class EmbeddedCounting:
    """The counting half of `EmbeddedChatModel`: everything asks the engine's own tokenizer and chat template."""

    _hold: EngineHold
    _aengine: Callable[[], Awaitable[EmbeddedEngine]]

    @property
    def engine(self) -> EmbeddedEngine:
        """Given by the model."""
        raise NotImplementedError

    def count_prompt_tokens(self, messages: Sequence[BaseMessage], **kwargs: Any) -> int:
        """Exact number of prompt tokens a call with these arguments will be charged, before it is made.

        Args:
            messages: the prompt.
            **kwargs: what the call will get (`tools` and `response_format` can change the prompt).
        """
        body, key = _count_request(messages, kwargs)
        return self._hold.counts.get(key, lambda: int(self.engine.post(_ROUTE, body)["input_tokens"]))

    async def acount_prompt_tokens(self, messages: Sequence[BaseMessage], **kwargs: Any) -> int:
        """`count_prompt_tokens` for an event loop."""
        body, key = _count_request(messages, kwargs)

        async def ask() -> int:
            engine = await self._aengine()
            return int((await engine.apost(_ROUTE, body))["input_tokens"])

        return await self._hold.counts.aget(key, ask)

    def count_text(self, text: str) -> int:
        """Length of a text (tokens), by the model's own tokenizer; remembered."""
        return self._hold.counts.get(f"text\0{text}", lambda: len(self.get_token_ids(text)))

    def get_token_ids(self, text: str) -> list[int]:
        """The model's own tokens of a text."""
        encoded(text, where=PROVIDER)
        return list(self.engine.post("/tokenize", {"content": text})["tokens"])

    def get_num_tokens(self, text: str) -> int:
        """Length of a text (tokens), by the model's own tokenizer."""
        return self.count_text(text)

    def get_num_tokens_from_messages(
        self,
        messages: list[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
    ) -> int:
        """Exact prompt tokens, chat template and tool descriptions included."""
        offered = [openai_tool(tool) for tool in tools] if tools else None
        return self.count_prompt_tokens(messages, tools=offered)


def embedded_manifest(settings: EngineSettings, model: str, sampling: Mapping[str, Any]) -> dict[str, Any]:
    """What a trace must say to be reproducible: engine, weights, sizes, sampling, template."""
    header = read_gguf_header(settings.path)
    return {
        "engine": "llama.cpp (xllamacpp)",
        "engine_version": load_xllamacpp().__version__,
        "model": model,
        "weights_name": header.name,
        "weights_sha256": file_sha256(settings.path),
        "quantisation": header.quantisation,
        "context": settings.context,
        "parallel": settings.parallel,
        "threads": settings.threads,
        "prefix_caching": True,
        "chat_template_sha256": hashlib.sha256((header.chat_template or "").encode()).hexdigest(),
        "sampling": {key: value for key, value in sampling.items() if value is not None},
    }


def _count_request(messages: Sequence[BaseMessage], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What shapes the prompt, and nothing else: sampling must not spoil the memory of counts."""
    body = request_body(messages, {key: kwargs.get(key) for key in _SHAPES_PROMPT})
    return body, json.dumps(body, sort_keys=True, default=str)


_ROUTE: Final = "/v1/chat/completions/input_tokens"
_SHAPES_PROMPT: Final = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "extra_body")
