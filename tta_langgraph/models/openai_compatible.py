"""A vLLM server, or any other that speaks the same protocol, as a chat model whose spending can be counted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx

from tta_langgraph.errors import ModelError

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI


def chat_openai_server(
    base_url: str,
    model: str | None = None,
    *,
    api_key: str | None = None,
    timeout: float = 60.0,
    connect_timeout: float = 5.0,
    check: bool = True,
    extra_body: Mapping[str, Any] | None = None,
    **options: Any,
) -> ChatOpenAI:
    """A `ChatOpenAI` for a server of your own, set up so that a budget can trust it.

    Usage is reported in streams as well, the client does not retry behind the budget's back, and a request that is
    cancelled or times out closes its connection, at which vLLM aborts it. The model can be copied deeply and pickled,
    its API key included; a copy opens connections of its own.

    Args:
        base_url: the server's address, with or without `/v1`.
        model: the served name; None takes the only one there is.
        api_key: what the server asks for; None takes `OPENAI_API_KEY`, or a placeholder where that is unset.
        timeout: seconds for one call.
        connect_timeout: seconds to wait for a connection.
        check: ask the server now whether it is there and knows the model. False is for servers that start later;
            then `model` is needed.
        extra_body: more fields of the request, e.g. `{"top_k": 20, "chat_template_kwargs": {…}}` for vLLM.
        **options: other fields of `ChatOpenAI`, such as `temperature`, `n` or `max_tokens`.

    Raises:
        ModelError: langchain-openai is missing, the server cannot be reached, it is no model server (a web page, a
            wrong path, a missing key), it does not serve this model, or an option is refused.

    Example:
        >>> model = chat_openai_server("http://localhost:8000", "my-model", check=False)  # doctest: +SKIP
    """
    try:
        from tta_langgraph.models.server_model import ServerChatModel
    except ImportError as error:
        raise ModelError(
            "a model server needs the package langchain-openai",
            remedy="Install the extra: pip install 'tta-langgraph[openai]'",
        ) from error
    for name, seconds in (("timeout", timeout), ("connect_timeout", connect_timeout)):
        if not isinstance(seconds, int | float) or not seconds > 0:
            raise ModelError(f"{name} is {seconds!r}", where="chat_openai_server", remedy="Give seconds above 0")
    address = normalised(base_url)
    key = api_key or os.environ.get("OPENAI_API_KEY") or _NO_KEY
    if check:
        model = _served_model(address, model, key, connect_timeout)
    elif model is None:
        raise ModelError("check=False needs the name of the model", where="chat_openai_server")
    try:
        return ServerChatModel(
            base_url=address,
            model=model,
            api_key=key,
            timeout=httpx.Timeout(timeout, connect=connect_timeout),
            **{
                "max_retries": 0,
                "stream_usage": True,
                "extra_body": dict(extra_body) if extra_body else None,
                "use_responses_api": False,
                **options,
            },
        )
    except (TypeError, ValueError) as error:  # pydantic's errors are ValueErrors
        raise ModelError(
            f"ChatOpenAI refused an option: {' '.join(str(error).split()):.300}",
            where="chat_openai_server",
            remedy="Correct the option it names; extra_body is a mapping",
        ) from error


def served_models(base_url: str, *, api_key: str | None = None, timeout: float = 5.0) -> list[dict[str, Any]]:
    """What a server offers: one entry per model with `id` and, for vLLM, `max_model_len` (tokens).

    Args:
        base_url: the server's address, with or without `/v1`.
        api_key: what the server asks for, or None.
        timeout: seconds to wait.

    Raises:
        ModelError: it cannot be reached, or answers with something else.
    """
    address = normalised(base_url)
    url, shown = f"{address}/models", without_password(f"{address}/models")
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        with httpx.Client(timeout=timeout, trust_env=not on_this_machine(address), follow_redirects=True) as client:
            reply = client.get(url, headers=headers)
    except httpx.TimeoutException as error:
        raise ModelError(
            f"the model server did not answer within {timeout:g} s",
            where=shown,
            remedy="Check the address, or give it more time: a large model takes minutes to load",
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ModelError(
            f"the model server cannot be reached: {error}",
            where=shown,
            remedy="Check the address and that the server runs (`tta serve MODEL` starts one)",
        ) from error
    return _listed(reply, shown)


def normalised(base_url: str) -> str:
    """The address with the path `/v1` and without what people paste along, e.g. `/chat/completions`.

    Raises:
        ModelError: this is no address.
    """
    try:
        parts = urlsplit(base_url if "://" in base_url else f"http://{base_url}")
        _ = parts.port  # looked at here, where the error can still name the address
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{base_url!r} is not the address of a model server ({error})", remedy="Write it as http://host:8000/v1"
        ) from error
    if parts.scheme not in ("http", "https") or not (parts.hostname or "").strip() or " " in parts.netloc:
        raise ModelError(f"{base_url!r} is not the address of a model server", remedy="Write it as http://host:8000/v1")
    path = parts.path.rstrip("/")
    for tail in _PASTED:
        path = path.removesuffix(tail)
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def on_this_machine(url: str) -> bool:
    """Whether a server is reached without a network, so that no proxy of the environment may come between."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def _served_model(address: str, model: str | None, key: str, timeout: float) -> str:
    offered = [str(entry["id"]) for entry in served_models(address, api_key=key, timeout=timeout)]
    if model in offered:
        return str(model)
    names = ", ".join(repr(name) for name in offered) or "none"
    shown = without_password(address)
    if model is not None:
        raise ModelError(f"the server does not serve {model!r}", where=shown, remedy=f"It serves: {names}")
    if len(offered) != 1:
        raise ModelError(
            f"the server offers {len(offered)} models, so one must be named",
            where=shown,
            remedy=f"It serves: {names}",
        )
    return offered[0]


def without_password(url: str) -> str:
    """The address as errors show it: logs are read by others."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _listed(reply: httpx.Response, url: str) -> list[dict[str, Any]]:
    if reply.status_code in (401, 403):
        raise ModelError(
            f"the model server refused the key (HTTP {reply.status_code})", where=url, remedy="Pass api_key="
        )
    try:
        reply.raise_for_status()
        entries = reply.json()["data"]
        return [{**entry, "id": str(entry["id"])} for entry in entries]
    except httpx.HTTPStatusError as error:
        raise ModelError(
            f"the model server answered HTTP {reply.status_code}",
            where=url,
            remedy="Check the path (OpenAI-compatible servers answer below /v1), or wait until it has started",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        kind = reply.headers.get("content-type", "nothing")
        raise ModelError(
            f"this is not a model server: it answered with {kind}",
            where=url,
            remedy="Check host, port and path; a proxy or a login page may answer in its place",
        ) from error


_NO_KEY: Final = "EMPTY"
_PASTED: Final = ("/chat/completions", "/completions", "/models")
