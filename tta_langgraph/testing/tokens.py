"""The tokenizer of the scripted server: deterministic, lossless, needs no download."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

MESSAGE_OVERHEAD = 4
"""Tokens that the chat template adds around each message."""
GENERATION_PROMPT = 3
"""Tokens that the chat template adds to open the assistant's turn."""

_PIECE = re.compile(r"\s*\S{1,4}|\s+")


def tokenize(text: str) -> list[str]:
    """Cuts a text into pieces of up to four characters, each with the white space before it.

    Joined, the pieces are the text again; cutting after any piece leaves the pieces before it unchanged, so
    that a reply truncated to k pieces counts k tokens.

    Example:
        >>> tokenize("SELECT 1")
        ['SELE', 'CT', ' 1']
    """
    return _PIECE.findall(text)


def count_tokens(text: str) -> int:
    """Counts the tokens of a plain text, without any chat template.

    Example:
        >>> count_tokens("SELECT 1")
        3
    """
    return len(tokenize(text))


def message_text(message: Mapping[str, Any]) -> str:
    """Returns the text of one message in OpenAI's form; the text parts joined where the content is a list."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content if isinstance(part, Mapping))


def count_prompt_tokens(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None) -> int:
    """Counts a chat prompt exactly as the scripted server bills it.

    Args:
        messages: chat messages in OpenAI's form (`role`, `content`, `tool_calls`).
        tools: tool definitions in OpenAI's form, billed as their JSON text.

    Returns:
        Tokens of the whole prompt, chat template included.
    """
    total = GENERATION_PROMPT
    for message in messages:
        total += MESSAGE_OVERHEAD + count_tokens(message_text(message))
        if message.get("tool_calls"):
            total += count_tokens(json.dumps(message["tool_calls"], sort_keys=True))
    if tools:
        total += count_tokens(json.dumps(list(tools), sort_keys=True))
    return total
