"""JSON schemas of the calls that an engine is forced to make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tta_langgraph.models.json_schema import DEFINED

__all__ = ["forced_call", "takes_nothing"]


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


def takes_nothing(function: Mapping[str, Any]) -> bool:
    """Whether a function has no arguments, so that all its calls are alike."""
    parameters = function.get("parameters") or {}
    said = {key for key, value in parameters.items() if value not in (None, False, {}, [])}
    return said <= _OF_NO_ARGUMENT and parameters.get("type", "object") == "object"


def _arguments(function: Mapping[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A tool's parameters, with what they define moved to the root, where their references look for it.

    Definitions get the tool's name in front: two tools may mean different things by one name.
    """
    prefix = f"{function['name']}."
    parameters = _moved(function.get("parameters") or {}, prefix)
    for place in DEFINED:
        definitions |= {prefix + name: one for name, one in parameters.pop(place, {}).items()}
    if "$ref" in parameters:
        return dict(parameters)
    if takes_nothing(function):
        # Not an object without properties: between its braces any white space is allowed, and a small model that has
        # begun it with a line break writes nothing else until it is cut.
        return {"const": {}}
    # A schema that lists no property allows any, and a small model then never stops inventing them.
    return {"type": "object", "additionalProperties": False, **parameters}


def _moved(schema: Any, prefix: str) -> Any:
    if isinstance(schema, Mapping):
        return {key: _pointer(one, prefix) if key == "$ref" else _moved(one, prefix) for key, one in schema.items()}
    return [_moved(one, prefix) for one in schema] if isinstance(schema, list) else schema


def _pointer(reference: Any, prefix: str) -> Any:
    for place in DEFINED:
        if isinstance(reference, str) and reference.startswith(f"#/{place}/"):
            return f"#/$defs/{prefix}{reference.removeprefix(f'#/{place}/')}"
    return _moved(reference, prefix)


_OF_NO_ARGUMENT: Final = frozenset({"type", "title", "description", "$schema"})
"""What the schema of an object without properties may say."""
