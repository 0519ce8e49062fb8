"""How the scripted server turns a reply into tokens: `max_tokens`, `stop`, `n` and hidden reasoning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tta_langgraph.testing.replies import Reply
from tta_langgraph.testing.tokens import count_tokens, tokenize


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one choice will produce."""

    pieces: Sequence[str]
    """One entry per token; empty where the token is hidden (reasoning, tool calls, the stop string)."""
    hidden: int
    """Reasoning tokens among them."""
    finish_reason: str
    """`stop`, `length` or `tool_calls`."""
    tool_calls: Sequence[Mapping[str, Any]]
    """Tool calls in OpenAI's form; none where the cap cut them."""
    logprobs: Sequence[float] | None
    """One log-probability per token, or None where they are not asked for or not supported."""

    @property
    def text(self) -> str:
        """What the client sees in the end."""
        return "".join(self.pieces)


def plan_choice(reply: Reply, index: int, params: Mapping[str, Any], cap: int) -> Choice:
    """Plans one choice of a reply under the request's parameters.

    Args:
        reply: the scripted reply.
        index: position of the choice.
        params: parameters of the request (`stop`, `logprobs`).
        cap: most tokens this choice may produce.
    """
    text = reply.choice_text(index)
    hidden = max(0, (reply.completion_tokens or 0) - count_tokens(text))
    visible, stopped = _stop_at(tokenize(text), params.get("stop"))
    calls = [] if stopped else _tool_calls(reply, index)
    pieces = [""] * hidden + visible + [""] * sum(count_tokens(json.dumps(call)) for call in calls)
    cut = len(pieces) > cap
    pieces = pieces[:cap]
    if cut:
        calls = []
    return Choice(
        pieces=pieces,
        hidden=min(hidden, cap),
        finish_reason="length" if cut else "tool_calls" if calls else "stop",
        tool_calls=calls,
        logprobs=_logprobs(reply, len(pieces)) if params.get("logprobs") else None,
    )


def _stop_at(pieces: list[str], stop: str | Sequence[str] | None) -> tuple[list[str], bool]:
    """Ends at the first stop string: its tokens are produced (and billed), but not shown."""
    text = "".join(pieces)
    stops = [stop] if isinstance(stop, str) else list(stop or ())
    hits = [(text.index(each), each) for each in stops if each and each in text]
    if not hits:
        return pieces, False
    end, hit = min(hits)
    shown: list[str] = []
    position = 0
    for piece in pieces:
        if position >= end + len(hit):
            break
        shown.append(piece[: max(0, end - position)])
        position += len(piece)
    return shown, True


def _tool_calls(reply: Reply, index: int) -> list[Mapping[str, Any]]:
    return [
        {
            "id": f"call_{index}_{position}",
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(dict(call.arguments))},
        }
        for position, call in enumerate(reply.tool_calls)
    ]


def _logprobs(reply: Reply, count: int) -> list[float] | None:
    if reply.logprobs is None:
        return None
    values = [reply.logprobs] if isinstance(reply.logprobs, int | float) else list(reply.logprobs)
    return [float(values[position % len(values)]) for position in range(count)]


def usage_body(reply: Reply, prompt_tokens: int, choices: Sequence[Choice]) -> dict[str, Any] | None:
    """Returns the `usage` object as this reply reports it, or None where it reports none."""
    if reply.usage is False:
        return None
    if reply.usage in ("zeros", "empty"):
        names = ("prompt_tokens", "completion_tokens", "total_tokens") if reply.usage == "zeros" else ()
        return dict.fromkeys(names, 0)
    counts = [len(choice.pieces) for choice in choices]
    completion = sum(counts)
    if reply.usage == "first_choice_only":
        completion = counts[0]
    elif reply.usage == "wrong":
        completion //= 2
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": prompt_tokens + completion,
        "prompt_tokens_details": {"cached_tokens": min(reply.cached_tokens, prompt_tokens)},
        "completion_tokens_details": {"reasoning_tokens": sum(choice.hidden for choice in choices)},
    }
