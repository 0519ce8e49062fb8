"""Between LangChain messages and the chat-completions protocol of llama.cpp's server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from tta_langgraph.models.embedded_tools import calls_in_text, require_call
from tta_langgraph.models.errors import UnsendableError
from tta_langgraph.models.history import encoded, openai_messages, partial_answer
from tta_langgraph.models.json_schema import openai_tool
from tta_langgraph.models.response_format import form_of


@dataclass(kw_only=True)
class Choice:
    """One sample, as far as it has arrived."""

    text: list[str] = field(default_factory=list)
    """Pieces of the answer."""
    reasoning: list[str] = field(default_factory=list)
    """Pieces of the thinking, for models that mark it."""
    tools: dict[int, dict[str, str]] = field(default_factory=dict)
    """Tool calls by index: id, name, arguments."""
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    """One entry per token, when asked for."""
    finish: str | None = None
    """Why it ended: `stop`, `length`, `tool_calls`."""
    completion_tokens: int = 0
    """Tokens of this sample, as the engine counted them."""


@dataclass(kw_only=True)
class Reply:
    """All samples of one request, built from the events of its stream.

    The engine reports usage once per sample, right after the sample's last event; its non-streamed reply
    reports the first sample only. This is why requests are always streamed and added up here.
    """

    choices: dict[int, Choice] = field(default_factory=dict)
    """By index."""
    prompt_tokens: int = 0
    """Counted once, however many samples."""
    cached_tokens: int | None = None
    """Prompt tokens that came from the prefix cache."""
    timings: dict[str, Any] = field(default_factory=dict)
    """The engine's own clock (milliseconds) of the last sample to finish."""
    _finished: int = 0

    def add(self, event: Mapping[str, Any]) -> None:
        """Takes in one event."""
        for piece in event.get("choices", ()):
            choice = self.choices.setdefault(piece["index"], Choice())
            delta = piece.get("delta") or {}
            if content := delta.get("content"):
                choice.text.append(content)
            if thought := delta.get("reasoning_content"):
                choice.reasoning.append(thought)
            for call in delta.get("tool_calls") or ():
                _merge_call(choice.tools, call)
            if probabilities := piece.get("logprobs"):
                choice.logprobs.extend(probabilities.get("content") or ())
            if piece.get("finish_reason"):
                choice.finish = piece["finish_reason"]
                self._finished = piece["index"]
        if usage := event.get("usage"):
            self.choices.setdefault(self._finished, Choice()).completion_tokens = usage["completion_tokens"]
            self.prompt_tokens = max(self.prompt_tokens, usage["prompt_tokens"])
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            # Later samples find the first one's prompt in the cache; what the request found is the smallest.
            self.cached_tokens = cached if self.cached_tokens is None else min(self.cached_tokens, cached)
            self.timings = dict(event.get("timings") or {})

    @property
    def completion_tokens(self) -> int:
        """Over all samples."""
        return sum(choice.completion_tokens for choice in self.choices.values())


def request_body(messages: Sequence[BaseMessage], params: Mapping[str, Any]) -> dict[str, Any]:
    """The request for these messages; parameters that are None are left to the engine.

    `extra_body` is merged last, as in the OpenAI client.
    """
    body: dict[str, Any] = {"messages": openai_messages(messages, where=PROVIDER)}
    body.update({key: value for key, value in params.items() if value is not None and key not in _NOT_SENT})
    body.update(params.get("extra_body") or {})
    if body.get("top_logprobs") is not None or body.get("logprobs"):
        body["logprobs"] = True
        # Asked for none, the engine would leave out the chosen token's own as well.
        body["top_logprobs"] = body.get("top_logprobs") or 1
    if (form := form_of(body.pop("response_format", None), where=PROVIDER)) is not None:
        body["response_format"] = form
    if tools := body.pop("tools", None):
        body["tools"] = [openai_tool(tool) for tool in tools]
    require_call(body)
    if body.get("continue_final_message"):
        partial_answer(messages)  # which the engine continues by itself, and then wants neither of these options
        del body["continue_final_message"]
        body.pop("add_generation_prompt", None)
    _check_sendable(body)
    return body


def chat_result(replies: Sequence[Reply], model: str, offered: Sequence[str] = ()) -> ChatResult:
    """One generation per sample. The first message carries the usage of the whole request, the others none.

    So reading the first message is right, and adding up all of them is right as well. Each message's
    `response_metadata["completion_tokens"]` is its own share.

    Args:
        replies: the requests of one call.
        model: name for the metadata.
        offered: names of the tools that were offered.
    """
    choices = [reply.choices[index] for reply in replies for index in sorted(reply.choices)]
    usage = usage_of(replies)
    generations = []
    for index, choice in enumerate(choices):
        metadata = _metadata(choice, replies[-1], model)
        if len(choices) > 1:
            metadata["usage_corrected"] = True
        message = AIMessage(
            content="".join(choice.text),
            additional_kwargs={"reasoning_content": "".join(choice.reasoning)} if choice.reasoning else {},
            response_metadata=metadata,
            usage_metadata=usage if index == 0 else None,
        )
        _attach_calls(message, choice)
        if offered and not choice.tools and (calls := calls_in_text("".join(choice.text), offered)):
            message.content, message.tool_calls = "", calls
        generations.append(
            ChatGeneration(message=message, generation_info={"finish_reason": choice.finish, **_logprobs(choice)})
        )
    total = {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
        "prompt_tokens_details": {"cached_tokens": usage["input_token_details"]["cache_read"]},
    }
    return ChatResult(generations=generations, llm_output={"token_usage": total, "model_name": model})


def usage_of(replies: Sequence[Reply]) -> UsageMetadata:
    """Usage of one call in LangChain's shape: the prompt once, the completions of all samples."""
    prompt = max((reply.prompt_tokens for reply in replies), default=0)
    completion = sum(reply.completion_tokens for reply in replies)
    cached = replies[0].cached_tokens or 0
    return UsageMetadata(
        input_tokens=prompt,
        output_tokens=completion,
        total_tokens=prompt + completion,
        input_token_details=InputTokenDetails(cache_read=cached),
    )


def chunk_of(event: Mapping[str, Any]) -> ChatGenerationChunk | None:
    """One event of a single-sample stream as a chunk, or None when it says nothing."""
    for piece in event.get("choices", ()):
        delta = piece.get("delta") or {}
        calls = [
            tool_call_chunk(
                name=call.get("function", {}).get("name"),
                args=call.get("function", {}).get("arguments"),
                id=call.get("id"),
                index=call.get("index"),
            )
            for call in delta.get("tool_calls") or ()
        ]
        thought = delta.get("reasoning_content")
        content = delta.get("content") or ""
        info = {"logprobs": {"content": piece["logprobs"]["content"]}} if piece.get("logprobs") else None
        if content or calls or thought or info:
            message = AIMessageChunk(
                content=content,
                tool_call_chunks=calls,
                additional_kwargs={"reasoning_content": thought} if thought else {},
            )
            return ChatGenerationChunk(message=message, generation_info=info)
    return None


def last_chunk(reply: Reply, model: str) -> ChatGenerationChunk:
    """What closes a stream: usage, reason and timings."""
    choice = reply.choices.get(0) or Choice()
    metadata = {key: value for key, value in _metadata(choice, reply, model).items() if key != "logprobs"}
    message = AIMessageChunk(
        content="", response_metadata=metadata, usage_metadata=usage_of([reply]), chunk_position="last"
    )
    return ChatGenerationChunk(message=message)


def _metadata(choice: Choice, reply: Reply, model: str) -> dict[str, Any]:
    return {
        "model_name": model,
        "model_provider": PROVIDER,
        "finish_reason": choice.finish,
        "completion_tokens": choice.completion_tokens,
        "timings": reply.timings,
        **_logprobs(choice),
    }


def _logprobs(choice: Choice) -> dict[str, Any]:
    return {"logprobs": {"content": choice.logprobs}} if choice.logprobs else {}


def _attach_calls(message: AIMessage, choice: Choice) -> None:
    for _, call in sorted(choice.tools.items()):
        name, text, call_id = call["name"], call["arguments"], call["id"]
        try:
            arguments = json.loads(text or "{}")
            if not isinstance(arguments, dict):
                raise ValueError("the arguments are not an object")
            message.tool_calls.append(tool_call(name=name, args=arguments, id=call_id))
        except ValueError as error:
            message.invalid_tool_calls.append(invalid_tool_call(name=name, args=text, id=call_id, error=str(error)))


def _merge_call(calls: dict[int, dict[str, str]], delta: Mapping[str, Any]) -> None:
    call = calls.setdefault(delta["index"], {"id": "", "name": "", "arguments": ""})
    function = delta.get("function") or {}
    call["id"] = delta.get("id") or call["id"]
    call["name"] = function.get("name") or call["name"]
    call["arguments"] += function.get("arguments") or ""


def _check_sendable(body: Mapping[str, Any]) -> None:
    """Says what the client of the engine would raise something else for."""
    try:
        written = json.dumps(body, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise UnsendableError(
            f"an option of the call cannot be written as JSON: {error}",
            where=PROVIDER,
            remedy="Use plain numbers, texts, lists and dictionaries",
        ) from error
    encoded(written, where=PROVIDER)


PROVIDER: Final = "llamacpp"
_NOT_SENT: Final = frozenset({"timeout", "extra_body", "stream", "stream_usage", "model"})
