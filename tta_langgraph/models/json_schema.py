"""JSON schemas of the things users describe a shape with: classes, functions, tools, and schemas themselves.

LangChain's conversions write out what is referred to, which cannot be done for what refers to itself: a pydantic tree
loses its branches, a `TypedDict` one ends in a RecursionError, a schema that begins with a reference loses everything.
An engine would then enforce less than was asked for, in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from langchain_core.tools import BaseTool, create_schema_from_function
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import is_typeddict

from tta_langgraph.errors import ModelError

__all__ = ["DEFINED", "json_schema_of", "openai_tool"]

DEFINED = ("$defs", "definitions")
"""Where a schema keeps what it refers to: the current name and that of pydantic's first version."""


def openai_tool(tool: Any) -> dict[str, Any]:
    """A tool in the OpenAI form; LangChain's conversion, with whatever that loses put back.

    Raises:
        ModelError: it is nothing a schema can be had of.
    """
    if isinstance(tool, Mapping) and (name := tool.get("title") or tool.get("name")) and not _is_tool(tool):
        parameters = {key: value for key, value in tool.items() if key not in ("title", "name", "description")}
        return _tool(str(name), tool.get("description"), parameters)
    try:
        converted = convert_to_openai_tool(tool)
    except RecursionError:
        converted = _tool(tool.__name__, tool.__doc__, {})
    except (ValueError, TypeError) as error:
        raise _unreadable(tool, error) from error
    if "function" not in converted:
        raise ModelError(
            f"{tool!r:.80} is a tool that only its provider can run",
            where="tools",
            remedy="Offer functions, tools of LangChain, pydantic classes, or OpenAI's tool descriptions",
        )
    if (full := _with_references(tool)) is not None:
        converted["function"]["parameters"] = full
    return converted


def json_schema_of(shape: Any) -> dict[str, Any]:
    """The JSON schema of a shape: of a class, of a tool's arguments; a JSON schema is returned as it is.

    Args:
        shape: a pydantic class (of version 1 or 2), a `TypedDict`, a function, a tool, or a JSON schema.

    Raises:
        ModelError: it is nothing a schema can be had of.
    """
    if isinstance(shape, Mapping) and not _is_tool(shape):
        return dict(shape)
    function = openai_tool(shape)["function"]
    described = {"title": function["name"], "description": function.get("description")}
    return {**{key: text for key, text in described.items() if text}, **function.get("parameters", {})}


def _tool(name: str, description: str | None, parameters: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": name, **({"description": description} if description else {})}
    return {"type": "function", "function": {**function, **({"parameters": dict(parameters)} if parameters else {})}}


def _is_tool(shape: Mapping[str, Any]) -> bool:
    """Whether a dictionary describes a tool, in the form of any provider, and is no JSON schema."""
    return "function" in shape or "toolSpec" in shape or ("name" in shape and not {"properties", "$ref"} & shape.keys())


def _with_references(tool: Any) -> dict[str, Any] | None:
    """The schema with its references kept, where it refers to itself; None where it may be written out."""
    try:
        schema = _raw_schema(tool)
    except PydanticUserError as error:
        raise _unreadable(tool, error) from error
    definitions = {name: one for place in DEFINED for name, one in schema.get(place, {}).items()}
    refers_to_itself = any(name in _reached(one, definitions) for name, one in definitions.items())
    return schema if refers_to_itself else None


def _raw_schema(tool: Any) -> dict[str, Any]:
    if isinstance(tool, BaseTool):
        tool = tool.tool_call_schema
    elif isinstance(tool, Callable) and not isinstance(tool, type):  # type: ignore[arg-type]
        tool = create_schema_from_function(
            tool.__name__, tool, parse_docstring=True, error_on_invalid_docstring=False, include_injected=False
        )
    if is_typeddict(tool):
        return TypeAdapter(tool).json_schema()
    if isinstance(tool, type) and issubclass(tool, BaseModel):
        return tool.model_json_schema()
    if isinstance(tool, type) and issubclass(tool, BaseModelV1):
        return dict(tool.schema())
    return {}


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
            yield schema["$ref"].rpartition("/")[2]
        schema = list(schema.values())
    if isinstance(schema, list):
        for one in schema:
            yield from _references(one)


def _unreadable(shape: Any, error: Exception) -> ModelError:
    said = (str(error) or repr(error)).splitlines()[0]
    return ModelError(
        f"no tool or JSON schema can be made of {shape!r:.80} ({said})",
        where="schema",
        remedy="Give a function, a pydantic class, a TypedDict (typing_extensions' before Python 3.12), or a JSON "
        "schema with a `title`",
    )
