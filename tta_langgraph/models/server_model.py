"""A `ChatOpenAI` whose settings can be copied and sent to other processes; its connections stay behind.

Needs langchain-openai, so it is imported only where a server is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final, Self, TypeVar

import httpx
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI

from tta_langgraph.models.openai_compatible import on_this_machine, without_password
from tta_langgraph.models.server_errors import aexplained_stream, explained, explained_stream

__all__ = ["ServerChatModel"]


class ServerChatModel(ChatOpenAI):
    """The model of a server of one's own. Made by `chat_openai_server`.

    Copies and pickles carry all settings, the API key among them, and open connections of their own. Where the server
    is on this machine, no proxy of the environment comes between.
    """

    def __init__(self, **fields: Any) -> None:
        if on_this_machine(fields.get("base_url") or fields.get("openai_api_base") or ""):
            patience = fields.get("timeout", fields.get("request_timeout"))
            fields.setdefault("http_client", _Direct(timeout=patience, trust_env=False))
            fields.setdefault("http_async_client", _DirectAsync(timeout=patience, trust_env=False))
        super().__init__(**fields)

    # What goes wrong is said with the address and a remedy.

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        with explained(self._address):
            return super()._generate(*args, **kwargs)

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        with explained(self._address):
            return await super()._agenerate(*args, **kwargs)

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        return explained_stream(super()._stream(*args, **kwargs), self._address)

    def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        return aexplained_stream(super()._astream(*args, **kwargs), self._address)

    @property
    def _address(self) -> str:
        return without_password(str(self.root_client.base_url).rstrip("/"))

    @classmethod
    def lc_id(cls) -> list[str]:
        """As a `ChatOpenAI`, which is what LangChain reads such a model back as."""
        return ChatOpenAI.lc_id()

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[type[Self], dict[str, Any]]]:
        return _rebuilt, (type(self), self._settings())

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return _rebuilt(type(self), self._settings())

    def _settings(self) -> dict[str, Any]:
        """The fields that were set, without what only this process has.

        Raises:
            TypeError: an HTTP client of the user's own is among them.
        """
        fields = {name: getattr(self, name) for name in self.model_fields_set - _CONNECTED}
        proxied = fields.get("openai_proxy") is not None  # then the clients are LangChain's
        for name, ours in (("http_client", _Direct), ("http_async_client", _DirectAsync)):
            if not isinstance(fields.pop(name, None), ours | None) and not proxied:
                raise TypeError(f"a model with a {name} of its own cannot be copied or sent; make it anew from its URL")
        return fields


class _Direct(httpx.Client):
    """A client of ours, which can be made again."""


class _DirectAsync(httpx.AsyncClient):
    """Its async twin."""

    is_ours = True


M = TypeVar("M", bound=ServerChatModel)


def _rebuilt(kind: type[M], fields: Mapping[str, Any]) -> M:
    return kind(**fields)


_CONNECTED: Final = frozenset({"client", "async_client", "root_client", "root_async_client"})
