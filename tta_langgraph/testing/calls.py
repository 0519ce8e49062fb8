"""How an adapter of the conformance suite makes the calls of a scenario with a LangChain chat model."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage, HumanMessage

from tta_langgraph.testing.conformance import Call


async def ask(model: BaseChatModel, call: Call) -> tuple[str, int]:
    """Makes one call of a scenario; returns its text and the tokens that its usage reports (0 where it has none)."""
    options: dict[str, Any] = {"max_tokens": call.max_tokens}
    if call.n > 1:
        result = await model.agenerate([[HumanMessage(call.prompt)]], **options, n=call.n)
        message = result.generations[0][0].message  # type: ignore[union-attr]
        return message.text, reported_tokens(message)
    if call.stream:
        whole = AIMessageChunk(content="")
        async for chunk in model.astream(call.prompt, **options):
            whole += chunk
        return whole.text, reported_tokens(whole)
    message = await model.ainvoke(call.prompt, **options)
    return message.text, reported_tokens(message)


def reported_tokens(message: BaseMessage) -> int:
    """Returns the tokens that a message's usage reports, 0 where it has none."""
    usage = getattr(message, "usage_metadata", None)
    return int(usage["total_tokens"]) if usage else 0
