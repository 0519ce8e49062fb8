"""Reading what a call consumed off its result, and catching servers that report it wrong or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from tta_langgraph.models.counting_margin import absurd

SUSPICIOUS = 0.75
"""Reported completion tokens below this share of an exact count of what came back are not believed."""
VERY_SUSPICIOUS = 0.5
"""The same for an estimate, where there are several choices: some servers report the first one only."""
SLACK = 4
"""Tokens by which report and count may differ anyway: end-of-turn tokens, a text cut at another boundary."""


LONGEST_TOKEN = 16
"""Characters per token that hardly any answer reaches; four is usual."""


MOST_WRITTEN = 10_000_000
"""Tokens that no single request writes, thoughts and choices included."""


@dataclass(slots=True)
class Consumed:
    """Tokens of one request, over all its choices."""

    prompt: int
    """Prompt tokens, counted once."""
    completion: int
    """Completion tokens, summed over choices."""
    cached: int
    """Prompt tokens that a prefix cache served."""
    note: str = ""
    """How the figures were had, where the server did not report them."""
    unreported: bool = False
    """The server said nothing of its usage."""
    stored: int = 0
    """Prompt tokens that were written to a prefix cache."""


def consumed(
    result: ChatResult, *, prompt: int, count_text: Callable[[str], int], exact: bool, trusted: bool = False
) -> Consumed:
    """What the request consumed: as reported, unless nothing or too little was reported.

    Args:
        result: the model's result, one generation per choice.
        prompt: prompt tokens as counted before the call.
        count_text: the model's counter.
        exact: whether that counter is exact.
        trusted: the model counts by itself and is never doubted.
    """
    reported = _reported(result)
    if reported is not None and trusted:
        return reported
    several = len(result.generations) > 1
    texts = [written(generation.message) for generation in result.generations]
    if reported is not None:
        reported = believable(reported, "".join(texts), prompt)
    if reported is not None and not (exact or several or too_few(reported, "".join(texts))):
        return reported
    counted = sum(map(count_text, texts))
    if reported is None:
        return Consumed(prompt, counted, 0, "usage not reported: counted here", unreported=True)
    if several and exact and counted > reported.completion:
        # Some servers report one choice of several, and short ones hide behind any tolerance.
        return _corrected(reported, counted)
    least = (SUSPICIOUS if exact else VERY_SUSPICIOUS) * counted - SLACK
    return _corrected(reported, counted) if reported.completion < least else reported


def believable(reported: Consumed, text: str, prompt: int) -> Consumed | None:
    """A server's report, its prompt replaced by our count where it names none; None where it says nothing.

    Gateways that do not know the usage fill in zeros, and broken ones what no request can have used.

    Args:
        reported: what the server said.
        text: everything that it wrote.
        prompt: prompt tokens as counted before the call.
    """
    impossible = reported.completion < 0 or reported.completion > MOST_WRITTEN
    written_none = impossible or (reported.completion == 0 and text.strip() != "")
    if reported.prompt > 0 and not absurd(reported.prompt, prompt):
        return replace(reported, completion=0) if written_none else reported
    if written_none:
        return None
    return replace(
        reported, prompt=prompt, cached=0, note=f"server reported {reported.prompt} prompt tokens: counted here"
    )


def too_few(reported: Consumed, text: str) -> bool:
    """Whether the report is too small for a text of this length, so that counting is worth its time."""
    return len(text) > LONGEST_TOKEN * reported.completion


def _corrected(reported: Consumed, counted: int) -> Consumed:
    return replace(reported, completion=counted, note=_doubt(reported, counted))


def _doubt(reported: Consumed, counted: int) -> str:
    return f"server reported {reported.completion} completion tokens: counted {counted} here"


def from_metadata(usage: Mapping[str, Any]) -> Consumed:
    """Reads LangChain's `usage_metadata`."""
    details = usage.get("input_token_details")
    cached = stored = 0
    if details:
        cached, stored = (sum(max(0, _tokens(details.get(name))) for name in names) for names in (_READ, _STORED))
    return Consumed(_tokens(usage.get("input_tokens")), _tokens(usage.get("output_tokens")), cached, stored=stored)


_READ = ("cache_read", "priority_cache_read", "flex_cache_read")
"""Names of cached prompt tokens in LangChain's details; a call of another service tier has its own."""
_STORED = ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
"""The same for those that were written to a cache; either the first or the others are set."""


def _tokens(value: object) -> int:
    """A figure of a server; -1, which nobody believes, for what is no number."""
    try:
        return int(value or 0)  # type: ignore[call-overload, no-any-return]
    except (TypeError, ValueError, OverflowError):
        return -1


def written(message: BaseMessage) -> str:
    """Everything the model wrote into a message, tool calls included, as one text to count."""
    parts = [str(message.text)]
    reasoning = message.additional_kwargs.get("reasoning_content")
    if isinstance(reasoning, str):
        parts.append(reasoning)
    if not isinstance(message.content, str):
        parts += map(_thought, message.content)
    if isinstance(message, AIMessage):
        parts += [json.dumps({"name": call["name"], "arguments": call["args"]}) for call in message.tool_calls]
    return "".join(parts)


def _thought(block: str | dict[str, Any]) -> str:
    """What a content block shows of the model's reasoning, in the forms that LangChain's providers give it."""
    if isinstance(block, str) or block.get("type") not in ("reasoning", "thinking", "reasoning_content"):
        return ""
    found = block.get("reasoning") or block.get("thinking") or block.get("reasoning_content") or block.get("text") or ""
    if isinstance(found, str):
        return found
    return str(found.get("text") or "") if isinstance(found, Mapping) else ""


def _reported(result: ChatResult) -> Consumed | None:
    output = result.llm_output
    usage = (output.get("token_usage") or output.get("usage")) if output else None
    if usage is not None and isinstance(usage, Mapping) and usage.get("completion_tokens") is not None:
        details = usage.get("prompt_tokens_details") or {}
        cached = _tokens(details.get("cached_tokens") if isinstance(details, Mapping) else 0)
        return Consumed(_tokens(usage.get("prompt_tokens")), _tokens(usage["completion_tokens"]), max(0, cached))
    if len(result.generations) == 1:
        metadata = getattr(result.generations[0].message, "usage_metadata", None)
        return from_metadata(metadata) if metadata else None
    found = [from_metadata(usage) for usage in _metadata(result.generations)]
    if not found or len(found) < len(result.generations):
        return None
    if len(found) > 1 and len({item.completion for item in found}) == 1:
        # Every choice carries the request's total (this is how langchain-openai reports it).
        return found[0]
    return Consumed(
        max(item.prompt for item in found),
        sum(item.completion for item in found),
        max(item.cached for item in found),
        stored=max(item.stored for item in found),
    )


def _metadata(generations: Iterable[ChatGeneration]) -> Iterable[Mapping[str, Any]]:
    for generation in generations:
        usage = getattr(generation.message, "usage_metadata", None)
        if usage:
            yield usage
