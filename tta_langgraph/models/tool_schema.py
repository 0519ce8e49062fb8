"""JSON schemas of tools and of the calls that an engine is forced to make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

__all__ = ["forced_call", "openai_tool"]


def openai_tool(tool: Any) -> dict[str, Any]:
    """A tool in the OpenAI form; LangChain's conversion, which loses what refers to itself, with that put back."""
    converted = convert_to_openai_tool(tool)
    if isinstance(tool, type) and issubclass(tool, BaseModel):
        schema = tool.model_json_schema()
        definitions = schema.get("$defs", {})
        if any(name in _reached(one, definitions) for name, one in definitions.items()):
            converted["function"]["parameters"] = schema
    return converted


def forced_call(tools: Sequence[Mapping[str, Any]], choice: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of one call, and the definitions that belong at the root of the schema it is put into.

    Args:
        tools: definitions in the OpenAI form.
        choice: `required` for any tool, or the name of one.
    """
    functions = [tool["function"] for tool in tools if choice in ("required", tool["function"]["name"])]
    definitions: dict[str, Any] = {}
    calls = []
    for function in functions:
        calls.append(
            {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "enum": [function["name"]]},
                    "arguments": _arguments(function, definitions),
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return (calls[0] if len(calls) == 1 else {"anyOf": calls}), definitions


def _arguments(function: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A tool's parameters, with what they define moved to the root, where their references look for it.

    Definitions get the tool's name in front: two tools may mean different things by one name.
    """
    prefix = f"{function['name']}."
    parameters = _moved(function.get("parameters") or {}, prefix)
    for place in _DEFINED:
        definitions |= {prefix + name: one for name, one in parameters.pop(place, {}).items()}
    if "$ref" in parameters:
        return dict(parameters)
    # A schema that lists no property allows any, and a small model then never stops inventing them.
    return {"type": "object", "additionalProperties": False, **parameters}


def _moved(schema: Any, prefix: str) -> Any:
    if isinstance(schema, Mapping):
        return {key: _pointer(one, prefix) if key == "$ref" else _moved(one, prefix) for key, one in schema.items()}
    return [_moved(one, prefix) for one in schema] if isinstance(schema, list) else schema


def _pointer(reference: Any, prefix: str) -> Any:
    for place in _DEFINED:
        if isinstance(reference, str) and reference.startswith(f"#/{place}/"):
            return f"#/$defs/{prefix}{reference.removeprefix(f'#/{place}/')}"
    return _moved(reference, prefix)


def _reached(schema: Any, definitions: Mapping[str, Any]) -> set[str]:
    """Names of the definitions a schema leads to."""
    reached: set[str] = set()
    waiting = list(_references(schema))
    while waiting:
        if (name := waiting.pop()) in definitions and name not in reached:
            reached.add(name)
            waiting += _references(definitions[name])
    return reached


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix("#/$defs/")
        schema = list(schema.values())
    if isinstance(schema, list):
        for one in schema:
            yield from _references(one)


_DEFINED = ("$defs", "definitions")
