"""Tool calls: what the model is told, what constrains it, and how its text is read back."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import InvalidToolCall, ToolCall
from langchain_core.messages.tool import invalid_tool_call, tool_call

from tta_langgraph.errors import ModelError
from tta_langgraph.models.tool_choice import choice_of
from tta_langgraph.models.tool_schema import forced_call, takes_nothing

__all__ = ["ParsedText", "forced_schema", "hermes_instructions", "parse_forced", "parse_text", "safe_prefix"]

Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ParsedText:
    """A model's text taken apart."""

    content: str
    """What is not a tool call."""
    calls: list[ToolCall] = field(default_factory=list)
    """Calls that parse."""
    invalid: list[InvalidToolCall] = field(default_factory=list)
    """Calls that do not, with the reason."""


def forced_schema(tools: Tools, choice: str, *, parallel: bool) -> dict[str, Any]:
    """JSON schema of a list of calls, for guided decoding.

    Where no tool takes arguments, the list has as many calls as there are tools, at most: more could only repeat them,
    which small models do until they are cut.

    Args:
        tools: definitions in the OpenAI form.
        choice: `required` for any tool, or the name of one.
        parallel: whether more than one call may be made.

    Raises:
        ModelError: `choice` names no tool.
    """
    choice_of(choice, [tool["function"]["name"] for tool in tools])
    call, definitions = forced_call(tools, choice)
    schema = {"type": "array", "minItems": 1, "items": call, **({"$defs": definitions} if definitions else {})}
    if not parallel or choice != "required":
        return {**schema, "maxItems": 1}
    return {**schema, "maxItems": len(tools)} if all(takes_nothing(tool["function"]) for tool in tools) else schema


def parse_forced(text: str) -> ParsedText:
    """Reads text made under `forced_schema`; where the token limit cut the list, the whole calls before it count."""
    calls: list[ToolCall] = []
    rest = text.strip().removeprefix("[").lstrip()
    while rest and rest != "]":
        try:
            item, end = json.JSONDecoder().raw_decode(rest)
            calls.append(_call(item))
        except (ValueError, KeyError, TypeError) as error:
            return ParsedText(content="", calls=calls, invalid=[_invalid(rest, error)])
        rest = rest[end:].lstrip().removeprefix(",").lstrip()
    return ParsedText(content="", calls=calls)


def parse_text(text: str, *, parser: str, tokenizer: Any = None) -> ParsedText:
    """Reads tool calls the model chose to make.

    Args:
        text: the model's text.
        parser: `hermes` (Qwen, Hermes, and ours for models without a form of their own), or the name of any
            other of vLLM's tool parsers.
        tokenizer: needed by vLLM's parsers.

    Raises:
        ModelError: vLLM knows no such parser.
    """
    if parser == "hermes":
        return _parse_hermes(text)
    return _parse_with_vllm(text, parser, tokenizer)


def safe_prefix(text: str, *, parser: str) -> int:
    """How many characters of a growing text can be shown before it is known whether a tool call follows."""
    if parser != "hermes":
        return 0
    start = text.find(_OPEN)
    if start >= 0:
        return start
    held = next((size for size in range(len(_OPEN) - 1, 0, -1) if text.endswith(_OPEN[:size])), 0)
    return len(text) - held


def hermes_instructions(tools: Tools) -> str:
    """What a model whose chat template ignores tools is told about them, in the form `hermes` reads."""
    return _INSTRUCTIONS.format(tools="\n".join(json.dumps(dict(tool)) for tool in tools))


def _parse_hermes(text: str) -> ParsedText:
    calls: list[ToolCall] = []
    invalid: list[InvalidToolCall] = []
    for match in _CALL.finditer(text):
        body = match.group(1)
        try:
            calls.append(_call(json.loads(body)))
        except (ValueError, KeyError, TypeError) as error:
            invalid.append(_invalid(body, error))
    return ParsedText(content=_CALL.sub("", text).strip() if calls or invalid else text, calls=calls, invalid=invalid)


def _parse_with_vllm(text: str, parser: str, tokenizer: Any) -> ParsedText:
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.tool_parsers import ToolParserManager

    try:
        reader = ToolParserManager.get_tool_parser(parser)(tokenizer)
    except KeyError as error:
        raise ModelError(f"vLLM has no tool parser {parser!r}", where="tool_parser") from error
    found = reader.extract_tool_calls(text, ChatCompletionRequest(messages=[]))
    calls, invalid = [], []
    for item in found.tool_calls:
        try:
            calls.append(_call({"name": item.function.name, "arguments": json.loads(item.function.arguments)}))
        except (ValueError, TypeError) as error:
            invalid.append(_invalid(str(item.function.arguments), error))
    return ParsedText(content=found.content or "", calls=calls, invalid=invalid)


def _call(item: Mapping[str, Any]) -> ToolCall:
    arguments = item["arguments"]
    if not isinstance(arguments, dict):
        raise TypeError("arguments must be an object")
    return tool_call(name=str(item["name"]), args=arguments, id=_call_id())


def _invalid(body: str, error: Exception) -> InvalidToolCall:
    return invalid_tool_call(name=None, args=body, id=_call_id(), error=f"{type(error).__name__}: {error}")


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"


_OPEN = "<tool_call>"
_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|$)", re.DOTALL)
_INSTRUCTIONS = """\
You may call functions. Their signatures, one JSON object per line:
<tools>
{tools}
</tools>
To call one, answer with a JSON object inside tool_call tags, and nothing else:
<tool_call>
{{"name": "the function", "arguments": {{"argument": "value"}}}}
</tool_call>"""
