"""Anthropic's thinking under a cap that the budget lowered.

Its `budget_tokens` are part of `max_tokens`, must stay below them, and are at least 1,024: a server refuses any other
request. So what is left of a budget is shared between thoughts and answer, and below a useful minimum the model answers
without thinking, as it would be refused otherwise with tokens enough for an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

__all__ = ["LEAST_THINKING", "thinking_asked", "thinking_within"]

LEAST_THINKING: Final = 1_024
"""Tokens that the provider accepts as a budget for thinking, at least."""


def thinking_asked(model: BaseChatModel, options: Mapping[str, Any]) -> int:
    """Tokens of thinking that the model or the call asks for; 0 where it says no number.

    Args:
        model: the model to call; its field `thinking` goes before the option of that name, as in its client.
        options: of the call.
    """
    own = getattr(model, "thinking", None)
    thinking = own if own is not None else options.get("thinking")
    asked = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
    return asked if isinstance(asked, int) else 0


def thinking_within(
    model: BaseChatModel, options: Mapping[str, Any], cap: int, wanted: int
) -> tuple[BaseChatModel, dict[str, Any]]:
    """The model and the call's options with a budget for thinking that the granted cap has room for.

    Args:
        model: the model to call.
        options: of the call.
        cap: completion tokens that were granted.
        wanted: the cap that was asked for, from which the answer's share is known.
    """
    asked = thinking_asked(model, options)
    answer = min(wanted - asked, cap // 2) if wanted > asked else cap // 2
    budget = min(asked, cap - answer)
    if budget == asked:
        return model, dict(options)
    own = getattr(model, "thinking", None)
    thinking = own if own is not None else options["thinking"]
    fitting = {**thinking, "budget_tokens": budget} if budget >= LEAST_THINKING else None
    changed = {name: value for name, value in options.items() if name != "thinking"}
    if own is not None:
        return model.model_copy(update={"thinking": fitting}), changed
    return model, changed if fitting is None else {**changed, "thinking": fitting}
