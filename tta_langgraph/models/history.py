"""What is shown of a conversation, whichever model wrote it: text, tool calls and their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, convert_to_openai_messages

from tta_langgraph.errors import ModelError
from tta_langgraph.models.errors import UnsendableError

__all__ = ["encoded", "openai_messages", "partial_answer"]


def openai_messages(messages: Sequence[BaseMessage], *, where: str) -> list[dict[str, Any]]:
    """Messages in OpenAI's form, each with one text, its blocks joined by line breaks as vLLM's server joins them.

    Agents hand the histories of other models on, with blocks of thinking and of providers' own: those are left out, as
    the templates of thinking models leave earlier thoughts out.

    Args:
        messages: the conversation.
        where: the model, named in errors.

    Raises:
        ModelError: content that is not text, or that nobody can read.
    """
    return [_openai_message(message, where) for message in messages]


def partial_answer(messages: Sequence[BaseMessage]) -> str:
    """The text that `continue_final_message` asks to go on with.

    Raises:
        ModelError: the last message is no answer, or has no text.
    """
    last = messages[-1] if messages else None
    if not isinstance(last, AIMessage) or not last.text:
        raise ModelError(
            "there is nothing to continue",
            where="continue_final_message",
            remedy="End the messages with an AIMessage that holds the partial answer",
        )
    return last.text


def encoded(text: str, *, where: str) -> bytes:
    """The text as an engine takes it, in UTF-8.

    Raises:
        UnsendableError: half of a surrogate pair stands alone, as in a text that was cut, or that was decoded with
            `surrogateescape`.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.end + 20]
        raise UnsendableError(
            f"the text holds half of a surrogate pair, {text[error.start]!r}, in {around!r}",
            where=where,
            remedy="Such a text was cut, or decoded wrongly; repair it there, or replace the halves by "
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')",
        ) from error


def _openai_message(message: BaseMessage, where: str) -> dict[str, Any]:
    try:
        wire: Any = convert_to_openai_messages(message)
    except (ValueError, KeyError, TypeError) as error:
        raise _unsupported(f"content of a message of type {message.type!r} ({error!r:.200})", where) from error
    content = wire.get("content") or ""
    if isinstance(content, list):
        content = _BETWEEN.join(
            text for block in content if (text := _text(block, isinstance(message, AIMessage), where)) is not None
        )
    return {**wire, "content": content}


def _text(block: Any, is_answer: bool, where: str) -> str | None:
    """What a block says, or None where it is not shown."""
    if isinstance(block, str):
        return block
    kind = block.get("type")
    if kind in _TEXTS and isinstance(block.get(_TEXTS[kind]), str):
        return str(block[_TEXTS[kind]])
    if kind in _NOT_SHOWN or (is_answer and kind == "non_standard"):
        return None
    raise _unsupported(f"content of type {kind!r}", where)


def _unsupported(what: str, where: str) -> ModelError:
    return ModelError(
        f"{what} is not supported",
        where=where,
        remedy="Send text; serve models that see or hear with `tta serve` and langchain-openai",
    )


_BETWEEN: Final = "\n"
_TEXTS: Final = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Blocks that hold text, and the field that it is in."""
_NOT_SHOWN: Final = frozenset(
    {
        *("thinking", "redacted_thinking", "reasoning", "reasoning_content"),
        *("tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call", "function_call"),
        *("server_tool_call", "server_tool_call_chunk", "server_tool_result", "server_tool_use", "cache_point"),
    }
)
"""Thoughts, and blocks that say what `tool_calls` says already or what only their provider can read."""
