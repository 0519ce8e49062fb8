"""The prompt count of one call: the count itself, the upper bound that is reserved, and learning from the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from tta_langgraph.models.counting import (
    SafetyMargin,
    TokenCounter,
    acount_messages,
    counter_for,
    margin_for,
)


@dataclass(frozen=True, slots=True)
class Counted:
    """A counted prompt."""

    count: int
    """Prompt tokens by the model's counter."""
    bound: int
    """What is reserved: the count itself where it is exact, else the count with its learned safety margin."""
    counter: TokenCounter
    """Who counted."""
    margin: SafetyMargin
    """The margin that was applied, and that learns."""

    def learn(self, reported: int) -> None:
        """Teaches the margin what the server reported for this prompt."""
        self.margin.observe(estimated=self.count, reported=reported)


def count_prompt(model: BaseChatModel, messages: Sequence[BaseMessage], **kwargs: Any) -> Counted:
    """Counts a prompt before the call; nothing is generated."""
    return _counted(model, counter_for(model).count_messages(messages, **kwargs))


async def acount_prompt(model: BaseChatModel, messages: Sequence[BaseMessage], **kwargs: Any) -> Counted:
    """Twin of `count_prompt`: a server that counts slowly does not hold the event loop up."""
    return _counted(model, await acount_messages(model, messages, **kwargs))


def _counted(model: BaseChatModel, count: int) -> Counted:
    margin = margin_for(model)
    return Counted(count, margin.bound(count), counter_for(model), margin)
