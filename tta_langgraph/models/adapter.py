"""What the meter must know of a chat model: the name of its cap, whether it takes `n`, whether it can be cancelled."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel

_CAP_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict", "max_new_tokens")
_RARE_OPTIONS = frozenset({"logprobs", "top_logprobs", "seed", "response_format", "extra_body", "min_p", "top_k"})
_NAME_FIELDS = ("model_name", "model", "model_id", "repo_id")


@dataclass(frozen=True, slots=True)
class Adapter:
    """Facts about one chat model, read off its fields once."""

    name: str
    """The model's name, for prices, counters and traces."""
    server: str
    """The address of the server that it asks; empty where it does not say."""
    cap: str
    """Keyword that limits the completion tokens of a call."""
    default_cap: int | None
    """The cap that the model was configured with, or None."""
    default_n: int
    """Choices per request that the model was configured with."""
    exact_usage: bool
    """Counts its own tokens, so that its reports are never doubted."""
    takes_n: bool
    """Gives several choices in one request."""
    takes_timeout: bool
    """Accepts `timeout` seconds per call and cancels the request itself."""
    native_async: bool
    """Has an async call of its own, which cancelling the task really cancels."""
    native_async_stream: bool
    """Streams on an event loop by itself, through a client that is set up as its sync one is."""
    streams: bool
    """Has a streaming call of its own."""
    stream_usage: bool
    """Accepts `stream_usage`, to report usage at the end of a stream."""
    optional: frozenset[str]
    """Options that not every model knows, and this one does."""

    def understands(self, option: str) -> bool:
        """Whether an option may be passed: the common ones always, the rarer ones where the model has them."""
        return option not in _RARE_OPTIONS or option in self.optional

    @classmethod
    def of(cls, model: BaseChatModel) -> Adapter:
        """Reads the facts off the model's class and fields; nothing is called."""
        fields = type(model).model_fields
        cap = next((name for name in _CAP_FIELDS if name in fields), "max_tokens")
        configured = getattr(model, cap, None)
        named = (getattr(model, name, None) for name in _NAME_FIELDS)
        kind = type(model)
        known = getattr(model, "supported_options", ())
        return cls(
            name=next((str(name) for name in named if name), kind.__name__),
            server=_server(model),
            cap=cap,
            default_cap=configured if isinstance(configured, int) and configured > 0 else None,
            default_n=int(getattr(model, "n", None) or 1),
            exact_usage=bool(getattr(model, "reports_exact_usage", False)),
            takes_n="n" in fields or bool(getattr(model, "supports_n", False)),
            takes_timeout="request_timeout" in fields or bool(getattr(model, "supports_timeout", False)),
            native_async=kind._agenerate is not BaseChatModel._agenerate,
            native_async_stream=kind._astream is not BaseChatModel._astream and not _sync_client_only(model),
            streams=kind._stream is not BaseChatModel._stream or kind._astream is not BaseChatModel._astream,
            stream_usage="stream_usage" in fields,
            optional=frozenset(name for name in _RARE_OPTIONS if name in fields or name in known),
        )


def _server(model: BaseChatModel) -> str:
    client = getattr(model, "root_client", None)
    named = (getattr(model, name, None) for name in ("openai_api_base", "base_url", "endpoint_url"))
    return str(getattr(client, "base_url", None) or next((url for url in named if url), ""))


def _sync_client_only(model: BaseChatModel) -> bool:
    """Whether the user gave an HTTP client of their own for sync calls and none for async ones."""
    given = getattr(model, "http_client", None), getattr(model, "http_async_client", None)
    return given[0] is not None and given[1] is None


def without_client_retries(model: BaseChatModel) -> BaseChatModel:
    """The same model, whose client does not retry behind the meter's back: each attempt is admitted and charged.

    Clients of the OpenAI family retry twice on their own; a response that was lost on the way was produced all the
    same. Other models are returned as they are.
    """
    client: Any = getattr(model, "root_client", None)
    aclient: Any = getattr(model, "root_async_client", None)
    if not hasattr(client, "with_options") or not hasattr(aclient, "with_options"):
        return model
    if client.max_retries == 0:
        return model
    bare: Any = copy.copy(model)
    bare.root_client = client.with_options(max_retries=0)
    bare.client = bare.root_client.chat.completions
    bare.root_async_client = aclient.with_options(max_retries=0)
    bare.async_client = bare.root_async_client.chat.completions
    return bare  # type: ignore[no-any-return]
