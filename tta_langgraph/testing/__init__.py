"""The conformance kit: a scripted OpenAI-compatible server, a virtual clock, and budgets put to the test."""

from __future__ import annotations

from tta_langgraph.testing.chat import scripted_chat_model
from tta_langgraph.testing.clock import DeadlockError, VirtualClock
from tta_langgraph.testing.conformance import Account, Call, Enforcement, Measurement, Refused, measure
from tta_langgraph.testing.log import LoggedRequest, RequestStatus
from tta_langgraph.testing.replies import Reply, Script, ScriptError, ToolCall
from tta_langgraph.testing.scenarios import Scenario, all_scenarios
from tta_langgraph.testing.server import ScriptedServer
from tta_langgraph.testing.tokens import count_prompt_tokens, count_tokens, tokenize

__all__ = [
    "Account",
    "Call",
    "DeadlockError",
    "Enforcement",
    "LoggedRequest",
    "Measurement",
    "Refused",
    "Reply",
    "RequestStatus",
    "Scenario",
    "Script",
    "ScriptError",
    "ScriptedServer",
    "ToolCall",
    "VirtualClock",
    "all_scenarios",
    "count_prompt_tokens",
    "count_tokens",
    "measure",
    "scripted_chat_model",
    "tokenize",
]
