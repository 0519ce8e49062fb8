"""LangChain's cache of answers, kept free of answers that a tight budget cut short.

The cache files an answer under what its caller asked for, and the cap that the budget granted is no part of that: an
answer that was cut at it would be served to everybody who asks the same with money to spare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatResult

_ENDS = ("finish_reason", "stop_reason", "done_reason", "status")
"""Where clients say why an answer ended: OpenAI's, Anthropic's, Ollama's, and OpenAI's of the Responses API."""
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "incomplete"})


class UncutAnswers(BaseCache):
    """The cache of one call: answers are looked up as ever, and stored unless they were cut.

    Args:
        cache: the user's own.
    """

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache
        self.cut = False
        """The answer of this call was cut by the budget."""

    @classmethod
    def of(cls, model: BaseChatModel) -> UncutAnswers | None:
        """The cache that LangChain would use for this model, for one call; None if that is none."""
        cache = get_llm_cache() if model.cache is None or model.cache is True else model.cache
        return None if cache is None or cache is False or isinstance(cache, cls) else cls(cache)

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Looks an answer up."""
        return self._cache.lookup(prompt, llm_string)

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """Looks an answer up."""
        return await self._cache.alookup(prompt, llm_string)

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Stores an answer that was not cut."""
        if not self.cut:
            self._cache.update(prompt, llm_string, return_val)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Stores an answer that was not cut."""
        if not self.cut:
            await self._cache.aupdate(prompt, llm_string, return_val)

    def clear(self, **kwargs: Any) -> None:
        """Clears the user's cache."""
        self._cache.clear(**kwargs)

    async def aclear(self, **kwargs: Any) -> None:
        """Clears the user's cache."""
        await self._cache.aclear(**kwargs)


def end_of(*infos: Mapping[str, Any] | None) -> str | None:
    """Why an answer ended, in the client's own word; None if it does not say."""
    found = (info.get(name) for info in infos if info for name in _ENDS)
    return next((str(end) for end in found if end), None)


def ends_of(result: ChatResult) -> list[str | None]:
    """Why each choice of an answer ended."""
    metadata = ((generation, generation.message.response_metadata) for generation in result.generations)
    return [end_of(generation.generation_info, said, result.llm_output) for generation, said in metadata]


def is_cut(end: str | None) -> bool:
    """Whether that means that the answer reached its cap."""
    return end is not None and end.lower() in _CUT
