"""Tool calls of small models: enforced by a grammar where a call is required, found in the text where it is free.

The server's own parser expects the markup a model family was trained on; small coder models write the call as plain
JSON, and a required call was not enforced for them. A grammar over the tools' schemas is.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages.tool import ToolCall, tool_call


def require_call(body: dict[str, Any]) -> None:
    """Turns `tool_choice` into what the engine enforces; changes the request in place.

    `any` and `required` allow every tool, a named choice that one alone. Anything else is left as it is.
    """
    choice, tools = body.get("tool_choice"), list(body.get("tools") or ())
    named = choice.get("function", {}).get("name") if isinstance(choice, Mapping) else None
    if not tools or not (named or choice in _FORCED):
        return
    allowed = [tool["function"] for tool in tools if named in (None, tool["function"]["name"])]
    forms = [
        {
            "type": "object",
            "properties": {
                "name": {"const": function["name"]},
                "arguments": function.get("parameters") or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for function in allowed
    ]
    schema = forms[0] if len(forms) == 1 else {"anyOf": forms}
    body["response_format"] = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}
    del body["tool_choice"]


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


_FORCED: Final = ("any", "required", True)
_FENCE: Final = re.compile(r"^(?:```(?:json)?|<tool_call>)\s*(.*?)\s*(?:```|</tool_call>)$", re.DOTALL)
