"""Tool calls of small models: enforced by a grammar where a call is required, found in the text where it is free.

The server's own parser expects the markup a model family was trained on; small coder models write the call as plain
JSON, and a required call was not enforced for them. A grammar over the tools' schemas is.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages.tool import ToolCall, tool_call

from tta_langgraph.models.tool_choice import choice_of, is_forced
from tta_langgraph.models.tool_schema import forced_call


def require_call(body: dict[str, Any]) -> None:
    """Turns `tool_choice` into what the engine enforces; changes the request in place.

    A required call allows every tool, a named choice that one alone.

    Raises:
        ModelError: the choice is not understood, or names a tool that is not offered.
    """
    tools = list(body.get("tools") or ())
    choice = choice_of(body.pop("tool_choice", None), [tool["function"]["name"] for tool in tools])
    if not tools or choice is None:
        return
    if not is_forced(choice):
        body["tool_choice"] = choice
        return
    call, definitions = forced_call(tools, choice)
    schema = {**call, **({"$defs": definitions} if definitions else {})}
    body["response_format"] = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}


def calls_in_text(text: str, offered: Sequence[str]) -> list[ToolCall]:
    """The tool calls a model wrote as its whole answer, or none: prose with some JSON in it is not a call.

    Args:
        text: the answer.
        offered: names of the tools it could call.
    """
    bare = _FENCE.sub(r"\1", text.strip()).strip()
    if not bare.startswith(("{", "[")):
        return []
    try:
        found = json.loads(bare)
    except ValueError:
        return []
    calls = []
    for item in found if isinstance(found, list) else [found]:
        if not isinstance(item, dict) or item.get("name") not in offered:
            return []
        arguments = item.get("arguments", item.get("parameters"))
        if not isinstance(arguments, dict):
            return []
        calls.append(tool_call(name=item["name"], args=arguments, id=f"call_{uuid.uuid4().hex[:12]}"))
    return calls


_FENCE: Final = re.compile(r"^(?:```(?:json)?|<tool_call>)\s*(.*?)\s*(?:```|</tool_call>)$", re.DOTALL)
