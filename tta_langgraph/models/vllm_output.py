"""vLLM's outputs as LangChain messages: text, tool calls, usage, log-probabilities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from tta_langgraph.models.vllm_logprobs import compact_stats, openai_logprobs
from tta_langgraph.models.vllm_params import CallOptions
from tta_langgraph.models.vllm_tools import ParsedText, parse_forced, parse_text, safe_prefix

__all__ = ["OutputReader", "StreamReader"]


class OutputReader:
    """Turns outputs of one model into results.

    Args:
        model: its name, for `response_metadata`.
        tokenizer: the engine's tokenizer.
        tool_parser: which form of tool calls the model writes.
    """

    def __init__(self, *, model: str, tokenizer: Any, tool_parser: str) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._tool_parser = tool_parser

    def result(self, output: Any, options: CallOptions) -> ChatResult:
        """All samples of a finished request.

        The usage of the whole request (prompt once, completions of all samples) stands on every message, as
        OpenAI's does and as `n > 1` users of LangChain expect; each sample's own length is in its
        `response_metadata["completion_tokens"]`.
        """
        usage = self.usage(output, sum(len(one.token_ids) for one in output.outputs))
        generations = [
            ChatGeneration(
                message=self._message(one, usage, options), generation_info={"finish_reason": one.finish_reason}
            )
            for one in sorted(output.outputs, key=lambda one: one.index)
        ]
        counts = {
            "prompt_tokens": usage["input_tokens"],
            "completion_tokens": usage["output_tokens"],
            "total_tokens": usage["total_tokens"],
            "prompt_tokens_details": {"cached_tokens": output.num_cached_tokens or 0},
        }
        return ChatResult(generations=generations, llm_output={"token_usage": counts, "model_name": self._model})

    def usage(self, output: Any, completion_tokens: int) -> UsageMetadata:
        """Usage of a request: tokens, and the part of the prompt served from the prefix cache."""
        prompt = len(output.prompt_token_ids)
        return UsageMetadata(
            input_tokens=prompt,
            output_tokens=completion_tokens,
            total_tokens=prompt + completion_tokens,
            input_token_details=InputTokenDetails(cache_read=output.num_cached_tokens or 0),
        )

    def metadata(
        self, finish_reason: str | None, token_ids: Sequence[int], positions: Any, options: CallOptions
    ) -> dict[str, Any]:
        """`response_metadata` of one sample."""
        metadata: dict[str, Any] = {
            "model_name": self._model,
            "model_provider": "vllm",
            "finish_reason": finish_reason,
            "completion_tokens": len(token_ids),
        }
        if options.top_logprobs is not None:
            content = openai_logprobs(token_ids, positions or (), options.top_logprobs, self._decode)
            metadata["logprobs"] = {"content": content}
            metadata["logprob_stats"] = compact_stats(content)
        return metadata

    def parse(self, text: str, options: CallOptions) -> ParsedText:
        """Takes tool calls out of a text, where tools were given."""
        if options.forced:
            return parse_forced(text)
        if options.tools:
            return parse_text(text, parser=self._tool_parser, tokenizer=self._tokenizer)
        return ParsedText(content=text)

    def safe_prefix(self, text: str, options: CallOptions) -> int:
        """How much of a growing text may be streamed."""
        if options.forced:
            return 0
        return safe_prefix(text, parser=self._tool_parser) if options.tools else len(text)

    def _message(self, one: Any, usage: UsageMetadata, options: CallOptions) -> AIMessage:
        parsed = self.parse(one.text, options)
        return AIMessage(
            content=parsed.content,
            tool_calls=parsed.calls,
            invalid_tool_calls=parsed.invalid,
            usage_metadata=usage,
            response_metadata=self.metadata(one.finish_reason, one.token_ids, one.logprobs, options),
        )

    def _decode(self, token_id: int) -> str:
        return str(self._tokenizer.decode([token_id]))


class StreamReader:
    """Turns the differences of one streamed request into chunks; the last carries usage and metadata."""

    def __init__(self, reader: OutputReader, options: CallOptions) -> None:
        self._reader, self._options = reader, options
        self._text, self._shown = "", 0
        self._token_ids: list[int] = []
        self._positions: list[Mapping[int, Any]] = []

    def chunks(self, output: Any) -> list[ChatGenerationChunk]:
        """Chunks of one partial output."""
        one = output.outputs[0]
        self._text += one.text
        self._token_ids += one.token_ids
        self._positions += one.logprobs or ()
        upto = self._reader.safe_prefix(self._text, self._options)
        made = []
        if upto > self._shown and not output.finished:
            made.append(_chunk(AIMessageChunk(content=self._text[self._shown : upto])))
            self._shown = upto
        if output.finished:
            made.append(self._last(output, one))
        return made

    def _last(self, output: Any, one: Any) -> ChatGenerationChunk:
        parsed = self._reader.parse(self._text, self._options)
        has_calls = bool(parsed.calls or parsed.invalid)
        rest = "" if has_calls and not self._options.forced else parsed.content[self._shown :]
        calls = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
            for index, call in enumerate(parsed.calls)
        ]
        calls += [
            tool_call_chunk(name=bad["name"], args=bad["args"], id=bad["id"], index=len(parsed.calls) + index)
            for index, bad in enumerate(parsed.invalid)
        ]
        message = AIMessageChunk(
            content=rest,
            tool_call_chunks=calls,
            usage_metadata=self._reader.usage(output, len(self._token_ids)),
            response_metadata=self._reader.metadata(one.finish_reason, self._token_ids, self._positions, self._options),
            chunk_position="last",
        )
        return _chunk(message, {"finish_reason": one.finish_reason})


def _chunk(message: AIMessageChunk, info: dict[str, Any] | None = None) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=message, generation_info=info)
