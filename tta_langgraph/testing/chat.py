"""A LangChain chat model that speaks to the scripted server over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tta_langgraph.errors import ModelError
from tta_langgraph.testing.server import ScriptedServer
from tta_langgraph.testing.tokens import count_prompt_tokens, tokenize

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_openai import ChatOpenAI


def scripted_chat_model(server: ScriptedServer, *, counts: bool = True, **options: Any) -> ChatOpenAI:
    """Returns a `ChatOpenAI` on the scripted server.

    Args:
        server: a running server.
        counts: whether the model counts tokens exactly as the server bills them, through `get_num_tokens`,
            `get_num_tokens_from_messages` and `count_prompt_tokens`; else it is a plain `ChatOpenAI`.
        options: any argument of `ChatOpenAI`; `max_retries` is 0 unless given, so that retries are the test's
            choice.

    Raises:
        ModelError: `langchain-openai` is not installed, or the server does not run.

    Example:
        >>> with ScriptedServer(["four"]) as server:
        ...     scripted_chat_model(server).invoke("2 + 2?").content
        'four'
    """
    try:
        from langchain_core.messages import convert_to_openai_messages
        from langchain_core.utils.function_calling import convert_to_openai_tool
        from langchain_openai import ChatOpenAI
        from openai import DefaultAsyncHttpxClient
    except ImportError as error:
        raise ModelError(
            "langchain-openai is not installed",
            where="scripted_chat_model",
            remedy="pip install 'tta-langgraph[openai]'",
        ) from error
    if not server.port:
        raise ModelError(
            "the scripted server does not run",
            where="scripted_chat_model",
            remedy="Use it inside `with server:`",
        )

    class ScriptedChatOpenAI(ChatOpenAI):
        """`ChatOpenAI` with the scripted server's tokenizer."""

        def count_prompt_tokens(self, messages: Sequence[BaseMessage], **options: Any) -> int:
            return self.get_num_tokens_from_messages(messages, options.get("tools"))

        def get_num_tokens_from_messages(
            self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None, **_: Any
        ) -> int:
            sent = convert_to_openai_messages(list(messages))
            return count_prompt_tokens(sent, [convert_to_openai_tool(tool) for tool in tools or ()])

    class OwnClient(DefaultAsyncHttpxClient):
        """One that can be made again, so that the model serves sync calls with a deadline and async ones alike."""

        is_ours = True

    defaults: dict[str, Any] = {
        "model": server.model,
        "base_url": server.base_url,
        "api_key": "none",
        "max_retries": 0,
        # LangChain's own is shared by address, and a port that a later test gets again would revive connections that
        # belong to an event loop which has ended.
        "http_async_client": OwnClient(),
    }
    if not counts:
        return ChatOpenAI(**(defaults | options))
    defaults["custom_get_token_ids"] = lambda text: list(range(len(tokenize(text))))
    return ScriptedChatOpenAI(**(defaults | options))
