"""`llm_output` of several prompts answered together, as LangChain's `generate` and its callbacks read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["combined_outputs"]


def combined_outputs(outputs: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """One `llm_output` for all: token usage summed, details included, and the model's name.

    Args:
        outputs: one per prompt; None where a call was streamed.

    Example:
        >>> combined_outputs([{"token_usage": {"total_tokens": 3}}, None, {"token_usage": {"total_tokens": 4}}])
        {'token_usage': {'total_tokens': 7}}
    """
    given = [output for output in outputs if output]
    usage: dict[str, Any] = {}
    for output in given:
        usage = _added(usage, output.get("token_usage") or {})
    named = {name: value for output in given for name, value in output.items() if name != "token_usage"}
    return {**({"token_usage": usage} if usage else {}), **named}


def _added(total: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    added = dict(total)
    for name, value in more.items():
        if isinstance(value, Mapping):
            added[name] = _added(added.get(name) or {}, value)
        elif value is not None:
            added[name] = added.get(name, 0) + value
    return added
