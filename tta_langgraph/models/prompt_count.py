"""The prompt count of one call: the count itself, the upper bound that is reserved, and learning from the report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from tta_langgraph.models.counting import SafetyMargin, TokenCounter, counter_for, margin_for, media_tokens_for
from tta_langgraph.models.counting_server import ServerCounter
from tta_langgraph.models.counting_text import media_in
from tta_langgraph.models.history import encoded
from tta_langgraph.threads import in_thread

SLOW = 0.001
"""Seconds of counting that an event loop is not held up for: beyond it, a thread counts."""


@dataclass(slots=True)
class Counted:
    """A counted prompt."""

    count: int
    """Prompt tokens by the model's counter, and what the pictures in it cost at most."""
    bound: int
    """What is reserved: the count itself where it is exact, else the count with its learned safety margin."""
    counter: TokenCounter
    """Who counted."""
    margin: SafetyMargin
    """The margin that was applied, and that learns."""
    media: int = 0
    """Pictures, recordings and documents in the prompt."""
    media_tokens: int = 0
    """What they cost at most, as part of the count."""

    def learn(self, reported: int) -> None:
        """Teaches the margin what the server reported for this prompt."""
        text = self.count - self.media_tokens
        self.margin.observe(estimated=text, reported=reported, media=self.media, media_tokens=self.media_tokens)


class PromptCounter:
    """Counts the prompts of one model, and knows how long its counter takes.

    Args:
        model: the chat model that will be called.
    """

    def __init__(self, model: BaseChatModel) -> None:
        self._model = model
        self.counter = counter_for(model)
        """Who counts."""
        self.over_network = isinstance(self.counter, ServerCounter)
        """Counting asks a server, which may take its time."""
        self._media_tokens = media_tokens_for(model)
        self._margin = None if self.over_network else margin_for(model)
        self._pace: float | None = None

    def count(self, messages: Sequence[BaseMessage], **kwargs: Any) -> Counted:
        """Counts a prompt before the call; nothing is generated.

        Raises:
            UnsendableError: a text that no model can be sent.
        """
        media = self._check(messages)
        return self._counted(self.counter.count_messages(messages, **kwargs), media)

    async def acount(self, messages: Sequence[BaseMessage], **kwargs: Any) -> Counted:
        """Twin of `count`; what takes long is counted in a thread."""
        media = self._check(messages)
        size = sum(len(message.content) for message in messages) + 1_000 * len(kwargs)
        if self.is_quick(size):
            return self._counted(self._timed(size, messages, kwargs), media)
        return self._counted(await in_thread(lambda: self._timed(size, messages, kwargs)), media)

    def is_quick(self, size: int) -> bool:
        """Whether an event loop may wait for the count of so many characters: never for a server's."""
        return not self.over_network and self._pace is not None and self._pace * (size + _OVERHEAD) < SLOW

    def _check(self, messages: Sequence[BaseMessage]) -> list[int]:
        """Refuses what cannot be sent; returns what each picture and the like costs at most."""
        media: list[int] = []
        for message in messages:
            content = message.content
            if isinstance(content, str) and content.isascii():
                continue
            # Clients of servers would find it out after the call was admitted, when it may have cost something.
            encoded(message.text, where=type(self._model).__name__)
            if not isinstance(content, str):
                media += [self._media_tokens(one) for block in content for one in media_in(block)]
        return media

    def _timed(self, size: int, messages: Sequence[BaseMessage], kwargs: dict[str, Any]) -> int:
        begun = time.perf_counter()
        count = self.counter.count_messages(messages, **kwargs)
        pace = (time.perf_counter() - begun) / (size + _OVERHEAD)
        # A slow count is believed at once; that it was an exception, only over time.
        self._pace = pace if self._pace is None else max(pace, 0.9 * self._pace + 0.1 * pace)
        return count

    def _counted(self, count: int, media: list[int]) -> Counted:
        margin, most = self._margin or margin_for(self._model), sum(media)
        bound = margin.bound(count, len(media), most)
        return Counted(count + most, bound, self.counter, margin, len(media), most)


def count_prompt(model: BaseChatModel, messages: Sequence[BaseMessage], **kwargs: Any) -> Counted:
    """Counts one prompt of a model; nothing is generated."""
    return PromptCounter(model).count(messages, **kwargs)


_OVERHEAD = 500
"""Characters that the fixed cost of a count is worth."""
