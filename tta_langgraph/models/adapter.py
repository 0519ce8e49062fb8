"""What the meter must know of a chat model: the name of its cap, whether it takes `n`, whether it can be cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel

from tta_langgraph.models.asked import CAPS, NOTHING, Asked, limits_of, unlimited

_RARE_OPTIONS = frozenset({"logprobs", "top_logprobs", "seed", "response_format", "extra_body", "min_p", "top_k"})
_NAME_FIELDS = ("model_name", "model", "model_id", "repo_id", "deployment_name")
_ADDRESSES = ("openai_api_base", "base_url", "endpoint_url", "groq_api_base", "anthropic_api_url", "endpoint")


@dataclass(frozen=True, slots=True)
class Adapter:
    """Facts about one chat model, read off its fields once."""

    name: str
    """The model's name, for prices, counters and traces."""
    provider: str | None
    """Who serves it, as LangChain names them: the same model has other prices elsewhere."""
    server: str
    """The address of the server that it asks; empty where it does not say."""
    cap: str
    """Keyword that limits the completion tokens of a call."""
    cap_is_field: bool
    """The model knows that limit as a field only: a call must not be given it as a keyword."""
    cap_in_pipeline: bool
    """The model passes on `pipeline_kwargs` and nothing else of a call, so that the cap goes in there."""
    default_cap: int | None
    """The cap that the model was configured with, under whatever name, or None."""
    default_n: int
    """Choices per request that the model was configured with, wherever."""
    own_n: int
    """The same, as its field `n` says."""
    body: Mapping[str, Any] | None
    """The configured `extra_body` without limits; None where it sets none."""
    exact_usage: bool
    """Counts its own tokens, so that its reports are never doubted."""
    takes_n: bool
    """Gives several choices in one request."""
    takes_timeout: bool
    """Accepts `timeout` seconds per call and cancels the request itself."""
    timeout: Any
    """The one that it was configured with, in its client's own form, or None."""
    native_async: bool
    """Has an async call of its own, which cancelling the task really cancels."""
    native_async_stream: bool
    """Streams on an event loop by itself, through a client that is set up as its sync one is."""
    streams: bool
    """Has a streaming call of its own."""
    stream_usage: bool
    """Has a field `stream_usage`, to report usage at the end of a stream."""
    optional: frozenset[str]
    """Options that not every model knows, and this one does."""

    def understands(self, option: str) -> bool:
        """Whether an option may be passed: the common ones always, the rarer ones where the model has them."""
        return option not in _RARE_OPTIONS or option in self.optional

    @classmethod
    def of(cls, model: BaseChatModel) -> Adapter:
        """Reads the facts off the model's class and fields; nothing is called."""
        fields = type(model).model_fields
        cap = next((name for name in CAPS if name in fields), "max_tokens")
        configured = _configured(model)
        extra = getattr(model, "extra_body", None)
        named = (getattr(model, name, None) for name in _NAME_FIELDS)
        kind = type(model)
        known = getattr(model, "supported_options", ())
        return cls(
            name=next((str(name) for name in named if name), kind.__name__),
            provider=model._get_ls_params().get("ls_provider"),
            server=_server(model),
            cap=cap,
            cap_in_pipeline=_pipeline(model) is not None,
            cap_is_field=cap == "num_predict",  # Ollama's client takes it among its `options`
            default_cap=configured.cap,
            default_n=configured.n or 1,
            own_n=int(getattr(model, "n", None) or 1),
            body=_unlimited(extra),
            exact_usage=bool(getattr(model, "reports_exact_usage", False)),
            takes_n="n" in fields or bool(getattr(model, "supports_n", False)),
            takes_timeout="request_timeout" in fields or bool(getattr(model, "supports_timeout", False)),
            timeout=getattr(model, "request_timeout", None) or getattr(model, "timeout", None),
            native_async=kind._agenerate is not BaseChatModel._agenerate,
            native_async_stream=kind._astream is not BaseChatModel._astream and not _sync_client_only(model),
            streams=kind._stream is not BaseChatModel._stream or kind._astream is not BaseChatModel._astream,
            stream_usage="stream_usage" in fields,
            optional=frozenset(name for name in _RARE_OPTIONS if name in fields or name in known),
        )


def _configured(model: BaseChatModel) -> Asked:
    """The limits that the model was made with. Fields that say "without a limit" (-1, -2) set none."""
    fields = {name: getattr(model, name, None) for name in (*CAPS, "n") if name in type(model).model_fields}
    own = {name: value for name, value in fields.items() if isinstance(value, int) and value > 0}
    if type(model).__module__.startswith("langchain_anthropic"):
        # This client asks for the most that the model can write unless told otherwise: nobody's choice, and more than
        # most budgets have, of which a single failed call would take all.
        most = (model.profile or {}).get("max_output_tokens")
        own = {name: value for name, value in own.items() if name == "n" or value != most}
    further = [getattr(model, name, None) for name in ("model_kwargs", "extra_body")] + [_pipeline(model)]
    return limits_of([own, *(each for each in further if isinstance(each, Mapping))], type(model).__name__)


def _pipeline(model: BaseChatModel) -> Mapping[str, Any] | None:
    """The options of the transformers pipeline in this process that a `ChatHuggingFace` asks; None for other models."""
    llm = getattr(model, "llm", None)
    return getattr(llm, "pipeline_kwargs", None) or {} if hasattr(llm, "pipeline_kwargs") else None


def _unlimited(extra: Any) -> Mapping[str, Any] | None:
    if not isinstance(extra, Mapping) or limits_of([extra], "extra_body") == NOTHING:
        return None
    return unlimited(extra)


def _server(model: BaseChatModel) -> str:
    client = getattr(model, "root_client", None)
    named = (getattr(model, name, None) for name in _ADDRESSES)
    return str(getattr(client, "base_url", None) or next((url for url in named if url), ""))


def _sync_client_only(model: BaseChatModel) -> bool:
    """Whether the user gave an HTTP client of their own for sync calls and none for async ones."""
    given = getattr(model, "http_client", None), getattr(model, "http_async_client", None)
    return given[0] is not None and given[1] is None
