"""How many tokens a prompt will be, before it is sent, for every chat model.

In order of preference: the model's own exact count; the server's tokenize endpoint; a tokenizer the provider's class
brings along without a network; tiktoken; an estimate. Whatever is not exact is multiplied by a margin that learns.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Protocol

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from tta_langgraph.models.counting_margin import SafetyMargin
from tta_langgraph.models.counting_server import ServerCounter, may_count
from tta_langgraph.models.counting_text import TextCounter, encoding_for, estimate_tokens
from tta_langgraph.models.picture_tokens import MediaTokens, media_tokens

__all__ = [
    "SafetyMargin",
    "TokenCounter",
    "acount_messages",
    "counter_for",
    "estimate_tokens",
    "margin_for",
    "media_tokens_for",
]

logger = logging.getLogger(__name__)


class TokenCounter(Protocol):
    """Counts the tokens of one model."""

    @property
    def name(self) -> str:
        """What counts, for traces."""

    @property
    def exact(self) -> bool:
        """Whether counts equal what the server will charge."""

    def count_messages(self, messages: Sequence[BaseMessage], **kwargs: Any) -> int:
        """Prompt tokens of a call with these messages and arguments (tools and formats change the prompt).

        Not those of pictures, recordings and documents; a server may include them.
        """

    def count_text(self, text: str) -> int:
        """Tokens of a bare text, for answers whose usage was not reported."""


def counter_for(model: BaseChatModel) -> TokenCounter:
    """The best counter for a model; the same object for the same model.

    Args:
        model: any chat model. A wrapper with a field `inner` or `bound` is counted as what it wraps.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> counter_for(FakeListChatModel(responses=["hi"])).exact
        False
    """
    with _LOCK:
        known = _COUNTERS.get(id(model))
        if known is not None and known[0]() is model:
            return known[1]
        counter, key = _choose(model), id(model)
        _COUNTERS[key] = (weakref.ref(model, partial(_forget, _COUNTERS, key)), counter)
        while len(_COUNTERS) > MOST_COUNTERS:  # a counter may hold its model, which then would never be forgotten
            del _COUNTERS[next(iter(_COUNTERS))]
        return counter


async def acount_messages(model: BaseChatModel, messages: Sequence[BaseMessage], **kwargs: Any) -> int:
    """`counter_for(model).count_messages(...)` that leaves the event loop free while a server or engine counts.

    Args:
        model: any chat model.
        messages: the prompt.
        **kwargs: the arguments of the call.
    """
    counter = await asyncio.to_thread(counter_for, model)
    if isinstance(counter, TextCounter):
        return counter.count_messages(messages, **kwargs)
    return await asyncio.to_thread(counter.count_messages, messages, **kwargs)


def margin_for(model: BaseChatModel) -> SafetyMargin:
    """The margin of a model's counts, shared by all instances with the same name and way of counting."""
    counter = counter_for(model)
    kind = "exact" if counter.exact else type(counter).__name__
    with _LOCK:
        key = (_model_name(_unwrapped(model)), kind)
        if key not in _MARGINS:
            factor, offset = _PRIORS.get(kind, _PRIORS["TextCounter"])
            _MARGINS[key] = SafetyMargin(factor, offset=offset, exact=counter.exact)
        return _MARGINS[key]


def media_tokens_for(model: BaseChatModel) -> MediaTokens:
    """What a model's provider charges at most for a picture, a recording or a document."""
    bare = _unwrapped(model)
    return media_tokens(_model_name(bare), bare._get_ls_params().get("ls_provider"))


def _forget(counters: dict[int, Any], key: int, _: object) -> None:
    """Called when a model is gone; takes the table as an argument, for at exit the module's names are gone too."""
    counters.pop(key, None)


def _choose(model: BaseChatModel) -> TokenCounter:
    bare = _unwrapped(model)
    if callable(getattr(bare, "count_prompt_tokens", None)):
        return _OwnCounter(bare)
    fallback = TextCounter(encoding_for(_model_name(bare)))
    if hasattr(bare, "root_client") and may_count(bare):
        return ServerCounter(bare, fallback)
    if _brings_tokenizer(bare):
        return _ProviderCounter(bare, fallback)
    return fallback


class _OwnCounter:
    """The model counts by itself, exactly."""

    exact = True

    def __init__(self, model: Any) -> None:
        self._model = model
        self.name = f"{_model_name(model)}'s own tokenizer"

    def count_messages(self, messages: Sequence[BaseMessage], **kwargs: Any) -> int:
        return int(self._model.count_prompt_tokens(list(messages), **kwargs))

    def count_text(self, text: str) -> int:
        count = getattr(self._model, "count_text", None) or self._model.get_num_tokens
        return int(count(text)) if text else 0


class _ProviderCounter:
    """The provider's class counts without a network; its frame of messages and tools is ours."""

    exact = False

    def __init__(self, model: Any, fallback: TextCounter) -> None:
        self._model, self._fallback = model, fallback
        self.name = f"{type(model).__name__}'s tokenizer"

    def count_text(self, text: str) -> int:
        return int(self._model.get_num_tokens(text))

    def count_messages(self, messages: Sequence[BaseMessage], **kwargs: Any) -> int:
        framed = _Framed(self._model, self._fallback.encoding)
        return framed.count_messages(messages, **kwargs)


class _Framed(TextCounter):
    """The frame of a chat prompt around somebody else's tokenizer."""

    def __init__(self, model: Any, encoding: str) -> None:
        super().__init__(encoding)
        self._model = model

    def count_text(self, text: str) -> int:
        return int(self._model.get_num_tokens(text))


def _brings_tokenizer(model: BaseChatModel) -> bool:
    """Whether the class counts text by itself: not LangChain's default (GPT-2 from a hub), not over a network."""
    if type(model).__module__.split(".")[0] in _COUNT_OVER_NETWORK:
        return False
    return model.custom_get_token_ids is not None or any(
        getattr(type(model), name) is not getattr(BaseChatModel, name) for name in ("get_num_tokens", "get_token_ids")
    )


def _unwrapped(model: Any) -> Any:
    for _ in range(8):
        inner = getattr(model, "inner", None) or getattr(model, "bound", None)
        if not isinstance(inner, BaseChatModel) or callable(getattr(model, "count_prompt_tokens", None)):
            return model
        model = inner
    return model


def _model_name(model: Any) -> str:
    named = (getattr(model, field, None) for field in ("model_name", "model", "model_id", "deployment_name"))
    return next((str(name) for name in named if isinstance(name, str) and name), type(model).__name__)


_LOCK: Final = threading.RLock()
_COUNTERS: Final[dict[int, tuple[weakref.ref[BaseChatModel], TokenCounter]]] = {}
MOST_COUNTERS: Final = 256
"""Counters that are kept, the newest ones."""
_MARGINS: Final[dict[tuple[str, str], SafetyMargin]] = {}
# Factor and constant (tokens) to start with. tiktoken counts another family's tokens within 15%; the estimate is
# cautious by itself. The constant covers a default system prompt that a chat template adds on its own.
_PRIORS: Final = {"exact": (1.0, 0), "_ProviderCounter": (1.05, 32), "TextCounter": (1.15, 32)}
_COUNT_OVER_NETWORK: Final = frozenset(
    {"langchain_anthropic", "langchain_aws", "langchain_google_genai", "langchain_google_vertexai", "langchain_openai"}
)
