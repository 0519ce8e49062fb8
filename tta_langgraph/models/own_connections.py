"""Async connections of its own for what sync callers run on the loop in the background.

A sync call that must end at its deadline runs as a task on that loop (`sync_loop.py`). An async client keeps its
connections open, and an open connection belongs to the loop that made it: were the client shared with the user's own
async calls, whoever comes second would fail, on a connection of another loop.
"""

from __future__ import annotations

import sys
import threading
import weakref
from functools import partial
from typing import Any, Final

import httpx
from langchain_core.language_models import BaseChatModel

__all__ = ["on_own_connections"]


def on_own_connections(bare: BaseChatModel, origin: BaseChatModel) -> BaseChatModel:
    """The model with async connections that nobody else uses; as it is where it shows none, or where they are the
    user's own, whose settings cannot be read.

    Args:
        bare: the model to call.
        origin: the user's model that it was made from; its connections are made once.
    """
    model: Any = bare
    if hasattr(root := getattr(model, "root_async_client", None), "with_options"):
        if (http := _client(origin, root)) is None:
            return bare
        own = _with(root, http)
        return bare.model_copy(update={"root_async_client": own, "async_client": own.chat.completions})
    client: Any = getattr(model, "async_client", None)
    if isinstance(client, httpx.AsyncClient):  # Mistral
        return _replaced(bare, "async_client", _client(origin, client))
    if hasattr(maker := getattr(client, "_client", None), "with_options"):  # Groq
        http = _client(origin, maker)
        return bare if http is None else _replaced(bare, "async_client", type(client)(_with(maker, http)))
    client = getattr(model, "_async_client", None)
    if hasattr(client, "with_options"):  # Anthropic
        http = _client(origin, client)
        return bare if http is None else _replaced(bare, "_async_client", _with(client, http))
    if hasattr(model, "_set_clients"):  # Ollama
        return _replaced(bare, "_async_client", _once(origin, lambda: _ollama(origin)))
    return bare


def _with(maker: Any, http: Any) -> Any:
    return maker.with_options(http_client=http)


def _replaced(bare: BaseChatModel, name: str, value: Any) -> BaseChatModel:
    copied: Any = bare.model_copy()
    if name in (type(bare).__private_attributes__ or {}):
        setattr(copied, name, value)
    else:
        copied.__dict__[name] = value  # a field, or a cached property
    return copied  # type: ignore[no-any-return]


def _client(origin: BaseChatModel, like: Any) -> Any:
    """A new HTTP client, set up as the one that LangChain or this package made; None if the user made it."""
    given = getattr(origin, "http_async_client", None)
    proxy = getattr(origin, "openai_proxy", None) or getattr(origin, "anthropic_proxy", None)
    kit = _kit(like)
    if (given is not None and not proxy and not getattr(given, "is_ours", False)) or kit is None:
        return None

    def make() -> Any:
        settings: dict[str, Any] = {"base_url": str(like.base_url), "timeout": like.timeout, "proxy": proxy}
        if kit is httpx:
            return httpx.AsyncClient(**settings, headers=like.headers)
        return kit.DefaultAsyncHttpxClient(**settings, trust_env=given is None or given.trust_env)

    return _once(origin, make)


def _kit(like: Any) -> Any:
    """The package that made a client: openai, groq, anthropic or httpx."""
    if isinstance(like, httpx.AsyncClient):
        return httpx
    kits = (sys.modules.get(each.__module__.partition(".")[0]) for each in type(like).__mro__)
    return next((kit for kit in kits if hasattr(kit, "DefaultAsyncHttpxClient")), None)


def _ollama(origin: BaseChatModel) -> Any:
    fresh: Any = origin.model_copy(update={"validate_model_on_init": False})
    fresh._set_clients()
    return fresh._async_client


def _once(origin: BaseChatModel, make: Any) -> Any:
    with _LOCK:
        key = id(origin)
        known = _MADE.get(key)
        if known is None or known[0]() is not origin:
            known = _MADE[key] = weakref.ref(origin, partial(_forget, _MADE, key)), make()
        return known[1]


def _forget(made: dict[int, Any], key: int, _: object) -> None:
    """Called when a model is gone; takes the table as an argument, for at exit the module's names are gone too."""
    made.pop(key, None)


_LOCK: Final = threading.RLock()
_MADE: Final[dict[int, tuple[weakref.ref[BaseChatModel], Any]]] = {}
