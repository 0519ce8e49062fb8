"""The conformance kit: a scripted OpenAI-compatible server, a virtual clock, and budgets put to the test."""

from __future__ import annotations

from tta_langgraph.testing.chat import scripted_chat_model
from tta_langgraph.testing.clock import DeadlockError, VirtualClock
from tta_langgraph.testing.log import LoggedRequest, RequestStatus
from tta_langgraph.testing.replies import Reply, Script, ScriptError, ToolCall
from tta_langgraph.testing.server import ScriptedServer
from tta_langgraph.testing.tokens import count_prompt_tokens, count_tokens, tokenize

__all__ = [
    "DeadlockError",
    "LoggedRequest",
    "Reply",
    "RequestStatus",
    "Script",
    "ScriptError",
    "ScriptedServer",
    "ToolCall",
    "VirtualClock",
    "count_prompt_tokens",
    "count_tokens",
    "scripted_chat_model",
    "tokenize",
]
