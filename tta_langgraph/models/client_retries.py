"""Switches off what a client retries by itself: each attempt is admitted and charged, and an answer that was lost on
the way was written all the same.

Clients do it in three ways: those of the OpenAI family and Groq's are given the number when they are made, Anthropic's
is made from the model's fields at the first call, and Mistral's and Google's look at a field at every call. Amazon's
are given a configuration when they are made (`bedrock_retries.py`).
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any, Final

from langchain_core.language_models import BaseChatModel

from tta_langgraph.models.bedrock_retries import is_boto_client, without_boto_retries

__all__ = ["without_client_retries"]


def without_client_retries(model: BaseChatModel) -> BaseChatModel:
    """The same model, whose client does not retry behind the meter's back.

    A model that does not say how often its client retries is returned as it is.
    """
    if hasattr(getattr(model, "root_client", None), "with_options"):
        return _openai(model)
    if is_boto_client(getattr(model, "client", None)):
        return without_boto_retries(model)
    if not getattr(model, "max_retries", None):
        return model
    bare = copy.copy(model)
    single = _SINGLE.get(type(model).__module__.partition(".")[0], 0)
    values: dict[str, Any] = {"max_retries": single}
    for name in ("client", "async_client"):
        resource: Any = getattr(model, name, None)
        maker: Any = getattr(resource, "_client", None)
        if hasattr(maker, "with_options"):
            values[name] = type(resource)(maker.with_options(max_retries=0))
    for name in _worked_out(type(model)):
        bare.__dict__.pop(name, None)
    return bare.model_copy(update=values)


def _openai(model: Any) -> BaseChatModel:
    client, aclient = model.root_client, model.root_async_client
    if not hasattr(aclient, "with_options") or client.max_retries == 0:
        return model  # type: ignore[no-any-return]
    bare = copy.copy(model)
    bare.root_client = client.with_options(max_retries=0)
    bare.client = bare.root_client.chat.completions
    bare.root_async_client = aclient.with_options(max_retries=0)
    bare.async_client = bare.root_async_client.chat.completions
    return bare  # type: ignore[no-any-return]


def _worked_out(kind: type) -> set[str]:
    """Cached properties: clients among them, which were made with the old settings."""
    return {name for each in kind.__mro__ for name, value in vars(each).items() if isinstance(value, cached_property)}


_SINGLE: Final = {"langchain_google_genai": 1, "langchain_google_vertexai": 1}
"""Where the field counts attempts and 0 stands for the client's own default."""
